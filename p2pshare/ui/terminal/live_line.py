"""One line of a terminal that is redrawn in place, or a few.

The cursor rests in the first column of the line, not behind it. When a terminal is made narrower, it either cuts the
line off or breaks it into several rows; in both cases the cursor stays in its cell. The rest of the old line is then
behind the cursor, and the next drawing erases it. With the cursor at the end of the line, the rows above would stay,
since their number is unknown. Of several lines, the cursor rests in the first one, so the same applies. A blank
precedes each erasure: tmux copies a wholly erased screen into its history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import RenderableType

from p2pshare.ui.terminal.capabilities import Terminal

if TYPE_CHECKING:  # numpy and Pillow take their time to import
    from p2pshare.ui.terminal.drawn_picture import DrawnPicture

_HIDE = "\x1b[?25l"
_SHOW = "\x1b[?25h"
_CUT = "\x1b[?7l"  # cut long lines, since the terminal may have become narrower just now
_BREAK = "\x1b[?7h"  # break long lines again
_REST = " \x1b[J\r"  # erase from this column to the end of the screen


class LiveLine:
    """Draws the line. Always call `stop`: the cursor is hidden until then."""

    def __init__(self, terminal: Terminal) -> None:
        """Draw on a terminal that can redraw."""
        self._terminal = terminal
        self._console = terminal.console()
        self._line: RenderableType = ""
        self._rows = 1
        self.is_drawn = False
        """Whether the line is on the screen."""
        self._picture: DrawnPicture | None = None  # directly above the line
        self._number = 0  # of that picture
        self._size = (0, 0)  # of the terminal at that time

    @property
    def columns(self) -> int:
        """The maximum width of the line. The last column is not used, since some terminals begin another row there."""
        return max(1, self._terminal.columns - 1)

    def start(self) -> None:
        """Hide the cursor, and draw nothing yet."""
        self.is_drawn = True
        self._write(_HIDE)

    def draw(self, line: RenderableType, rows: int = 1) -> None:
        """Draw another line in place of the one before; or up to `rows` lines, fewer than the terminal has."""
        self._line, self._rows = line, rows
        self._write(f"\r{self._rendered()}")

    def above(self, text: str) -> None:
        """Write lines above it; escape sequences in them are kept."""
        self._picture = None
        self._write(f"\r{_REST}{text}\n{self._rendered()}")

    def picture(self, picture: DrawnPicture) -> None:
        """Write a picture above the line, in place of the last picture if nothing was written since.

        If the terminal has another size now, its rows may be elsewhere, and the picture is written once more.
        """
        size, before = (self._terminal.columns, self._terminal.lines), self._picture
        if before is not None and size == self._size:
            removal = f"{before.removal(self._number)}\x1b[{before.lines}A"
        else:
            removal, self._number = "", next(self._terminal.graphics.numbers)
        self._picture, self._size = picture, size
        text = picture.text(self._number)
        self._write(f"\r{_REST}{removal}{_REST}{text}{self._rendered()}")

    def stop(self) -> None:
        """Erase the line, and show the cursor. Later calls do nothing."""
        if self.is_drawn:
            self.is_drawn = False
            self._write(f"\r{_REST}{_SHOW}")

    def _rendered(self) -> str:
        self._console.width = self.columns
        with self._console.capture() as capture:
            self._console.print(self._line, end="")
        lines = capture.get().split("\n")[: self._rows]
        text = "\n".join(f"{line}{_REST}" for line in lines)
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        return f"{_CUT}{text}{up}{_BREAK}"

    def _write(self, text: str) -> None:
        self._terminal.stream.write(text)
        self._terminal.stream.flush()
