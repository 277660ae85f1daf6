"""One line of a terminal that is drawn again and again in its place.

The cursor rests in the first column of the line, not behind it. When a terminal is made narrower, it either cuts the
line off or breaks it into several rows; in both cases the cursor stays in the cell where it was. So what is left of the
old line lies behind the cursor, and the next drawing erases it. With the cursor at the end of the line, the rows above
would stay, and nobody could tell how many there are. A blank precedes each erasure: tmux takes the erasure of a whole
screen for its end, and keeps a copy of it in the history.
"""

from __future__ import annotations

from rich.console import RenderableType

from p2pshare.ui.terminal.capabilities import Terminal

_HIDE = "\x1b[?25l"
_SHOW = "\x1b[?25h"
_CUT = (
    "\x1b[?7l"  # cut a line that is too long, as the terminal may have been made narrower just now
)
_BREAK = "\x1b[?7h"  # break it again
_REST = " \x1b[J\r"  # erase this column and all behind it, also in the rows below


class LiveLine:
    """Draws the line; `stop` it in any case, for until then the cursor is hidden."""

    def __init__(self, terminal: Terminal) -> None:
        """Draw on a terminal that can redraw."""
        self._terminal = terminal
        self._console = terminal.console()
        self._line: RenderableType = ""
        self.is_drawn = False
        """Whether the line is on the screen now."""

    @property
    def columns(self) -> int:
        """How wide the line may be: in the last column of a terminal, some would begin another row."""
        return max(1, self._terminal.columns - 1)

    def start(self) -> None:
        """Hide the cursor; nothing is drawn yet."""
        self.is_drawn = True
        self._write(_HIDE)

    def draw(self, line: RenderableType) -> None:
        """Draw this in the place of what was drawn before."""
        self._line = line
        self._write(f"\r{self._rendered()}")

    def above(self, text: str) -> None:
        """Write lines above it; their escapes, if there are any, are obeyed."""
        self._write(f"\r{_REST}{text}\n{self._rendered()}")

    def stop(self) -> None:
        """Erase the line, and show the cursor again. May be called again."""
        if self.is_drawn:
            self.is_drawn = False
            self._write(f"\r{_REST}{_SHOW}")

    def _rendered(self) -> str:
        self._console.width = self.columns
        with self._console.capture() as capture:
            self._console.print(self._line, end="")
        line, _, _ = capture.get().partition("\n")
        return f"{_CUT}{line}{_REST}{_BREAK}"

    def _write(self, text: str) -> None:
        self._terminal.stream.write(text)
        self._terminal.stream.flush()
