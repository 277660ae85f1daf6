"""Child processes: their start, their output, their end and their restart; in virtual time but for one real one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net import end_with_parent
from p2pshare.net.child_process import (
    LINE_MAX,
    RESTART_MAX,
    STEADY,
    ChildProcess,
    Program,
    SupervisedProcess,
)
from tests.net.fake_processes import FakeProcess, ProcessReactor

PROGRAM = Program(["/bin/program", "word"], Path("/x"), {"A": "b"}, b"secret\n")
STOP_TIMEOUT = 2.0


class ChildProcessTests(SynchronousTestCase):
    """One run."""

    def setUp(self) -> None:
        self.reactor = ProcessReactor()
        self.lines: list[str] = []
        self.child = ChildProcess(self.reactor, self.lines.append)

    def start(self) -> FakeProcess:
        self.child.start(PROGRAM)
        (process,) = self.reactor.processes
        return process

    def end(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.child.end(STOP_TIMEOUT))

    def test_started(self) -> None:
        """The program starts in its folder and environment, and ends with its parent; secrets go to standard input."""
        process = self.start()
        self.assertIn(end_with_parent.__file__, process.command)
        self.assertEqual(process.command[-3:], [str(os.getpid()), "/bin/program", "word"])
        self.assertEqual((process.env, process.folder), ({"A": "b"}, "/x"))
        self.assertEqual(process.told, b"secret\n")

    def test_ends(self) -> None:
        """`end` returns when the process is gone; a second call does nothing."""
        process = self.start()
        process.ends_at = "TERM"
        reasons: list[str] = []
        self.child.ended.addCallback(reasons.append)
        self.successResultOf(self.end())
        self.successResultOf(self.end())
        self.assertEqual(reasons, ["exit code 0"])
        self.assertEqual(process.signals, ["TERM"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_killed(self) -> None:
        """A process that ignores SIGTERM is killed."""
        self.start().ends_at = "KILL"
        ended = self.end()
        self.reactor.advance(STOP_TIMEOUT - 0.1)
        self.assertNoResult(ended)
        self.reactor.advance(0.2)
        self.successResultOf(ended)

    def test_lines(self) -> None:
        """Lines are complete, in bounds, and of one stream each; the last one needs no end."""
        protocol = self.start().protocol
        protocol.childDataReceived(1, b"one\n\ntw")
        protocol.childDataReceived(2, b"complaint\n")
        protocol.childDataReceived(1, b"o \xff\n" + b"x" * (2 * LINE_MAX))
        self.assertEqual(self.lines, ["one", "complaint", "two \ufffd"])
        protocol.childDataReceived(1, b"x\nrest")
        self.reactor.processes[0].end()
        self.assertEqual(self.lines[3:], ["x" * LINE_MAX, "rest"])

    def test_end_with_parent(self) -> None:
        """The files of the program are private, also in a folder that others may enter."""
        with tempfile.TemporaryDirectory(prefix="p2p-") as folder:
            os.chmod(folder, 0o755)
            self.addCleanup(os.umask, os.umask(0o022))
            launcher = [sys.executable, "-I", "-S", end_with_parent.__file__, str(os.getpid())]
            script = "mkdir appendonlydir && echo > appendonlydir/names"
            subprocess.run([*launcher, "/bin/sh", "-c", script], cwd=folder, check=True)
            made = Path(folder, "appendonlydir")
            self.assertEqual(made.stat().st_mode & 0o777, 0o700)
            self.assertEqual((made / "names").stat().st_mode & 0o777, 0o600)


class Supervised(SupervisedProcess):
    """One that keeps its last line."""

    def startService(self) -> None:
        super().startService()
        self.start_program()

    def line_received(self, line: str) -> None:
        self.last_line = line


class SupervisedProcessTests(SynchronousTestCase):
    """One run after the other."""

    def setUp(self) -> None:
        self.reactor = ProcessReactor()
        self.service = Supervised(self.reactor, "it", PROGRAM, STOP_TIMEOUT)
        self.observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)

    def test_restarted(self) -> None:
        """A process that ends is restarted, later each time, and soon after a steady life; each end is logged."""
        self.service.startService()
        waits = []
        for number in range(8):
            self.reactor.processes[-1].say(f"line {number}")
            self.reactor.processes[-1].end(signal=9)
            started, count = self.reactor.seconds(), len(self.reactor.processes)
            while len(self.reactor.processes) == count:
                self.reactor.advance(0.05)
            waits.append(self.reactor.seconds() - started)
        self.assertEqual(waits, sorted(waits))
        self.assertLess(waits[0], 0.2)
        self.assertAlmostEqual(waits[-1], RESTART_MAX, delta=0.1)
        ends = [(event["reason"], event["last_line"]) for event in self.observer]
        self.assertEqual(ends, [("signal 9", f"line {number}") for number in range(8)])
        self.reactor.advance(STEADY + 1)
        self.reactor.processes[-1].end()
        self.reactor.advance(0.15)
        self.assertEqual(len(self.reactor.processes), 1 + 9)

    def test_stopped(self) -> None:
        """SIGTERM ends it, or else SIGKILL, and it is not restarted."""
        self.service.startService()
        stopping = self.service.stopService()
        self.reactor.advance(STOP_TIMEOUT)
        (process,) = self.reactor.processes
        self.assertEqual(process.signals, ["TERM", "KILL"])
        self.assertNoResult(stopping)
        process.end(signal=9)
        self.successResultOf(stopping)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stopped_between_two_runs(self) -> None:
        """A restart that is due later does not happen."""
        self.service.startService()
        self.reactor.processes[0].end()
        self.successResultOf(self.service.stopService())
        self.reactor.advance(RESTART_MAX)
        self.assertEqual(len(self.reactor.processes), 1)

    def test_cannot_be_spawned(self) -> None:
        """When the system has no room for a process, another attempt follows."""
        self.reactor.spawn_error = OSError(errno.EAGAIN, "no more processes")
        self.service.startService()
        self.assertEqual(self.reactor.processes, [])
        self.reactor.spawn_error = None
        self.reactor.advance(RESTART_MAX)
        self.assertEqual(len(self.reactor.processes), 1)
