"""The type of a picture in memory, and its limit.

The limit applies before memory is taken. A JPEG of a few kilobytes, or a SIZE of 9 bytes, can announce a picture of
4 billion by 4 billion pixels. 50 megapixels are more than the cameras of most users have; with 3 bytes each they take
150 MB, and decoding takes up to twice that for a moment. Pillow itself only warns from 89 megapixels on, so
`reduced` makes that warning an error, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # to import numpy takes its time, and a limit needs none
    import numpy as np
    import numpy.typing as npt

Pixels: TypeAlias = "npt.NDArray[np.uint8]"
"""A picture: shape (height, width, 3), red, green and blue."""

PIXELS_MAX = 50_000_000  # width x height
