"""Tests for `p2pshare.storage.file_times`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.file_times import COARSE_TICK, TICK, is_settled, wire_time
from p2pshare.wire.transfer_messages import TIME_MAX


class WireTimeTests(SynchronousTestCase):
    def test_microseconds(self) -> None:
        """Times are rounded down, before 1970 as well."""
        self.assertEqual([wire_time(each) for each in (0, 1999, -1)], [0, 1, -1])

    def test_bounds(self) -> None:
        """Threat 7: a time that no message can say is said as the last one that can be."""
        for sign in (1, -1):
            self.assertEqual(wire_time(sign * 2**63), sign * TIME_MAX)


class SettledTests(SynchronousTestCase):
    def test_within_a_tick(self) -> None:
        """Within the tick of a change another one may hide, also if the clock was set back."""
        for now, settled in ((1, False), (1 + TICK, False), (2 + TICK, True), (-TICK * 10, False)):
            self.assertIs(is_settled(1, now), settled)

    def test_coarse(self) -> None:
        """A time of whole seconds may be one of a file system that knows nothing finer."""
        for now, settled in ((COARSE_TICK, False), (COARSE_TICK + 1, True)):
            self.assertIs(is_settled(0, now), settled)
