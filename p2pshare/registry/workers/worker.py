"""One of several processes that serve a registry together, started by `p2pshare.registry.workers.supervisor`.

A worker reads its order from standard input, which stays open as long as its parent lives. It writes its reports and
its log to standard output.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from threading import Thread
from typing import Any, TextIO

from prometheus_client import values
from twisted.application.service import MultiService
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from p2pshare.errors import P2pshareError
from p2pshare.net.clocks import make_monotonic
from p2pshare.net.logs import JSON, log_observer
from p2pshare.net.shutdown import BoundedShutdown
from p2pshare.registry.listening import Ports
from p2pshare.registry.stun import StunPorts
from p2pshare.registry.workers.reports import Order, Report
from p2pshare.web.listening import ListeningReactor, Place

SHUTDOWN_MAX = 0.45  # seconds: its parent has to end, too
ORDER_MAX = 1 << 20  # bytes
STDIN = 0


def main() -> None:
    """Serve until SIGTERM, or until the parent is gone."""
    line = sys.stdin.buffer.readline(ORDER_MAX)
    if not line.endswith(b"\n"):
        sys.exit(1)  # the parent is dead already
    order = Order.from_line(line)
    # The next process of this number continues its counters, so that they never decrease.
    values.ValueClass = values.MultiProcessValue(lambda: order.number)
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # so that a library that prints does not damage a report
    observer = log_observer(reports, JSON)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)
    from twisted.internet import reactor

    serve(reactor, order, reports)


def serve(reactor: Any, order: Order, reports: TextIO) -> None:
    """Run the reactor until the worker has to end."""
    from p2pshare.registry.assembly import Registry, make_store, registry_key
    from p2pshare.registry.service import RegistryService

    make_monotonic(reactor)

    def report(report: Report) -> None:
        reports.write(f"{report.to_line()}\n")
        reports.flush()

    shutdown: MultiService = BoundedShutdown(reactor, SHUTDOWN_MAX)
    try:
        key = registry_key(order.settings.data)
        store = make_store(order.settings, reactor)
        registry = Registry(store, order.settings, key, reactor, time.time, order.number)
        listen, metrics = (
            [
                Place.of(ListeningReactor(reactor, shared_port=port), each, source)
                for each, port in places
            ]
            for places, source in ((order.listen, "--listen"), (order.metrics, "--metrics"))
        )
    except P2pshareError as error:
        report(Report(error))
        return
    stun = StunPorts(
        reactor,
        order.settings.stun,
        places=order.stun,
        is_behind_proxy=bool(order.settings.trusted_proxies),
    )
    service = RegistryService(Ports(listen, metrics, stun), registry, None)
    service.setServiceParent(shutdown)

    def failed(failure: Failure) -> None:
        if isinstance(failure.value, P2pshareError):
            report(Report(failure.value))
        else:
            Logger().failure("a worker could not start", failure)
        reactor.callWhenRunning(stop, reactor)

    service.ready.addCallback(lambda _urls: report(Report()))
    service.lost.addErrback(failed)
    reactor.addSystemEventTrigger("before", "shutdown", shutdown.stopService)
    Thread(target=_stop_with_parent, args=(reactor,), daemon=True).start()
    shutdown.startService()
    # Our own handler: that of the reactor logs an error if our parent has closed our input, so that it stops already.
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(stop, reactor))
    reactor.run(installSignalHandlers=False)


def stop(reactor: Any) -> None:
    """Stop the reactor, unless it has stopped already."""
    with suppress(ReactorNotRunning):
        reactor.stop()


def _stop_with_parent(reactor: Any) -> None:
    """Stop the reactor when standard input ends: then the parent is dead."""
    while os.read(STDIN, 4096):
        pass
    reactor.callFromThread(stop, reactor)


if __name__ == "__main__":
    main()
