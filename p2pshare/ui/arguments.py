"""The parser of the command line, built from the table of `ui/commands/table.py`."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NoReturn

from p2pshare import __version__
from p2pshare.errors import WrongUsage
from p2pshare.names import did_you_mean
from p2pshare.ui.commands.command import COMMON, Argument, Command
from p2pshare.ui.commands.table import COMMANDS, DIALOG, commands_below

HELP_COLUMNS_MAX = 79
HELP_COLUMN = 26  # column of the meaning of a flag, at most
REMARK_COLUMN = 46  # column of the remarks on examples

_COMPLAINTS = (
    (r"the following arguments are required: ([^,]+)", r"\1 is missing"),
    (r"argument (.+): invalid choice: (.+) \(choose from (.+)\)", r"\1 is \2, but must be one of \3"),
    (r"argument (.+): expected one argument", r"\1 has no value"),
)  # fmt: skip
_NO_VERB = re.compile(r"argument VERB: invalid choice: '(.+)' \(choose from (.+)\)", re.DOTALL)


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; `--help` and `--version` print and end the process.

    The result has the command as `command`.

    Raises:
        WrongUsage: it cannot be understood.
    """
    arguments, rest = _parser().parse_known_args(words)
    command: Command = arguments.command
    takes_words = any(each.dest == "words" for each in command.positionals)
    if takes_words and not any(word.startswith("-") and word != "-" for word in rest):
        arguments.words = [
            *arguments.words,
            *rest,
        ]  # argparse gives up on words that follow a flag that follows words
    elif rest:
        wrong = f"{' '.join(rest)!r} is not known here.{_flag_meant(command, rest[0])}"
        raise WrongUsage(reason=f"{wrong} {_see_help(command)}")
    given = [each.dest for each in DIALOG.arguments if getattr(arguments, each.dest)]
    own = [each.dest for each in command.arguments]
    for dest in given:
        if dest not in own:
            raise WrongUsage(reason=f"--{dest} is for the dialog only: `p2pshare` without a verb.")
    if command is DIALOG and (arguments.json or arguments.quiet):
        reason = "The dialog has no --json and no --quiet: use a verb, such as `p2pshare users`."
        raise WrongUsage(reason=reason)
    if command.name == "get":
        _check_get(arguments)
    return arguments


def _check_get(arguments: argparse.Namespace) -> None:
    """Check the combination of the words and flags of `get`."""
    local = [flag for flag in ("list_partial", "clean") if getattr(arguments, flag)]
    if not local and not arguments.words:
        raise WrongUsage(reason=f"PEER:PATH is missing. {_see_help(arguments.command)}")
    if len(local) > 1:
        raise WrongUsage(reason="Use either --list-partial or --clean.")
    if local and len(arguments.words) > 1:
        flag = local[0].replace("_", "-")
        reason = f"--{flag} takes one DEST, and nothing to get. {_see_help(arguments.command)}"
        raise WrongUsage(reason=reason)
    if arguments.words[1:] and arguments.words[-1] == "-":
        for dest in ("force", "update", "preview", "classic"):
            if getattr(arguments, dest):
                reason = f"Standard output takes the bytes of one file: omit --{dest}."
                raise WrongUsage(reason=reason)
    if arguments.preview and arguments.update:
        raise WrongUsage(reason="Use either --preview or --update.")
    if arguments.classic:
        for dest in (
            "limit",
            "timeout",
            "via",
            "at",
            "max_files",
            "preview",
            "wait",
            "wait_for",
            "update",
        ):
            if getattr(arguments, dest) not in (None, False):
                flag = dest.replace("_", "-")
                raise WrongUsage(reason=f"The classic protocol has no --{flag}: omit it.")


def _flag_meant(command: Command, word: str) -> str:
    """Return a question with the flag that a word resembles; empty if there is none."""
    flags = [flag for flag in command.flags if flag.startswith("--")]
    meant = did_you_mean(word.partition("=")[0], flags) if word.startswith("--") else None
    return f" Did you mean {meant}?" if meant else ""


def _see_help(command: Command) -> str:
    return f"Type `{_program(command)} --help` for help."


def _program(command: Command) -> str:
    return f"p2pshare {command.name}".rstrip()


class _Parser(argparse.ArgumentParser):
    """The parser of one command. Its errors are `WrongUsage`, and its help fits into the terminal."""

    def __init__(self, command: Command, **_: object) -> None:
        super().__init__(prog=_program(command), allow_abbrev=False, formatter_class=_formatter)
        self._command = command
        self.set_defaults(command=command)

    def error(self, message: str) -> NoReturn:
        raise WrongUsage(reason=f"{_in_our_words(message)} {_see_help(self._command)}")

    def format_help(self) -> str:
        """Lay out what the table has, as the terminal is wide now."""
        command, columns = self._command, _columns()
        wanted = " ".join(each.metavar or "" for each in command.positionals)
        usage = f"{self.prog} {command.usage or f'[options] {wanted}'}".rstrip()
        self.usage = textwrap.fill(usage, columns - len("usage: "), subsequent_indent="    ")
        self.description = _filled(f"{command.summary[0].upper()}{command.summary[1:]}.", columns)
        examples = [_example(*each, columns) for each in command.examples]
        notes = _filled(command.notes, columns)
        self.epilog = "\n".join([*(["examples:", *examples, ""] if examples else ()), notes])
        return super().format_help()


@cache
def _parser() -> _Parser:
    """Build the parser of all commands."""
    parsers: dict[str, _Parser] = {}
    below: dict[str, Any] = {}
    for command in COMMANDS:
        above, _, word = command.name.rpartition(" ")
        if command is DIALOG:
            parser = _Parser(command)
            parser.add_argument("--version", action="version", version=f"p2pshare {__version__}")
        else:
            parser = below[above].add_parser(word, help=command.summary, command=command)
        parsers[command.name] = parser
        own: Any = parser
        common: Any = parser
        if command is DIALOG:
            own = parser.add_argument_group("only without a verb")
        else:
            common = parser.add_argument_group("options of every verb")
        for group, arguments in ((own, command.arguments), (common, COMMON)):
            for argument in arguments:
                _add(group, argument, command)
        if commands_below(command):
            below[command.name] = parser.add_subparsers(
                title="verbs", metavar="VERB", prog=parser.prog, required=command.run is None
            )
    return parsers[""]


def _add(parser: Any, argument: Argument, command: Command) -> None:
    """Add one argument to a parser.

    A flag that may also stand before the verb has no default after it, which would undo the value from before.
    """
    options: dict[str, Any] = {"help": argument.help, "default": argument.default}
    if command is not DIALOG and argument in (*COMMON, *DIALOG.arguments):
        options["default"] = argparse.SUPPRESS
    if not argument.flags:
        options |= {"metavar": argument.metavar, "choices": argument.choices}
        options["nargs"] = "*" if argument.repeated else "?" if argument.optional else None
    elif argument.metavar is None:
        options["action"] = "store_true"
    else:
        options |= {"metavar": argument.metavar, "type": _reader(argument.parse)}
        options["action"] = "append" if argument.repeated else "store"
    if argument.flags:
        options["dest"] = argument.dest
    parser.add_argument(*(argument.flags or (argument.dest,)), **options)


def _reader(parse: Callable[[str], object] | None) -> Callable[[str], object]:
    def read(text: str) -> object:
        try:
            return text if parse is None else parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _in_our_words(message: str) -> str:
    """Shorten an error of argparse; an unknown one is kept."""
    if found := _NO_VERB.fullmatch(message):
        word, verbs = found.groups()
        meant = did_you_mean(word, re.findall(r"[a-z]+", verbs))
        hint = f"Did you mean {meant!r}?" if meant else f"The verbs are {verbs}."
        return f"{word!r} is not a verb. {hint}"
    for pattern, ours in _COMPLAINTS:
        if found := re.fullmatch(pattern, message, re.DOTALL):
            message = found.expand(ours)
            break
    return f"{message}."


def _columns() -> int:
    return min(HELP_COLUMNS_MAX, shutil.get_terminal_size().columns - 1)


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(
        prog, max_help_position=HELP_COLUMN, width=_columns()
    )


def _filled(text: str, columns: int) -> str:
    """Break each paragraph between words."""
    return "\n".join(textwrap.fill(paragraph, columns) for paragraph in text.split("\n"))


def _example(command: str, remark: str, columns: int) -> str:
    """Return an example with its remark behind it, or below it if the terminal is too narrow."""
    line = f"  {command}"
    if not remark:
        return line
    if len(line) < REMARK_COLUMN and REMARK_COLUMN + len(remark) <= columns:
        return f"{line:<{REMARK_COLUMN}}{remark}"
    return f"{line}\n      {remark}"
