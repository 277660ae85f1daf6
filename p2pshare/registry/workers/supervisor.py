"""The worker processes of a registry: started together, restarted when they end, and stopped with the registry."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import mark_process_dead
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from p2pshare.errors import CannotStart, FolderUnusable
from p2pshare.net.child_process import Program, SupervisedProcess
from p2pshare.net.logs import Line
from p2pshare.registry.api.metrics import FOLDER_VARIABLE
from p2pshare.registry.workers.reports import READY, Order, Report
from p2pshare.storage.reasons import plain_reason

STOP_TIMEOUT = 0.5  # seconds from SIGTERM to SIGKILL: the registry's Redis has to end after them
MODULE = "p2pshare.registry.workers.worker"


class Workers(MultiService):
    """Runs a worker for each order."""

    def __init__(self, reactor: Any, orders: Callable[[], Sequence[Order]], folder: Path) -> None:
        """Prepare them.

        Args:
            reactor: starts processes.
            orders: called at the start.
            folder: in which they count for the metrics; it is emptied at the start.
        """
        super().__init__()
        self._reactor = reactor
        self._orders = orders
        self._folder = folder
        self.ready: Deferred[None] = Deferred()
        """Fires when all of them listen and have reached the store for the first time."""
        self.lost: Deferred[None] = Deferred()
        """Fails with the `P2pshareError` that keeps one of them from starting."""

    def startService(self) -> None:
        """Start them all."""
        super().startService()
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(mode=0o700)
        except OSError as error:
            self.lost.errback(FolderUnusable(path=self._folder, reason=plain_reason(error)))
            return
        workers = [_Worker(self._reactor, order, self._folder) for order in self._orders()]
        ready = [worker.ready.addErrback(self._failed) for worker in workers]
        gatherResults(ready).addCallback(lambda _: self.ready.callback(None))
        for worker in workers:
            worker.setServiceParent(self)

    def _failed(self, failure: Failure) -> Deferred[None]:
        if self.running and not self.lost.called:
            self.lost.errback(failure)
        return Deferred()  # so `ready` never fires


class _Worker(SupervisedProcess):
    """One of them."""

    def __init__(self, reactor: Any, order: Order, folder: Path) -> None:
        program = Program(
            [sys.executable, "-m", MODULE],
            environ={**os.environ, FOLDER_VARIABLE: os.fspath(folder)},
            order=order.to_line(),
        )
        super().__init__(reactor, f"worker {order.number}", program, STOP_TIMEOUT)
        self._number = order.number
        self._folder = folder
        self.ready: Deferred[None] = Deferred()
        """Fires at the first report that it is ready. Fails with the `P2pshareError` that keeps it from that."""

    def startService(self) -> None:
        super().startService()
        self.start_program()

    def line_received(self, line: str) -> None:
        """Take a report, or pass a line of its log on to this process's log. Anything else is logged as it is."""
        report = Report.from_line(line)
        if report is not None:
            self._reported(report)
            return
        try:
            Line.from_json(line).emit(worker=self._number)
        except ValueError:
            self.last_line = line
            self._log.warn(
                "worker output: worker={worker} line={line}", worker=self._number, line=line
            )

    def program_ended(self, reason: str) -> bool:
        """Restart it, unless it has never been ready: then the registry cannot start."""
        mark_process_dead(self._number, os.fspath(self._folder))  # it has no open connections now
        if self.ready.called:
            return True
        why = f"a worker has ended at once ({self.last_line or reason})"
        self.ready.errback(CannotStart(what="The registry", reason=why))
        return False

    def _reported(self, report: Report) -> None:
        if not self.ready.called:
            if report.state == READY:
                self.ready.callback(None)
            else:
                self.ready.errback(report.error)
        elif report.state == READY:
            self._log.info("worker ready again: worker={worker}", worker=self._number)
        else:
            self._log.error(
                "worker failed: worker={worker} reason={error!s}",
                worker=self._number,
                error=report.error,
            )
