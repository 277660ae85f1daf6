"""The end of the process of a service: in bounded time, with the right exit code, and once.

To stop, the reactor waits for the threads of its pool. A thread that looks up a name at a dead DNS server, or writes to
a hanging disk, can take minutes. No service needs its result any more: see `net/process_end.py`.
"""

from __future__ import annotations

import atexit
import signal
from types import FrameType
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from p2pshare.errors import P2pshareError
from p2pshare.net.background import Launch
from p2pshare.net.process_end import end_process, end_process_within

SHUTDOWN_MAX = (
    1.8  # seconds from the begin of the shutdown to the end of the process: 2 are promised
)
TERMINATED = (
    128 + signal.SIGTERM
)  # the exit code of a process that SIGTERM has ended, as shells report it


class BoundedShutdown(MultiService):
    """The parent of all services of a process: ends it within `limit` of the begin of the shutdown."""

    _log = Logger()

    def __init__(
        self, reactor: IReactorCore, limit: float = SHUTDOWN_MAX, launch: Launch | None = None
    ) -> None:
        """Prepare it.

        Args:
            reactor: the reactor of the process.
            limit: seconds from the begin of the shutdown to the end of the process.
            launch: is told why the service fails.
        """
        super().__init__()
        self._reactor: Any = reactor
        self._launch = launch
        self._limit = limit
        self._status = TERMINATED
        self._stopping = False

    def startService(self) -> None:
        """Start the services; from then on, only the first signal ends the process.

        A terminal and a supervisor may both send one. A reactor that is told to stop again logs an error.
        """
        super().startService()
        self._reactor.callWhenRunning(self._take_signals)

    def stopService(self) -> Deferred[list[Any]]:
        """Stop the services; the process ends soon, whatever is still running."""
        self._stopping = True
        end_process_within(self._limit, lambda: self._status)
        return cast(Deferred[list[Any]], super().stopService())

    def fail(self, failure: Failure) -> None:
        """Log an error, stop the reactor as soon as it runs, and end the process with the exit code of the error.

        An errback for every `P2pshareError`. twistd itself exits with 0 unless a signal has stopped it.
        """
        failure.trap(P2pshareError)
        error = cast(P2pshareError, failure.value)
        level = LogLevel.critical if error.exit_code else LogLevel.info
        self._log.emit(level, "{error!s}", error=error)
        self._status = error.exit_code
        atexit.register(lambda: end_process(self._status))
        if self._launch is not None:
            self._launch.failed(error)
        if not self._stopping:
            self._stopping = True
            self._reactor.callWhenRunning(self._reactor.stop)

    def _take_signals(self) -> None:
        """Replace the handlers of the reactor, if it has installed some."""
        reactor = self._reactor
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (reactor.sigInt, reactor.sigTerm):
                signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if not self._stopping:
            self._stopping = True
            handle = self._reactor.sigInt if number == signal.SIGINT else self._reactor.sigTerm
            handle(number, frame)
