"""Tests for `p2pshare.ui.main`, without the reactor; process tests cover the rest."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.main import main

_SLOW = ("twisted", "numpy", "PIL", "rich", "cryptography")


class WrongUsageTests(SynchronousTestCase):
    def run_main(self, *words: str) -> tuple[int, str, str]:
        stdout, stderr = io.StringIO(), io.StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr):
            code = main(words)
        return code, stdout.getvalue(), stderr.getvalue()

    def test_people(self) -> None:
        """For people, wrong usage is one line on stderr."""
        for words in (["uesrs"], ["get"], ["users", "bob\x1b[2J\n"]):
            code, stdout, stderr = self.run_main(*words)
            self.assertEqual((code, stdout), (2, ""))
            self.assertRegex(stderr, r"^p2pshare: [^\x1b\n]*--help[^\x1b\n]*\n$")

    def test_programs(self) -> None:
        """For programs, wrong usage is an event on stdout, wherever `--json` stands."""
        for words in (["uesrs", "--json"], ["--json", "get"]):
            code, stdout, stderr = self.run_main(*words)
            self.assertEqual((code, stderr), (2, ""))
            event = json.loads(stdout)
            self.assertEqual((event["kind"], event["exit_code"]), ("wrong_usage", 2))


INTERRUPTED = """
import importlib.abc, signal, sys
class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
{start}
"""
"""A program that Ctrl+C reaches during an import."""
COMMAND = "from p2pshare.ui.start import main; main()"
TWISTD = "from twisted.scripts.twistd import run; run()"


class ImportsTests(SynchronousTestCase):
    def test_interrupted(self) -> None:
        """Ctrl+C ends a program without a word while modules are imported, also those of a verb and of a service."""
        for module, status, *words in (
            ("p2pshare.net.process_end", -signal.SIGINT, COMMAND, "users"),
            ("twisted", 130, COMMAND, "users"),
            ("p2pshare.net.command_line", -signal.SIGINT, TWISTD, "-n", "p2ppeer"),
        ):
            start, *arguments = words
            script = INTERRUPTED.format(module=module, start=start)
            done = subprocess.run(
                [sys.executable, "-c", script, *arguments],
                capture_output=True,
                text=True,
            )
            told = done.returncode, done.stdout, done.stderr
            self.assertEqual(told, (status, "", ""), module)

    def test_help_is_fast(self) -> None:
        """`--help` imports no slow package."""
        script = (
            "import sys, p2pshare.ui.main as main\n"
            "try: main.main(['--help'])\n"
            f"finally: print('slow:', *(name for name in {_SLOW} if name in sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0)
        self.assertTrue(done.stdout.endswith("slow:\n"))
