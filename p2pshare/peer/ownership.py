"""Ownership of a name, as its owner sees it: claim it, rotate its key, release it.

A running peer does this through `NameKeeper`; verbs use an `Owner` directly while no peer runs.

How a name is owned:

* The first key that claims a name owns it. A claim is a signed *record*: name, key, sequence number, time, and the key
  of the registry for which it is meant (`aud`). A *location* with the candidates goes with it; the record has only its
  digest, so that the registry can forget the addresses of a peer that leaves.
* A claim begins a presence, a lease of 90 s that heartbeats renew. Ownership itself lasts 30 days from the last sign of
  life. So a verb that claims a name without running a peer ends the presence again at once.
* The registry answers a claim with a *receipt*: it signs that this key owns the name, and the number of the claim. Each
  claim brings the last receipt along. A registry that has lost its store gives names only to those who hold a receipt.
  Without it, the owner would have to wait, and others could be faster. The receipt is on the disk before `claim`
  returns.
* Each number is on the disk before a statement with it is sent (`Identity.next_seq`). A peer that is killed never signs
  with a number twice, and a record with a greater number than the data folder ever gave proves that another folder
  holds the key (`Owner.other_use`).

A rotation has an order that survives a kill at any step: the new key is written as `key.next`; the claim goes out with
a rotation statement signed by the old key; when the registry has agreed, `key.next` becomes `key` and the old key is
kept. In between, the two sides may disagree. Therefore `Owner` treats "the name is taken" as a question: if the owner
is our next key, the registry has agreed and the reply was lost; if it is our old key, the registry has lost the
rotation. In both cases the next try continues from there.

Errors that another try can overcome are retried at most `TRIES_MAX` times in a row. What a registry says about time and
numbers is believed only within bounds, since a signed statement for the far future would remain valid.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from twisted.logger import Logger

from p2pshare.errors import (
    AudienceRefused,
    ClockWrong,
    NameTaken,
    NoRegistry,
    NoSuchPeer,
    NotOwner,
    P2pshareError,
    RegistryRefused,
    StaleRecord,
    Unreachable,
)
from p2pshare.peer.find.directory import Directory
from p2pshare.storage.identity.identity import Identity
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import PublicKey, SigningKey, to_base64url
from p2pshare.wire.reach.candidates import Candidate, Mapping
from p2pshare.wire.reach.signals import seal_of
from p2pshare.wire.registry_answers import (
    CLOCK_SKEW_MAX,
    RECORD_LIFE,
    ClaimBody,
    Granted,
    PeerView,
    ReleaseBody,
)
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.statements import (
    CAP_CLASSIC,
    CAP_REACH,
    Location,
    Record,
    Release,
    Rotation,
    digest_of,
)

CAPS = (CAP_SESSIONS, CAP_REACH)
CAPS_WITH_CLASSIC = (*CAPS, CAP_CLASSIC)
"""Capabilities of a peer that speaks the classic protocol, too. Original clients see only such peers."""
SALT_SIZE = 16  # random bytes that hide the candidates behind the digest in a record
TRIES_MAX = 4  # statements in a row to which a registry may object
FIRST_RELEASE = 1_767_225_600  # Unix time in s, 2026-01-01: a clock that shows less is not set
AHEAD_MAX = 2 * 24 * 3600  # seconds by which a registry's clock may be ahead of ours
AGE_MAX = 20 * 365 * 24 * 3600  # seconds after the first release, for a clock here that is not set
NUMBER_AHEAD_MAX = 24 * 3600 * 1000  # ms by which a number seen by a registry may be ahead of time

T = TypeVar("T")


class Owner:
    """Signs statements for an identity, and retries what a registry rejects for a reason that can be overcome."""

    _log = Logger()

    def __init__(
        self,
        client: Directory,
        identity: Identity,
        wall: Callable[[], float],
        *,
        caps: Sequence[str] = CAPS,
        invitation: str | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Own the name of `identity`.

        Args:
            client: the registry.
            identity: the name, its key and its receipts.
            wall: the Unix time in s.
            caps: the capabilities of the peer.
            invitation: for a new name, in a registry that wants one.
            random_bytes: draws salts.
        """
        self.client = client
        self.identity = identity
        self.wall = wall
        self._caps = caps
        self._invitation = invitation
        self._random_bytes = random_bytes
        self._offset = (
            0.0  # seconds that are added to the times in statements, but not to their numbers
        )
        self._predecessor: SigningKey | None = None
        self._rotated = 0  # `iat` of the last rotation that the registry has shown

    async def claim(
        self,
        candidates: Sequence[Candidate],
        successor: SigningKey | None = None,
        *,
        mapping: Mapping = Mapping.UNKNOWN,
    ) -> Granted:
        """Claim the name, or renew the claim; the receipt is kept.

        Args:
            candidates: where the peer may be reached, the best first; none if no peer runs, or if it is private.
            mapping: of the NAT in front of the peer.
            successor: the key that is to follow, as `Identity.begin_rotation` returned it.

        Raises:
            NameTaken: the name belongs to another key.
            Refused: for another reason.
            Unreachable: the registry does not answer.
        """
        identity = self.identity

        async def attempt() -> Granted:
            registry = await self._prove_registry()
            key, predecessor = identity.key, self._predecessor
            if successor is not None and successor is identity.next_key:
                key, predecessor = successor, identity.key
            body = ClaimBody(
                *self._signed(registry, key, candidates, mapping),
                None if predecessor is None else self._rotation(registry, predecessor, key),
                identity.receipt,
                self._invitation,
            )
            granted = await self.client.claim(identity.name, body)
            if key is identity.next_key:
                identity.finish_rotation()
            return granted

        granted = await self._retried(attempt)
        self._predecessor = None
        if granted.receipt:
            identity.keep_receipt(granted.receipt)
        return granted

    async def claim_offline(self) -> None:
        """Claim the name, or renew the claim, while no peer runs.

        Raises:
            P2pshareError: as for `claim`.
        """
        await self._leave(await self.claim(()))

    async def release(self) -> None:
        """Give the name up for good: anybody can claim it at once. A name that nobody owns is no error.

        Raises:
            NotOwner: the name belongs to another key.
            Refused: for another reason.
            Unreachable: the registry does not answer; nothing has changed.
        """
        identity = self.identity

        async def attempt() -> None:
            registry = await self._prove_registry()
            public, seq = identity.key.public, self._next_seq()
            release = Release(identity.name, public, seq, int(self._now()), registry)
            body = ReleaseBody(release.sign(identity.key))
            try:
                await self.client.release(identity.name, body)
            except NoSuchPeer:
                return

        await self._retried(attempt)
        identity.forget_receipt()

    async def rotate(
        self, candidates: Sequence[Candidate] | None, *, mapping: Mapping = Mapping.UNKNOWN
    ) -> Granted:
        """Make a new key and let it follow the present one, which signs the rotation.

        `identity.key` is then the new one. A kill at any step leaves a state from which the next start continues.

        Args:
            candidates: those of the running peer. None if no peer runs: the new record then repeats the capabilities
                of the old one, and the presence that the claim begins is ended at once.
            mapping: of the NAT in front of the peer.

        Returns:
            The session that has begun, with the receipt for the new key.

        Raises:
            NoSuchPeer: nobody owns the name, so there is nothing to rotate.
            NoRegistry: the directory keeps no names.
            NameTaken: the name belongs to another key.
            Refused: for another reason.
            Unreachable: the registry does not answer; the present key stays.
        """
        identity = self.identity
        if not self.client.keeps_names:
            raise NoRegistry(reason="nobody tells your peers that a new key follows the old one")
        await self._prove_registry()
        view = await self.client.look_up_peer(identity.name, by_registry_clock=True)
        if view.key is None or view.record is None:
            raise NameTaken(name=identity.name, registry=self.client.url)
        if candidates is None:
            self._caps = Record.read(view.record, view.key).caps
        self.follow(view)
        following = identity.begin_rotation()
        if view.key == following.public:  # an earlier rotation was killed before its last step
            identity.finish_rotation()
        granted = await self.claim(candidates or (), following, mapping=mapping)
        if candidates is None:
            await self._leave(granted)
        return granted

    async def other_use(self) -> PeerView | None:
        """Return the registry's answer if another data folder has claimed the name with this key; otherwise None.

        The record that the registry shows is the proof: it is signed by this key, and its number is greater than any
        that this data folder has given. A peer that restarts after a kill finds no such number, since each number is on
        the disk before it is used.

        Raises:
            Unreachable: the registry does not answer.
        """
        try:
            view = await self.client.look_up_peer(self.identity.name)
        except Unreachable:
            raise
        except P2pshareError:
            return None
        if view.record is None or view.key != self.identity.key.public:
            return None
        is_newer = Record.parse(view.record).statement.seq > self.identity.seq
        return view if is_newer else None

    def follow(self, view: PeerView) -> None:
        """Date the next rotation at least one second after the last one of this view, as registries demand."""
        if view.rotations:
            self._rotated = Rotation.read(view.rotations[-1]).iat

    async def _retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        for remaining in reversed(range(TRIES_MAX)):
            try:
                return await attempt()
            except (AudienceRefused, ClockWrong, StaleRecord, NameTaken, NotOwner) as error:
                if not remaining or not await self._overcome(error):
                    raise
        raise AssertionError("the last try returns or raises")

    async def _overcome(self, error: P2pshareError) -> bool:
        """Whether another try may succeed."""
        match error:
            case AudienceRefused():
                await self.client.info()
                return True
            case ClockWrong():
                time = int(str(error.fields["time"]))
                if not is_believable(time, self.wall()):
                    return False
                self._offset = time - self.wall()
                self._log.warn("clock wrong: {why}", why=error)
                return True
            case StaleRecord():
                self._follow_number(int(str(error.fields["seq"])))
                return True
            case _:
                return await self._resume_rotation()

    async def _resume_rotation(self) -> bool:
        """Whether the name belongs to our next or our old key, so that the next try continues the rotation."""
        identity = self.identity
        following, old = identity.next_key, identity.old_key
        if following is None and (old is None or self._predecessor is not None):
            return False
        try:
            view = await self.client.look_up_peer(identity.name, by_registry_clock=True)
        except NoSuchPeer:
            return False
        self.follow(view)
        if following is not None and view.key == following.public:
            identity.finish_rotation()
            self._log.info("rotation finished: name={name}", name=identity.name)
            return True
        if old is not None and view.key == old.public:
            self._predecessor = old
            return True
        return False

    def _follow_number(self, seen: int) -> None:
        """Continue from a number that the registry has seen.

        Raises:
            RegistryRefused: there cannot be such a number yet.
        """
        latest = int(1000 * max(self.wall(), self._now())) + NUMBER_AHEAD_MAX
        if seen > max(latest, self.identity.seq):
            reason = (
                f"it says that it has seen the number {seen} of {self.identity.name!r}, which is far ahead of the"
                " time. If the key was in use where the clock was wrong, import a copy of it from there"
            )
            raise RegistryRefused(registry=self.client.url, reason=reason)
        self.identity.raise_seq(seen)

    def _now(self) -> float:
        """Return the Unix time in s for statements."""
        return self.wall() + self._offset

    def _next_seq(self) -> int:
        return self.identity.next_seq(int(1000 * self.wall()))

    async def _prove_registry(self) -> PublicKey:
        """Return the key that the registry has proven; statements name it as their audience."""
        proven = await self.client.prove()
        self.identity.meet(proven)
        return proven

    def _signed(
        self,
        registry: PublicKey,
        key: SigningKey,
        candidates: Sequence[Candidate],
        mapping: Mapping,
    ) -> tuple[str, str | None]:
        """Return the record, and the location that goes with it if there are candidates."""
        now, location = self._now(), None
        if candidates:
            salt = to_base64url(self._random_bytes(SALT_SIZE))
            location = Location(salt, tuple(candidates), mapping).to_text()
        record = Record(
            name=self.identity.name,
            key=key.public,
            seq=self._next_seq(),
            iat=int(now),
            exp=int(now) + RECORD_LIFE,
            aud=registry,
            location=digest_of(location) if location else "",
            caps=tuple(self._caps),
            seal=seal_of(key),
        )
        return record.sign(key), location

    def _rotation(self, registry: PublicKey, old: SigningKey, new: SigningKey) -> str:
        now = int(self._now())
        iat = self._rotated + 1 if now <= self._rotated < now + CLOCK_SKEW_MAX else now
        return Rotation(self.identity.name, old.public, new.public, iat, registry).sign(old)

    async def _leave(self, granted: Granted) -> None:
        """End the presence that a claim has begun. If that fails, the lease ends by itself."""
        name = self.identity.name
        try:
            beat = Heartbeat(name, granted.session, 1, online=False)
            await self.client.beat(beat, granted.mac_key)
        except P2pshareError as error:
            self._log.debug("presence not ended: name={name} why={why}", name=name, why=error)


def is_believable(time: int, own: float) -> bool:
    """Whether a registry's time may be signed although the clock here differs.

    A statement for the past is of no use to anybody. One for the future could be kept until then. So only a clock that
    is plainly not set, because it shows a time before the first release, is led far ahead.

    Args:
        time: the registry's Unix time in s.
        own: ours.
    """
    latest = FIRST_RELEASE + AGE_MAX if own < FIRST_RELEASE else own + AHEAD_MAX
    return FIRST_RELEASE <= time <= latest
