"""A text and a picture for `p2pshare demo`, generated, and the same on every machine."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import numpy.typing as npt
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
# Ridges from the farthest to the nearest: height, roughness, colour.
_RIDGES = (
    (0.17, 5.0, (126, 82, 128)),
    (0.11, 8.0, (84, 58, 104)),
    (0.055, 13.0, (44, 36, 70)),
)

Field = npt.NDArray[np.float64]
"""A number, or three, for each pixel."""


def sample_text() -> bytes:
    """Return `TEXT_LINES` lines; `TEXT_SHA256` is their hash."""
    lines = (
        f"{left} lines on the wire, {left} lines. Take one down, pass it around:"
        f" {left - 1} lines on the wire.\n"
        for left in range(TEXT_LINES, 0, -1)
    )
    return "".join(lines).encode()


def write_sample_picture(file: BinaryIO) -> None:
    """Write a sunset over a lake as a JPEG."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH]).reshape(2, 1, 1)
    above = _landscape(x, y, rng)
    picture = np.where((y < _HORIZON)[..., np.newaxis], above, _reflected(above, x, y))
    picture += rng.normal(0, GRAIN, picture.shape)
    pixels = picture.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels, "RGB").save(file, "JPEG", quality=JPEG_QUALITY)


def _landscape(x: Field, y: Field, rng: np.random.Generator) -> Field:
    """Return the sky with the sun, and the ridges in front of it."""
    scene = np.stack(
        [np.interp(y / _HORIZON, _SKY_STOPS, levels) for levels in zip(*_SKY_COLOURS, strict=True)],
        axis=-1,
    )
    streaks = _waves(3 * x + 14 * y, rng, 5) * _waves(26 * y - x, rng, 4)
    scene += 26 * (streaks * np.sin(np.pi * y / _HORIZON).clip(0))[..., np.newaxis]
    distance = np.hypot((x - _SUN[0]) * WIDTH / HEIGHT, y - _SUN[1])
    scene += np.exp(-distance / 0.13)[..., np.newaxis] * (190, 120, 40)
    scene = np.where((distance < 0.045)[..., np.newaxis], (255, 244, 206), scene)
    for height, roughness, colour in _RIDGES:
        crest = _HORIZON - height * (0.6 + 0.4 * _waves(roughness * x[:1], rng, 6))
        haze = ((_HORIZON - y) / height).clip(0, 1)[..., np.newaxis]
        ridge = np.array(colour) * (0.75 + 0.25 * haze)
        scene = np.where((y > crest)[..., np.newaxis], ridge, scene)
    return scene


def _reflected(scene: Field, x: Field, y: Field) -> Field:
    """Return the lake: the scene mirrored and darker, with ripples that grow towards the viewer."""
    depth = (y - _HORIZON).clip(0)
    ripple = np.sin(260 * np.sqrt(depth + 0.002) + 5 * np.sin(14 * x)) * depth
    rows = ((_HORIZON - depth * 1.5 + 0.10 * ripple) * HEIGHT).clip(0, HEIGHT - 1).astype(int)
    columns = ((x + 0.03 * ripple) * WIDTH).clip(0, WIDTH - 1).astype(int)
    glitter = np.exp(-(((x - _SUN[0]) / (0.03 + 0.25 * depth)) ** 2)) * (ripple > 0.25 * depth)
    lake = scene[rows, columns] * (0.72, 0.74, 0.82)
    return np.asarray(lake + glitter[..., np.newaxis] * (120, 82, 40))


def _waves(position: Field, rng: np.random.Generator, octaves: int) -> Field:
    """Return a smooth random curve from -1 to 1."""
    total = np.zeros_like(position)
    for octave in range(octaves):
        phase = rng.uniform(0, 2 * np.pi)
        total += np.sin(1.9**octave * position + phase) / 1.9**octave
    return total / 2.1
