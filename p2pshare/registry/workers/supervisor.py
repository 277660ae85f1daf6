"""The worker processes of a registry: started, watched, started again when they die, and ended with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import mark_process_dead
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.back_off import BackOff
from p2pshare.errors import CannotStart, FolderUnusable
from p2pshare.net.logs import Line
from p2pshare.registry.api.metrics import FOLDER_VARIABLE
from p2pshare.registry.redis import leash
from p2pshare.registry.workers.reports import READY, Order, Report
from p2pshare.storage.reasons import plain_reason

RESTART_FIRST, RESTART_MAX = 0.1, 5.0  # seconds from the death of a worker to the next one
STEADY = 10.0  # seconds of life after which a death counts as the first one
STOP_TIMEOUT = 0.5  # seconds from SIGTERM to SIGKILL: their Redis has to end after them
LINE_MAX = 32 * 1024  # bytes of a line: a log's line has a bound, too

MODULE = "p2pshare.registry.workers.worker"


def worker_command() -> list[str]:
    """The command that becomes a worker, and does not outlive this process."""
    launcher = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid())]
    return [*launcher, sys.executable, "-m", MODULE]


class Workers(Service):
    """Runs a worker for each order."""

    def __init__(
        self,
        reactor: Any,
        orders: Callable[[], Sequence[Order]],
        folder: Path,
        command: Callable[[], Sequence[str]] = worker_command,
    ) -> None:
        """Prepare them; `orders` is called at the start, when what they count begins anew in `folder`."""
        self._reactor = reactor
        self._orders = orders
        self._folder = folder
        self._command = command
        self._runners: list[_Runner] = []
        self.ready: Deferred[None] = Deferred()
        """Fires when all of them listen and have reached the store, for the first time."""
        self.lost: Deferred[None] = Deferred()
        """Fails with the `P2pshareError` that keeps one of them from starting."""

    def startService(self) -> None:
        """Start them all."""
        super().startService()
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(mode=0o700)
        except OSError as error:
            unusable = FolderUnusable(path=self._folder, reason=plain_reason(error))
            self.lost.errback(unusable)
            return
        self._runners = [
            _Runner(self._reactor, each, self._folder, self._command) for each in self._orders()
        ]
        for runner in self._runners:
            runner.ready.addErrback(self._failed)
            runner.start()
        all_ready = gatherResults([runner.ready for runner in self._runners])
        all_ready.addCallback(self._all_are_ready)

    def stopService(self) -> Deferred[Any]:
        """End them: politely first, and in any case soon."""
        super().stopService()
        return gatherResults([runner.stop() for runner in self._runners])

    def _failed(self, failure: Failure) -> Deferred[None]:
        if self.running and not self.lost.called:
            self.lost.errback(failure)
        return Deferred()  # they never will all be ready

    def _all_are_ready(self, _results: object) -> None:
        self.ready.callback(None)


class _Runner:
    """Sees to it that one worker runs."""

    _log = Logger()

    def __init__(
        self, reactor: Any, order: Order, folder: Path, command: Callable[[], Sequence[str]]
    ) -> None:
        self._reactor = reactor
        self._order = order
        self._folder = folder
        self._command = command
        self._child: _Child | None = None
        self._restart: IDelayedCall | None = None
        self._back_off = BackOff(RESTART_FIRST, RESTART_MAX)
        self._running = False
        self.ready: Deferred[None] = Deferred()
        """Fires at its first report, or fails with the `P2pshareError` that it tells, or if it dies before."""

    def start(self) -> None:
        """Start it."""
        self._running = True
        self._spawn()

    def stop(self) -> Deferred[None]:
        """End it."""
        self._running = False
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        over: Deferred[None] = Deferred()
        if self._child is None:
            over.callback(None)
        else:
            self._child.end(over)
        return over

    def _spawn(self) -> None:
        self._restart = None
        child = self._child = _Child(self._reactor, self._order.number, self._reported)
        child.ended.addCallback(self._ended, self._reactor.seconds())
        command = self._command()
        try:
            environ = {**os.environ, FOLDER_VARIABLE: os.fspath(self._folder)}
            self._reactor.spawnProcess(child, command[0], command, env=environ)
        except OSError as error:  # too many processes or open files: it may pass
            child.processEnded(Failure(error))
            return
        child.transport.write(self._order.to_line())

    def _reported(self, report: Report) -> None:
        if report.state == READY:
            if self.ready.called:
                self._log.info("worker {number} is ready again", number=self._order.number)
            else:
                self.ready.callback(None)
        elif report.error is not None:
            if self.ready.called:
                self._log.error(
                    "worker {number} cannot start: {error!s}",
                    number=self._order.number,
                    error=report.error,
                )
            else:
                self.ready.errback(report.error)

    def _ended(self, reason: str, started: float) -> None:
        self._child = None
        mark_process_dead(self._order.number, os.fspath(self._folder))  # it has no connections now
        if not self._running:
            return
        if not self.ready.called:
            self.ready.errback(
                CannotStart(what="The registry", reason=f"a worker has ended at once ({reason})")
            )
            return
        if self._reactor.seconds() - started > STEADY:
            self._back_off.reset()
        delay = self._back_off.next_delay()
        self._log.error(
            "worker {number} has ended ({reason}): starting it again in {delay} s",
            number=self._order.number,
            reason=reason,
            delay=delay,
        )
        self._restart = self._reactor.callLater(delay, self._spawn)


class _Child(ProcessProtocol):
    """One life of a worker."""

    transport: IProcessTransport
    _log = Logger()

    def __init__(
        self, reactor: IReactorTime, number: int, reported: Callable[[Report], None]
    ) -> None:
        self.ended: Deferred[str] = Deferred()
        """Fires with why it has ended."""
        self._reactor = reactor
        self._number = number
        self._reported = reported
        self._said = _Lines(self._hear)
        self._complained = _Lines(self._quote)
        self._last_words = ""

    def end(self, over: Deferred[None]) -> None:
        """Send SIGTERM, and SIGKILL if it is still there after a while; `over` fires when it is gone."""
        self._signal("TERM")
        kill = self._reactor.callLater(STOP_TIMEOUT, self._signal, "KILL")

        def gone(reason: str) -> str:
            if kill.active():
                kill.cancel()
            over.callback(None)
            return reason

        self.ended.addCallback(gone)

    def outReceived(self, data: bytes) -> None:
        """Take what it reports and logs."""
        self._said.add(data)

    def errReceived(self, data: bytes) -> None:
        """Log what Python or a library complains about."""
        self._complained.add(data)

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and its pipes have been read to the end."""
        self._said.end()
        self._complained.end()
        self.ended.callback(self._last_words or _why(reason))

    def _hear(self, line: str) -> None:
        report = Report.from_line(line)
        if report is not None:
            self._reported(report)
            return
        try:
            logged = Line.from_json(line)
        except ValueError:
            self._quote(line)
        else:
            logged.emit(worker=self._number)

    def _quote(self, line: str) -> None:
        self._last_words = line.strip()
        self._log.warn("worker {number}: {line}", number=self._number, line=line)

    def _signal(self, name: str) -> None:
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)


def _why(reason: Failure) -> str:
    number = getattr(reason.value, "signal", None)
    if number is not None:
        return f"by signal {number}"
    code = getattr(reason.value, "exitCode", None)
    return reason.getErrorMessage() if code is None else f"with exit code {code}"


class _Lines:
    """Cuts bytes into whole lines of text; one that is too long is cut short."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Take bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:LINE_MAX]
        for each in lines:
            line = each[:LINE_MAX].decode("utf-8", "replace")
            if line.strip():
                self._take(line)

    def end(self) -> None:
        """There is no more."""
        self.add(b"\n")
