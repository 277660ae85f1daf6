"""A picture on a terminal that grows from the top while its rows arrive.

Each line is written once, as soon as rows for all of it have arrived. So the picture costs little, stays in the history
of the terminal, and may be higher than the screen. A line that lacks rows holds back all lines below it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from p2pshare.pictures.pixels import Pixels
from p2pshare.pictures.preview import Preview
from p2pshare.ui.terminal.capabilities import Colours, Terminal

PREVIEW_COLUMNS = 64  # at most
PREVIEW_LINES = 20  # at most


def picture_rows(terminal: Terminal, pixels: Pixels) -> list[str]:
    """Return the lines of a whole picture."""
    have = np.ones(len(pixels), np.bool_)
    return list(GrowingPicture(terminal, pixels, have).new_lines())


class GrowingPicture:
    """The lines of a picture that were not returned yet."""

    def __init__(self, terminal: Terminal, pixels: Pixels, have: npt.NDArray[np.bool_]) -> None:
        """Show `pixels`, of which the rows in `have` have arrived; both may change later."""
        height, width, _ = pixels.shape
        columns = min(PREVIEW_COLUMNS, terminal.columns - 1)
        lines = min(PREVIEW_LINES, terminal.lines - 2)
        self.pixels = pixels
        self._preview = Preview(width, height, max(1, columns), max(1, lines))
        self._true_colour = terminal.colours is Colours.TRUE
        self._have = have
        self._drawn = 0

    def new_lines(self) -> Iterator[str]:
        """Return the lines that have become complete."""
        while self._drawn < self._preview.lines and self._preview.is_ready(self._have, self._drawn):
            yield self._preview.render_line(
                self.pixels, self._have, self._drawn, true_colour=self._true_colour
            )
            self._drawn += 1
