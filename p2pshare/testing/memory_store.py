"""A store of names in memory, for tests. It passes the contract tests of the real one, and answers as it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, floor

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from p2pshare.errors import StoreRecovering
from p2pshare.registry.store import (
    EVENTS_KEPT,
    FORMER_MAX,
    FORMER_MEMORY,
    NAMES_PAGE_MAX,
    Claim,
    Counts,
    EventPage,
    NamePage,
    Outcome,
    OwnerClaim,
    OwnerOutcome,
    Ownership,
    PresenceEvent,
    Tokens,
    view_of_owned,
)
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.registry_answers import (
    OWNERSHIP_LEASE,
    PRESENCE_LEASE,
    ROTATIONS_MAX,
    NameKind,
    PeerPage,
    PeerSummary,
    PeerView,
    Presence,
)


@dataclass(slots=True)
class _Name:
    """A name that is taken; times are in ms."""

    classic: Claim | None = None
    """The claim of a classic name; None if a key owns it."""
    ends: int = 0
    """The end of the lease of a classic name."""
    seen: int = 0
    address: PeerAddress | None = None
    key: str = ""
    claim: int = 0
    seq: int = 0
    session: str = ""
    beat: int = 0
    online: bool = False
    since: int = 0
    """When its presence began, if it is online."""
    record: str = ""
    location: str = ""
    rotations: list[str] = field(default_factory=list)
    rotated: int = 0

    @property
    def presence(self) -> Presence:
        if self.classic is not None:
            return Presence.UNKNOWN
        return Presence.ONLINE if self.online else Presence.OFFLINE

    def summary(self, name: str, presence: Presence | None = None) -> PeerSummary:
        kind = NameKind.OWNED if self.classic is None else NameKind.CLASSIC
        since = self.since if (presence or self.presence) is Presence.ONLINE else self.seen
        return PeerSummary(name, kind, presence or self.presence, since // 1000)


@dataclass(slots=True)
class _Former:
    """The former owners of a name: their keys with the greatest `seq` of each, the newest last."""

    claim: int = 0
    ends: int = 0  # ms
    seqs: dict[str, int] = field(default_factory=dict)


class MemoryNameStore:
    """A `NameStore`; see there for its methods."""

    def __init__(
        self,
        clock: IReactorTime,
        *,
        presence_lease: float = PRESENCE_LEASE,
        ownership_lease: float = OWNERSHIP_LEASE,
    ) -> None:
        self._clock = clock
        self._presence_lease = round(presence_lease * 1000)
        self._ownership_lease = round(ownership_lease * 1000)
        self._born: int | None = None  # ms: when the store was lost
        self._recovers_until = 0
        self._settled_at = 0  # ms
        self._buckets: dict[str, tuple[float, float]] = {}
        self._clear()

    def lose(self) -> None:
        """Forget everything, and notice that."""
        self._clear()
        self._born = self._now()
        self._recovers_until = self._born + self._presence_lease

    async def claim_owned(self, claim: OwnerClaim) -> OwnerOutcome:
        """See `NameStore`."""
        now = self._settle()
        found = self._names.get(claim.name)
        owner = None if found is None or found.classic else found
        outcome, seq = self._right_to(claim, owner, now, is_classic=found is not owner)
        if outcome is Ownership.TAKEN:
            return OwnerOutcome(outcome)
        if claim.seq <= seq:
            return OwnerOutcome(Ownership.STALE, seq=seq)
        if owner is None:
            if now < self._recovers_until and not claim.receipt:
                raise self._recovering(now)
            if self._born is not None and claim.seq <= self._born:
                return OwnerOutcome(Ownership.STALE, seq=self._born)
            if not claim.may_be_new:
                return OwnerOutcome(Ownership.FREE)
            number = max(now, self._former_of(claim.name).claim + 1)
            if now < self._recovers_until:
                number = claim.receipt or 0
            owner = self._names[claim.name] = _Name(key=claim.key, claim=number)
        if outcome is Ownership.CLAIMED and owner.online:  # the presence of another owner ends
            self._leave(claim.name, owner)
        self._own(owner, claim, outcome, now)
        self._keys[claim.key] = claim.name
        self._appear(claim.name, owner, now)
        return OwnerOutcome(outcome, owner.claim)

    def _right_to(
        self, claim: OwnerClaim, owner: _Name | None, now: int, *, is_classic: bool
    ) -> tuple[Ownership, int]:
        """Return the outcome of a claim whose `seq` is great enough, and which `seq` it has to exceed."""
        former_seq = self._former_of(claim.name).seqs.get(claim.key, 0)
        is_recovering = now < self._recovers_until
        if owner is None:
            is_taken = is_classic and not (claim.receipt and is_recovering)
            return Ownership.TAKEN if is_taken else Ownership.CLAIMED, former_seq
        if owner.key == claim.key:
            return Ownership.RENEWED, owner.seq
        if owner.key == claim.old_key and claim.rotated > owner.rotated:
            return Ownership.RENEWED, max(owner.seq, former_seq)
        is_older = is_recovering and (claim.receipt or 0) > owner.claim
        return Ownership.CLAIMED if is_older else Ownership.TAKEN, former_seq

    def _own(self, owner: _Name, claim: OwnerClaim, outcome: Ownership, now: int) -> None:
        former, is_recovering = (owner.key, owner.seq), now < self._recovers_until
        if outcome is Ownership.CLAIMED:
            owner.rotations, owner.rotated = [], 0
        elif owner.key != claim.key:
            owner.claim = owner.claim + 1 if is_recovering else max(now, owner.claim + 1)
        if is_recovering:
            owner.claim = max(owner.claim, claim.receipt or 0)
        if claim.rotation and (owner.key != claim.key or outcome is Ownership.CLAIMED):
            owner.rotations = [*owner.rotations, claim.rotation][-ROTATIONS_MAX:]
            owner.rotated = claim.rotated
        if owner.key != claim.key:
            self._remember(claim.name, *former, owner.claim)
        owner.key, owner.seq, owner.record = claim.key, claim.seq, claim.record
        owner.session, owner.beat = claim.session, 0
        owner.address, owner.location = claim.address, claim.location

    async def release_owned(self, name: str, key: str, seq: int) -> OwnerOutcome:
        """See `NameStore`."""
        now = self._settle()
        owner = self._names.get(name)
        if owner is None or owner.classic:
            if now < self._recovers_until:
                raise self._recovering(now)
            return OwnerOutcome(Ownership.FREE)
        if owner.key != key:
            return OwnerOutcome(Ownership.TAKEN)
        if seq <= owner.seq:
            return OwnerOutcome(Ownership.STALE, seq=owner.seq)
        self._remember(name, key, seq, owner.claim)
        owner.seen = now
        self._free(name)
        return OwnerOutcome(Ownership.RELEASED, owner.claim)

    async def beat(self, name: str, session: str, beat: int, *, online: bool) -> bool:
        """See `NameStore`."""
        now = self._settle()
        owner = self._names.get(name)
        if owner is None or not session or owner.session != session or beat <= owner.beat:
            return False
        owner.beat = beat
        if online:
            self._appear(name, owner, now)
            return True
        owner.session, owner.address, owner.location, owner.seen = "", None, "", now
        if owner.online:
            self._leave(name, owner)
        return True

    def look_up_peer(self, name: str) -> Deferred[PeerView | None]:
        """See `NameStore`."""
        self._settle()
        found = self._names.get(name)
        if found is None:
            return succeed(None)
        summary = found.summary(name)
        if found.classic:
            return succeed(PeerView(summary, None, None, (), (str(found.address),)))
        location = found.location if found.online else ""
        rotations = tuple(found.rotations)
        return succeed(view_of_owned(summary, found.key, found.record, rotations, location))

    async def look_up_key(self, key: str) -> str | None:
        """See `NameStore`."""
        self._settle()
        name = self._keys.get(key, "")
        owner = self._names.get(name)
        return name if owner and owner.key == key else None

    async def peers(
        self, prefix: str = "", after: str = "", limit: int = 500, *, online: bool = False
    ) -> PeerPage:
        """See `NameStore`."""
        self._settle()
        peers = [
            each.summary(name)
            for name, each in sorted(self._names.items())
            if name.startswith(prefix)
            and name > after
            and not (online and each.presence is Presence.OFFLINE)
        ]
        return PeerPage(tuple(peers[:limit]), peers[limit - 1].name if peers[limit:] else None)

    async def events(self, after: str | None = None, limit: int = 500) -> EventPage:
        """See `NameStore`."""
        self._settle()
        last = self._events[-1][0]
        if after is None:
            return EventPage((), _id(last))
        ms, _, number = after.partition("-")
        since = (int(ms), int(number))
        if since >= last:
            return EventPage((), _id(last), since == last)
        page = [each for each in self._events if each[0] > since][:limit]
        events = tuple(PresenceEvent(_id(id), peer) for id, peer in page if peer)
        return EventPage(events, _id(page[-1][0]), since >= self._events[0][0])

    async def use_invitation(self, id: str, holder: str, life: int, issued: int) -> bool:
        """See `NameStore`."""
        now = self._now()
        if self._born is not None and issued * 1000 < self._born:
            return False
        held_by, ends = self._invitations.get(id, ("", 0))
        if ends > now:
            return held_by == holder
        self._invitations[id] = (holder, now + life * 1000)
        return True

    async def use_nonce(self, key: str, nonce: str, life: int) -> bool:
        """See `NameStore`."""
        now = self._now()
        if self._nonces.get((key, nonce), 0) > now:
            return False
        self._nonces[key, nonce] = now + life * 1000
        return True

    async def take_tokens(self, bucket: str, wanted: int, per_second: float, burst: int) -> Tokens:
        """See `NameStore`."""
        now = self._clock.seconds()
        level, at = self._buckets.get(bucket, (float(burst), now))
        level = min(burst, level + max(0.0, now - at) * per_second)
        granted = min(wanted, floor(level))
        level -= granted
        self._buckets[bucket] = (level, now)
        return Tokens(granted, (1 - level) / per_second if level < 1 else 0)

    async def count(self) -> Counts:
        """See `NameStore`."""
        self._settle()
        presences = [each.presence for each in self._names.values()]
        return Counts(
            len(presences), presences.count(Presence.ONLINE), presences.count(Presence.UNKNOWN)
        )

    async def claim(self, claim: Claim) -> Outcome:
        """See `NameStore`."""
        now = self._settle()
        ends = now + claim.lease * 1000
        held = self._names.get(claim.name)
        if held is not None:
            if held.classic is None or held.classic.proof != claim.proof:
                return Outcome.TAKEN
            if claim.proof is None:
                if held.address != claim.address or claim.lease == 0:
                    return Outcome.TAKEN
                ends = max(ends, held.ends)
        if claim.lease == 0:
            if held is not None:
                held.seen = now
                self._free(claim.name)
            return Outcome.RELEASED
        if held is None and now < self._recovers_until:
            raise self._recovering(now)
        name = self._names[claim.name] = _Name(claim, ends, now, claim.address)
        if held is None:
            self._record(name.summary(claim.name))
        return Outcome.RENEWED if held else Outcome.CLAIMED

    def look_up(self, name: str) -> Deferred[PeerAddress | None]:
        """See `NameStore`."""
        self._settle()
        return succeed(self._address(name))

    async def page(self, after: str = "", limit: int = NAMES_PAGE_MAX) -> NamePage:
        """See `NameStore`."""
        self._settle()
        names = [name for name in sorted(self._names) if name > after and self._address(name)]
        return NamePage(names[:limit], names[limit - 1] if names[limit:] else None)

    async def ping(self) -> None:
        """See `NameStore`."""

    def _clear(self) -> None:
        self._names: dict[str, _Name] = {}
        self._former: dict[str, _Former] = {}
        self._keys: dict[str, str] = {}
        self._invitations: dict[str, tuple[str, int]] = {}
        self._nonces: dict[tuple[str, str], int] = {}  # ms
        self._events: list[tuple[tuple[int, int], PeerSummary | None]] = [((self._now(), 0), None)]

    def _now(self) -> int:
        return floor(self._clock.seconds() * 1000)

    def _former_of(self, name: str) -> _Former:
        return self._former.get(name, _Former())

    def _remember(self, name: str, key: str, seq: int, claim: int) -> None:
        """Remember a former owner."""
        seqs = self._former_of(name).seqs
        seqs[key] = max(seq, seqs.pop(key, 0))
        newest = dict(list(seqs.items())[-FORMER_MAX:])
        self._former[name] = _Former(claim, self._now() + FORMER_MEMORY * 1000, newest)

    def _recovering(self, now: int) -> StoreRecovering:
        return StoreRecovering(seconds=ceil((self._recovers_until - now) / 1000))

    def _address(self, name: str) -> PeerAddress | None:
        """Return the address of a name for original clients."""
        found = self._names.get(name)
        return found.address if found and (found.classic or found.online) else None

    def _appear(self, name: str, owner: _Name, now: int) -> None:
        owner.seen = now
        if not owner.online:
            owner.online, owner.since = True, now
            self._record(owner.summary(name))

    def _leave(self, name: str, owner: _Name) -> None:
        owner.online = False
        self._record(owner.summary(name))

    def _free(self, name: str) -> None:
        self._record(self._names.pop(name).summary(name, Presence.GONE))

    def _settle(self) -> int:
        """End the leases that are over, and return the time in ms."""
        now = self._now()
        if now == self._settled_at:  # a lease that was begun since lasts longer than this ms
            return now
        self._settled_at = now
        for name, each in sorted(self._names.items()):
            if each.online and each.seen + self._presence_lease <= now:
                self._leave(name, each)
            if (each.ends if each.classic else each.seen + self._ownership_lease) <= now:
                self._free(name)
        self._former = {name: each for name, each in self._former.items() if each.ends > now}
        return now

    def _record(self, summary: PeerSummary) -> None:
        """Add a change of presence to the events."""
        now, (last, number) = self._now(), self._events[-1][0]
        id = (now, 0) if now > last else (last, number + 1)
        self._events.append((id, summary))
        del self._events[:-EVENTS_KEPT]


def _id(id: tuple[int, int]) -> str:
    return f"{id[0]}-{id[1]}"
