"""What the owner of a name does with it: claim it, let another key follow, give it up.

The running peer does it with an `Owner`, and so do verbs, by `claim_name`, `release_name` and `rotate_key`, while no
peer runs.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from twisted.logger import Logger

from p2pshare.errors import (
    AudienceRefused,
    ClockWrong,
    NameTaken,
    NoSuchPeer,
    NotOwner,
    P2pshareError,
    RegistryRefused,
    StaleRecord,
    Unreachable,
)
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.identity import Identity
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import PublicKey, SigningKey, to_base64url
from p2pshare.wire.registry_answers import (
    CLOCK_SKEW_MAX,
    RECORD_LIFE,
    ClaimBody,
    Granted,
    PeerView,
    Presence,
    ReleaseBody,
)
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.statements import CAP_CLASSIC, Location, Record, Release, Rotation, digest_of

CAPS = (CAP_SESSIONS,)
CAPS_WITH_CLASSIC = (CAP_SESSIONS, CAP_CLASSIC)
"""Of a peer that speaks the classic protocol, too: a registry shows only those to original clients."""
SALT_SIZE = 16  # random bytes that hide the addresses behind the digest in a record
TRIES_MAX = 4  # statements in a row that a registry may find something wrong with
FIRST_RELEASE = 1_767_225_600  # Unix time in s, 2026-01-01: no clock that is right says less
AHEAD_MAX = 2 * 24 * 3600  # seconds by which a registry's clock is believed to be ahead of ours
AGE_MAX = 20 * 365 * 24 * 3600  # seconds after the first release, for a clock here that is not set
NUMBER_AHEAD_MAX = 24 * 3600 * 1000  # ms by which a number that a registry saw may be ahead of time

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OtherUse:
    """Another process that has claimed the name with the same key, from a copy of it."""

    is_online: bool
    """Whether its presence has not ended yet."""
    address: str | None
    """`IP:PORT` that it has told; None while it is offline, or if it has told none."""


class Owner:
    """Signs for an identity, and gets past what a registry may object to.

    Each statement names the key that the registry has proven. If the registry rejects it as meant for another one, the
    registry has to prove its key once more.

    A clock that is wrong is not set: from then on its distance to the registry's is added to the times in statements,
    if `is_believable`, but not to their numbers. A number that is too small is followed by a greater one. If the name
    turns out to be that of the key that follows, or of the one before, after a rotation that was interrupted or that
    the registry has lost, that is brought to its end.
    """

    _log = Logger()

    def __init__(
        self,
        client: RegistryClient,
        identity: Identity,
        wall: Callable[[], float],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._client = client
        self._identity = identity
        self._wall = wall
        self._random_bytes = random_bytes
        self._offset = 0.0
        self._predecessor: SigningKey | None = None
        self._rotated = 0  # the iat of the last rotation that the registry has shown

    async def claim(
        self,
        addresses: Sequence[str],
        caps: Sequence[str] = CAPS,
        invitation: str | None = None,
        successor: SigningKey | None = None,
    ) -> Granted:
        """Claim the name, or renew the claim; the receipt is kept.

        Args:
            addresses: `IP:PORT`s, the best first; none of a user who runs no peer.
            caps: what the peer can do.
            invitation: for a new name.
            successor: the key that is to follow, as `Identity.begin_rotation` gave it.

        Raises:
            NameTaken: it is another key's.
            Refused: for another reason.
            Unreachable: the registry cannot be asked.
        """
        identity = self._identity

        async def attempt() -> Granted:
            registry = await self._registry()
            key, predecessor = identity.key, self._predecessor
            if successor is not None and successor is identity.next_key:
                key, predecessor = successor, identity.key
            body = ClaimBody(
                *self._signed(registry, key, addresses, caps),
                None if predecessor is None else self._rotation(registry, predecessor, key),
                identity.receipt,
                invitation,
            )
            granted = await self._client.claim(identity.name, body)
            if key is identity.next_key:
                identity.finish_rotation()
            return granted

        granted = await self._persistently(attempt)
        self._predecessor = None
        identity.keep_receipt(granted.receipt)
        return granted

    async def release(self) -> None:
        """Give the name up.

        Raises:
            NotOwner: it is another key's.
            NoSuchPeer: it is nobody's.
            Refused: for another reason.
            Unreachable: the registry cannot be asked; nothing has changed.
        """
        identity = self._identity

        async def attempt() -> None:
            registry = await self._registry()
            release = Release(
                identity.name,
                identity.key.public,
                self._number(),
                int(self._now()),
                registry,
            )
            body = ReleaseBody(release.sign(identity.key))
            await self._client.release(identity.name, body)

        try:
            await self._persistently(attempt)
        except NoSuchPeer:
            identity.forget_receipt()
            raise
        identity.forget_receipt()

    async def other_use(self) -> OtherUse | None:
        """Return who else claimed the name with this key since the last claim; None if nobody did, or nobody can tell.

        The proof is the record that the registry shows. It is signed by this key, and its number is greater than any
        that this data folder has given: another folder holds the key. A peer that was killed and comes back finds no
        such number, since the folder keeps its own.

        Raises:
            Unreachable: the registry cannot be asked.
        """
        identity = self._identity
        try:
            view = await self._client.look_up_peer(identity.name)
        except Unreachable:
            raise
        except P2pshareError:
            return None
        if view.record is None or view.key != identity.key.public:
            return None
        if Record.parse(view.record).statement.seq <= identity.seq:
            return None
        is_online = view.summary.presence is Presence.ONLINE
        return OtherUse(is_online, view.addresses[0] if view.addresses else None)

    def follow(self, view: PeerView) -> None:
        """Let the next rotation be of a later second than the last one of this view, as a registry demands."""
        if view.rotations:
            self._rotated = Rotation.read(view.rotations[-1]).iat

    async def _persistently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        tries = TRIES_MAX
        while True:
            tries -= 1
            try:
                return await attempt()
            except (AudienceRefused, ClockWrong, StaleRecord, NameTaken, NotOwner) as error:
                if tries == 0 or not await self._overcome(error):
                    raise

    async def _overcome(self, error: P2pshareError) -> bool:
        """Whether the next try can be better."""
        match error:
            case AudienceRefused():
                await self._client.info()
                return True
            case ClockWrong():
                time = int(str(error.fields["time"]))
                if not is_believable(time, self._wall()):
                    return False
                self._offset = time - self._wall()
                self._log.warn("clock wrong: {why}", why=error)
                return True
            case StaleRecord():
                self._follow_number(int(str(error.fields["seq"])))
                return True
            case _:
                return await self._rotation_is_to_be_finished()

    async def _rotation_is_to_be_finished(self) -> bool:
        """Whether the name is that of our next or old key; then the next try goes on from there."""
        identity = self._identity
        following, old = identity.next_key, identity.old_key
        if following is None and (old is None or self._predecessor is not None):
            return False
        try:
            view = await self._client.look_up_peer(identity.name, by_registry_clock=True)
        except NoSuchPeer:
            return False
        self.follow(view)
        owner = view.key
        if following is not None and owner == following.public:
            identity.finish_rotation()
            self._log.info("{name} goes on with its new key", name=identity.name)
            return True
        if old is not None and owner == old.public:
            self._predecessor = old
            return True
        return False

    def _follow_number(self, seen: int) -> None:
        """Go on from a number that the registry has seen.

        Raises:
            RegistryRefused: there cannot be such a number yet.
        """
        latest = int(1000 * max(self._wall(), self._now())) + NUMBER_AHEAD_MAX
        if seen > max(latest, self._identity.seq):
            reason = (
                f"it says that it has seen the number {seen} of {self._identity.name!r}, which is far ahead of the"
                " time. If the key was in use where the clock was wrong, import a copy of it from there"
            )
            raise RegistryRefused(registry=self._client.url, reason=reason)
        self._identity.raise_seq(seen)

    def _now(self) -> float:
        """What the time in a statement is reckoned from."""
        return self._wall() + self._offset

    def _number(self) -> int:
        return self._identity.next_seq(int(1000 * self._wall()))

    async def _registry(self) -> PublicKey:
        """The key that the registry has proven."""
        proven = await self._client.prove()
        self._identity.meet(proven)
        return proven

    def _signed(
        self,
        registry: PublicKey,
        key: SigningKey,
        addresses: Sequence[str],
        caps: Sequence[str],
    ) -> tuple[str, str | None]:
        """The record, and the location that goes with it, if there are addresses."""
        now, location = self._now(), None
        if addresses:
            salt = to_base64url(self._random_bytes(SALT_SIZE))
            location = Location(salt, tuple(addresses)).to_text()
        record = Record(
            name=self._identity.name,
            key=key.public,
            seq=self._number(),
            iat=int(now),
            exp=int(now) + RECORD_LIFE,
            aud=registry,
            location=digest_of(location) if location else "",
            caps=tuple(caps),
        )
        return record.sign(key), location

    def _rotation(self, registry: PublicKey, old: SigningKey, new: SigningKey) -> str:
        now = int(self._now())
        iat = self._rotated + 1 if now <= self._rotated < now + CLOCK_SKEW_MAX else now
        return Rotation(self._identity.name, old.public, new.public, iat, registry).sign(old)


def is_believable(time: int, own: float) -> bool:
    """Whether a registry's time may be signed, though the clock here says something else.

    What is signed for the past is of no use to anybody. What is signed for the future could be kept until then, so
    only a clock here that is plainly not set, as it stands before the first release, is led far ahead.

    Args:
        time: the registry's Unix time in s.
        own: ours.
    """
    latest = FIRST_RELEASE + AGE_MAX if own < FIRST_RELEASE else own + AHEAD_MAX
    return FIRST_RELEASE <= time <= latest


async def release_name(
    client: RegistryClient, identity: Identity, name: str, wall: Callable[[], float]
) -> None:
    """Give a name up for good: it is anybody's at once; a name that was nobody's is no error.

    Args:
        client: asks the registry.
        identity: the owner's.
        name: to give up.
        wall: the Unix time in s.

    Raises:
        NotOwner: the name is another key's.
        Refused: for another reason.
        Unreachable: the registry cannot be asked; nothing has changed.
    """
    await _expect_owners(client)
    assert identity.name == name
    try:
        await Owner(client, identity, wall).release()
    except NoSuchPeer:
        return


async def rotate_key(
    client: RegistryClient,
    identity: Identity,
    name: str,
    addresses: Sequence[str] | None,
    wall: Callable[[], float],
    caps: Sequence[str] = CAPS,
) -> Granted:
    """Make a new key and let it follow the present one, which vouches for it; `identity.key` is then the new one.

    Killed at any moment, the next start goes on from there.

    Args:
        client: asks the registry.
        identity: the owner's.
        name: whose key it is.
        addresses: `IP:PORT`s of the running peer; None if none runs: then no address is told, and the presence that
            the claim begins is ended at once.
        wall: the Unix time in s.
        caps: what the running peer can do; if none runs, what the old record says is said again.

    Returns:
        The session that has begun, with the receipt for the new key, which is kept already.

    Raises:
        NoSuchPeer: the name is nobody's, so there is nothing to rotate: run the peer first.
        NameTaken: the name is another key's.
        Refused: for another reason.
        Unreachable: the registry cannot be asked; the present key stays.
    """
    await _expect_owners(client)
    assert identity.name == name
    alone = addresses is None
    view = await client.look_up_peer(name, by_registry_clock=True)
    if view.key is None or view.record is None:
        raise NameTaken(name=name, registry=client.url)
    if addresses is None:
        addresses, caps = (), Record.read(view.record, view.key).caps
    owner = Owner(client, identity, wall)
    owner.follow(view)
    following = identity.begin_rotation()
    if view.key == following.public:  # it was interrupted when all but the last step was done
        identity.finish_rotation()
        granted = await owner.claim(addresses, caps)
    else:
        granted = await owner.claim(addresses, caps, successor=following)
    if alone:
        await _leave(client, name, granted)
    return granted


async def claim_name(
    client: RegistryClient,
    identity: Identity,
    caps: Sequence[str],
    wall: Callable[[], float],
    invitation: str | None = None,
) -> Granted:
    """Claim a name, or renew the claim, while no peer runs, so that no address is told.

    The presence that the claim begins is ended at once.

    Raises:
        NameTaken: it is another key's.
        Refused: for another reason.
        Unreachable: the registry cannot be asked.
    """
    granted = await Owner(client, identity, wall).claim((), caps, invitation)
    await _leave(client, identity.name, granted)
    return granted


async def _expect_owners(client: RegistryClient) -> None:
    if await client.info() is None:
        reason = "it is an original one, which knows nothing of owners"
        raise RegistryRefused(registry=client.url, reason=reason)


async def _leave(client: RegistryClient, name: str, granted: Granted) -> None:
    """End the presence that a claim has begun; if that fails, it ends by itself."""
    try:
        await client.beat(Heartbeat(name, granted.session, 1, online=False), granted.mac_key)
    except P2pshareError as error:
        Logger().debug("the presence of {name} was not ended: {error}", name=name, error=error)
