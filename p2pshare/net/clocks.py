"""The clock that a process's timers follow, and a timer for deadlines that move all the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime


def make_monotonic(reactor: Any) -> None:
    """Let a reactor's timers, running ones included, follow a clock that nobody can set.

    By itself Twisted measures time with the wall clock: if that is set back by a year, nothing happens for a year, and
    if it is set forward, every deadline passes at once. From here on `reactor.seconds()` is not a date.
    """
    now = reactor.seconds()
    remaining = [(call, call.getTime() - now) for call in reactor.getDelayedCalls()]
    reactor.seconds = time.monotonic
    for call, seconds in remaining:
        call.seconds = time.monotonic
        call.reset(max(seconds, 0))


class LazyTimer:
    """Runs when something is due, and often too early: a deadline that every byte moves away costs nothing."""

    def __init__(self, clock: IReactorTime, run: Callable[[], object]) -> None:
        """Call `run`, which looks at the time and sets the timer again."""
        self._clock = clock
        self._run = run
        self._call: IDelayedCall | None = None
        self._due = 0.0

    def set(self, due: float | None) -> None:
        """Run at `due` by the clock, or before; None changes nothing."""
        if due is None or (self._call is not None and self._due <= due):
            return
        self._due = due
        delay = max(0.0, due - self._clock.seconds())
        if self._call is None:
            self._call = self._clock.callLater(delay, self._is_due)
        else:
            self._call.reset(delay)

    def cancel(self) -> None:
        """Do not run."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _is_due(self) -> None:
        self._call = None
        self._run()
