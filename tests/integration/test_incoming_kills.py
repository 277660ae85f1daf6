"""Files that come, by processes that are killed, and by two processes at once."""

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
    """P1 to P3, by `kill -9` at every call that matters, and at any moment."""

    def test_killed(self) -> None:
        """Threat 39: after each kill, a file under its name is whole, what was journalled is there, and the next try
        completes it and leaves nothing else.
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
    """Two processes, one folder."""

    def test_one_name(self) -> None:
        """Threat 3: of two processes that want one name again and again, each gets another one each time."""
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
