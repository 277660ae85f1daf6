"""The ledger: what a peer knows of offers and downloads, durably: `offers.sqlite`, a SQLite database in its folder.

**Nothing is told before it is here.** A change is committed and synced, and only then is the other side, or the user,
told. So after a crash a peer never knows less than others heard from it.

**One transaction for one step.** What belongs together, such as an offer that is done and its line in the history, is
written within one `changing()`, which may be nested. A crash leaves all of it or nothing.

**Never emptied silently.** A database that is damaged, or was written by a newer version, is an error for the user, who
may want to save it. There is one writer, the process that holds the lock of the data folder; others may read.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from p2pshare.errors import LedgerUnusable, RemoteProtocolError
from p2pshare.storage.durability import sync_path
from p2pshare.storage.os_errors import plain_reason

T = TypeVar("T")

FILE_NAME = "offers.sqlite"
VERSION = 1
WAIT = 5.0  # seconds for another process that reads
LOG_MAX = 1024 * 1024  # bytes of the write-ahead log that are kept

_MAKING = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SETTINGS = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA journal_size_limit = {LOG_MAX};
"""
_TABLES = f"""
BEGIN;
CREATE TABLE outgoing (
    id TEXT PRIMARY KEY, created INTEGER, expires INTEGER, note TEXT, is_text INTEGER, roots TEXT, exclude TEXT,
    hidden INTEGER, spool TEXT, items TEXT, more_items INTEGER, files INTEGER, folders INTEGER, bytes INTEGER,
    left_out TEXT, place TEXT
);
CREATE TABLE recipients (
    offer TEXT REFERENCES outgoing ON DELETE CASCADE, place INTEGER, name TEXT, key TEXT, state TEXT, why TEXT,
    updated INTEGER, receipt TEXT, is_told INTEGER, PRIMARY KEY (offer, name)
);
CREATE TABLE incoming (
    id TEXT, sender TEXT, key TEXT, offer TEXT, received INTEGER, expires INTEGER, note TEXT,
    is_text INTEGER, items TEXT, more_items INTEGER, files INTEGER, folders INTEGER, bytes INTEGER, state TEXT,
    why TEXT, folder TEXT, is_auto INTEGER, told TEXT, updated INTEGER, saved TEXT, root TEXT, receipt TEXT,
    place TEXT, PRIMARY KEY (place, id), UNIQUE (place, key, offer)
);
CREATE TABLE history (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER, direction TEXT, peer TEXT, key TEXT, title TEXT,
    files INTEGER, bytes INTEGER, outcome TEXT, root TEXT, receipt TEXT, offer TEXT
);
CREATE INDEX history_keys ON history (key);
CREATE INDEX history_peers ON history (peer);
PRAGMA user_version = {VERSION};
COMMIT;
"""
_ADDED = """
CREATE TABLE IF NOT EXISTS fetched (
    number INTEGER PRIMARY KEY AUTOINCREMENT, began INTEGER, at INTEGER, peer TEXT, key TEXT, share TEXT, path TEXT,
    files INTEGER, bytes INTEGER, place TEXT
);
CREATE INDEX IF NOT EXISTS fetched_shares ON fetched (place, share);
CREATE INDEX IF NOT EXISTS fetched_keys ON fetched (place, key, share);
CREATE TABLE IF NOT EXISTS downloads (
    id TEXT, peer TEXT, paths TEXT, folder TEXT, is_update INTEGER, is_forced INTEGER, created INTEGER, state TEXT,
    why TEXT, why_text TEXT, updated INTEGER, files INTEGER, files_done INTEGER, files_failed INTEGER, bytes INTEGER,
    bytes_done INTEGER, fetched INTEGER, failures TEXT, place TEXT, PRIMARY KEY (place, id)
);
"""
"""Tables that older versions do not know, and do not miss."""
_ADDED_COLUMNS = (
    ("incoming", "is_paused"),
    ("incoming", "files_here"),
    ("incoming", "bytes_here"),
    ("incoming", "is_cleared"),
    ("outgoing", "is_cleared"),
)
"""Columns of integers that older versions do not know, and do not miss: NULL in their rows."""
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full. Make room, and try again",
    sqlite3.SQLITE_READONLY: "it cannot be written",
    sqlite3.SQLITE_BUSY: "another process uses it",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
}


class Ledger:
    """The database. All calls block, and may come from several threads; changes wait for each other."""

    def __init__(self, path: Path, place: str = "", *, wait: float = WAIT) -> None:
        """Use a database after `open`.

        Args:
            path: of the file.
            place: the registry. Offers of other registries in this file are not seen, because a name belongs to
                somebody else there.
            wait: seconds for another process that reads.
        """
        self.path = path
        self.place = place
        self._wait = wait
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._depth = 0  # of `changing`

    def open(self) -> None:
        """Open the database, or make a new one.

        Raises:
            LedgerUnusable: it is damaged, is that of a newer version, or cannot be written.
        """
        with self._lock, self._errors():
            if self._database is None:
                self._database = self._connect()

    def close(self) -> None:
        """Close the database. May be called again."""
        with self._lock:
            database, self._database = self._database, None
            if database is not None:
                with suppress(sqlite3.Error):
                    database.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Commit all changes within the context, or none. A context within another one belongs to it.

        Raises:
            LedgerUnusable: they could not be written, or what is there cannot be read.
        """
        with self._lock, self._errors():
            database = self._opened()
            if self._depth:
                yield database
                return
            database.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite has rolled it back itself
                    database.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    def rows(
        self, make: Callable[..., T], query: str, parameters: tuple[Any, ...] = ()
    ) -> tuple[T, ...]:
        """Return what `make` makes of the columns of each row.

        Raises:
            LedgerUnusable: they cannot be read, or make no sense.
        """
        with self._lock, self._errors():
            found = self._opened().execute(query, parameters).fetchall()
        try:
            return tuple(make(*each) for each in found)
        except (ValueError, TypeError, RemoteProtocolError) as error:
            raise self._damaged(error) from error

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise LedgerUnusable(path=self.path, reason="it is closed")
        return self._database

    def _connect(self) -> sqlite3.Connection:
        os.close(
            os.open(self.path, _MAKING, 0o600)
        )  # since SQLite would make it readable for others
        sync_path(self.path.parent, follow=True)
        database = sqlite3.connect(
            self.path, timeout=self._wait, isolation_level=None, check_same_thread=False
        )
        try:
            database.executescript(_SETTINGS)
            ((version,),) = database.execute("PRAGMA user_version")
            if version > VERSION:
                reason = "it was written by a newer version of p2pshare. Use that version"
                raise LedgerUnusable(path=self.path, reason=reason)
            ((tables,),) = database.execute("SELECT count(*) FROM sqlite_master")
            if version == 0 and not tables:
                database.executescript(_TABLES)
            elif version != VERSION:
                raise self._damaged("it has other tables")
            database.executescript(_ADDED)
            for table, column in _ADDED_COLUMNS:
                known = {each[1] for each in database.execute(f"PRAGMA table_info({table})")}
                if column not in known:
                    database.execute(f"ALTER TABLE {table} ADD COLUMN {column} INTEGER")
            ((checked,),) = database.execute("PRAGMA quick_check(1)")
            if checked != "ok":
                raise self._damaged(checked)
            return database
        except BaseException:
            database.close()
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the database into `LedgerUnusable`."""
        try:
            yield
        except OSError as error:
            raise LedgerUnusable(path=self.path, reason=plain_reason(error)) from error
        except sqlite3.Error as error:
            reason = _REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
            if reason is None:
                raise self._damaged(error) from error
            raise LedgerUnusable(path=self.path, reason=reason) from error

    def _damaged(self, how: object) -> LedgerUnusable:
        way_out = "Move it away to go on without it; then the offers and the history in it are lost"
        return LedgerUnusable(path=self.path, reason=f"it is damaged ({how}). {way_out}")
