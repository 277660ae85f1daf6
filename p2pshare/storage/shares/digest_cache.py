"""The digests of files that were sent before: `hashes.sqlite` in the data folder.

What is lost here is calculated again, so nothing is synced, and trouble is told of, never raised.
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
    """What a file must still be for its digests to hold."""

    path: bytes
    """On this machine, as the operating system has it."""
    size: int
    """Bytes."""
    mtime_ns: int
    inode: int
    ctime_ns: int
    """Of the last change of any kind: who writes into a file and sets `mtime_ns` back cannot set this back."""


class BlockCache:
    """Which digests the blocks of a file have. Usable from any thread; it never fails."""

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
        """Use a database, which is opened when it is first needed, and made anew if it is damaged.

        Args:
            path: the database; None: nothing is remembered.
            rows_max: files of which it knows; those that were not asked for for the longest time go first.
            bytes_max: of digests, in all.
            file_max: bytes of digests of a file, beyond which they are not remembered.
            wall_ns: nanoseconds since 1970, as the times of files have them.
            on_trouble: called, in whatever thread, with the reason when the cache is made anew or cannot be used; once
                for each reason. It must not use the cache.
        """
        self._database = CacheDatabase(path, _VERSION, _TABLES, on_trouble)
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._file_max = min(file_max, bytes_max)
        self._wall_ns = wall_ns

    def may_store(self, size: int, *changed_ns: int) -> bool:
        """Whether digests of a file's blocks that are calculated from now on can be remembered.

        Args:
            size: bytes of digests.
            changed_ns: when the file was last changed; its own time, and the one that nobody can set.
        """
        now = self._wall_ns()
        return size <= self._file_max and all(is_settled(each, now) for each in changed_ns)

    def find(self, file: CachedFile) -> bytes | None:
        """The digests of all blocks of a file, one behind the other; None if they are not known."""
        return self._database.attempt(lambda database: _find(database, file))

    def store(self, file: CachedFile, digests: bytes) -> None:
        """Remember the digests of all blocks of a file, in place of those that it had."""
        if len(digests) <= self._file_max:
            self._database.attempt(lambda database: self._store(database, file, digests))

    def drop(self, path: bytes) -> None:
        """Forget the digests of the file at a path."""
        self._database.attempt(lambda database: database.execute(_FORGET, (path,)))

    def close(self) -> None:
        """Close the database; from now on nothing is found. May be called again."""
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
    if found[:DIGEST_SIZE] != digest_of(digests):  # nothing was synced, and disks forget
        return None
    # It is found, also where the disk is too full to note that it was used.
    with suppress(sqlite3.OperationalError):
        database.execute(_TOUCH, (file.path,))
    return digests


def _row(file: CachedFile) -> tuple[object, ...]:
    times_and_inode = file.mtime_ns, file.inode, file.ctime_ns  # which may have more than 63 bits
    return file.path, file.size, *map(str, times_and_inode)
