"""`p2pshare.storage.incoming.sequential_file` under real kills and on a real full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.os_errors import plain_reason
from tests.integration.forked import Popen

KILLS = 12
SIZE = 256 * 1024  # bytes of each file

WRITER = f"""
import pathlib, sys
from p2pshare.storage.incoming.sequential_file import SequentialFile
while True:
    for overwrite in (False, True):
        with SequentialFile.create(pathlib.Path(sys.argv[1]), "alice.bin") as part:
            part.write(bytes({SIZE}))
            part.commit(overwrite=overwrite)
    print("saved", flush=True)
"""

LIMITED = """
import pathlib, resource, sys
from p2pshare.errors import CannotSave
from p2pshare.storage.incoming.sequential_file import SequentialFile
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with SequentialFile.create(pathlib.Path(sys.argv[1]), "alice.bin") as part:
        part.write(bytes(100_001))
        part.commit()
except CannotSave as error:
    print(error)
"""


class KilledTests(SynchronousTestCase):
    def test_whole_or_absent(self) -> None:
        """After a kill at any moment, each file under a final name is complete."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for kill in range(KILLS):
            command = [sys.executable, "-c", WRITER, str(folder)]
            with Popen(command, stdout=subprocess.PIPE) as writer:
                assert writer.stdout is not None
                for _ in range(1 + kill % 3):
                    writer.stdout.readline()
                writer.kill()
        names = os.listdir(folder)
        self.assertIn("alice.bin", names)
        for name in names:
            if name.startswith("."):
                self.assertRegex(name, r"^\.alice\.bin\.p2pshare-[0-9a-f]{8}\.part$")
            else:
                self.assertEqual((folder / name).stat().st_size, SIZE, name)


class LimitTests(SynchronousTestCase):
    def test_file_size_limit(self) -> None:
        """An error of the real file system becomes one sentence, and no file is left."""
        folder = Path(self.mktemp())
        folder.mkdir()
        command = [sys.executable, "-c", LIMITED, str(folder)]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        self.assertRegex(said.stdout, "alice.bin .*" + plain_reason(OSError(errno.EFBIG, "")))
        self.assertEqual(os.listdir(folder), [])
