"""The rows of a picture that are still to be sent."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt


class RowQueue:
    """Rows that are wanted again first, in the order of the wishes; then those that never went out."""

    def __init__(self, height: int) -> None:
        self.open_to = height
        """Rows from this one on may not go out yet, unless they are wanted again."""
        self._next = 0
        self._wanted: deque[int] = deque()
        self._is_wanted = np.zeros(height, bool)

    def __bool__(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._wanted) or self._next < self.open_to

    def want(self, row: int) -> bool:
        """Put a row in that went out before; whether it was not in already."""
        if row >= self._next or self._is_wanted[row]:
            return False
        self._is_wanted[row] = True
        self._wanted.append(row)
        return True

    def take(self, count: int) -> npt.NDArray[np.intp]:
        """Take out the next rows, `count` at most."""
        again = [self._wanted.popleft() for _ in range(min(count, len(self._wanted)))]
        self._is_wanted[again] = False
        start = self._next
        self._next = max(start, min(self.open_to, start + count - len(again)))
        return np.array([*again, *range(start, self._next)], np.intp)
