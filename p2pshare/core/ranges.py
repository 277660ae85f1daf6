"""Sets of integers that are mostly consecutive: packet numbers, offsets of bytes, numbers of blocks.

A set is kept as the sorted list of its edges: the first number of a range, the number behind its last, the first of the
next range, and so on. Two ranges never touch, so all edges differ. A number lies in the set if an odd number of edges
is not above it. That one fact decides every operation: a bisection gives the number of edges, and its parity tells
whether a boundary falls into a range or between two.

The time of an operation is that of a bisection plus the ranges that it touches, whatever the numbers are. The set has
no bound of its own: the caller bounds `len`, which is the memory.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
"""The first number of a range, and the number behind its last."""


class RangeSet:
    """A set of integers, kept as half-open ranges."""

    __slots__ = ("_edges", "_total")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        """Begin with the union of `ranges`, which may be in any order."""
        self._edges: list[int] = []
        self._total = 0
        for first, end in ranges:
            self.add(first, end)

    @property
    def total(self) -> int:
        """Return how many numbers are in the set."""
        return self._total

    @property
    def first(self) -> int:
        """Return the smallest number; ValueError if the set is empty."""
        if not self._edges:
            raise ValueError("an empty set has no first number")
        return self._edges[0]

    @property
    def last(self) -> int:
        """Return the largest number; ValueError if the set is empty."""
        if not self._edges:
            raise ValueError("an empty set has no last number")
        return self._edges[-1] - 1

    def add(self, first: int, end: int) -> int:
        """Add the numbers from `first` to below `end`, and return how many of them are new."""
        if first >= end:
            return 0
        edges = self._edges
        if edges and first == edges[-1]:  # in order, as most arrive
            edges[-1] = end
            self._total += end - first
            return end - first
        low, high = bisect_left(edges, first), bisect_right(edges, end)
        new = end - first - self._covered(first, end, low, high)
        edges[low:high] = [first] * (low % 2 == 0) + [end] * (high % 2 == 0)
        self._total += new
        return new

    def remove(self, first: int, end: int) -> int:
        """Remove the numbers from `first` to below `end`, and return how many of them were in the set."""
        if first >= end:
            return 0
        edges = self._edges
        low, high = bisect_left(edges, first), bisect_right(edges, end)
        gone = self._covered(first, end, low, high)
        edges[low:high] = [first] * (low % 2) + [end] * (high % 2)
        self._total -= gone
        return gone

    def missing(self, first: int, end: int) -> Iterator[Range]:
        """Yield the ranges from `first` to below `end` that are not in the set, ascending."""
        if first >= end:
            return
        edges = self._edges
        low, high = bisect_right(edges, first), bisect_left(edges, end)
        gaps = [first] * (low % 2 == 0) + edges[low:high] + [end] * (high % 2 == 0)
        yield from zip(gaps[::2], gaps[1::2], strict=True)

    def __contains__(self, number: int) -> bool:
        """Return whether `number` is in the set."""
        return bisect_right(self._edges, number) % 2 == 1

    def __iter__(self) -> Iterator[Range]:
        """Iterate over the ranges, ascending. The set must not change meanwhile."""
        edges = iter(self._edges)
        return zip(edges, edges, strict=True)

    def __reversed__(self) -> Iterator[Range]:
        """Iterate over the ranges, descending. The set may change meanwhile."""
        return zip(self._edges[-2::-2], self._edges[::-2], strict=True)

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self._edges) // 2

    def __repr__(self) -> str:
        """Return the set as an expression."""
        return f"RangeSet({list(self)})"

    def _covered(self, first: int, end: int, low: int, high: int) -> int:
        """Return how many numbers from `first` to below `end` are in the set; the edges between are `low` to `high`."""
        edges = self._edges[low:high]
        inside = sum(edges[1 - low % 2 :: 2]) - sum(edges[low % 2 :: 2])
        return inside - first * (low % 2) + end * (high % 2)
