"""Incoming files of processes that are killed, and of two processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
KILLS_MIN = 150

FETCHING = """
import pathlib, sys
from p2pshare.storage.incoming.announcement import Announced, Origin, Place
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.wire.blocks import root_of
from p2pshare.wire.keys import PublicKey
with IncomingFolder.open(pathlib.Path(sys.argv[1])) as folder:
    sys.stdin.readline()
    for number in range(40):
        origin = Origin(PublicKey(b"k" * 32), (sys.argv[2], str(number)))
        part = folder.begin(Place((), "cat.jpg"), origin, Announced(0, 0, False, "v1"))
        print(part.finish(root_of(0, ())).name)
"""


class KilledTests(SynchronousTestCase):
    """Promises P1 to P3 under `kill -9` at every relevant system call, and at random moments."""

    def test_killed(self) -> None:
        """Threat 39: after each kill, every named file is complete and every journalled block present. The next run
        completes the file and leaves no other.
        """
        folder = Path(self.mktemp()).absolute()
        (folder / "a").mkdir(parents=True)
        command = [sys.executable, "-m", "tests.integration.incoming_kills", str(folder)]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        lines = said.stdout.splitlines()
        self.assertEqual([line for line in lines if not line.endswith(": good")], [])
        self.assertEqual((said.returncode, said.stderr), (0, ""))
        self.assertGreaterEqual(len(lines), KILLS_MIN)
        self.assertEqual(os.listdir(folder / "a"), [])


class TwoProcessesTests(SynchronousTestCase):
    """Two processes that save into one folder."""

    def test_one_name(self) -> None:
        """Threat 3: two processes that repeatedly want the same name get different names each time."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", FETCHING, str(folder), each],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for each in "ab"
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        names = [
            name for process in processes for name in process.communicate()[0].split("\n")[:-1]
        ]
        self.assertEqual(len(set(names)), 80)
        self.assertEqual(sorted(names), sorted(os.listdir(folder)))
