"""Tests for `p2pshare.net.lazy_timer`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net.lazy_timer import LazyTimer


class LazyTimerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.rung: list[float] = []
        self.timer = LazyTimer(self.clock, lambda: self.rung.append(self.clock.seconds()))

    def test_later(self) -> None:
        """What is put off rings at the time that was set first: one timer is all that it costs."""
        self.timer.set(5.0)
        for due in (6.0, 7.0, None, 100.0):
            self.timer.set(due)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(5.0)
        self.assertEqual((self.rung, self.clock.getDelayedCalls()), ([5.0], []))

    def test_earlier(self) -> None:
        """What is due sooner rings in time, and what is overdue at once."""
        self.timer.set(5.0)
        self.timer.set(3.0)
        self.clock.pump([2.0, 1.0])
        self.assertEqual(self.rung, [3.0])
        self.timer.set(1.0)
        self.clock.advance(0)
        self.assertEqual(self.rung, [3.0, 3.0])

    def test_cancel(self) -> None:
        """One that is cancelled does not ring, and can be set again."""
        self.timer.set(5.0)
        self.timer.cancel()
        self.timer.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.timer.set(6.0)
        self.clock.advance(6.0)
        self.assertEqual(self.rung, [6.0])
