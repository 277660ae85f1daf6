"""Picture files, from users and from strangers, to plain RGB pixels.

Calls may take seconds, so make them in a thread. The pixels are C-contiguous.

Only the decoders of `FORMATS` run, as Pillow has 40 more that strangers could reach. The size in the header is compared
with the limit before anything is decoded (see `pictures.pixels`). Whatever a decoder raises becomes one error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from p2pshare.pictures.pixels import PIXELS_MAX, Pixels
from p2pshare.pictures.reduced import FORMATS, orientation_of, picture_faults

DRAFT = 2  # times the pixels that are needed: so much is decoded, and scaled down better than a decoder does
STRIP_PIXELS = 1_000_000  # pixels converted at once


_ROWS_FIRST = (1, 0, 2)
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(_ROWS_FIRST),
    6: lambda pixels: pixels.transpose(_ROWS_FIRST)[:, ::-1],
    7: lambda pixels: pixels.transpose(_ROWS_FIRST)[::-1, ::-1],
    8: lambda pixels: pixels.transpose(_ROWS_FIRST)[::-1],
}
"""The inverse of each EXIF orientation."""


def read_picture(
    file: BinaryIO,
    *,
    name: str = "The picture",
    pixel_limit: int = PIXELS_MAX,
    edge: int | None = None,
) -> Pixels:
    """Decode a JPEG, PNG, WebP or GIF picture; turn it upright, and put white behind transparent parts.

    Args:
        file: the picture; it is not closed.
        name: how the error names it.
        pixel_limit: a larger picture is rejected before it is decoded.
        edge: the pixels of the longest edge that are needed. A JPEG may be decoded at a half, a quarter or an eighth of
            its size then, which is faster; None for all pixels.

    Raises:
        PictureUnreadable: it has another format, is too large, or is damaged.
    """
    with picture_faults(name, pixel_limit), Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > pixel_limit:
            raise Image.DecompressionBombError
        if edge is not None:
            image.draft("RGB", (DRAFT * edge, DRAFT * edge))
        image.load()
        orientation = orientation_of(image)
        pixels = _rgb_pixels(image)
    # The image is closed by now, so that at most two copies of the pixels exist at once.
    return np.ascontiguousarray(_UPRIGHT.get(orientation, _as_it_is)(pixels))


def fit_width(pixels: Pixels, width_max: int) -> Pixels:
    """Scale a wider picture down to `width_max` pixels; keep its aspect ratio, and at least one row."""
    height, width, _ = pixels.shape
    if width <= width_max:
        return pixels
    return resize(pixels, width_max, max(1, round(height * width_max / width)))


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Scale a picture to another size."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels, "RGB")
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0))


def _as_it_is(pixels: Pixels) -> Pixels:
    return pixels


def _rgb_pixels(image: Image.Image) -> Pixels:
    """Convert a picture strip by strip, which saves one copy of a picture in another mode."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _rgb_strip(image.crop((0, top, width, bottom)))
    return pixels


def _rgb_strip(strip: Image.Image) -> Pixels:
    if strip.mode.startswith("I"):
        return _rgb_of_deep_grey(strip)
    if strip.has_transparency_data:
        strip = strip.convert("RGBA")
        canvas = Image.new("RGB", strip.size, "white")
        canvas.paste(strip, mask=strip.getchannel("A"))
        strip = canvas
    return np.asarray(strip.convert("RGB"))


def _rgb_of_deep_grey(strip: Image.Image) -> Pixels:
    """Return the upper 8 of 16 bits, as Pillow does for colours; its own conversion clips greys."""
    deep = np.asarray(strip).astype(np.uint16)
    grey: npt.NDArray[Any] = (deep >> 8).astype(np.uint8)
    if "transparency" in strip.info:
        grey[deep == strip.info["transparency"]] = 255
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
