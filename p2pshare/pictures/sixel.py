"""Sixel: pictures on a terminal as DEC's VT340 drew them, in up to 256 colours.

A band is six rows high. For each colour in a band, one character per column says which of the six pixels have that
colour: `?` none of them, `~` all. `!9~` repeats a character, `$` returns to the start of the band, `-` begins the next
one. Source: the VT330/VT340 Programmer Reference Manual, volume 2, chapter 14.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from PIL import Image

from p2pshare.pictures.pixels import Pixels

COLOURS_MAX = 256  # registers, which every terminal with Sixel has
BAND = 6  # rows
SAMPLES = 40_000  # pixels from which colours are chosen, about
SIXEL_PIXELS_MAX = 1_500_000  # width x height of an encoded picture

_RUN = re.compile(rb"(.)\1{3,254}", re.DOTALL)  # VT340 counts to 255
_WEIGHTS = 1 << np.arange(BAND, dtype=np.uint8)


def encode_sixel(pixels: Pixels) -> str:
    """Return the escape sequence that draws a picture from the cursor on; this takes up to a second.

    The cursor is somewhere else then, which depends on the terminal.

    Raises:
        ValueError: the picture has more than `SIXEL_PIXELS_MAX` pixels, or none.
    """
    height, width, _ = pixels.shape
    if not 0 < width * height <= SIXEL_PIXELS_MAX:
        raise ValueError(f"{width} x {height} pixels")
    indexes, palette = _quantised(pixels)
    colours = "".join(
        f"#{number};2;{red};{green};{blue}"
        for number, (red, green, blue) in enumerate(_percent(palette))
    )
    bands = "-".join(_band(indexes[top : top + BAND]) for top in range(0, height, BAND))
    # 0;1: square pixels, and pixels that are not drawn keep what is below them.
    return f'\x1bP0;1q"1;1;{width};{height}{colours}{bands}\x1b\\'


def _quantised(pixels: Pixels) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the number of the colour of each pixel, and the colours, shape (number, 3)."""
    # The choice of colours takes most of the time, and a part of the pixels is enough for it.
    every = max(1, round((pixels.size / 3 / SAMPLES) ** 0.5))
    sample = Image.fromarray(pixels[::every, ::every].copy(), "RGB")
    chosen = sample.quantize(COLOURS_MAX, Image.Quantize.MEDIANCUT)
    image = Image.fromarray(pixels, "RGB")
    dithered = image.quantize(palette=chosen, dither=Image.Dither.FLOYDSTEINBERG)
    palette = np.array(chosen.getpalette() or [0, 0, 0], np.uint8).reshape(-1, 3)[:COLOURS_MAX]
    return np.asarray(dithered, np.uint8), palette


def _percent(palette: npt.NDArray[np.uint8]) -> list[list[int]]:
    percent: npt.NDArray[np.int64] = (palette.astype(np.int64) * 100 + 127) // 255
    return [[int(part) for part in colour] for colour in percent]


def _band(rows: npt.NDArray[np.uint8]) -> str:
    """Return the characters of up to six rows, colour after colour."""
    colours, order = np.unique(rows, return_inverse=True)
    order = order.reshape(rows.shape)
    columns = np.arange(rows.shape[1])
    bits = np.zeros((len(colours), rows.shape[1]), np.uint8)
    for row, weight in zip(order, _WEIGHTS, strict=False):
        bits[row, columns] |= weight
    characters = bits + np.uint8(ord("?"))
    return "$".join(
        f"#{colour}{_shortened(line.tobytes().rstrip(b'?'))}"
        for colour, line in zip(colours.tolist(), characters, strict=True)
    )


def _shortened(line: bytes) -> str:
    """Replace runs of a character by its count."""
    return _RUN.sub(lambda run: b"!%d%b" % (len(run[0]), run[1]), line).decode("ascii")
