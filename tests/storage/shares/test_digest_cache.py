"""Tests for `p2pshare.storage.shares.digest_cache`."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.file_times import TICK
from p2pshare.storage.shares.digest_cache import BlockCache, CachedFile
from p2pshare.wire.blocks import BLOCK_SIZE, DIGEST_SIZE

FILE = CachedFile(b"/a", 2 * BLOCK_SIZE, 1, 2**64 - 1, 3)
DIGESTS = bytes(range(2 * DIGEST_SIZE))


def file(number: int) -> CachedFile:
    return CachedFile(b"/%d" % number, 2 * BLOCK_SIZE, 1, number, 3)


class BlockCacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "hashes.sqlite"
        self.trouble: list[str] = []
        self.cache = self.reopened()

    def reopened(self, rows_max: int = 100, bytes_max: int = 100_000) -> BlockCache:
        cache = BlockCache(
            self.path, rows_max=rows_max, bytes_max=bytes_max, on_trouble=self.trouble.append
        )
        self.addCleanup(cache.close)
        return cache


class RememberTests(BlockCacheTests):
    def test_kept(self) -> None:
        """Stored digests are found, also by the next process, and for no other file."""
        self.assertIsNone(self.cache.find(FILE))
        self.cache.store(FILE, DIGESTS)
        self.assertEqual(self.cache.find(FILE), DIGESTS)
        self.cache.close()
        self.cache = self.reopened()
        self.assertEqual(self.cache.find(FILE), DIGESTS)
        for other in (
            replace(FILE, path=b"/b"),
            replace(FILE, size=FILE.size - 1),
            replace(FILE, mtime_ns=FILE.mtime_ns + 1),
            replace(FILE, inode=FILE.inode - 1),
            replace(FILE, ctime_ns=FILE.ctime_ns + 1),
        ):
            self.assertIsNone(self.cache.find(other))

    def test_one_row_for_a_path(self) -> None:
        """A file that changes replaces its old digests."""
        self.cache.store(FILE, DIGESTS)
        changed = replace(FILE, mtime_ns=2)
        self.cache.store(changed, DIGESTS[::-1])
        self.assertEqual((self.cache.find(FILE), self.cache.find(changed)), (None, DIGESTS[::-1]))

    def test_dropped(self) -> None:
        """Only the wrong digests are dropped."""
        self.cache.store(FILE, DIGESTS)
        self.cache.store(file(1), DIGESTS)
        self.cache.drop(FILE.path)
        self.assertEqual([self.cache.find(each) for each in (FILE, file(1))], [None, DIGESTS])
        self.assertEqual(self.trouble, [])

    def test_older(self) -> None:
        """A cache of an older version is replaced without a report."""
        with sqlite3.connect(self.path) as database:
            database.executescript("CREATE TABLE files (path); CREATE TABLE total (files);")
        database.close()
        self.cache.store(FILE, DIGESTS)
        self.assertEqual((self.cache.find(FILE), self.trouble), (DIGESTS, []))

    def test_any_path(self) -> None:
        """Any path that the operating system has is known, one that is no Unicode as well."""
        odd = CachedFile(b"/\xff\n'; DROP TABLE files; --", FILE.size, -(2**62), 0, 0)
        self.cache.store(odd, DIGESTS)
        self.assertEqual(self.cache.find(odd), DIGESTS)

    def test_closed(self) -> None:
        """A closed cache finds and stores nothing."""
        self.cache.store(FILE, DIGESTS)
        for _ in range(2):
            self.cache.close()
        self.cache.store(FILE, DIGESTS)
        self.assertIsNone(self.cache.find(FILE))
        self.assertEqual(self.trouble, [])

    def test_private(self) -> None:
        """Threat 39: the names of files are private."""
        self.cache.store(FILE, DIGESTS)
        modes = {path.stat().st_mode & 0o777 for path in self.folder.iterdir()}
        self.assertEqual(modes, {0o600})

    def test_may_store(self) -> None:
        """Digests of files that have just changed, or are too large, cannot be stored."""
        cache = BlockCache(self.path, file_max=64, wall_ns=lambda: 2 + TICK)
        self.assertTrue(cache.may_store(64, 1))
        self.assertFalse(cache.may_store(64, 2))
        self.assertFalse(cache.may_store(64, 1, 2))
        self.assertFalse(cache.may_store(65, 1))
        cache.store(FILE, bytes(96))
        self.assertFalse(self.path.exists())


class BoundTests(BlockCacheTests):
    def test_rows(self) -> None:
        """Threat 7: when there are too many files, those go that were not asked for for the longest time."""
        self.cache = self.reopened(rows_max=3)
        for number in (1, 2, 3):
            self.cache.store(file(number), DIGESTS)
        self.cache.find(file(1))
        self.cache.store(file(4), DIGESTS)
        self.assertEqual(self.known(5), [1, 3, 4])

    def test_bytes(self) -> None:
        """So when there are too many bytes, and one that is too large by itself is not taken."""
        self.cache = self.reopened(bytes_max=3 * (len(DIGESTS) + DIGEST_SIZE))
        for number in (1, 2, 3, 4):
            self.cache.store(file(number), DIGESTS)
        self.assertEqual(self.known(5), [2, 3, 4])
        self.cache.store(file(5), bytes(5 * len(DIGESTS)))
        self.assertEqual(self.known(6), [2, 3, 4])

    def test_narrower(self) -> None:
        """Bounds that have become narrower hold from the next file on."""
        for number in range(10):
            self.cache.store(file(number), DIGESTS)
        self.cache.close()
        self.cache = self.reopened(rows_max=2)
        self.cache.store(file(10), DIGESTS)
        self.assertEqual(self.known(11), [9, 10])

    def known(self, numbers: int) -> list[int]:
        return [number for number in range(numbers) if self.cache.find(file(number)) is not None]


class TroubleTests(BlockCacheTests):
    def damage(self, content: bytes) -> None:
        self.cache.close()
        for path in self.folder.iterdir():
            path.unlink()
        self.path.write_bytes(content)
        self.cache = self.reopened()

    @settings(max_examples=50)
    @given(st.binary(min_size=1, max_size=5000))
    def test_any_content(self, content: bytes) -> None:
        """A file of any content is taken for an empty cache, and works as one."""
        self.damage(content)
        self.assertIsNone(self.cache.find(FILE))
        self.cache.store(FILE, DIGESTS)
        self.assertEqual(self.cache.find(FILE), DIGESTS)

    @settings(max_examples=50)
    @given(st.integers(0, 20_000), st.binary(min_size=1, max_size=300))
    def test_damaged(self, at: int, noise: bytes) -> None:
        """Damaged bytes on the disk cost digests at most; digests that are found are correct."""
        self.damage(b"")
        for number in range(20):
            self.cache.store(file(number), DIGESTS)
        self.cache.close()
        content = bytearray(self.path.read_bytes())
        at = min(at, len(content) - len(noise))
        content[at : at + len(noise)] = noise
        self.damage(bytes(content))
        for number in range(20):
            self.assertIn(self.cache.find(file(number)), (DIGESTS, None))
        self.cache.store(FILE, DIGESTS)
        self.assertIn(self.cache.find(FILE), (DIGESTS, None))

    def test_told(self) -> None:
        """Damage is reported once, and the file is replaced."""
        self.damage(b"no database" * 1000)
        self.cache.store(FILE, DIGESTS)
        self.cache.store(FILE, DIGESTS)
        (reason,) = self.trouble
        self.assertRegex(reason, "damaged")
        self.assertEqual(self.cache.find(FILE), DIGESTS)

    def test_another_version(self) -> None:
        """A database with other tables is replaced."""
        self.path.unlink(missing_ok=True)
        with sqlite3.connect(self.path) as database:
            database.execute("CREATE TABLE files (something TEXT)")
        database.close()
        self.cache.store(FILE, DIGESTS)
        self.assertEqual(self.cache.find(FILE), DIGESTS)

    def test_wrong_row(self) -> None:
        """A row that does not fit its file, or is no digests at all, is passed over."""
        self.cache.store(FILE, DIGESTS)
        for digests in (b"", bytes(64), bytes(96), bytes(128), "text", None, 5):
            with sqlite3.connect(self.path) as database:
                database.execute("UPDATE files SET digests = ?", (digests,))
            database.close()
            self.assertIsNone(self.cache.find(FILE))
        self.cache.store(FILE, DIGESTS)
        self.assertEqual((self.cache.find(FILE), self.trouble), (DIGESTS, []))

    def test_nowhere(self) -> None:
        """If nothing can be written, nothing is stored, and that is reported once."""
        for path in (self.folder / "gone" / "x", self.folder, self.folder / "link"):
            if path.name == "link":
                path.symlink_to("elsewhere")
            self.trouble.clear()
            self.path = path
            cache = self.reopened()
            for _ in range(3):
                cache.store(FILE, DIGESTS)
                self.assertIsNone(cache.find(FILE))
            self.assertEqual(len(self.trouble), 1, path)
        self.assertFalse((self.folder / "elsewhere").exists())
        nothing = BlockCache(None)
        nothing.store(FILE, DIGESTS)
        self.assertIsNone(nothing.find(FILE))

    def test_full_disk(self) -> None:
        """A full disk costs new digests only; old ones are found."""
        self.cache.store(FILE, DIGESTS)
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL
        with patch.object(BlockCache, "_store", side_effect=full):
            self.cache.store(file(1), DIGESTS)
        self.assertEqual(self.trouble, ["database or disk is full"])
        self.assertEqual((self.cache.find(FILE), self.cache.find(file(1))), (DIGESTS, None))

    def test_pages_run_out(self) -> None:
        """So does a database that cannot grow."""
        self.cache.store(FILE, DIGESTS)
        genuine = sqlite3.connect

        def small(*arguments: object, **keywords: object) -> sqlite3.Connection:
            database: sqlite3.Connection = genuine(*arguments, **keywords)  # type: ignore[call-overload]
            database.execute("PRAGMA max_page_count = 1")  # that is, as it is now
            return database

        self.cache.close()
        with patch.object(sqlite3, "connect", small):
            self.cache = self.reopened()
            for number in range(200):
                self.cache.store(file(number), DIGESTS)
        self.assertTrue(any("full" in reason for reason in self.trouble), self.trouble)
        self.assertEqual(self.cache.find(FILE), DIGESTS)

    def test_troubles_are_bounded(self) -> None:
        """Threat 7: the number of reported reasons is bounded."""
        for number in range(50):
            error = sqlite3.OperationalError(f"trouble {number}")
            with patch.object(BlockCache, "_store", side_effect=error):
                self.cache.store(FILE, DIGESTS)
        self.assertEqual(len(self.trouble), 16)


class ThreadTests(BlockCacheTests):
    def test_many_threads(self) -> None:
        """Threads do not disturb each other."""
        wrong: list[int] = []

        def use(first: int) -> None:
            for number in range(first, first + 10):
                digests = bytes([number]) * 64
                self.cache.store(file(number), digests)
                if self.cache.find(file(number)) != digests:
                    wrong.append(number)

        threads = [threading.Thread(target=use, args=(first,)) for first in range(0, 40, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((wrong, self.trouble), ([], []))
