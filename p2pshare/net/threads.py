"""Runs work that may block off the reactor's thread, and shares threads fairly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

T = TypeVar("T")


def run_in_thread(
    reactor: IReactorThreads,
    work: Callable[..., T],
    *args: object,
    abandoned: Callable[[T], object] = lambda _: None,
) -> Deferred[T]:
    """Call `work(*args)` in the reactor's thread pool and return its result.

    A thread cannot be cancelled. If the Deferred is, `abandoned` gets the result in the end, to close or remove it.
    """
    result: Deferred[T] = Deferred()

    def done(value: T) -> None:
        if result.called:
            abandoned(value)
        else:
            result.callback(value)

    def failed(failure: Failure) -> None:
        if not result.called:
            result.errback(failure)

    deferToThreadPool(reactor, reactor.getThreadPool(), work, *args).addCallbacks(done, failed)
    return result


class TurnLock(DeferredLock):
    """A lock that the next one gets in a new turn of the reactor.

    `DeferredLock` lets the next one run within `release`. If a hundred of them release at once, their calls nest until
    Python refuses, and nobody releases the lock again.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self._clock = clock

    def release(self) -> None:
        """Let the next one have the lock."""
        if self.waiting:
            self._clock.callLater(0, super().release)
        else:
            super().release()


class FairLimit:
    """Runs up to `total` pieces of work at a time, and up to `per_party` for each party.

    A party takes one of its own places before it queues for a common one. So the common queue, first in first out,
    never holds more than `per_party` pieces of one party. A party that asks for much does not delay the others.
    """

    def __init__(self, total: int, per_party: int) -> None:
        self._all = DeferredSemaphore(total)
        self._per_party = per_party
        self._parties: dict[str, DeferredSemaphore] = {}

    def run(self, party: str, work: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Do `work` for `party` when there is a place, and return its result."""
        own = self._parties.setdefault(party, DeferredSemaphore(self._per_party))

        def forget(result: T | Failure) -> T | Failure:
            if own.tokens == own.limit:
                self._parties.pop(party, None)
            return result

        return own.run(self._all.run, work).addBoth(forget)
