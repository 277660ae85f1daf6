"""A SQLite database of facts that can be computed again.

Nothing in it is synced. Trouble is reported and never raised, and a damaged database is replaced by an empty one.
Several threads and processes may use it at once.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from p2pshare.storage.os_errors import plain_reason

T = TypeVar("T")

REASONS_MAX = 16  # different reasons that are reported

_MAKING = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
_SETTINGS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
PRAGMA journal_size_limit = 1048576;
PRAGMA cache_size = -1024;
"""


class ReportOnce:
    """Reports each reason once, and no more than `REASONS_MAX` of them, since a full disk fails at each write."""

    def __init__(self, report: Callable[[str], object]) -> None:
        self._report = report
        self._reasons: set[str] = set()

    def __call__(self, reason: str) -> None:
        """Report a reason."""
        if reason not in self._reasons and len(self._reasons) < REASONS_MAX:
            self._reasons.add(reason)
            self._report(reason)


class CacheDatabase:
    """A database that is opened when it is first needed."""

    def __init__(
        self,
        path: Path | None,
        version: int,
        tables: str,
        on_trouble: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Use the database at a path.

        Args:
            path: the file; None keeps nothing.
            version: of its tables; a database of another version is emptied.
            tables: the statements that drop the tables and create them.
            on_trouble: called in any thread, once for each reason, when the database is replaced or cannot be used. It
                must not use the database.
        """
        self._path = path
        self._version = version
        self._tables = f"BEGIN; {tables} PRAGMA user_version = {version}; COMMIT;"
        self._report = ReportOnce(on_trouble)
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None

    def attempt(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Run `work` on the database, or on a new one if it is damaged; return None if it cannot be used."""
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
                    self._report(f"it was damaged ({error}) and was replaced")
                    _remove(self._path)
                    return work(self._connected(self._path))
            except (sqlite3.Error, UnicodeError, OSError) as error:
                self._disconnect()
                self._report(plain_reason(error) if isinstance(error, OSError) else str(error))
                return None

    def close(self) -> None:
        """Close the database, which is empty from now on. May be called again."""
        with self._lock:
            self._path = None
            self._disconnect()

    def _connected(self, path: Path) -> sqlite3.Connection:
        if self._database is None:
            self._database = self._connect(path)
        return self._database

    def _connect(self, path: Path) -> sqlite3.Connection:
        os.close(os.open(path, _MAKING, 0o600))  # since SQLite would make it readable for others
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            database.executescript(_SETTINGS)
            ((version,),) = database.execute("PRAGMA user_version")
            if version != self._version:
                database.executescript(self._tables)
            return database
        except BaseException:
            database.close()
            raise

    def _disconnect(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Apply all changes within the context, or none."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def _is_damage(error: Exception) -> bool:
    if isinstance(error, UnicodeError):  # a name in it, or in the message of SQLite
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED


def _remove(path: Path) -> None:
    for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        each.unlink(missing_ok=True)
