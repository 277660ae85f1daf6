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
    run = _Run(reactor, work, on_running)
    # A signal that is ignored at the start (nohup, a background job) stays ignored.
    signals = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    # The reactor installs its own handlers when it starts, so these have to follow.
    reactor.callWhenRunning(run.start, signals)
    reactor.run()
    return run.result()


class _Run:
    def __init__(
        self,
        reactor: IRunningReactor,
        work: Callable[[], Coroutine[Any, Any, int]],
        on_running: Callable[[], object],
    ) -> None:
        self._reactor = reactor
        self._work = work
        self._on_running = on_running
        self._running: Deferred[int] | None = None
        self._signal: int | None = None
        self._outcome: int | Failure | None = None

    def start(self, signals: list[signal.Signals]) -> None:
        for number in signals:
            signal.signal(number, self._signalled)
        self._on_running()
        self._running = Deferred.fromCoroutine(self._work())
        self._running.addBoth(self._ended)

    def result(self) -> int:
        if self._signal is not None:
            raise Stopped(self._signal)
        if isinstance(self._outcome, Failure):
            self._outcome.raiseException()
        assert isinstance(self._outcome, int)
        return self._outcome

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._interrupt, number)

    def _interrupt(self, number: int) -> None:
        if self._signal is not None or self._running is None:
            if number != signal.SIGHUP:
                self._stop()
            return
        self._signal = number
        self._reactor.callLater(GRACE, self._stop)
        self._running.cancel()

    def _ended(self, outcome: int | Failure) -> None:
        self._outcome = outcome
        self._stop()

    def _stop(self) -> None:
        if self._reactor.running:
            self._reactor.crash()  # unlike `stop`, it does not wait for threads
