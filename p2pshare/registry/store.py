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


class NameStore(Protocol):
    """A place for the names. Every method can fail with `StoreUnavailable`, within 2 s."""

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
