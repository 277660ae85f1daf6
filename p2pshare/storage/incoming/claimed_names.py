"""The local names that a job has taken, so that no local file stands for two remote ones."""

from __future__ import annotations

import sqlite3
import threading

from p2pshare.wire.blocks import digest_of

RECENT_MAX = 100_000  # names in memory: about 8 MB


class Claims:
    """The names that the files of a job have or will have, as hashes. Thread-safe.

    A large job keeps most of them in a temporary database, to bound the memory. The jobs of one command share a table;
    each has claims of its own there, so that a job that is repeated can give them back.
    """

    def __init__(self, table: _Table | None = None) -> None:
        """Start without names, in a table of their own or in another one."""
        self._table = _Table() if table is None else table
        self._owner = self._table.new_owner()

    def beside(self) -> Claims:
        """Return claims in the same table: no name can be in both."""
        return Claims(self._table)

    def take(self, path: str) -> bool:
        """Claim a path; False if it is taken."""
        return self._table.take(_key(path), self._owner)

    def give_back(self, path: str) -> None:
        """Free a path."""
        self._table.remove(_key(path))

    def give_all_back(self) -> None:
        """Free all paths that were taken here."""
        self._table.remove_all(self._owner)

    def has(self, path: str) -> bool:
        """Whether a path is taken, here or beside."""
        return self._table.has(_key(path))

    def close(self) -> None:
        """Forget all names, also those beside. May be called again."""
        self._table.close()


class _Table:
    """Keys of names with the numbers of their owners, in memory and in a database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners = 0
        self._recent: dict[int, int] = {}
        self._has_more = False  # in the database
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE claims (key INTEGER PRIMARY KEY, owner INTEGER)")

    def new_owner(self) -> int:
        with self._lock:
            self._owners += 1
            return self._owners

    def take(self, key: int, owner: int) -> bool:
        with self._lock:
            if self._has(key):
                return False
            self._recent[key] = owner
            if len(self._recent) >= RECENT_MAX:
                self._has_more = True
                self._database.executemany("INSERT INTO claims VALUES (?, ?)", self._recent.items())
                self._recent.clear()
            return True

    def remove(self, key: int) -> None:
        with self._lock:
            self._recent.pop(key, None)
            if self._has_more:
                self._database.execute("DELETE FROM claims WHERE key = ?", (key,))

    def remove_all(self, owner: int) -> None:
        with self._lock:
            self._recent = {key: each for key, each in self._recent.items() if each != owner}
            if self._has_more:
                self._database.execute("DELETE FROM claims WHERE owner = ?", (owner,))

    def has(self, key: int) -> bool:
        with self._lock:
            return self._has(key)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _has(self, key: int) -> bool:
        if key in self._recent:
            return True
        if not self._has_more:
            return False
        found = self._database.execute("SELECT 1 FROM claims WHERE key = ?", (key,))
        return found.fetchone() is not None


def _key(path: str) -> int:
    return int.from_bytes(digest_of(path.encode("utf-8", "surrogatepass"))[:8], "big", signed=True)
