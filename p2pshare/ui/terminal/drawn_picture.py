"""A whole picture in one of the forms in which terminals show pictures, ready to be written.

Room is made first: the lines are written empty, and the picture is drawn from the first of them on. So it never
scrolls the screen, and the cursor is below it afterwards, whatever the terminal does with the cursor meanwhile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from p2pshare.pictures.decoding import resize
from p2pshare.pictures.kitty import delete_kitty, encode_kitty, place_kitty
from p2pshare.pictures.pixels import Pixels
from p2pshare.pictures.preview import Preview
from p2pshare.pictures.sixel import encode_sixel
from p2pshare.ui.terminal.capabilities import Colours, Terminal
from p2pshare.ui.terminal.picture_form import PictureForm

PICTURE_COLUMNS = 64  # at most
PICTURE_LINES = 20  # at most
BOX_MAX = (1280, 800)  # pixels of a picture that is drawn in pixels, at most
CELL = (10, 20)  # pixels of a cell whose size is unknown; those of a VT340

_SAVE, _RESTORE = "\x1b7", "\x1b8"  # the cursor


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """A picture of some lines."""

    lines: int
    columns: int
    form: PictureForm
    pieces: list[str]
    """Half blocks: the lines. Sixel: one sequence. Kitty: the pieces of the picture."""
    is_to_scale: bool = True
    """Whether its pixels are those of the terminal."""

    def text(self, number: int) -> str:
        """Return what draws it from the start of a line on; the cursor is at the start of the line below then.

        Args:
            number: of the picture in kitty's protocol; a picture with the same number is replaced.
        """
        if self.form is PictureForm.BLOCKS:
            return "".join(f"{line}\n" for line in self.pieces)
        drawing = "".join(self.pieces)
        if self.form is PictureForm.KITTY:
            cells = None if self.is_to_scale else (self.columns, self.lines)
            drawing = place_kitty(self.pieces, number, cells)
        room, up, down = "\n" * self.lines, f"\x1b[{self.lines}A", f"\x1b[{self.lines}B"
        return f"{room}{up}{_SAVE}{drawing}{_RESTORE}{down}"

    def removal(self, number: int) -> str:
        """Return what removes it, besides erasing its lines."""
        return delete_kitty(number) if self.form is PictureForm.KITTY else ""


def draw_picture(terminal: Terminal, pixels: Pixels, *, enlarged: bool = False) -> DrawnPicture:
    """Return a picture that fits into a terminal; this takes up to a second.

    Args:
        terminal: the terminal.
        pixels: the picture, with at least one pixel.
        enlarged: fill the room of the largest picture; otherwise no pixel becomes larger than one of the terminal.
    """
    columns = max(1, min(PICTURE_COLUMNS, terminal.columns - 1))
    lines = max(1, min(PICTURE_LINES, terminal.lines - 2))
    form = terminal.graphics.form
    height, width, _ = pixels.shape
    if form in (PictureForm.BLOCKS, PictureForm.OFF):
        preview, have = Preview(width, height, columns, lines), np.ones(height, np.bool_)
        true_colour = terminal.colours is Colours.TRUE
        rows = [
            preview.render_line(pixels, have, line, true_colour=true_colour)
            for line in range(preview.lines)
        ]
        return DrawnPicture(preview.lines, preview.columns, PictureForm.BLOCKS, rows)
    cell_width, cell_height = terminal.graphics.cell or CELL
    columns = min(columns, BOX_MAX[0] // cell_width)
    lines = min(lines, BOX_MAX[1] // cell_height)
    scale = min(columns * cell_width / width, lines * cell_height / height)
    if not enlarged:
        scale = min(scale, 1.0)
    shown_width = max(1, min(columns * cell_width, round(width * scale)))
    shown_height = max(1, min(lines * cell_height, round(height * scale)))
    columns, lines = math.ceil(shown_width / cell_width), math.ceil(shown_height / cell_height)
    resized = resize(pixels, shown_width, shown_height)
    pieces = [encode_sixel(resized)] if form is PictureForm.SIXEL else encode_kitty(resized)
    return DrawnPicture(lines, columns, form, pieces, terminal.graphics.cell is not None)
