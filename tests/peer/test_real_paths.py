"""Files over UDP and TCP through a relay that blocks, cuts and rebinds, with real sockets on loopback."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from p2pshare.peer.fetch.link_change import LinkState
from p2pshare.storage.settings import Via
from p2pshare.wire.blocks import BLOCK_SIZE
from tests.peer.relay import Relay
from tests.peer.sharers import SharersTestCase, reactor

LARGE = random.Random(5).randbytes(5 * BLOCK_SIZE + 17)
FIRST_BYTE = 3.0  # seconds from the start to the first byte of a file if one carrier is blocked
RATE = 4_000_000.0  # bytes per second, so that there is a middle


class PathsTestCase(SharersTestCase):
    """A sharer behind a relay."""

    def relay(self, rate: float | None = RATE, **ways: Any) -> Relay:
        self.write("large", LARGE)
        self.sharer = self.alice(limit=rate)
        relay = Relay(self.sharer.address, **ways)
        self.addCleanup(lambda: Deferred.fromCoroutine(relay.stop()))
        return relay

    def begin(self, relay: Relay, via: Via, **limits: Any) -> Deferred[Any]:
        self._job = self.job(self.remote(lambda: relay.address, via=via, **limits), "share/large")
        return Deferred.fromCoroutine(self._job.run())

    async def reach(self, size: int) -> float:
        """Wait until so many bytes are here, and return the seconds that it took."""
        began = reactor.seconds()
        await self.until(lambda: self._job.progress.bytes_done >= size)
        return reactor.seconds() - began

    @property
    def carriers(self) -> list[str]:
        """The carriers of the sessions that opened, in order, as the user is told."""
        return [each.path.carrier for each in self.changes if each.path is not None]


class BlockedTests(PathsTestCase):
    """If one carrier is blocked, the other brings the first byte soon."""

    async def first_byte(self, carrier: str, **ways: Any) -> None:
        running = self.begin(self.relay(rate=None, **ways), Via.AUTO)
        seconds = await self.reach(1)
        await running
        self.assertEqual(self.came(), {"large": LARGE})
        self.assertEqual(self.carriers, [carrier])
        self.assertLess(seconds, FIRST_BYTE)

    async def test_udp_dropped(self) -> None:
        """If all datagrams are dropped, TCP is used."""
        await self.first_byte("tcp", udp=False)

    async def test_tcp_refused(self) -> None:
        """If TCP is refused, UDP is used."""
        await self.first_byte("udp", tcp="refused")

    async def test_tcp_silent(self) -> None:
        """If TCP is accepted and nothing follows, UDP is used."""
        await self.first_byte("udp", tcp="silent")

    async def test_tcp_dropped(self) -> None:
        """If TCP has no answer at all, UDP is used."""
        await self.first_byte("udp", tcp="dropped")


class RebindingTests(PathsTestCase):
    """A NAT changes the source port in the middle of a transfer."""

    async def test_rebinding(self) -> None:
        """The transfer goes on over the same session."""
        relay = self.relay()
        running = self.begin(relay, Via.UDP)
        for blocks in (1, 3):
            await self.reach(blocks * BLOCK_SIZE)
            relay.rebind()
        await running
        self.assertEqual(self.came(), {"large": LARGE})
        self.assertEqual(relay.mappings, 3)
        self.assertEqual(len(self.sharer.sessions), 1)
        self.assertEqual(
            [each.state for each in self.changes], [LinkState.CONNECTING, LinkState.UP]
        )


class IdleTests(PathsTestCase):
    """Sessions over UDP that are open and idle."""

    async def test_idle(self) -> None:
        """Idle sessions send nothing, and have no timers but those of their pings."""
        relay = self.relay(rate=None)
        remotes = [self.remote(lambda: relay.address, via=Via.UDP, silence=30.0) for _ in range(5)]
        for each in remotes:
            await each.list(("share",))
        await self.fetch(remotes[0], "share/large")
        await self.until(lambda: self.sharer.datagrams.is_idle)
        await deferLater(reactor, 1.0)  # a tick of the log of uploads may follow
        relay.recorded = []
        due = [each.getTime() - reactor.seconds() for each in reactor.getDelayedCalls()]
        self.assertEqual([each for each in due if each < 1.0], [])
        await deferLater(reactor, 1.0)
        self.assertEqual(relay.recorded, [])
        self.assertTrue(self.sharer.datagrams.is_idle)
        self.assertEqual(self.sharer.datagrams.connections, 5)


class ReplacedTests(PathsTestCase):
    """A path that fails in the middle is replaced by the other one, and no verified byte comes twice."""

    async def replaced(self, relay: Relay, then: str, silence: float) -> float:
        """Cut the path of the first session, and return the seconds until the other carrier has its place."""
        running = self.begin(relay, Via.AUTO, silence=silence)
        await self.reach(2 * BLOCK_SIZE)
        (first,) = self.carriers
        relay.is_udp_cut, relay.is_tcp_cut = first == "udp", first == "tcp"
        began = reactor.seconds()
        await self.until(lambda: self.carriers == [first, then])
        seconds = reactor.seconds() - began
        progress = await running
        self.assertEqual(self.came(), {"large": LARGE})
        self.assertLess(progress.bytes_fetched, len(LARGE) + BLOCK_SIZE)
        self.assertEqual(self.saved[0].fetched, len(LARGE))
        via = f"the connection to alice is back (via {then}, {relay.address})"
        self.assertEqual(str(self.changes[-1]), via)
        self.sharer.sessions[0].abort()  # the sharer would wait for it a while
        return seconds

    async def test_udp_cut(self) -> None:
        """Threat 46: TCP replaces UDP, which is given up early: its packets and probes have no answer."""
        relay = self.relay(tcp="silent")
        self.assertLess(await self.replaced(relay, "tcp", silence=6.0), 5.0)

    async def test_tcp_cut(self) -> None:
        """UDP replaces TCP after its silence."""
        relay = self.relay(udp=False)
        self.assertLess(await self.replaced(relay, "udp", silence=1.5), 4.0)
