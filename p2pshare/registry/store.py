"""Where the registry keeps the names: what any store can do, and one in memory.

A name is free or somebody's. It becomes somebody's by a claim, and free again the moment its lease
ends. A claim of a name that is somebody's renews it if it comes from the same one: with the same
token, or, if neither side ever gave one, with the same address.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right, insort
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from p2pshare.wire.peers import (
    OWNERSHIP_LEASE,
    PRESENCE_LEASE,
    PeerPage,
    PeerSummary,
    PeerView,
)
from p2pshare.wire.registration import PeerAddress, Registration

PAGE_MAX = 1000  # names


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody asks of the store for a name."""

    name: str
    address: PeerAddress
    lease: int
    """Seconds; 0 gives the name up."""
    proof: str | None = None
    """The SHA-256 of the token, in hex: what leaks from a store takes over no name."""

    @classmethod
    def of(cls, registration: Registration, default_lease: int) -> Claim:
        """The claim that a registration makes, in a registry that grants `default_lease` seconds."""
        token, lease = registration.token, registration.lease
        return cls(
            registration.name,
            registration.address,
            default_lease if lease is None else lease,
            None if token is None else hashlib.sha256(token.encode()).hexdigest(),
        )


class Outcome(Enum):
    """What became of a claim."""

    CLAIMED = "claimed"
    RENEWED = "renewed"
    RELEASED = "released"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class NamePage:
    """Some of the names, in lexical order."""

    names: list[str]
    after: str | None
    """What to pass to get the next page; None after the last."""


@dataclass(frozen=True, slots=True)
class OwnerClaim:
    """What the holder of a key asks of the store for a name. All that can be verified without the store was."""

    name: str
    key: str
    """A `PublicKey` as text, like the other keys here."""
    seq: int
    record: str
    """The signed `Record`."""
    session: str
    """What this peer's heartbeats will bring, from now on."""
    address: PeerAddress | None
    """Where original clients reach it; None if they do not."""
    old_key: str | None = None
    """The key that `rotation` replaces."""
    rotation: str | None = None
    receipt: int | None = None
    """The claim number of a valid receipt for this name and key."""
    may_be_new: bool = True
    """Whether it may take a name that nobody owns; else it only renews, or finds the name `FREE`."""
    lease: int = PRESENCE_LEASE
    """Seconds of presence."""
    ownership: int = OWNERSHIP_LEASE
    """Seconds of ownership."""


class Ownership(Enum):
    """What became of an owner's claim or release."""

    CLAIMED = "claimed"
    RENEWED = "renewed"
    RELEASED = "released"
    TAKEN = "taken"
    """It is another key's, or a live classic name."""
    STALE = "stale"
    """A record or release with this `seq` or a greater one was there before."""
    FREE = "free"
    """Nobody owns it; a claim with `may_be_new` could take it. Of a release: there was nothing to give up."""


@dataclass(frozen=True, slots=True)
class OwnerOutcome:
    """The reply to an owner's claim or release."""

    ownership: Ownership
    claim: int = 0
    """The claim number, for the receipt, if it was granted. It grows with each new owner or key of the name: the
    store's time in ms, or more."""
    seq: int = 0
    """The greatest `seq` that was seen, if it is `STALE`."""


@dataclass(frozen=True, slots=True)
class PresenceEvent:
    """A change of a peer's presence."""

    id: str
    """Orders the events; `<ms>-<n>`."""
    peer: PeerSummary


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some of the changes, in order."""

    events: tuple[PresenceEvent, ...]
    last: str
    """What to pass to get the following ones."""
    complete: bool = True
    """False if some after the given one are no longer kept."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token bucket granted."""

    granted: int
    wait: float
    """Seconds until there is one more; 0 if all that was wanted was granted."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many names there are, for the metrics; a moment old."""

    names: int
    online: int
    classic: int


class NameStore(Protocol):
    """A place for the names. Every method can fail with `StoreUnavailable`, within 2 s.

    While a lost store fills again, claims fail with `StoreRecovering` unless they bring a receipt, or come from the
    key that owns the name already.
    """

    def claim_owned(self, claim: OwnerClaim) -> Awaitable[OwnerOutcome]:
        """Take or renew a name for a key, in one atomic step, and begin its presence."""

    def release_owned(self, name: str, key: str, seq: int) -> Awaitable[OwnerOutcome]:
        """Give a name up; a record of this key with no greater `seq` cannot take it again."""

    def beat(self, name: str, session: str, beat: int, *, online: bool) -> Awaitable[bool]:
        """Take a sign of life; False if the session is not the name's, or the number not greater than the last.

        With `online` false the presence ends, and no heartbeat of this session counts any more.
        """

    def look_up_peer(self, name: str) -> Deferred[PeerView | None]:
        """All about a name that somebody owns, or that is a live classic one."""

    def look_up_key(self, key: str) -> Awaitable[str | None]:
        """The name that a key owns: the one it claimed last."""

    def peers(
        self, prefix: str = "", after: str = "", limit: int = 500, *, online: bool = False
    ) -> Awaitable[PeerPage]:
        """The names with a prefix that follow `after`, in order; with `online`, those that are there or may be."""

    def events(self, after: str | None = None, limit: int = 500) -> Awaitable[EventPage]:
        """The changes of presence since `after`; with None only where to begin."""

    def use_invitation(self, id: str, holder: str, life: int) -> Awaitable[bool]:
        """Use an invitation that is valid for `life` more seconds up; False if another holder did before."""

    def take_tokens(
        self, bucket: str, wanted: int, per_second: float, burst: int
    ) -> Awaitable[Tokens]:
        """Take up to `wanted` tokens from a bucket that all processes share."""

    def count(self) -> Awaitable[Counts]:
        """How many names there are."""

    def claim(self, claim: Claim) -> Awaitable[Outcome]:
        """Take, renew or give up a name, in one atomic step.

        A claim without a proof never shortens a lease nor gives a live name up: what it shows,
        the address, is public.
        """

    def look_up(self, name: str) -> Deferred[PeerAddress | None]:
        """The address under which a live name was claimed last."""

    def page(self, after: str = "", limit: int = PAGE_MAX) -> Awaitable[NamePage]:
        """The live names that follow `after`: up to `limit`, maybe fewer though more follow."""

    def ping(self) -> Awaitable[None]:
        """Return if the store answers."""


@dataclass(frozen=True, slots=True)
class _Entry:
    claim: Claim
    ends: float


class MemoryNameStore:
    """Names in memory, for tests: it passes the same tests as the real one."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._names: list[str] = []

    async def claim(self, claim: Claim) -> Outcome:
        """See `NameStore`."""
        held = self._live(claim.name)
        ends = self._clock.seconds() + claim.lease
        if held is not None:
            if held.claim.proof != claim.proof:
                return Outcome.TAKEN
            if claim.proof is None:
                if held.claim.address != claim.address or claim.lease == 0:
                    return Outcome.TAKEN
                ends = max(ends, held.ends)
        if claim.lease == 0:
            self._forget(claim.name)
            return Outcome.RELEASED
        if claim.name not in self._entries:
            insort(self._names, claim.name)
        self._entries[claim.name] = _Entry(claim, ends)
        return Outcome.RENEWED if held else Outcome.CLAIMED

    def look_up(self, name: str) -> Deferred[PeerAddress | None]:
        """See `NameStore`."""
        held = self._live(name)
        return succeed(held.claim.address if held else None)

    async def page(self, after: str = "", limit: int = PAGE_MAX) -> NamePage:
        """See `NameStore`."""
        start = bisect_right(self._names, after)
        found = self._names[start : start + limit]
        following = found[-1] if start + limit < len(self._names) else None
        return NamePage([name for name in found if self._live(name)], following)

    async def ping(self) -> None:
        """See `NameStore`."""

    def _live(self, name: str) -> _Entry | None:
        entry = self._entries.get(name)
        return entry if entry and entry.ends > self._clock.seconds() else None

    def _forget(self, name: str) -> None:
        if self._entries.pop(name, None):
            self._names.remove(name)
