"""A picture on a terminal that grows from the top while its rows arrive.

In half blocks each line is written once, as soon as rows for all of it have arrived. So the picture costs little, stays
in the history of the terminal, and may be higher than the screen. A line that lacks rows holds back all lines below it.
In pixels the whole picture is drawn `STEPS` times, each time in place of the last one; missing rows are black.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from p2pshare.pictures.pixels import Pixels
from p2pshare.pictures.preview import Preview
from p2pshare.ui.terminal.capabilities import Colours, Terminal
from p2pshare.ui.terminal.drawn_picture import (
    BOX_MAX,
    PICTURE_COLUMNS,
    PICTURE_LINES,
    DrawnPicture,
    draw_picture,
)
from p2pshare.ui.terminal.picture_form import PictureForm

STEPS = 4  # pictures in pixels that are drawn of one that grows, as each takes up to 0.1 s


class GrowingPicture:
    """What was not drawn yet of a picture."""

    def __init__(self, terminal: Terminal, pixels: Pixels, have: npt.NDArray[np.bool_]) -> None:
        """Show `pixels`, of which the rows in `have` have arrived; both may change later."""
        height, width, _ = pixels.shape
        columns = min(PICTURE_COLUMNS, terminal.columns - 1)
        lines = min(PICTURE_LINES, terminal.lines - 2)
        self.pixels = pixels
        self._terminal = terminal
        self._in_blocks = terminal.graphics.form is PictureForm.BLOCKS
        self._preview = Preview(width, height, max(1, columns), max(1, lines))
        self._true_colour = terminal.colours is Colours.TRUE
        self._have = have
        self._drawn = 0  # lines, or steps

    def new_lines(self) -> Iterator[str]:
        """Return the lines that have become complete; none if the picture is drawn in pixels."""
        while (
            self._in_blocks
            and self._drawn < self._preview.lines
            and self._preview.is_ready(self._have, self._drawn)
        ):
            yield self._preview.render_line(
                self.pixels, self._have, self._drawn, true_colour=self._true_colour
            )
            self._drawn += 1

    def drawn_again(self) -> DrawnPicture | None:
        """Return the picture in pixels if another step of it has arrived."""
        height, width, _ = self.pixels.shape
        step = int(STEPS * self._have.sum()) // height
        if self._in_blocks or step <= self._drawn:
            return None
        self._drawn = step
        # Samples suffice while it grows, and cost the same whatever the size of the picture.
        every = max(1, -(-width // BOX_MAX[0]), -(-height // BOX_MAX[1]))
        return draw_picture(self._terminal, self.pixels[::every, ::every].copy())
