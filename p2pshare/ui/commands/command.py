"""What a command of `p2pshare` is: its name, its arguments and its help."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

TIME_MAX = 366 * 86400  # seconds of a time that a user names

_UNITS = {"d": 86400, "h": 3600, "m": 60}  # seconds

Work = int | Coroutine[Any, Any, int]
"""The exit code of a verb that is done, or the coroutine of a verb that needs the reactor."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A flag or a positional argument."""

    flags: tuple[str, ...]
    """Such as `-R` and `--recursive`; empty for a positional argument."""
    dest: str
    """The attribute that has the value: a setting, or a parameter of the function that runs the verb."""
    metavar: str | None
    """The value in the help, by which completion knows its kind; None for a flag without a value."""
    help: str
    choices: tuple[str, ...] | None = None
    repeated: bool = False
    default: object = None
    parse: Callable[[str], object] | None = None
    """Reads the value, or raises ValueError with the reason."""
    optional: bool = False
    """Whether a positional argument may be absent."""


def flag(names: str, metavar: str | None, text: str, dest: str = "", **options: Any) -> Argument:
    """Return a flag with one or two names, and with a value if there is a `metavar`."""
    flags = tuple(names.split())
    options.setdefault("default", None if metavar else False)
    return Argument(flags, dest or flags[-1][2:].replace("-", "_"), metavar, text, **options)


def positional(dest: str, metavar: str, text: str, **options: Any) -> Argument:
    """Return a positional argument."""
    return Argument((), dest, metavar, text, **options)


COMMON = (
    flag("--registry", "URL", "URL of the registry (default: lan:, without one)"),
    flag("--name", "NAME", "your own name"),
    flag("--data", "DIR", "your data folder (default: one per registry and name)"),
    flag("--json", None, "write one JSON object per line"),
    flag("--quiet", None, "write results and errors only"),
    flag("--debug", "FILE", "append a log without secrets to FILE"),
)
"""Flags of every command."""

PRIVATE = flag("--private", None, "publish no address: others come by the relay only")
"""A flag of commands that run a peer, or start one if none runs."""


@dataclass(frozen=True, slots=True)
class Command:
    """A verb, or the dialog, which is the command without a verb."""

    name: str
    """Such as `key export`; empty for the dialog."""
    summary: str
    run: str | Callable[..., Work] | None
    """The function that runs the verb, or its name below `p2pshare.ui`, which is imported when the verb runs, as the
    services of Twisted are. `ui/main.py` fills the parameters by their names. None if another verb must follow."""
    arguments: tuple[Argument, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    """Commands, and a remark on each."""
    notes: str = ""
    """Paragraphs behind the examples."""
    usage: str = ""
    """The usage line behind the name; empty for the usual one."""

    @property
    def flags(self) -> dict[str, Argument]:
        """All flags, by each of their names."""
        return {name: each for each in (*COMMON, *self.arguments) for name in each.flags}

    @property
    def positionals(self) -> list[Argument]:
        """The positional arguments."""
        return [each for each in self.arguments if not each.flags]


def read_time(text: str) -> int:
    """Return the seconds of a time such as 7d, 12h or 30m.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,5})([dhm])", text)
    life = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < life <= TIME_MAX:
        raise ValueError(f"{text!r} is not a time such as 7d, 12h or 30m, up to 366d")
    return life
