"""The contract of carriers: the same tests over TCP on the loopback interface and over a wire in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.endpoints import TCP4ServerEndpoint, connectProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from p2pshare.net.session.interfaces import Carrier
from p2pshare.net.session.tcp import FILE_READ, TcpCarrier, TcpCarriers
from p2pshare.net.sockets import client_endpoint
from p2pshare.testing.sessions import Wire
from p2pshare.wire.addresses import PeerAddress

reactor: Any = global_reactor
MUCH = bytes(range(256)) * 4096  # more than any carrier takes until it is full


class End:
    """The user of one carrier, which records its events."""

    carrier: Carrier

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = bytearray()

    def connected(self, carrier: Carrier) -> None:
        self.events.append("connected")
        self.carrier = carrier

    def received(self, data: bytes) -> None:
        assert "closed" not in self.events
        self.data += data

    def writable(self) -> None:
        self.events.append("writable")

    def closed(self) -> None:
        self.events.append("closed")

    @property
    def is_closed(self) -> bool:
        return "closed" in self.events


class CarrierContract:
    """The contract: a subclass connects `near` and `far`, and lets bytes move."""

    near: End
    far: End

    async def connect(self) -> None:
        raise NotImplementedError

    async def until(self, condition: Callable[[], object]) -> None:
        raise NotImplementedError

    async def settled(self: Any) -> None:
        """Connect, and wait until both ends know it."""
        self.near, self.far = End(), End()
        await self.connect()
        await self.until(lambda: self.near.events and self.far.events)

    async def test_addresses(self: Any) -> None:
        """Each end knows both addresses."""
        await self.settled()
        near, far = self.near.carrier, self.far.carrier
        self.assertEqual((near.local, near.remote), (far.remote, far.local))
        self.assertNotEqual(near.local, near.remote)

    async def test_order(self: Any) -> None:
        """Bytes arrive at both ends in the order in which they were sent."""
        await self.settled()
        for n in range(100):
            self.near.carrier.send(bytes([n]) * n)
            self.far.carrier.send(bytes([n]))
        await self.until(lambda: len(self.near.data) == 100 and len(self.far.data) == 4950)
        self.assertEqual(self.far.data, b"".join(bytes([n]) * n for n in range(100)))
        self.assertEqual(self.near.data, bytes(range(100)))

    async def test_full(self: Any) -> None:
        """A carrier that has much to send is full until all of it has gone out; what is sent then is not lost."""
        await self.settled()
        self.far.carrier.pause()
        for _ in range(64):
            if not self.near.carrier.is_full:
                self.near.carrier.send(MUCH)
        self.assertTrue(self.near.carrier.is_full)
        self.assertEqual(self.near.events, ["connected"])
        self.near.carrier.send(b"and more")
        self.far.carrier.resume()
        await self.until(lambda: self.far.data.endswith(b"and more"))
        await self.until(lambda: not self.near.carrier.is_full)
        self.assertEqual(self.near.events, ["connected", "writable"])

    async def test_pause(self: Any) -> None:
        """A paused end receives nothing, and all of it once it resumes; it can send meanwhile."""
        await self.settled()
        self.far.carrier.pause()
        self.near.carrier.send(b"wait")
        self.far.carrier.send(b"go")
        await self.until(lambda: self.near.data == b"go")
        self.assertEqual(self.far.data, b"")
        self.far.carrier.resume()
        await self.until(lambda: self.far.data == b"wait")

    async def test_half_close(self: Any) -> None:
        """After a half-close all that was sent arrives, and this end still receives until the other end closes."""
        await self.settled()
        self.near.carrier.send(MUCH)
        self.far.carrier.send(MUCH)
        self.near.carrier.half_close()
        await self.until(lambda: self.near.is_closed and self.far.is_closed)
        self.assertEqual(self.far.data, MUCH)

    async def test_close(self: Any) -> None:
        """All that was sent before a close arrives, and both ends are closed."""
        await self.settled()
        self.near.carrier.send(MUCH)
        self.near.carrier.close()
        await self.until(lambda: self.near.is_closed and self.far.is_closed)
        self.assertEqual(self.far.data, MUCH)

    async def test_abort(self: Any) -> None:
        """An abort closes both ends, but not within the call, and what waits is dropped."""
        await self.settled()
        self.far.carrier.pause()
        for _ in range(64):
            self.near.carrier.send(MUCH)
        self.near.carrier.abort()
        self.assertFalse(self.near.is_closed)
        self.far.carrier.resume()
        await self.until(lambda: self.near.is_closed and self.far.is_closed)
        self.assertLess(len(self.far.data), 64 * len(MUCH))

    async def test_closed_once(self: Any) -> None:
        """However often an end is closed, it hears of that once, and last."""
        await self.settled()
        for close in ("close", "abort", "abort"):
            getattr(self.near.carrier, close)()
        await self.until(lambda: self.near.is_closed and self.far.is_closed)
        self.near.carrier.abort()
        for end in (self.near, self.far):
            self.assertEqual((end.events.count("closed"), end.events[-1]), (1, "closed"))


class TcpTests(CarrierContract, TestCase):
    timeout = 20
    host = "127.0.0.1"

    async def connect(self) -> None:
        endpoint = TCP4ServerEndpoint(reactor, 0, interface=self.host)
        port = await endpoint.listen(TcpCarriers(lambda _: self.far))
        self.addCleanup(port.stopListening)
        address = PeerAddress(self.host, port.getHost().port)
        await connectProtocol(
            client_endpoint(reactor, address, 5.0), TcpCarrier(self.near, FILE_READ)
        )
        self.addCleanup(self.end)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await deferLater(reactor, 0)

    async def end(self) -> None:
        for end in (self.near, self.far):
            end.carrier.abort()
        await self.until(lambda: self.near.is_closed and self.far.is_closed)


class MemoryTests(CarrierContract, TestCase):
    async def connect(self) -> None:
        self.wire = Wire(self.near, self.far)
        self.wire.connect()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            assert self.wire.carry(), "nothing moves any more"
