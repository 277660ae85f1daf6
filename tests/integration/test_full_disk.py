"""The command `get` onto a full disk."""

from __future__ import annotations

import os

from tests.integration.neighbourhood import TEXT, CommandLineTestCase
from tests.storage.small_disk import SIZE, small_disk


class FullDiskTests(CommandLineTestCase):
    """A disk of 2 MiB that is mostly full."""

    def test_same_again(self) -> None:
        """Threat 10: a full disk gives one sentence and exit code 1; with free space, the same command completes."""
        disk = small_disk(self)
        other = disk / "other"
        other.write_bytes(bytes(SIZE - len(TEXT) // 2))
        words = ("get", "alice:alice/my_file.txt", "--name", "dora", "--quiet")
        full = self.near.run(*words, cwd=disk)
        self.assertEqual((full.returncode, full.stdout), (1, ""))
        self.assertRegex(
            full.stderr,
            r"\Ap2pshare: \S*my_file\.txt needs [\d.]+ KiB, but its disk has [\d.]+ \w+ left\. Make room, and run the"
            r" same command again to continue\."
            r" `p2pshare get --clean FOLDER` removes what stopped transfers left\.\n\Z",
        )
        self.assertEqual(os.listdir(disk), ["other"])
        other.unlink()
        again = self.near.run(*words, cwd=disk)
        self.assertEqual((again.returncode, again.stderr), (0, ""))
        self.assertEqual(os.listdir(disk), ["my_file.txt"])
        self.assertEqual((disk / "my_file.txt").read_bytes(), TEXT)
