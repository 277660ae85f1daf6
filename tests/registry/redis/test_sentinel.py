"""Sentinels that name the primary, and others that fail."""

from __future__ import annotations

import time
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from txredisapi import RedisError

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis.connection import NOT_REDIS, Login
from p2pshare.registry.redis.link import RedisLink
from p2pshare.registry.redis.sentinel import SENTINEL_TIMEOUT, SENTINELS_MAX, SentinelEndpoint
from p2pshare.registry.redis.url import redis_at
from tests.registry.redis_server import HOST, RedisServer, free_port

clock: Any = reactor

BAD = (
    b"",  # it says nothing
    b"\xff\xfe\r\n" * 10,
    b"*1\r\n*1\r\n$9\r\nlocalhost\r\n",
    b"*2\r\n$9\r\nlocalhost\r\n$5\r\n99999\r\n",
    b"*2\r\n$0\r\n\r\n$4\r\n6379\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"*-1\r\n",
    b":6379\r\n",
)


def says(port: int) -> bytes:
    """Return the reply of a Sentinel."""
    return b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(port)), port)


class _Answering(Protocol):
    factory: FakeSentinel

    def dataReceived(self, data: bytes) -> None:
        """Reply to any command."""
        assert self.transport is not None
        self.factory.asked.append(data)
        self.transport.write(b"+OK\r\n" if b"AUTH" in data else self.factory.reply)


class FakeSentinel(Factory):
    """Sends one reply to every command."""

    protocol = _Answering  # type: ignore[assignment]
    noisy = False

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.asked: list[bytes] = []


class CancelTests(SynchronousTestCase):
    def test_cancelled(self) -> None:
        """A look-up that is cancelled while it connects ends: no other Sentinel is asked."""
        asked: list[Deferred[Any]] = []

        class Silent:
            def connect(self, _factory: Factory) -> Deferred[Any]:
                cancel = ConnectingCancelledError(cast(Any, None))
                asked.append(Deferred(lambda connecting: connecting.errback(cancel)))
                return asked[-1]

        endpoint = SentinelEndpoint(
            [(HOST, 1), (HOST, 2)],
            "names",
            lambda _host, _port: cast(Any, Silent()),
            Login(),
            MemoryReactorClock(),
        )
        connecting = endpoint.connect(Factory())
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertEqual(len(asked), 1)


class SentinelTests(TestCase):
    """A real server, and fake Sentinels."""

    def setUp(self) -> None:
        self.server = RedisServer()
        self.addCleanup(self.server.stop)
        self.server.start()
        self.observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)

    def listen(self, sentinel: FakeSentinel) -> str:
        """Start a Sentinel; return its address."""
        port = clock.listenTCP(0, sentinel, interface=HOST)
        self.addCleanup(port.stopListening)
        return f"{HOST}:{port.getHost().port}"

    def link(self, *hosts: str, options: str = "") -> RedisLink:
        url = f"redis+sentinel://{','.join(hosts)}/names{options}"
        link = RedisLink(redis_at(url, clock), clock)
        self.addCleanup(lambda: Deferred.fromCoroutine(link.stop()))
        return link

    def lines(self) -> list[str]:
        """Return the lines of the log about Sentinels."""
        said = [str(formatEvent(event)) for event in self.observer]
        return [line for line in said if line.startswith("sentinel failed:")]

    async def until_up(self, link: RedisLink) -> None:
        while True:
            try:
                await link.call("PING")
            except StoreUnavailable:
                await deferLater(clock, 0.02)
            else:
                return

    async def test_bad_ones(self) -> None:
        """Sentinels that are dead, silent or malfunctioning are skipped, and the good one is asked first afterwards."""
        good = FakeSentinel(says(self.server.port))
        bad = [FakeSentinel(reply) for reply in BAD[: SENTINELS_MAX - 2]]
        hosts = [self.listen(each) for each in (*bad, good)]
        started = time.monotonic()
        link = self.link(f"{HOST}:{free_port()}", *hosts)
        await link.start()
        self.assertLess(time.monotonic() - started, SENTINEL_TIMEOUT + 5)
        self.assertEqual(len(self.lines()), 1 + len(bad), self.lines())
        before = [len(each.asked) for each in bad]
        self.server.kill()
        self.server.start()
        await self.until_up(link)
        self.assertEqual([len(each.asked) for each in bad], before)

    async def test_none_knows(self) -> None:
        """While no Sentinel answers, calls fail, and the log has each problem once."""
        sentinels = [FakeSentinel(reply) for reply in BAD[-3:]]
        link = self.link(*[self.listen(each) for each in sentinels])
        reached = link.start()
        while len(sentinels[0].asked) < 4:
            with self.assertRaises(StoreUnavailable):
                await link.call("PING")
            await deferLater(clock, 0.02)
        self.assertEqual(len(self.lines()), 3, self.lines())
        with self.assertRaises(StoreUnavailable) as caught:
            await link.call("PING")
        self.assertIn("'names'", str(caught.exception))
        sentinels[1].reply = says(self.server.port)
        await reached
        self.assertEqual(await link.call("PING"), "PONG")

    async def test_lies(self) -> None:
        """A Sentinel that names a dead server or a replica moves to the end."""
        replica = RedisServer("--replicaof", HOST, str(self.server.port))
        self.addCleanup(replica.stop)
        replica.start()
        sentinels = [
            FakeSentinel(says(free_port())),
            FakeSentinel(says(replica.port)),
            FakeSentinel(says(self.server.port)),
        ]
        link = self.link(*[self.listen(each) for each in sentinels])
        await link.start()
        self.assertIn(b"run_id", await link.call("INFO", "server"))
        self.assertIn(b"role:master", await link.call("INFO", "replication"))

    async def test_moves(self) -> None:
        """When the Sentinels name another primary, the link moves there, even if the old one still answers."""
        other = RedisServer()
        self.addCleanup(other.stop)
        other.start()
        sentinel = FakeSentinel(says(self.server.port))
        link = self.link(self.listen(sentinel))
        await link.start()
        await link.call("SET", "old", "1")
        sentinel.reply = says(other.port)
        while True:
            try:
                if await link.call("DBSIZE") == 0:
                    break
            except StoreUnavailable:
                pass
            await deferLater(clock, 0.02)
        self.assertIn(b"tcp_port:%d" % other.port, await link.call("INFO", "server"))

    async def test_they_go(self) -> None:
        """An established link does not need Sentinels."""
        sentinel = FakeSentinel(says(self.server.port))
        link = self.link(self.listen(sentinel))
        await link.start()
        sentinel.reply = BAD[1]
        asked = len(sentinel.asked)
        while len(sentinel.asked) < asked + 2:
            self.assertEqual(await link.call("PING"), "PONG")
            await deferLater(clock, 0.05)

    async def test_password(self) -> None:
        """The Sentinels have a password of their own."""
        sentinel = FakeSentinel(says(self.server.port))
        link = self.link(self.listen(sentinel), options="?sentinel_password=s%26cret")
        await link.start()
        self.assertIn(b"s&cret", sentinel.asked[0])

    async def test_user(self) -> None:
        """They can have users as well."""
        sentinel = FakeSentinel(says(self.server.port))
        options = "?sentinel_user=ann&sentinel_password=secret"
        await self.link(self.listen(sentinel), options=options).start()
        self.assertRegex(sentinel.asked[0], rb"(?s)AUTH\r\n\$3\r\nann\r\n\$6\r\nsecret\r\n")

    async def test_may_not_ask(self) -> None:
        """Without permission for ROLE, the Sentinels are trusted."""
        told = await redis_at(self.server.url, clock).connect()
        await told.execute_command("ACL", "SETUSER", "ann", "on", ">x", "~*", "+@all", "-role")
        await told.disconnect()
        sentinel = FakeSentinel(says(self.server.port))
        link = self.link(f"ann:x@{self.listen(sentinel)}")
        await link.start()
        self.assertEqual(await link.call("ACL", "WHOAMI"), b"ann")

    async def test_names_no_server(self) -> None:
        """A primary that does not speak the protocol of Redis is reported."""
        stranger = self.listen(FakeSentinel(b"\xff\xff\r\n"))
        sentinel = FakeSentinel(says(int(stranger.partition(":")[2])))
        with self.assertRaises(RedisError) as caught:
            await redis_at(f"redis+sentinel://{self.listen(sentinel)}/names", clock).connect()
        self.assertEqual(str(caught.exception), NOT_REDIS)
