"""A real Redis for tests, on a Unix socket in a folder of its own, and on a port of this machine."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from p2pshare.registry.redis.server_process import find_binary

HOST = "127.0.0.1"
PATIENCE = 20.0  # seconds
ATTEMPTS = 5


class PortTakenError(Exception):
    """Another process has taken the port since it was chosen."""


class RedisServer:
    """A server that lives until `stop`, and can be taken away and brought back.

    Args:
        options: as on its command line.
        port: where it listens, besides its Unix socket; None for a free one, which it keeps.
        sentinel: what it watches, in the words of its configuration file, if it is a Sentinel.
    """

    def __init__(self, *options: str, port: int | None = None, sentinel: str = "") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self._options = options
        self._sentinel = sentinel
        self._log = Path(self._folder.name, "redis.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._chosen = port
        self.port = port or 0
        """0 until it is started."""
        self.path = str(Path(self._folder.name, "redis.sock"))
        self.url = f"unix://{self.path}"

    def tcp_url(self, login: str = "") -> str:
        """Return its URL over TCP."""
        return f"redis://{login}{HOST}:{self.port}"

    def start(self) -> None:
        """Return when it answers."""
        for _ in range(ATTEMPTS):
            self.port = self.port or free_port()
            try:
                return self._start()
            except PortTakenError:
                self.port = self._chosen or 0
        raise AssertionError(f"Redis did not start:\n{self.said()}")

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [find_binary(), *self._arguments()], cwd=self._folder.name, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1.0)
                with contextlib.suppress(OSError):
                    probe.connect(self.path)
                    probe.sendall(b"PING\r\n")
                    if probe.recv(16):
                        return
            if self._process.poll() is not None:
                raise PortTakenError
            time.sleep(0.01)
        self.kill()
        raise AssertionError(f"Redis did not start:\n{self.said()}")

    def _arguments(self) -> list[str]:
        options = ["--port", str(self.port), "--bind", HOST, "--unixsocket", self.path]
        if not self._sentinel:
            return [*options, "--save", "", "--repl-diskless-sync-delay", "0", *self._options]
        configuration = Path(self._folder.name, "sentinel.conf")
        if not configuration.exists():  # it writes down there what it learns
            configuration.write_text(self._sentinel)
        return [str(configuration), "--sentinel", *options, *self._options]

    def said(self) -> str:
        """Return its log."""
        return self._log.read_text() if self._log.exists() else ""

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Suspend it until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        self._folder.cleanup()


def free_port() -> int:
    """Return a port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
