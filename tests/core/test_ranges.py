"""Sets of ranges, against sets of numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.ranges import RangeSet

NUMBERS = st.integers(-3, 40)
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "remove"]), NUMBERS, NUMBERS), max_size=30
)


def numbers(ranges: RangeSet) -> set[int]:
    return {number for first, end in ranges for number in range(first, end)}


class RangeSetTests(SynchronousTestCase):
    @given(STEPS, NUMBERS, NUMBERS)
    def test_model(self, steps: list[tuple[str, int, int]], first: int, end: int) -> None:
        """After any additions and removals the set has the same members as a set of integers."""
        ranges, model = RangeSet(), set[int]()
        for what, low, high in steps:
            touched = set(range(low, high))
            if what == "add":
                self.assertEqual(ranges.add(low, high), len(touched - model))
                model |= touched
            else:
                self.assertEqual(ranges.remove(low, high), len(touched & model))
                model -= touched
            self.assertEqual(numbers(ranges), model)
            self.assertEqual(ranges.total, len(model))
        self.assertEqual([each for each in range(-5, 45) if each in ranges], sorted(model))
        missing = list(ranges.missing(first, end))
        wanted = set(range(first, end)) - model
        self.assertEqual({each for pair in missing for each in range(*pair)}, wanted)
        for pairs in (list(ranges), missing):
            self.assertTrue(all(low < high for low, high in pairs), pairs)
            self.assertTrue(all(one[1] < two[0] for one, two in pairwise(pairs)), pairs)
        self.assertEqual(list(reversed(ranges)), list(ranges)[::-1])
        self.assertEqual(len(ranges), len(list(ranges)))
        if model:
            self.assertEqual((ranges.first, ranges.last), (min(model), max(model)))

    def test_huge(self) -> None:
        """The size of the numbers costs nothing."""
        ranges = RangeSet([(0, 2**63), (2**63 + 1, 2**64)])
        self.assertEqual(ranges.remove(5, 2**64 - 1), 2**64 - 7)
        self.assertEqual(list(ranges), [(0, 5), (2**64 - 1, 2**64)])
        self.assertEqual(list(ranges.missing(0, 2**70)), [(5, 2**64 - 1), (2**64, 2**70)])

    def test_empty(self) -> None:
        """An empty set is false, misses everything, and has no first or last number."""
        ranges = RangeSet()
        self.assertFalse(ranges)
        self.assertEqual(list(ranges.missing(3, 9)), [(3, 9)])
        with self.assertRaises(ValueError):
            _ = ranges.first
        with self.assertRaises(ValueError):
            _ = ranges.last
