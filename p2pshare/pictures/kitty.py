"""The graphics protocol of the terminal kitty, which other terminals have, too.

A picture has a number that the program chooses. It is sent as PNG in base64, in pieces, and drawn
from the cursor on. Source: https://sw.kovidgoyal.net/kitty/graphics-protocol/.
"""

from __future__ import annotations

import base64
import io

from p2pshare.pictures.encoding import write_picture
from p2pshare.pictures.pixels import Pixels

PIECE = 4096  # characters of base64, the most that the protocol allows
KITTY_PIXELS_MAX = 1_500_000  # width x height of an encoded picture
NUMBER_MAX = (1 << 32) - 1  # of a picture


def encode_kitty(pixels: Pixels) -> list[str]:
    """Return a picture in pieces for `place_kitty`; this takes up to a second.

    Raises:
        ValueError: the picture has more than `KITTY_PIXELS_MAX` pixels, or none.
    """
    height, width, _ = pixels.shape
    if not 0 < width * height <= KITTY_PIXELS_MAX:
        raise ValueError(f"{width} x {height} pixels")
    file = io.BytesIO()
    write_picture(pixels, file)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]


def place_kitty(pieces: list[str], number: int, cells: tuple[int, int] | None) -> str:
    """Return the sequence that shows a picture from the cursor on, in place of the one with its number.

    The cursor stays, and the terminal answers nothing.

    Args:
        pieces: the picture, from `encode_kitty`.
        number: of the picture, from 1 to `NUMBER_MAX`.
        cells: the columns and lines to which it is scaled; None to show each of its pixels as one.
    """
    keys = f"a=T,f=100,t=d,i={number},p=1,C=1,q=2"
    if cells is not None:
        keys += f",c={cells[0]},r={cells[1]}"
    parts = []
    for left, piece in zip(range(len(pieces) - 1, -1, -1), pieces, strict=True):
        parts.append(f"\x1b_G{keys},m={int(left > 0)};{piece}\x1b\\")
        keys = "q=2"
    return "".join(parts)


def delete_kitty(number: int) -> str:
    """Return the sequence that removes a picture and frees its memory."""
    return f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\"
