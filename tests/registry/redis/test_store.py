"""The store in a real Redis, which is sometimes away."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2pshare.errors import StoreRecovering, StoreUnavailable
from p2pshare.registry.redis.connection import REPLY_TIMEOUT, RedisConnector
from p2pshare.registry.redis.index import Leases
from p2pshare.registry.redis.index_scripts import ENTER, LAPSE, NOTE, OPEN, PAGE
from p2pshare.registry.redis.link import CALL_TIMEOUT, RETRY_MAX
from p2pshare.registry.redis.scripts import CLAIM
from p2pshare.registry.redis.store import RedisNameStore
from p2pshare.registry.redis.url import redis_at
from p2pshare.registry.store import Claim, Outcome
from p2pshare.wire.registry_answers import OWNERSHIP_LEASE, PRESENCE_LEASE, SESSION_LIFE
from tests.registry.owned_contract import OwnedNamesContract, owned
from tests.registry.redis_server import RedisServer
from tests.registry.store_contract import HERE, MINE, THERE, NameStoreContract

clock: Any = reactor


class WithRedis(TestCase):
    """A new store on a new Redis."""

    entry_grace = 60.0
    lapse_delay = 1.2

    async def setUp(self) -> None:  # type: ignore[override]
        self.server = RedisServer()
        self.addCleanup(self.server.stop)
        self.server.start()
        self.store = await self.make_store()

    async def make_store(self, **options: Any) -> RedisNameStore:
        """Return another store on the same Redis."""
        seconds = {
            "presence": PRESENCE_LEASE,
            "ownership": OWNERSHIP_LEASE,
            "entry_grace": self.entry_grace,
        }
        for name in seconds:
            seconds[name] = options.pop(name, seconds[name])
        leases = Leases(**{name: round(1000 * each) for name, each in seconds.items()})
        store = RedisNameStore(redis_at(self.server.url, clock), clock, leases=leases, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(store.stop()))
        await store.start()
        return store

    async def use_leases(self, presence: float, ownership: float = 3600) -> None:
        await self.store.stop()
        self.store = await self.make_store(presence=presence, ownership=ownership, entry_grace=0)

    async def lose(self) -> None:
        await self.ask("FLUSHALL")

    async def ask(self, *command: object) -> Any:
        """Return the reply of Redis."""
        other = await redis_at(self.server.url, clock).connect()
        try:
            return await other.execute_command(*command)
        finally:
            await other.disconnect()

    async def wait_until_up(self) -> None:
        while True:
            try:
                return await self.store.ping()
            except StoreUnavailable:
                await deferLater(clock, 0.02)

    async def pass_time(self, seconds: float) -> None:
        await deferLater(clock, seconds)


class RedisNameStoreTests(WithRedis, NameStoreContract, OwnedNamesContract):  # type: ignore[misc]
    """The real store fulfils the contract."""

    async def test_look_ups_of_one_turn(self) -> None:
        """Simultaneous look-ups get their own answers."""
        await self.store.claim(Claim("bob", HERE, 60))
        await self.store.claim(Claim("eve", THERE, 60))
        found = await gatherResults(
            [self.store.look_up(name) for name in ("eve", "nobody", "bob", "eve")]
        )
        self.assertEqual(found, [THERE, None, HERE, THERE])

    async def test_unknown_script(self) -> None:
        """If Redis has forgotten the scripts, they are sent again."""
        await self.store.claim(Claim("bob", HERE, 60))
        other = await redis_at(self.server.url, clock).connect()
        await other.execute_command("SCRIPT", "FLUSH")
        self.assertIs(await self.store.claim(Claim("bob", HERE, 60)), Outcome.RENEWED)
        await other.disconnect()

    async def everything(self) -> bytes:
        """Return all keys of Redis and their contents."""
        reads: dict[str, tuple[object, ...]] = {
            "string": ("GET",), "hash": ("HGETALL",), "zset": ("ZRANGE", 0, -1), "stream": ("XRANGE", "-", "+"),
        }  # fmt: skip
        found: list[object] = []
        for key in await self.ask("KEYS", "*"):
            command, *arguments = reads[await self.ask("TYPE", key)]
            found.append((key, await self.ask(command, key, *arguments)))
        return repr(found).encode()

    async def test_addresses_are_forgotten(self) -> None:
        """Redis has no address of a peer that has left or released its name; that of a peer that vanished expires."""
        claim = owned(address=HERE, location="location-1")
        for leaves in (True, False):
            await self.store.claim_owned(replace(claim, seq=claim.seq + leaves))
            held = await self.everything()
            self.assertIn(b"10.0.0.5", held)
            self.assertIn(b"location-1", held)
            ttl = await self.ask("TTL", "p2p:{bob}:location")
            self.assertTrue(SESSION_LIFE < ttl <= SESSION_LIFE + PRESENCE_LEASE, ttl)
            if leaves:
                self.assertTrue(await self.store.beat("bob", claim.session, 1, online=False))
            else:
                await self.store.release_owned("bob", claim.key, 200)
            held = await self.everything()
            self.assertNotIn(b"10.0.0.5", held)
            self.assertNotIn(b"location-1", held)
            claim = replace(claim, seq=101)

    async def test_homes_of_rooms(self) -> None:
        """The first worker is the home of a room until it is replaced or forgotten; its time is never shortened."""
        home = self.store.room_home
        self.assertEqual([await home("a", "1", 60), await home("a", "2", 60)], ["1", "1"])
        self.assertEqual(await home("a", "2", 60, "3"), "1")
        self.assertEqual(await home("a", "2", 0.05, "1"), "2")
        self.assertEqual(await home("b", "3", 0.05), "3")
        await self.pass_time(0.1)
        self.assertEqual([await home("a", "1", 60), await home("b", "1", 60)], ["2", "1"])

    async def test_token_is_not_kept(self) -> None:
        """Redis stores the address and the proof of a name, not its token."""
        await self.store.claim(Claim("bob", HERE, 60, MINE))
        other = await redis_at(self.server.url, clock).connect()
        self.assertEqual(
            await other.execute_command("GET", "p2p:{bob}:classic"),
            f"10.0.0.5 50000 {MINE}".encode(),
        )
        self.assertTrue(0 < await other.execute_command("PTTL", "p2p:{bob}:classic") <= 60_000)
        await other.disconnect()


class SweepTests(WithRedis):
    """The index stays small, and never loses live names."""

    entry_grace = 0.0

    async def test_dead_leave_the_index(self) -> None:
        """A sweep removes a released name and keeps a live one."""
        await self.store.claim(Claim("dead", HERE, 60, MINE))
        await self.store.claim(Claim("dead", HERE, 0, MINE))
        await self.store.claim(Claim("live", HERE, 60))
        await self.pass_time(0.01)
        await self.store.sweep()
        other = await redis_at(self.server.url, clock).connect()
        indexed = await other.execute_command("ZRANGE", "p2p:{index}:names", 0, -1)
        checks = await other.execute_command("ZRANGE", "p2p:{index}:checks", 0, -1)
        await other.disconnect()
        self.assertEqual(indexed, [b"live"])
        self.assertEqual(checks, [b"live"])
        self.assertEqual((await self.store.page()).names, ["live"])

    async def test_many(self) -> None:
        """A sweep removes more names than fit into one step."""
        for number in range(250):
            await self.store.claim(Claim(f"n{number}", HERE, 60, MINE))
            await self.store.claim(Claim(f"n{number}", HERE, 0, MINE))
        await self.pass_time(0.01)
        await self.store.sweep()
        other = await redis_at(self.server.url, clock).connect()
        self.assertEqual(await other.execute_command("ZCARD", "p2p:{index}:names"), 0)
        await other.disconnect()


class AwayTests(WithRedis):
    """Redis goes away and comes back."""

    async def expect_away(self) -> float:
        started = time.monotonic()
        for call in (
            lambda: self.store.look_up("bob"),
            lambda: self.store.claim(Claim("bob", HERE, 60)),
            lambda: self.store.page(),
            lambda: self.store.ping(),
        ):
            with self.assertRaises(StoreUnavailable):
                await call()
        return time.monotonic() - started

    async def test_killed_and_back(self) -> None:
        """Calls fail soon, then at once; when Redis is back, they succeed."""
        self.server.kill()
        self.assertLess(await self.expect_away(), 4.0)
        self.assertLess(await self.expect_away(), 1.0)
        self.server.start()
        started = time.monotonic()
        await self.wait_until_up()
        self.assertLess(time.monotonic() - started, 5.0)
        with self.assertRaises(StoreRecovering):
            await self.store.claim(Claim("bob", HERE, 60))

    async def test_frozen_and_thawed(self) -> None:
        """A silent Redis counts as away."""
        self.server.freeze()
        self.assertLess(await self.expect_away(), 4.0)
        self.server.thaw()
        await self.wait_until_up()
        self.assertIs(await self.store.claim(Claim("bob", HERE, 60)), Outcome.CLAIMED)

    async def test_frozen_for_long(self) -> None:
        """The same applies if a new connection cannot even select its database."""
        store = RedisNameStore(redis_at(f"{self.server.url}?db=1", clock), clock)
        await store.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(store.stop()))
        self.server.freeze()
        with self.assertRaises(StoreUnavailable):
            await store.look_up("bob")
        await self.pass_time(REPLY_TIMEOUT + 0.5)
        self.server.thaw()
        await self.pass_time(REPLY_TIMEOUT + RETRY_MAX)
        self.assertIs(await store.claim(Claim("bob", HERE, 60)), Outcome.CLAIMED)

    async def test_away_from_the_start(self) -> None:
        """A store whose Redis was never reached fails each call, and can be stopped."""
        store = RedisNameStore(redis_at("unix:///nonexistent/redis.sock", clock), clock)
        store.start()
        with self.assertRaises(StoreUnavailable):
            await store.look_up("bob")
        await store.stop()


class SlowRedis:
    """Connects to itself, and answers every command after a delay, as long as there are replies left."""

    def __init__(self, clock: Clock, replies: dict[str, Any], delay: float) -> None:
        self.clock, self.replies, self.delay = clock, replies, delay
        self.connected: Deferred[None] = succeed(None)
        self.gone: Deferred[None] = Deferred()
        self.shown = "Redis"
        self.why = ""
        self.answers = 100
        self.asked = 0

    async def connect(self) -> SlowRedis:
        await self.connected
        return self

    def drop(self) -> None:
        """See `RedisProtocol`."""

    def execute_command(self, command: str, *_arguments: object) -> Deferred[Any]:
        self.asked += 1
        self.answers -= 1
        if self.answers < 0:
            return Deferred()
        return deferLater(self.clock, self.delay, lambda: self.replies[command])

    def eval(self, script: str, _keys: object, _arguments: object) -> Deferred[Any]:
        return self.execute_command(script)


class SlowTests(SynchronousTestCase):
    """A slow Redis, in virtual time."""

    def setUp(self) -> None:
        self.clock = Clock()
        marker = b"mark 1 first"
        scripts = {OPEN: marker, ENTER: marker + b"\n0", NOTE: marker, LAPSE: b"0"}
        names = {PAGE: b"bob", "EXISTS": 0, "MGET": [b"10.0.0.5 50000 -"], CLAIM: b"claimed 1 2"}
        replies = scripts | names
        self.redis = SlowRedis(self.clock, replies, 0.0)
        self.store = RedisNameStore(cast(RedisConnector, self.redis), self.clock)
        started = self.store.start()
        self.clock.pump([0.0] * 3)
        self.successResultOf(started)

    def time_of(self, running: Any) -> float:
        """Return the seconds until a call fails as unavailable."""
        started = self.clock.seconds()
        call = ensureDeferred(running)
        call.addErrback(lambda failure: failure.trap(StoreUnavailable))
        while not call.called:
            self.clock.advance(0.1)
        self.assertIs(self.successResultOf(call), StoreUnavailable)
        return self.clock.seconds() - started

    def test_page(self) -> None:
        """A page that needs three commands has one deadline."""
        self.redis.delay = 0.8
        self.assertLess(self.time_of(self.store.page()), 2)

    def test_slow_is_not_away(self) -> None:
        """Slow replies to one call do not make the next call fail."""
        self.redis.delay = CALL_TIMEOUT * 0.6
        self.assertLess(self.time_of(self.store.claim(Claim("bob", HERE, 60))), 2)
        self.redis.delay = 0.1
        looking = self.store.look_up("bob")
        self.clock.pump([0.1] * 3)
        self.assertEqual(self.successResultOf(looking), HERE)

    def test_silent_is_away(self) -> None:
        """A Redis that is silent for the time of a whole call gets no more commands."""
        self.redis.answers = 0
        self.redis.connected = Deferred()
        self.assertLess(self.time_of(self.store.look_up("bob")), 2)
        asked = self.redis.asked
        self.assertLess(self.time_of(self.store.claim(Claim("bob", HERE, 60))), 0.2)
        self.assertEqual(self.redis.asked, asked)
        self.redis.answers = 100
        self.redis.connected.callback(None)
        looking = self.store.look_up("bob")
        self.clock.pump([0.1] * 3)
        self.assertEqual(self.successResultOf(looking), HERE)
