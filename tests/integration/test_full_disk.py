"""The command onto a disk that is full."""

from __future__ import annotations

import os

from tests.integration.neighbourhood import TEXT, CommandLineTestCase
from tests.storage.small_disk import SIZE, small_disk


class FullDiskTests(CommandLineTestCase):
    """A disk of 2 MiB, of which somebody else has most."""

    def test_same_again(self) -> None:
        """Threat 10: a full disk is one sentence and exit code 1; with room, the same command goes on to the end."""
        disk = small_disk(self)
        other = disk / "other"
        other.write_bytes(bytes(SIZE - len(TEXT) // 2))
        words = ("get", "alice:alice/my_file.txt", "--name", "dora", "--quiet")
        full = self.near.run(*words, cwd=disk)
        self.assertEqual((full.returncode, full.stdout), (1, ""))
        self.assertRegex(
            full.stderr,
            r"\Ap2pshare: \S*my_file\.txt needs [\d.]+ KiB, but its disk has [\d.]+ \w+ left: make room, and do the"
            r" same again, which goes on there\."
            r" `p2pshare get --clean FOLDER` removes what stopped transfers left\.\n\Z",
        )
        self.assertEqual(os.listdir(disk), ["other"])
        other.unlink()
        again = self.near.run(*words, cwd=disk)
        self.assertEqual((again.returncode, again.stderr), (0, ""))
        self.assertEqual(os.listdir(disk), ["my_file.txt"])
        self.assertEqual((disk / "my_file.txt").read_bytes(), TEXT)
