"""The words of the command line."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from typing import Any, NoReturn

from p2pshare import __version__
from p2pshare.errors import WrongUsage

HELP_WIDTH = 79  # columns at most

_DESCRIPTION = """\
Share files with named people, straight from one machine to another.

Without a verb it asks for your name, whom to get a file from, and which one;
meanwhile it shares the my_file.txt and my_file.jpg of the current folder."""

_EXAMPLES = """\
examples:
  p2pshare --name carol                        the dialog, as carol
  p2pshare users                               who is there
  p2pshare get alice:my_file.txt               alice's text, as alice.txt
  p2pshare get alice:my_file.jpg ~/Pictures    alice's picture, into a folder
  p2pshare demo                                all of it, on this machine

Settings come from flags, then P2PSHARE_... variables, then config.toml. Exit
codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 not found, 5 unreachable."""

_GET_EXAMPLES = """\
examples:
  p2pshare get alice:my_file.txt               saved as alice.txt
  p2pshare get alice:my_file.jpg holiday.png   saved as holiday.png
  p2pshare get alice:my_file.txt bob:my_file.jpg Downloads

PEER is a name that `p2pshare users` shows. A picture is saved with exactly the
pixels that were sent: as PNG, or as .webp, .bmp, .tiff or .ppm if DEST says so."""

DIALOG_ONLY = ("share", "listen", "address")
"""Flags that a verb does not take."""


class _Parser(argparse.ArgumentParser):
    """Complains in one sentence, as everything else does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_formatter, **options)

    def error(self, message: str) -> NoReturn:
        raise WrongUsage(reason=f"{message}. Type `{self.prog} --help` to see what can be said.")


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; `--help` and `--version` print and end the process.

    Raises:
        WrongUsage: it cannot be understood.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(words)
    if arguments.verb == "get" and not any(word.startswith("-") for word in rest):
        arguments.words += rest  # what stands behind a flag that stands behind other words
    elif rest:
        parser.error(f"{' '.join(rest)!r} means nothing here")
    given = [flag for flag in DIALOG_ONLY if getattr(arguments, flag)]
    if arguments.verb and given:
        raise WrongUsage(reason=f"--{given[0]} is for the dialog: p2pshare without a verb.")
    if not arguments.verb and (arguments.json or arguments.quiet):
        raise WrongUsage(
            reason="The dialog is for people: --json and --quiet need a verb, such as `p2pshare users`."
        )
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="p2pshare",
        usage="p2pshare [options] [VERB ...]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"p2pshare {__version__}")
    _add_common(parser, default=None)
    dialog = parser.add_argument_group("only without a verb")
    dialog.add_argument(
        "--share",
        action="append",
        metavar="PATH",
        help="share the my_file.* in this folder, or this file; may be repeated",
    )
    dialog.add_argument("--listen", metavar="PORT", help="UDP port for requests (default: any)")
    dialog.add_argument("--address", metavar="IP", help="IPv4 address to be reached at")
    verbs = parser.add_subparsers(dest="verb", title="verbs", metavar="VERB", prog="p2pshare")
    _add_verb(verbs, "users", "list who is there")
    get = _add_verb(
        verbs,
        "get",
        "get texts and pictures from others",
        usage="p2pshare get [options] PEER:FILE ... [DEST]",
        epilog=_GET_EXAMPLES,
    )
    get.add_argument(
        "words",
        nargs="+",
        metavar="PEER:FILE",
        help="alice:my_file.txt for alice's text, alice:my_file.jpg for her picture;"
        " the last may be DEST, a folder or a file name (default: the current folder)",
    )
    get.add_argument("--force", action="store_true", help="replace a file of that name")
    get.add_argument(
        "--classic", action="store_true", help="speak the classic protocol, the only one so far"
    )
    _add_verb(verbs, "demo", "try all of it on this machine: a registry and two peers")
    return parser


def _add_verb(verbs: Any, name: str, text: str, **options: Any) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}."
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=description, **options
    )
    # What is not said after the verb must not undo what was said before it.
    _add_common(verb, default=argparse.SUPPRESS)
    return verb


def _add_common(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--registry", metavar="URL", default=default, help="where the names are kept"
    )
    parser.add_argument("--name", metavar="NAME", default=default, help="your own name")
    parser.add_argument("--data", metavar="DIR", default=default, help="your data folder")
    flag = False if default is None else default
    parser.add_argument(
        "--json", action="store_true", default=flag, help="write one JSON object a line"
    )
    parser.add_argument(
        "--quiet", action="store_true", default=flag, help="write nothing but results and errors"
    )
    parser.add_argument(
        "--debug", metavar="FILE", default=default, help="append a log, with tracebacks, to FILE"
    )


def _formatter(prog: str) -> argparse.HelpFormatter:
    width = min(HELP_WIDTH, shutil.get_terminal_size().columns - 1)
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=22, width=width)
