"""What the outbox and the inbox of a peer share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from p2pshare.core.offers.states import DeliveryState, withdrawal_of
from p2pshare.errors import CannotSave, NoSuchOffer, P2pshareError
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.control import Fields
from p2pshare.peer.download_queue import DownloadQueue
from p2pshare.peer.events import EventHub
from p2pshare.peer.fetch.link_change import LinkChange
from p2pshare.peer.fetch.remote import Find, LinkLimits, RemotePeer
from p2pshare.peer.find.lookup import PeerFinder
from p2pshare.peer.find.presence import PresenceWatch
from p2pshare.peer.offers.correspondence import Correspondence
from p2pshare.peer.reach.dialler import Dialler
from p2pshare.storage.identity.data_folder import data_place
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.offers.history import History
from p2pshare.storage.offers.incoming import IncomingOffer
from p2pshare.storage.offers.ledger import Ledger
from p2pshare.storage.offers.outgoing import OutgoingOffer
from p2pshare.storage.settings import Settings
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.offers.messages import (
    EXPIRY_MAX,
    ID_BYTES,
    Offer,
    OfferFault,
    OfferItem,
    Withdraw,
    id_from,
    mount_of,
)
from p2pshare.wire.session_messages import Message

PATIENCE = 30.0  # seconds in which a try of a download has to get a session again
PREFIX_MIN = 4  # characters of an id that name an offer
NAMED_MAX = 5  # offers that an error names


@dataclass(slots=True)
class OfferParts:
    """The parts of a running peer that its offers use."""

    reactor: IPeerReactor
    rng: random.Random
    wall: Callable[[], float]
    """The Unix time in s."""
    settings: Settings
    """Those that are in use now: the user may change them."""
    name: str
    """The user's."""
    key: Callable[[], SigningKey]
    """Returns the user's present key."""
    folder: Path
    """The data folder."""
    known: KnownPeers
    """The pinned keys."""
    ledger: Ledger
    history: History
    correspondence: Correspondence
    finder: PeerFinder
    """Finds people, and pins their keys at first contact."""
    dialler: Dialler
    presence: PresenceWatch
    queue: DownloadQueue
    """Of everything that the peer downloads."""
    events: EventHub
    is_lan: bool
    """Whether there is no registry."""

    @property
    def private(self) -> tuple[Path, ...]:
        """Return the data folders of the user's peers, where nothing of others is saved."""
        return self.folder, data_place().absolute()

    def remote_peer(
        self, name: str, find: Find, on_link: Callable[[LinkChange], object]
    ) -> RemotePeer:
        """Return a person from whom something is downloaded; the caller closes the connection.

        Args:
            name: the person.
            find: returns how to reach them.
            on_link: called when the connection changes.
        """
        limits = LinkLimits(silence=self.settings.timeout, patience=PATIENCE, rate=self.queue.share)
        return RemotePeer(
            self.reactor,
            self.rng,
            name,
            find,
            self.dialler,
            limits,
            on_link=on_link,
            offers=self.correspondence.attach,
        )

    def draw_id(self) -> str:
        """Return a new id of an offer."""
        return id_from(self.rng.randbytes(ID_BYTES))

    def now(self) -> int:
        """Return the Unix time in whole seconds."""
        return int(self.wall())


def id_of(text: str, ids: Iterable[str]) -> str:
    """Return the only id that begins with a text.

    Raises:
        NoSuchOffer: there is none, or several, or the text is too short.
    """
    wanted = text.strip().lower()
    if len(wanted) < PREFIX_MIN:
        raise NoSuchOffer(id=text, hint=f": an ID has at least {PREFIX_MIN} characters")
    found = sorted(each for each in ids if each.startswith(wanted))
    if len(found) == 1:
        return found[0]
    named = ", ".join(found[:NAMED_MAX])
    more = ", …" if len(found) > NAMED_MAX else ""
    raise NoSuchOffer(id=text, hint=f", but several that begin so: {named}{more}" if found else "")


def shown_item(item: OfferItem) -> Fields:
    """Return an item of an offer as verbs see it."""
    kind = item.kind.value
    return {"name": item.name, "kind": kind, "bytes": item.size, "files": item.files}


def _shown_content(offer: IncomingOffer | OutgoingOffer) -> Fields:
    """Return what verbs see of an offer on either side."""
    return {
        "expires": offer.expires,
        "note": offer.note,
        "text": offer.is_text,
        "items": [shown_item(each) for each in offer.items],
        "more_items": offer.more_items,
        "files": offer.files,
        "folders": offer.folders,
        "bytes": offer.bytes,
    }


def shown_incoming(
    offer: IncomingOffer, progress: tuple[int, int, int], trouble: P2pshareError | None
) -> Fields:
    """Return an offer of somebody else as verbs see it.

    Args:
        offer: as the ledger has it.
        progress: the files and bytes that are here, and the rate in bytes per second.
        trouble: why it is not being fetched now.
    """
    files, size, rate = progress
    why = OfferFault.DISK if isinstance(trouble, CannotSave) else offer.why
    return {
        "id": offer.id,
        "from": offer.sender,
        "key": str(offer.key),
        "received": offer.received,
        **_shown_content(offer),
        "state": offer.state.value,
        "why": None if why is None else why.value,
        "trouble": None if trouble is None else _sentence(trouble, offer.offer_id),
        "folder": None if offer.folder is None else str(offer.folder),
        "auto": offer.is_auto,
        "paused": offer.is_paused,
        "files_done": files,
        "bytes_done": size,
        "rate": rate,
        "saved": list(offer.saved),
        "told": offer.is_told,
    }


def _sentence(trouble: P2pshareError, offer_id: str) -> str:
    """Return why an offer is not fetched, in terms of what was offered: people do not know where it is mounted."""
    mount = mount_of(offer_id)
    return str(trouble).replace(f"{mount}/", "").replace(f"'{mount}'", "offer")


def message_of(offer: OutgoingOffer, state: DeliveryState, now: int) -> Message:
    """Return what a recipient is told of an offer that has this state for them, at a Unix time."""
    if state.is_withdrawn:
        return Withdraw(offer.id, withdrawal_of(state))
    left = min(EXPIRY_MAX, max(1, offer.expires - now))  # the clock may be set
    return Offer(
        offer.id,
        offer.files,
        offer.folders,
        offer.bytes,
        offer.items,
        offer.more_items,
        offer.note,
        left,
        offer.is_text,
    ).fitting()


def shown_offer(offer: OutgoingOffer, now: int) -> Fields:
    """Return an offer of the user as verbs see it at a Unix time, as far as the ledger knows it."""
    return {
        "id": offer.id,
        "created": offer.created,
        **_shown_content(offer),
        "left_out": dict(offer.left_out) or None,
        "again": offer.can_repeat(now),
        "to": [
            {
                "name": each.name,
                "state": each.state.value,
                "why": None if each.why is None else each.why.value,
                "online": None,
                "bytes_done": offer.bytes if each.state is DeliveryState.DONE else 0,
                "rate": 0,
                "updated": each.updated,
                "receipt": each.receipt or None,
            }
            for each in offer.recipients
        ],
    }
