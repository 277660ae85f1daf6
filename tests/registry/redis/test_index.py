"""The index of names in Redis: what happens to it when registries die, and what it costs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis import index as redis_index
from p2pshare.registry.redis.batching import Batcher
from p2pshare.registry.redis.index import GATHER_MAX
from p2pshare.registry.redis.index_scripts import NOTE
from p2pshare.registry.redis.keys import key_of
from p2pshare.registry.redis.store import LEASES, RedisNameStore
from p2pshare.registry.redis.url import redis_at
from p2pshare.registry.store import Claim, Ownership
from p2pshare.wire.registry_answers import Presence
from tests.registry.owned_contract import BOB, EVE, KEYS, outcome_of, owned
from tests.registry.redis.test_store import WithRedis, clock
from tests.registry.store_contract import HERE, MINE

DOCUMENT = Path(__file__).parents[3] / "docs" / "redis.md"


async def nothing(*_: Any, **__: Any) -> bool:
    """Do nothing, as if the registry had been killed before."""
    return True


class KilledTests(WithRedis):
    """A registry is killed between the steps of a call."""

    entry_grace = 0.1

    async def killed_before_noting(self) -> RedisNameStore:
        """A registry that is killed before it notes its changes."""
        store = await self.make_store()
        index: Any = store
        index.note = nothing
        index.note_soon = nothing
        index.sweep = nothing
        return store

    async def names(self) -> list[tuple[str, str]]:
        return [(each.name, each.presence.value) for each in (await self.store.peers()).peers]

    async def test_claim(self) -> None:
        """A granted claim that was not noted is in the list soon."""
        dying = await self.killed_before_noting()
        await dying.claim_owned(owned(address=HERE))
        assert await self.names() == []
        await self.pass_time(0.2)
        await self.store.sweep()
        assert await self.names() == [("bob", "online")]
        assert (await self.store.page()).names == ["bob"]
        assert await self.ask("ZCARD", "p2p:{index}:checks") == 0

    async def test_classic_claim(self) -> None:
        """The same applies to a classic claim."""
        dying = await self.killed_before_noting()
        await dying.claim(Claim("bob", HERE, 60))
        await self.pass_time(0.2)
        await self.store.sweep()
        assert await self.names() == [("bob", "unknown")]
        assert (await self.store.page()).names == ["bob"]

    async def test_release(self) -> None:
        """A release that was not noted leaves the list soon."""
        dying = await self.killed_before_noting()
        await self.store.claim_owned(owned())
        assert (await dying.release_owned("bob", BOB, 2)).ownership is Ownership.RELEASED
        await self.pass_time(0.2)
        await self.store.sweep()
        assert await self.names() == []
        assert await self.ask("ZCARD", "p2p:{index}:names") == 0

    async def test_heartbeat(self) -> None:
        """The next heartbeat corrects one that was not noted."""
        dying = await self.killed_before_noting()
        await self.store.claim_owned(owned())
        await self.store.beat("bob", owned().session, 1, online=False)
        await self.store.claim_owned(owned(seq=2))
        assert await dying.beat("bob", owned(seq=2).session, 1, online=False)
        assert await self.names() == [("bob", "online")]
        view = await self.store.look_up_peer("bob")
        assert view is not None and view.summary.presence is Presence.OFFLINE
        await dying.claim_owned(owned(seq=3))
        assert await self.store.beat("bob", owned(seq=3).session, 1, online=True)
        await self.pass_time(0.05)
        assert await self.names() == [("bob", "online")]

    async def test_swept_while_claimed(self) -> None:
        """A sweep between the steps of a claim does not remove the name from the list."""
        index: Any = self.store
        note = index.note

        async def sweep_and_note(*arguments: Any) -> bool:
            await self.pass_time(0.2)
            await index.sweep()
            noted: bool = await note(*arguments)
            return noted

        index.note = sweep_and_note
        await self.store.claim_owned(owned())
        assert await self.names() == [("bob", "online")]

    async def test_late_notes(self) -> None:
        """A late note does not undo a newer one."""
        index: Any = self.store
        notes: list[tuple[Any, ...]] = []
        note = index.note

        async def keep(*arguments: Any) -> bool:
            notes.append(arguments)
            noted: bool = await note(*arguments)
            return noted

        index.note = keep
        await self.store.claim_owned(owned())
        await self.store.release_owned("bob", BOB, 2)
        await self.store.claim_owned(owned(key=EVE))
        await self.store.beat("bob", owned(key=EVE).session, 1, online=False)
        listed = (await self.store.peers()).peers
        for each in notes:
            await note(*each)
        assert (await self.store.peers()).peers == listed
        assert [each.presence for each in listed] == [Presence.OFFLINE]


class LapseTests(WithRedis):
    """Many peers become silent, or send heartbeats, at once."""

    async def test_many_lapse(self) -> None:
        """If more presences expire than one step ends, several registries together end each of them once."""
        await self.use_leases(0.3)
        other = await self.make_store(presence=0.3)
        since = (await self.store.events()).last
        self.patch(redis_index, "LAPSE_BATCH", 7)
        claims = [owned(f"n{number:03}", key) for number, key in enumerate(KEYS[:100])]
        await gatherResults([outcome_of(self.store.claim_owned(each)) for each in claims])
        await self.pass_time(0.4)
        await gatherResults([outcome_of(each.sweep()) for each in (self.store, other)])
        told = [each.peer for each in (await self.store.events(since)).events]
        gone = [each.name for each in told if each.presence is Presence.OFFLINE]
        assert sorted(gone) == [each.name for each in claims]
        assert await self.ask("ZCARD", "p2p:{index}:here") == 0
        assert {each.presence for each in (await self.store.peers()).peers} == {Presence.OFFLINE}

    async def test_too_many_notes(self) -> None:
        """If too many heartbeats are not noted yet, the next ones wait."""
        await self.store.claim_owned(owned())
        await self.store.beat("bob", owned().session, 1, online=False)
        await self.store.claim_owned(owned(seq=2))
        self.patch(redis_index, "NOTES_MAX", 0)
        await self.ask("ZREM", "p2p:{index}:presence", "bob")
        assert (await self.store.peers()).peers == ()
        assert await self.store.beat("bob", owned(seq=2).session, 1, online=True)
        assert [each.name for each in (await self.store.peers()).peers] == ["bob"]

    async def test_missed_end(self) -> None:
        """The end of a presence that was never noted is told when the next one begins."""
        since = (await self.store.events()).last
        await self.store.claim_owned(owned())
        index: Any = self.store
        self.patch(index, "note_soon", nothing)
        await self.store.beat("bob", owned().session, 1, online=False)
        await self.store.claim_owned(owned(seq=2))
        told = [each.peer.presence for each in (await self.store.events(since)).events]
        assert told == [Presence.ONLINE, Presence.OFFLINE, Presence.ONLINE]

    async def test_note_fails(self) -> None:
        """A heartbeat that could not be noted still succeeds."""
        await self.store.claim_owned(owned())
        index: Any = self.store
        link: Any = self.store.link
        run = link.run

        async def refuse_notes(script: str, *arguments: Any) -> Any:
            if script == NOTE:
                raise StoreUnavailable(reason="for a test")
            return await run(script, *arguments)

        link.run = refuse_notes
        assert await self.store.beat("bob", owned().session, 1, online=True)
        assert await self.store.beat("bob", owned().session, 2, online=False)
        with self.assertRaises(StoreUnavailable):
            await self.store.claim_owned(owned(seq=2))
        link.run = run
        assert (await self.store.claim_owned(owned(seq=3))).ownership is Ownership.RENEWED
        assert index._noting.size == 0


class CostTests(WithRedis):
    """Commands that Redis gets."""

    async def do_everything(self, store: RedisNameStore) -> None:
        await store.ping()
        await store.adopt("registry")
        await store.claim_owned(owned(address=HERE))
        await store.claim_owned(owned(key=EVE, seq=2, old_key=BOB, rotation="x", rotated=1))
        await store.claim_owned(owned("n1", KEYS[1], address=HERE))
        await store.claim_owned(owned("n1", KEYS[1], 2))
        await store.beat("bob", owned(key=EVE, seq=2).session, 1, online=True)
        await store.beat("bob", owned(key=EVE, seq=2).session, 2, online=False)
        await store.claim_owned(owned("n2", KEYS[3], address=HERE))
        await store.beat("n2", owned("n2", KEYS[3]).session, 1, online=True)
        await store.beat("n2", owned("n2", KEYS[3]).session, 2, online=False)
        await store.claim(Claim("zoe", HERE, 1, MINE))
        await store.claim(Claim("zed", HERE, 60))
        await store.claim(Claim("zed", HERE, 60))
        await store.claim(Claim("zoe", HERE, 0, MINE))
        await store.look_up_peer("bob")
        await store.look_up_peer("zed")
        assert await store.look_up_key(EVE) == "bob"
        await store.look_up("zed")
        await store.page()
        await store.peers(online=True)
        assert (await store.peers("b")).peers
        assert (await store.events("1-1")).events
        await store.use_invitation("i" * 16, BOB, 60, 0)
        await store.take_tokens("claims:10.0.0.1", 1, 1, 1)
        await store.take_tokens("claims:10.0.0.1", 1, 1, 1)
        await store.count()
        await store.release_owned("bob", EVE, 9)
        await self.pass_time(0.1)
        await store.sweep()

    async def test_no_scans(self) -> None:
        """No command reads all keys, or all of a long value (threat 29)."""
        store = await self.make_store(entry_grace=0)
        await self.do_everything(store)
        stats = (await self.ask("INFO", "commandstats")).decode()
        used = set(re.findall(r"cmdstat_([a-z|]+)", stats))
        assert {"evalsha", "zrangebylex", "hmget"} <= used
        forbidden = {"keys", "scan", "zrange", "zscan", "hscan", "hgetall", "hkeys", "sort"}
        assert not used & forbidden

    async def test_least_privilege(self) -> None:
        """A user of Redis with the documented commands, on the documented keys only, is sufficient (threat 29)."""
        (rights,) = re.findall(r"ACL SETUSER registry on >PASSWORD (.*)", DOCUMENT.read_text())
        await self.ask("ACL", "SETUSER", "registry", "on", ">secret", *rights.split())
        await self.ask("ACL", "LOG", "RESET")
        store = RedisNameStore(
            redis_at(self.server.tcp_url("registry:secret@"), clock),
            clock,
            leases=replace(LEASES, entry_grace=0),
        )
        self.addCleanup(store.stop)
        await store.start()
        await self.do_everything(store)
        await self.ask("FLUSHALL")
        await outcome_of(store.claim_owned(owned()))
        assert await self.ask("ACL", "LOG") == []

    async def test_claims_share_commands(self) -> None:
        """Simultaneous claims enter the index, and are noted, by one command each."""
        await self.store.claim_owned(owned())
        await self.ask("CONFIG", "RESETSTAT")
        await gatherResults(
            [
                outcome_of(self.store.claim_owned(owned(f"n{number}", key)))
                for number, key in enumerate(KEYS[1:101])
            ]
        )
        stats = (await self.ask("INFO", "commandstats")).decode()
        scripts = int(re.findall(r"cmdstat_evalsha:calls=(\d+)", stats)[0])
        assert 100 < scripts < 115

    async def test_hashes_are_packed(self) -> None:
        """The hash of an owner has the compact encoding, even with the longest values."""
        address = type(HERE)("255.255.255.255", 65535)
        claim = owned("n" * 32, address=address, seq=2**53 - 1, session="s" * 64)
        await self.store.claim_owned(claim)
        encoding = await self.ask("OBJECT", "ENCODING", key_of("n" * 32, "owner"))
        assert encoding in (b"listpack", b"ziplist")

    async def test_all_expires(self) -> None:
        """Every key outside the index expires."""
        await self.do_everything(self.store)
        keys = await self.ask("KEYS", "*")
        lasting = [key for key in keys if await self.ask("TTL", key) < 0]
        assert all(key.startswith(b"p2p:{index}:") for key in lasting), lasting


class KeyTests(SynchronousTestCase):
    """Tags that could change the meaning of a key."""

    def test_hostile(self) -> None:
        """Text that could leave its braces or its line is rejected (threat 29)."""
        assert key_of("bob", "owner") == "p2p:{bob}:owner"
        for tag in ("", "a}b", "{a", "a b", "a\nb", "a\0b", "ä", "a" * 129, "*", "bob\r\n"):
            self.assertRaises(ValueError, key_of, tag, "owner")


class BatcherTests(SynchronousTestCase):
    """Questions that are batched."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[list[int]] = []
        self.answers: list[Any] = []

    def ask(self, questions: list[int]) -> Any:
        self.asked.append(questions)
        self.answers.append(Deferred())
        return self.answers[-1]

    def test_together(self) -> None:
        """All questions of one turn, or of the time until an answer, are one batch of a bounded size."""
        gathering: Batcher[int, str] = Batcher(self.clock, self.ask, 3)
        first = [gathering.add(1), gathering.add(2)]
        self.clock.advance(0)
        rest = [gathering.add(number) for number in range(3, 8)]
        self.clock.advance(0)
        assert self.asked == [[1, 2]]
        assert gathering.size == 5
        self.answers[0].callback("yes")
        assert [self.successResultOf(each) for each in first] == ["yes", "yes"]
        self.clock.advance(0)
        assert self.asked[1:] == [[3, 4, 5]]
        self.answers[1].errback(StoreUnavailable(reason="gone"))
        for each in rest[:3]:
            self.failureResultOf(each, StoreUnavailable)
        self.clock.advance(0)
        self.answers[2].callback("no")
        assert [self.successResultOf(each) for each in rest[3:]] == ["no", "no"]
        self.clock.advance(0)
        assert len(self.asked) == 3
        assert GATHER_MAX > 1

    def test_not_waiting(self) -> None:
        """Without waiting for answers, each turn has its own batches of a bounded size."""
        gathering: Batcher[int, str] = Batcher(self.clock, self.ask, 3, waits=False)
        first = [gathering.add(number) for number in range(4)]
        self.clock.pump([0, 0])
        second = gathering.add(4)
        self.clock.advance(0)
        assert self.asked == [[0, 1, 2], [3], [4]]
        self.answers[2].callback("yes")
        assert self.successResultOf(second) == "yes"
        for each in first:
            self.assertNoResult(each)
        self.answers[0].callback("no")
        self.answers[1].callback("no")
        assert [self.successResultOf(each) for each in first] == ["no"] * 4

    def test_given_up(self) -> None:
        """A question that is cancelled does not keep the others from their answers."""
        gathering: Batcher[int, str] = Batcher(self.clock, self.ask, 3)
        one, other = gathering.add(1), gathering.add(2)
        self.clock.advance(0)
        one.addErrback(lambda _: None)
        one.cancel()
        self.answers[0].callback("yes")
        assert self.successResultOf(other) == "yes"
