"""Tests of `p2pshare.net.background`, without a service; `tests.integration` has those with real ones."""

from __future__ import annotations

import io
import json
import os
import signal
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import Any
from unittest.mock import patch

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import NameReleased, NameTaken
from p2pshare.net import background
from p2pshare.net.background import TEXT_MAX, WARNINGS_MAX, Background, Launch

ABOUT = Background("p2px", "/data/x.log", "p2pshare stop --name bob")
PIPE_BUF = 4096  # bytes


class LaunchTests(SynchronousTestCase):
    """Reports of the service."""

    def setUp(self) -> None:
        self.reading, writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.launch = Launch("p2px", writing)
        self.addCleanup(self.launch.ready, "so that it hears the log no longer")
        self.log = Logger("x")
        self.is_open = True
        self.addCleanup(self.hang_up)

    def hang_up(self) -> None:
        if self.is_open:
            os.close(self.reading)
            self.is_open = False

    def told(self) -> list[dict[str, Any]]:
        """Return the reports since the last call."""
        try:
            return [json.loads(line) for line in os.read(self.reading, 1 << 16).splitlines()]
        except BlockingIOError:
            return []

    def test_ready(self) -> None:
        """When the service is ready, that is reported, the pipe is closed, and the log is no longer observed."""
        self.launch.ready("bob is online")
        self.assertEqual(self.told(), [{"ready": "bob is online"}])
        self.log.warn("later")
        self.launch.failed(NameTaken(name="bob", registry="http://h"))
        self.assertEqual(os.read(self.reading, 1), b"")

    def test_failed(self) -> None:
        """A failure is reported at once; the pipe ends with the process, which has ports to close."""
        error = NameTaken(name="bob", registry="http://h")
        self.launch.failed(error)
        self.assertEqual(self.told(), [{"failed": str(error), "code": 3}])
        self.assertRaises(BlockingIOError, os.read, self.reading, 1)
        self.launch.ready("for a cleanup")

    def test_warnings(self) -> None:
        """Warnings are reported, one of each kind and a bounded number; other lines and secrets are not."""
        for wait in (1, 2):
            self.log.info("nothing of note")
            self.log.error("{log_io}", log_io="Traceback (most recent call last):")
            self.log.warn("away at {url}, again in {wait} s", url="redis://u:hunter2@h", wait=wait)
        self.assertEqual(self.told(), [{"warning": "away at redis://[hidden]@h, again in 1 s"}])
        for number in range(2 * WARNINGS_MAX):
            self.log.error(f"kind {number}")
        self.assertEqual(len(self.told()), WARNINGS_MAX - 1)
        self.launch.ready("x")

    def test_long_sentences(self) -> None:
        """Each report is written in one piece, however long its text is."""
        with patch("os.write", wraps=os.write) as write:
            self.log.warn("{text}", text="\U0001f600" * 9000)
            self.launch.failed(NameTaken(name="bob", registry="\udcff\\" * TEXT_MAX))
        self.assertEqual(write.call_count, 2)
        for call in write.call_args_list:
            self.assertLessEqual(len(call.args[1]), PIPE_BUF)

    def test_nobody_listens(self) -> None:
        """A command that was killed, or does not read, does not stop the service."""
        with patch("os.write", side_effect=BlockingIOError):
            self.log.warn("missed")
        self.assertEqual(self.told(), [])
        self.hang_up()
        self.log.warn("told to nobody")
        self.launch.ready("bob is online")

    def test_foreground(self) -> None:
        """In the foreground, the last line on standard error is the reason of the end, if that is an error."""
        for error, said in (
            (NameTaken(name="bob", registry="http://h"), "p2px: The name 'bob' is taken"),
            (NameReleased(name="bob"), ""),
        ):
            launch, stderr = Launch("p2px"), io.StringIO()
            with patch("sys.__stderr__", stderr), patch("atexit.register") as register:
                launch.ready("x")
                launch.failed(error)
                for call in register.call_args_list:
                    call.args[0](*call.args[1:])
            self.assertTrue(stderr.getvalue().startswith(said), stderr.getvalue())
            self.assertEqual(bool(stderr.getvalue()), bool(said))


class WatchTests(SynchronousTestCase):
    """Output and exit code of the waiting command."""

    def setUp(self) -> None:
        self.reading, self.writing = os.pipe()
        self.addCleanup(os.close, self.reading)
        self.now = 0.0
        self.killed: list[tuple[int, int]] = []
        self.patch(os, "kill", lambda pid, number: self.killed.append((pid, number)))
        for number in background._SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def clock(self) -> float:
        """Advance by a second at each call."""
        self.now += 1.0
        return self.now

    def run_watch(self, *reports: dict[str, Any], ends: bool = False) -> tuple[int, str, str]:
        """Return the exit code and the output after these reports, and after the end of the service if it ends."""
        os.write(self.writing, b"7\n")
        for report in reports:
            os.write(self.writing, json.dumps(report).encode() + b"\n")
        if ends:
            os.close(self.writing)
        else:
            self.addCleanup(os.close, self.writing)
        watch = background._Watch(ABOUT, self.reading, self.clock)
        stdout, stderr = io.StringIO(), io.StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr):
            code = watch.run(0.5 if not ends else 1000.0)
        return code, stdout.getvalue(), stderr.getvalue()

    def test_ready(self) -> None:
        """One line on standard output names the service, its log, and the command that stops it."""
        said = self.run_watch({"warning": "careful"}, {"ready": "bob is online"}, ends=True)
        line = (
            "bob is online, in the background as process 7. Log: /data/x.log."
            " Stop it with: p2pshare stop --name bob\n"
        )
        self.assertEqual(said, (0, line, "p2px: careful\n"))

    def test_failed(self) -> None:
        """The error and its exit code are passed on as soon as the service has ended."""
        code, stdout, stderr = self.run_watch(
            {"failed": "The name is taken.", "code": 3}, ends=True
        )
        self.assertEqual((code, stdout, stderr), (3, "", "p2px: The name is taken.\n"))

    def test_wanted_end(self) -> None:
        """A service that was stopped on purpose is not ready, so the exit code is not 0."""
        said = self.run_watch({"failed": "It was stopped.", "code": 0}, ends=True)
        self.assertEqual(said, (1, "", "p2px: It was stopped.\n"))

    def test_killed(self) -> None:
        """If a service ends without a report, its log is named."""
        code, _, stderr = self.run_watch(ends=True)
        self.assertEqual(code, 1)
        self.assertIn(ABOUT.log, stderr)

    def test_killed_at_once(self) -> None:
        """The same applies to a service that has not even sent its pid."""
        os.close(self.writing)
        watch = background._Watch(ABOUT, self.reading, self.clock)
        with redirect_stderr(io.StringIO()) as stderr:
            self.assertEqual(watch.run(10.0), 1)
        self.assertIn(ABOUT.log, stderr.getvalue())

    def test_takes_too_long(self) -> None:
        """After a bounded time the command exits with an error, and the service continues."""
        self.now = -1.0
        code, stdout, stderr = self.run_watch({"warning": "the registry is away"})
        self.assertEqual((code, stdout, self.killed), (5, "", []))
        self.assertIn(
            "p2px: the registry is away\np2px: The service is not ready after 0.5 s", stderr
        )
        for told in ("process 7", "/data/x.log", "`p2pshare stop --name bob`"):
            self.assertIn(told, stderr)

    def test_interrupted(self) -> None:
        """Ctrl+C and SIGTERM also end the service."""
        for number in background._SIGNALS:
            self.killed.clear()
            self.reading, self.writing = os.pipe()
            os.write(self.writing, b"7\n")
            looks = iter([lambda: ([self.reading], [], []), partial(signal.raise_signal, number)])
            watch = background._Watch(ABOUT, self.reading, lambda: 0.0)
            with (
                patch("select.select", side_effect=lambda *_, looks=looks: next(looks)()),
                patch.object(watch, "_await_end"),
                redirect_stderr(io.StringIO()) as stderr,
            ):
                self.assertEqual(watch.run(10.0), 128 + number)
            self.assertEqual(self.killed, [(7, signal.SIGTERM)])
            self.assertEqual(stderr.getvalue(), "p2px: Stopped before it was ready.\n")
            os.close(self.writing)
