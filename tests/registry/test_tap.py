"""The command line of `twistd p2pregistry`."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.registry.service import PID_NAME
from p2pshare.registry.tap import Options, makeService
from p2pshare.storage.locks import FolderLock


class OptionsTests(SynchronousTestCase):
    """Options, and the data folder."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name, "data")

    def parse(self, *options: str, parent: Any = None) -> Options:
        parsed = Options()
        parsed.parent = parent
        parsed.parseOptions(["--data", str(self.folder), *options])
        return parsed

    def refusal(self, start: Callable[[], object]) -> tuple[object, str]:
        """The exit code of a start that is refused, and what is said of it."""
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
        """A bare port is a TCP port; endpoints are taken as they are, all of them."""
        options = self.parse("--listen", "8001", "--listen", "unix:/tmp/s")
        self.assertEqual(options["listen"], ["tcp:8001", "unix:/tmp/s"])

    def test_wrong(self) -> None:
        """Each is one sentence."""
        for wrong in (["--classic-lease", "0"], ["--classic-lease", "x"], ["--nonsense"], ["more"]):
            code, said = self.refusal(lambda wrong=wrong: self.parse(*wrong))  # type: ignore[misc]
            self.assertEqual(code, 2)
            self.assertRegex(said, r"^p2pregistry: .*`twistd p2pregistry --help`.*\.\n$")

    def test_pid_file(self) -> None:
        """Twistd's pid file lies in the data folder unless somebody wants it elsewhere."""
        twistd = {"pidfile": "twistd.pid"}
        self.parse(parent=twistd)
        self.assertEqual(twistd["pidfile"], str(self.folder / PID_NAME))
        twistd = {"pidfile": "/tmp/mine.pid"}
        self.parse(parent=twistd)
        self.assertEqual(twistd["pidfile"], "/tmp/mine.pid")

    def test_stale_pid_file(self) -> None:
        """One that nobody holds the lock for is removed; else the start is refused."""
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
        self.assertIn("in use", said)
        self.assertTrue(pid_file.exists())

    def test_pid_file_that_cannot_be_removed(self) -> None:
        """A folder of that name is a sentence."""
        Path(self.folder, PID_NAME).mkdir(parents=True)
        code, said = self.refusal(self.parse)
        self.assertEqual(code, 1)
        self.assertIn(f"{PID_NAME} cannot be removed", said)

    def test_private_folder(self) -> None:
        """The folder that is made is its owner's alone."""
        self.parse()
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)

    def test_service(self) -> None:
        """A good command line becomes a service; a bad URL or endpoint a sentence."""
        self.assertIsNotNone(makeService(self.parse("--redis", "redis://h")))
        for wrong in (["--redis", "h"], ["--redis", "redis://h", "--listen", "x:1"]):
            options = self.parse(*wrong)
            code, said = self.refusal(lambda options=options: makeService(options))  # type: ignore[misc]
            self.assertEqual(code, 2)
            self.assertIn(wrong[-2], said)


class PluginTests(SynchronousTestCase):
    """twistd finds the registry."""

    def test_listed(self) -> None:
        """Its name is among the subcommands."""
        self.assertIn("p2pregistry", [each.tapname for each in getPlugins(IServiceMaker)])
