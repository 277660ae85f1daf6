"""A store of names in memory, for tests: it passes the same tests as the real one."""

from __future__ import annotations

from bisect import bisect_right
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
class _Classic:
    """A classic name; times are in ms."""

    claim: Claim
    seen: int
    ends: int


@dataclass(slots=True)
class _Owner:
    """An owned name."""

    key: str
    claim: int
    seq: int = 0
    session: str = ""
    beat: int = 0
    seen: int = 0  # ms
    online: bool = False
    record: str = ""
    location: str = ""
    address: PeerAddress | None = None
    rotations: list[str] = field(default_factory=list)
    rotated: int = 0


@dataclass(slots=True)
class _Former:
    """Who owned a name: keys with the greatest `seq` of each, the newest last."""

    claim: int = 0
    ends: int = 0  # ms
    seqs: dict[str, int] = field(default_factory=dict)


class MemoryNameStore:
    """See `NameStore`."""

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
        self._born: int | None = None  # since the store was lost
        self._recovers_until = 0
        self._buckets: dict[str, tuple[float, float]] = {}
        self._clear()

    def lose(self) -> None:
        """Forget everything, and notice that."""
        self._clear()
        self._born = self._now()
        self._recovers_until = self._born + self._presence_lease

    async def claim_owned(self, claim: OwnerClaim) -> OwnerOutcome:
        """See `NameStore`."""
        now = self._settled()
        owner = self._owners.get(claim.name)
        outcome, seq = self._right_to(owner, claim, now)
        if outcome is Ownership.TAKEN:
            return OwnerOutcome(outcome)
        if claim.seq <= seq:
            return OwnerOutcome(Ownership.STALE, seq=seq)
        if owner is None:
            outcome, number = self._new_claim(claim, now)
            if outcome is not Ownership.CLAIMED:
                return OwnerOutcome(outcome, seq=number)
            self._classic.pop(claim.name, None)
            owner = self._owners[claim.name] = _Owner(claim.key, number)
        self._own(owner, claim, outcome, now)
        self._keys[claim.key] = claim.name
        self._appear(claim.name, owner, now)
        return OwnerOutcome(outcome, owner.claim)

    def _right_to(self, owner: _Owner | None, claim: OwnerClaim, now: int) -> tuple[Ownership, int]:
        """What a claim that is new enough makes of a name, and which `seq` it has to exceed."""
        former_seq = self._former.get(claim.name, _Former()).seqs.get(claim.key, 0)
        if owner is None:
            is_back = claim.receipt and now < self._recovers_until
            is_taken = claim.name in self._classic and not is_back
            return Ownership.TAKEN if is_taken else Ownership.CLAIMED, former_seq
        if owner.key == claim.key:
            return Ownership.RENEWED, owner.seq
        if owner.key == claim.old_key and claim.rotated > owner.rotated:
            return Ownership.RENEWED, max(owner.seq, former_seq)
        is_older = now < self._recovers_until and (claim.receipt or 0) > owner.claim
        return Ownership.CLAIMED if is_older else Ownership.TAKEN, former_seq

    def _new_claim(self, claim: OwnerClaim, now: int) -> tuple[Ownership, int]:
        """What becomes of a claim of a name that nobody owns, and its number, or the `seq` that it has to exceed."""
        recovering = now < self._recovers_until
        if recovering and not claim.receipt:
            raise self._recovering(now)
        if self._born is not None and claim.seq <= self._born:
            return Ownership.STALE, self._born
        if not claim.may_be_new:
            return Ownership.FREE, 0
        if recovering:
            return Ownership.CLAIMED, claim.receipt or 0
        return Ownership.CLAIMED, max(now, self._former.get(claim.name, _Former()).claim + 1)

    def _own(self, owner: _Owner, claim: OwnerClaim, outcome: Ownership, now: int) -> None:
        former, recovering = (owner.key, owner.seq), now < self._recovers_until
        if outcome is Ownership.CLAIMED:
            owner.rotations, owner.rotated = [], 0
        elif owner.key != claim.key:
            owner.claim = owner.claim + 1 if recovering else max(now, owner.claim + 1)
        if recovering:
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
        now = self._settled()
        owner = self._owners.get(name)
        if owner is None:
            if now < self._recovers_until:
                raise self._recovering(now)
            return OwnerOutcome(Ownership.FREE)
        if owner.key != key:
            return OwnerOutcome(Ownership.TAKEN)
        if seq <= owner.seq:
            return OwnerOutcome(Ownership.STALE, seq=owner.seq)
        del self._owners[name]
        self._remember(name, key, seq, owner.claim)
        self._tell(name, NameKind.OWNED, Presence.GONE, now)
        return OwnerOutcome(Ownership.RELEASED, owner.claim)

    async def beat(self, name: str, session: str, beat: int, *, online: bool) -> bool:
        """See `NameStore`."""
        now = self._settled()
        owner = self._owners.get(name)
        if owner is None or not session or owner.session != session or beat <= owner.beat:
            return False
        owner.beat = beat
        if online:
            self._appear(name, owner, now)
            return True
        owner.session, owner.seen = "", now
        owner.address, owner.location = None, ""
        if owner.online:
            owner.online = False
            self._tell(name, NameKind.OWNED, Presence.OFFLINE, now)
        return True

    def look_up_peer(self, name: str) -> Deferred[PeerView | None]:
        """See `NameStore`."""
        self._settled()
        owner, classic, summary = (
            self._owners.get(name),
            self._classic.get(name),
            self._summary(name),
        )
        if owner is not None:
            location = owner.location if owner.online else ""
            rotations = tuple(owner.rotations)
            return succeed(view_of_owned(summary, owner.key, owner.record, rotations, location))
        if classic is not None:
            return succeed(PeerView(summary, None, None, (), (str(classic.claim.address),)))
        return succeed(None)

    async def look_up_key(self, key: str) -> str | None:
        """See `NameStore`."""
        self._settled()
        name = self._keys.get(key, "")
        owner = self._owners.get(name)
        return name if owner and owner.key == key else None

    async def peers(
        self, prefix: str = "", after: str = "", limit: int = 500, *, online: bool = False
    ) -> PeerPage:
        """See `NameStore`."""
        self._settled()
        names = [name for name in self._names() if name.startswith(prefix) and name > after]
        summaries = [self._summary(name) for name in names]
        if online:
            summaries = [each for each in summaries if each.presence is not Presence.OFFLINE]
        found = summaries[:limit]
        return PeerPage(tuple(found), found[-1].name if len(summaries) > limit else None)

    async def events(self, after: str | None = None, limit: int = 500) -> EventPage:
        """See `NameStore`."""
        self._settled()
        last = self._events[-1][0]
        if after is None:
            return EventPage((), _id(last))
        ms, _, number = after.partition("-")
        since = (int(ms), int(number))
        ids = [each for each, _ in self._events]
        if since >= last:
            return EventPage((), _id(last), since == last)
        start = bisect_right(ids, since)
        some = self._events[start : start + limit]
        events = tuple(PresenceEvent(_id(each), peer) for each, peer in some if peer)
        return EventPage(events, _id(some[-1][0]), since >= ids[0])

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
        self._settled()
        online = sum(owner.online for owner in self._owners.values())
        return Counts(len(self._owners) + len(self._classic), online, len(self._classic))

    async def claim(self, claim: Claim) -> Outcome:
        """See `NameStore`."""
        now = self._settled()
        if claim.name in self._owners:
            return Outcome.TAKEN
        held = self._classic.get(claim.name)
        ends = now + claim.lease * 1000
        if held is not None:
            if held.claim.proof != claim.proof:
                return Outcome.TAKEN
            if claim.proof is None:
                if held.claim.address != claim.address or claim.lease == 0:
                    return Outcome.TAKEN
                ends = max(ends, held.ends)
        if claim.lease == 0:
            if self._classic.pop(claim.name, None):
                self._tell(claim.name, NameKind.CLASSIC, Presence.GONE, now)
            return Outcome.RELEASED
        if held is None and now < self._recovers_until:
            raise self._recovering(now)
        self._classic[claim.name] = _Classic(claim, now, ends)
        if held is None:
            self._tell(claim.name, NameKind.CLASSIC, Presence.UNKNOWN, now)
        return Outcome.RENEWED if held else Outcome.CLAIMED

    def look_up(self, name: str) -> Deferred[PeerAddress | None]:
        """See `NameStore`."""
        self._settled()
        return succeed(self._classic_address(name))

    async def page(self, after: str = "", limit: int = NAMES_PAGE_MAX) -> NamePage:
        """See `NameStore`."""
        self._settled()
        names = [name for name in self._names() if self._classic_address(name)]
        start = bisect_right(names, after)
        found = names[start : start + limit]
        return NamePage(found, found[-1] if start + limit < len(names) else None)

    async def ping(self) -> None:
        """See `NameStore`."""

    def _clear(self) -> None:
        self._classic: dict[str, _Classic] = {}
        self._owners: dict[str, _Owner] = {}
        self._former: dict[str, _Former] = {}
        self._keys: dict[str, str] = {}
        self._invitations: dict[str, tuple[str, int]] = {}
        self._events: list[tuple[tuple[int, int], PeerSummary | None]] = [((self._now(), 0), None)]

    def _now(self) -> int:
        return floor(self._clock.seconds() * 1000)

    def _remember(self, name: str, key: str, seq: int, claim: int) -> None:
        """Remember a former owner."""
        seqs = self._former.get(name, _Former()).seqs
        seqs[key] = max(seq, seqs.pop(key, 0))
        newest = dict(list(seqs.items())[-FORMER_MAX:])
        self._former[name] = _Former(claim, self._now() + FORMER_MEMORY * 1000, newest)

    def _recovering(self, now: int) -> StoreRecovering:
        return StoreRecovering(seconds=ceil((self._recovers_until - now) / 1000))

    def _names(self) -> list[str]:
        return sorted([*self._owners, *self._classic])

    def _classic_address(self, name: str) -> PeerAddress | None:
        owner, classic = self._owners.get(name), self._classic.get(name)
        if owner is not None:
            return owner.address if owner.online else None
        return classic.claim.address if classic else None

    def _summary(self, name: str) -> PeerSummary:
        owner, classic = self._owners.get(name), self._classic.get(name)
        if owner is not None:
            presence = Presence.ONLINE if owner.online else Presence.OFFLINE
            return PeerSummary(name, NameKind.OWNED, presence, owner.seen // 1000)
        seen = classic.seen // 1000 if classic else None
        return PeerSummary(name, NameKind.CLASSIC, Presence.UNKNOWN, seen)

    def _appear(self, name: str, owner: _Owner, now: int) -> None:
        owner.seen = now
        if not owner.online:
            owner.online = True
            self._tell(name, NameKind.OWNED, Presence.ONLINE, now)

    def _settled(self) -> int:
        """Let end what had to end by now; the time in ms."""
        now = self._now()
        for name, owner in sorted(self._owners.items()):
            if owner.online and owner.seen + self._presence_lease <= now:
                owner.online = False
                self._tell(name, NameKind.OWNED, Presence.OFFLINE, owner.seen)
            if owner.seen + self._ownership_lease <= now:
                del self._owners[name]
                self._tell(name, NameKind.OWNED, Presence.GONE, owner.seen)
        for name, classic in sorted(self._classic.items()):
            if classic.ends <= now:
                del self._classic[name]
                self._tell(name, NameKind.CLASSIC, Presence.GONE, classic.seen)
        for name, former in list(self._former.items()):
            if former.ends <= now:
                del self._former[name]
        return now

    def _tell(self, name: str, kind: NameKind, presence: Presence, seen: int) -> None:
        now, (last, number) = self._now(), self._events[-1][0]
        id = (now, 0) if now > last else (last, number + 1)
        self._events.append((id, PeerSummary(name, kind, presence, seen // 1000)))
        del self._events[:-EVENTS_KEPT]


def _id(id: tuple[int, int]) -> str:
    return f"{id[0]}-{id[1]}"
