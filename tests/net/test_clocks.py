"""Tests of `p2pshare.net.clocks`."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import patch

from twisted.internet.base import ReactorBase
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net.clocks import LazyTimer, make_monotonic

YEAR = 365 * 24 * 3600.0  # seconds


class Reactor(ReactorBase):
    """A reactor with timers only."""

    def __init__(self) -> None:
        self._timers: Any
        super().__init__()

    def installWaker(self) -> None:  # noqa: N802 - the base class calls it
        """Do nothing: there are no threads."""


class MonotonicTests(SynchronousTestCase):
    """Threat 38: setting the machine's clock neither hurries nor stops a timer."""

    def setUp(self) -> None:
        self.monotonic = 1000.0
        self.wall = time.time()
        self.fired: list[str] = []
        self.reactor: Any = Reactor()
        self.reactor.seconds = lambda: self.wall
        patched = patch("p2pshare.net.clocks.time.monotonic", lambda: self.monotonic)
        patched.start()
        self.addCleanup(patched.stop)

    def pass_time(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds
        self.reactor.runUntilCurrent()

    def test_wall_clock_jumps(self) -> None:
        """A timer runs on time although the wall clock is set a year forward or back (threat 38)."""
        make_monotonic(self.reactor)
        for jump in (YEAR, -YEAR):
            self.fired.clear()
            self.reactor.callLater(10, self.fired.append, "timer")
            self.wall += jump
            self.pass_time(9)
            self.assertEqual(self.fired, [])
            self.assertAlmostEqual(self.reactor.timeout(), 1)
            self.pass_time(2)
            self.assertEqual(self.fired, ["timer"])

    def test_timers_under_way(self) -> None:
        """Running timers keep their remaining time and order, and can be reset."""
        self.reactor.callLater(10, self.fired.append, "second")
        self.reactor.callLater(5, self.fired.append, "first")
        third = self.reactor.callLater(5, self.fired.append, "third")
        self.wall += 8
        make_monotonic(self.reactor)
        third.reset(20)
        self.pass_time(0)
        self.assertEqual(self.fired, ["first"])
        self.pass_time(1)
        self.assertEqual(self.fired, ["first"])
        self.pass_time(1.5)
        self.assertEqual(self.fired, ["first", "second"])
        self.pass_time(20)
        self.assertEqual(self.fired, ["first", "second", "third"])

    def test_twice(self) -> None:
        """A second call changes nothing."""
        make_monotonic(self.reactor)
        self.reactor.callLater(10, self.fired.append, "timer")
        make_monotonic(self.reactor)
        self.pass_time(9)
        self.assertEqual(self.fired, [])
        self.pass_time(1.5)
        self.assertEqual(self.fired, ["timer"])


class LazyTimerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.runs: list[float] = []
        self.timer = LazyTimer(self.clock, lambda: self.runs.append(self.clock.seconds()))

    def test_later(self) -> None:
        """A deadline that moves away runs at the first time that was set, with one delayed call."""
        self.timer.set(5.0)
        for due in (6.0, 7.0, None, 100.0):
            self.timer.set(due)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(5.0)
        self.assertEqual((self.runs, self.clock.getDelayedCalls()), ([5.0], []))

    def test_earlier(self) -> None:
        """A nearer deadline runs in time, and one in the past at once."""
        self.timer.set(5.0)
        self.timer.set(3.0)
        self.clock.pump([2.0, 1.0])
        self.assertEqual(self.runs, [3.0])
        self.timer.set(1.0)
        self.clock.advance(0)
        self.assertEqual(self.runs, [3.0, 3.0])

    def test_cancel(self) -> None:
        """A cancelled timer does not run, and can be set again."""
        self.timer.set(5.0)
        self.timer.cancel()
        self.timer.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.timer.set(6.0)
        self.clock.advance(6.0)
        self.assertEqual(self.runs, [6.0])
