"""The offers of a peer: opens the ledger, and puts the outbox, the inbox and their correspondence together."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred

from p2pshare.core.offers.incoming import OffersPolicy
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import Action, Fields
from p2pshare.peer.download_queue import DownloadQueue
from p2pshare.peer.events import EventHub
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.lookup import PeerFinder
from p2pshare.peer.find.presence import PresenceWatch
from p2pshare.peer.find.target import Target
from p2pshare.peer.lan.admission import LanAdmission
from p2pshare.peer.offers.correspondence import Correspondence
from p2pshare.peer.offers.history import Past
from p2pshare.peer.offers.inbox import Inbox
from p2pshare.peer.offers.outbox import Outbox
from p2pshare.peer.offers.parts import OfferParts
from p2pshare.peer.offers.visits import Visits
from p2pshare.peer.reach.dialler import Dialler
from p2pshare.peer.share.service import SessionSharer
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.offers.fetched import FetchedRows
from p2pshare.storage.offers.history import History
from p2pshare.storage.offers.ledger import FILE_NAME, Ledger
from p2pshare.storage.settings import Settings
from p2pshare.wire.keys import SigningKey


@dataclass(frozen=True, slots=True)
class OfferOwner:
    """The user whose offers these are."""

    settings: Settings
    place: PeerPlace
    folder: Path
    """The data folder."""
    key: Callable[[], SigningKey]
    """Returns the present key."""
    wall: Callable[[], float]
    """The Unix time in s."""


class OffersService:
    """Makes and takes offers between `start` and `stop`."""

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        owner: OfferOwner,
        directory: Directory,
        dialler: Dialler,
        sessions: SessionSharer,
        events: EventHub,
    ) -> None:
        """Use the parts of a peer.

        Args:
            reactor: for threads and timers.
            rng: draws IDs and jitter.
            owner: the user.
            directory: where people are looked up.
            dialler: opens sessions.
            sessions: serves what is offered, and accepts sessions.
            events: hears what changes.
        """
        self._reactor = reactor
        self._sessions = sessions
        place = owner.place
        self._ledger = Ledger(owner.folder / FILE_NAME, place.slot)

        def finder(*, pins: bool) -> PeerFinder:
            return PeerFinder(reactor, directory, owner.wall, place, pins_new_keys=pins)

        async def find(name: str) -> Target:
            return (await looker.find(name)).target

        async def meet(name: str) -> Target:
            return (await meeter.find(name)).target

        looker, meeter = finder(pins=False), finder(pins=True)
        self.presence = PresenceWatch(reactor, rng, directory)
        """Who comes and goes, for everything in this peer that wants to know."""
        self._queue = DownloadQueue(reactor, rng, self.presence)
        self._queue.limit = owner.settings.limit
        self._correspondence = Correspondence(reactor, find, meet, dialler)
        self.parts = OfferParts(
            reactor,
            rng,
            owner.wall,
            owner.settings,
            place.name,
            owner.key,
            owner.folder,
            KnownPeers(owner.folder, place.slot, wall=owner.wall),
            self._ledger,
            History(self._ledger),
            self._correspondence,
            meeter,
            dialler,
            self.presence,
            self._queue,
            events,
            place.is_lan,
        )
        self.outbox = Outbox(self.parts, lambda: sessions.tree, self._recipients_changed)
        self.inbox = Inbox(self.parts, self.outbox.has_offered_to)
        self._visits = Visits(reactor, FetchedRows(self._ledger), self.parts.now, events)
        self._past = Past(reactor, self.parts.history, self.parts.now)
        self._starting: Deferred[None] = Deferred()
        self._started = SharedAnswer(self._starting)
        self._policy = OffersPolicy(owner.settings.offers)
        self._allowed = frozenset(owner.settings.accept_from)
        sessions.open_sessions.offers = partial(self._correspondence.attach, is_accepted=True)
        sessions.offer_callers = self._callers
        sessions.uploads.watchers.extend((self.outbox, self._visits))

    @property
    def actions(self) -> Mapping[str, Action]:
        """What verbs may ask for, as soon as the ledger is read."""
        parts = (self.outbox, self.inbox, self._past, self._visits)
        actions = {do: action for each in parts for do, action in each.actions.items()}
        return {do: partial(self._perform, action) for do, action in actions.items()}

    async def _perform(self, action: Action, request: Fields) -> Fields:
        await self._started.wait()
        return await action(request)

    def use(self, settings: Settings) -> None:
        """Take offers by these settings from now on."""
        self.parts.settings = settings
        self._queue.limit = settings.limit
        self._policy = OffersPolicy(settings.offers)
        self._allowed = frozenset(settings.accept_from)
        self.inbox.use(settings)
        self._recipients_changed()

    def welcome(self, admission: LanAdmission) -> None:
        """Let people in where there is no registry: those who offer, as the owner wants it, and those who fetch."""
        admission.takes_offers = self._takes_offers
        admission.has_offered = self.outbox.knows

    async def start(self) -> None:
        """Open the ledger, and go on with what is in it. Both sides know their offers before the first message.

        Raises:
            LedgerUnusable: it cannot be used.
        """
        await run_in_thread(self._reactor, self._ledger.open)
        await self.inbox.load()
        await self.outbox.load()
        self._correspondence.sender, self._correspondence.receiver = self.outbox, self.inbox
        self.inbox.start()
        self.outbox.start()
        self._starting.callback(None)

    async def stop(self) -> None:
        """Stop, and close the ledger. May be called at any time."""
        await self._correspondence.stop()
        await self.outbox.stop()
        await self.inbox.stop()
        await self._queue.stop()
        await self._visits.stop()
        self.presence.stop()
        await run_in_thread(self._reactor, self._ledger.close)

    def _recipients_changed(self) -> None:
        self._sessions.shares_changed()
        self._sessions.on_change()

    def _callers(self) -> Collection[str] | None:
        """Return who may call this peer for the sake of offers; None for everybody."""
        if self._policy in (OffersPolicy.EVERYONE, OffersPolicy.KNOWN):
            return None
        allowed = self._allowed if self._policy is OffersPolicy.ALLOWED else frozenset[str]()
        return self.outbox.names | allowed

    def _takes_offers(self, pinned: Collection[str]) -> bool:
        """Return whether the owner may take offers of a key that is pinned under these names."""
        match self._policy:
            case OffersPolicy.EVERYONE:
                return True
            case OffersPolicy.KNOWN:
                return bool(pinned)
            case OffersPolicy.ALLOWED:
                return not self._allowed.isdisjoint(pinned)
            case OffersPolicy.NOBODY:
                return False
