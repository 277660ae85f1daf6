"""The end of a service's process: in time, and with the exit status that says why.

To stop, the reactor waits for the threads of its pool. One that looks up a name at a dead DNS server, or writes to
a disk that hangs, can take minutes. Nothing of ours needs it any more then.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from threading import Thread, Timer

from twisted.internet.interfaces import IReactorCore

SHUTDOWN_MAX = 1.8  # seconds from the reactor's first step of stopping to the end: 2 are promised
FLUSH_MAX = 0.1  # seconds for standard output and error, of these
TERMINATED = 128 + signal.SIGTERM  # what a shell reports of a process that SIGTERM has ended


class BoundedShutdown:
    """Ends the process soon after the reactor began to stop, whatever is still running in it."""

    def __init__(self, reactor: IReactorCore, limit: float = SHUTDOWN_MAX) -> None:
        self._reactor = reactor
        self._limit = limit
        self._status = TERMINATED
        self._armed = False
        reactor.addSystemEventTrigger("before", "shutdown", self._arm)

    def stop(self, status: int) -> None:
        """Stop the reactor as soon as it runs, and end the process with this exit status.

        twistd ends with 0 unless a signal has stopped it, and offers no way to say otherwise.
        """
        self._status = status
        atexit.register(_end, status)
        if not self._armed:
            self._reactor.callWhenRunning(self._reactor.stop)

    def _arm(self) -> None:
        self._armed = True
        timer = Timer(self._limit - FLUSH_MAX, lambda: _end(self._status))
        timer.daemon = True  # it keeps nobody from ending earlier
        timer.start()


def _end(status: int) -> None:
    flushing = Thread(target=_flush, daemon=True)  # it waits if nobody reads our output
    flushing.start()
    flushing.join(FLUSH_MAX)
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
