"""Both ends of a session together: TLS on loopback, real shares, real folders."""

from __future__ import annotations

import os
import random

from p2pshare.wire.blocks import BLOCK_SIZE
from tests.peer.sharers import SharersTestCase

LARGE = random.Random(4).randbytes(5 * BLOCK_SIZE + 17)


class FetchTests(SharersTestCase):
    """What is shared arrives as it is."""

    async def test_large_and_small(self) -> None:
        """Files of all sizes arrive bit for bit, with their times and the executable bit."""
        sizes = [0, 1, 4096, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, len(LARGE)]
        for size in sizes:
            self.write(f"deep/{size}.bin", LARGE[:size], mtime=1_600_000_000 + size)
        os.chmod(self.share / "deep/4096.bin", 0o755)
        (self.share / "empty").mkdir()
        alice = self.alice()
        remote = self.remote(lambda: alice.address)
        progress = await self.fetch(remote, "share")
        self.assertEqual(self.failed, {})
        self.assertEqual(self.came(), {f"share/deep/{size}.bin": LARGE[:size] for size in sizes})
        self.assertTrue((self.inbox / "share/empty").is_dir())
        for size in sizes:
            stat = (self.inbox / f"share/deep/{size}.bin").stat()
            self.assertEqual(stat.st_mtime, 1_600_000_000 + size)
            self.assertEqual(bool(stat.st_mode & 0o100), size == 4096)
        self.assertEqual((progress.files_done, progress.files_total), (7, 7))
        self.assertEqual(progress.bytes_done, sum(sizes))
        self.assertEqual(progress.bytes_total, sum(sizes))
        self.assertEqual(progress.current, ())
