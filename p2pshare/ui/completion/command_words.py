"""The kind of word that the command line expects at the cursor, according to the table of `ui/commands.py`."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from p2pshare.ui.commands import DIALOG, Argument


class Kind(enum.Enum):
    """A kind of words."""

    NOTHING = enum.auto()
    WORD = enum.auto()
    """One of the words that are given."""
    KNOWN = enum.auto()
    """The name of a peer whose key is known."""
    REGISTRY = enum.auto()
    """The URL of a registry whose key is known."""
    REMOTE = enum.auto()
    """`PEER:PATH`."""
    FILE = enum.auto()
    """A local file or folder."""
    FOLDER = enum.auto()
    """A local folder."""


_BY_METAVAR = {
    "NAME": Kind.KNOWN,
    "URL": Kind.REGISTRY,
    "DIR": Kind.FOLDER,
    "FILE": Kind.FILE,
    "[NAME=]PATH": Kind.FILE,
    "PEER:PATH": Kind.REMOTE,
    "PEER[:PATH]": Kind.REMOTE,
}


@dataclass(frozen=True, slots=True)
class Expected:
    """The words that may stand at the cursor."""

    kind: Kind
    words: tuple[str, ...] = ()
    """The words of `Kind.WORD`."""
    may_be_local: bool = False
    """Whether `Kind.REMOTE` may also be a local folder or file, as DEST is."""
    values: Mapping[str, str] = field(default_factory=dict)
    """The values of the flags before the cursor, by their settings."""


def expected_at(words: Sequence[str], last: str) -> Expected:
    """Return what is expected in the place of `last`, after `words`, which follow the name of the program."""
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
    if awaiting is not None:
        return _value_of(awaiting, values, False)
    if last.startswith("-") and not flags_ended:
        flags = [flag for flag in command.flags if flag.startswith("--")]
        return Expected(Kind.WORD, ("--help", "--version", *flags))
    if command.below:
        return Expected(Kind.WORD, () if positionals else tuple(command.below))
    arguments = command.positionals
    if positionals < len(arguments):
        return _value_of(arguments[positionals], values, False)
    if arguments and arguments[-1].repeated:
        return _value_of(arguments[-1], values, True)
    return Expected(Kind.NOTHING)


def _value_of(argument: Argument, values: Mapping[str, str], may_be_local: bool) -> Expected:
    if argument.choices is not None:
        return Expected(Kind.WORD, argument.choices)
    if argument.dest == "name":  # the user's own
        return Expected(Kind.NOTHING)
    return Expected(_BY_METAVAR.get(argument.metavar or "", Kind.NOTHING), (), may_be_local, values)
