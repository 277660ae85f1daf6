"""One of several processes that serve a registry together; `p2pshare.registry.workers.supervisor` starts it.

It reads its order from standard input, which stays open for as long as its parent lives, and writes its reports and
its log to standard output.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any, TextIO

from prometheus_client import values
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare.errors import P2pshareError
from p2pshare.net.clocks import make_monotonic
from p2pshare.net.logs import JSON, log_observer
from p2pshare.net.shutdown import BoundedShutdown
from p2pshare.registry.listening import Place, SharedPorts
from p2pshare.registry.workers.reports import FAILED, READY, Order, Report

SHUTDOWN_MAX = 0.45  # seconds: its parent has to end, too
ORDER_MAX = 1 << 20  # bytes
STDIN = 0


def main() -> None:
    """Serve until SIGTERM, or until the parent is gone."""
    order = Order.from_line(_read_line(STDIN))
    # What is counted goes on with the next process of this number, so that it never gets less.
    values.ValueClass = values.MultiProcessValue(lambda: order.number)
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what prints something does not spoil a report
    observer = log_observer(reports, JSON)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)
    from twisted.internet import reactor

    serve(reactor, order, reports)


def serve(reactor: Any, order: Order, reports: TextIO) -> None:
    """Run the reactor until the worker has to end."""
    from p2pshare.registry.assembly import assemble, registry_key

    make_monotonic(reactor)

    def report(report: Report) -> None:
        reports.write(f"{report.to_line()}\n")
        reports.flush()

    shutdown: MultiService = BoundedShutdown(reactor, SHUTDOWN_MAX)
    try:
        key = registry_key(order.settings.data)
        registry = assemble(order.settings, key, reactor, time.time)
        ports = [
            Place.of(SharedPorts(reactor, port), each, source).listen(site)
            for source, site, listen in (
                ("--listen", registry.site, order.listen),
                ("--metrics", registry.metrics_site, order.metrics),
            )
            for each, port in listen
        ]
        front = _Front(registry, ports)
    except P2pshareError as error:
        report(Report(FAILED, error))
        return
    front.setServiceParent(shutdown)
    reactor.addSystemEventTrigger("before", "shutdown", shutdown.stopService)
    reactor.addReader(_Parent(reactor))
    shutdown.startService()

    def failed(failure: Failure) -> None:
        if isinstance(failure.value, P2pshareError):
            report(Report(FAILED, failure.value))
        else:
            Logger().failure("a worker could not start", failure)
        reactor.callWhenRunning(stop, reactor)

    front.started.addCallbacks(lambda _none: report(Report(READY)), failed)
    # Our own handler: the reactor's would complain if it stops already, since our parent has closed our input.
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(stop, reactor))
    reactor.run(installSignalHandlers=False)


def stop(reactor: Any) -> None:
    """Stop the reactor, unless somebody else has."""
    with suppress(ReactorNotRunning):
        reactor.stop()


class _Front(Service):
    """The registry behind its ports."""

    def __init__(self, registry: Any, ports: list[IListeningPort]) -> None:
        self._registry = registry
        self._ports = ports
        self.started: Deferred[None] = Deferred()

    def startService(self) -> None:
        super().startService()
        self._registry.start().chainDeferred(self.started)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await gatherResults([maybeDeferred(port.stopListening) for port in self._ports])
        await self._registry.stop()


@implementer(IReadDescriptor)
class _Parent:
    """Standard input: its end is the parent's."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def fileno(self) -> int:
        return STDIN

    def doRead(self) -> None:  # noqa: N802 - IReadDescriptor
        if not os.read(STDIN, 4096):
            self._reactor.removeReader(self)
            stop(self._reactor)

    def connectionLost(self, reason: Failure) -> None:
        pass

    def logPrefix(self) -> str:  # noqa: N802 - ILoggingContext
        return "parent"


def _read_line(fd: int) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < ORDER_MAX:
        data = os.read(fd, 4096)
        if not data:
            sys.exit(1)  # the parent died at once
        line += data
    return line


if __name__ == "__main__":
    main()
