"""Tests for `p2pshare.storage.incoming.saved_files`: records that are bounded, may be damaged, and never fail."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.incoming.announcement import Origin
from p2pshare.storage.incoming.saved_files import (
    KEYS_AT_ONCE,
    SavedFiles,
    SavedRecord,
    fingerprint_of,
    key_of,
)
from p2pshare.wire.keys import PublicKey

RECORD = SavedRecord("cat (1).jpg", b"f" * 16, True, b"r" * 32, "v1")
KEY = b"k" * 16


class SavedFilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.troubles: list[str] = []
        self.saved = self.open()

    def open(self, rows_max: int = 10) -> SavedFiles:
        saved = SavedFiles(self.path, rows_max=rows_max, on_trouble=self.troubles.append)
        self.addCleanup(saved.close)
        return saved

    def test_remembered(self) -> None:
        """A record comes back as it was, in this process and the next; a newer one replaces it."""
        odd = replace(RECORD, name="caf\udce9\n猫", is_sure=False, version="v" * 64)
        self.saved.store([(KEY, RECORD), (b"other", odd)])
        for saved in (self.saved, self.open()):
            self.assertEqual(saved.find([KEY, b"none", b"other"]), {KEY: RECORD, b"other": odd})
        self.saved.store([(KEY, odd)])
        self.assertEqual(self.open().find([KEY]), {KEY: odd})
        self.assertEqual(self.path.stat().st_mode & 0o077, 0)

    def test_many(self) -> None:
        """Any number of keys can be looked up at once."""
        saved = self.open(10_000)
        records = [(str(number).encode(), RECORD) for number in range(2 * KEYS_AT_ONCE + 1)]
        saved.store(records)
        self.assertEqual(saved.find([key for key, _ in records]), dict(records))

    def test_bounded(self) -> None:
        """Of more records than there may be, those that were written last are kept."""
        for number in range(25):
            self.saved.store([(str(number).encode(), RECORD)])
        self.saved.store([(b"20", RECORD)])
        kept = self.saved.find([str(number).encode() for number in range(25)])
        self.assertEqual(set(kept), {str(number).encode() for number in range(15, 25)})

    def test_damaged(self) -> None:
        """A damaged record is ignored, and a damaged database is created again."""
        self.saved.store([(KEY, RECORD), (b"other", RECORD)])
        self.saved.close()
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("UPDATE files SET record = zeroblob(80) WHERE key = ?", (KEY,))
            database.commit()
        self.assertEqual(self.open().find([KEY, b"other"]), {b"other": RECORD})
        self.path.write_bytes(b"no database" * 1000)
        saved = self.open()
        self.assertEqual(saved.find([KEY]), {})
        saved.store([(KEY, RECORD)])
        self.assertEqual(saved.find([KEY]), {KEY: RECORD})
        self.assertEqual(len(self.troubles), 1)

    def test_nowhere(self) -> None:
        """Without a place for it, or once it is closed, nothing is found, and nothing fails."""
        for saved in (SavedFiles(None), SavedFiles(Path("/dev/null/saved"))):
            saved.store([(KEY, RECORD)])
            self.assertEqual(saved.find([KEY]), {})
        self.saved.close()
        self.saved.store([(KEY, RECORD)])
        self.assertEqual(self.saved.find([KEY]), {})

    def test_keys(self) -> None:
        """Another sharer, path or place is another key."""
        key, other = PublicKey(b"k" * 32), PublicKey(b"o" * 32)
        keys = {
            key_of(b"/a", Origin(key, ("b", "c"))),
            key_of(b"/a", Origin(other, ("b", "c"))),
            key_of(b"/a", Origin(key, ("b",))),
            key_of(b"/a/b", Origin(key, ("b", "c"))),
            key_of(b"c/a", Origin(key, ("b",))),
        }
        self.assertEqual(len(keys), 5)

    def test_fingerprint(self) -> None:
        """It changes with the size and with each time, and with another file of the same."""
        path, prints = Path(self.mktemp()), set()
        for mtime_ns in (0, 1, 10_413_792_000_123_456_789):
            path.write_bytes(b"x")
            os.utime(path, ns=(0, mtime_ns))
            prints.add(fingerprint_of(path.stat()))
        os.utime(path, ns=(0, mtime_ns))  # which changes the other time
        prints.add(fingerprint_of(path.stat()))
        self.assertEqual(len(prints), 4)
