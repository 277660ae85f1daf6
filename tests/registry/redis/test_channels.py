"""Messages between processes, through a real Redis."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis.channels import SUBSCRIBE_MAX, RedisChannels
from p2pshare.registry.redis.link import RedisLink
from p2pshare.registry.redis.url import redis_at
from tests.registry.redis_server import RedisServer

clock: Any = reactor
DOCUMENT = Path(__file__).parents[3] / "docs" / "redis.md"


class ChannelsTests(TestCase):
    """Two processes."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.server = RedisServer()
        self.addCleanup(self.server.stop)
        self.server.start()
        self.one, self.other = await self.process(self.server.url), await self.process()
        self.heard: list[bytes] = []

    async def process(self, url: str = "") -> RedisChannels:
        connector = redis_at(url or self.server.url, clock)
        link = RedisLink(connector, clock)
        channels = RedisChannels(connector, link, clock)
        self.addCleanup(lambda: Deferred.fromCoroutine(link.stop()))
        self.addCleanup(channels.stop)
        await link.start()
        return channels

    async def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline
            await deferLater(clock, 0.01)

    async def test_messages(self) -> None:
        """A message arrives in every process that is subscribed, also the sender's, in order, byte by byte."""
        self.assertEqual(await self.one.publish("a:b@c", b"nobody"), 0)
        other: list[bytes] = []
        await self.one.subscribe("a:b@c", self.heard.append)
        await self.other.subscribe("a:b@c", other.append)
        messages = [b"", b"\r\n\0\xff", b"x" * 6000, b"[]", b"1"]
        for each in messages:
            self.assertEqual(await self.one.publish("a:b@c", each), 2)
        await self.until(lambda: len(self.heard) == len(other) == len(messages))
        self.assertEqual((self.heard, other), (messages, messages))

    async def test_unsubscribed(self) -> None:
        """After `unsubscribe` nothing arrives; the channel can be taken again at once."""
        await self.one.subscribe("a", self.heard.append)
        self.one.unsubscribe("a")
        self.one.unsubscribe("never")
        await self.one.subscribe("b", self.heard.append)
        self.assertEqual(await self.other.publish("a", b"x"), 0)
        for _ in range(3):
            self.one.unsubscribe("b")
            await self.one.subscribe("b", self.heard.append)
        await self.other.publish("b", b"y")
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, [b"y"])

    async def test_lost(self) -> None:
        """When the connection is lost, all channels are subscribed again, and waiting subscriptions with them."""
        for number in range(SUBSCRIBE_MAX + 10):
            await self.one.subscribe(f"c{number}", self.heard.append)
        self.server.kill()
        waiting = self.one.subscribe("new", self.heard.append)
        with self.assertRaises(StoreUnavailable):
            await self.other.publish("c0", b"x")
        self.server.start()
        await waiting

        async def publish(channel: str) -> bool:
            try:
                return await self.other.publish(channel, channel.encode()) == 1
            except StoreUnavailable:
                return False

        for channel in ("c0", f"c{SUBSCRIBE_MAX + 9}", "new"):
            while not await publish(channel):
                await deferLater(clock, 0.02)
        await self.until(lambda: len(self.heard) == 3)

    async def test_documented_rights(self) -> None:
        """The rights of the documented user are enough."""
        (rights,) = re.findall(r"ACL SETUSER registry on >PASSWORD (.*)", DOCUMENT.read_text())
        await self.other._link.call("ACL", "SETUSER", "registry", "on", ">pw", *rights.split())
        limited = await self.process(f"unix://registry:pw@{self.server.path}")
        await limited.subscribe("a", self.heard.append)
        self.assertEqual(await limited.publish("a", b"x"), 1)
        await self.until(lambda: self.heard == [b"x"])
        limited.unsubscribe("a")
        await limited.subscribe("b", self.heard.append)

    async def test_forbidden(self) -> None:
        """A user that may not subscribe costs no more than new tries."""
        self.one.stop()
        user = ["ACL", "SETUSER", "poor", "on", ">pw", "~p2p:*", "+@connection", "+publish"]
        await self.other._link.call(*user)
        poor = await self.process(f"unix://poor:pw@{self.server.path}")
        observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        waiting = poor.subscribe("a", self.heard.append)
        await deferLater(clock, 0.3)
        self.assertFalse(waiting.called)
        await self.until(lambda: any("NOPERM" in str(formatEvent(each)) for each in observer))
        await self.other._link.call("ACL", "SETUSER", "poor", "&p2p:*", "+subscribe")
        await waiting
