"""The next deadlines of many connections.

They are kept in a heap. A deadline changes with almost every packet of its connection, and to remove the old entry from
a heap would take a search. So it stays, but its number is forgotten, and entries of unknown numbers are skipped. When
most entries are outdated, the heap is built anew.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, TypeVar

SPARE = 64  # entries that may be outdated, besides as many as there are deadlines

T = TypeVar("T")


class Deadlines(Generic[T]):
    """A deadline for each of some keys. Times are in seconds."""

    def __init__(self) -> None:
        self._entries: dict[T, tuple[float, int]] = {}  # the one in the heap that counts
        self._keys: dict[int, T] = {}  # by the number of the entry
        self._heap: list[tuple[float, int]] = []  # deadline and number of each entry
        self._numbers = count()

    def __len__(self) -> int:
        """Return how many keys have a deadline."""
        return len(self._keys)

    def set(self, key: T, due: float | None) -> None:
        """Set the deadline of a key; None: it has none."""
        before = self._entries.pop(key, None)
        if before is not None and before[0] == due:
            self._entries[key] = before
            return
        if before is not None:
            del self._keys[before[1]]
        if due is not None:
            entry = self._entries[key] = due, next(self._numbers)
            self._keys[entry[1]] = key
            heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._keys) + SPARE:
            self._heap = [each for each in self._heap if each[1] in self._keys]
            heapq.heapify(self._heap)

    @property
    def first(self) -> float | None:
        """The earliest deadline; None if there is none."""
        heap = self._heap
        while heap and heap[0][1] not in self._keys:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take(self, now: float) -> list[T]:
        """Remove all deadlines until `now`, and return their keys, the earliest first."""
        taken = []
        while (due := self.first) is not None and due <= now:
            key = self._keys[self._heap[0][1]]
            self.set(key, None)
            taken.append(key)
        return taken
