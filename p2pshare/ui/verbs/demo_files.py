"""A text and a picture for `p2pshare demo`, generated, and the same on every machine."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from PIL import Image

TEXT_LINES = 5000
TEXT_SHA256 = "0b63e58ae1649c3cc088b516a909568276393b0e0b1c0a3b224598690a2d80cd"

WIDTH, HEIGHT = 1200, 900  # pixels
JPEG_QUALITY = 90
GRAIN = 3.0  # levels of 256; with less noise the picture would compress better than a photo

_HORIZON = 0.62  # of the height, from the top
_SUN = (0.67, 0.5)  # of the width and of the height
_SKY_STOPS = (0.0, 0.55, 0.85, 1.0)  # from the top to the horizon
_SKY_COLOURS = ((18, 32, 82), (104, 68, 130), (238, 128, 92), (255, 196, 118))


def sample_text() -> bytes:
    """Return `TEXT_LINES` lines; `TEXT_SHA256` is their hash."""
    lines = (
        f"{left} lines on the wire, {left} lines. Take one down, pass it around:"
        f" {left - 1} lines on the wire.\n"
        for left in range(TEXT_LINES, 0, -1)
    )
    return "".join(lines).encode()


def write_sample_picture(file: BinaryIO) -> None:
    """Write a sunset over a lake as a JPEG: the lake is the sky upside down, with ripples that grow downwards."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH]).reshape(2, 1, 1)
    depth = (y - _HORIZON).clip(0)
    ripple = np.sin(260 * np.sqrt(depth + 0.002) + 5 * np.sin(14 * x)) * depth
    height = np.where(depth > 0, _HORIZON - depth * 1.5 + 0.1 * ripple, y)
    levels = zip(*_SKY_COLOURS, strict=True)
    scene = np.stack([np.interp(height / _HORIZON, _SKY_STOPS, each) for each in levels], axis=-1)
    distance = np.hypot((x - _SUN[0]) * WIDTH / HEIGHT, height - _SUN[1])
    scene += np.exp(-distance / 0.13)[..., np.newaxis] * (190, 120, 40)
    scene = np.where((distance < 0.045)[..., np.newaxis], (255, 244, 206), scene)
    scene *= np.where(depth > 0, 0.75, 1.0)[..., np.newaxis]
    scene += np.random.default_rng(1).normal(0, GRAIN, scene.shape)
    pixels = scene.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels, "RGB").save(file, "JPEG", quality=JPEG_QUALITY)
