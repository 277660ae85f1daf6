"""The contract of every store of names for owned names; run in memory and with Redis."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from p2pshare.errors import StoreRecovering
from p2pshare.registry.store import (
    FORMER_MAX,
    Claim,
    NameStore,
    Outcome,
    OwnerClaim,
    OwnerOutcome,
    Ownership,
    PresenceEvent,
)
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import ROTATIONS_MAX, NameKind, PeerSummary, Presence
from tests.registry.store_contract import HERE, MINE, THERE

KEYS = [str(SigningKey(number.to_bytes(32)).public) for number in range(200)]
ANN, BOB, EVE = KEYS[:3]


LATE = 2**45
"""A `seq`, in ms, that is later than any loss in a test: what was signed before one counts no more."""


def owned(name: str = "bob", key: str = BOB, seq: int = 1, **more: Any) -> OwnerClaim:
    """Return a claim as the registry makes it from a record."""
    claim = OwnerClaim(name, key, seq, f"record-{seq}", f"session-{KEYS.index(key)}-{seq}", None)
    return replace(claim, **more)


def outcome_of(work: Awaitable[Any]) -> Deferred[Any]:
    """Return the outcome of a call, or that the store is recovering."""

    async def run() -> Any:
        try:
            return await work
        except StoreRecovering as error:
            return error

    return Deferred.fromCoroutine(run())


class OwnedNamesContract:
    """A mixin. A subclass provides `store`, and the methods that fail here."""

    store: NameStore
    lapse_delay = 0.0
    """Seconds by which the end of a presence may be told late."""

    async def pass_time(self, seconds: float) -> None:
        """Advance the time."""
        raise AssertionError("a subclass says how")

    async def use_leases(self, presence: float, ownership: float = 3600) -> None:
        """Replace the store by one with other leases, in seconds."""
        raise AssertionError("a subclass says how")

    async def lose(self) -> None:
        """Let the store lose everything."""
        raise AssertionError("a subclass says how")

    async def presence_of(self, name: str) -> Presence | None:
        view = await self.store.look_up_peer(name)
        return view.summary.presence if view else None

    async def location_of(self, name: str) -> str | None:
        view = await self.store.look_up_peer(name)
        return view.location if view else None

    async def changes(self, after: str) -> list[tuple[str, str]]:
        page = await self.store.events(after)
        assert page.complete
        return [(each.peer.name, each.peer.presence.value) for each in page.events]

    async def here(self) -> str:
        """Return the id after which events are new."""
        return (await self.store.events()).last

    async def rotate(self, old: str, new: str, seq: int, iat: int = 1) -> OwnerOutcome:
        """Claim with a new key and a rotation."""
        rotation = f"to-{iat}"
        return await self.store.claim_owned(
            owned(key=new, seq=seq, old_key=old, rotation=rotation, rotated=iat)
        )

    async def listed(self, limit: int = 3, prefix: str = "", *, online: bool = False) -> list[str]:
        names: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await self.store.peers(prefix, after, limit, online=online)
            assert len(page.peers) <= limit
            names += [each.name for each in page.peers]
            after = page.next
        return names

    async def test_claim(self) -> None:
        """A free name belongs to the key that claims it, and look-ups show that."""
        outcome = await self.store.claim_owned(owned(address=HERE))
        assert outcome.ownership is Ownership.CLAIMED
        assert outcome.claim > 0
        view = await self.store.look_up_peer("bob")
        assert view is not None
        assert str(view.key) == BOB
        assert (view.record, view.rotations, view.addresses) == ("record-1", (), ())
        assert view.summary.kind is NameKind.OWNED
        assert view.summary.presence is Presence.ONLINE
        assert await self.store.look_up_key(BOB) == "bob"
        assert await self.store.look_up("bob") == HERE
        assert await self.listed() == ["bob"]
        assert (await self.store.page()).names == ["bob"]

    async def test_renewed(self) -> None:
        """The owner renews its name with a newer record and keeps the claim number; an older record is stale."""
        first = await self.store.claim_owned(owned(seq=5))
        again = await self.store.claim_owned(owned(seq=6))
        assert again == OwnerOutcome(Ownership.RENEWED, first.claim)
        for seq in (1, 5, 6):
            stale = await self.store.claim_owned(owned(seq=seq))
            assert stale == OwnerOutcome(Ownership.STALE, seq=6), seq
        view = await self.store.look_up_peer("bob")
        assert view is not None and view.record == "record-6"

    async def test_large_numbers(self) -> None:
        """`seq` is compared exactly up to 2^53."""
        most = 2**53 - 1
        await self.store.claim_owned(owned(seq=most - 1))
        assert (await self.store.claim_owned(owned(seq=most))).ownership is Ownership.RENEWED
        assert (await self.store.claim_owned(owned(seq=most))).seq == most
        session = owned(seq=most).session
        assert await self.store.beat("bob", session, most - 1, online=True)
        assert await self.store.beat("bob", session, most, online=True)
        assert not await self.store.beat("bob", session, most, online=True)

    async def test_one_owner(self) -> None:
        """Of 200 keys that claim one name at once, one gets it (threat 20)."""
        outcomes = await gatherResults(
            [outcome_of(self.store.claim_owned(owned(key=key))) for key in KEYS]
        )
        winners = [
            key
            for key, outcome in zip(KEYS, outcomes, strict=True)
            if outcome.ownership is Ownership.CLAIMED
        ]
        assert len(winners) == 1
        assert sum(outcome.ownership is Ownership.TAKEN for outcome in outcomes) == 199
        view = await self.store.look_up_peer("bob")
        assert view is not None and str(view.key) == winners[0]
        assert await self.store.look_up_key(winners[0]) == "bob"
        assert await self.store.look_up_key(next(k for k in KEYS if k != winners[0])) is None

    async def test_only_old_names(self) -> None:
        """A claim that may not be new renews an owned name, and finds a free one `FREE`."""
        assert (await self.store.claim_owned(owned(may_be_new=False))).ownership is Ownership.FREE
        assert await self.store.look_up_peer("bob") is None
        assert await self.listed() == []
        await self.store.claim_owned(owned())
        renewed = await self.store.claim_owned(owned(seq=2, may_be_new=False))
        assert renewed.ownership is Ownership.RENEWED

    async def test_released(self) -> None:
        """A released name is free at once, but not for older records of the same key (threat 19)."""
        claimed = await self.store.claim_owned(owned(seq=5, address=HERE))
        assert (await self.store.release_owned("bob", EVE, 9)).ownership is Ownership.TAKEN
        assert await self.store.release_owned("bob", BOB, 5) == OwnerOutcome(Ownership.STALE, seq=5)
        released = await self.store.release_owned("bob", BOB, 7)
        assert released == OwnerOutcome(Ownership.RELEASED, claimed.claim)
        assert await self.store.look_up_peer("bob") is None
        assert await self.store.look_up_key(BOB) is None
        assert await self.store.look_up("bob") is None
        assert await self.listed() == []
        assert (await self.store.release_owned("bob", BOB, 8)).ownership is Ownership.FREE
        for seq in (5, 6, 7):
            replayed = await self.store.claim_owned(owned(seq=seq))
            assert replayed == OwnerOutcome(Ownership.STALE, seq=7)
        again = await self.store.claim_owned(owned(key=EVE))
        assert again.ownership is Ownership.CLAIMED
        assert again.claim > claimed.claim

    async def test_rotation(self) -> None:
        """A rotation replaces the owner's key by the new one only; the rotations are kept."""
        first = await self.store.claim_owned(owned())
        rotation: dict[str, Any] = {"old_key": BOB, "rotation": "bob-to-ann", "rotated": 1}
        assert (
            await self.store.claim_owned(
                owned(key=ANN, seq=2, old_key=EVE, rotation="x", rotated=1)
            )
        ).ownership is Ownership.TAKEN
        assert (
            await self.store.claim_owned(owned(key=ANN, seq=1, **rotation))
        ).ownership is Ownership.STALE
        rotated = await self.store.claim_owned(owned(key=ANN, seq=2, **rotation))
        assert rotated.ownership is Ownership.RENEWED
        assert rotated.claim > first.claim
        assert await self.store.look_up_key(BOB) is None
        assert await self.store.look_up_key(ANN) == "bob"
        assert (await self.store.claim_owned(owned(seq=3))).ownership is Ownership.TAKEN
        await self.store.claim_owned(owned(key=ANN, seq=3, **rotation))
        await self.store.claim_owned(owned(key=ANN, seq=4))
        view = await self.store.look_up_peer("bob")
        assert view is not None
        assert view.rotations == ("bob-to-ann",)
        assert view.record == "record-4"

    async def test_recorded_claims_of_former_owners(self) -> None:
        """A free name cannot be claimed by old records of any former owner (threat 19)."""
        await self.store.claim_owned(owned(seq=1))
        await self.store.release_owned("bob", BOB, 2)
        await self.store.claim_owned(owned(key=EVE, seq=1))
        await self.store.release_owned("bob", EVE, 2)
        for key in (BOB, EVE):
            replayed = await self.store.claim_owned(owned(key=key, seq=1))
            assert replayed == OwnerOutcome(Ownership.STALE, seq=2), key
        await self.store.claim_owned(owned(seq=3))
        await self.rotate(BOB, ANN, 4)
        await self.store.release_owned("bob", ANN, 5)
        for key, seq, newest in ((BOB, 3, 3), (ANN, 4, 5), (EVE, 1, 2)):
            replayed = await self.store.claim_owned(owned(key=key, seq=seq))
            assert replayed == OwnerOutcome(Ownership.STALE, seq=newest), key
        assert await self.store.look_up_peer("bob") is None
        assert (await self.store.claim_owned(owned(seq=4))).ownership is Ownership.CLAIMED

    async def test_many_former_owners(self) -> None:
        """The last former owners are remembered, and claim numbers grow from each to the next."""
        claims = []
        for key in KEYS[: FORMER_MAX + 1]:
            claims.append((await self.store.claim_owned(owned(key=key))).claim)
            await self.store.release_owned("bob", key, 2)
        assert claims == sorted(set(claims))
        for key in KEYS[1 : FORMER_MAX + 1]:
            assert (await self.store.claim_owned(owned(key=key))).ownership is Ownership.STALE
        assert (await self.store.claim_owned(owned(key=KEYS[0]))).claim > claims[-1]

    async def test_recorded_rotation(self) -> None:
        """A rotation counts only if it is newer than the last one; a replay does not count (threat 19)."""
        await self.store.claim_owned(owned())
        await self.rotate(BOB, ANN, 2, 10)
        assert (await self.rotate(ANN, BOB, 3, 10)).ownership is Ownership.TAKEN
        assert (await self.rotate(ANN, BOB, 3, 11)).ownership is Ownership.RENEWED
        for iat in (10, 11):
            assert (await self.rotate(BOB, ANN, 4, iat)).ownership is Ownership.TAKEN
        assert (await self.rotate(BOB, EVE, 4, 12)).ownership is Ownership.RENEWED

    async def test_many_rotations(self) -> None:
        """The newest rotations are kept, in order."""
        for number, key in enumerate(KEYS[:12]):
            if number:
                await self.rotate(KEYS[number - 1], key, number + 1, number)
            else:
                await self.store.claim_owned(owned(key=key))
        view = await self.store.look_up_peer("bob")
        assert view is not None
        assert view.rotations == tuple(f"to-{number}" for number in range(12)[-ROTATIONS_MAX:])

    async def test_classic_never_takes_owned(self) -> None:
        """A classic registration never gets an owned name, whether its peer is online or not."""
        await self.store.claim_owned(owned(address=HERE))
        for claim in (Claim("bob", HERE, 60), Claim("bob", THERE, 60, MINE), Claim("bob", HERE, 0)):
            assert await self.store.claim(claim) is Outcome.TAKEN
        assert await self.store.beat("bob", owned().session, 1, online=False)
        assert await self.store.look_up("bob") is None
        for claim in (Claim("bob", HERE, 60), Claim("bob", THERE, 60, MINE), Claim("bob", HERE, 0)):
            assert await self.store.claim(claim) is Outcome.TAKEN
        assert await self.presence_of("bob") is Presence.OFFLINE

    async def test_owned_never_takes_classic(self) -> None:
        """A key does not get a live classic name before it is released, and vice versa."""
        await self.store.claim(Claim("bob", HERE, 60, MINE))
        assert (await self.store.claim_owned(owned())).ownership is Ownership.TAKEN
        view = await self.store.look_up_peer("bob")
        assert view is not None
        assert (view.key, view.record, view.addresses) == (None, None, (str(HERE),))
        assert view.summary.kind is NameKind.CLASSIC
        assert view.summary.presence is Presence.UNKNOWN
        assert view.summary.since is not None
        await self.store.claim(Claim("bob", HERE, 0, MINE))
        assert (await self.store.claim_owned(owned())).ownership is Ownership.CLAIMED
        await self.store.release_owned("bob", BOB, 2)
        assert await self.store.claim(Claim("bob", THERE, 60)) is Outcome.CLAIMED
        assert [each.kind for each in (await self.store.peers()).peers] == [NameKind.CLASSIC]

    async def test_heartbeats(self) -> None:
        """A heartbeat counts if it is of the session, and newer than the last one."""
        session = owned().session
        assert not await self.store.beat("bob", session, 1, online=True)
        await self.store.claim_owned(owned())
        assert await self.store.beat("bob", session, 3, online=True)
        assert not await self.store.beat("bob", session, 3, online=True)
        assert not await self.store.beat("bob", session, 2, online=False)
        assert not await self.store.beat("bob", "other", 4, online=True)
        assert not await self.store.beat("bob", "", 4, online=True)
        assert not await self.store.beat("eve", session, 4, online=True)
        assert await self.store.beat("bob", session, 4, online=True)
        await self.store.claim_owned(owned(seq=2))
        assert not await self.store.beat("bob", session, 5, online=True)
        assert await self.store.beat("bob", owned(seq=2).session, 1, online=True)

    async def test_leaves(self) -> None:
        """A peer that exits is offline at once, and no later heartbeat of its session restores it.

        Its location is withdrawn.
        """
        await self.store.claim_owned(owned(address=HERE, location="location-1"))
        assert await self.location_of("bob") == "location-1"
        session = owned().session
        assert await self.store.beat("bob", session, 1, online=False)
        assert await self.presence_of("bob") is Presence.OFFLINE
        assert await self.listed(online=True) == []
        assert await self.listed() == ["bob"]
        assert await self.store.look_up("bob") is None
        assert await self.location_of("bob") is None
        assert not await self.store.beat("bob", session, 2, online=True)
        assert not await self.store.beat("bob", "", 2, online=True)
        assert await self.presence_of("bob") is Presence.OFFLINE
        assert (await self.store.claim_owned(owned(seq=2))).ownership is Ownership.RENEWED
        assert await self.presence_of("bob") is Presence.ONLINE
        assert await self.listed(online=True) == ["bob"]
        assert await self.location_of("bob") is None, "it has not told where it is"

    async def test_lapses(self) -> None:
        """A peer silent for its lease is offline without an address, and still the owner; a heartbeat restores it."""
        await self.use_leases(0.6)
        await self.store.claim_owned(owned(address=HERE, location="location-1"))
        since, came = await self.here(), await self.since()
        await self.pass_time(0.4)
        assert await self.store.beat("bob", owned().session, 1, online=True)
        await self.pass_time(0.4)
        assert await self.presence_of("bob") is Presence.ONLINE
        assert await self.store.look_up("bob") == HERE
        assert await self.location_of("bob") == "location-1"
        await self.pass_time(0.3)
        assert await self.presence_of("bob") is Presence.OFFLINE
        assert await self.store.look_up("bob") is None
        assert await self.location_of("bob") is None
        assert await self.listed(online=True) == []
        assert (await self.store.count()).online == 0
        assert (await self.store.claim_owned(owned(key=EVE))).ownership is Ownership.TAKEN
        await self.pass_time(self.lapse_delay)
        assert await self.changes(since) == [("bob", "offline")]
        assert await self.store.beat("bob", owned().session, 2, online=True)
        assert await self.presence_of("bob") is Presence.ONLINE
        assert await self.store.look_up("bob") == HERE
        assert await self.location_of("bob") == "location-1"
        assert await self.since() > came
        await self.pass_time(0.1)
        assert await self.changes(since) == [("bob", "offline"), ("bob", "online")]

    async def test_ownership_ends(self) -> None:
        """A name is free when its owner was silent for the ownership lease."""
        await self.use_leases(0.2, 0.6)
        await self.store.claim_owned(owned())
        await self.store.claim_owned(owned("eve", EVE))
        since = await self.here()
        await self.pass_time(0.4)
        assert await self.store.beat("eve", owned("eve", EVE).session, 1, online=True)
        await self.pass_time(0.3)
        assert await self.store.look_up_peer("bob") is None
        assert await self.store.look_up_key(BOB) is None
        assert await self.listed() == ["eve"]
        assert (await self.store.claim_owned(owned("eve", BOB))).ownership is Ownership.TAKEN
        await self.pass_time(self.lapse_delay)
        assert ("bob", "gone") in await self.changes(since)
        assert (await self.store.claim_owned(owned(key=ANN))).ownership is Ownership.CLAIMED
        assert (await self.changes(since))[-1] == ("bob", "online")

    async def test_events(self) -> None:
        """Every change of presence is an event, once and in order; other changes are not."""
        since = await self.here()
        assert await self.store.events(since) == await self.store.events(since)
        await self.store.claim_owned(owned())
        await self.store.claim_owned(owned(seq=2))
        await self.store.beat("bob", owned(seq=2).session, 1, online=True)
        await self.store.claim(Claim("eve", HERE, 60, MINE))
        await self.store.claim(Claim("eve", HERE, 60, MINE))
        await self.store.beat("bob", owned(seq=2).session, 2, online=False)
        await self.store.claim_owned(owned(seq=3))
        await self.store.release_owned("bob", BOB, 4)
        await self.store.claim(Claim("eve", HERE, 0, MINE))
        told = [
            ("bob", "online"),
            ("eve", "unknown"),
            ("bob", "offline"),
            ("bob", "online"),
            ("bob", "gone"),
            ("eve", "gone"),
        ]
        assert await self.changes(since) == told
        one_by_one: list[PresenceEvent] = []
        while (page := await self.store.events(since, 1)).events:
            one_by_one += page.events
            since = page.last
        assert [(each.peer.name, each.peer.presence.value) for each in one_by_one] == told
        assert one_by_one[1].peer.kind is NameKind.CLASSIC
        assert one_by_one[-1].id == since == await self.here()

    async def test_events_lost(self) -> None:
        """A page of events is incomplete if the id is unknown or not kept any longer."""
        await self.store.claim_owned(owned())
        for past in ("1-0", f"1-{2**64 - 1}"):
            assert not (await self.store.events(past)).complete, past
        future = await self.store.events("99999999999999-0")
        assert (future.events, future.complete, future.last) == ((), False, await self.here())

    async def test_pages(self) -> None:
        """The pages, of any size, have each name once, in order, with its kind and presence."""
        names = sorted(f"{letter}{number}" for letter in "abz" for number in range(5))
        for number, name in enumerate(names):
            if number % 3:
                await self.store.claim_owned(owned(name, KEYS[number]))
            else:
                await self.store.claim(Claim(name, HERE, 60))
        for limit in (1, 2, 5, 14, 15, 16, 500):
            assert await self.listed(limit) == names, limit
        assert await self.listed(2, "b") == names[5:10]
        assert await self.listed(2, "b3") == ["b3"]
        assert await self.listed(2, "c") == []
        for number in (1, 4, 7):
            session = owned(names[number], KEYS[number]).session
            assert await self.store.beat(names[number], session, 1, online=False)
        there = [name for number, name in enumerate(names) if number not in (1, 4, 7)]
        assert await self.listed(4, online=True) == there
        page = await self.store.peers("", "a0", 3)
        assert page.next == "a3"
        kinds = [(each.name, each.kind.value, each.presence.value) for each in page.peers]
        assert kinds == [
            ("a1", "owned", "offline"),
            ("a2", "owned", "online"),
            ("a3", "classic", "unknown"),
        ]
        assert (await self.store.peers("b", "a9", 2)).peers[0].name == "b0"
        assert (await self.store.peers("b", "c", 2)).peers == ()

    async def test_pages_in_motion(self) -> None:
        """Names that come and go between two pages do not hide names that stay."""
        for number in range(0, 20, 2):
            await self.store.claim_owned(owned(f"n{number:02}", KEYS[number]))
        first = await self.store.peers(limit=5)
        await self.store.release_owned("n08", KEYS[8], 2)
        await self.store.release_owned("n00", KEYS[0], 2)
        await self.store.claim_owned(owned("n01", KEYS[1]))
        await self.store.claim_owned(owned("n09", KEYS[9]))
        assert first.next == "n08"
        second = await self.store.peers(after=first.next, limit=500)
        assert [each.name for each in second.peers] == ["n09", "n10", "n12", "n14", "n16", "n18"]

    async def test_originals_see_classic_addresses(self) -> None:
        """Original clients see the owned names that have an address and are online."""
        await self.store.claim_owned(owned("ann", ANN, address=HERE))
        await self.store.claim_owned(owned("bob", BOB))
        await self.store.claim(Claim("zoe", THERE, 60))
        assert (await self.store.page()).names == ["ann", "zoe"]
        assert await self.store.look_up("bob") is None
        await self.store.claim_owned(owned("bob", BOB, 2, address=THERE))
        await self.store.claim_owned(owned("ann", ANN, 2))
        assert (await self.store.page()).names == ["bob", "zoe"]
        assert await self.store.look_up("ann") is None
        assert await self.store.look_up("bob") == THERE

    async def test_counts(self) -> None:
        """`count` returns the numbers of names."""
        for number in range(3):
            await self.store.claim_owned(owned(f"n{number}", KEYS[number]))
        await self.store.claim(Claim("zoe", THERE, 60))
        await self.store.beat("n1", owned("n1", KEYS[1]).session, 1, online=False)
        counts = await self.store.count()
        assert (counts.names, counts.online, counts.classic) == (4, 2, 1)

    async def since(self, name: str = "bob") -> int:
        """Return since when a name is online, or was seen; it is the same everywhere."""
        view = await self.store.look_up_peer(name)
        assert view is not None and view.summary.since is not None
        (listed,) = (await self.store.peers(name, limit=1)).peers
        assert listed == view.summary
        return view.summary.since

    async def test_online_since(self) -> None:
        """A presence lasts through heartbeats, renewals and rotations of the owner; each later one is another."""
        await self.store.claim_owned(owned())
        here, first = await self.here(), await self.since()
        await self.pass_time(1.1)
        assert await self.store.beat("bob", owned().session, 1, online=True)
        await self.store.claim_owned(owned(seq=2))
        await self.rotate(BOB, ANN, 3)
        assert await self.since() == first
        session = owned(key=ANN, seq=3).session
        assert await self.store.beat("bob", session, 1, online=False)
        left = await self.since()
        assert left > first, "it was seen later"
        await self.pass_time(1.1)
        await self.store.claim_owned(owned(key=ANN, seq=4))
        back = await self.since()
        assert back > left
        await self.pass_time(1.1)
        await self.store.release_owned("bob", ANN, 5)
        await self.store.claim_owned(owned(key=EVE))
        newest = await self.since()
        assert newest > back
        told = [
            (e.peer.presence.value, e.peer.since) for e in (await self.store.events(here)).events
        ]
        assert told[:2] == [("offline", left), ("online", back)]
        assert told[3:] == [("online", newest)]

    async def test_online_since_a_loss(self) -> None:
        """After a loss the presence of a returned owner is new; a claim of another owner ends that before."""
        await self.use_leases(60)
        former = await self.store.claim_owned(owned(key=EVE))
        await self.store.release_owned("bob", EVE, 2)
        owner = await self.store.claim_owned(owned())
        before = await self.since()
        await self.pass_time(1.1)
        await self.lose()
        await self.store.claim_owned(owned(key=EVE, seq=LATE, receipt=former.claim))
        here, taken = await self.here(), await self.since()
        assert taken > before
        await self.pass_time(1.1)
        await self.store.claim_owned(owned(seq=LATE, receipt=owner.claim))
        assert await self.since() > taken
        assert await self.changes(here) == [("bob", "offline"), ("bob", "online")]

    async def test_last_seen(self) -> None:
        """A name that is not online has the time of its last sign of life, which is the same everywhere."""
        await self.store.claim_owned(owned())
        view = await self.store.look_up_peer("bob")
        assert view is not None
        assert (await self.store.peers()).peers == (view.summary,)
        await self.store.claim(Claim("zoe", THERE, 60))
        view = await self.store.look_up_peer("zoe")
        assert view is not None
        assert (await self.store.peers(after="bob")).peers == (
            PeerSummary("zoe", NameKind.CLASSIC, Presence.UNKNOWN, view.summary.since),
        )

    async def test_tokens(self) -> None:
        """A bucket grants its burst, and then its rate; other buckets are independent."""
        taken = await self.store.take_tokens("claims:10.0.0.1", 3, 5, 4)
        assert (taken.granted, taken.wait) == (3, 0)
        taken = await self.store.take_tokens("claims:10.0.0.1", 3, 5, 4)
        assert taken.granted == 1
        assert 0 < taken.wait <= 0.2
        assert (await self.store.take_tokens("claims:fe80::1%eth0", 4, 5, 4)).granted == 4
        assert (await self.store.take_tokens("claims:10.0.0.1", 1, 5, 4)).granted == 0
        await self.pass_time(0.25)
        assert (await self.store.take_tokens("claims:10.0.0.1", 1, 5, 4)).granted == 1
        await self.pass_time(1)
        assert (await self.store.take_tokens("claims:10.0.0.1", 9, 5, 4)).granted == 4

    async def test_invitations(self) -> None:
        """An invitation can be used repeatedly by one holder, and by no other."""
        assert await self.store.use_invitation("a" * 16, BOB, 60, 0)
        assert await self.store.use_invitation("a" * 16, BOB, 60, 0)
        assert not await self.store.use_invitation("a" * 16, EVE, 60, 0)
        assert await self.store.use_invitation("b" * 16, EVE, 60, 0)
        assert await self.store.use_invitation("c" * 16, BOB, 1, 0)
        await self.pass_time(1.1)
        assert await self.store.use_invitation("c" * 16, EVE, 60, 0)

    async def test_nonces(self) -> None:
        """A nonce of a key can be used once while it is remembered, also by requests that come together."""
        assert await self.store.use_nonce(BOB, "n" * 64, 1)
        assert not await self.store.use_nonce(BOB, "n" * 64, 60)
        assert await self.store.use_nonce(EVE, "n" * 64, 60)
        assert await self.store.use_nonce(BOB, "m" * 16, 60)
        await self.pass_time(1.1)
        assert await self.store.use_nonce(BOB, "n" * 64, 60)

    async def test_invitations_after_a_loss(self) -> None:
        """An invitation from before a loss is rejected, as it may have been used."""
        await self.store.use_invitation("a" * 16, BOB, 60, 1)
        await self.lose()
        assert not await self.store.use_invitation("a" * 16, EVE, 60, 1)
        assert await self.store.use_invitation("b" * 16, EVE, 60, 2**40)

    async def test_loss(self) -> None:
        """After a loss, owners return by their receipts, even if strangers and former owners race them (threat 20)."""
        await self.use_leases(2)
        former = await self.store.claim_owned(owned(key=EVE))
        await self.store.release_owned("bob", EVE, 2)
        owner = await self.store.claim_owned(owned())
        since = await self.here()
        await self.lose()
        racing = {
            "stranger": self.store.claim_owned(owned(key=ANN)),
            "classic": self.store.claim(Claim("bob", HERE, 60)),
            "former": self.store.claim_owned(owned(key=EVE, seq=LATE + 3, receipt=former.claim)),
            "owner": self.store.claim_owned(owned(seq=LATE + 2, receipt=owner.claim)),
            "later": self.store.claim_owned(owned(key=EVE, seq=LATE + 4, receipt=former.claim)),
            "renewal": self.store.claim_owned(owned(seq=LATE + 3, may_be_new=False)),
        }
        results = await gatherResults([outcome_of(each) for each in racing.values()])
        came = dict(zip(racing, results, strict=True))
        assert isinstance(came["stranger"], StoreRecovering)
        assert isinstance(came["classic"], StoreRecovering)
        assert came["owner"] == OwnerOutcome(Ownership.CLAIMED, owner.claim)
        view = await self.store.look_up_peer("bob")
        assert view is not None and str(view.key) == BOB
        assert (
            await self.store.claim_owned(owned(key=EVE, seq=LATE + 9, receipt=former.claim))
        ).ownership is Ownership.TAKEN
        assert not (await self.store.events(since)).complete
        other = await outcome_of(self.store.claim_owned(owned("new", ANN)))
        assert isinstance(other, StoreRecovering)
        assert other.fields["seconds"] in (1, 2)
        await self.pass_time(2.1)
        assert (
            await self.store.claim_owned(owned("new", ANN, LATE))
        ).ownership is Ownership.CLAIMED
        assert (
            await self.store.claim_owned(owned(key=EVE, seq=LATE + 10, receipt=2**50))
        ).ownership is Ownership.TAKEN

    async def test_recorded_claims_after_a_loss(self) -> None:
        """A statement signed before a loss claims nothing after it, as it may have been used (threat 19)."""
        await self.use_leases(1)
        owner = await self.store.claim_owned(owned())
        await self.lose()
        for _ in range(2):
            replayed = await self.store.claim_owned(owned(seq=9, receipt=owner.claim))
            assert replayed.ownership is Ownership.STALE
            assert replayed.seq > 9
            assert await self.store.look_up_peer("bob") is None
            await self.pass_time(1.1)
        fresh = await self.store.claim_owned(owned(seq=LATE))
        assert fresh.ownership is Ownership.CLAIMED

    async def test_renewals_while_recovering(self) -> None:
        """During the recovery, an owner that has returned can renew, rotate and release."""
        await self.lose()
        for claim in (owned("a-1", ANN), owned("a-1", ANN, may_be_new=False)):
            assert isinstance(await outcome_of(self.store.claim_owned(claim)), StoreRecovering)
        assert isinstance(
            await outcome_of(self.store.claim(Claim("zoe", HERE, 60))), StoreRecovering
        )
        back = await self.store.claim_owned(owned(seq=LATE, receipt=7))
        assert back == OwnerOutcome(Ownership.CLAIMED, 7)
        assert await self.store.beat("bob", owned(seq=LATE).session, 1, online=True)
        assert (await self.store.claim_owned(owned(seq=LATE + 2))).ownership is Ownership.RENEWED
        rotated = await self.rotate(BOB, ANN, LATE + 3)
        assert rotated == OwnerOutcome(Ownership.RENEWED, 8)
        assert (
            await self.store.claim_owned(owned(seq=LATE + 4, receipt=7))
        ).ownership is Ownership.TAKEN
        assert (
            await self.store.release_owned("bob", ANN, LATE + 5)
        ).ownership is Ownership.RELEASED
        again = await outcome_of(self.store.release_owned("bob", ANN, LATE + 6))
        assert isinstance(again, StoreRecovering), "its owner may come back yet"

    async def test_rotated_out_key_after_a_loss(self) -> None:
        """A former key that returns first and rotates is overridden by the owner's receipt (threat 20)."""
        await self.use_leases(2)
        before = await self.store.claim_owned(owned())
        await self.pass_time(0.01)
        owner = await self.rotate(BOB, ANN, 2)
        await self.lose()
        await self.store.claim_owned(owned(seq=LATE + 3, receipt=before.claim))
        assert (await self.rotate(BOB, EVE, LATE + 4, 2)).claim == before.claim + 1
        back = await self.store.claim_owned(owned(key=ANN, seq=LATE + 3, receipt=owner.claim))
        assert back == OwnerOutcome(Ownership.CLAIMED, owner.claim)
        assert (await self.rotate(EVE, BOB, LATE + 9, 3)).ownership is Ownership.TAKEN

    async def test_former_owner_after_a_loss(self) -> None:
        """So is an owner that had released the name; its old record does not claim it again (threat 20)."""
        await self.use_leases(2)
        former = await self.store.claim_owned(owned())
        await self.store.release_owned("bob", BOB, 2)
        await self.pass_time(0.01)
        owner = await self.store.claim_owned(owned(key=EVE))
        await self.lose()
        recorded = owned(seq=LATE + 3, receipt=former.claim)
        assert (await self.store.claim_owned(recorded)).ownership is Ownership.CLAIMED
        await self.rotate(BOB, ANN, LATE + 4)
        back = await self.store.claim_owned(owned(key=EVE, seq=LATE + 2, receipt=owner.claim))
        assert back == OwnerOutcome(Ownership.CLAIMED, owner.claim)
        await self.store.release_owned("bob", EVE, LATE + 3)
        assert await self.store.claim_owned(recorded) == OwnerOutcome(Ownership.STALE, seq=LATE + 3)
