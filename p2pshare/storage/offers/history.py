"""The history: what was sent and received, to whom and from whom, with the receivers' receipts."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from p2pshare.storage.offers.ledger import Ledger
from p2pshare.storage.offers.rows import read_key
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import InboxState

HISTORY_MAX = 100_000  # lines

_COLUMNS = "number, at, direction, peer, key, title, files, bytes, outcome, root, receipt, offer"
_ADD = (
    "INSERT INTO history (at, direction, peer, key, title, files, bytes, outcome, root, receipt, offer)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PAGE = (
    f"SELECT {_COLUMNS} FROM history WHERE number < ? AND ? IN ('', peer) AND substr(offer, 1, length(?)) = ?"
    " ORDER BY number DESC LIMIT ?"
)
_HAS_DEALT = "SELECT number FROM history WHERE outcome = ? AND (key = ? OR peer = ?) LIMIT 1"
_REPLACED = (
    "DELETE FROM history WHERE offer = ? AND peer = ? AND direction = ? AND direction = 'sent'"
)
_DROP = "DELETE FROM history WHERE number <= (SELECT max(number) FROM history) - ?"
_LATEST = 2**63 - 1
DONE = InboxState.DONE.value
"""The outcome of files that have arrived."""


class Direction(enum.Enum):
    """The two directions of what went over."""

    SENT = "sent"
    RECEIVED = "received"


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One offer to, or from, one person, that is over."""

    at: int
    """Unix time in s."""
    direction: Direction
    peer: str
    key: PublicKey | None
    title: str
    """What it was, in a few words: the name of the first item."""
    files: int
    bytes: int
    outcome: str
    """The final state: at the sender a `DeliveryState`, at the receiver an `InboxState`."""
    root: str = ""
    """The root of all files as hexadecimal digits, of an offer that is done."""
    receipt: str = ""
    """The receiver's signature under that."""
    offer: str = ""
    """The ID of the offer on this peer."""
    number: int = 0
    """Its place in the history, given by the ledger; later ones have higher numbers."""


class History:
    """The lines of the history. All methods block, and raise `LedgerUnusable`."""

    def __init__(self, ledger: Ledger, *, most: int = HISTORY_MAX) -> None:
        """Keep the latest `most` lines in an open ledger."""
        self._ledger = ledger
        self._most = most

    def add(self, entry: HistoryEntry) -> None:
        """Add a line, and drop the oldest beyond the bound.

        A person who had all files before the offer was withdrawn is done after all: the line replaces the one that says
        otherwise. What was received is not replaced, since its sender may use an ID again.
        """
        with self._ledger.changing() as database:
            database.execute(_REPLACED, (entry.offer, entry.peer, entry.direction.value))
            database.execute(_ADD, _row(entry))
            database.execute(_DROP, (self._most,))

    def page(
        self, limit: int, before: int | None = None, peer: str = "", offer: str = ""
    ) -> tuple[HistoryEntry, ...]:
        """Return up to `limit` lines, the latest first.

        Args:
            limit: the most lines.
            before: only those before the line of that number; None for all.
            peer: only those of this person; empty for all.
            offer: only those of offers whose ID begins so.
        """
        newest = _LATEST if before is None else before
        return self._ledger.rows(_entry, _PAGE, (newest, peer, offer, offer, limit))

    def has_dealt_with(self, person: Viewer) -> bool:
        """Return whether files have gone to a person, or have come from there because the user wanted them."""
        name = person.name if person.is_proven else None  # equals nothing
        return bool(self._ledger.rows(int, _HAS_DEALT, (DONE, str(person.key), name)))


def _row(entry: HistoryEntry) -> tuple[object, ...]:
    return (
        entry.at,
        entry.direction.value,
        entry.peer,
        None if entry.key is None else str(entry.key),
        entry.title,
        entry.files,
        entry.bytes,
        entry.outcome,
        entry.root,
        entry.receipt,
        entry.offer,
    )


def _entry(
    number: int, at: int, direction: str, peer: str, key: str | None, *rest: Any
) -> HistoryEntry:
    title, files, size, outcome, root, receipt, offer = rest
    return HistoryEntry(
        at,
        Direction(direction),
        peer,
        read_key(key),
        title,
        files,
        size,
        outcome,
        root,
        receipt,
        offer,
        number,
    )
