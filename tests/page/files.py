"""Files that people share in the tests of the page: pictures, texts, sound, and hostile ones."""

from __future__ import annotations

import io
import math
import struct
import wave
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

EVIL = "<img src=x onerror='window.evil=1'><script>window.evil=1<"
"""A file name that does harm if it becomes markup; a name has no slash."""
HOSTILE_NAMES = (
    f"{EVIL}.txt",
    "\u202egpj.exe",  # shown from right to left, it ends with .jpg
    "line\nbreak.txt",
    "\u0627\u0644\u0633\u0644\u0627\u0645.txt",
    "x" * 251 + ".txt",
    "javascript:alert(1)",
    "&lt;b&gt; 100%25 #?.txt",
    " ",
    "a\u3164",  # the letter of Korean has no shape
    "a\u200bb\u061c.txt",
)
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" onload="window.evil=1">'
    "<script>window.evil=1</script></svg>"
)
ORIENTATION, CAMERA = 0x0112, 0x010F  # EXIF tags


@cache
def picture(width: int, height: int, seed: int = 0, orientation: int = 1) -> bytes:
    """Return a JPEG of hills in a colour that depends on `seed`; the sky is lighter than the ground."""
    rng = np.random.default_rng(seed)
    hue = rng.uniform(0, 2 * math.pi)
    tint = 0.5 + 0.5 * np.cos(hue + np.array([0.0, 2.1, 4.2]))
    x, y = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    sky = (150 + 105 * (1 - y * (1 - tint)) - 20 * y).clip(0, 255).astype(np.uint8)
    pixels = np.repeat(sky[:, None, :], width, axis=1)
    sun_x, sun_y, radius = rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.35), 0.07
    pixels[((x - sun_x) * width / height) ** 2 + (y - sun_y) ** 2 < radius**2] = (255, 250, 225)
    for layer in range(1, 5):
        waves = rng.uniform(2, 7, (3, 1)) * math.pi * layer / 2
        hills = np.sin(waves * x + rng.uniform(0, 6, (3, 1))).sum(axis=0)
        colour = (40 + 120 * tint) * (1.1 - 0.22 * layer)
        pixels[y > 0.35 + 0.13 * layer + 0.06 * hills] = colour.astype(np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[CAMERA] = "Secret camera"
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=85, exif=exif)
    return encoded.getvalue()


@cache
def sound(seconds: float, rate: int = 8000) -> bytes:
    """Return a WAV file with a tone of 440 Hz."""
    encoded = io.BytesIO()
    with wave.open(encoded, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        levels = (8000 * math.sin(2 * math.pi * 440 * i / rate) for i in range(int(seconds * rate)))
        file.writeframes(b"".join(struct.pack("<h", int(level)) for level in levels))
    return encoded.getvalue()


def bomb() -> bytes:
    """Return a PNG of a few kB that has 900 million pixels."""
    encoded = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(encoded, "PNG")
    return encoded.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder, by their relative paths."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def album(count: int = 12) -> dict[str, bytes]:
    """Return pictures of various shapes, one of which is turned by its EXIF data."""
    shapes = ((1200, 800), (800, 1200), (1000, 1000), (1600, 500))
    pictures = {
        f"IMG_{number:04}.jpg": picture(*shapes[number % len(shapes)], seed=number)
        for number in range(1, count + 1)
    }
    return {**pictures, "turned.jpg": picture(900, 600, seed=5, orientation=6)}


def usual_share() -> dict[str, bytes]:
    """Return a share as people have it: an album, documents, sound and an empty file."""
    return {
        **{f"album/{name}": content for name, content in album().items()},
        "documents/notes.txt": "Notes of the summer.\nGrüße aus München.\n".encode(),
        "documents/report.pdf": b"%PDF-1.4 " + b"r" * 70_000,
        "documents/2026/plan.md": b"# Plan\n\n* to share\n",
        "music/tone.wav": sound(20.0),
        "empty.txt": b"",
        "large.bin": bytes(range(256)) * 4096 * 8,
    }


def hostile_share() -> dict[str, bytes]:
    """Return files whose names or contents mean harm."""
    return {
        **dict.fromkeys(HOSTILE_NAMES, b"harmless"),
        "script.svg": SVG.encode(),
        "page.html": f"<html><body>{EVIL}/script></body></html>".encode(),
        "truncated.jpg": picture(800, 600)[:9000],
        "text.jpg": b"this is no picture",
        "svg.jpg": SVG.encode(),
        "bomb.png": bomb(),
    }
