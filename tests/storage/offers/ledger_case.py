"""A ledger with stores, and rows for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.offers.states import DeliveryState
from p2pshare.storage.offers.history import Direction, History, HistoryEntry
from p2pshare.storage.offers.incoming import IncomingOffer, IncomingOffers
from p2pshare.storage.offers.ledger import FILE_NAME, Ledger
from p2pshare.storage.offers.outgoing import OutgoingOffer, OutgoingOffers, Recipient
from p2pshare.wire.keys import KEY_SIZE, PublicKey
from p2pshare.wire.offers.messages import InboxState, OfferItem
from p2pshare.wire.transfer_messages import EntryKind

ITEMS = (OfferItem("a", EntryKind.FILE, 3, 1), OfferItem("ü\n", EntryKind.FOLDER, 0, 0))


def key_of(name: str) -> PublicKey:
    return PublicKey(name.encode().ljust(KEY_SIZE, b"-"))


def id_of(number: int) -> str:
    return "".join(chr(ord("a") + number // 26**at % 26) for at in range(15, -1, -1))


def outgoing(number: int = 0, *names: str, **others: Any) -> OutgoingOffer:
    recipients = tuple(Recipient(name) for name in names or ("bob",))
    fields: dict[str, Any] = {
        "id": id_of(number),
        "created": 100 + number,
        "expires": 200,
        "note": "see\u202e\n",
        "is_text": False,
        "roots": (("a", Path("/x/a")), ("b", Path("/y/\udcff"))),
        "exclude": ("*.o",),
        "hidden": True,
        "items": ITEMS,
        "more_items": 1,
        "files": 2,
        "folders": 3,
        "bytes": 4,
        "recipients": recipients,
    }
    return OutgoingOffer(**{**fields, **others})


def incoming(number: int = 0, sender: str = "alice", **others: Any) -> IncomingOffer:
    fields: dict[str, Any] = {
        "id": id_of(number),
        "sender": sender,
        "key": key_of(sender),
        "offer_id": id_of(number + 1000),
        "received": 100 + number,
        "expires": 200,
        "note": "n",
        "is_text": False,
        "items": ITEMS,
        "more_items": 0,
        "files": 2,
        "folders": 3,
        "bytes": 4,
    }
    return IncomingOffer(**{**fields, **others})


def line(number: int = 0) -> HistoryEntry:
    return HistoryEntry(
        number, Direction.SENT, "bob", key_of("bob"), "a", 1, 3, "done", "00", "r", id_of(number)
    )


class LedgerTestCase(SynchronousTestCase):
    """An open ledger in an empty folder."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / FILE_NAME
        self.begin()

    def begin(self) -> None:
        """Open the ledger, as after a start."""
        self.ledger = Ledger(self.path, wait=0.0)
        self.ledger.open()
        self.addCleanup(self.ledger.close)
        self.outgoing = OutgoingOffers(self.ledger)
        self.incoming = IncomingOffers(self.ledger)
        self.history = History(self.ledger)

    def again(self) -> None:
        """Close it and open it."""
        self.ledger.close()
        self.begin()


DONE, CANCELLED = DeliveryState.DONE, DeliveryState.CANCELLED
OVER = InboxState.DECLINED
