"""The owned names in Redis."""

from __future__ import annotations

from collections.abc import Awaitable
from itertools import chain
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from p2pshare.errors import StoreRecovering, StoreUnavailable
from p2pshare.registry.redis.batching import Batcher
from p2pshare.registry.redis.index import GATHER_MAX, UNSTABLE, Entered, IndexedStore
from p2pshare.registry.redis.keys import key_of, keys_of
from p2pshare.registry.redis.link import in_time, together
from p2pshare.registry.redis.scripts import (
    BEAT,
    CLAIM_OWNED,
    FORGET,
    HINT,
    RELEASE_OWNED,
    UNDO,
    VIEW,
)
from p2pshare.registry.store import (
    FORMER_MAX,
    FORMER_MEMORY,
    OwnerClaim,
    OwnerOutcome,
    Ownership,
    view_of_owned,
)
from p2pshare.wire.registry_answers import (
    PRESENCE_LEASE,
    ROTATIONS_MAX,
    SESSION_LIFE,
    NameKind,
    PeerSummary,
    PeerView,
    Presence,
)

CLAIM_ATTEMPTS = 3  # while the store is being lost
CLAIM_PAUSE = 0.1  # seconds between two attempts
LOCATION_LIFE = SESSION_LIFE + PRESENCE_LEASE
"""Seconds for which the location of a peer that vanished is kept: a heartbeat of its session can bring it back."""
VIEWS_MAX = 64  # names that one command looks up


class OwnedNames(IndexedStore):
    """The part of `NameStore` for owned names."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._views: Batcher[str, dict[str, PeerView]] = Batcher(
            self.clock, self._view, VIEWS_MAX, waits=False
        )
        self._hints: Batcher[tuple[str, str], None] = Batcher(self.clock, self._hint, GATHER_MAX)

    @in_time
    async def claim_owned(self, claim: OwnerClaim) -> OwnerOutcome:
        """See `NameStore`."""
        keys = keys_of(claim.name, "owner", "signed", "former", "classic", "location")
        for attempt in range(CLAIM_ATTEMPTS):
            entered = await self.enter(claim.name)
            arguments = self._arguments(claim, entered)
            reply = await self.link.run_acknowledged(CLAIM_OWNED, keys, *arguments)
            word, *numbers = reply.decode().split(" ")
            if word == "recovering":
                raise StoreRecovering(seconds=entered.seconds)
            if word == "moved":
                continue
            outcome = Ownership(word)
            if outcome in (Ownership.CLAIMED, Ownership.RENEWED):
                if await self._has_claimed(claim, entered, *numbers[1:]):
                    return OwnerOutcome(outcome, int(numbers[0]))
            elif outcome is Ownership.STALE:
                return OwnerOutcome(outcome, seq=int(numbers[0]))
            elif not (
                outcome is Ownership.TAKEN
                and entered.recovery
                and claim.receipt
                and attempt < CLAIM_ATTEMPTS - 1
            ):
                return OwnerOutcome(outcome)
            else:  # the owner may have come just before the loss was noticed; then its claim is undone soon
                await deferLater(self.clock, CLAIM_PAUSE)
        raise StoreUnavailable(reason=UNSTABLE)

    def _arguments(self, claim: OwnerClaim, entered: Entered) -> list[object]:
        address = claim.address
        return [
            claim.key,
            claim.seq,
            claim.record,
            claim.session,
            f"{address.ip} {address.port}" if address else "",
            claim.old_key or "",
            claim.rotation or "",
            claim.rotated,
            claim.receipt or 0,
            int(claim.may_be_new),
            int(entered.recovery > 0),
            self.leases.presence,
            self.leases.ownership,
            ROTATIONS_MAX,
            FORMER_MAX,
            FORMER_MEMORY * 1000,
            entered.marker.born,
            entered.marker.id,
            int(entered.marker.lost),
            claim.location,
            LOCATION_LIFE * 1000,
        ]

    async def _has_claimed(
        self, claim: OwnerClaim, entered: Entered, seen: str, since: str
    ) -> bool:
        """Note a claim in the index. If it met a store that had just been lost, undo it and return False."""
        note = (claim.name, "claim", seen, str(int(claim.address is not None)), since)
        works: list[Awaitable[Any]] = [
            self.note(entered, note),
            self._hints.add((claim.key, claim.name)),
        ]
        if claim.old_key and claim.old_key != claim.key:
            works.append(self._forget(claim.old_key, claim.name))
        is_noted, *_ = await together(*works)
        if is_noted:
            return True
        keys = keys_of(claim.name, "owner", "signed", "classic", "location")
        await self.link.run_acknowledged(UNDO, keys, claim.session)
        return False

    @in_time
    async def release_owned(self, name: str, key: str, seq: int) -> OwnerOutcome:
        """See `NameStore`."""
        keys = keys_of(name, "owner", "signed", "former", "classic", "location")
        entered = await self.enter(name)
        reply = await self.link.run_acknowledged(
            RELEASE_OWNED, keys, key, seq, FORMER_MAX, FORMER_MEMORY * 1000
        )
        word, *numbers = reply.decode().split(" ")
        outcome = Ownership(word)
        if outcome is Ownership.STALE:
            return OwnerOutcome(outcome, seq=int(numbers[0]))
        if outcome is Ownership.RELEASED:
            note = (name, "gone", numbers[1], "0", "0")
            await together(self.note(entered, note), self._forget(key, name))
            return OwnerOutcome(outcome, int(numbers[0]))
        if outcome is Ownership.FREE and (state := await self.state()).recovery:
            raise StoreRecovering(seconds=state.seconds)
        return OwnerOutcome(outcome)

    @in_time
    async def _hint(self, hints: list[tuple[str, str]]) -> None:
        """Keep the names of some keys."""
        keys = [key_of(f"key:{key}", "name") for key, _ in hints]
        names = [name for _, name in hints]
        await self.link.run(HINT, keys, self.leases.ownership, *names)

    async def _forget(self, key: str, name: str) -> None:
        await self.link.run(FORGET, [key_of(f"key:{key}", "name")], name)

    @in_time
    async def beat(self, name: str, session: str, beat: int, *, online: bool) -> bool:
        """See `NameStore`."""
        keys = keys_of(name, "owner", "signed", "classic", "location")
        leases = self.leases.presence, self.leases.ownership
        reply = (await self.link.run(BEAT, keys, session, beat, int(online), *leases)).decode()
        if not reply:
            return False
        note = (name, "on" if online else "off", *reply.split(" "))
        await self.note_soon(note, wait=not online)
        return True

    def look_up_peer(self, name: str) -> Deferred[PeerView | None]:
        """See `NameStore`. All look-ups of one turn of the reactor are one command."""
        return self._views.add(name).addCallback(lambda views: views.get(name))

    @in_time
    async def _view(self, names: list[str]) -> dict[str, PeerView]:
        names = list(dict.fromkeys(names))
        kinds = ("owner", "signed", "classic", "location")
        keys = chain.from_iterable(keys_of(name, *kinds) for name in names)
        reply = (await self.link.run(VIEW, list(keys))).decode()
        found = {
            name: text for name, text in zip(names, reply.split("\n\n"), strict=True) if text != "-"
        }
        classic = [name for name, text in found.items() if text.startswith("classic ")]
        registered = await self.registered(classic) if classic else {}
        return {name: _view_of(name, text, registered.get(name)) for name, text in found.items()}

    @in_time
    async def look_up_key(self, key: str) -> str | None:
        """See `NameStore`."""
        hint: bytes | None = await self.link.call("GET", key_of(f"key:{key}", "name"))
        if hint is None:
            return None
        name = hint.decode()
        owner: bytes | None = await self.link.call("HGET", key_of(name, "owner"), "key")
        return name if owner == key.encode() else None


def _view_of(name: str, text: str, registered: int | None) -> PeerView:
    """Read the reply of `VIEW` about one name; `registered` is that time of a classic one, in Unix time in s."""
    first, *signed = text.split("\n")
    kind, *rest = first.split(" ")
    if kind == "classic":
        summary = PeerSummary(name, NameKind.CLASSIC, Presence.UNKNOWN, registered)
        return PeerView(summary, None, None, (), (":".join(rest),))
    key, online, since = rest
    location, *rotations, record = signed
    presence = Presence.ONLINE if online == "1" else Presence.OFFLINE
    summary = PeerSummary(name, NameKind.OWNED, presence, int(since) // 1000)
    return view_of_owned(summary, key, record, tuple(rotations), location.removeprefix("-"))
