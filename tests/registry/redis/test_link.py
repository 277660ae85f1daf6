"""The link to Redis: connections that are lost and replaced, and replicas that have to confirm."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis.link import RedisLink
from p2pshare.registry.redis.url import redis_at
from tests.registry.redis_server import RedisServer

clock: Any = reactor

SET = "redis.call('SET', KEYS[1], ARGV[1]) return 'done'"
GET = "return redis.call('GET', KEYS[1])"


class WithLink(TestCase):
    """Servers and links that are stopped after the test."""

    def server(self, *options: str) -> RedisServer:
        server = RedisServer(*options)
        self.addCleanup(server.stop)
        server.start()
        return server

    def link(self, url: str, replicas: int = 0) -> RedisLink:
        link = RedisLink(redis_at(url, clock), clock, replicas=replicas)
        self.addCleanup(lambda: Deferred.fromCoroutine(link.stop()))
        return link

    async def until(self, succeeds: Any, patience: float = 20.0) -> Any:
        """Call until it does not fail as unavailable; return its result."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return await succeeds()
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
                await deferLater(clock, 0.02)

    async def unavailable(self, call: Awaitable[Any]) -> str:
        """Return the reason why a call fails."""
        with self.assertRaises(StoreUnavailable) as caught:
            await call
        return str(caught.exception)


class PreparationTests(WithLink):
    """The preparation of each connection."""

    async def test_first(self) -> None:
        """Before the preparation has ended, only its own calls pass."""
        link = self.link(self.server().url)
        go: Deferred[None] = Deferred()
        seen = []

        async def prepare() -> None:
            await gatherResults([Deferred.fromCoroutine(link.call("SET", "marker", "1"))])
            await go
            seen.append(await link.run(GET, ["marker"]))

        link.on_connected = prepare
        reached = link.start()
        await deferLater(clock, 0.2)
        await self.unavailable(link.call("PING"))
        self.assertEqual(seen, [])
        go.callback(None)
        await reached
        self.assertEqual((seen, await link.call("PING")), ([b"1"], "PONG"))

    async def test_each(self) -> None:
        """Each connection is prepared, even if no call noticed that the last one was lost."""
        server = self.server()
        link = self.link(server.url)
        prepared = []

        async def prepare() -> None:
            prepared.append(await link.call("DBSIZE"))

        link.on_connected = prepare
        await link.start()
        await link.call("SET", "some", "thing")
        server.kill()
        server.start()
        while len(prepared) < 2:
            await deferLater(clock, 0.02)
        self.assertEqual(prepared, [0, 0])
        await self.until(lambda: link.call("PING"))

    async def test_fails(self) -> None:
        """While it fails, Redis counts as away for its reason, and it is retried."""
        link = self.link(self.server().url)
        failures = 3

        async def prepare() -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise StoreUnavailable(reason="the marker is wrong")

        link.on_connected = prepare
        link.start()
        await deferLater(clock, 0.1)
        self.assertIn("the marker is wrong", await self.unavailable(link.call("PING")))
        self.assertEqual(await self.until(lambda: link.call("PING")), "PONG")
        self.assertEqual(failures, -1)


class ServerTests(WithLink):
    """Servers in a wrong state, or with a wrong configuration."""

    async def test_demoted(self) -> None:
        """The connection to a primary that has become a replica is replaced."""
        server = self.server("--replica-serve-stale-data", "yes")
        link = self.link(server.url)
        await link.start()
        other = await redis_at(server.url, clock).connect()
        await other.execute_command("REPLICAOF", "127.0.0.1", "1")
        self.assertIn("READONLY", await self.unavailable(link.run(SET, ["a"], "1")))
        self.assertIn("READONLY", await self.unavailable(link.call("PING")))
        await other.execute_command("REPLICAOF", "NO", "ONE")
        self.assertEqual(await self.until(lambda: link.run(SET, ["a"], "1")), b"done")
        await other.disconnect()

    async def test_refusal(self) -> None:
        """A refused command fails alone, and is logged once."""
        link = self.link(self.server().url)
        await link.start()
        observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
        for _ in range(3):
            self.assertIn("unknown", await self.unavailable(link.call("NONSENSE")))
        self.assertEqual(await link.call("PING"), "PONG")
        refused = [each for each in observer if "refused" in each["log_format"]]
        self.assertEqual(len(refused), 1)

    async def test_too_few_replicas(self) -> None:
        """A primary with too few replicas refuses writes only: the connection stays."""
        link = self.link(self.server("--min-replicas-to-write", "1").url)
        prepared = []

        async def prepare() -> None:
            prepared.append(await link.call("PING"))

        link.on_connected = prepare
        await link.start()
        for _ in range(3):
            self.assertIn("NOREPLICAS", await self.unavailable(link.run(SET, ["a"], "1")))
            self.assertIsNone(await link.run(GET, ["a"]))
        self.assertEqual(prepared, ["PONG"])

    async def test_wrong_password(self) -> None:
        """A refused login is one line in the log, and is retried until it succeeds."""
        server = self.server()
        other = await redis_at(server.url, clock).connect()
        await other.execute_command("CONFIG", "SET", "requirepass", "right")
        observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
        link = self.link(server.tcp_url("user:secret@"))
        link.start()
        while not observer:
            await deferLater(clock, 0.02)
        (line,) = map(formatEvent, observer)
        self.assertIn("WRONGPASS", line)
        self.assertNotIn("secret", line)
        await other.execute_command("ACL", "SETUSER", "user", "on", ">secret", "~*", "+@all")
        self.assertEqual(await self.until(lambda: link.call("PING")), "PONG")
        await other.disconnect()


class ReplicaTests(WithLink):
    """Claims that replicas have to confirm."""

    async def pair(self, replicas: int = 1) -> tuple[RedisServer, RedisServer, RedisLink]:
        primary = self.server()
        replica = self.server(
            "--replicaof", "127.0.0.1", str(primary.port), "--repl-diskless-sync-delay", "0"
        )
        link = self.link(primary.url, replicas)
        await link.start()
        return primary, replica, link

    async def test_acknowledged(self) -> None:
        """A replica has every acknowledged claim, and many claims share a WAIT."""
        _primary, replica, link = await self.pair()
        await self.until(lambda: link.run_acknowledged(SET, ["first"], "1"))
        before = await self.waits(link)
        claims = [
            Deferred.fromCoroutine(link.run_acknowledged(SET, [f"k{number}"], number))
            for number in range(200)
        ]
        self.assertEqual(set(await gatherResults(claims)), {b"done"})
        self.assertLess(await self.waits(link) - before, 100)
        copy = await redis_at(replica.url, clock).connect()
        self.assertEqual(await copy.execute_command("DBSIZE"), 202)
        await copy.disconnect()

    async def waits(self, link: RedisLink) -> int:
        stats = (await link.call("INFO", "commandstats")).decode()
        (line,) = (line for line in stats.split() if line.startswith("cmdstat_wait:"))
        return int(line.partition("calls=")[2].partition(",")[0])

    async def test_too_few(self) -> None:
        """Without its replica a claim fails within 2 s; other calls are not affected."""
        _primary, replica, link = await self.pair()
        await self.until(lambda: link.run_acknowledged(SET, ["a"], "1"))
        replica.freeze()
        started = time.monotonic()
        claims = [link.in_time(link.run_acknowledged(SET, ["a"], number)) for number in range(20)]
        self.assertEqual(await link.call("PING"), "PONG")
        self.assertLess(time.monotonic() - started, 0.5)
        reasons = [await self.unavailable(claim) for claim in claims]
        self.assertIn(
            "0 of 1", reasons[0]
        )  # a claim that has to wait for two counts may run out of time
        self.assertLess(time.monotonic() - started, 5.0)  # one after the other, they take 16 s
        self.assertEqual(await link.run(GET, ["a"]), b"19")
        replica.thaw()
        self.assertEqual(await self.until(lambda: link.run_acknowledged(SET, ["a"], "2")), b"done")

    async def test_what_another_wrote(self) -> None:
        """A claim that only reads is not acknowledged while a replica lacks what it has read."""
        _primary, replica, link = await self.pair()
        await self.until(lambda: link.run_acknowledged(SET, ["a"], "1"))
        replica.freeze()
        await link.call("SET", "a", "2")
        self.assertIn("0 of 1", await self.unavailable(link.run_acknowledged(GET, ["a"])))
        replica.thaw()

    async def test_killed(self) -> None:
        """Pending claims fail at once when the primary dies."""
        primary, replica, link = await self.pair()
        await self.until(lambda: link.run_acknowledged(SET, ["a"], "1"))
        replica.freeze()
        claims = [link.in_time(link.run_acknowledged(SET, ["a"], "2")) for _ in range(5)]
        await deferLater(clock, 0.1)
        started = time.monotonic()
        primary.kill()
        for claim in claims:
            await self.unavailable(claim)
        self.assertLess(time.monotonic() - started, 0.5)
        replica.thaw()

    async def test_demoted(self) -> None:
        """Pending claims fail when the primary becomes a replica, and the link reconnects."""
        primary, replica, link = await self.pair()
        await self.until(lambda: link.run_acknowledged(SET, ["a"], "1"))
        replica.freeze()
        claim = link.in_time(link.run_acknowledged(SET, ["a"], "2"))
        other = await redis_at(primary.url, clock).connect()
        while b"blocked_clients:1" not in await other.execute_command("INFO", "clients"):
            await deferLater(clock, 0.01)
        await other.execute_command("REPLICAOF", "127.0.0.1", "1")
        self.assertIn("UNBLOCKED", await self.unavailable(claim))
        self.assertIn("UNBLOCKED", await self.unavailable(link.call("PING")))
        replica.thaw()
        await other.execute_command("REPLICAOF", "NO", "ONE")
        await self.until(lambda: link.run_acknowledged(SET, ["a"], "3"))
        await other.disconnect()

    async def test_none_wanted(self) -> None:
        """Without replicas a claim is acknowledged at once."""
        link = self.link(self.server().url)
        await link.start()
        self.assertEqual(await link.run_acknowledged(SET, ["a"], "1"), b"done")
