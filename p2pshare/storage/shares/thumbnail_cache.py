"""Small pictures of shared files that were made before: `previews.sqlite` in the data folder.

To make one takes tens of milliseconds, to find one less than one. A folder of 100 000 pictures has a gigabyte of them,
so the oldest are dropped beyond `BYTES_MAX`. They are kept by the version of their file, which differs as soon as its
content differs (`outgoing_files.version_of`); so a picture that is replaced is never shown as it was. Nothing is
synced, and each row has a checksum, since a crash may leave any content. Trouble is reported, never raised.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from p2pshare.storage.cache_database import CacheDatabase, transaction
from p2pshare.wire.blocks import DIGEST_SIZE, digest_of

FILE_NAME = "previews.sqlite"
BYTES_MAX = 256 * 1024 * 1024  # of all pictures
ROW_MAX = 64 * 1024  # bytes of one

_VERSION = 1
_TABLES = """
DROP TABLE IF EXISTS pictures;
DROP TABLE IF EXISTS total;
CREATE TABLE pictures (number INTEGER PRIMARY KEY, version TEXT, edge INTEGER, data BLOB, UNIQUE (version, edge));
CREATE TABLE total (bytes INTEGER);
INSERT INTO total VALUES (0);
CREATE TRIGGER added AFTER INSERT ON pictures BEGIN UPDATE total SET bytes = bytes + length(new.data); END;
CREATE TRIGGER removed AFTER DELETE ON pictures BEGIN UPDATE total SET bytes = bytes - length(old.data); END;
"""
_FIND = "SELECT data FROM pictures WHERE version = ? AND edge = ?"
_FORGET = "DELETE FROM pictures WHERE version = ? AND edge = ?"
_STORE = "INSERT INTO pictures (version, edge, data) VALUES (?, ?, ?)"
_SIZE = "SELECT bytes FROM total"
_DROP = "DELETE FROM pictures WHERE number = (SELECT min(number) FROM pictures)"


class ThumbnailCache:
    """Small pictures by the version of their file and their longest edge. May be called in any thread; never fails."""

    def __init__(
        self,
        path: Path | None,
        *,
        bytes_max: int = BYTES_MAX,
        on_trouble: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Use a database, which is opened when it is first needed.

        Args:
            path: the database; None keeps nothing.
            bytes_max: of all pictures; the oldest are dropped.
            on_trouble: as for `CacheDatabase`.
        """
        self._database = CacheDatabase(path, _VERSION, _TABLES, on_trouble)
        self._bytes_max = bytes_max

    def find(self, version: str, edge: int) -> bytes | None:
        """Return a small picture; None if it is not known."""
        row = self._database.attempt(
            lambda database: database.execute(_FIND, (version, edge)).fetchone()
        )
        found = None if row is None else row[0]
        if not isinstance(found, bytes) or found[:DIGEST_SIZE] != digest_of(found[DIGEST_SIZE:]):
            return None
        return found[DIGEST_SIZE:]

    def store(self, version: str, pictures: Mapping[int, bytes]) -> None:
        """Store small pictures of a file by their longest edges."""
        self._database.attempt(lambda database: self._store(database, version, pictures))

    def close(self) -> None:
        """Close the database, which is empty from now on. May be called again."""
        self._database.close()

    def _store(
        self, database: sqlite3.Connection, version: str, pictures: Mapping[int, bytes]
    ) -> None:
        with transaction(database):
            for edge, data in pictures.items():
                if 0 < len(data) <= ROW_MAX:
                    database.execute(_FORGET, (version, edge))
                    database.execute(_STORE, (version, edge, digest_of(data) + data))
            while database.execute(_SIZE).fetchone()[0] > self._bytes_max:
                database.execute(_DROP)
