"""Visits: what others have fetched of the user's shares.

A row is a *visit*: what one key has fetched of one share, until it pauses for an hour. So the number of rows depends
neither on the number of files nor on that of sessions. There is a bound on all rows, and the oldest are dropped; what
others fetch never drops a line of the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from p2pshare.storage.offers.ledger import Ledger
from p2pshare.storage.offers.rows import read_key
from p2pshare.wire.keys import PublicKey

FETCHED_MAX = 10_000  # rows
PAUSE_MAX = 3600  # seconds after which the same key makes another row

_COLUMNS = "number, began, at, peer, key, share, path, files, bytes"
_ADD = (
    "INSERT INTO fetched (began, at, peer, key, share, path, files, bytes, place)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_GROW = "UPDATE fetched SET at = ?, peer = ?, files = files + ?, bytes = bytes + ? WHERE number = ?"
_LATEST_OF = (
    "SELECT number FROM fetched WHERE place = ? AND key = ? AND share = ? AND at >= ?"
    " ORDER BY number DESC LIMIT 1"
)
_ONE = f"SELECT {_COLUMNS} FROM fetched WHERE number = ?"
_PAGE = (
    f"SELECT {_COLUMNS} FROM fetched WHERE place = ? AND number < ? AND ? IN ('', share) AND ? IN ('', peer)"
    " ORDER BY number DESC LIMIT ?"
)
_DROP = "DELETE FROM fetched WHERE number <= (SELECT max(number) FROM fetched) - ?"
_NEWEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Fetched:
    """What somebody has fetched of a share; as an argument of `FetchedRows.add`, what has come to that."""

    at: int
    """Unix time in s of the last file."""
    peer: str
    """The name that the key has proven, or calls itself."""
    key: PublicKey
    share: str
    path: str
    """The path of the first file, from the name of the share on."""
    files: int
    """Files that have arrived, which the other side has confirmed."""
    bytes: int
    """Bytes that went out, also of files that have not arrived."""
    began: int = 0
    """Unix time in s of the first file."""
    number: int = 0
    """Its place; later visits have higher numbers."""


class FetchedRows:
    """The rows. All methods block, and raise `LedgerUnusable`."""

    def __init__(
        self, ledger: Ledger, *, most: int = FETCHED_MAX, pause_max: int = PAUSE_MAX
    ) -> None:
        """Keep up to `most` rows in an open ledger; a pause of more than `pause_max` seconds begins another one."""
        self._ledger = ledger
        self._most = most
        self._pause_max = pause_max

    def add(self, grown: Sequence[Fetched]) -> tuple[Fetched, ...]:
        """Add what was fetched, and return the rows as they are then."""
        numbers = []
        place = self._ledger.place
        with self._ledger.changing() as database:
            for each in grown:
                key, since = str(each.key), each.at - self._pause_max
                found = database.execute(_LATEST_OF, (place, key, each.share, since)).fetchone()
                if found is None:
                    row = (each.at, each.at, each.peer, key, each.share, each.path)
                    added = database.execute(_ADD, (*row, each.files, each.bytes, place))
                    numbers.append(added.lastrowid)
                else:
                    counts = (each.at, each.peer, each.files, each.bytes, found[0])
                    database.execute(_GROW, counts)
                    numbers.append(found[0])
            database.execute(_DROP, (self._most,))
            rows = (self._ledger.rows(_fetched, _ONE, (number,)) for number in numbers)
            return tuple(row for found in rows for row in found)

    def page(
        self, limit: int, before: int | None = None, share: str = "", peer: str = ""
    ) -> tuple[Fetched, ...]:
        """Return up to `limit` rows, the latest first.

        Args:
            limit: the most rows.
            before: only those before the row of that number; None for all.
            share: only those of this share; empty for all.
            peer: only those of this person; empty for all.
        """
        newest = _NEWEST if before is None else before
        return self._ledger.rows(_fetched, _PAGE, (self._ledger.place, newest, share, peer, limit))


def _fetched(number: int, began: int, at: int, peer: str, key: str, *rest: Any) -> Fetched:
    share, path, files, size = rest
    known = read_key(key)
    if known is None:
        raise ValueError("a row without a key")
    return Fetched(at, peer, known, share, path, files, size, began, number)
