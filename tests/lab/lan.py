"""Peers in one network without a registry: the commands that users run, in namespaces, over the kernel's multicast."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.forked import Popen
from tests.lab.commands import PATIENCE
from tests.lab.namespaces import Namespace, why_not
from tests.lab.world import _COMMAND, _TWISTD, _entering

CONTENT = os.urandom(3_000_000)


class LanTests(SynchronousTestCase):
    """Two machines, and a cable between them."""

    def setUp(self) -> None:
        if (reason := why_not()) is not None:
            raise SkipTest(reason)
        folder = tempfile.TemporaryDirectory(prefix="p2pshare-lan-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.left, self.right = Namespace(), Namespace()
        self.addCleanup(self.left.close)
        self.addCleanup(self.right.close)
        self.left.join("wire", self.right, "wire")
        (self.folder / "share").mkdir()
        (self.folder / "share" / "film.bin").write_bytes(CONTENT)

    def address(self, *networks: str) -> None:
        """Give the machines addresses in networks, such as `192.0.2.{}/24`."""
        for number, machine in enumerate((self.left, self.right), 1):
            for network in networks:
                machine.later(f"addr add {network.format(number)} dev wire")
            machine.configure()

    def start(self, machine: Namespace, name: str, code: str, *words: str) -> subprocess.Popen[Any]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("P2PSHARE_")}
        home = self.folder / name
        home.mkdir(exist_ok=True)
        process = Popen(
            [sys.executable, "-c", _entering(machine.pid) + code, *words],
            cwd=home,
            env=kept
            | {"XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[Any], number: int = signal.SIGTERM) -> None:
        if process.poll() is None:
            process.send_signal(number)
        process.communicate(timeout=PATIENCE)

    def command(self, machine: Namespace, name: str, *words: str) -> subprocess.Popen[Any]:
        return self.start(machine, name, _COMMAND, *words, "--name", name)

    def run_to_end(self, machine: Namespace, name: str, *words: str) -> tuple[int, str]:
        process = self.command(machine, name, *words)
        output, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, output

    def share(self, machine: Namespace, name: str, *flags: str) -> subprocess.Popen[Any]:
        """Start a peer without a registry, and wait until it is announced."""
        words = ("-n", "p2ppeer", "--name", name, "--share", str(self.folder / "share"), *flags)
        process = self.start(machine, name, _TWISTD, *words)
        assert process.stdout is not None
        for line in process.stdout:
            if "registered: name=" in line:
                return process
        self.fail("the peer did not start")

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def test_from_nothing_to_a_file(self) -> None:
        """Two commands and the consent of the sharer fetch a file; no registry is configured anywhere."""
        self.address("192.0.2.{}/24")
        self.share(self.right, "bob")
        getting = self.command(self.left, "alice", "get", "bob:share/film.bin")
        waits: list[str] = []

        def has_asked() -> bool:
            _, told = self.run_to_end(self.right, "bob", "peers")
            waits[:] = [line for line in told.splitlines() if line.startswith("alice\t")]
            return bool(waits)

        self.until(has_asked)
        self.assertIn("may see", self.run_to_end(self.right, "bob", "peers", "accept", "alice")[1])
        output, _ = getting.communicate(timeout=PATIENCE)
        self.assertEqual(getting.returncode, 0, output)
        self.assertEqual((self.folder / "alice" / "film.bin").read_bytes(), CONTENT)
        code, told = self.run_to_end(self.left, "alice", "whoami", "--json")
        self.assertIn(waits[0].split("\t")[1], told)  # the key that the sharer was shown
        self.assertEqual(code, 0)

    def test_impersonation(self) -> None:
        """Threat 62: of two peers with one name, over IPv6 alone, the known one is asked; unknown ones are refused."""
        self.address("fd00::{}/64")
        self.share(self.right, "bob", "--allow", "@lan")
        code, told = self.run_to_end(self.left, "carol", "ls", "bob")
        self.assertEqual((code, told.splitlines()[-1][:5]), (0, "share"))
        self.share(self.left, "bob", "--data", str(self.folder / "thief"), "--allow", "@lan")
        code, told = self.run_to_end(self.left, "carol", "users")
        self.assertEqual((code, told.count("bob"), told.count("another key")), (0, 2, 1), told)
        code, told = self.run_to_end(self.left, "carol", "ls", "bob")
        self.assertEqual(code, 0, told)
        code, told = self.run_to_end(self.left, "dave", "ls", "bob")
        self.assertEqual((code, "Several peers" in told), (3, True), told)
