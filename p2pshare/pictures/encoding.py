"""Pixels to files that keep every one of them exactly."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, BinaryIO

from PIL import Image

from p2pshare.errors import CannotSave, WrongUsage
from p2pshare.pictures.pixels import Pixels
from p2pshare.pictures.png import write_png

WEBP_SIDE_MAX = 16383  # pixels, of the format

_OPTIONS: dict[str, dict[str, Any]] = {
    "WEBP": {"lossless": True, "quality": 0, "method": 0},
    "BMP": {},
    "TIFF": {},
    "PPM": {},
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
    """The file name under which a picture can be saved; one without a suffix gets `.png`.

    Raises:
        WrongUsage: the suffix stands for a format that does not keep the pixels, or for none that
        is written.
    """
    path = PurePath(name)
    suffix = path.suffix.lower()
    if not suffix:
        return f"{name}.png"
    if suffix in _FORMATS:
        return name
    instead = str(path.with_suffix(".png"))
    others = ", ".join(sorted(_FORMATS.keys() - {".png"}))
    why = (
        f"{_LOSSY[suffix]} does not keep the pixels exactly"
        if suffix in _LOSSY
        else f"{suffix!r} is no picture format that keeps the pixels exactly"
    )
    raise WrongUsage(reason=f"{why}: save it as {instead!r}, or with {others} at its end.")


def format_of(name: str) -> str:
    """The format that the suffix of a name stands for; the name must have passed `check_picture_name`."""
    return _FORMATS[PurePath(name).suffix.lower()]


def write_picture(pixels: Pixels, file: BinaryIO, format: str = "PNG") -> None:
    """Encode pixels without a loss, as fast as the format allows.

    Args:
        pixels: shape (height, width, 3).
        file: where to; it must be seekable for TIFF.
        format: what `format_of` returns.

    Raises:
        CannotSave: the format has no room for so large a picture.
        OSError: the file did not take it.
    """
    height, width, _ = pixels.shape
    if format == "WEBP" and max(width, height) > WEBP_SIDE_MAX:
        raise CannotSave(
            path=f"A picture of {width} x {height} pixels",
            reason=f"WebP has room for {WEBP_SIDE_MAX} a side, so save it as .png.",
        )
    if format == "PNG":
        write_png(pixels, file)
    else:
        Image.fromarray(pixels, "RGB").save(file, format, **_OPTIONS[format])
