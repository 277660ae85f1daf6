"""Tests of `p2pshare.storage.shares.thumbnail_cache`."""

from __future__ import annotations

import sqlite3
import stat
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.shares.thumbnail_cache import FILE_NAME, ROW_MAX, ThumbnailCache
from p2pshare.wire.blocks import DIGEST_SIZE


class ThumbnailCacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, FILE_NAME)
        self.troubles: list[str] = []
        self.cache = self.opened()

    def opened(self, bytes_max: int = 10_000) -> ThumbnailCache:
        cache = ThumbnailCache(self.path, bytes_max=bytes_max, on_trouble=self.troubles.append)
        self.addCleanup(cache.close)
        return cache

    def test_kept(self) -> None:
        """Pictures are found by version and edge, also after a restart, in a file that is private."""
        self.cache.store("v1", {64: b"small", 256: b"larger"})
        self.cache.store("v1", {64: b"again", 512: b""})
        self.cache.close()
        cache = self.opened()
        found = [cache.find("v1", edge) for edge in (64, 256, 512)]
        self.assertEqual(found, [b"again", b"larger", None])
        self.assertIsNone(cache.find("v2", 64))
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(self.troubles, [])

    def test_bounded(self) -> None:
        """Threat 31: beyond the bound the oldest are dropped; one that is too large is not kept."""
        size = 1000 - DIGEST_SIZE
        for number in range(15):
            self.cache.store(f"v{number}", {64: bytes(size)})
        known = [self.cache.find(f"v{number}", 64) is not None for number in range(15)]
        self.assertEqual(known, [False] * 5 + [True] * 10)
        self.cache.store("large", {64: bytes(ROW_MAX + 1)})
        self.assertIsNone(self.cache.find("large", 64))

    def test_damaged(self) -> None:
        """A row that a crash has damaged is not shown, and a file that is no database is replaced."""
        self.cache.store("v1", {64: b"small"})
        self.cache.close()
        database = sqlite3.connect(self.path)
        with database:
            database.execute("UPDATE pictures SET data = CAST(data || x'00' AS BLOB)")
        database.close()
        cache = self.opened()
        self.assertIsNone(cache.find("v1", 64))
        cache.close()
        self.path.write_bytes(b"x" * 5000)
        cache = self.opened()
        cache.store("v1", {64: b"small"})
        self.assertEqual(cache.find("v1", 64), b"small")
        self.assertEqual(len(self.troubles), 1)

    def test_no_place(self) -> None:
        """Without a place nothing is kept, and trouble is told."""
        cache = ThumbnailCache(None)
        cache.store("v1", {64: b"small"})
        self.assertIsNone(cache.find("v1", 64))
        self.path.unlink(missing_ok=True)
        self.path.mkdir()
        cache = self.opened()
        cache.store("v1", {64: b"small"})
        self.assertIsNone(cache.find("v1", 64))
        self.assertEqual(len(self.troubles), 1)
