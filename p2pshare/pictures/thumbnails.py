"""Small pictures of large ones, to be sent ahead: a JPEG of a bounded size, without any metadata.

The pixels are decoded and encoded again, so nothing else of the file survives: no EXIF data with its place and time, no
embedded thumbnail of a picture that was cropped later, no colour profile.
"""

from __future__ import annotations

import io
from typing import BinaryIO

import numpy as np
from PIL import Image

from p2pshare.pictures.decoding import read_picture
from p2pshare.pictures.pixels import PIXELS_MAX, Pixels

THUMBNAIL_MAX = 64 * 1024  # bytes
QUALITIES = (80, 60, 40, 20)  # of JPEG, tried in turn until the bytes suffice
SHRINK_GAP = (
    3.0  # times the wanted size: down to there, pixels are averaged in boxes, which is faster
)


def make_thumbnail(file: BinaryIO, edge: int, *, pixel_limit: int = PIXELS_MAX) -> bytes:
    """Return a picture as a JPEG of at most `THUMBNAIL_MAX` bytes; this takes up to some seconds.

    Args:
        file: a picture, as for `read_picture`; it is not closed.
        edge: the longest edge in pixels; a smaller picture keeps its size.
        pixel_limit: a larger picture is rejected before it is decoded.

    Raises:
        PictureUnreadable: as for `read_picture`.
    """
    pixels = read_picture(file, pixel_limit=pixel_limit, edge=edge)
    while True:
        pixels = fit_edge(pixels, edge)
        for quality in QUALITIES:
            encoded = io.BytesIO()
            Image.fromarray(pixels, "RGB").save(encoded, "JPEG", quality=quality, optimize=True)
            if encoded.tell() <= THUMBNAIL_MAX:
                return encoded.getvalue()
        edge //= 2


def fit_edge(pixels: Pixels, edge: int) -> Pixels:
    """Scale a larger picture down so that its longest edge has `edge` pixels; each edge keeps at least one."""
    height, width, _ = pixels.shape
    longest = max(height, width)
    if longest <= edge:
        return pixels
    size = (max(1, round(width * edge / longest)), max(1, round(height * edge / longest)))
    image = Image.fromarray(pixels, "RGB")
    return np.array(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=SHRINK_GAP))
