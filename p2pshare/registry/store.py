"""Where the registry keeps the names: what any store can do.

A name is free or somebody's. It becomes somebody's by a claim, and free again the moment its lease
ends. A claim of a name that is somebody's renews it if it comes from the same one: an owned name, with the same key; a
classic one, with the same token, or, if neither side ever gave one, with the same address.
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
from p2pshare.wire.keys import PublicKey, from_base64url
from p2pshare.wire.registry_answers import PeerPage, PeerSummary, PeerView
from p2pshare.wire.statements import ADDRESSES_MAX
from p2pshare.wire.strict_json import parse_object, texts

NAMES_PAGE_MAX = 1000  # names
FORMER_MEMORY = (
    300  # seconds for which former owners are remembered: longer than their records are believed
)
FORMER_MAX = 16  # former owners of a name who are remembered
EVENTS_KEPT = 10_000  # changes of presence, at least


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
    def of(cls, name: str, address: PeerAddress, lease: int, token: str | None) -> Claim:
        """Return a claim with the hash of the token as its proof."""
        proof = None if token is None else hashlib.sha256(token.encode()).hexdigest()
        return cls(name, address, lease, proof)


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
    rotated: int = 0
    """The `iat` of `rotation`, in Unix time in s."""
    receipt: int | None = None
    """The claim number of a valid receipt for this name and key."""
    may_be_new: bool = True
    """Whether it may take a name that nobody owns; else it only renews, or finds the name `FREE`."""
    location: str = ""
    """The text of the `Location`, or nothing."""


class Ownership(Enum):
    """What became of an owner's claim or release."""

    CLAIMED = "claimed"
    RENEWED = "renewed"
    RELEASED = "released"
    TAKEN = "taken"
    """It is another key's, which no rotation newer than its last one replaces; or a live classic name."""
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
    store's time in ms, or more; while the store recovers, the receipt's, and one more with each new key."""
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
    """Seconds until there is one more in the bucket; 0 if there is."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many names there are, for the metrics; a moment old."""

    names: int
    online: int
    classic: int


def view_of_owned(
    summary: PeerSummary, key: str, record: str, rotations: tuple[str, ...], location: str
) -> PeerView:
    """All about an owned name; what is signed was verified before it was stored.

    Args:
        summary: its line in the list.
        key: of its owner.
        record: that of the owner.
        rotations: that led to the key.
        location: nothing, unless the owner is online and has told where.
    """
    try:
        payload = parse_object(from_base64url(location))
        addresses = texts(payload, "addresses", ADDRESSES_MAX, 64)
    except RemoteProtocolError:
        addresses = ()
    return PeerView(summary, PublicKey.parse(key), record, rotations, addresses, location or None)


class NameStore(Protocol):
    """A place for the names. Every method can fail with `StoreUnavailable`, within 2 s.

    While a lost store fills again, claims fail with `StoreRecovering` unless they bring a receipt, or come from the
    key that owns the name already.
    """

    def claim_owned(self, claim: OwnerClaim) -> Awaitable[OwnerOutcome]:
        """Take or renew a name for a key, in one atomic step, and begin its presence.

        A key that has owned the name within `FORMER_MEMORY` does not get it by a record from before it lost it.
        """

    def release_owned(self, name: str, key: str, seq: int) -> Awaitable[OwnerOutcome]:
        """Give a name up; a record of this key with no greater `seq` cannot take it again.

        Fails with `StoreRecovering` if nobody owns it while a lost store fills again: its owner may come back.
        """

    def beat(self, name: str, session: str, beat: int, *, online: bool) -> Awaitable[bool]:
        """Take a sign of life; False if the session is not the name's, or the number not greater than the last.

        With `online` false the presence ends, and no heartbeat of this session counts any more.
        """

    def look_up_peer(self, name: str) -> Deferred[PeerView | None]:
        """All about a name that somebody owns, or that is a live classic one; the location only of one that is online.

        A location is kept for as long as the session can last, and forgotten when the peer leaves.
        """

    def look_up_key(self, key: str) -> Awaitable[str | None]:
        """The name that a key owns: the one it claimed last."""

    def peers(
        self, prefix: str = "", after: str = "", limit: int = 500, *, online: bool = False
    ) -> Awaitable[PeerPage]:
        """The names with a prefix that follow `after`, in order; with `online`, those that are there or may be."""

    def events(self, after: str | None = None, limit: int = 500) -> Awaitable[EventPage]:
        """The changes of presence since `after`; with None only where to begin."""

    def use_invitation(self, id: str, holder: str, life: int, issued: int) -> Awaitable[bool]:
        """Use an invitation up that is valid for `life` more seconds.

        False if another holder did before, or if it was `issued` (Unix time in s) before the store was lost: nobody
        knows then whether it was used.
        """

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

    def page(self, after: str = "", limit: int = NAMES_PAGE_MAX) -> Awaitable[NamePage]:
        """The live names that follow `after`: up to `limit`, maybe fewer though more follow."""

    def ping(self) -> Awaitable[None]:
        """Return if the store answers."""
