"""Tests for `p2pshare.storage.file_times`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.file_times import COARSE_TICK, TICK, is_settled, may_repeat, wire_time
from p2pshare.wire.transfer_messages import NANOSECONDS, TIME_MAX


class WireTimeTests(SynchronousTestCase):
    def test_exact(self) -> None:
        """Times go over the wire to the nanosecond, of any year that a file system knows."""
        year_2300, year_1650 = 10_413_792_000_123_456_789, -10_098_172_800_000_000_001
        for each in (0, 1999, -1, year_2300, year_1650):
            self.assertEqual(wire_time(each), each)

    def test_bounds(self) -> None:
        """Threat 7: a time outside the bounds of messages becomes the nearest bound."""
        for sign in (1, -1):
            self.assertEqual(wire_time(sign * 2**90), sign * TIME_MAX * NANOSECONDS)


class SettledTests(SynchronousTestCase):
    def test_within_a_tick(self) -> None:
        """Within the tick of a change another one may hide, also if the clock was set back."""
        for now, settled in ((1, False), (1 + TICK, False), (2 + TICK, True), (-TICK * 10, False)):
            self.assertIs(is_settled(1, now), settled)

    def test_coarse(self) -> None:
        """A time of whole seconds may come from a file system with coarse times."""
        for now, settled in ((COARSE_TICK, False), (COARSE_TICK + 1, True)):
            self.assertIs(is_settled(0, now), settled)


class RepeatTests(SynchronousTestCase):
    def test_tick(self) -> None:
        """A change can bear the same time as the last one within a tick, and not while that time lies ahead."""
        for time, now, may in (
            (1, 1, True),
            (1, 1 + TICK, True),
            (1, 2 + TICK, False),
            (0, COARSE_TICK, True),
            (0, COARSE_TICK + 1, False),
            (1 + 2 * TICK, 0, False),
        ):
            self.assertIs(may_repeat(time, now), may)
