"""The capabilities of a terminal, and the escaping of text from outside that is written to it."""

from __future__ import annotations

import codecs
import enum
import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TextIO

from colorama import Style

from p2pshare.ui.terminal.picture_form import Graphics, PictureForm
from p2pshare.wire.display import display

if TYPE_CHECKING:  # slow to import, and most verbs draw nothing
    from rich.console import Console

COLUMNS, LINES = 80, 24  # if the size is unknown


class Colours(enum.IntEnum):
    """The number of colours."""

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
    """A stream, which may be a terminal."""

    stream: TextIO
    is_tty: bool
    redraws: bool
    """Whether the cursor can be moved, so that a line can be redrawn."""
    colours: Colours
    encoding: str
    graphics: Graphics = field(default_factory=Graphics)
    """How pictures are shown; half blocks unless it was asked (`p2pshare.ui.terminal.graphics`)."""

    @classmethod
    def detect(cls, stream: TextIO, environ: Mapping[str, str]) -> Self:
        """Detect the capabilities from a stream and from NO_COLOR, CLICOLOR_FORCE, COLORTERM and TERM."""
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
        """Whether a picture can be drawn: in pixels, or in half blocks."""
        form = self.graphics.form
        if form is PictureForm.BLOCKS:
            return self.redraws and self.unicode and self.colours >= Colours.INDEXED
        return self.redraws and form is not PictureForm.OFF

    @property
    def columns(self) -> int:
        """The current width, which the user may change at any time."""
        return self._size()[0]

    @property
    def lines(self) -> int:
        """The current height."""
        return self._size()[1]

    def shown(self, text: str) -> str:
        """Return the text on one line, with escapes for control characters and for those that the stream lacks."""
        encoded = display(text).encode(self.encoding, "backslashreplace")
        return encoded.decode(self.encoding)

    def write_line(self, text: str, colour: str = "") -> None:
        """Write a line; on a terminal it is broken between words.

        Args:
            text: the text, which may come from outside.
            colour: a `Fore` or `Style` code of colorama, which is ignored if there are no colours.
        """
        self.stream.write(f"{self.styled(text, colour)}\n")
        self.stream.flush()

    def styled(self, text: str, colour: str = "") -> str:
        """Return the text as `write_line` writes it."""
        shown = self.shown(text)
        if self.is_tty and len(shown) > self.columns:
            shown = "\n".join(
                textwrap.wrap(shown, self.columns, break_long_words=False, break_on_hyphens=False)
            )
        return f"{colour}{shown}{Style.RESET_ALL}" if colour and self.colours else shown

    def console(self) -> Console:
        """Return a console of rich with these capabilities, which detects nothing itself."""
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
