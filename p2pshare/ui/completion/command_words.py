"""What the command line expects at a place, as its parser tells."""

from __future__ import annotations

import argparse
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from p2pshare.ui.arguments import command_parser


class Kind(enum.Enum):
    """What is expected."""

    NOTHING = enum.auto()
    WORD = enum.auto()
    """One of some words."""
    KNOWN = enum.auto()
    """The name of a peer whose key is known."""
    REGISTRY = enum.auto()
    """The URL of a registry whose key is known."""
    REMOTE = enum.auto()
    """A peer's file: `PEER:PATH`."""
    FILE = enum.auto()
    """A file or folder of this machine."""
    FOLDER = enum.auto()
    """A folder of this machine."""


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
    """What is expected at the end of a line."""

    kind: Kind
    words: tuple[str, ...] = ()
    """For `Kind.WORD`."""
    may_be_local: bool = False
    """For `Kind.REMOTE`: a folder or file of this machine is possible, too."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """The values of flags that stand before, by the names of the flags."""


def expected_at(words: Sequence[str], last: str) -> Expected:
    """What is expected in the place of the word `last`, behind `words`, which follow the program's name."""
    reading = _Reading(command_parser())
    for word in words:
        reading.take(word)
    return reading.expected(last)


class _Reading:
    """Takes words as far as the parser knows them."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        self._values: dict[str, str] = {}
        self._positionals = 0
        self._awaiting: argparse.Action | None = None
        self._is_behind_flags = False

    def take(self, word: str) -> None:
        """One more word."""
        if self._awaiting is not None:
            self._values[self._awaiting.dest] = word
            self._awaiting = None
        elif word == "--" and not self._is_behind_flags:
            self._is_behind_flags = True
        elif word.startswith("-") and word != "-" and not self._is_behind_flags:
            flag, equals, value = word.partition("=")
            action = self._parser._option_string_actions.get(flag)
            if action is not None and action.nargs is None:
                if equals:
                    self._values[action.dest] = value
                else:
                    self._awaiting = action
        elif word in (below := self._below()):
            self._parser = below[word]
            self._positionals = 0
        else:
            self._positionals += 1

    def expected(self, last: str) -> Expected:
        """What may follow."""
        if self._awaiting is not None:
            return self._of_action(self._awaiting)
        if last.startswith("-") and not self._is_behind_flags:
            return Expected(Kind.WORD, self._flags())
        below = self._below()
        if below:
            return Expected(Kind.WORD, tuple(below) if not self._positionals else ())
        actions = [each for each in self._parser._actions if not each.option_strings]
        if not actions:
            return Expected(Kind.NOTHING)
        if self._positionals < len(actions):
            return self._of_action(actions[self._positionals])
        return (
            self._of_action(actions[-1])
            if actions[-1].nargs in ("+", "*")
            else Expected(Kind.NOTHING)
        )

    def _of_action(self, action: argparse.Action) -> Expected:
        if action.choices is not None:
            return Expected(Kind.WORD, tuple(map(str, action.choices)))
        if action.option_strings and action.dest == "name":
            return Expected(Kind.NOTHING)  # it is the user's own
        kind = _BY_METAVAR.get(str(action.metavar), Kind.NOTHING)
        return Expected(kind, (), self._positionals > 0, dict(self._values))

    def _flags(self) -> tuple[str, ...]:
        return tuple(
            flag
            for flag, action in self._parser._option_string_actions.items()
            if flag.startswith("--") and action.help != argparse.SUPPRESS
        )

    def _below(self) -> dict[str, argparse.ArgumentParser]:
        for action in self._parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                return dict(action.choices)
        return {}
