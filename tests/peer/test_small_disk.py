"""Whole jobs onto a disk that is full before they are over."""

from __future__ import annotations

import os
import random

from p2pshare.errors import DiskFull
from p2pshare.wire.blocks import BLOCK_SIZE
from tests.peer.sharers import SharersTestCase
from tests.storage.small_disk import SIZE, small_disk


class SmallDiskTests(SharersTestCase):
    """A disk of 2 MiB, of which somebody else has most."""

    def setUp(self) -> None:
        """Find a disk."""
        super().setUp()
        self.inbox = small_disk(self)
        self.other = self.inbox / "other"
        self.other.write_bytes(bytes(SIZE - BLOCK_SIZE // 2))

    async def check(self, files: dict[str, bytes]) -> int:
        """A job fails on the full disk, and is whole with room; how many files it found there then."""
        for name, data in files.items():
            self.write(name, data)
        alice = self.alice()
        with self.assertRaises(DiskFull):
            await self.fetch(self.remote(lambda: alice.address), "share")
        came = {name for name in self.came() if not os.path.basename(name).startswith(".")}
        self.assertLess(len(came - {"other"}), len(files))
        self.other.unlink()
        progress = await self.fetch(self.remote(lambda: alice.address), "share")
        self.assertEqual(self.failed, {})
        self.assertEqual(self.came(), {f"share/{name}": data for name, data in files.items()})
        self.assertEqual(progress.files_done + progress.files_already_there, len(files))
        return progress.files_already_there

    async def test_large(self) -> None:
        """Threat 10: a file for which there is no room ends the job; with room, the same job fetches it."""
        await self.check({"large": random.Random(1).randbytes(BLOCK_SIZE + 200_000)})

    async def test_small(self) -> None:
        """Threat 10: small files come until the disk is full; with room, the same job goes on behind them."""
        rng = random.Random(2)
        there = await self.check({f"{n}.txt": rng.randbytes(12_000) for n in range(90)})
        self.assertGreater(there, 0)
        self.assertLess(there, 90)

    async def test_both(self) -> None:
        """Threat 10: the same applies to files of all sizes."""
        rng = random.Random(3)
        files = {f"{n}.txt": rng.randbytes(8_000) for n in range(40)}
        await self.check(files | {"large": rng.randbytes(BLOCK_SIZE + 1)})
