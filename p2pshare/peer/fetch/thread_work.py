"""Work of a job in threads, all of which can be waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads

from p2pshare.net.threads import run_in_thread

T = TypeVar("T")


class ThreadWork:
    """Knows of all that is in threads, whether or not somebody still waits for what comes of it."""

    def __init__(self, reactor: IReactorThreads) -> None:
        self._reactor = reactor
        self._busy = 0
        self._waiting: list[Deferred[None]] = []

    def run(self, work: Callable[..., T], *args: object) -> Deferred[T]:
        """Call `work(*args)`, which may block, in a thread."""
        self._busy += 1

        outcome: Deferred[T] = Deferred()

        def done(_: object) -> None:
            self._busy -= 1
            if not self._busy:
                waiting, self._waiting = self._waiting, []
                for each in waiting:
                    each.callback(None)

        run_in_thread(self._reactor, work, *args).addCallbacks(
            lambda value: None if outcome.called else outcome.callback(value),
            lambda failure: None if outcome.called else outcome.errback(failure),
        ).addBoth(done)
        return outcome

    async def idle(self) -> None:
        """Return once nothing is in a thread."""
        if self._busy:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
