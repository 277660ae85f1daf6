"""A primary that dies or hangs during claims: every acknowledged claim must survive (threat 20)."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.redis.store import RedisNameStore
from p2pshare.registry.redis.url import redis_at
from p2pshare.registry.store import OwnerClaim, Ownership
from p2pshare.wire.keys import SigningKey
from tests.registry.redis_server import HOST, RedisServer

clock: Any = reactor

NAMES = [f"name{number}" for number in range(30)]
CLIENTS = 12
SOME = 80  # acknowledged claims
PATIENCE = 40.0  # seconds
GRANTED = (Ownership.CLAIMED, Ownership.RENEWED)
WATCH = """
sentinel monitor names 127.0.0.1 {port} 2
sentinel down-after-milliseconds names 700
sentinel failover-timeout names 3000
"""


async def eventually(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {what}")
        await deferLater(clock, 0.05)


@dataclass(slots=True)
class Span:
    """An interval in which a key certainly owned a name: from an acknowledgement until just before its release."""

    name: str
    key: str
    start: float
    end: float = float("inf")


@dataclass(slots=True)
class History:
    """The replies that clients received."""

    spans: list[Span] = field(default_factory=list)
    acknowledged: int = 0
    unavailable: int = 0

    def contradictions(self) -> list[tuple[Span, Span]]:
        """Return the names that two keys owned at the same time."""
        return [
            (one, other)
            for one, other in combinations(self.spans, 2)
            if one.name == other.name
            and one.key != other.key
            and one.start < other.end
            and other.start < one.end
        ]


class Client:
    """A client with a key that claims and releases names in turn."""

    def __init__(self, store: RedisNameStore, history: History, number: int) -> None:
        self.going = True
        self._store = store
        self._history = history
        self._key = str(SigningKey(bytes([number]) * 32).public)
        self._seq = 0
        self._held: dict[str, Span] = {}
        self._draws = random.Random(number)

    async def run(self) -> None:
        while self.going:
            name = self._draws.choice(NAMES)
            self._seq += 1
            try:
                if name in self._held and self._draws.random() < 0.5:
                    await self._release(name)
                else:
                    await self._claim(name)
            except StoreUnavailable:
                self._history.unavailable += 1
                await deferLater(clock, 0.03)

    async def _claim(self, name: str) -> None:
        session = f"{self._seq}.session"
        outcome = await self._store.claim_owned(
            OwnerClaim(name, self._key, self._seq, f"record {self._seq}", session, None)
        )
        if outcome.ownership in GRANTED:
            self._history.acknowledged += 1
            if name not in self._held:
                self._held[name] = Span(name, self._key, time.monotonic())
                self._history.spans.append(self._held[name])
        elif name in self._held:
            raise AssertionError(f"{self._key} lost {name}: {outcome}")

    async def _release(self, name: str) -> None:
        self._held.pop(name).end = time.monotonic()
        await self._store.release_owned(name, self._key, self._seq)


class FailoverTests(TestCase):
    """A primary, a replica that must confirm each claim, and three Sentinels."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]
        self.primary = self.serve()
        master = ("--replicaof", HOST, str(self.primary.port))
        self.replica = self.serve(*master)
        watch = WATCH.format(port=self.primary.port)
        self.sentinels = [self.serve(sentinel=watch) for _ in range(3)]
        for sentinel in self.sentinels:
            await eventually(lambda: self.knows_all(sentinel), "the Sentinels know each other")  # noqa: B023
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        url = f"redis+sentinel://{hosts}/names"
        self.store = RedisNameStore(redis_at(url, clock), clock, replicas=1)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.store.stop()))
        await self.store.start()
        self.history = History()
        self.clients = [Client(self.store, self.history, number) for number in range(CLIENTS)]

    def serve(self, *options: str, sentinel: str = "") -> RedisServer:
        server = RedisServer(*options, sentinel=sentinel)
        self.addCleanup(server.stop)
        server.start()
        return server

    async def knows_all(self, sentinel: RedisServer) -> bool:
        reply = await told(sentinel, "SENTINEL", "MASTER", "names")
        state = dict(zip(reply[::2], reply[1::2], strict=True))
        return (state[b"num-other-sentinels"], state[b"num-slaves"]) == (b"2", b"1")

    async def failed_over(self) -> bool:
        ports = [
            (await told(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "names"))[1]
            for sentinel in self.sentinels
        ]
        return ports == [str(self.replica.port).encode()] * 3

    async def look_ups_work(self) -> bool:
        try:
            await self.store.look_up_peer(NAMES[0])
        except StoreUnavailable:
            return False
        return True

    async def more(self, count: int = SOME) -> None:
        """Wait for this many more acknowledged claims."""
        wanted = self.history.acknowledged + count

        async def enough() -> bool:
            return self.history.acknowledged >= wanted

        await eventually(enough, "claims are acknowledged")

    async def attempts(self, count: int) -> None:
        """Wait for this many more claims, acknowledged or refused."""

        def made() -> int:
            return self.history.acknowledged + self.history.unavailable

        wanted = made() + count

        async def enough() -> bool:
            return made() >= wanted

        await eventually(enough, "claims are tried")

    async def while_claims_are_made(self, happening: Callable[[], Awaitable[None]]) -> None:
        """Cause an event while clients claim names, then assert that all acknowledged claims exist."""
        running = [Deferred.fromCoroutine(client.run()) for client in self.clients]
        try:
            await self.more()
            await happening()
            await self.more()
        finally:
            for client in self.clients:
                client.going = False
            await gatherResults(running)
        self.assertEqual(self.history.contradictions(), [])
        now = [span for span in self.history.spans if span.end == float("inf")]
        self.assertTrue(now)
        for span in now:
            found = await self.store.look_up_peer(span.name)
            self.assertEqual(str(found and found.key), span.key, span)

    async def test_killed(self) -> None:
        """The primary dies and a replica without the last claims takes over; it grants claims once it has a replica."""

        async def happening() -> None:
            await told(self.replica, "REPLICAOF", HOST, "1")
            await self.attempts(2 * CLIENTS)
            self.primary.kill()
            await eventually(self.failed_over, "the replica is promoted")
            await eventually(self.look_ups_work, "look-ups are answered by the new primary")
            self.primary.start()

        await self.while_claims_are_made(happening)
        self.assertGreater(self.history.unavailable, 0)

    async def test_frozen(self) -> None:
        """The primary hangs and returns in the belief that it still is one: no acknowledged claim is lost."""

        async def happening() -> None:
            self.primary.freeze()
            await eventually(self.failed_over, "the replica is promoted")
            await eventually(self.look_ups_work, "look-ups are answered by the new primary")
            self.primary.thaw()

        await self.while_claims_are_made(happening)
        self.assertGreater(self.history.unavailable, 0)

    async def test_replica_dies(self) -> None:
        """The replica dies: claims are refused until it is back; look-ups continue."""

        async def happening() -> None:
            self.replica.kill()
            refused = self.history.unavailable + CLIENTS
            before = self.history.acknowledged

            async def all_refused() -> bool:
                self.assertTrue(await self.look_ups_work())
                return self.history.unavailable >= refused

            await eventually(all_refused, "claims are refused")
            self.assertLessEqual(self.history.acknowledged, before + CLIENTS)
            self.replica.start()

        await self.while_claims_are_made(happening)


async def told(server: RedisServer, *command: str) -> Any:
    """Return a server's reply to a command."""
    connection = await redis_at(server.tcp_url(), clock).connect()
    try:
        return await connection.execute_command(*command)
    finally:
        await connection.disconnect()
