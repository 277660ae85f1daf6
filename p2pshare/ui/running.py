"""Runs a coroutine on a reactor until it ends, or a signal ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure

from p2pshare.net.process_end import END_MAX, SIGNALS

GRACE = END_MAX - 0.1  # seconds from a signal to the end, for cleaning up


class IRunningReactor(IReactorCore, IReactorTime, IReactorFromThreads):
    """The interfaces of a reactor that are used here."""


class Stopped(Exception):  # noqa: N818 - it is not an error
    """A signal has ended the work."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(number)


def run_to_end(
    reactor: IRunningReactor,
    work: Callable[[], Coroutine[Any, Any, int]],
    on_running: Callable[[], object] = lambda: None,
) -> int:
    """Run the reactor until `work()` has ended, and return its result or raise its exception.

    A signal cancels the work, which then has `GRACE` seconds for its `finally` clauses. A second signal ends it at
    once, except SIGHUP: a closed terminal is reported by the system, by the shell, and by the program that had it open.

    The threads of the reactor's pool are not waited for, so the process must end by `end_process`.

    Args:
        reactor: is started.
        work: starts when the reactor runs.
        on_running: is called when the reactor has installed its signal handlers.

    Raises:
        Stopped: a signal has ended the work.
    """
    running: Deferred[int] | None = None
    stopped: Stopped | None = None
    outcomes: list[int | Failure] = []

    def stop() -> None:
        if reactor.running:
            reactor.crash()  # unlike `stop`, it does not wait for threads

    def interrupt(number: int) -> None:
        nonlocal stopped
        if stopped is None and running is not None:
            stopped = Stopped(number)
            reactor.callLater(GRACE, stop)
            running.cancel()
        elif number != signal.SIGHUP:
            stop()

    def signalled(number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(interrupt, number)

    def start() -> None:
        nonlocal running
        for number in signals:
            signal.signal(number, signalled)
        on_running()
        running = Deferred.fromCoroutine(work())
        running.addBoth(outcomes.append).addCallback(lambda _: stop())

    # A signal that is ignored at the start (nohup, a background job) stays ignored.
    signals = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    # The reactor installs its own handlers when it starts, so these have to follow.
    reactor.callWhenRunning(start)
    reactor.run()
    if stopped is not None:
        raise stopped
    (outcome,) = outcomes
    if isinstance(outcome, Failure):
        outcome.raiseException()
    assert isinstance(outcome, int)
    return outcome
