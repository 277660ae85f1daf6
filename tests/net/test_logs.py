"""The log of a service."""

from __future__ import annotations

import glob
import io
import json
import signal
import unicodedata
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import WrongUsage
from p2pshare.net import logs
from p2pshare.net.logs import (
    FORMATS,
    HIDDEN,
    JSON,
    LOGS_KEPT,
    TEXT,
    Line,
    choose_log,
    log_observer,
)

HOSTILE = (
    "bob\n2026-01-01T00:00:00+0000 [x#critical] the registry is ready",
    'bob", "level": "critical", "x": "',
    "\x1b[2J\x1b[1A", "\x1b]52;c;ZXZpbA==\x07", "\x1b]8;;http://evil\x07here", "\x9b31m", "\r", "\x00", "\x08\x08",
    "\u202e\u2066", "\u2028\u2029\x85", "\ud800", "\U000e0041", "{log_time}{0.__class__}", "%s%n", "\x7f",
    "a" * 100_000,
)  # fmt: skip


def dangerous(text: str) -> list[str]:
    """Characters that control a terminal, or that it hides."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


class Written:
    """A log in memory, and its observer."""

    def __init__(self, form: str) -> None:
        self._file = io.StringIO()
        self.publisher = LogPublisher(log_observer(self._file, form))
        self.log = Logger("p2pshare.test", observer=self.publisher)

    @property
    def lines(self) -> list[str]:
        return self._file.getvalue().split("\n")[:-1]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


class JsonTests(SynchronousTestCase):
    """One object a line."""

    def test_event(self) -> None:
        """Time in UTC, level, namespace, message, and the fields under their names."""
        written = Written(JSON)
        written.publisher(
            {
                "log_time": 1750000000.25,
                "log_level": LogLevel.warn,
                "log_namespace": "p2pshare.registry",
                "log_format": "{name} has {count} of {what}",
                "name": "bob",
                "count": 3,
                "what": ["a"],
                "ratio": 0.5,
                "infinite": float("inf"),
                "nothing": None,
            }
        )
        (event,) = written.events
        self.assertEqual(
            event,
            {
                "time": "2025-06-15T15:06:40.250Z",
                "level": "warn",
                "namespace": "p2pshare.registry",
                "message": "bob has 3 of ['a']",
                "name": "bob",
                "count": 3,
                "what": "['a']",
                "ratio": 0.5,
                "infinite": "inf",
                "nothing": None,
            },
        )

    def test_failure(self) -> None:
        """A traceback is a field of the same line."""
        written = Written(JSON)
        try:
            raise RuntimeError("broken\nin two")
        except RuntimeError:
            written.log.failure("it failed", Failure())
        (event,) = written.events
        self.assertEqual(event["message"], "it failed")
        self.assertEqual(event["level"], "critical")
        self.assertIn("RuntimeError: broken", event["traceback"])

    def test_fields_of_ours_are_safe(self) -> None:
        """A field cannot pose as the level, the time or the message."""
        written = Written(JSON)
        posing = {"level": "critical", "time": "never", "message": "no", "namespace": "x"}
        written.publisher(
            {
                "log_level": LogLevel.info,
                "log_namespace": "p2pshare.test",
                "log_format": "hello",
                **posing,
            }
        )
        (event,) = written.events
        self.assertEqual(event["level"], "info")
        self.assertEqual(event["message"], "hello")
        self.assertEqual(event["namespace"], "p2pshare.test")


class LevelTests(SynchronousTestCase):
    """Events that are written."""

    def test_debug(self) -> None:
        """Events at level debug are written in neither format."""
        for form in (TEXT, JSON):
            written = Written(form)
            written.log.debug("a receipt that is not valid here")
            written.log.info("the registry is ready")
            self.assertEqual(len(written.lines), 1, form)
            self.assertIn("the registry is ready", written.lines[0])


class InjectionTests(SynchronousTestCase):
    """Text from other machines stays text (threat 4)."""

    def written_of(self, text: str, form: str) -> Written:
        """Return the lines with this text as a field, in a message, in a format and in a failure."""
        written = Written(form)
        written.log.info("{text} came", text=text)
        written.log.info("{text!r} came", text=text)
        written.log.warn("came", **{"odd" + text[:9]: text})
        return written

    def check(self, text: str) -> None:
        for form in FORMATS:
            written = self.written_of(text, form)
            self.assertEqual(len(written.lines), 3, form)
            for line in written.lines:
                self.assertEqual(dangerous(line), [], form)
                self.assertLess(len(line), 6 * 3 * logs.MESSAGE_MAX)
            if form == JSON:
                for event in written.events:
                    self.assertNotEqual(event["level"], "critical")
                    for value in event.values():
                        self.assertEqual(dangerous(str(value)), [])

    def test_corpus(self) -> None:
        """Threat 4: newlines, escape sequences and bidirectional marks are escaped."""
        for text in HOSTILE:
            self.check(text)

    @given(st.text(alphabet=st.characters(), max_size=40))
    def test_any(self, text: str) -> None:
        """The same applies to any text."""
        self.check(text)

    def test_failure(self) -> None:
        """The text of an exception cannot look like a line of the log, since tracebacks are indented."""
        written = Written(TEXT)
        try:
            raise RuntimeError("x\n2026-01-01T00:00:00+0000 [x#info] forged\x1b[2J")
        except RuntimeError:
            written.log.failure("it failed", Failure())
        self.assertIn("it failed", written.lines[0])
        self.assertGreater(len(written.lines), 3)
        for line in written.lines[1:]:
            self.assertTrue(line.startswith("    "), line)
            self.assertTrue(line.isprintable(), line)


class SecretTests(SynchronousTestCase):
    """Threat 24: secrets are not written, in either format."""

    def test_fields(self) -> None:
        """Fields with secret names, and passwords in URLs, are hidden everywhere."""
        for form in FORMATS:
            written = Written(form)
            for name in (
                "token",
                "password",
                "mac_key",
                "seed",
                "registry_secret",
                "invitation",
                "link",
            ):
                written.log.info("here is {it}".replace("it", name), **{name: "hunter2"})
            written.log.info("{url}", url="redis://user:hunter2@host/1")
            written.log.info("{error!s}", error=RuntimeError("at rediss://:hunter2@h:1: no"))
            written.log.info("{at}", at="redis+sentinel://h/m?sentinel_password=hunter2&x=1")
            try:
                raise RuntimeError("redis+sentinel://u:hunter2@a,b/main")
            except RuntimeError:
                written.log.failure("failed", Failure())
            said = "\n".join(written.lines)
            self.assertNotIn("hunter2", said)
            self.assertIn(f"here is {HIDDEN}", said)
            self.assertIn("@host/1", said)


class PassedOnTests(SynchronousTestCase):
    """The lines of another process."""

    def test_passed_on(self) -> None:
        """They are written like those of this process, with the number of the worker."""
        there, here = Written(JSON), Written(JSON)
        try:
            raise RuntimeError("why")
        except RuntimeError:
            there.log.failure("{name} failed {braces}", Failure(), name="bob", braces="{x}")
        globalLogPublisher.addObserver(here.publisher)
        self.addCleanup(globalLogPublisher.removeObserver, here.publisher)
        Line.from_json(there.lines[0]).emit(2)
        self.assertEqual(here.events, [{**there.events[0], "worker": 2}])

    def test_no_line(self) -> None:
        """Other lines are rejected."""
        for text in ("", "x", "[]", "{}", '{"time": 1}', "1", '{"time": "x", "level": "info"}'):
            self.assertRaises(ValueError, Line.from_json, text)
        good = json.loads(Line(0.0, "info", "n", "m", {}).to_json())
        for wrong in ({"level": "loud"}, {"time": "yesterday"}, {"level": 1}):
            with self.assertRaises(ValueError):
                Line.from_json(json.dumps({**good, **wrong}))


DEFAULT = Path("/nonexistent/default.log")


class ChoiceTests(SynchronousTestCase):
    """twistd's log."""

    def test_chosen(self) -> None:
        """The logger is passed to twistd by name."""
        twistd = {"logger": None, "syslog": False, "nodaemon": True, "logfile": None}
        self.assertIsNone(choose_log(twistd, JSON, DEFAULT))
        self.assertEqual(twistd["logger"], "p2pshare.net.logs.service_observer")
        stdout = io.StringIO()
        with patch("sys.stdout", stdout):
            Logger("x", observer=logs.service_observer()).info("hello")
        self.assertEqual(json.loads(stdout.getvalue())["message"], "hello")

    def test_file(self) -> None:
        """`--logfile` names its file."""
        path = self.mktemp()
        twistd = {"logger": None, "nodaemon": True, "logfile": path}
        self.assertEqual(choose_log(twistd, TEXT, DEFAULT), path)
        with patch("signal.getsignal", lambda _number: True):
            observer: Any = logs.service_observer()
        Logger("x", observer=observer).info("hello")
        observer._outFile.close()
        self.assertIsNone(observer._outFile.maxRotatedFiles)
        with open(path, encoding="utf-8") as file:
            self.assertRegex(file.read(), r"^\d{4}-\S+ \[x#info\] hello\n$")

    def test_default(self) -> None:
        """A daemon always has a file, and a bounded number of old ones, unless twistd has `--debug`."""
        path = self.mktemp()
        twistd: dict[str, Any] = {"logger": None, "nodaemon": False, "logfile": None}
        self.assertEqual(choose_log(twistd, TEXT, Path(path)), path)
        self.assertEqual(twistd["logfile"], path)
        with patch("signal.getsignal", lambda _number: True):
            observer: Any = logs.service_observer()
        log = Logger("x", observer=observer)
        for number in range(LOGS_KEPT + 5):
            observer._outFile.rotate_soon()
            log.info("{number}", number=number)
        observer._outFile.close()
        kept = {path, *(f"{path}.{number}" for number in range(1, LOGS_KEPT + 1))}
        self.assertEqual(set(glob.glob(f"{path}*")), kept)
        debugged = {"logger": None, "nodaemon": False, "debug": True, "logfile": "-"}
        self.assertIsNone(choose_log(debugged, TEXT, DEFAULT))

    def test_rotated(self) -> None:
        """SIGUSR1 begins a new file; the old one is renamed."""
        path = self.mktemp()
        choose_log({"logger": None, "nodaemon": False, "logfile": path}, TEXT, DEFAULT)
        with (
            patch("signal.getsignal", lambda _number: signal.SIG_DFL),
            patch("signal.signal") as handled,
        ):
            observer: Any = logs.service_observer()
        log = Logger("x", observer=observer)
        log.info("first")
        ((number, rotate), _options) = handled.call_args
        self.assertEqual(number, signal.SIGUSR1)
        rotate(number, None)
        log.info("second")
        log.info("third")
        observer._outFile.close()
        for name, said in ((path, ["second", "third"]), (f"{path}.1", ["first"])):
            with open(name, encoding="utf-8") as file:
                self.assertEqual([line.split()[-1] for line in file], said)

    def test_daemon_on_stdout(self) -> None:
        """A daemon has no standard output."""
        daemon = {"logger": None, "nodaemon": False, "logfile": "-"}
        self.assertRaises(WrongUsage, choose_log, daemon, TEXT, DEFAULT)

    def test_elsewhere(self) -> None:
        """A log that goes elsewhere is left to twistd, and cannot be JSON."""
        for twistd in ({"logger": "mine"}, {"logger": None, "syslog": True}, {}, None):
            before = dict(twistd or {})
            self.assertIsNone(choose_log(twistd, TEXT, DEFAULT))
            self.assertEqual(twistd or {}, before)
            self.assertRaises(WrongUsage, choose_log, twistd, JSON, DEFAULT)
        self.assertRaises(WrongUsage, choose_log, {"logger": None}, "xml", DEFAULT)
