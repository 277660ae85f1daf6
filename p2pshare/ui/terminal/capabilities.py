"""What a terminal can do, and how text from outside is kept from making it do more."""

from __future__ import annotations

import codecs
import enum
import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TextIO

from colorama import Style

from p2pshare.wire.display import display

if TYPE_CHECKING:  # takes its time to import, and most verbs draw nothing
    from rich.console import Console

COLUMNS = 80  # where nobody knows
LINES = 24  # where nobody knows


class Colours(enum.IntEnum):
    """How many colours a terminal has."""

    NONE = 0
    BASIC = 16
    INDEXED = 256
    TRUE = 1 << 24


_COLOUR_SYSTEMS = {
    Colours.BASIC: "standard",
    Colours.INDEXED: "256",
    Colours.TRUE: "truecolor",
}


@dataclass(frozen=True, slots=True)
class Terminal:
    """A stream that a user may be looking at."""

    stream: TextIO
    is_tty: bool
    redraws: bool
    """Whether the cursor can be moved, so that a line can be drawn again."""
    colours: Colours
    encoding: str

    @classmethod
    def detect(cls, stream: TextIO, environ: Mapping[str, str]) -> Self:
        """Look at a stream and at NO_COLOR, CLICOLOR_FORCE, COLORTERM and TERM."""
        is_tty = stream.isatty()
        return cls(
            stream=stream,
            is_tty=is_tty,
            redraws=is_tty and environ.get("TERM", "") not in ("", "dumb", "unknown"),
            colours=_colours(is_tty, environ),
            encoding=stream.encoding or "ascii",
        )

    @property
    def unicode(self) -> bool:
        """Whether every character can be written."""
        return codecs.lookup(self.encoding).name.startswith("utf")

    @property
    def shows_pictures(self) -> bool:
        """Whether a picture can be drawn in character cells."""
        return self.redraws and self.unicode and self.colours >= Colours.INDEXED

    @property
    def columns(self) -> int:
        """How wide it is now; its user may change that at any time."""
        return self._size()[0]

    @property
    def lines(self) -> int:
        """How high it is now."""
        return self._size()[1]

    def shown(self, text: str) -> str:
        """`text` on one line, in characters that the stream can write and that move nothing."""
        encoded = display(text).encode(self.encoding, "backslashreplace")
        return encoded.decode(self.encoding)

    def write_line(self, text: str, colour: str = "") -> None:
        """Write one line, whatever `text` holds; on a terminal it is broken between words.

        Args:
            text: it may come from anywhere.
            colour: one of colorama's `Fore` or `Style` codes; left out where there are no colours.
        """
        self.stream.write(f"{self.styled(text, colour)}\n")
        self.stream.flush()

    def styled(self, text: str, colour: str = "") -> str:
        """What `write_line` writes."""
        shown = self.shown(text)
        if self.is_tty and len(shown) > self.columns:
            shown = "\n".join(
                textwrap.wrap(shown, self.columns, break_long_words=False, break_on_hyphens=False)
            )
        return f"{colour}{shown}{Style.RESET_ALL}" if colour and self.colours else shown

    def console(self) -> Console:
        """A console of rich that does here what we found can be done, and asks nothing of its own."""
        from rich.console import Console

        return Console(
            file=self.stream,
            width=self.columns,
            height=self.lines,
            force_terminal=self.redraws,
            force_interactive=self.redraws,
            color_system=_COLOUR_SYSTEMS.get(self.colours),  # type: ignore[arg-type]
            no_color=not self.colours,
            legacy_windows=False,
            markup=False,
            emoji=False,
            highlight=False,
            _environ={},
        )

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self.stream.fileno())
        except (OSError, ValueError):
            return COLUMNS, LINES
        return size.columns or COLUMNS, size.lines or LINES


def _colours(is_tty: bool, environ: Mapping[str, str]) -> Colours:
    term = environ.get("TERM", "")
    forced = environ.get("CLICOLOR_FORCE", "0") not in ("", "0")
    if environ.get("NO_COLOR") or not (forced or (is_tty and term not in ("", "dumb", "unknown"))):
        return Colours.NONE
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or term.endswith("-direct"):
        return Colours.TRUE
    return Colours.INDEXED if "256" in term else Colours.BASIC
