"""The digests of files that were sent before: `hashes.sqlite` in the data folder.

What is lost here is calculated again, so nothing is synced, and trouble is told of, never raised.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from p2pshare.storage.file_times import is_settled
from p2pshare.storage.reasons import plain_reason
from p2pshare.wire.blocks import DIGEST_SIZE, block_count, digest_of

T = TypeVar("T")

FILE_NAME = "hashes.sqlite"
ROWS_MAX = 100_000  # files
BYTES_MAX = 64 * 1024 * 1024  # of digests: those of 2 TiB
FILE_MAX = 8 * 1024 * 1024  # bytes of digests of one file: those of 256 GiB
TOLD_MAX = 16  # different kinds of trouble

_VERSION = 3
_MAKING = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
_SETTINGS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
PRAGMA journal_size_limit = 1048576;
PRAGMA cache_size = -1024;
"""
_TABLES = f"""
BEGIN;
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
PRAGMA user_version = {_VERSION};
COMMIT;
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
        self._path = path
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._file_max = min(file_max, bytes_max)
        self._wall_ns = wall_ns
        self._on_trouble = on_trouble
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

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
        return self._attempt(lambda database: _find(database, file))

    def store(self, file: CachedFile, digests: bytes) -> None:
        """Remember the digests of all blocks of a file, in place of those that it had."""
        if len(digests) <= self._file_max:
            self._attempt(lambda database: self._store(database, file, digests))

    def drop(self, path: bytes) -> None:
        """Forget the digests of the file at a path."""
        self._attempt(lambda database: database.execute(_FORGET, (path,)))

    def close(self) -> None:
        """Close the database; from now on nothing is found. May be called again."""
        with self._lock:
            self._path = None
            self._disconnect()

    def _store(self, database: sqlite3.Connection, file: CachedFile, digests: bytes) -> None:
        with _transaction(database):
            database.execute(_FORGET, (file.path,))
            checked = digest_of(digests) + digests
            database.execute(_STORE, (*_row(file), checked))
            while True:
                ((rows, size),) = database.execute(_SIZES)
                if rows <= self._rows_max and size <= self._bytes_max:
                    return
                database.execute(_DROP)

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do something with the database; if it is damaged, in a new one; if it cannot be, nothing."""
        with self._lock:
            if self._path is None:
                return None
            try:
                try:
                    return work(self._connected(self._path))
                except (sqlite3.DatabaseError, UnicodeError) as error:
                    self._disconnect()
                    if not _is_damage(error):
                        raise
                    self._tell(f"it was damaged ({error}) and is made anew")
                    _remove(self._path)
                    return work(self._connected(self._path))
            except (sqlite3.Error, UnicodeError, OSError) as error:
                self._disconnect()
                self._tell(plain_reason(error) if isinstance(error, OSError) else str(error))
                return None

    def _connected(self, path: Path) -> sqlite3.Connection:
        if self._database is None:
            self._database = _connect(path)
        return self._database

    def _disconnect(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _tell(self, reason: str) -> None:
        if reason not in self._told and len(self._told) < TOLD_MAX:
            self._told.add(reason)
            self._on_trouble(reason)


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


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, _MAKING, 0o600))  # as SQLite would let others read it
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.executescript(_SETTINGS)
        ((version,),) = database.execute("PRAGMA user_version")
        if version != _VERSION:
            database.executescript(_TABLES)
        return database
    except BaseException:
        database.close()
        raise


def _is_damage(error: Exception) -> bool:
    if isinstance(error, UnicodeError):  # of a name in it, or of what SQLite says of that
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED


def _remove(path: Path) -> None:
    for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        each.unlink(missing_ok=True)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
