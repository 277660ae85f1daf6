"""Waits for the end of an offer, which its events tell, or which comes when nothing happens for long enough."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

LOOK_EVERY = 1.0  # seconds between two checks whether to go on waiting


async def until_over(
    clock: IReactorTime, following: Coroutine[Any, Any, None], can_end: Callable[[], bool]
) -> None:
    """Return when `following` has ended, or when `can_end` says so, which is asked each `LOOK_EVERY`.

    Raises:
        Exception: what `following` raises.
    """
    over: Deferred[None] = Deferred()

    def end(_: object = None) -> None:
        if not over.called:
            over.callback(None)

    def fail(failure: Failure) -> None:
        if not failure.check(CancelledError) and not over.called:
            over.errback(failure)

    running = Deferred.fromCoroutine(following)
    running.addCallbacks(end, fail)
    looking = LoopingCall(lambda: end() if can_end() else None)
    looking.clock = clock
    looking.start(LOOK_EVERY, now=False).addErrback(fail)
    try:
        await over
    finally:
        running.cancel()
        if looking.running:
            looking.stop()
