"""The store in memory and the one in Redis answer any sequence of questions alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread

from p2pshare.errors import StoreRecovering
from p2pshare.registry.redis.store import RedisNameStore
from p2pshare.registry.redis.url import redis_at
from p2pshare.registry.store import Claim, NameStore, OwnerOutcome
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.wire.addresses import PeerAddress
from tests import examples
from tests.registry.owned_contract import ANN, BOB, EVE, LATE, owned
from tests.registry.redis.test_store import WithRedis, clock
from tests.registry.store_contract import HERE, MINE, THERE, YOURS

EXAMPLES = examples(150)
STEPS_MIN, STEPS_MAX = 10, 40

names = st.sampled_from(["a", "a.b", "b"])
keys = st.sampled_from([ANN, BOB, EVE])
seqs = st.integers(LATE, LATE + 5)
addresses = st.sampled_from([HERE, THERE])


@dataclass
class Side:
    """A store, and its earlier answers."""

    store: NameStore
    since: str = ""
    claims: dict[tuple[str, str], int] = field(default_factory=dict)
    """Of a name and key: the number of its last claim."""
    newest: dict[str, int] = field(default_factory=dict)
    """Of a name."""


Step = Callable[[Side], Awaitable[Any]]


def claim_owned(
    name: str,
    key: str,
    seq: int,
    address: PeerAddress | None,
    old_key: str | None,
    rotated: int,
    may_be_new: bool,
    has_receipt: bool,
) -> Step:
    async def step(side: Side) -> object:
        claim = owned(name, key, seq, address=address, may_be_new=may_be_new)
        receipt = side.claims.get((name, key)) if has_receipt else None
        rotation = f"{old_key}>{key}" if old_key else None
        outcome = await side.store.claim_owned(
            type(claim)(
                name, key, seq, claim.record, claim.session, address, old_key, rotation, rotated,
                receipt, may_be_new, f"location-{seq}" if seq % 2 else "",
            )
        )  # fmt: skip
        return judged(side, name, key, outcome)

    return step


def judged(side: Side, name: str, key: str, outcome: OwnerOutcome) -> object:
    """Return the comparable part of an outcome; of a claim number, whether it is new."""
    before = side.newest.get(name, 0)
    if outcome.claim:
        side.claims[name, key] = side.newest[name] = outcome.claim
    relation = (outcome.claim > before) - (outcome.claim < before)
    return outcome.ownership, outcome.seq, bool(outcome.claim), relation


def release_owned(name: str, key: str, seq: int) -> Step:
    async def step(side: Side) -> object:
        outcome = await side.store.release_owned(name, key, seq)
        return outcome.ownership, outcome.seq

    return step


def beat(name: str, key: str, seq: int, number: int, online: bool) -> Step:
    session = owned(name, key, seq).session
    return lambda side: side.store.beat(name, session, number, online=online)


def claim(name: str, address: PeerAddress, proof: str | None, lease: int) -> Step:
    return lambda side: side.store.claim(Claim(name, address, lease, proof))


def use_invitation(holder: str, issued: int) -> Step:
    return lambda side: side.store.use_invitation("i" * 16, holder, 60, issued)


def use_nonce(key: str, nonce: str) -> Step:
    return lambda side: side.store.use_nonce(key, nonce * 16, 3600)


async def lose(side: Side) -> None:
    """Lose everything, and let the store notice that."""
    if isinstance(side.store, RedisNameStore):
        await deferLater(clock, 0.002)
        await side.store.link.call("FLUSHALL")
        await side.store.state()
    else:
        assert isinstance(side.store, MemoryNameStore)
        side.store.lose()
    side.since = (await side.store.events()).last


async def recover(side: Side) -> None:
    """End the recovery."""
    if isinstance(side.store, RedisNameStore):
        await side.store.link.call("DEL", "p2p:{index}:recovering")
    else:
        assert isinstance(side.store, MemoryNameStore)
        side.store._recovers_until = 0


async def everything(side: Side) -> object:
    """Return everything that can be read from a store."""
    if isinstance(side.store, RedisNameStore):  # let it record its delayed notes
        await side.store.note(await side.store.state(), ("z", "free", "0", "0", "0"))
    store = side.store
    events = await store.events(side.since)
    seen: list[object] = [events.complete, await store.count()]
    seen += [shown(each.peer) for each in events.events]
    for name in ("a", "a.b", "b", "c"):
        view = await store.look_up_peer(name)
        if view:
            owner = (view.key, view.record, view.rotations, view.addresses)
            seen.append((shown(view.summary), owner, view.location))
        seen.append(await store.look_up(name))
    seen += [await store.look_up_key(key) for key in (ANN, BOB, EVE)]
    for prefix, online in (("", False), ("", True), ("a", False), ("a.", True)):
        after: str | None = ""
        while after is not None:
            page = await store.peers(prefix, after, 2, online=online)
            seen += [shown(each) for each in page.peers]
            after = page.next
        seen.append("end")
    return [*seen, (await store.page()).names]


def shown(peer: Any) -> tuple[str, str, str]:
    return peer.name, peer.kind.value, peer.presence.value


steps = st.one_of(
    st.builds(
        claim_owned, names, keys, seqs, st.none(), st.none(), st.just(0), st.just(True),
        st.booleans(),
    ),
    st.builds(
        claim_owned, names, keys, seqs, st.none() | addresses, st.none() | keys, st.integers(1, 4),
        st.booleans(), st.booleans(),
    ),
    st.builds(release_owned, names, keys, seqs),
    st.builds(beat, names, keys, seqs, st.integers(1, 3), st.booleans()),
    st.builds(claim, names, addresses, st.sampled_from([None, MINE, YOURS]), st.sampled_from([0, 60])),
    st.builds(use_invitation, keys, st.sampled_from([0, 2**40])),
    st.builds(use_nonce, keys, st.sampled_from("ab")),
    st.just(everything),
    st.sampled_from([everything, lose, recover]),
)  # fmt: skip


class AgreementTests(WithRedis):
    """The two stores, step by step."""

    async def outcomes(self, sides: list[Side], step: Step) -> list[object]:
        found: list[object] = []
        for side in sides:
            try:
                found.append(await step(side))
            except StoreRecovering:
                found.append("recovering")
        return found

    async def agree(self, sequence: list[Step]) -> None:
        """Run the steps in both stores, and fail at the first difference."""
        await self.store.link.call("FLUSHALL")
        redis = RedisNameStore(redis_at(self.server.url, clock), clock)
        await redis.start()
        self.clock.advance(1_000)
        sides = [Side(MemoryNameStore(self.clock)), Side(redis)]
        try:
            for side in sides:
                side.since = (await side.store.events()).last
            for number, step in enumerate([*sequence, everything]):
                self.clock.advance(0.001)
                in_memory, in_redis = await self.outcomes(sides, step)
                assert in_memory == in_redis, (number, in_memory, in_redis)
        finally:
            await redis.stop()

    def start(self, sequence: list[Step]) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.agree(sequence))

    def test_agree(self) -> Deferred[None]:
        """Random steps of three keys and some originals, with three names and losses in between, agree."""
        self.clock = Clock()
        self.clock.advance(1_700_000_000)

        @settings(
            max_examples=EXAMPLES,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(steps, min_size=STEPS_MIN, max_size=STEPS_MAX))
        def run(sequence: list[Step]) -> None:
            blockingCallFromThread(clock, self.start, sequence)

        return deferToThread(run)

    test_agree.timeout = 60  # type: ignore[attr-defined]  # seconds
