"""Looking up a peer: from its name to the key that it must prove and the addresses to try.

See the package docstring for the whole path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from p2pshare.errors import (
    ClassicOnly,
    KeyUnknown,
    NewerOnly,
    NoSessionThere,
    NoSuchPeer,
    NotClassic,
    P2pshareError,
    PeerNotFound,
    PeerNotReachable,
    PeerOffline,
    PeerSharesNothing,
    PeerUnreachable,
    RegistryBusy,
    RegistryUnavailable,
    RegistryUnreachable,
)
from p2pshare.names import did_you_mean
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.fetch.link_change import reason_of
from p2pshare.peer.find.candidates import expect_elsewhere, remembered_candidates, told_candidates
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.pins import Pins
from p2pshare.peer.find.target import Target, given
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.adoption import move_in
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.identity.last_seen import Addresses, Seen
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.quantities import ago_text
from p2pshare.wire.reach.candidates import Candidate, Mapping
from p2pshare.wire.registry_answers import PeerView, Presence
from p2pshare.wire.session_messages import CAP_SESSIONS, SESSIONS
from p2pshare.wire.statements import CAP_CLASSIC, CAP_REACH, Location, Record

AWAY = (RegistryUnreachable, RegistryUnavailable, RegistryBusy)
"""Errors of the registry that say nothing about the peer."""


@dataclass(frozen=True, slots=True)
class FoundPeer:
    """A peer whose key, if it has one, has passed the pin check."""

    name: str
    candidates: tuple[Candidate, ...]
    """Where the peer may be reached, the best first. Empty if it can only be called."""
    key: PublicKey | None = None
    """The key that the peer must prove; None for a classic peer, which proves nothing."""
    caps: frozenset[str] = frozenset()
    """The capabilities in the peer's record; empty without a key."""
    seen: str | None = None
    """How long ago the peer was seen, if it is offline or the registry did not say where it is."""
    problem: P2pshareError | None = None
    """Why the registry did not say where the peer is; then the addresses are those at which it was seen before."""
    has_new_key: bool = False
    """Whether this look-up replaced the pinned key by a key that follows from it."""
    seal: str = ""
    """As in a `Target`."""
    mapping: Mapping = Mapping.UNKNOWN
    """As in a `Target`."""

    @property
    def addresses(self) -> tuple[PeerAddress, ...]:
        """The addresses that may have TCP, the best first."""
        return tuple(dict.fromkeys(each.address for each in self.candidates if each.has_tcp))

    @property
    def where(self) -> str:
        """The addresses, for people."""
        return ", ".join(map(str, self.addresses)) or "no address"

    @property
    def classic_address(self) -> PeerAddress:
        """The address for the classic protocol, after `expect_classic`."""
        return next(each for each in self.addresses if not each.is_ipv6)

    @property
    def target(self) -> Target:
        """What an opener needs to know.

        Raises:
            P2pshareError: as for `expect_sessions`.
        """
        is_online = self.seen is None  # a peer that is offline follows no inbox
        takes_calls = CAP_REACH in self.caps and bool(self.seal) and is_online
        key = self.expect_sessions()
        candidates, is_remembered = self.candidates, self.problem is not None
        return Target(
            self.name, key, candidates, self.seal, self.mapping, takes_calls, is_remembered
        )

    @property
    def takes_sessions(self) -> bool:
        """Whether a session with the peer is possible."""
        return self.key is not None and CAP_SESSIONS in self.caps

    @property
    def speaks_classic(self) -> bool:
        """Whether the peer answers in the classic protocol."""
        return self.key is None or CAP_CLASSIC in self.caps

    def expect_sessions(self) -> PublicKey:
        """Return the key that the peer must prove in a session. There is no fallback to the classic protocol.

        Raises:
            ClassicOnly: the peer takes no sessions.
            NewerOnly: it takes sessions of a later version only.
            PeerSharesNothing: its user runs no peer.
        """
        if self.key is not None and self.takes_sessions:
            return self.key
        is_newer = not self.speaks_classic or any(each.startswith(SESSIONS) for each in self.caps)
        raise self._unable((NewerOnly if is_newer else ClassicOnly)(name=self.name))

    def expect_classic(self) -> None:
        """Make sure that the peer may be asked in the classic protocol.

        Raises:
            NotClassic: its owner has not enabled the protocol.
            PeerSharesNothing: its user runs no peer.
            PeerNotReachable: it has no IPv4 address, and the protocol knows no other.
            P2pshareError: the registry did not answer. An old address proves nothing if no key is proven there.
        """
        if self.problem is not None:
            raise self.problem
        if not self.speaks_classic:
            raise self._unable(NotClassic(name=self.name))
        if all(each.is_ipv6 for each in self.addresses):
            raise PeerNotReachable(name=self.name)

    def _unable(self, error: P2pshareError) -> P2pshareError:
        is_absent = self.key is not None and not self.caps
        return PeerSharesNothing(name=self.name) if is_absent else error

    def explained(self, error: P2pshareError) -> P2pshareError:
        """Return an error of a session with this peer, completed by the facts of the look-up."""
        if self.problem is not None and isinstance(error, PeerUnreachable | NoSessionThere):
            if isinstance(self.problem, NoSuchPeer):
                return self.problem
            return PeerNotFound(
                name=self.name,
                address=self.where,
                seen=self.seen,
                registry=self.problem.fields["registry"],
                reason=reason_of(self.problem),
            )
        if isinstance(error, PeerUnreachable) and self.seen is not None:
            tried = f", and did not answer at {error.fields['address']}"
            return PeerOffline(name=self.name, seen=self.seen, tried=tried)
        return error


class PeerFinder:
    """Finds peers in one registry for one user.

    The data folder of the user holds the pins and the addresses at which peers were seen. A user without a name and a
    data folder remembers nothing, so every look-up is a first contact.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        registry: Directory,
        wall: Callable[[], float],
        place: PeerPlace | None,
        *,
        at: PeerAddress | None = None,
        pins_new_keys: bool = True,
    ) -> None:
        """Find peers in `registry`.

        Args:
            reactor: for threads and DNS.
            registry: the registry that knows the names.
            wall: the Unix time in s.
            place: the data folder of the user; None if there is none.
            at: the address of the peer, if the user has named it. A pinned key then needs no registry.
            pins_new_keys: whether a first contact is remembered.
        """
        self.at = at
        self.directory = registry
        """Where the names are looked up."""
        self._reactor = reactor
        self._wall = wall
        self._place = place
        self._pins_new_keys = pins_new_keys
        self._key: PublicKey | None = None  # the registry's, by which the memory was opened
        self._pins: Pins | None = None
        self._seen: Seen | None = None

    async def find(self, name: str) -> FoundPeer:
        """Return where a peer is and which key it must have.

        Raises:
            NoSuchPeer: nobody has this name, and no pinned key of it was seen anywhere.
            KeyChanged, KeyGone: the peer fails the pin check.
            KnownPeersUnusable: the list of pinned keys cannot be used.
            PeerNotReachable: the peer has no address to which this machine may connect, and cannot be called.
            PeerSharesNothing: its user runs no peer.
            PeerOffline: it is offline, and no address is known at which it was.
            KeyUnknown: the user has named an address, but no key is pinned and the registry does not answer.
            Unreachable: the registry does not answer, and no address of a pinned key is known.
        """
        found = await self._find(name)
        self._log.debug(
            "peer found: peer={name} key={key} addresses={addresses} caps={caps} seen={seen!r} problem={problem!r}",
            name=name,
            key=found.key,
            addresses=",".join(map(str, found.candidates)),
            caps=",".join(sorted(found.caps)),
            seen=found.seen,
            problem=found.problem and str(found.problem),
        )
        return found

    def target(self, name: str, found: FoundPeer | None = None) -> Callable[[], Awaitable[Target]]:
        """Return a function that tells a `RemotePeer` before each session how to reach the peer.

        It looks the peer up each time, since the peer may have moved. The first time it uses `found`, if given.
        """
        answers = [] if found is None else [found]

        async def find() -> Target:
            return (answers.pop() if answers else await self.find(name)).target

        return find

    async def _find(self, name: str) -> FoundPeer:
        await self._open_memory()
        if self.at is not None and self._pins is not None:
            pinned = await self._pins.key(name)
            if pinned is not None:  # the session proves the key, so nobody need be asked
                return FoundPeer(name, given([self.at]), pinned, frozenset({CAP_SESSIONS}))
        try:
            view = await self._ask_registry(name)
            has_new_key = await self._check_pin(name, view)
            if view is None:  # an original registry
                address = await cast(RegistryClient, self.directory).look_up(name)
                await expect_elsewhere(self._reactor, name, address, self.directory.url)
                return FoundPeer(name, given([address]))
        except (*AWAY, NoSuchPeer) as error:
            return await self._last_known(name, error)
        candidates, seen = await self._candidates(view)
        record = _record_of(view)
        return FoundPeer(
            name,
            candidates,
            view.key,
            caps_of(view),
            seen,
            has_new_key=has_new_key,
            seal="" if record is None or self.at is not None else record.seal,
            mapping=Mapping.UNKNOWN
            if view.location is None
            else Location.parse(view.location).mapping,
        )

    async def _ask_registry(self, name: str) -> PeerView | None:
        """Return the registry's answer; None if it is an original one, which knows no keys.

        At first contact the registry must prove its key. The look-up does not wait for that: both are asked at once,
        and the answer is verified once the key is known.
        """
        registry = self.directory
        if registry.key is not None:
            return await registry.look_up_peer(name)
        looking_up = Deferred.fromCoroutine(registry.look_up_peer(name))
        try:
            if await registry.info() is None:
                return None
            await self._open_memory()
            view = await looking_up
        finally:
            looking_up.addErrback(lambda _: None)
            looking_up.cancel()
        registry.check(name, view)
        return view

    async def _check_pin(self, name: str, view: PeerView | None) -> bool:
        """Check the peer's key, and pin it if it is new; returns whether it has replaced a pinned key."""
        if self._pins is None:
            return False
        pinned = await self._pins.check(name, view)
        if view is None or view.key in (None, pinned) or not self._pins_new_keys:
            return False
        await self._pins.remember(name, view.key, pinned)
        return pinned is not None

    async def _candidates(self, view: PeerView) -> tuple[tuple[Candidate, ...], str | None]:
        """Return the candidates to try, and how long ago the peer was seen if it is offline.

        The registry tells no address of an owner that is offline. It may be mistaken, so the addresses at which the
        peer was seen before are tried.
        """
        name, caps = view.summary.name, caps_of(view)
        is_offline = view.summary.presence is Presence.OFFLINE
        seen = self._ago(view.summary.since) if is_offline else None
        if self.at is not None:
            return given([self.at]), None
        if view.key is not None and not view.addresses and not caps:
            raise PeerSharesNothing(name=name)
        if view.addresses or view.location is not None or not is_offline:
            try:
                told = await told_candidates(self._reactor, view, self.directory.url)
            except PeerNotReachable:
                if CAP_REACH not in caps:
                    raise
                return (
                    (),
                    seen,
                )  # it does not tell where it is, or nobody here may connect there, but it can be called
            address = next((each.address for each in told if each.has_tcp), None)
            is_worth_it = view.key is not None and CAP_SESSIONS in caps and address is not None
            if self._seen is not None and is_worth_it:
                at = int(self._registry_time())
                await run_in_thread(
                    self._reactor, self._seen.saw_address, str(view.key), address, at
                )
            return told, seen
        key, remembered = await self._remembered(name)
        if key != view.key or not remembered:
            raise PeerOffline(name=name, seen=seen, tried="")
        return given(remembered), seen

    async def _last_known(self, name: str, error: P2pshareError) -> FoundPeer:
        """Return where a peer with a pinned key was seen last, since the registry cannot tell.

        The registry may be away. Or it has lost its store, and the peer has not claimed its name again yet. The session
        proves the pinned key, so an address that is out of date costs a try and nothing else.
        """
        if self.at is not None and isinstance(error, AWAY):
            url, reason = self.directory.url, reason_of(error)
            raise KeyUnknown(name=name, address=self.at, registry=url, reason=reason) from error
        key, remembered = await self._remembered(name)
        if remembered:
            seen = self._ago(next(iter(remembered.values())))
            caps = frozenset({CAP_SESSIONS})
            return FoundPeer(name, given(remembered), key, caps, seen, error)
        if isinstance(error, NoSuchPeer):
            meant = await run_in_thread(self._reactor, self._similar, name)
            if meant is not None:
                raise type(error)(name=name, hint=f" (did you mean {meant!r}?)") from error
        raise error

    async def _remembered(self, name: str) -> tuple[PublicKey | None, Addresses]:
        """Return the pinned key of a peer, and where it was seen; nothing if there is no pin."""
        key = None if self._pins is None else await self._pins.key(name)
        if key is None or self._seen is None:
            return None, {}
        url = self.directory.url
        return key, await remembered_candidates(self._reactor, self._seen, name, key, url)

    async def _open_memory(self) -> None:
        """Open the pins and the addresses seen, in the data folder that belongs to the registry.

        The folder goes by the registry's key. Until the registry has proven one, the key that is remembered for its URL
        is used.
        """
        place, key = self._place, self.directory.key
        if place is None or (self._pins is not None and self._key == key):
            return
        if key is None:
            folder, slot = await run_in_thread(self._reactor, lambda: (place.path, place.slot))
        else:
            folder = await run_in_thread(self._reactor, move_in, place, key)
            slot = place.slot if place.is_lan else str(key)
        self._key = key
        self._pins = Pins(self._reactor, KnownPeers(folder, slot, wall=self._wall), self.directory)
        self._seen = Seen(folder)

    def _ago(self, at: int | None) -> str:
        """Say how long ago the registry's time was `at`, in Unix time in s."""
        return "long ago" if at is None else ago_text(self._registry_time() - at)

    def _registry_time(self) -> float:
        """Return the Unix time in s by the registry's clock."""
        return self._wall() - (self.directory.clock_ahead_s or 0.0)

    def _similar(self, name: str) -> str | None:
        """Return the name that was met or listed before and is most like another name."""
        if self._pins is None or self._seen is None:
            return None
        return did_you_mean(name, {*self._pins.known.all(), *self._seen.names()} - {name})


def caps_of(view: PeerView) -> frozenset[str]:
    """Return the capabilities in a peer's record, which the registry client has verified."""
    record = _record_of(view)
    return frozenset() if record is None else frozenset(record.caps)


def _record_of(view: PeerView) -> Record | None:
    if view.key is None or view.record is None:
        return None
    return Record.parse(view.record).statement
