"""The memory that all connections of an endpoint share for bytes of files which are not acknowledged yet.

A connection may always hold `SHARE_MIN` bytes. Above that, it waits as soon as it holds more than its fair share, or
all connections together hold the limit. So the sum stays below the limit, plus `SHARE_MIN` and one piece for each
connection, also if many other ends read nothing. One connection alone has the whole limit.
"""

from __future__ import annotations

SHARE_MIN = 256 * 1024  # bytes that each connection may hold


class HeldMemory:
    """The bytes that are held, and how many connections hold some."""

    def __init__(self, limit: int) -> None:
        """Bound the bytes of all connections to about `limit`."""
        self._limit = limit
        self._holders = 0
        self.total = 0
        """Bytes."""

    def changed(self, before: int, after: int) -> None:
        """Note that a connection held `before` bytes, and now holds `after`."""
        self.total += after - before
        self._holders += (after > 0) - (before > 0)

    @property
    def share(self) -> int:
        """The bytes that one connection may hold before it waits."""
        if self.total >= self._limit:
            return SHARE_MIN
        return max(SHARE_MIN, self._limit // max(1, self._holders))
