"""Hostile datagrams to a welcome port during a transfer: recorded ones, changed, repeated and in any order."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from p2pshare.peer.fetch.link_change import LinkState
from p2pshare.storage.settings import Via
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.datagrams.packets import PacketType
from tests.peer.loopback import Datagrams
from tests.peer.relay import Relay
from tests.peer.sharers import HOST, SharersTestCase, reactor

LARGE = random.Random(8).randbytes(5 * BLOCK_SIZE + 1)
RATE = 3_000_000.0  # bytes per second
BURST = 30  # hostile datagrams at once
PAUSE = 0.01  # seconds between two bursts


class AttackTests(SharersTestCase):
    """An attacker who has recorded a session, somewhere else and on the path between the peers."""

    def setUp(self) -> None:
        super().setUp()
        self.rng = random.Random(9)
        self.write("large", LARGE)
        self.sharer = self.alice(limit=RATE)
        self.relay = Relay(self.sharer.address)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.relay.stop()))
        self.relay.recorded = []
        self.stranger = Datagrams()
        port = reactor.listenUDP(0, self.stranger, HOST, 8192)
        self.addCleanup(port.stopListening)
        self.hostile: list[bytes] = []

    def changed(self, datagram: bytes) -> bytes:
        """Return a datagram that nobody has sent like this, unless it is a repetition."""
        match self.rng.randrange(6):
            case 0:
                return datagram
            case 1:
                return datagram[: self.rng.randrange(1, len(datagram) + 1)]
            case 2:
                at = self.rng.randrange(len(datagram))
                return datagram[:at] + bytes([self.rng.randrange(256)]) + datagram[at + 1 :]
            case 3:
                return datagram[:8] + self.rng.randbytes(len(datagram) - 8)
            case 4:
                return datagram + self.rng.randbytes(self.rng.randrange(1, 40))
            case _:
                first = self.rng.choice((0, 3, 0x41, *PacketType, 0xE1, 0xFF))
                return bytes([first]) + self.rng.randbytes(self.rng.randrange(1300))

    def burst(self, *, on_path: bool) -> None:
        """Send some hostile datagrams, from elsewhere, or from the addresses of the two ends."""
        recorded = self.relay.recorded
        assert recorded is not None
        for _ in range(BURST):
            datagram, to_requester = self.rng.choice(recorded)
            hostile = self.changed(datagram)
            if on_path:
                self.relay.inject(hostile, to_requester)
            else:
                self.hostile.append(hostile)
                self.stranger.send(hostile, (HOST, self.sharer.address.port))

    async def attack(self, *, on_path: bool) -> None:
        """Attack the session while it carries a file; neither the file nor the session suffers."""
        job = self.job(self.remote(lambda: self.relay.address, via=Via.UDP), "share/large")
        running = Deferred.fromCoroutine(job.run())
        await self.until(lambda: job.progress.bytes_done)
        while not running.called:
            self.burst(on_path=on_path)
            await deferLater(reactor, PAUSE)
        await running
        self.assertEqual(self.came(), {"large": LARGE})
        self.assertEqual(
            [each.state for each in self.changes], [LinkState.CONNECTING, LinkState.UP]
        )
        self.assertEqual(len(self.sharer.sessions), 1)
        self.assertEqual(self.sharer.server.half_open, 0)
        self.assertEqual(self.sharer.datagrams.connections, 1)

    async def test_from_elsewhere(self) -> None:
        """Threat 41: another address gets nothing but a cookie for each OPEN, which is shorter."""
        await self.attack(on_path=False)
        opens = [each for each in self.hostile if each[0] == PacketType.OPEN]
        received = self.stranger.received
        self.assertGreater(len(self.hostile), 1000)
        self.assertEqual({each[0] for each in received} - {PacketType.COOKIE}, set())
        self.assertLessEqual(len(received), len(opens))
        self.assertLessEqual(sum(map(len, received)), sum(map(len, opens)))

    async def test_on_the_path(self) -> None:
        """Threat 41: copies and forgeries that come from the addresses of the two ends change nothing either."""
        await self.attack(on_path=True)
