"""A peer's name in the registry: taken, kept while the peer runs, left when it stops.

In a registry that knows owners, the peer claims the name with its key, and then says every half a minute or so that it
is still there. In an original one it registers again and again.

Two peers with copies of one key end each other's sessions by their claims. A peer whose session was ended so looks
whether another holder of its key claimed the name. If so, it warns, and takes the name back once. That ends the session
of the other peer, which notices and warns in the same way, and takes the name back once, too. The peer that notices the
other for the second time waits until that one has left. So the peer that started last keeps the name, both have warned
within two heartbeats, and nobody claims for ever.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.core.back_off import BackOff
from p2pshare.errors import (
    NameReleased,
    NameTaken,
    NoSuchPeer,
    P2pshareError,
    RegistryChanged,
    RegistryDowngraded,
    RegistryHasNoOwners,
    Unreachable,
)
from p2pshare.peer.ownership import CAPS, CAPS_WITH_CLASSIC, Owner, release_name, rotate_key
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.identity import Identity
from p2pshare.wire.addresses import PeerAddress, is_loopback
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.registry_answers import (
    HEARTBEAT_FROM,
    HEARTBEAT_TO,
    PRESENCE_LEASE,
    SESSION_LIFE,
    Granted,
)

BEAT_MIN = 0.3  # seconds between two heartbeats, however short a registry's lease is
RETRY_FIRST = 0.5  # seconds until the registry is tried again
RETRY_MAX = 15.0  # seconds, unless the registry wants more
LOCAL_ONLY = (
    "Only this machine reaches this peer: it is registered at a loopback address. If other machines need it, restart it"
    " with --address IP, or with a registry URL that they can use, too."
)
TAKE_BACKS_MAX = 1  # times that the name is claimed back from another peer with the same key
QUIET_BEATS = 10  # heartbeats of one session after which these are counted anew
RELEASE_TIMEOUT = 1.0  # seconds that stopping waits for the registry

T = TypeVar("T")

_log = Logger()


@dataclass(slots=True)
class _Session:
    """What the registry granted."""

    granted: Granted
    ends: float
    """By the clock, in seconds."""
    beats: int = 0


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another peer was noticed that uses the same key."""

    address: str | None
    """`IP:PORT` that it had told; None if it had left already."""
    noticed: int
    """Unix time in s."""
    waits: bool
    """Whether the other one has the name, and this peer waits until it has left."""


def elsewhere_text(elsewhere: Elsewhere) -> str:
    """Say that a key is in use elsewhere, and what to do."""
    where = "" if elsewhere.address is None else f", at {elsewhere.address}"
    at = datetime.fromtimestamp(elsewhere.noticed, UTC)
    told = f"Another peer has claimed this name with a copy of your key{where} (noticed {at:%Y-%m-%d %H:%M} UTC)."
    if elsewhere.waits:
        told += " It has the name now, and this peer waits until it has left."
    return (
        f"{told} Stop one of the two. If the other one is not yours, run `p2pshare key rotate` here: the copy is"
        " worth nothing then."
    )


class NameKeeper:
    """Keeps a name for as long as the peer runs."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: RegistryClient,
        rng: random.Random,
        identity: Identity,
        token: Callable[[], str],
        find_address: Callable[[], Coroutine[Deferred[Any], Any, PeerAddress]],
        wall: Callable[[], float],
        invitation: str | None = None,
        *,
        classic: bool = False,
        on_trouble: Callable[[P2pshareError | None], object] = lambda _: None,
    ) -> None:
        """Keep the name of an identity.

        Args:
            clock: measures waits.
            client: asks the registry.
            rng: draws the jitter of waits.
            identity: whose name it is.
            token: gives the secret by which a registry without owners knows the peer again.
            find_address: says where the peer is; it is asked each time.
            wall: the Unix time in s.
            invitation: with which the name may be claimed.
            classic: whether the peer speaks the classic protocol, too. Only then is it shown to original clients, and
                does it register where there are no owners.
            on_trouble: as for `patiently`.
        """
        self._clock = clock
        self._client = client
        self._rng = rng
        self._identity = identity
        self._name = identity.name
        self._token = token
        self._find_address = find_address
        self._wall = wall
        self._invitation = invitation
        self._speaks_classic = classic
        self._on_trouble = on_trouble
        self._caps = CAPS_WITH_CLASSIC if classic else CAPS
        self._owner = Owner(client, identity, wall)
        self._session: _Session | None = None
        self._is_classic = False
        self._is_released = False
        self._take_backs = 0
        self._waits = False
        self._elsewhere: Elsewhere | None = None
        self._lock = DeferredLock()
        self.registered: PeerAddress | None = None
        """Where the registry believes that the peer is; None before the first registration."""
        self.in_touch = False
        """Whether the registry has answered when it was asked last."""
        self.since: float | None = None
        """The Unix time in s of the first registration."""

    @property
    def elsewhere(self) -> Elsewhere | None:
        """Where the key was noticed to be in use elsewhere, the last time; None if it was not."""
        return self._elsewhere

    async def take(self) -> PeerAddress:
        """Register, and return the address that is registered now.

        Raises:
            NameTaken: somebody else has the name.
            Refused: the registry does not want us for another reason.
            Unreachable: the registry is away.
        """
        return await self._lock.run(self._exclusively, self._take)

    async def take_patiently(self) -> PeerAddress:
        """Register as soon as the registry is there.

        Raises:
            Refused: as for `take`.
        """
        return await patiently(
            self._clock, self._rng, self.take, Unreachable, on_trouble=self._on_trouble
        )

    async def keep(self) -> None:
        """Renew for ever; cancel it to stop.

        Raises:
            Refused: the registry lost the name and somebody else took it, or it does not want us any more.
        """
        while True:
            await self._pause_until_beat()
            await patiently(
                self._clock,
                self._rng,
                self._renew_exclusively,
                Unreachable,
                RegistryChanged,
                RegistryDowngraded,
                on_trouble=self._on_trouble,
            )

    async def give_up(self) -> None:
        """Say that the peer leaves, if that can be done at once; otherwise its presence ends by itself.

        The name stays its own, except in an original registry.
        """
        leaving: Deferred[None] = Deferred.fromCoroutine(self._leave())
        leaving.addTimeout(RELEASE_TIMEOUT, self._clock)
        try:
            await leaving
        except Exception as error:  # whatever it is, it must not keep the peer from stopping
            self._log.debug("the registry was not told of the end: {error}", error=error)

    async def release(self) -> None:
        """Give the name up for good.

        Raises:
            Refused: the registry does not agree.
            Unreachable: the registry cannot be asked; the name is kept.
        """
        await self._lock.run(self._exclusively, self._release)

    async def rotate(self) -> None:
        """Let a new key follow the present one.

        Raises:
            Refused: the registry does not agree.
            Unreachable: the registry cannot be asked.
        """
        await self._lock.run(self._exclusively, self._rotate)

    def _exclusively(self, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> Deferred[T]:
        return Deferred.fromCoroutine(work())

    async def _take(self) -> PeerAddress:
        if self._is_released:
            raise NameReleased(name=self._name)
        self.in_touch = False
        address = await self._find_address()
        if await self._client.info() is not None:
            await self._claim(address)
        elif not self._speaks_classic:
            raise RegistryHasNoOwners(registry=self._client.url)
        else:
            await self._register(address)
        self._registered_at(address)
        return address

    async def _register(self, address: PeerAddress) -> None:
        """Register in the classic way; one that gives names for ever takes no renewal, but has the name already."""
        try:
            await self._client.register(self._name, address, self._token(), PRESENCE_LEASE)
        except NameTaken:
            if address != self.registered or not await self._is_known_at(address):
                raise
        self._session, self._is_classic = None, True

    async def _is_known_at(self, address: PeerAddress) -> bool:
        try:
            return await self._client.look_up(self._name) == address
        except NoSuchPeer:
            return False

    async def _claim(self, address: PeerAddress) -> None:
        if self._is_classic:  # the registry has learned of owners: let none be in our own way
            await self._client.register(self._name, address, self._token(), 0)
            self._is_classic = False
        granted = await self._owner.claim([str(address)], self._caps, self._invitation)
        self._begin(granted)

    def _begin(self, granted: Granted) -> None:
        life = min(granted.session_life, SESSION_LIFE) - 2 * HEARTBEAT_TO
        self._session = _Session(granted, self._clock.seconds() + life)

    async def _renew(self) -> None:
        if self._waits and not await self._has_other_left():
            return
        session = self._session
        if session is None or self._clock.seconds() >= session.ends:
            await self._take()
            return
        self.in_touch = False
        address = await self._find_address()
        if address != self.registered:
            await self._take()
        elif await self._beat(session, online=True):
            self.in_touch = True
            if session.beats >= QUIET_BEATS:
                self._take_backs = 0
        else:
            await self._come_back()

    async def _come_back(self) -> None:
        """Claim the name anew, as the session is over: unless another peer with this key has taken it again."""
        other = await self._owner.other_use()
        if other is not None:
            self._waits = other.is_online and self._take_backs >= TAKE_BACKS_MAX
            self._take_backs += other.is_online
            self._elsewhere = Elsewhere(other.address, int(self._wall()), self._waits)
            text = elsewhere_text(self._elsewhere)
            self._log.warn("key in use elsewhere: name={name}. {text}", name=self._name, text=text)
        if self._waits:
            self._session = self.registered = None
        else:
            await self._take()

    async def _has_other_left(self) -> bool:
        """Whether the peer with the same key that has the name has left; then it is to be claimed again."""
        other = await self._owner.other_use()
        if other is not None and other.is_online:
            return False
        self._log.info("the other peer has left: name={name}", name=self._name)
        self._stop_waiting()
        return True

    def _stop_waiting(self) -> None:
        self._waits, self._take_backs = False, 0
        if self._elsewhere is not None:
            self._elsewhere = replace(self._elsewhere, waits=False)

    async def _beat(self, session: _Session, *, online: bool) -> bool:
        session.beats += 1
        granted = session.granted
        beat = Heartbeat(self._name, granted.session, session.beats, online)
        return await self._client.beat(beat, granted.mac_key)

    async def _leave(self) -> None:
        if self._session is not None:
            await self._beat(self._session, online=False)
            self._session = None
        elif self._is_classic and self.registered is not None:
            await self._client.register(self._name, self.registered, self._token(), lease=0)

    async def _release(self) -> None:
        if self._is_classic:
            await self._leave()
        else:
            await release_name(self._client, self._identity, self._name, self._wall)
        self._session, self._is_classic, self.registered = None, False, None
        self._is_released = True

    async def _rotate(self) -> None:
        address = await self._find_address()
        granted = await rotate_key(
            self._client, self._identity, self._name, [str(address)], self._wall, self._caps
        )
        self._stop_waiting()
        self._elsewhere = None  # copies of the old key are worth nothing now
        self._begin(granted)
        self._registered_at(address)

    def _registered_at(self, address: PeerAddress) -> None:
        if address != self.registered:
            self._log.info("{name} is registered at {address}", name=self._name, address=address)
            if is_loopback(address.ip):
                self._log.warn(
                    "loopback address: name={name}. {why}", name=self._name, why=LOCAL_ONLY
                )
        self.registered = address
        self.in_touch = True
        if self.since is None:
            self.since = self._wall()

    async def _renew_exclusively(self) -> None:
        await self._lock.run(self._exclusively, self._renew)

    async def _pause_until_beat(self) -> None:
        """Wait for half a minute or so, drawn anew each time; for less if the lease is shorter than usual."""
        lease = PRESENCE_LEASE if self._session is None else self._session.granted.lease
        seconds = self._rng.uniform(HEARTBEAT_FROM, HEARTBEAT_TO)
        seconds = max(BEAT_MIN, seconds * min(1.0, lease / PRESENCE_LEASE))
        await deferLater(self._clock, seconds, lambda: None)


async def patiently(
    clock: IReactorTime,
    rng: random.Random,
    work: Callable[[], Coroutine[Deferred[Any], Any, T]],
    *passing: type[P2pshareError],
    on_trouble: Callable[[P2pshareError | None], object] = lambda _: None,
) -> T:
    """Do something until it succeeds, with growing pauses.

    Args:
        clock: measures the pauses.
        rng: draws their jitter.
        work: what to do.
        passing: the errors after which it is tried again; others are raised.
        on_trouble: hears of each error after which it is tried again, and of None after success.
    """
    back_off = BackOff(RETRY_FIRST, RETRY_MAX, rng)
    while True:
        try:
            result = await work()
            on_trouble(None)
            return result
        except passing as error:
            on_trouble(error)
            told = error.fields.get("retry_after")
            pause = back_off.next_delay(float(told) if isinstance(told, int) else 0.0)
            _log.warn("{error} Trying again in {wait:.1f} s.", error=error, wait=pause)
        await deferLater(clock, pause, lambda: None)
