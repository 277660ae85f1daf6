"""The end of a process with threads or computations that do not end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from p2pshare.net.process_end import END_MAX, end_process_within

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n"]
PATIENCE = 20.0  # seconds for a process to start on a busy machine
DEAD_DNS = """
import socket, sys, time
def ask_dead_server(*_arguments, **_options):
    print("looking it up", flush=True)
    time.sleep(10)
socket.getaddrinfo = socket.gethostbyname = ask_dead_server
"""

STUCK = """
import hashlib
import signal
from p2pshare.net.process_end import SignalWatch
signal.signal(signal.SIGINT, lambda *_: None)  # like that of a reactor, it raises nothing
watch = SignalWatch()
print("looking it up", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 10**8)
"""

FORGIVING = """
import signal
import threading
from p2pshare.net.process_end import SignalWatch
prevented = threading.Event()
ends = []
def end_within(seconds, status):
    ends.append((seconds, status()))
    return prevented.set
signal.signal(signal.SIGINT, lambda *_: None)
watch = SignalWatch(end_within)
for _ in range(2):
    signal.raise_signal(signal.SIGINT)
    watch.forgive()
    prevented.wait(10)
    prevented.clear()
print(ends)
"""

FAILING = """
import time
from twisted.internet import reactor
from twisted.python.failure import Failure
from p2pshare.errors import Refused
from p2pshare.net.shutdown import BoundedShutdown
{busy}
print("unflushed", end="")
shutdown = BoundedShutdown(reactor)
reactor.addSystemEventTrigger("before", "shutdown", shutdown.stopService)
shutdown.fail(Failure(Refused(reason="No.")))
reactor.run()
"""


class BoundedShutdownTests(unittest.TestCase):
    """Real processes with a thread that is busy for 10 s."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        Path(folder.name, "sitecustomize.py").write_text(DEAD_DNS)

    def run_until_busy(self, *command: str) -> subprocess.Popen[str]:
        """Start a process, and return once its thread is busy."""
        path = os.pathsep.join(filter(None, (str(self.folder), os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "looking it up" in line:
                return process
        raise AssertionError("".join(said))

    def end(
        self, process: subprocess.Popen[str], number: int = signal.SIGTERM, again: int = 0
    ) -> tuple[float, int, str]:
        """Send a signal, and another one when it is noticed; return the seconds to the end, the exit status, and the
        output.
        """
        started = time.monotonic()
        process.send_signal(number)
        heard = ""
        if again:
            assert process.stdout is not None
            heard = next(line for line in process.stdout if "Received" in line)
            process.send_signal(again)
        said, _ = process.communicate(timeout=PATIENCE)
        return time.monotonic() - started, process.returncode, heard + said

    def test_registry(self) -> None:
        """A registry that waits for the look-up of its Redis ends within 2 s, and takes one signal of several."""
        process = self.run_until_busy(
            *TWISTD, "p2pregistry", "--data", str(self.folder / "data"),
            "--listen", "tcp:0:interface=127.0.0.1", "--redis", "redis://redis.example",
        )  # fmt: skip
        seconds, status, said = self.end(process, again=signal.SIGINT)
        self.assertLess(seconds, 2.0)
        self.assertIn(status, (143, -15))
        self.assertNotIn("Traceback", said)
        self.assertNotIn("SIGINT", said)

    def test_peer(self) -> None:
        """A peer that waits for the look-up of its registry ends within 2 s, and takes one signal of several."""
        process = self.run_until_busy(
            *TWISTD, "p2ppeer", "--name", "bob", "--data", str(self.folder / "data"),
            "--registry", "http://registry.example:8000",
        )  # fmt: skip
        seconds, status, said = self.end(process, again=signal.SIGINT)
        self.assertLess(seconds, 2.0)
        self.assertIn(status, (143, -15))
        self.assertNotIn("Traceback", said)
        self.assertNotIn("SIGINT", said)

    def test_commands(self) -> None:
        """A command ends within 0.5 s of Ctrl+C (2 s on a busy machine), even if a thread looks a name up."""
        for words, last in (
            (["users"], "stopped\n"),
            (["get", "alice:s", "."], "to resume\n"),
            (["whoami"], "stopped\n"),
        ):
            process = self.run_until_busy(
                sys.executable, "-c", "from p2pshare.ui.main import main; main()", *words,
                "--name", "bob", "--data", str(self.folder / "data"),
                "--registry", "http://registry.example:8000",
            )  # fmt: skip
            seconds, status, said = self.end(process, signal.SIGINT)
            self.assertLess(seconds, 2.0)
            self.assertEqual(status, 130)
            self.assertTrue(said.endswith(last), said)

    def test_main_thread_stuck(self) -> None:
        """The same applies while its main thread computes in C, where Python runs no signal handler."""
        process = self.run_until_busy(sys.executable, "-c", STUCK)
        seconds, status, said = self.end(process, signal.SIGINT)
        self.assertLess(seconds, 2.0)
        self.assertEqual((status, said), (130, ""))

    def test_forgiven(self) -> None:
        """A forgiven signal does not end the process, and the next one counts as the first."""
        done = subprocess.run(
            [sys.executable, "-c", FORGIVING], capture_output=True, text=True, timeout=PATIENCE
        )
        ends = [(END_MAX, 130)] * 2
        self.assertEqual((done.returncode, done.stdout), (0, f"{ends}\n"), done.stderr)

    def test_end_prevented(self) -> None:
        """An end can be prevented in time."""
        before = set(threading.enumerate())
        end_process_within(PATIENCE, lambda: 1)()
        for each in set(threading.enumerate()) - before:
            each.join(PATIENCE / 2)
            self.assertFalse(each.is_alive())

    def test_failed(self) -> None:
        """A process that stops because of an error shows it, and ends with its exit code, busy or not."""
        for busy in ("", "reactor.callInThread(time.sleep, 10)"):
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", FAILING.format(busy=busy)],
                capture_output=True,
                timeout=PATIENCE,
            )
            self.assertEqual((done.returncode, done.stdout), (3, b"unflushed"))
            self.assertIn(b"No.", done.stderr)
            self.assertLess(time.monotonic() - started, 8)
