"""Small pictures of large ones, to be sent ahead: JPEGs of bounded sizes, without any metadata.

The pixels are decoded and encoded again, so nothing else of the file survives: no EXIF data with its place and time, no
embedded thumbnail of a picture that was cropped later, no colour profile. Such an embedded thumbnail is never used: it
need not show the picture.

To decode takes nearly all of the time, so one decoding makes the pictures of all edges up to the one that is wanted.
`benchmarks/bench_thumbnails.py` compares the whole with the decoding alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO

from PIL import Image

from p2pshare.pictures.pixels import PIXELS_MAX
from p2pshare.pictures.reduced import SHRINK_GAP, fit_size, read_small

THUMBNAIL_MAX = 64 * 1024  # bytes
QUALITIES = (80, 60, 40, 20)  # of JPEG, tried in turn until the bytes suffice


def make_thumbnails(
    file: BinaryIO,
    edges: Collection[int],
    *,
    pixel_limit: int = PIXELS_MAX,
    room: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> dict[int, bytes]:
    """Return a picture as JPEGs of at most `THUMBNAIL_MAX` bytes, by their longest edges; takes up to some seconds.

    Args:
        file: a picture, as for `read_picture`; it is not closed.
        edges: the longest edges in pixels; a smaller picture keeps its size.
        pixel_limit: a larger picture is rejected before it is decoded.
        room: as for `read_small`.

    Raises:
        PictureUnreadable: as for `read_small`.
    """
    image = read_small(file, max(edges), pixel_limit=pixel_limit, room=room)
    made: dict[int, bytes] = {}
    for edge in sorted(edges, reverse=True):
        image = _fitted(image, edge)
        made[edge] = _encoded(image, edge)
    return made


def _encoded(image: Image.Image, edge: int) -> bytes:
    """Return a JPEG, with a lower quality or size if it would have too many bytes."""
    while True:
        for quality in QUALITIES:
            encoded = io.BytesIO()
            image.save(encoded, "JPEG", quality=quality)
            if encoded.tell() <= THUMBNAIL_MAX:
                return encoded.getvalue()
        edge //= 2
        image = _fitted(image, edge)


def _fitted(image: Image.Image, edge: int) -> Image.Image:
    size = fit_size(image.size, edge)
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=SHRINK_GAP)
