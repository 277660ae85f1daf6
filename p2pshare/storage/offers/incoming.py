"""The offers that others have made to this peer: its inbox."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2pshare.errors import TooManyOffers
from p2pshare.storage.offers.ledger import Ledger
from p2pshare.storage.offers.rows import read, read_fault, read_items, written, written_items
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import InboxState, OfferFault, OfferItem

INCOMING_MAX = 1000  # offers; with their messages of up to 16 KiB these are 16 MiB

_COLUMNS = (
    "id, sender, key, offer, received, expires, note, is_text, items, more_items, files, folders, bytes, state, why,"
    " folder, is_auto, told, updated, saved, root, receipt, is_paused, files_here, bytes_here,"
    " is_cleared"
)
_PUT = f"INSERT OR REPLACE INTO incoming ({_COLUMNS}, place) VALUES ({', '.join('?' * 27)})"
_DELETE = "DELETE FROM incoming WHERE id = ? AND place = ?"
_ALL = f"SELECT {_COLUMNS} FROM incoming WHERE place = ? ORDER BY received, id"


@dataclass(frozen=True, slots=True)
class IncomingOffer:
    """An offer that somebody has made to this peer."""

    id: str
    """As the sender has it; drawn by this peer if another offer has that one."""
    sender: str
    """The name that the sender's key has proven, or what it calls itself, with `ON_NETWORK` behind it."""
    key: PublicKey
    """The sender's."""
    offer_id: str
    """Drawn by the sender; others may use the same."""
    received: int
    """Unix time in s."""
    expires: int
    """Unix time in s."""
    note: str
    is_text: bool
    items: tuple[OfferItem, ...]
    more_items: int
    files: int
    folders: int
    bytes: int
    state: InboxState = InboxState.WAITING
    why: OfferFault | None = None
    """Why it has failed."""
    folder: Path | None = None
    """Where it is saved; None until it is accepted."""
    is_auto: bool = False
    """Whether it was accepted without asking, since the user takes what this sender sends."""
    told: InboxState | None = None
    """The state that the sender has noted last."""
    updated: int = 0
    """When the state changed, as Unix time in s."""
    saved: tuple[str, ...] = ()
    """Local paths of what has arrived, at the top; the first ones."""
    root: str = ""
    """The root of all files as hexadecimal digits, once it is done."""
    receipt: str = ""
    """This peer's signature under that."""
    is_paused: bool = False
    """Whether the user has paused it; only of one that is accepted."""
    files_here: int = 0
    """Files that had arrived when it was paused last."""
    bytes_here: int = 0
    is_cleared: bool = False
    """Whether the user has removed it from the list; it is kept until the sender knows the state."""

    @property
    def is_wanted(self) -> bool:
        """Whether it is to be fetched now."""
        return self.state is InboxState.ACCEPTED and not self.is_paused

    @property
    def is_told(self) -> bool:
        """Whether the sender knows the state."""
        return self.told is self.state


class IncomingOffers:
    """The rows of incoming offers. All methods block, and raise `LedgerUnusable`."""

    def __init__(self, ledger: Ledger, *, most: int = INCOMING_MAX) -> None:
        """Keep up to `most` offers in an open ledger."""
        self._ledger = ledger
        self._most = most

    def all(self) -> tuple[IncomingOffer, ...]:
        """Return all offers, the oldest first."""
        return self._ledger.rows(_offer, _ALL, (self._ledger.place,))

    def add(self, offer: IncomingOffer) -> tuple[str, ...]:
        """Keep a new offer; return the IDs of those that were dropped to make room.

        What is over is dropped: first of what the senders know to be over, then of the rest, the oldest first.

        Raises:
            TooManyOffers: too many wait, or are being fetched.
        """
        with self._ledger.changing() as database:
            ((count,),) = database.execute("SELECT count(*) FROM incoming")
            excess = max(0, count + 1 - self._most)
            kept = self.all() if excess else ()
            over = sorted(
                (each for each in kept if each.state.is_final), key=lambda each: not each.is_told
            )
            if len(over) < excess:
                raise TooManyOffers(count=count)
            dropped = tuple(each.id for each in over[:excess])
            for each in dropped:
                self.remove(each)
            self.update(offer)
        return dropped

    def update(self, offer: IncomingOffer) -> None:
        """Write what has changed about an offer."""
        with self._ledger.changing() as database:
            database.execute(_PUT, (*_row(offer), self._ledger.place))

    def clear(self, offers: Iterable[IncomingOffer]) -> None:
        """Drop offers that are over and of which the senders know it; mark the others, which are kept until then."""
        with self._ledger.changing():
            for each in offers:
                if each.is_told:
                    self.remove(each.id)
                else:
                    self.update(replace(each, is_cleared=True))

    def remove(self, local_id: str) -> None:
        """Drop an offer."""
        with self._ledger.changing() as database:
            database.execute(_DELETE, (local_id, self._ledger.place))


def _row(offer: IncomingOffer) -> tuple[object, ...]:
    return (
        offer.id,
        offer.sender,
        str(offer.key),
        offer.offer_id,
        offer.received,
        offer.expires,
        offer.note,
        offer.is_text,
        written_items(offer.items),
        offer.more_items,
        offer.files,
        offer.folders,
        offer.bytes,
        offer.state.value,
        None if offer.why is None else offer.why.value,
        None if offer.folder is None else written(str(offer.folder)),
        offer.is_auto,
        None if offer.told is None else offer.told.value,
        offer.updated,
        written(offer.saved),
        offer.root,
        offer.receipt,
        offer.is_paused,
        offer.files_here,
        offer.bytes_here,
        offer.is_cleared,
    )


def _offer(*columns: Any) -> IncomingOffer:
    (id_, sender, key, offer_id, received, expires, note, is_text, items, *rest) = columns
    more_items, files, folders, size, state, why, folder, is_auto, told, *last = rest
    updated, saved, root, receipt, is_paused, files_here, bytes_here, is_cleared = last
    return IncomingOffer(
        id_,
        sender,
        PublicKey.parse(key),
        offer_id,
        received,
        expires,
        note,
        bool(is_text),
        read_items(items),
        more_items,
        files,
        folders,
        size,
        InboxState(state),
        read_fault(why),
        None if folder is None else Path(read(folder)),
        bool(is_auto),
        None if told is None else InboxState(told),
        updated,
        tuple(read(saved)),
        root,
        receipt,
        bool(is_paused),
        files_here or 0,
        bytes_here or 0,
        bool(is_cleared),
    )
