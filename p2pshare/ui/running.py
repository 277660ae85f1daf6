"""A coroutine run to its end on a reactor, unless a signal ends it before."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure

from p2pshare.net.process_end import END_MAX, SIGNALS

GRACE = END_MAX - 0.1  # seconds from a signal to the end, in which things are put in order


class IRunningReactor(IReactorCore, IReactorTime, IReactorFromThreads):
    """All that is needed of a reactor to run on it."""


class Stopped(Exception):  # noqa: N818 - it is no error
    """A signal ended the work."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(number)


def run_to_end(
    reactor: IRunningReactor,
    work: Callable[[], Coroutine[Any, Any, int]],
    on_running: Callable[[], object] = lambda: None,
) -> int:
    """Run the reactor until `work()` is over, and return its result or raise its exception.

    A signal cancels the work, which has `GRACE` seconds for its `finally` clauses; a second one
    waits no longer, unless it says that the terminal was closed: one closed terminal is told of by the
    system, by the shell, and by who had it open.

    The threads of the reactor's pool are left alone at the end, as one may wait for an answer that nobody needs any
    more: the process must end by `end_process`.

    Args:
        reactor: to run.
        work: is begun when the reactor runs.
        on_running: is called once the reactor has installed its handlers of signals.

    Raises:
        Stopped: there was a signal.
    """
    run = _Run(reactor, work, on_running)
    # Who started us with a signal ignored (nohup, a shell's background) wants it ignored.
    signals = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    # The reactor installs its own handlers when it starts, so ours come after.
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
            self._reactor.crash()  # unlike `stop` it does not wait for threads
