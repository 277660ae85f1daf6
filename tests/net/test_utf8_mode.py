"""Tests of `p2pshare.net.utf8_mode`, and of file names that the locale cannot encode."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

from p2pshare.net.utf8_mode import require_utf8

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""An environment in which Python takes file names and arguments for ASCII."""
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n"]
COMMAND = [sys.executable, "-c", "from p2pshare.ui.main import main; main()"]


class Utf8ModeTests(unittest.TestCase):
    def test_needless(self) -> None:
        """If names are UTF-8, nothing happens."""
        started: list[Any] = []
        for encoding in ("utf-8", "UTF-8", "utf8", None):
            require_utf8(lambda *words: started.append(words), encoding)
        self.assertEqual(started, [])

    def test_started_again(self) -> None:
        """Otherwise the process executes itself with the same words."""
        started: list[Any] = []
        require_utf8(lambda *words: started.append(words), "ascii")
        ((program, words, environ),) = started
        self.assertEqual((program, words[0]), (sys.executable, os.fsencode(sys.executable)))
        self.assertEqual(words[1:3], [b"-X", b"utf8"])
        self.assertEqual(words[3:], [os.fsencode(each) for each in sys.orig_argv[1:]])
        self.assertEqual(environ["PYTHONUTF8"], "1")
        self.assertTrue(environ["PYTHONIOENCODING"])

    def run_in_ascii(self, *command: str) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory(prefix="p2p-") as folder:
            home = {"HOME": folder, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **home, **ASCII},
            )

    def test_command(self) -> None:
        """A command accepts names beyond ASCII; only the missing registry is an error."""
        words = ("get", "alice:ñ日.txt", "ñ", "--name", "bob", "--registry", "http://127.0.0.1:9")
        done = self.run_in_ascii(*COMMAND, *words)
        self.assertEqual(done.returncode, 5, done.stderr)
        self.assertIn("http://127.0.0.1:9", done.stderr)

    def test_service(self) -> None:
        """A service finds such files on the disk."""
        done = self.run_in_ascii(*TWISTD, "p2ppeer", "--name", "bob", "--share", "/nowhere/ñ日")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(r"/nowhere/\xf1\u65e5", done.stderr)
        self.assertNotIn("Unicode", done.stderr)
