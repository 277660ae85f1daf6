"""The clock that a process's timers follow."""

from __future__ import annotations

import time
from typing import Any


def make_monotonic(reactor: Any) -> None:
    """Let a reactor's timers follow a clock that nobody can set, those that are already running too.

    By itself Twisted measures time with the wall clock: where that is set back by a year, nothing happens for a year,
    and where it is set forward, every deadline passes at once. From here on `reactor.seconds()` is no date.
    """
    now = reactor.seconds()
    left = [(call, call.getTime() - now) for call in reactor.getDelayedCalls()]
    reactor.seconds = time.monotonic
    for call, seconds in left:
        call.seconds = time.monotonic
        call.reset(max(seconds, 0))
