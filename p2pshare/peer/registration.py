"""A running peer's name in the registry: claimed at the start, kept by heartbeats, left at the end.

`NameKeeper.take` claims the name, `keep` runs as long as the peer does, `stop` ends the presence. One lock makes
sure that a heartbeat, a rotation and a release never overlap, since each of them changes the key or the session.

After a claim, a heartbeat every 30 to 45 s renews the presence of 90 s, so that one lost heartbeat does no harm. It
costs the registry no signature: it carries a MAC and a number. A new claim replaces the heartbeat when the session is
about to end (24 h), when the peer's location has changed, or when the registry rejects the heartbeat. After a change of
the network, a suspension or a restart of the registry, `nudge` ends the wait for the next heartbeat or the next retry.

A rejected heartbeat means that the session is over: the registry has lost its store, or there was another claim. Two
peers with copies of one key end each other's sessions by their claims, so they would claim in turns for ever. To
prevent that, a peer whose session has ended asks `Owner.other_use`. If another data folder has claimed the name, the
peer warns, and takes the name back once. That ends the session of the other peer, which notices in the same way, warns,
and takes the name back once, too. The first peer then notices the other for the second time and waits until it has
left. So the peer that started last keeps the name, and both have warned within two heartbeats.

An original registry knows no keys. There a peer with `--classic` registers again at each heartbeat: see `ClassicName`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.core.back_off import JITTER, BackOff
from p2pshare.errors import (
    NameReleased,
    NameTaken,
    NoSuchPeer,
    OwnAddressNeeded,
    P2pshareError,
    RegistryChanged,
    RegistryDowngraded,
    RegistryHasNoOwners,
    Unreachable,
)
from p2pshare.peer.ownership import Owner
from p2pshare.peer.reach.network import OwnLocation
from p2pshare.registry.client import RegistryClient
from p2pshare.wire.addresses import PeerAddress, is_loopback
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.registry_answers import (
    HEARTBEAT_FROM,
    HEARTBEAT_TO,
    PRESENCE_LEASE,
    SESSION_LIFE,
    Granted,
    Presence,
)

BEAT_MIN = 0.3  # seconds between two heartbeats, however short a registry's lease is
RETRY_FIRST = 0.5  # seconds until the registry is tried again
RETRY_MAX = 15.0  # seconds, unless the registry asks for more
RETRY_MAX_AT_FIRST = 3.0
"""Seconds likewise, for the first `HOPEFUL` seconds. A try takes up to 5 s, and the peer is to be back within 10 s."""
HOPEFUL = 600.0  # seconds from the last success
SETTLE = 1.0  # seconds from a change of the location until it is published
CHANGE_EVERY = 10.0  # seconds between two claims because of changes, however often a NAT maps anew
LOCAL_ONLY = (
    "Only this machine reaches this peer: it is registered at a loopback address. If other machines need it, restart it"
    " with --address IP, or with a registry URL that they can use, too."
)
TAKE_BACKS_MAX = 1  # times that the name is claimed back from another peer with the same key
QUIET_BEATS = 10  # heartbeats of one session after which these are counted from 0 again
RELEASE_TIMEOUT = 1.0  # seconds that stopping waits for the registry

T = TypeVar("T")


@dataclass(slots=True)
class _Session:
    """A session that the registry granted."""

    granted: Granted
    ends: float
    """In seconds of the clock."""
    beats: int = 0


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another peer that uses the same key."""

    address: str | None
    """`IP:PORT` in its location; None if it had left already."""
    noticed: int
    """Unix time in s."""
    waits: bool
    """Whether the other peer has the name, and this one waits until it has left."""


def elsewhere_text(elsewhere: Elsewhere) -> str:
    """Return the warning that a key is in use elsewhere, with the remedy."""
    where = "" if elsewhere.address is None else f", at {elsewhere.address}"
    at = datetime.fromtimestamp(elsewhere.noticed, UTC)
    told = f"Another peer has claimed this name with a copy of your key{where} (noticed {at:%Y-%m-%d %H:%M} UTC)."
    if elsewhere.waits:
        told += " It has the name now, and this peer waits until it has left."
    return (
        f"{told} Stop one of the two. If the other one is not yours, run `p2pshare key rotate` here: the copy then"
        " becomes worthless."
    )


class Pause:
    """A wait that can be ended early."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: Deferred[None] | None = None
        self._is_ended = False

    async def wait(self, seconds: float) -> None:
        """Wait, unless `end` was called since the last `forget`."""
        if not self._is_ended:
            self._waiting = deferLater(self._clock, seconds)
            try:
                await self._waiting
            except CancelledError:
                if not self._is_ended:
                    raise
            finally:
                self._waiting = None
        self._is_ended = False

    def forget(self) -> None:
        """Let the next wait be a whole one."""
        self._is_ended = False

    def end(self) -> None:
        """End the wait, or the next one at once."""
        self._is_ended = True
        if self._waiting is not None:
            self._waiting.cancel()


class RetryLoop:
    """Repeats what fails, with growing pauses, and knows the last error."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, rng: random.Random) -> None:
        """Measure pauses with `clock`, and draw their jitter from `rng`."""
        self._clock = clock
        self._rng = rng
        self._pause = Pause(clock)
        self._running: Deferred[Any] | None = None
        self._restarts = False
        self._succeeded: float | None = None
        self.trouble: P2pshareError | None = None
        """The last error after which there is another try; None after a success."""

    async def run(
        self, work: Callable[[], Coroutine[Deferred[Any], Any, T]], *retried: type[P2pshareError]
    ) -> T:
        """Return the result of `work`, which is repeated after the errors in `retried`; others are raised."""
        self._pause.forget()
        back_off = BackOff(RETRY_FIRST, RETRY_MAX, self._rng)
        while True:
            try:
                result = await self._restartable(work)
                self.succeeded()
                return result
            except retried as error:
                self.trouble = error
                told = error.fields.get("retry_after")
                asked = float(told) if isinstance(told, int) else 0.0
                pause = back_off.next_delay(asked)
                if self._is_hopeful:
                    pause = min(pause, (1 + JITTER) * max(asked, RETRY_MAX_AT_FIRST))
                self._log.warn("registry not ready: retry_s={s:.1f} why={why}", s=pause, why=error)
            await self._pause.wait(pause)

    def succeeded(self) -> None:
        """Note that the registry has answered."""
        self.trouble, self._succeeded = None, self._clock.seconds()

    def nudge(self, *, restart: bool) -> None:
        """Try again at once; with `restart` also if a try runs, which may wait for a connection that is dead."""
        self._pause.end()
        if restart and self._running is not None:
            self._restarts = True
            self._running.cancel()

    @property
    def _is_hopeful(self) -> bool:
        """Whether something succeeded not long ago."""
        now = self._clock.seconds()
        return self._succeeded is not None and now - self._succeeded < HOPEFUL

    async def _restartable(self, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> T:
        while True:
            running: Deferred[T] = Deferred.fromCoroutine(work())
            self._running = running
            try:
                return await running
            except CancelledError:
                if not self._restarts:
                    raise
            finally:
                self._running = None
                self._restarts = False


class ClassicName:
    """A name in an original registry, which knows a secret token instead of a key."""

    def __init__(self, client: RegistryClient, name: str, token: Callable[[], str]) -> None:
        self._client = client
        self._name = name
        self._token = token
        self._address: PeerAddress | None = None  # while the name is registered

    @property
    def is_registered(self) -> bool:
        """Whether the name is registered, as far as this peer knows."""
        return self._address is not None

    async def register(self, address: PeerAddress) -> None:
        """Register the name, or renew its lease.

        Raises:
            NameTaken: somebody else has the name. A registry that gives names for ever rejects our own renewal, too, so
                an unchanged registration is looked up first.
        """
        try:
            await self._send(address, PRESENCE_LEASE)
        except NameTaken:
            if address != self._address or not await self._is_known_at(address):
                raise
        self._address = address

    async def withdraw(self) -> None:
        """Give the name up, if it is registered."""
        if self._address is not None:
            await self._send(self._address, 0)
            self._address = None

    async def _send(self, address: PeerAddress, lease: int) -> None:
        await self._client.register(self._name, address, self._token(), lease)

    async def _is_known_at(self, address: PeerAddress) -> bool:
        try:
            return await self._client.look_up(self._name) == address
        except NoSuchPeer:
            return False


class NameKeeper:
    """Keeps a name for as long as its peer runs."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        rng: random.Random,
        owner: Owner,
        find_location: Callable[[], Coroutine[Deferred[Any], Any, OwnLocation]],
        retries: RetryLoop,
        classic: ClassicName | None = None,
        *,
        on_seen: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Keep the name of `owner`.

        Args:
            clock: measures waits.
            rng: draws the time between heartbeats.
            owner: signs the claims.
            find_location: returns where the peer can be reached; it is asked before each claim and heartbeat.
            retries: repeats renewals while the registry does not answer.
            classic: the name in an original registry; None if the peer does not speak the classic protocol.
            on_seen: called with the IP address from which the registry says that a claim came.
        """
        self._clock = clock
        self._rng = rng
        self._owner = owner
        self._client = owner.client
        self._name = owner.identity.name
        self._find_location = find_location
        self._on_seen = on_seen
        self._pause = Pause(clock)
        self._published: OwnLocation | None = None
        self._claimed_at = 0.0  # because of a change, in seconds of the clock
        self._changing: IDelayedCall | None = None
        self._retries = retries
        self._classic = classic
        self._session: _Session | None = None
        self._is_released = False
        self._take_backs = 0
        self._lock = DeferredLock()
        self.elsewhere: Elsewhere | None = None
        """The last other use of the key that was noticed; None if there was none since the key was made."""
        self.registered: PeerAddress | None = None
        """The best address in the registry, or of a private peer; None before the first registration."""
        self.in_touch = False
        """Whether the registry has answered the last request."""
        self.since: float | None = None
        """The Unix time in s of the first registration."""

    async def take(self) -> PeerAddress:
        """Claim the name, and return the address that is registered.

        Raises:
            NameTaken: somebody else has the name.
            Refused: the registry refuses for another reason.
            Unreachable: the registry does not answer.
        """
        async with self._lock:
            return await self._take()

    async def keep(self) -> None:
        """Renew the presence until cancelled.

        Raises:
            Refused: the registry has lost the name and somebody else has claimed it, or it refuses for another reason.
        """
        retried = Unreachable, RegistryChanged, RegistryDowngraded
        while True:
            lease = PRESENCE_LEASE if self._session is None else self._session.granted.lease
            pause = self._rng.uniform(HEARTBEAT_FROM, HEARTBEAT_TO)
            pause *= min(1.0, lease / PRESENCE_LEASE)  # a registry may have a shorter lease
            await self._pause.wait(max(BEAT_MIN, pause))
            await self._retries.run(self._renew, *retried)

    def nudge(self, *, restart: bool = False) -> None:
        """Renew the presence at once: the network or the registry may be back, or the location has changed.

        With `restart`, a request that runs is given up and sent again, since its connection may be dead.
        """
        self._pause.end()
        self._retries.nudge(restart=restart)

    def location_changed(self) -> None:
        """Publish the location soon; changes within `SETTLE` are one, and they are not published too often."""
        if self._changing is None:
            now = self._clock.seconds()
            due = max(SETTLE, self._claimed_at + CHANGE_EVERY - now)
            self._changing = self._clock.callLater(due, self._publish_change)

    def _publish_change(self) -> None:
        self._changing = None
        self._claimed_at = self._clock.seconds()
        self.nudge()

    async def stop(self) -> None:
        """End the presence if the registry answers soon; otherwise the lease ends by itself.

        The name still belongs to its key. In an original registry it becomes free.
        """
        if self._changing is not None:
            self._changing.cancel()
            self._changing = None
        leaving: Deferred[None] = Deferred.fromCoroutine(self._leave())
        leaving.addTimeout(RELEASE_TIMEOUT, self._clock)
        try:
            await leaving
        except Exception as error:  # whatever it is, it must not keep the peer from stopping
            self._log.debug("presence not ended: name={name} why={why}", name=self._name, why=error)

    async def release(self) -> None:
        """Give the name up for good.

        Raises:
            Refused: the registry does not agree.
            Unreachable: the registry does not answer; the name is kept.
        """
        async with self._lock:
            if self._classic is not None and self._classic.is_registered:
                await self._classic.withdraw()
            else:
                await self._owner.release()
            self._session = self.registered = None
            self._is_released = True

    async def rotate(self) -> None:
        """Let a new key follow the present one.

        Raises:
            Refused: the registry does not agree.
            Unreachable: the registry does not answer.
        """
        async with self._lock:
            location = await self._find_location()
            candidates, mapping = location.candidates, location.mapping
            self._begin(await self._owner.rotate(candidates, mapping=mapping))
            self._take_backs = 0
            self.elsewhere = None  # copies of the old key are worthless now
            self._registered_at(location)

    async def _take(self) -> PeerAddress:
        if self._is_released:
            raise NameReleased(name=self._name)
        self.in_touch = False
        location = await self._find_location()  # the ports are open even if the registry is away
        if await self._client.info() is not None:
            location = await self._find_location()  # it has told its STUN servers
            if self._classic is not None:  # the registry knows keys now: free the name for ours
                await self._classic.withdraw()
            self._begin(await self._owner.claim(location.candidates, mapping=location.mapping))
        elif self._classic is None:
            raise RegistryHasNoOwners(registry=self._client.url)
        else:
            address = location.ipv4_address
            if address is None:
                raise OwnAddressNeeded(registry=self._client.url)
            await self._classic.register(address)
            self._session = None
        self._registered_at(location)
        return location.address

    def _begin(self, granted: Granted) -> None:
        life = min(granted.session_life, SESSION_LIFE) - 2 * HEARTBEAT_TO
        self._session = _Session(granted, self._clock.seconds() + life)

    def _registered_at(self, location: OwnLocation) -> None:
        address = location.address
        if location != self._published or address != self.registered:
            self._log.info(
                "registered: name={name} address={at} candidates={candidates} mapping={mapping}",
                name=self._name,
                at=address,
                candidates=",".join(map(str, location.candidates)) or "none",
                mapping=location.mapping.value,
            )
        if address != self.registered and is_loopback(address.ip):
            self._log.warn("loopback address: name={name}. {why}", name=self._name, why=LOCAL_ONLY)
        self.registered, self._published = address, location
        self.in_touch = True
        self._retries.succeeded()
        if self.since is None:
            self.since = self._owner.wall()
        if self._session is not None:
            self._on_seen(self._session.granted.seen)

    async def _renew(self) -> None:
        """Send a heartbeat, or claim the name again if a heartbeat does not do."""
        async with self._lock:
            if self._waits and not await self._has_other_left():
                return
            session = self._session
            if session is None or self._clock.seconds() >= session.ends:
                await self._take()
                return
            self.in_touch = False
            if await self._find_location() != self._published:
                await self._take()
            elif await self._beat(session, online=True):
                self.in_touch = True
                if session.beats >= QUIET_BEATS:
                    self._take_backs = 0
            else:
                await self._come_back()

    async def _come_back(self) -> None:
        """Claim the name again after the end of a session, unless another peer with this key has taken it twice."""
        other = await self._owner.other_use()
        if other is not None:
            is_online = other.summary.presence is Presence.ONLINE
            waits = is_online and self._take_backs >= TAKE_BACKS_MAX
            self._take_backs += is_online
            address = other.addresses[0] if other.addresses else None
            self.elsewhere = Elsewhere(address, int(self._owner.wall()), waits)
            text = elsewhere_text(self.elsewhere)
            self._log.warn("key in use elsewhere: name={name}. {text}", name=self._name, text=text)
        if self._waits:
            self._session = self.registered = None
        else:
            await self._take()

    @property
    def _waits(self) -> bool:
        """Whether another peer with the same key has the name, and this one waits until it has left."""
        return self.elsewhere is not None and self.elsewhere.waits

    async def _has_other_left(self) -> bool:
        """Whether the other peer with this key has left; then the name is to be claimed again."""
        other = await self._owner.other_use()
        if other is not None and other.summary.presence is Presence.ONLINE:
            return False
        self._log.info("the other peer has left: name={name}", name=self._name)
        assert self.elsewhere is not None
        self.elsewhere, self._take_backs = replace(self.elsewhere, waits=False), 0
        return True

    async def _beat(self, session: _Session, *, online: bool) -> bool:
        session.beats += 1
        granted = session.granted
        beat = Heartbeat(self._name, granted.session, session.beats, online)
        return await self._client.beat(beat, granted.mac_key)

    async def _leave(self) -> None:
        if self._session is not None:
            await self._beat(self._session, online=False)
            self._session = None
        elif self._classic is not None:
            await self._classic.withdraw()


def status_of(keeper: NameKeeper | None) -> dict[str, Any]:
    """Return the members of a peer's status that concern its name; there may be no keeper yet."""
    address, elsewhere, since = None, None, None
    if keeper is not None:
        address, elsewhere, since = keeper.registered, keeper.elsewhere, keeper.since
    return {
        "address": None if address is None else str(address),
        "registered": address is not None,
        "loopback": address is not None and is_loopback(address.ip),
        "online": keeper is not None and keeper.in_touch,
        "elsewhere": None if elsewhere is None else asdict(elsewhere),
        "since": None if since is None else int(since),
    }
