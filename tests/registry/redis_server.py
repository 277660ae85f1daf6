"""A real Redis for tests, on a Unix socket in a folder of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from p2pshare.registry.redis_process import find_binary


class RedisServer:
    """A server that lives until `stop`, and can be taken away and brought back."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.path = str(Path(self._folder.name, "redis.sock"))
        self.url = f"unix://{self.path}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        self._process = subprocess.Popen(
            [find_binary(), "--port", "0", "--unixsocket", self.path, "--save", ""],
            cwd=self._folder.name,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(500):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(self.path) == 0:
                    return
            time.sleep(0.01)
        raise AssertionError("Redis did not start")

    def kill(self) -> None:
        """Take it away."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it be there and say nothing, until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and remove what it left."""
        self.kill()
        self._folder.cleanup()
