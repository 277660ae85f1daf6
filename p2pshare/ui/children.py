"""Services that run as children of this process, for as long as it needs them."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

STOP_TIMEOUT = 3.0  # seconds from SIGTERM to SIGKILL
LAST_LINES = 5  # of what it wrote are kept
LINE_MAX = 1000  # bytes of a line

_TWISTD = "from twisted.scripts.twistd import run; run()"


class ISpawningReactor(IReactorProcess, IReactorTime):
    """All that a child needs of a reactor."""


class Child(ProcessProtocol):
    """One `twistd`, and the last lines that it wrote. `end` it in any case."""

    transport: IProcessTransport

    def __init__(self, reactor: ISpawningReactor) -> None:
        self._reactor = reactor
        self._rest = b""
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._ending: list[Deferred[None]] = []
        self.has_ended = False

    @classmethod
    def twistd(
        cls,
        reactor: ISpawningReactor,
        words: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
    ) -> Child:
        """Start `twistd -n` with these words, in a folder."""
        child = cls(reactor)
        command = [sys.executable, "-c", _TWISTD, "-n", *words]
        reactor.spawnProcess(child, sys.executable, command, dict(environ), str(folder))
        return child

    @property
    def last_lines(self) -> str:
        """What it wrote last."""
        return "\n".join([*self._lines, self._rest.decode("utf-8", "replace")]).strip()

    async def end(self, patience: float = STOP_TIMEOUT) -> None:
        """Send SIGTERM, and SIGKILL after `patience` seconds; return when it is gone."""
        if self.has_ended:
            return
        ended: Deferred[None] = Deferred()
        self._ending.append(ended)
        self._signal("TERM")
        kill = self._reactor.callLater(patience, self._signal, "KILL")
        try:
            await ended
        finally:
            if kill.active():
                kill.cancel()

    def outReceived(self, data: bytes) -> None:
        """Keep the last lines."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._lines.extend(line[-LINE_MAX:].decode("utf-8", "replace") for line in lines)
        self._rest = rest[-LINE_MAX:]

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """It is gone."""
        self.has_ended = True
        ending, self._ending = self._ending, []
        for each in ending:
            each.callback(None)

    def _signal(self, name: str) -> None:
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)
