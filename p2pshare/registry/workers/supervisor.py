"""The worker processes of a registry: started together, restarted when they end, and stopped with the registry."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import mark_process_dead
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from p2pshare.errors import CannotStart, FolderUnusable, P2pshareError
from p2pshare.net.child_process import Program, SupervisedProcess
from p2pshare.net.logs import Line
from p2pshare.registry.api.metrics import FOLDER_VARIABLE
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.registry.listening import Ports
from p2pshare.registry.workers.reports import Order, Report
from p2pshare.storage.os_errors import plain_reason

STOP_TIMEOUT = 0.5  # seconds from SIGTERM to SIGKILL: the registry's Redis has to end after them
METRICS_NAME = "metrics"
"""The folder in which workers count for the metrics; it is emptied at the start."""
MODULE = "p2pshare.registry.workers.worker"


class Workers:
    """Serves by several processes that share the ports.

    Before they start, this process listens itself, and shares with nobody. So another registry, which could share a
    port by accident, is noticed, and so is everything that would keep every worker from starting.
    """

    def __init__(self, reactor: Any, settings: RegistrySettings, count: int) -> None:
        """Prepare `count` workers; `reactor` starts processes."""
        self.site = self.metrics_site = _Nobody()
        self._reactor = reactor
        self._settings = settings
        self._count = count
        self._folder = settings.data / METRICS_NAME
        self._workers = MultiService()
        self._stopped = False

    def start(self, ports: Ports) -> Deferred[None]:
        """Close the ports and start the workers, which open them.

        The Deferred fires when all of them listen and have reached the store for the first time. It fails with the
        `P2pshareError` that keeps one of them from that.
        """
        return Deferred.fromCoroutine(self._start(ports))

    async def _start(self, ports: Ports) -> None:
        (listen, metrics), stun = ports.numbered(), ports.stun.places
        await ports.close()
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(mode=0o700)
        except OSError as error:
            raise FolderUnusable(path=self._folder, reason=plain_reason(error)) from error
        if self._stopped:
            return
        orders = [
            Order(number, self._settings, listen, metrics, stun)
            for number in range(1, self._count + 1)
        ]
        workers = [_Worker(self._reactor, order, self._folder) for order in orders]
        ready = gatherResults([worker.ready for worker in workers], consumeErrors=True)
        for worker in workers:
            worker.setServiceParent(self._workers)
        self._workers.startService()
        try:
            await ready
        except FirstError as error:
            error.subFailure.raiseException()

    async def stop(self) -> None:
        """End the workers; return when they are gone."""
        self._stopped = True
        await self._workers.stopService()


class _Nobody(Factory):
    """Accepts no connection."""

    noisy = False

    def buildProtocol(self, addr: object) -> None:
        return None


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
            self._reported(report.error)
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

    def _reported(self, error: P2pshareError | None) -> None:
        if not self.ready.called:
            self.ready.callback(None if error is None else Failure(error))
        elif error is None:
            self._log.info("worker ready again: worker={worker}", worker=self._number)
        else:
            self._log.error(
                "worker failed: worker={worker} reason={error!s}", worker=self._number, error=error
            )
