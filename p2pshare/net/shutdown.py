"""The end of a service's process: in time, and with the exit status that says why.

To stop, the reactor waits for the threads of its pool. One that looks up a name at a dead DNS server, or writes to
a disk that hangs, can take minutes. Nothing of ours needs it any more then: see `net/process_end.py`.
"""

from __future__ import annotations

import atexit
import signal
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import P2pshareError
from p2pshare.net.background import Launch
from p2pshare.net.process_end import end_process, end_process_within

SHUTDOWN_MAX = 1.8  # seconds from the order to stop to the end of the process: 2 are promised
TERMINATED = 128 + signal.SIGTERM  # what a shell reports of a process that SIGTERM has ended


class BoundedShutdown(MultiService):
    """The parent of a process's services: ends it soon after they were told to stop, whatever is still running."""

    _log = Logger()

    def __init__(
        self, reactor: IReactorCore, limit: float = SHUTDOWN_MAX, launch: Launch | None = None
    ) -> None:
        """Be ready to end the process.

        Args:
            reactor: what runs in it.
            limit: seconds from the order to stop to the end of the process.
            launch: hears why it fails; None where nobody waits for that.
        """
        super().__init__()
        self._reactor = reactor
        self._launch = launch
        self._limit = limit
        self._status = TERMINATED
        self._stopping = False

    def stopService(self) -> Deferred[list[Any]]:
        """Stop the services; this is the last thing that is asked of the process."""
        self._stopping = True
        end_process_within(self._limit, lambda: self._status)
        return cast(Deferred[list[Any]], super().stopService())

    def fail(self, failure: Failure) -> None:
        """Say what went wrong, stop the reactor as soon as it runs, and end the process with the exit code of it.

        An errback for every `P2pshareError`. twistd ends with 0 unless a signal has stopped it, and offers no way to
        say otherwise.
        """
        failure.trap(P2pshareError)
        error = cast(P2pshareError, failure.value)
        self._log.critical("{error!s}", error=error)
        self._status = error.exit_code
        atexit.register(lambda: end_process(self._status))
        if self._launch is not None:
            self._launch.failed(error)
        if not self._stopping:
            self._reactor.callWhenRunning(self._reactor.stop)
