"""The digests of files that were sent before: `hashes.sqlite` in the data folder.

**What makes a digest valid.** A digest is kept by path, size, inode, time of the last change, and the kernel's time of
the last change (`ctime`). The last one matters most. A program can write into a file and set its time back, but nobody
can set `ctime` back.

**What must not be stored.** Times have ticks: two changes within one tick bear the same time. So a file that changed
within the current tick is not stored (`may_store`), since its next change could not be seen. `file_times` knows the
ticks.

**What a wrong digest costs.** The receiver verifies each block, so a wrong digest can only make a transfer fail, never
corrupt a file. When a receiver reports corrupt data, the digests of that file are dropped. Rows carry a checksum, since
nothing here is synced and a crash may leave any content.

Losing the database costs the time to hash again. So nothing is synced, and trouble is reported, never raised.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from p2pshare.storage.cache_database import CacheDatabase, transaction
from p2pshare.storage.file_times import is_settled
from p2pshare.wire.blocks import DIGEST_SIZE, block_count, digest_of

FILE_NAME = "hashes.sqlite"
ROWS_MAX = 100_000  # files
BYTES_MAX = 64 * 1024 * 1024  # of digests: those of 2 TiB
FILE_MAX = 8 * 1024 * 1024  # bytes of digests of one file: those of 256 GiB

_VERSION = 3
_TABLES = """
DROP TABLE IF EXISTS files;
DROP TABLE IF EXISTS total;
CREATE TABLE files (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns TEXT, inode TEXT, ctime_ns TEXT, used INTEGER, digests BLOB
);
CREATE INDEX files_used ON files (used);
CREATE TABLE total (files INTEGER, bytes INTEGER);
INSERT INTO total VALUES (0, 0);
CREATE TRIGGER added AFTER INSERT ON files BEGIN
    UPDATE total SET files = files + 1, bytes = bytes + length(new.digests);
END;
CREATE TRIGGER removed AFTER DELETE ON files BEGIN
    UPDATE total SET files = files - 1, bytes = bytes - length(old.digests);
END;
"""
_FIND = """
SELECT digests FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ? AND ctime_ns = ?
"""
_NEXT = "(SELECT coalesce(max(used), 0) + 1 FROM files)"
_TOUCH = f"UPDATE files SET used = {_NEXT} WHERE path = ?"
_STORE = f"INSERT INTO files VALUES (?, ?, ?, ?, ?, {_NEXT}, ?)"
_FORGET = "DELETE FROM files WHERE path = ?"
_SIZES = "SELECT files, bytes FROM total"
_DROP = "DELETE FROM files WHERE path = (SELECT path FROM files ORDER BY used LIMIT 1)"


@dataclass(frozen=True, slots=True)
class CachedFile:
    """The properties of a file that must not change for its digests to be valid."""

    path: bytes
    """The path on this machine, as the operating system has it."""
    size: int
    """Bytes."""
    mtime_ns: int
    inode: int
    ctime_ns: int
    """Time of the last change of any kind, which no program can set back."""


class BlockCache:
    """The digests of blocks by file. Its methods never fail, and may be called in any thread."""

    def __init__(
        self,
        path: Path | None,
        *,
        rows_max: int = ROWS_MAX,
        bytes_max: int = BYTES_MAX,
        file_max: int = FILE_MAX,
        wall_ns: Callable[[], int] = time.time_ns,
        on_trouble: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Use a database, which is opened when it is first needed.

        Args:
            path: the database; None keeps nothing.
            rows_max: files; the one used longest ago is evicted.
            bytes_max: of digests in all.
            file_max: bytes of digests of a file, beyond which they are not kept.
            wall_ns: nanoseconds since 1970, as the times of files have them.
            on_trouble: as for `CacheDatabase`.
        """
        self._database = CacheDatabase(path, _VERSION, _TABLES, on_trouble)
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._file_max = min(file_max, bytes_max)
        self._wall_ns = wall_ns

    def may_store(self, size: int, *changed_ns: int) -> bool:
        """Whether digests of a file that are computed from now on can be stored.

        Args:
            size: bytes of digests.
            changed_ns: the file's own time of the last change, and the kernel's.
        """
        now = self._wall_ns()
        return size <= self._file_max and all(is_settled(each, now) for each in changed_ns)

    def find(self, file: CachedFile) -> bytes | None:
        """Return the digests of all blocks of a file, one behind the other; None if they are not known."""
        return self._database.attempt(lambda database: _find(database, file))

    def store(self, file: CachedFile, digests: bytes) -> None:
        """Store the digests of all blocks of a file."""
        if len(digests) <= self._file_max:
            self._database.attempt(lambda database: self._store(database, file, digests))

    def drop(self, path: bytes) -> None:
        """Drop the digests of the file at a path."""
        self._database.attempt(lambda database: database.execute(_FORGET, (path,)))

    def close(self) -> None:
        """Close the database, which is empty from now on. May be called again."""
        self._database.close()

    def _store(self, database: sqlite3.Connection, file: CachedFile, digests: bytes) -> None:
        with transaction(database):
            database.execute(_FORGET, (file.path,))
            checked = digest_of(digests) + digests
            database.execute(_STORE, (*_row(file), checked))
            while True:
                ((rows, size),) = database.execute(_SIZES)
                if rows <= self._rows_max and size <= self._bytes_max:
                    return
                database.execute(_DROP)


def _find(database: sqlite3.Connection, file: CachedFile) -> bytes | None:
    row = database.execute(_FIND, _row(file)).fetchone()
    if row is None:
        return None
    (found,) = row
    if not isinstance(found, bytes) or len(found) != DIGEST_SIZE * (1 + block_count(file.size)):
        return None
    digests = found[DIGEST_SIZE:]
    if found[:DIGEST_SIZE] != digest_of(digests):  # nothing was synced, so a crash leaves anything
        return None
    # A disk that is too full for this update still has the digests.
    with suppress(sqlite3.OperationalError):
        database.execute(_TOUCH, (file.path,))
    return digests


def _row(file: CachedFile) -> tuple[object, ...]:
    times_and_inode = (
        file.mtime_ns,
        file.inode,
        file.ctime_ns,
    )  # may exceed the 63 bits of an integer in SQLite
    return file.path, file.size, *map(str, times_and_inode)
