"""Records of saved files: `saved.sqlite` in the user's data.

The key of a record is a remote file with its local place. The record has the local name, the root of the content, and
the version of the remote file with this content. It is valid while the local file has the size, the times and the inode
of the record. `present_files` decides by it whether a file is here. A lost record costs a comparison by content, so
nothing is synced, and errors are reported but never raised.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pshare.storage.cache_database import CacheDatabase, transaction
from p2pshare.storage.file_times import shows_changes
from p2pshare.storage.incoming.announcement import Origin
from p2pshare.wire.blocks import DIGEST_SIZE, digest_of

FILE_NAME = "saved.sqlite"
ROWS_MAX = 1_000_000  # files: about 200 MB
KEYS_AT_ONCE = 500  # keys of one query

_VERSION = 1
_TABLES = """
DROP TABLE IF EXISTS files;
DROP TABLE IF EXISTS total;
CREATE TABLE files (id INTEGER PRIMARY KEY, key BLOB UNIQUE, record BLOB);
CREATE TABLE total (files INTEGER);
INSERT INTO total VALUES (0);
CREATE TRIGGER added AFTER INSERT ON files BEGIN UPDATE total SET files = files + 1; END;
CREATE TRIGGER removed AFTER DELETE ON files BEGIN UPDATE total SET files = files - 1; END;
"""
_OLDEST = "DELETE FROM files WHERE id = (SELECT min(id) FROM files)"
_CHECK_SIZE = 8  # bytes
_PRINT_SIZE = 16  # bytes
_FIXED = struct.Struct(f">{_PRINT_SIZE}s{DIGEST_SIZE}sBH")


@dataclass(frozen=True, slots=True)
class SavedRecord:
    """What is known of a saved file."""

    name: str
    """The local name."""
    fingerprint: bytes
    """From `fingerprint_of`."""
    is_sure: bool
    """Whether every later change shows in the fingerprint. If not, the content must be read again."""
    root: bytes
    """The root of the content; `DIGEST_SIZE` bytes."""
    version: str
    """The version of the remote file with this content."""

    @classmethod
    def of(
        cls, name: str, status: os.stat_result, root: bytes, version: str, known_ns: int
    ) -> SavedRecord:
        """Return the record of a file that had this content at `known_ns` (nanoseconds since 1970)."""
        is_sure = shows_changes(status, known_ns)
        return cls(name, fingerprint_of(status), is_sure, root, version)


class SavedFiles:
    """The records. Thread-safe; no call raises an error."""

    def __init__(
        self,
        path: Path | None,
        *,
        rows_max: int = ROWS_MAX,
        wall_ns: Callable[[], int] = time.time_ns,
        on_trouble: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Args:
        path: the database; None to keep no records.
        rows_max: records; the oldest are evicted.
        wall_ns: returns nanoseconds since 1970, on the clock of file times.
        on_trouble: as for `CacheDatabase`.
        """
        self.wall_ns = wall_ns
        self._rows_max = rows_max
        self._database = CacheDatabase(path, _VERSION, _TABLES, on_trouble)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, SavedRecord]:
        """Return the records of keys from `key_of`; missing and damaged ones are left out."""
        found = self._database.attempt(lambda database: _rows(database, keys)) or ()
        records = {key: _read(key, written) for key, written in found}
        return {key: record for key, record in records.items() if record is not None}

    def store(self, records: Sequence[tuple[bytes, SavedRecord]]) -> None:
        """Write records, each replacing the one with its key."""
        if records:
            self._database.attempt(lambda database: self._store(database, records))

    def close(self) -> None:
        """Close the database; nothing is found afterwards. May be called again."""
        self._database.close()

    def _store(
        self, database: sqlite3.Connection, records: Sequence[tuple[bytes, SavedRecord]]
    ) -> None:
        with transaction(database):
            for key, record in records:
                database.execute("DELETE FROM files WHERE key = ?", (key,))
                row = (key, _written(key, record))
                database.execute("INSERT INTO files (key, record) VALUES (?, ?)", row)
            ((rows,),) = database.execute("SELECT files FROM total")
            for _ in range(rows - self._rows_max):
                database.execute(_OLDEST)


def _rows(database: sqlite3.Connection, keys: Sequence[bytes]) -> list[tuple[bytes, object]]:
    rows: list[tuple[bytes, object]] = []
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[start : start + KEYS_AT_ONCE]
        places = ",".join("?" * len(some))
        rows += database.execute(f"SELECT key, record FROM files WHERE key IN ({places})", some)
    return rows


def key_of(place: bytes, origin: Origin) -> bytes:
    """Return the key of a remote file and its local place, a path without a number."""
    path = "/".join(origin.path).encode()
    return digest_of(origin.key.raw + len(path).to_bytes(4, "big") + path + place)[:_PRINT_SIZE]


def fingerprint_of(status: os.stat_result) -> bytes:
    """Return bytes that change with the size, a time, or the inode of a file."""
    known_by = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    return digest_of(repr(known_by).encode())[:_PRINT_SIZE]


def _written(key: bytes, record: SavedRecord) -> bytes:
    version, name = record.version.encode(), os.fsencode(record.name)
    fixed = _FIXED.pack(record.fingerprint, record.root, record.is_sure, len(version))
    rest = fixed + version + name
    return digest_of(key + rest)[:_CHECK_SIZE] + rest


def _read(key: bytes, written: object) -> SavedRecord | None:
    if not isinstance(written, bytes) or len(written) < _CHECK_SIZE + _FIXED.size:
        return None
    rest = written[_CHECK_SIZE:]
    if digest_of(key + rest)[:_CHECK_SIZE] != written[:_CHECK_SIZE]:  # nothing was synced
        return None
    fingerprint, root, is_sure, version_size = _FIXED.unpack_from(rest)
    end = _FIXED.size + version_size
    version = rest[_FIXED.size : end].decode()
    return SavedRecord(os.fsdecode(rest[end:]), fingerprint, bool(is_sure), root, version)
