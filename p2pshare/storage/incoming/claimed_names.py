"""The local names that a job has taken, so that no local file stands for two remote ones."""

from __future__ import annotations

import sqlite3
import threading

from p2pshare.wire.blocks import digest_of

RECENT_MAX = 100_000  # names in memory: about 8 MB


class Claims:
    """The names that the files of a job have or will have, as hashes. Thread-safe.

    A large job keeps most of them in a temporary database, to bound the memory.
    """

    def __init__(self) -> None:
        """Start without names."""
        self._lock = threading.Lock()
        self._recent: set[int] = set()
        self._has_more = False  # in the database
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE claims (key INTEGER PRIMARY KEY)")

    def take(self, path: str) -> bool:
        """Claim a path; False if it is taken."""
        with self._lock:
            key = _key(path)
            if self._has(key):
                return False
            self._recent.add(key)
            if len(self._recent) >= RECENT_MAX:
                self._has_more = True
                rows = ((each,) for each in self._recent)
                self._database.executemany("INSERT INTO claims VALUES (?)", rows)
                self._recent.clear()
            return True

    def give_back(self, path: str) -> None:
        """Free a path."""
        with self._lock:
            self._recent.discard(_key(path))
            if self._has_more:
                self._database.execute("DELETE FROM claims WHERE key = ?", (_key(path),))

    def has(self, path: str) -> bool:
        """Whether a path is taken."""
        with self._lock:
            return self._has(_key(path))

    def close(self) -> None:
        """Forget all names. May be called again."""
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
