"""The offers that this peer has made, and what became of them at each recipient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from p2pshare.core.offers.states import DeliveryState
from p2pshare.errors import TooManyOffers
from p2pshare.storage.offers.ledger import Ledger
from p2pshare.storage.offers.rows import (
    read,
    read_fault,
    read_items,
    read_key,
    written,
    written_items,
)
from p2pshare.storage.offers.spool import FOLDER_NAME
from p2pshare.storage.shares.arguments import SharedPath, Viewer
from p2pshare.storage.shares.rules import Rules
from p2pshare.wire.display import display
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import OfferFault, OfferItem

OUTGOING_MAX = 1000  # offers
COPY_KEPT = 86400  # seconds for which what only the spool has can be sent again, after somebody has not got it
_UNMET = frozenset(
    {
        DeliveryState.DECLINED,
        DeliveryState.FAILED,
        DeliveryState.REFUSED,
        DeliveryState.EXPIRED,
    }
)
"""Final states after which the sender may want to send the same again; what it has withdrawn is not kept."""

_COLUMNS = (
    "id, created, expires, note, is_text, roots, exclude, hidden, spool, items, more_items, files, folders, bytes,"
    " left_out, is_cleared"
)
_ADD = f"INSERT INTO outgoing ({_COLUMNS}, place) VALUES ({', '.join('?' * 17)})"
_ALL = f"SELECT {_COLUMNS} FROM outgoing WHERE place = ? ORDER BY created, id"
_ELSEWHERE = "SELECT spool FROM outgoing WHERE place != ?"
_RECIPIENTS = "SELECT offer, name, key, state, why, updated, receipt, is_told FROM recipients ORDER BY offer, place"
_ADD_RECIPIENT = "INSERT INTO recipients VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE = (
    "UPDATE recipients SET key = ?, state = ?, why = ?, updated = ?, receipt = ?, is_told = ?"
    " WHERE offer = ? AND name = ?"
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """A person to whom an offer is made."""

    name: str
    key: PublicKey | None = None
    """Pinned; None until it is known."""
    state: DeliveryState = DeliveryState.WAITING
    why: OfferFault | None = None
    """Why it was refused, or has failed."""
    updated: int = 0
    """When the state changed, as Unix time in s."""
    receipt: str = ""
    """The recipient's signature, of an offer that is done."""
    is_told: bool = True
    """Whether the recipient has acknowledged a state of which the sender has to tell."""

    def is_viewer(self, viewer: Viewer) -> bool:
        """Whether this is the other side of a session."""
        if self.key is not None and viewer.key == self.key:
            return True
        return viewer.is_proven and viewer.name == self.name


@dataclass(frozen=True, slots=True)
class OutgoingOffer:
    """An offer that this peer has made."""

    id: str
    created: int
    """Unix time in s."""
    expires: int
    """Unix time in s."""
    note: str
    is_text: bool
    roots: tuple[tuple[str, Path], ...]
    """Name and absolute path of each file and folder."""
    exclude: tuple[str, ...]
    """Patterns of what is left out of them."""
    hidden: bool
    """Whether names that begin with a dot are sent."""
    items: tuple[OfferItem, ...]
    more_items: int
    files: int
    folders: int
    bytes: int
    recipients: tuple[Recipient, ...]
    spool: str = ""
    """The ID of the spooled file, or of the draft, that is offered; empty if none is."""
    left_out: Mapping[str, Any] = field(default_factory=dict)
    """What is left out, as the status of a share tells it; empty if nothing is."""
    is_cleared: bool = False
    """Whether the user has removed it from the list; it is kept until all recipients know the state."""

    @property
    def title(self) -> str:
        """The name of what is offered, for a list."""
        return self.items[0].name if self.items else display(self.note)

    @property
    def is_open(self) -> bool:
        """Whether the offer stands for anybody."""
        return any(not each.state.is_final for each in self.recipients)

    def keeps_copy(self, now: int) -> bool:
        """Whether what the spool has is kept at a Unix time: while the offer stands, and a while after it failed."""
        since = [each.updated for each in self.recipients if each.state in _UNMET]
        return self.is_open or (not self.is_cleared and max(since, default=0) > now - COPY_KEPT)

    def can_repeat(self, now: int) -> bool:
        """Whether its files can be sent again at a Unix time, as far as it depends on the spool."""
        return bool(self.roots) and (not self.spool or self.keeps_copy(now))

    @property
    def copies(self) -> tuple[Path, ...]:
        """The files and folders that are in the spool."""
        return tuple(path for _, path in self.roots if self._is_spooled(path))

    @property
    def is_told(self) -> bool:
        """Whether all recipients have acknowledged what the sender has to tell them."""
        return all(each.is_told for each in self.recipients)

    def is_for(self, viewer: Viewer) -> bool:
        """Whether a viewer may fetch it: a recipient for whom it stands."""
        return any(each.is_viewer(viewer) and not each.state.is_final for each in self.recipients)

    def recipient(self, viewer: Viewer) -> Recipient | None:
        """Return the recipient that a viewer is."""
        return next((each for each in self.recipients if each.is_viewer(viewer)), None)

    def with_recipient(self, changed: Recipient) -> OutgoingOffer:
        """Return the offer after a change of the recipient of that name."""
        recipients = (changed if each.name == changed.name else each for each in self.recipients)
        return replace(self, recipients=tuple(recipients))

    def shared(self, private: Sequence[Path]) -> tuple[SharedPath, ...]:
        """Return its files and folders for `ShareTree.mount`; `private` is never shared, except what is spooled."""
        rules = Rules(self.exclude, self.hidden)
        return tuple(
            SharedPath(
                name, path, private=() if self._is_spooled(path) else tuple(private), rules=rules
            )
            for name, path in self.roots
        )

    def _is_spooled(self, path: Path) -> bool:
        """Whether a root lies in the spool, where a path that the user names cannot lie."""
        return bool(self.spool) and path.parts[-3:-1] == (FOLDER_NAME, self.spool)


class OutgoingOffers:
    """The rows of outgoing offers. All methods block, and raise `LedgerUnusable`."""

    def __init__(self, ledger: Ledger, *, most: int = OUTGOING_MAX) -> None:
        """Keep up to `most` offers in an open ledger."""
        self._ledger = ledger
        self._most = most

    def all(self) -> tuple[OutgoingOffer, ...]:
        """Return all offers, the oldest first."""
        with self._ledger.changing():  # one view of both tables
            recipients: dict[str, list[Recipient]] = {}
            for offer, recipient in self._ledger.rows(_recipient, _RECIPIENTS):
                recipients.setdefault(offer, []).append(recipient)
            offers = self._ledger.rows(_offer, _ALL, (self._ledger.place,))
        return tuple(
            replace(each, recipients=tuple(recipients.get(each.id, ()))) for each in offers
        )

    def spooled_elsewhere(self) -> frozenset[str]:
        """Return the IDs of the spooled files that belong to offers in other registries."""
        return frozenset(self._ledger.rows(str, _ELSEWHERE, (self._ledger.place,)))

    def add(self, offer: OutgoingOffer) -> tuple[OutgoingOffer, ...]:
        """Keep a new offer; return those that were dropped to make room.

        What is over is dropped: first what all recipients know to be over, then the rest, the oldest first.

        Raises:
            TooManyOffers: too many stand.
        """
        with self._ledger.changing() as database:
            ((count,),) = database.execute("SELECT count(*) FROM outgoing")
            excess = max(0, count + 1 - self._most)
            kept = self.all() if excess else ()
            over = sorted(
                (each for each in kept if not each.is_open), key=lambda each: not each.is_told
            )
            dropped = tuple(over[:excess])
            if len(dropped) < excess:
                raise TooManyOffers(count=count)
            for each in dropped:
                self.remove(each.id)
            database.execute(_ADD, (*_row(offer), self._ledger.place))
            for place, recipient in enumerate(offer.recipients):
                row = (offer.id, place, recipient.name, *_changing(recipient))
                database.execute(_ADD_RECIPIENT, row)
        return dropped

    def update(self, offer_id: str, recipient: Recipient) -> None:
        """Write what has changed about a recipient."""
        with self._ledger.changing() as database:
            database.execute(_UPDATE, (*_changing(recipient), offer_id, recipient.name))

    def clear(self, offers: Iterable[OutgoingOffer]) -> None:
        """Drop offers that are over and of which all recipients know it; mark the others, which are kept until then."""
        with self._ledger.changing() as database:
            for each in offers:
                if each.is_told:
                    self.remove(each.id)
                else:
                    database.execute("UPDATE outgoing SET is_cleared = 1 WHERE id = ?", (each.id,))

    def remove(self, offer_id: str) -> None:
        """Drop an offer."""
        with self._ledger.changing() as database:
            database.execute("DELETE FROM outgoing WHERE id = ?", (offer_id,))


def _row(offer: OutgoingOffer) -> tuple[object, ...]:
    return (
        offer.id,
        offer.created,
        offer.expires,
        offer.note,
        offer.is_text,
        written([(name, str(path)) for name, path in offer.roots]),
        written(offer.exclude),
        offer.hidden,
        offer.spool,
        written_items(offer.items),
        offer.more_items,
        offer.files,
        offer.folders,
        offer.bytes,
        written(dict(offer.left_out)),
        offer.is_cleared,
    )


def _offer(*columns: Any) -> OutgoingOffer:
    (id_, created, expires, note, is_text, roots, exclude, hidden, spool, items, *counts) = columns
    more_items, files, folders, size, left_out, is_cleared = counts
    return OutgoingOffer(
        id_,
        created,
        expires,
        note,
        bool(is_text),
        tuple((name, Path(path)) for name, path in read(roots)),
        tuple(read(exclude)),
        bool(hidden),
        read_items(items),
        more_items,
        files,
        folders,
        size,
        (),
        spool,
        read(left_out),
        bool(is_cleared),
    )


def _changing(recipient: Recipient) -> tuple[object, ...]:
    """Return the columns of a recipient behind its name."""
    return (
        None if recipient.key is None else str(recipient.key),
        recipient.state.value,
        None if recipient.why is None else recipient.why.value,
        recipient.updated,
        recipient.receipt,
        recipient.is_told,
    )


def _recipient(
    offer: str, name: str, key: str | None, state: str, why: str | None, *rest: Any
) -> tuple[str, Recipient]:
    updated, receipt, is_told = rest
    return offer, Recipient(
        name,
        read_key(key),
        DeliveryState(state),
        read_fault(why),
        updated,
        receipt,
        bool(is_told),
    )
