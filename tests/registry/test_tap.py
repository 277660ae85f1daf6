"""The command line of `twistd p2pregistry`."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from twisted.application.service import IServiceMaker
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, globalLogPublisher
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.registry import tap
from p2pshare.registry.assembly import KEY_NAME
from p2pshare.registry.configuration import DEFAULT_LIMITS, RateLimit, RelayLimits
from p2pshare.registry.service import PID_NAME
from p2pshare.registry.tap import REDIS_VARIABLE, Options, makeService
from p2pshare.storage.locks import FolderLock


class OptionsTests(SynchronousTestCase):
    """Options, and the data folder."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name, "data")
        # Later tests use the same reactor, and some of them take its time for a date.
        self.patch(tap, "make_monotonic", lambda _reactor: None)

    def parse(self, *options: str, parent: Any = None) -> Options:
        parsed = Options()
        parsed.parent = parent
        parsed.parseOptions(["--data", str(self.folder), *options])
        return parsed

    def refusal(self, start: Callable[[], object]) -> tuple[object, str]:
        """Return the exit code and the message of a failed start."""
        with redirect_stderr(io.StringIO()) as stderr, self.assertRaises(SystemExit) as caught:
            start()
        return caught.exception.code, stderr.getvalue()

    def test_defaults(self) -> None:
        """Port 8000, and a Redis of its own."""
        options = self.parse()
        self.assertEqual(options["listen"], ["tcp:8000"])
        self.assertIsNone(options["redis"])
        self.assertEqual(options["classic-lease"], 86400)

    def test_listen(self) -> None:
        """A number is a TCP port; endpoints are passed on unchanged."""
        options = self.parse("--listen", "8001", "--listen", "unix:/tmp/s")
        self.assertEqual(options["listen"], ["tcp:8001", "unix:/tmp/s"])

    def test_settings(self) -> None:
        """The settings of all processes: URLs are canonical, and duplicates are removed."""
        settings = self.parse(
            "--url", "HTTPS://Names.Example:443/", "--url", "http://10.0.0.1:8000", "--url", "https://names.example",
            "--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "::1", "--limit", "claims=5:50", "--limit", "key=off",
            "--invite-only", "--replicas", "1", "--classic-lease", "60", "--workers", "2",
            "--relay-limit", "pairs=9", "--relay-limit", "rate=1MB/s",
        ).settings("redis://h")  # fmt: skip
        self.assertEqual(settings.urls, ("https://names.example", "http://10.0.0.1:8000"))
        self.assertEqual(settings.trusted_proxies, ("10.0.0.0/8", "::1"))
        self.assertEqual(settings.limits["claims"], RateLimit(5, 50, spares_loopback=False))
        self.assertEqual(settings.limits["names"], DEFAULT_LIMITS["names"])
        self.assertNotIn("key", settings.limits)
        self.assertTrue(settings.invite_only)
        self.assertEqual((settings.replicas, settings.classic_lease), (1, 60))
        self.assertEqual((settings.redis, settings.data), ("redis://h", self.folder))
        self.assertIsNone(settings.metrics_token)
        plain = self.parse().settings("redis://h")
        self.assertEqual(plain.limits, DEFAULT_LIMITS)
        self.assertEqual(settings.relay, replace(RelayLimits(), pairs=9, rate=1e6).shared_by(2))
        self.assertEqual(plain.relay, RelayLimits())
        self.assertIsNone(self.parse("--no-relay").settings("redis://h").relay)
        self.assertEqual((plain.urls, plain.invite_only, plain.replicas), ((), False, 0))

    def test_secrets(self) -> None:
        """The URL of Redis and the metrics' token can come from files, the URL from the environment (threat 24)."""
        self.folder.parent.joinpath("url").write_text("redis://u:p@h/1\n")
        self.folder.parent.joinpath("token").write_text("0123456789abcdef")
        url, token = str(self.folder.parent / "url"), str(self.folder.parent / "token")
        options = self.parse("--redis-url-file", url, "--metrics-token-file", token)
        self.assertEqual(options["redis"], "redis://u:p@h/1")
        Path(url).write_text("redis://u:p@h/1\r\n", "utf-8-sig")
        self.assertEqual(self.parse("--redis-url-file", url)["redis"], "redis://u:p@h/1")
        self.assertEqual(options.settings("x").metrics_token, "0123456789abcdef")
        with patch.dict("os.environ", {REDIS_VARIABLE: "redis://elsewhere"}):
            self.assertEqual(self.parse()["redis"], "redis://elsewhere")
            self.assertEqual(self.parse("--redis", "redis://here")["redis"], "redis://here")
            self.assertEqual(self.parse("--redis-url-file", url)["redis"], "redis://u:p@h/1")

    def test_bad_secrets(self) -> None:
        """A file with other contents is named, but its contents are not shown."""
        path = self.folder.parent / "file"
        for content in (
            b"",
            b"two words",
            b"hunter2\nhunter2hunter2hunter2",
            b"\xff" * 20,
            b"x" * 5000,
        ):
            path.write_bytes(content)
            for option in ("--redis-url-file", "--metrics-token-file"):
                code, said = self.refusal(lambda option=option: self.parse(option, str(path)))  # type: ignore[misc]
                self.assertEqual(code, 2)
                self.assertIn(f"{option} {path}", said)
                self.assertNotIn("hunter2", said)
        path.write_text("redis://u:hunter2@h", "utf-16")
        _, said = self.refusal(lambda: self.parse("--redis-url-file", str(path)))
        self.assertIn("UTF-16", said)
        self.assertNotIn("hunter2", said)
        path.write_text("short")
        _, said = self.refusal(lambda: self.parse("--metrics-token-file", str(path)))
        self.assertIn("16 to ", said)

    def test_password_on_command_line(self) -> None:
        """Threat 24: a password on the command line causes a warning that does not contain it."""
        for option, count in (("redis://u:hunter2@h", 1), ("redis://h", 0)):
            observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
            makeService(self.parse("--redis", option))
            warnings = [each for each in observer if each["log_level"] is LogLevel.warn]
            self.assertEqual(len(warnings), count)
            self.assertNotIn("hunter2", str(warnings))

    def test_log_format(self) -> None:
        """JSON needs twistd's own log."""
        twistd = {"pidfile": "twistd.pid", "logger": None, "nodaemon": True}
        self.parse("--log-format", "json", parent=twistd)
        self.assertEqual(twistd["logger"], "p2pshare.net.logs.service_observer")
        for parent in (None, {"pidfile": "x", "logger": None, "syslog": True}):
            code, said = self.refusal(
                lambda parent=parent: self.parse("--log-format", "json", parent=parent)  # type: ignore[misc]
            )
            self.assertEqual(code, 2)
            self.assertIn("--logfile", said)

    def test_key(self) -> None:
        """The registry's key is created at the first start, private, and kept."""
        makeService(self.parse("--redis", "redis://h"))
        key = (self.folder / KEY_NAME).read_bytes()
        self.assertEqual((self.folder / KEY_NAME).stat().st_mode & 0o777, 0o600)
        makeService(self.parse("--redis", "redis://h", "--workers", "2"))
        self.assertEqual((self.folder / KEY_NAME).read_bytes(), key)
        (self.folder / KEY_NAME).write_text("x")
        options = self.parse("--redis", "redis://h")
        code, said = self.refusal(lambda: makeService(options))
        self.assertEqual(code, 3)
        self.assertIn(KEY_NAME, said)

    def test_wrong(self) -> None:
        """Each is one sentence with exit code 2."""
        for wrong in (
            ["--classic-lease", "0"], ["--classic-lease", "x"], ["--nonsense"], ["more"], ["--workers", "0"],
            ["--workers", "65"], ["--replicas", "x"], ["--url", "x y"], ["--url", "http://h/path"], ["--url", ""],
            ["--trusted-proxy", "h"], ["--limit", "x=1"], ["--redis", "redis://h", "--redis-url-file", "f"],
            ["--download-url", "javascript:x"], ["--relay-limit", "pairs"],
        ):  # fmt: skip
            code, said = self.refusal(lambda wrong=wrong: self.parse(*wrong))  # type: ignore[misc]
            self.assertEqual(code, 2)
            self.assertRegex(said, r"^p2pregistry: .*`twistd p2pregistry --help`.*\.\n$")

    def test_pid_file(self) -> None:
        """The pid file of twistd is in the data folder unless the user names another path."""
        twistd = {"pidfile": "twistd.pid"}
        self.parse(parent=twistd)
        self.assertEqual(twistd["pidfile"], str(self.folder / PID_NAME))
        twistd = {"pidfile": "/tmp/mine.pid"}
        self.parse(parent=twistd)
        self.assertEqual(twistd["pidfile"], "/tmp/mine.pid")

    def test_stale_pid_file(self) -> None:
        """A stale pid file is removed; if the folder is locked, the start is refused."""
        self.folder.mkdir()
        pid_file = self.folder / PID_NAME
        pid_file.write_text("1")
        self.parse()
        self.assertFalse(pid_file.exists())
        lock = FolderLock.take(self.folder)
        self.addCleanup(lock.release)
        pid_file.write_text("1")
        code, said = self.refusal(self.parse)
        self.assertEqual(code, 3)
        self.assertIn(str(os.getpid()), said)
        self.assertTrue(pid_file.exists())

    def test_pid_file_that_cannot_be_removed(self) -> None:
        """A folder with the name of the pid file is an error."""
        Path(self.folder, PID_NAME).mkdir(parents=True)
        code, said = self.refusal(self.parse)
        self.assertEqual(code, 1)
        self.assertIn(PID_NAME, said)

    def test_private_folder(self) -> None:
        """A new data folder is private."""
        self.parse()
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)

    def test_service(self) -> None:
        """A valid command line gives a service; an invalid URL or endpoint is an error."""
        self.assertIsNotNone(makeService(self.parse("--redis", "redis://h")))
        self.assertIsNotNone(makeService(self.parse("--redis", "redis://h", "--workers", "2")))
        for wrong in (
            ["--redis", "h"],
            ["--redis", "h", "--workers", "2"],
            ["--redis", "redis://h", "--listen", "x:1"],
            ["--redis", "redis://h", "--metrics", "x:1"],
        ):
            options = self.parse(*wrong)
            code, said = self.refusal(lambda options=options: makeService(options))  # type: ignore[misc]
            self.assertEqual(code, 2)
            self.assertIn(wrong[-2] if wrong[-2] != "--workers" else "--redis", said)


class PluginTests(SynchronousTestCase):
    """twistd finds the registry."""

    def test_listed(self) -> None:
        """Its name is among the subcommands."""
        self.assertIn("p2pregistry", [each.tapname for each in getPlugins(IServiceMaker)])
