"""Pictures in memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""A picture: shape (height, width, 3), red, green and blue."""

PIXELS_MAX = 50_000_000  # width x height; a larger picture is refused before memory is taken
