"""Tests of `p2pshare.net.command_line`."""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from twisted.logger import Logger, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotStart, WrongUsage
from p2pshare.net.command_line import TWISTD_DEFAULT, ServiceOptions, complaining, program
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.settings import DEBUG_VARIABLE


class PidFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "x.pid"

    def keep(self, **twistd: Any) -> dict[str, Any]:
        options = ServiceOptions()
        options.command = "p2px"
        options.parent = cast(Any, twistd)
        options.keep_pid_file(self.path)
        return twistd

    def test_free_way(self) -> None:
        """No file is left, and twistd gets the path."""
        self.assertEqual(self.keep(pidfile=TWISTD_DEFAULT)["pidfile"], str(self.path))
        self.assertEqual(
            self.keep(pidfile="own.pid", rundir=str(self.folder))["pidfile"], "own.pid"
        )
        self.assertEqual(self.keep(pidfile=""), {"pidfile": ""})
        self.assertEqual(os.listdir(self.folder), [])

    def test_there_already(self) -> None:
        """An existing pid file is left to twistd."""
        self.path.write_text("1")
        self.keep(pidfile=TWISTD_DEFAULT)
        self.assertEqual(self.path.read_text(), "1")

    def test_no_room(self) -> None:
        """A full disk is an error, and no empty file is left."""
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGXFSZ, before)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            error = self.assertRaises(CannotStart, self.keep, pidfile=TWISTD_DEFAULT)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assertIn(
            f"twistd cannot start: its pid file {self.path} cannot be written", str(error)
        )
        self.assertEqual(os.listdir(self.folder), [])

    def test_full_disk(self) -> None:
        """A disk that is full at the sync, or a missing folder, is an error as well."""

        def fsync(fd: int) -> None:
            raise OSError(errno.ENOSPC, "")

        self.assertRaises(CannotStart, self.keep, pidfile=str(self.folder / "none" / "own.pid"))
        self.patch(os, "fsync", fsync)
        said = io.StringIO()
        with redirect_stderr(said), self.assertRaises(SystemExit) as caught, complaining("p2px"):
            self.keep(pidfile=TWISTD_DEFAULT)
        self.assertEqual(caught.exception.code, 1)
        full = plain_reason(OSError(errno.ENOSPC, ""))
        self.assertRegex(said.getvalue(), rf"^p2px: .*{full}\.\n$")
        self.assertEqual(os.listdir(self.folder), [])


class OtherUserTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """`--uid` is rejected for another user, and accepted for the current one."""
        options = ServiceOptions()
        options.command = "p2px"
        for parent in (None, {"uid": None}, {"uid": os.getuid()}):
            options.parent = cast(Any, parent)
            options.refuse_other_user()
        options.parent = cast(Any, {"uid": os.getuid() + 1})
        with self.assertRaisesRegex(WrongUsage, "`sudo -u USER twistd p2px ...`"):
            options.refuse_other_user()


class ProgramTests(SynchronousTestCase):
    def test_path(self) -> None:
        """A program outside PATH is shown with its path, if it exists."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        beside = folder / "p2px"
        with patch("sys.argv", [str(folder / "twistd"), "p2px"]):
            self.assertEqual(program("p2px"), "p2px")
            beside.touch(mode=0o755)
            self.assertEqual(program("p2px"), str(beside))
            with patch.dict(os.environ, {"PATH": str(folder)}):
                self.assertEqual(program("p2px"), "p2px")


class DebugTests(SynchronousTestCase):
    def test_begun(self) -> None:
        """`--debug` or its variable names the file, which receives every event; without them there is no file."""
        for value, variable in ((None, None), ("x.log", None), (None, "x.log")):
            options = ServiceOptions()
            options.command, options["debug"] = "p2px", value
            environ = {} if variable is None else {DEBUG_VARIABLE: variable}
            with (
                patch("p2pshare.net.command_line.DebugLog") as log,
                patch.dict(os.environ, environ),
            ):
                options.launch(None, "stop it")
                Logger("x").debug("event")
            if log.called:
                globalLogPublisher.removeObserver(log.return_value)
            events = [call.args[0]["log_format"] for call in log.return_value.call_args_list]
            self.assertEqual(events, ["event"] if environ or value else [])
            self.assertEqual(log.return_value.begin.called, bool(environ or value))
