"""A timer for what is put off all the time: a deadline that every byte moves costs nothing while it moves away."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class LazyTimer:
    """Rings once something is due, and often too early: it is never set to a later time before it has rung."""

    def __init__(self, clock: IReactorTime, ring: Callable[[], object]) -> None:
        """Call `ring`, which looks at what time it is, and sets the timer again."""
        self._clock = clock
        self._ring = ring
        self._call: IDelayedCall | None = None
        self._due = 0.0

    def set(self, due: float | None) -> None:
        """Ring at `due`, by the clock, or before; None is nothing new."""
        if due is None:
            return
        if self._call is not None and self._due <= due:
            return
        self._due = due
        delay = max(0.0, due - self._clock.seconds())
        if self._call is None:
            self._call = self._clock.callLater(delay, self._rung)
        else:
            self._call.reset(delay)

    def cancel(self) -> None:
        """Do not ring."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _rung(self) -> None:
        self._call = None
        self._ring()
