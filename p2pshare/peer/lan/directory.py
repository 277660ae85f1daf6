"""The local network as a directory: who announces itself here, and which of two peers with one name is meant.

To its callers this is what the client of a registry is: see `peer/find/directory.py`. `claim` announces the own peer,
`beat` keeps the announcement, and the look-ups answer from what was heard. Statements need the key of a registry as
their audience; here that is `LAN_KEY`, which nobody holds.

**Two keys with one name.** A registry gives a name to one key. Here anybody can announce any name, so the keys that
this user has met decide (threat 62):

    known key    announced      look-up                                  list
    K            K, L           K                                        NAME, NAME (another key: L…)
    K            L              L, which the pin check then refuses      NAME (another key: L…)
    none         K              K, which is pinned                       NAME
    none         K, L           `NameAmbiguous`                          NAME (another key: K…), NAME (another key: L…)

A first contact waits until all have had the time to answer: otherwise the fastest would be the one that is pinned. The
own key counts as known for the own name. If another key announces it, the user is told.

**Waiting.** Multicast DNS answers within some 0.2 s, but within 1.4 s if the same answer was just given to somebody
else, and on a bad wireless network after one or two repetitions. A directory that has been open for a while knows
everybody, and a look-up then waits only a short time for a peer that is just starting.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from p2pshare._version import __version__
from p2pshare.errors import NameAlsoUsed, NameAmbiguous, NobodyHere, NoRegistry, P2pshareError
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.lan.announcement import Announcement
from p2pshare.peer.lan.services import REPEAT, Service, Services
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.storage.identity.identity import KEY_NAME
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.wire.addresses import LAN
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.reach.candidates import Candidate, CandidateKind
from p2pshare.wire.registry_answers import (
    RECORD_LIFE,
    ClaimBody,
    Granted,
    NameKind,
    PeerSummary,
    PeerView,
    Presence,
    RegistryInfo,
    ReleaseBody,
)
from p2pshare.wire.statements import Location, Record, digest_of

LAN_KEY = PublicKey(hashlib.sha256(b"p2pshare: no registry").digest())
"""The audience of statements where there is no registry. Nobody has a secret key for it."""
LOOK_UP = 3.0  # seconds that a look-up listens for a peer, from the opening of the directory
GATHER = 1.6  # seconds from the opening until a list is complete
FIRST_CONTACT = 2.0  # seconds from the opening until a first contact is decided
LATE = 1.0  # seconds that a look-up waits for a peer in any case
LEASE = 30  # seconds: the own addresses are looked at again within half of them
TELL_EVERY = 60.0  # seconds between two remarks that another peer uses the own name
SALT = "local-network-00"

SHOWN_KEY = 9  # characters of a key that is not the known one, as people read it
WATCHERS_MAX = 64


class Multicast(Protocol):
    """The part of the network that a directory needs: see `DnsSd`."""

    async def open(self, heard: Heard) -> None:
        """Begin to listen; call `heard` with what comes."""
        ...

    async def announce(self, announcement: Announcement | None) -> None:
        """Announce the own peer from now on, at all addresses of this machine; None to say farewell."""
        ...

    async def repeat(self) -> None:
        """Look at the own addresses, and repeat the announcement."""
        ...

    async def close(self) -> None:
        """Say farewell, and stop listening. May be called at any time."""
        ...


Heard = Callable[[Sequence[Announcement], Sequence[str]], object]
"""Called with peers that were heard, and the instances of peers that have said farewell."""


class LanDirectory:
    """The peers on the local network. It is opened at first use; call `close` in any case."""

    _log = Logger()
    url = LAN
    keeps_names = False
    description: RegistryInfo | None = None
    clock_ahead_s: float | None = 0.0

    def __init__(
        self,
        reactor: IPeerReactor,
        network: Multicast,
        place: PeerPlace | None,
        wall: Callable[[], float],
        *,
        on_notice: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Listen on a network.

        Args:
            reactor: for threads and timers.
            network: hears and announces.
            place: the data folder of the user, with the keys that are known; None if there is none.
            wall: the Unix time in s.
            on_notice: called with a sentence that the user should read.
        """
        self.known: PublicKey | None = LAN_KEY
        self.key: PublicKey | None = LAN_KEY
        self.trouble: P2pshareError | None = None
        """Another peer that announces the own name."""
        self._reactor = reactor
        self._network = network
        self._place = place
        self._wall = wall
        self._on_notice = on_notice
        self._known: dict[str, PublicKey] = {}  # what is pinned, and the own key
        self._services = Services(lambda name, key: self._known.get(name) == key)
        self._own: Announcement | None = None
        self._opening: SharedAnswer[None] | None = None
        self._opened_at = 0.0
        self._timer: IDelayedCall | None = None
        self._waiting: set[Deferred[None]] = set()
        self._watchers: dict[object, Callable[[Announcement, Presence], object]] = {}
        self._told_at: float | None = None  # when the user was told of the trouble
        self._is_closed = False

    async def info(self) -> RegistryInfo:
        """Return what a registry would say of itself; begin to listen, since questions follow."""
        if self._opening is None:
            self._opening = SharedAnswer(Deferred.fromCoroutine(self._begin()))
        return RegistryInfo(__version__, int(self._wall()), LAN_KEY, (), False)

    async def prove(self) -> PublicKey:
        """Return the audience of statements."""
        return LAN_KEY

    async def claim(self, name: str, body: ClaimBody) -> Granted:
        """Announce the own peer at the addresses of this machine; without a location there is nothing to announce.

        Raises:
            LanUnusable: this machine is on no network.
        """
        record = Record.parse(body.record).statement
        if body.location is not None:
            await self._open()
            addresses = Location.parse(body.location).addresses
            since = self._own and self._own.since  # a change of addresses goes on with the presence
            now = int(self._wall())
            self._own = Announcement.own(name, record.key, addresses, record.caps, since or now)
            await self._network.announce(self._own)
            self._look_for_conflict()
        return Granted("claimed", SALT, b"", "", "", lease=LEASE)

    async def beat(self, heartbeat: Heartbeat, mac_key: bytes) -> bool:
        """Keep the announcement, or say farewell."""
        if heartbeat.online:
            await self._network.repeat()
            return True
        self._own = None
        if self._opening is not None:
            await self._network.announce(None)
        return True

    async def release(self, name: str, body: ReleaseBody) -> None:
        """Fail.

        Raises:
            NoRegistry: a name belongs to nobody here, so it cannot be given up.
        """
        raise NoRegistry(reason="no name belongs to anybody, so none can be given up")

    async def look_up_peer(self, name: str, *, by_registry_clock: bool = False) -> PeerView:
        """Return the peer with a name, by the rules of the table above.

        Raises:
            NobodyHere: no peer announces the name.
            NameAmbiguous: several do, and the key of none is known.
            LanUnusable: this machine is on no network.
        """
        await self._open()
        await self._read_known()
        known = self._known.get(name)
        gathered = self._opened_at + FIRST_CONTACT
        until = max(self._opened_at + LOOK_UP, self._reactor.seconds() + LATE)
        while True:
            found, now = self._services.named(name), self._reactor.seconds()
            for service in found:
                if service.announcement.key == known:
                    return self._view(service)
            if found and known is None and now >= gathered:
                break
            if now >= until:
                break
            await self._news(min(until, gathered if now < gathered else until) - now)
        if not found:
            raise NobodyHere(name=name)
        if known is None and len(found) > 1:
            keys = ", ".join(each.announcement.key.grouped for each in found)
            raise NameAmbiguous(name=name, keys=keys)
        return self._view(found[0])

    async def look_up_key(self, key: PublicKey) -> PeerView | None:
        """Return the peer that announces a key; None if there is none. A name in it is what the peer says."""
        await self._open()
        found = self._services.of_key(key)
        return self._view(found[0]) if found else None

    async def list_names(self) -> list[str]:
        """Return the names of all peers on the network."""
        return [each.name async for each in self.peers()]

    def check(self, name: str, view: PeerView) -> None:
        """Accept an answer: there is nobody whose word could be checked."""

    async def peers(self, prefix: str = "", online: bool = False) -> AsyncIterator[PeerSummary]:
        """Iterate over the peers on the network in the order of their names.

        Raises:
            LanUnusable: this machine is on no network.
        """
        await self._open()
        await self._read_known()
        while (rest := self._opened_at + GATHER - self._reactor.seconds()) > 0:
            await self._news(rest)
        for service in self._services:
            if service.announcement.name.startswith(prefix):
                yield self._summary(service.announcement, Presence.ONLINE)

    async def watch(
        self,
        names: Sequence[str],
        on_event: Callable[[PeerSummary], object],
        on_reset: Callable[[], object] = lambda: None,
        *,
        on_link: Callable[[bool, P2pshareError | None], object] = lambda *_: None,
        rng: random.Random | None = None,
    ) -> None:
        """Report peers that come and go until cancelled, as `RegistryClient.watch`. Who is not here is not reported.

        Raises:
            LanUnusable: this machine is on no network.
        """
        await self._open()
        await self._read_known()
        if len(self._watchers) >= WATCHERS_MAX:
            raise NoRegistry(reason=f"at most {WATCHERS_MAX} lists can be kept up to date")
        wanted, watcher = frozenset(names), object()

        def changed(announcement: Announcement, presence: Presence) -> None:
            if not wanted:
                on_event(self._summary(announcement, presence))
            elif announcement.name in wanted:  # of two peers with one name, the other may be left
                present = self._present(announcement.name)
                on_event(present or self._summary(announcement, presence))

        self._watchers[watcher] = changed
        try:
            on_link(True, None)
            on_reset()
            for name in sorted(wanted):
                if present := self._present(name):
                    on_event(present)
            await Deferred[None]()
        finally:
            del self._watchers[watcher]

    async def close(self) -> None:
        """Say farewell, and stop listening."""
        self._is_closed = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        await self._network.close()

    async def _open(self) -> None:
        """Begin to listen, unless that was done; a failure is tried again by the next caller."""
        if self._opening is None or self._opening.has_failed:
            self._opening = SharedAnswer(Deferred.fromCoroutine(self._begin()))
        await self._opening.wait()

    async def _begin(self) -> None:
        await self._read_known()
        await self._network.open(self._heard)
        self._opened_at = self._reactor.seconds()
        if not self._is_closed:
            self._timer = self._reactor.callLater(REPEAT, self._repeat)

    def _repeat(self) -> None:
        self._timer = self._reactor.callLater(REPEAT, self._repeat)
        for gone in self._services.expire(self._reactor.seconds()):
            self._tell(gone, Presence.GONE)
        repeating = Deferred.fromCoroutine(self._network.repeat())
        repeating.addErrback(lambda failure: self._log.failure("not announced", failure))

    async def _read_known(self) -> None:
        if self._place is not None:
            self._known = await run_in_thread(self._reactor, _known_keys, self._place)

    def _heard(self, announcements: Sequence[Announcement], left: Sequence[str]) -> None:
        """Take what was heard; called by the network."""
        now = self._reactor.seconds()
        for instance in left:
            for gone in self._services.left(instance):
                self._tell(gone, Presence.GONE)
        for each in announcements:
            if self._services.heard(each, now):
                self._tell(each, Presence.ONLINE)

    def _tell(self, announcement: Announcement, presence: Presence) -> None:
        self._log.debug(
            "heard: name={name} key={key} presence={presence} addresses={addresses}",
            name=announcement.name,
            key=announcement.key,
            presence=presence.value,
            addresses=",".join(map(str, announcement.addresses)),
        )
        if self._own is not None and announcement.name == self._own.name:
            self._look_for_conflict()
        for watcher in tuple(self._watchers.values()):
            watcher(announcement, presence)
        waiting, self._waiting = self._waiting, set()
        for each in waiting:
            each.callback(None)

    async def _news(self, seconds: float) -> None:
        """Return when something was heard, or after some time."""
        waiting: Deferred[None] = Deferred()
        self._waiting.add(waiting)
        waiting.addTimeout(max(seconds, 0.0), self._reactor, lambda *_: None)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    def _look_for_conflict(self) -> None:
        """Tell the user if another key announces the own name."""
        own = self._own
        others = [] if own is None else self._services.named(own.name)
        other = next(
            (e.announcement.key for e in others if own and e.announcement.key != own.key), None
        )
        if own is None or other is None:
            self.trouble = None
        elif self.trouble is None:
            self.trouble = NameAlsoUsed(name=own.name, other=other.grouped)
            now = self._reactor.seconds()
            if self._told_at is None or now - self._told_at >= TELL_EVERY:
                self._told_at = now
                self._log.warn("name also used: {why}", why=self.trouble)
                self._on_notice(str(self.trouble))

    def _summary(self, announcement: Announcement, presence: Presence) -> PeerSummary:
        name, key = announcement.name, announcement.key
        known = self._known.get(name)
        is_meant = known == key or (known is None and self._services.count(name) <= 1)
        mark = "" if is_meant else f"another key: {key.grouped[:SHOWN_KEY]}..."
        now = int(self._wall())
        since = _not_after(now, announcement.since) if presence is Presence.ONLINE else now
        return PeerSummary(name, NameKind.OWNED, presence, since, mark)

    def _present(self, name: str) -> PeerSummary | None:
        """Return the peer that is meant by a name, if it is here."""
        found = (
            self._summary(each.announcement, Presence.ONLINE) for each in self._services.named(name)
        )
        return next((each for each in found if not each.mark), None)

    def _view(self, service: Service) -> PeerView:
        """Return what a registry would answer; the record in it has no signature, since nobody vouches for it."""
        announcement, now = service.announcement, int(self._wall())
        candidates = tuple(Candidate(CandidateKind.HOST, each) for each in announcement.addresses)
        location = Location(SALT, candidates).to_text()
        record = Record(
            name=announcement.name,
            key=announcement.key,
            seq=1,
            iat=now,
            exp=now + RECORD_LIFE,
            aud=LAN_KEY,
            location=digest_of(location),
            caps=announcement.caps,
        )
        since = _not_after(now, announcement.since)
        return PeerView(
            PeerSummary(announcement.name, NameKind.OWNED, Presence.ONLINE, since),
            announcement.key,
            record.unsigned(),
            (),
            tuple(map(str, announcement.addresses)),
            location,
        )


def _not_after(now: int, since: int | None) -> int | None:
    """Return since when a peer is online; its clock may be ahead of this one."""
    return None if since is None else min(since, now)


def _known_keys(place: PeerPlace) -> dict[str, PublicKey]:
    """Return the pinned keys by name, and the own one."""
    known = KnownPeers(place.path, place.slot).all() if place.path.is_dir() else {}
    own = key_file.load(place.path / KEY_NAME)
    return known if own is None else {**known, place.name: own.public}
