"""Lossless picture files: which names and formats keep every pixel, and how the pixels are written."""

from __future__ import annotations

import zlib
from pathlib import PurePath
from typing import Any, BinaryIO

from PIL import Image

from p2pshare.errors import CannotSave, WrongUsage
from p2pshare.pictures.pixels import Pixels

WEBP_SIDE_MAX = 16383  # pixels, of the format

# The filters of PNG leave little but runs in a photo: level 6 takes three times as long and saves 12 %. Level 1 with
# the default strategy is as fast but adds 6 %.
_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 1, "compress_type": zlib.Z_RLE},
    "WEBP": {"lossless": True, "quality": 0, "method": 0},
}
_FORMATS = {
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".ppm": "PPM",
}
_LOSSY = {".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".gif": "GIF"}


def check_picture_name(name: str) -> str:
    """Return the file name under which a picture is saved; a name without a suffix gets `.png`.

    Raises:
        WrongUsage: the suffix stands for a lossy format, or for none that is written.
    """
    path = PurePath(name)
    suffix = path.suffix.lower()
    if not suffix:
        return f"{name}.png"
    if suffix in _FORMATS:
        return name
    others = ", ".join(sorted(_FORMATS.keys() - {".png"}))
    fault = f"{suffix!r} is not a lossless picture format"
    if suffix in _LOSSY:
        fault = f"{_LOSSY[suffix]} does not keep the pixels exactly"
    raise WrongUsage(
        reason=f"{fault}: save the picture as {str(path.with_suffix('.png'))!r}, or with one of {others}."
    )


def format_of(name: str) -> str:
    """Return the format of a name that has passed `check_picture_name`."""
    return _FORMATS[PurePath(name).suffix.lower()]


def write_picture(pixels: Pixels, file: BinaryIO, format: str = "PNG") -> None:
    """Encode pixels without loss.

    Args:
        pixels: the picture.
        file: the destination; TIFF needs a seekable one.
        format: as returned by `format_of`.

    Raises:
        CannotSave: the picture is larger than the format allows.
        OSError: the file cannot be written.
    """
    height, width, _ = pixels.shape
    if format == "WEBP" and max(width, height) > WEBP_SIDE_MAX:
        raise CannotSave(
            path=f"A picture of {width} x {height} pixels",
            reason=f"WebP allows {WEBP_SIDE_MAX} a side, so save it as .png.",
        )
    Image.fromarray(pixels, "RGB").save(file, format, **_OPTIONS.get(format, {}))
