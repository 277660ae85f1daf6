"""Work that may block, off the reactor's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

T = TypeVar("T")


def run_in_thread(
    reactor: IReactorThreads,
    work: Callable[..., T],
    *args: object,
    abandoned: Callable[[T], object] = lambda _: None,
) -> Deferred[T]:
    """Call `work(*args)`, which may block, in the reactor's thread pool.

    A thread cannot be cancelled. If the Deferred is, nobody gets what the work returns in the end;
    then `abandoned` is called with it, to close or remove it.
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
