"""The file of `--debug`."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotSave
from p2pshare.net import debug_log
from p2pshare.net.debug_log import DEBUG_FILE_MAX, PREFACE, DebugLog, log_output, shown_words
from p2pshare.net.logs import HIDDEN
from p2pshare.storage.os_errors import plain_reason

write = os.write
INVITATION = "eyJ2IjoxLCJraW5kIjoi.c2lnbmF0dXJlLW9mLWEtcmVnaXN0cnk"


class DebugLogTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.path, self.old = folder / "debug.log", folder / "debug.log.old"
        self.clock = Clock()

    def open(self) -> DebugLog:
        log = DebugLog(self.path, self.clock.seconds)
        self.addCleanup(self.close, log)
        return log

    def close(self, log: DebugLog) -> None:
        if log._fd >= 0:
            log.end(0)

    def say(self, log: DebugLog, text: str, **fields: object) -> None:
        Logger("p2pshare.test", observer=LogPublisher(log)).debug(text, **fields)


class LineTests(DebugLogTestCase):
    """The contents of a line."""

    def test_event(self) -> None:
        """An event of any level is a line: the time in UTC, the process, the source, and the event."""
        log = self.open()
        for level in ("debug", "info"):
            event = {"log_time": 1750000000.25, "log_namespace": "p2pshare.net.dns"}
            log(
                {
                    **event,
                    "log_level": LogLevel.levelWithName(level),
                    "log_format": "found: n={n}",
                    "n": 3,
                }
            )
        first, second = self.path.read_text().splitlines()[1:]
        beginning = f"2025-06-15T15:06:40.250Z {os.getpid()} net.dns"
        self.assertEqual(
            (first, second), (f"{beginning} found: n=3", f"{beginning} info: found: n=3")
        )

    def test_run(self) -> None:
        """A run begins with versions and settings, and ends with the exit code."""
        log = self.open()
        written: list[tuple[str, dict[str, object]]] = []
        with mock.patch.object(DebugLog, "_log") as logger:
            logger.debug = lambda text, **fields: written.append((text, fields))
            environ = {
                "P2PSHARE_NAME": "bob",
                "P2PSHARE_INVITATION": "x.y",
                "LC_ALL": "C",
                "PS1": "$",
            }
            log.begin(["get", "alice:x"], environ)
            self.clock.advance(1.5)
            log.end(5)
        events = [text.partition(":")[0] for text, _ in written]
        variables = ["variable"] * 3
        self.assertEqual(events, ["run begins", "command", *variables, "run ends"])
        for fact in ("version", "python", "platform", "openssl"):
            self.assertTrue(written[0][1][fact])
        told = {str(fields["key"]): fields["value"] for _, fields in written[2:5]}
        expected = {"LC_ALL": "C", "P2PSHARE_INVITATION": HIDDEN, "P2PSHARE_NAME": "bob"}
        self.assertEqual(told, expected)
        self.assertEqual(written[-1][1], {"exit_code": 5, "s": 1.5})

    def test_traceback(self) -> None:
        """An unexpected error has its traceback, in indented lines."""
        log = self.open()
        try:
            raise ValueError("odd")
        except ValueError:
            Logger("x", observer=LogPublisher(log)).failure("it failed")
        self.assertRegex(
            self.path.read_text(), r"critical: it failed\n    Traceback[^\0]*\n    .*odd"
        )

    def test_secrets(self) -> None:
        """Threat 24: secret fields, passwords in URLs and forged lines are not written."""
        log = self.open()
        url = "http://bob:hun/ter@2@h/x"
        self.say(log, "token={token} url={url} {name}", token="t0ps3cret", url=url, name="a\nb")
        text = self.path.read_text()
        for secret in ("t0ps3cret", "hun", "ter"):
            self.assertNotIn(secret, text)
        self.assertEqual(text.count("\n"), 2)

    def test_words(self) -> None:
        """Threat 24: the command line is written without links, invitations and values of secret flags."""
        for words, expected in (
            (["get", "alice:x", "--name", "bob"], ["get", "alice:x", "--name", "bob"]),
            (["--passphrase-file", "hunter2", "x"], ["--passphrase-file", HIDDEN, "x"]),
            (["--invitation=abc", "x"], [f"--invitation={HIDDEN}", "x"]),
            (["--name", INVITATION], ["--name", HIDDEN]),
            (["join", "P2Pshare:aeaq"], ["join", HIDDEN]),
            (["--passphrase-file"], ["--passphrase-file"]),
        ):
            self.assertEqual(list(shown_words(words)), expected)

    def test_told(self) -> None:
        """The output of a command is logged, without invitations, hashes of contents and long listings."""
        written: list[tuple[str, dict[str, object]]] = []
        with mock.patch.object(debug_log, "_shown") as logger:
            logger.debug = lambda text, **fields: written.append((text, fields))
            log_output("saved", {"from": "alice:x", "path": Path("/x"), "root": "00ff"})
            log_output("entry", {"path": "x"})
            log_output("invitation", {"invitation": INVITATION})
        (saved, fields), (_, secret) = written
        self.assertEqual(saved, "saved: from={from!r} path={path!r}")
        self.assertEqual(fields, {"from": "alice:x", "path": "/x"})
        log = self.open()
        self.say(log, "invitation: invitation={invitation!r}", **secret)
        self.assertNotIn(INVITATION, self.path.read_text())
        self.assertIn(HIDDEN, self.path.read_text())


class FileTests(DebugLogTestCase):
    """The file, and files that are rejected."""

    def test_private(self) -> None:
        """The file becomes private, and a second run is appended."""
        mask = os.umask(0)
        self.addCleanup(os.umask, mask)
        for number in range(2):
            self.say(self.open(), "run {n}", n=number)
            self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
            self.path.chmod(0o644)
        text = self.path.read_text()
        self.assertTrue(text.startswith(PREFACE))
        self.assertEqual(text.count(PREFACE), 1)
        self.assertLess(text.index("run 0"), text.index("run 1"))

    def refused(self, reason: str) -> None:
        error = self.assertRaises(CannotSave, DebugLog, self.path, self.clock.seconds)
        self.assertEqual(error.fields["path"], self.path)
        self.assertIn(reason, str(error.fields["reason"]))

    def test_not_a_log(self) -> None:
        """A file with other contents and the target of a link stay unchanged; a FIFO does not block."""
        self.path.write_bytes(b"a picture")
        self.refused("not a debug log. Name another file")
        self.assertEqual(self.path.read_bytes(), b"a picture")
        self.path.rename(self.old)
        makers: tuple[tuple[Callable[[], object], str], ...] = (
            (lambda: self.path.symlink_to(self.old), plain_reason(OSError(errno.ELOOP, ""))),
            (lambda: os.mkfifo(self.path), "not a plain file"),
        )
        for make, reason in makers:
            make()
            self.refused(reason)
            self.path.unlink()
        self.path.mkdir()
        self.refused(plain_reason(OSError(errno.EISDIR, "")))
        self.path = self.path.parent / "none" / "file"
        self.refused(plain_reason(OSError(errno.ENOENT, "")))

    def test_of_another(self) -> None:
        """A file of another user is rejected."""
        self.say(self.open(), "one")
        with mock.patch.object(os, "geteuid", return_value=os.geteuid() + 1):
            self.refused("another user")

    def test_full_disk(self) -> None:
        """A full disk does not stop the command, and the number of lost lines is written later."""
        log = self.open()
        with mock.patch.object(os, "write", side_effect=OSError(errno.ENOSPC, "")):
            for _ in range(3):
                self.say(log, "lost")
        with mock.patch.object(os, "write", lambda fd, data: write(fd, data[:-5])):
            self.say(log, "cut short")
        self.say(log, "whole")
        lines = self.path.read_text().splitlines()[1:]
        self.assertEqual(lines[0], "(3 lines could not be written)")
        self.assertRegex(lines[1], r" cut $|cut s")
        self.assertTrue(lines[2].endswith(" whole"))

    def test_bound(self) -> None:
        """At its bound the file is renamed; two files are kept, also with several processes."""
        self.assertEqual(DEBUG_FILE_MAX, 8 * 1024 * 1024)
        self.patch(debug_log, "DEBUG_FILE_MAX", 2000)
        logs = [self.open(), self.open()]
        for number in range(200):
            self.say(logs[number % 2], "line {n:04}", n=number)
        for path in (self.path, self.old):
            self.assertLessEqual(path.stat().st_size, 2000)
        found = re.findall(r"line (\d+)", self.old.read_text() + self.path.read_text())
        self.assertEqual(found, [f"{n:04}" for n in range(200 - len(found), 200)])
        self.assertGreater(len(found), 20)
        self.assertEqual(sorted(os.listdir(self.path.parent)), ["debug.log", "debug.log.old"])

    def test_old_is_kept(self) -> None:
        """A file that is not a log is not replaced by the full one; further lines are lost."""
        self.patch(debug_log, "DEBUG_FILE_MAX", 2000)
        self.old.write_bytes(b"a picture")
        log = self.open()
        for number in range(100):
            self.say(log, "line {n:04}", n=number)
        self.assertEqual(self.old.read_bytes(), b"a picture")
        self.assertLessEqual(self.path.stat().st_size, 2000)

    def test_late(self) -> None:
        """An event from a thread after the end is dropped."""
        log = self.open()
        log.end(0)
        before = self.path.read_bytes()
        self.say(log, "late")
        self.assertEqual(self.path.read_bytes(), before)
