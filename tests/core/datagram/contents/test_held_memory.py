"""Tests of the memory that connections share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.contents.held_memory import SHARE_MIN, HeldMemory

MIB = 1024 * 1024
PIECE = 256 * 1024


class HeldMemoryTests(SynchronousTestCase):
    def test_shares(self) -> None:
        """Threat 44: one connection has the whole limit, two have half of it each, and many have the minimum."""
        memory = HeldMemory(64 * MIB)
        self.assertEqual(memory.share, 64 * MIB)
        memory.changed(0, PIECE)
        self.assertEqual(memory.share, 64 * MIB)
        memory.changed(0, PIECE)
        self.assertEqual(memory.share, 32 * MIB)
        for _ in range(1000):
            memory.changed(0, 1)
        self.assertEqual(memory.share, SHARE_MIN)

    @given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 19), st.booleans()), max_size=200))
    def test_bound(self, count: int, steps: list[tuple[int, bool]]) -> None:
        """Whatever connections hold and release, the sum is bounded, and the minimum is always there."""
        limit, memory = 2 * MIB, HeldMemory(2 * MIB)
        held = [0] * count
        for number, releases in steps:
            each = number % count
            before = held[each]
            if releases:
                held[each] = 0
            elif before < memory.share:
                held[each] += PIECE
            memory.changed(before, held[each])
            self.assertEqual(memory.total, sum(held))
            self.assertLessEqual(memory.total, limit + count * (SHARE_MIN + PIECE))
        for each in held:
            memory.changed(each, 0)
        self.assertEqual((memory.total, memory.share), (0, limit))
