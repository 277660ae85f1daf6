"""A reactor whose child processes are made up, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure


class FakeProcess:
    """A process that takes input and signals, and ends when the test says so."""

    def __init__(
        self, protocol: Any, command: list[str], env: Mapping[str, str] | None, path: str | None
    ) -> None:
        self.protocol, self.command, self.env, self.folder = protocol, command, env, path
        self.signals: list[str] = []
        self.ends_at = ""
        """The signal that ends it."""
        self.has_ended = False
        self.told = b""
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        self.told += data

    def signalProcess(self, name: str) -> None:  # noqa: N802
        if self.has_ended:
            raise ProcessExitedAlready
        self.signals.append(name)
        if name == self.ends_at:
            self.end()

    def say(self, line: str) -> None:
        self.protocol.childDataReceived(1, line.encode() + b"\n")

    def end(self, signal: int | None = None) -> None:
        self.has_ended = True
        reason = ProcessTerminated(signal=signal) if signal else ProcessDone(0)
        self.protocol.processEnded(Failure(reason))


class ProcessReactor(Clock):
    """A clock that starts fake processes, and runs at once what a thread should do."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.spawn_error: OSError | None = None

    def spawnProcess(  # noqa: N802
        self,
        protocol: Any,
        executable: str,
        args: list[str],
        env: Mapping[str, str] | None,
        path: str | None,
    ) -> None:
        if self.spawn_error:
            raise self.spawn_error
        self.processes.append(FakeProcess(protocol, args, env, path))

    def getThreadPool(self) -> ProcessReactor:
        return self

    def callInThreadWithCallback(
        self, told: Callable[[bool, object], None], call: Callable[..., object], *args: object
    ) -> None:
        try:
            result = call(*args)
        except Exception:
            told(False, Failure())
        else:
            told(True, result)

    def callFromThread(self, call: Callable[..., None], *args: object) -> None:
        call(*args)
