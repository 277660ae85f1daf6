"""The words and values that the command line expects at the cursor, from the table of `ui/commands.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p2pshare.ui.commands import DIALOG, Argument


@dataclass(frozen=True, slots=True)
class Expected:
    """The words that may stand at the cursor."""

    words: tuple[str, ...] | None
    """All of them, if they are known: verbs, flags or choices."""
    value: str = ""
    """Else the `metavar` of the argument, which tells its kind."""
    may_be_local: bool = False
    """Whether a remote path may also be a local folder or file, as DEST is."""


def expected_at(words: Sequence[str], last: str) -> tuple[Expected, Mapping[str, str]]:
    """Return what is expected in the place of `last`, after `words`, which follow the name of the program.

    The second result has the values of the flags in `words`, by their settings.
    """
    command, positionals, flags_ended = DIALOG, 0, False
    values: dict[str, str] = {}
    awaiting: Argument | None = None
    for word in words:
        if awaiting is not None:
            values[awaiting.dest] = word
            awaiting = None
        elif word == "--" and not flags_ended:
            flags_ended = True
        elif word.startswith("-") and word != "-" and not flags_ended:
            flag, equals, value = word.partition("=")
            argument = command.flags.get(flag)
            if argument is not None and argument.metavar is not None:
                if equals:
                    values[argument.dest] = value
                else:
                    awaiting = argument
        elif word in command.below:
            command, positionals = command.below[word], 0
        else:
            positionals += 1
    arguments = command.positionals
    if awaiting is not None:
        is_own_name = awaiting.dest == "name"  # which nobody else can tell
        expected = Expected((), "") if is_own_name else Expected(None, awaiting.metavar or "")
    elif last.startswith("-") and not flags_ended:
        flags = [flag for flag in command.flags if flag.startswith("--")]
        expected = Expected(("--help", "--version", *flags))
    elif command.below:
        expected = Expected(() if positionals else tuple(command.below))
    elif positionals < len(arguments):
        argument = arguments[positionals]
        expected = Expected(argument.choices, argument.metavar or "")
    elif arguments and arguments[-1].repeated:
        expected = Expected(None, arguments[-1].metavar or "", may_be_local=True)
    else:
        expected = Expected(())
    return expected, values
