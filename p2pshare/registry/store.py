"""The interface of the store of names, which every store implements.

A name is free or taken. A claim takes it, and it is free again as soon as its lease ends. Another claim by the same
owner renews it: for an owned name, a claim with the same key; for a classic name, one with the same token, or, if no
token was ever given, with the same address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from twisted.internet.defer import Deferred

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import PeerPage, PeerSummary, PeerView
from p2pshare.wire.statements import Location

NAMES_PAGE_MAX = 1000  # names
FORMER_MEMORY = (
    300  # seconds for which former owners are remembered: longer than their records are valid
)
FORMER_MAX = 16  # former owners of a name that are remembered
EVENTS_KEPT = 10_000  # changes of presence, at least


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a classic name."""

    name: str
    address: PeerAddress
    lease: int
    """Seconds; 0 releases the name."""
    proof: str | None = None
    """The SHA-256 of the token, in hex: a leaked store gives nobody a name."""

    @classmethod
    def of(cls, name: str, address: PeerAddress, lease: int, token: str | None) -> Claim:
        """Return a claim with the hash of the token as its proof."""
        proof = None if token is None else hashlib.sha256(token.encode()).hexdigest()
        return cls(name, address, lease, proof)


class Outcome(Enum):
    """The result of a claim."""

    CLAIMED = "claimed"
    RENEWED = "renewed"
    RELEASED = "released"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class NamePage:
    """Some of the names, in lexical order."""

    names: list[str]
    after: str | None
    """The argument for the next page; None after the last."""


@dataclass(frozen=True, slots=True)
class OwnerClaim:
    """A claim of an owned name. Everything that can be verified without the store has been verified."""

    name: str
    key: str
    """A `PublicKey` as text, like the other keys here."""
    seq: int
    record: str
    """The signed `Record`."""
    session: str
    """The session of the heartbeats that follow."""
    address: PeerAddress | None
    """The address for original clients; None if it has none."""
    old_key: str | None = None
    """The key that `rotation` replaces."""
    rotation: str | None = None
    rotated: int = 0
    """The `iat` of `rotation`, in Unix time in s."""
    receipt: int | None = None
    """The claim number of a valid receipt for this name and key."""
    may_be_new: bool = True
    """Whether it may take a free name. If not, it only renews, or finds the name `FREE`."""
    location: str = ""
    """The text of the `Location`, or empty."""


class Ownership(Enum):
    """The result of a claim or a release of an owned name."""

    CLAIMED = "claimed"
    RENEWED = "renewed"
    RELEASED = "released"
    TAKEN = "taken"
    """Another key owns it, and no newer rotation replaces that key; or it is a live classic name."""
    STALE = "stale"
    """An earlier record or release had this `seq` or a greater one."""
    FREE = "free"
    """It is free: a claim with `may_be_new` could take it, and a release has no effect."""


@dataclass(frozen=True, slots=True)
class OwnerOutcome:
    """The reply to an owner's claim or release."""

    ownership: Ownership
    claim: int = 0
    """The number of a claim that was granted, for the receipt. It grows with each new owner or key of the name: it is
    the store's time in ms, or more. While the store recovers, it is that of the receipt, plus one for each new key."""
    seq: int = 0
    """The greatest known `seq`, if the claim is `STALE`."""


@dataclass(frozen=True, slots=True)
class PresenceEvent:
    """A change of a peer's presence."""

    id: str
    """`<ms>-<n>`, in the order of the events."""
    peer: PeerSummary


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some changes of presence, in order."""

    events: tuple[PresenceEvent, ...]
    last: str
    """The argument for the next page."""
    complete: bool = True
    """False if some that follow the given one are no longer kept."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that a token bucket has granted."""

    granted: int
    wait: float
    """Seconds until the bucket has another one; 0 if it has one."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of names, for the metrics."""

    names: int
    online: int
    classic: int


def view_of_owned(
    summary: PeerSummary, key: str, record: str, rotations: tuple[str, ...], location: str
) -> PeerView:
    """Return the view of an owned name. Its signatures were verified before it was stored.

    Args:
        summary: its line in the list.
        key: that of the owner.
        record: that of the owner.
        rotations: those that led to the key.
        location: that of the owner; empty if it is offline or has none.
    """
    try:
        addresses = Location.parse(location).addresses
    except RemoteProtocolError:  # there is none, or a version before this one has stored it
        addresses = ()
    return PeerView(summary, PublicKey.parse(key), record, rotations, addresses, location or None)


class NameStore(Protocol):
    """A store of names. Every method can fail with `StoreUnavailable`, within 2 s.

    While a store recovers from a loss, claims fail with `StoreRecovering` unless they bring a receipt, or come from the
    key that owns the name already.
    """

    def claim_owned(self, claim: OwnerClaim) -> Awaitable[OwnerOutcome]:
        """Take or renew a name for a key, in one atomic step, and begin its presence.

        A key that owned the name within `FORMER_MEMORY` cannot get it back by a record from before it lost the name.
        """

    def release_owned(self, name: str, key: str, seq: int) -> Awaitable[OwnerOutcome]:
        """Release a name; a record of this key with the same or a smaller `seq` cannot take it again.

        Fails with `StoreRecovering` if the name is free while the store recovers: its owner may come back.
        """

    def beat(self, name: str, session: str, beat: int, *, online: bool) -> Awaitable[bool]:
        """Store a heartbeat; return False for another session, or for a number that is not greater than the last.

        With `online` false the presence ends, and later heartbeats of this session are rejected.
        """

    def look_up_peer(self, name: str) -> Deferred[PeerView | None]:
        """Return the view of an owned or a live classic name, with the location if it is online.

        A location is kept as long as the session can last, and deleted when the peer leaves.
        """

    def look_up_key(self, key: str) -> Awaitable[str | None]:
        """Return the name that a key owns: the one it claimed last."""

    def peers(
        self, prefix: str = "", after: str = "", limit: int = 500, *, online: bool = False
    ) -> Awaitable[PeerPage]:
        """Return the names with a prefix that follow `after`, in order; with `online`, those that may be online."""

    def events(self, after: str | None = None, limit: int = 500) -> Awaitable[EventPage]:
        """Return the changes of presence since `after`; with None, only where to begin."""

    def use_invitation(self, id: str, holder: str, life: int, issued: int) -> Awaitable[bool]:
        """Use an invitation that is valid for `life` more seconds.

        Return False if another holder has used it, or if it was `issued` (Unix time in s) before the store was lost:
        then nobody knows whether it was used.
        """

    def use_nonce(self, key: str, nonce: str, life: int) -> Awaitable[bool]:
        """Use a nonce of a key; return False if it was used within its `life`, in seconds."""

    def take_tokens(
        self, bucket: str, wanted: int, per_second: float, burst: int
    ) -> Awaitable[Tokens]:
        """Take up to `wanted` tokens from a bucket that all processes share."""

    def count(self) -> Awaitable[Counts]:
        """Return the numbers of names."""

    def claim(self, claim: Claim) -> Awaitable[Outcome]:
        """Take, renew or release a classic name, in one atomic step.

        A claim without a proof neither shortens a lease nor releases a live name, since the address that it shows is
        public.
        """

    def look_up(self, name: str) -> Deferred[PeerAddress | None]:
        """Return the last address of a live name."""

    def page(self, after: str = "", limit: int = NAMES_PAGE_MAX) -> Awaitable[NamePage]:
        """Return live names that follow `after`: up to `limit`, perhaps fewer even if more follow."""

    def ping(self) -> Awaitable[None]:
        """Return if the store answers."""
