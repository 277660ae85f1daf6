"""Child processes: they end with this process, are read line by line, and are restarted by a service.

Theory of operation
-------------------
The registry runs a Redis and worker processes, and `p2pshare demo` runs a registry and peers. All are `ChildProcess`es.

* *No orphans.* Every program is started by `net/end_with_parent.py`, so on Linux the kernel ends it when this process
  is killed. On other systems a worker notices that its standard input is closed, and a Redis that is left behind is
  shut down by the next registry.
* *Output.* Both streams are cut into lines, each stream apart, so that a warning of Python never lands inside a report.
  A line without an end is passed on when the process ends: it may say why.
* *End.* `processEnded` comes after the pipes are closed. So the last line of the output is known before the end is.
* *Stop.* SIGTERM, then SIGKILL after the given time. The Deferred fires when the process is gone, never earlier: the
  caller may then reuse its folder.
* *Restart.* The delay doubles with each early end, up to `RESTART_MAX`. A run of more than `STEADY` seconds resets the
  delays. A failing `fork` (too many processes or open files) counts as an early end, as it may pass.

`twisted.runner.procmon` does not do: it does not tell when a process is ready or gone, its `stopService` does not wait,
it has no standard input for secrets, and it restarts a process that has run for a second without any delay.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.back_off import BackOff
from p2pshare.net import end_with_parent

LINE_MAX = 32 * 1024  # bytes of a line of output; the rest of a longer line is dropped
RESTART_FIRST, RESTART_MAX = 0.1, 5.0  # seconds from the end of a process to the next start
STEADY = 10.0  # seconds of life after which the next delay is the first one


@dataclass(frozen=True, slots=True)
class Program:
    """How a child process is started."""

    command: Sequence[str]
    """The first word is an absolute path."""
    folder: Path | None = None
    """The working folder; None is that of this process."""
    environ: Mapping[str, str] | None = None
    """None is that of this process."""
    order: bytes = b""
    """Written to standard input, which stays open afterwards."""


class ChildProcess(ProcessProtocol):
    """One run of a program."""

    transport: IProcessTransport

    def __init__(self, reactor: Any, received: Callable[[str], None]) -> None:
        """Prepare a run; `received` is called with each line of its output that is not empty."""
        self.ended: Deferred[str] = Deferred()
        """Fires with the reason when the process is gone."""
        self._reactor = reactor
        self._received = received
        self._rest: dict[int, bytes] = {}

    def start(self, program: Program) -> None:
        """Start the program; if the system cannot, the run has ended at once."""
        launcher = [sys.executable, "-I", "-S", end_with_parent.__file__, str(os.getpid())]
        try:
            self._reactor.spawnProcess(
                self,
                sys.executable,
                [*launcher, *program.command],
                env=program.environ,
                path=None if program.folder is None else os.fspath(program.folder),
            )
        except OSError as error:
            self.processEnded(Failure(error))
        else:
            if program.order:
                self.transport.write(program.order)

    async def end(self, patience: float) -> None:
        """Send SIGTERM, and SIGKILL after `patience` seconds; return when the process is gone."""
        gone: Deferred[str] = Deferred()
        self.ended.chainDeferred(gone)
        if gone.called:
            return
        self._signal("TERM")
        kill = self._reactor.callLater(patience, self._signal, "KILL")
        try:
            await gone
        finally:
            if kill.active():
                kill.cancel()

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803
        """Pass on each complete line."""
        *lines, rest = (self._rest.get(childFD, b"") + data).split(b"\n")
        self._rest[childFD] = rest[:LINE_MAX]
        for each in lines:
            line = each[:LINE_MAX].decode("utf-8", "replace").strip()
            if line:
                self._received(line)

    def processEnded(self, reason: Failure) -> None:
        """Pass on the rest of the output, and the reason of the end."""
        for stream in self._rest:
            self.childDataReceived(stream, b"\n")
        self.ended.callback(_reason(reason))

    def _signal(self, name: str) -> None:
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)


class SupervisedProcess(Service):
    """Keeps a program running: restarts it whenever it ends.

    A subclass calls `start_program` once it runs, and takes the output.
    """

    _log = Logger()

    def __init__(self, reactor: Any, name: str, program: Program, stop_timeout: float) -> None:
        """Prepare a process that is not started yet.

        Args:
            reactor: starts processes.
            name: what the log calls the program.
            program: what is started.
            stop_timeout: seconds from SIGTERM to SIGKILL.
        """
        self.last_line = ""
        """The last line of output that says something about its end."""
        self._reactor = reactor
        self._name = name
        self._program = program
        self._stop_timeout = stop_timeout
        self._child: ChildProcess | None = None
        self._restart: IDelayedCall | None = None
        self._back_off = BackOff(RESTART_FIRST, RESTART_MAX)

    def stopService(self) -> Deferred[None]:
        """End the program; the Deferred fires when it is gone."""
        super().stopService()
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self._child is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._child.end(self._stop_timeout))

    def start_program(self) -> None:
        """Start the program now."""
        self._restart = None
        self.last_line = ""
        self._child = ChildProcess(self._reactor, self.line_received)
        self._child.ended.addCallback(self._ended, self._reactor.seconds())
        self._child.start(self._program)

    def line_received(self, line: str) -> None:
        """Take a line of output."""
        raise NotImplementedError

    def program_ended(self, reason: str) -> bool:
        """Return whether the program is to be restarted; the service has not been stopped."""
        return True

    def _ended(self, reason: str, started: float) -> None:
        self._child = None
        if not self.running or not self.program_ended(reason):
            return
        if self._reactor.seconds() - started > STEADY:
            self._back_off.reset()
        delay = self._back_off.next_delay()
        self._log.error(
            "process ended: name={name!r} reason={reason!r} last_line={last_line!r} restart_in_s={delay:g}",
            name=self._name,
            reason=reason,
            last_line=self.last_line,
            delay=delay,
        )
        self._restart = self._reactor.callLater(delay, self.start_program)


def _reason(failure: Failure) -> str:
    """Return why a process ended."""
    error = failure.value
    if isinstance(error, ProcessTerminated) and error.signal is not None:
        return f"signal {error.signal}"
    if isinstance(error, ProcessTerminated | ProcessDone):
        return f"exit code {error.exitCode}"
    return failure.getErrorMessage()
