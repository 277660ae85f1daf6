"""The contract of channels: the same tests over TCP, UDP and a relay on loopback, and over a wire in memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, connectProtocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from p2pshare.core.ranges import RangeSet
from p2pshare.net.session.datagrams import DatagramSessions
from p2pshare.net.session.interfaces import Channel
from p2pshare.net.session.stream import UNREAD_MAX, StreamChannel
from p2pshare.net.session.tcp import FILE_READ, TcpCarrier, TcpCarriers
from p2pshare.net.session.tls import SessionTls
from p2pshare.net.sockets import client_endpoint
from p2pshare.testing.sessions import Wire
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.frames import PIECE_MAX, control_frame
from p2pshare.wire.keys import PublicKey
from tests.net.session_pairs import ALICE, BOB, EVE
from tests.registry.relay.server import RelayServer

reactor: Any = global_reactor
MUCH = bytes(range(256)) * (PIECE_MAX // 256)
PIECES = 16  # of `MUCH`: more than any channel takes until it is full
ROOM = 256 * 1024  # bytes read at once


class End:
    """The user of one channel: it places pieces by their offsets, and records everything else."""

    channel: Channel

    def __init__(self) -> None:
        self.events: list[str] = []
        self.key: PublicKey | None = None
        self.bodies: list[bytes] = []
        self.files: dict[int, bytearray] = {}
        self.arrived: dict[int, RangeSet] = {}
        self.sizes: dict[int, int] = {}
        self.reason: str | None = None
        self.reads_alone = True
        """Whether everything is read as it arrives."""
        self.on_body: Callable[[bytes], object] = lambda _: None

    def connected(self, channel: Channel) -> None:
        assert self.events == []
        self.events.append("connected")
        self.channel = channel

    def secured(self, key: PublicKey) -> None:
        assert self.events == ["connected"]
        self.events.append("secured")
        self.key = key

    def readable(self) -> None:
        assert not self.is_closed
        if self.reads_alone:
            self.read_all()

    def read_all(self) -> None:
        while self.channel.read(ROOM):
            pass

    def control_received(self, body: bytes) -> None:
        assert not self.is_closed
        self.bodies.append(body)
        self.on_body(body)

    def piece_received(self, transfer: int, offset: int, data: memoryview) -> None:
        assert not self.is_closed
        file, end = self.files.setdefault(transfer, bytearray()), offset + len(data)
        file.extend(bytes(max(0, end - len(file))))
        file[offset:end] = data
        self.arrived.setdefault(transfer, RangeSet()).add(offset, end)

    def size_received(self, transfer: int, size: int) -> None:
        assert transfer not in self.arrived
        self.sizes[transfer] = size

    def fin_received(self, transfer: int) -> Sequence[tuple[int, int]]:
        ranges = self.arrived.get(transfer, RangeSet())
        return list(ranges.missing(0, self.sizes[transfer]))

    def writable(self) -> None:
        self.events.append("writable")

    def closed(self, reason: str | None) -> None:
        self.events.append("closed")
        self.reason = reason

    @property
    def is_closed(self) -> bool:
        return "closed" in self.events

    def has(self, transfer: int, content: bytes) -> bool:
        """Whether all of a file is here."""
        ranges = self.arrived.get(transfer)
        return (
            ranges is not None
            and list(ranges) == [(0, len(content))]
            and self.files[transfer] == content
        )

    def say(self, body: bytes) -> None:
        self.channel.send_control(control_frame(body))

    def send(self, transfer: int, offset: int, content: bytes) -> None:
        self.channel.send_piece(transfer, offset, memoryview(content))

    def fill(self, transfer: int) -> bytes:
        """Send a file whose pieces fill the channel, and return what was sent of it."""
        self.channel.begin(transfer, PIECES * len(MUCH))
        sent = 0
        while not self.channel.is_full:
            assert sent < PIECES * len(MUCH), "the channel is never full"
            self.send(transfer, sent, MUCH)
            sent += len(MUCH)
        return MUCH * (sent // len(MUCH))


class ChannelContract:
    """The contract: a subclass connects `near` to `far`, and lets what was sent move.

    Bob has the near end, and expects `expected` at the far one, which is Alice's. Files are compared as a whole only: a
    channel may deliver pieces in any order and more than once.
    """

    near: End
    far: End
    expected = ALICE.public
    carrier: str

    async def connect(self) -> None:
        raise NotImplementedError

    async def until(self, condition: Callable[[], object]) -> None:
        raise NotImplementedError

    async def settled(self: Any) -> None:
        """Connect, and wait until both ends are secure."""
        self.near, self.far = End(), End()
        await self.connect()
        await self.until(lambda: self.near.key and self.far.key)

    async def test_ends(self: Any) -> None:
        """Each end knows both addresses, the key of the other end, and the kind of the connection."""
        await self.settled()
        near, far = self.near.channel, self.far.channel
        self.assertEqual((near.local, near.remote), (far.remote, far.local))
        self.assertNotEqual(near.local, near.remote)
        self.assertEqual((self.near.key, self.far.key), (ALICE.public, BOB.public))
        for end in (near, far):
            self.assertEqual((end.carrier, end.is_secure, end.is_full), (self.carrier, True, False))
            self.assertTrue(end.description)
        self.assertEqual((near.shown_key, far.shown_key), (ALICE.public, BOB.public))

    async def test_other_key(self: Any) -> None:
        """An end that expects another key than it is shown is never secure, and is closed with a reason."""
        self.expected = EVE.public
        self.near, self.far = End(), End()
        await self.connect()
        await self.until(lambda: self.near.is_closed and self.far.is_closed)
        self.assertEqual(self.near.channel.shown_key, ALICE.public)
        self.assertIsNone(self.near.key)
        self.assertIsNotNone(self.near.reason)

    async def test_control(self: Any) -> None:
        """Control messages arrive at both ends, whole, once, and in the order in which they were sent."""
        await self.settled()
        said = [b"%d" % n * n for n in range(1, 300)]
        for body in said:
            self.near.say(body)
        self.far.say(b"x" * 100_000)
        self.far.channel.send_control(control_frame(b"two") + control_frame(b"at once"))
        await self.until(lambda: len(self.near.bodies) == 3 and len(self.far.bodies) == len(said))
        self.assertEqual(self.far.bodies, said)
        self.assertEqual(self.near.bodies, [b"x" * 100_000, b"two", b"at once"])

    async def test_pieces(self: Any) -> None:
        """Pieces of several transfers, of any size, arrive at both ends, with messages among them."""
        await self.settled()
        await self.exchange(self.near, self.far)
        await self.exchange(self.far, self.near)

    async def exchange(self: Any, sender: End, receiver: End) -> None:
        """Send files whose pieces take turns."""
        contents = {1: b"s" * 500, 2: MUCH[:100_000], 2**32 - 1: b"ab" * 20_000}
        for transfer, content in contents.items():
            sender.channel.begin(transfer, len(content))
            sender.say(b"begins")
        for at in range(0, 100_000, 1000):
            for transfer, content in contents.items():
                await self.until(lambda: not sender.channel.is_full)
                if piece := content[at : at + 1000]:
                    sender.send(transfer, at, piece)
        for transfer in contents:
            sender.channel.finish(transfer)
        sender.say(b"over")
        await self.until(lambda: all(receiver.has(*each) for each in contents.items()))
        await self.until(lambda: receiver.bodies == [b"begins"] * 3 + [b"over"])

    async def test_full(self: Any) -> None:
        """A channel with much to send is full, once, until that has gone out; messages can be sent meanwhile."""
        await self.settled()
        self.far.channel.pause()
        content = self.near.fill(1)
        self.assertEqual(self.near.events, ["connected", "secured"])
        self.near.say(b"and more")
        self.far.channel.resume()
        await self.until(lambda: self.far.has(1, content) and self.far.bodies == [b"and more"])
        await self.until(lambda: not self.near.channel.is_full)
        self.assertEqual(self.near.events, ["connected", "secured", "writable"])

    async def test_drop(self: Any) -> None:
        """A transfer that was dropped in the middle harms no other one; to drop none is harmless."""
        await self.settled()
        self.near.channel.begin(1, 2 * len(MUCH))
        self.near.send(1, 0, MUCH)
        self.near.channel.drop(1)
        self.near.channel.drop(7)
        await self.until(lambda: not self.near.channel.is_full)
        self.near.channel.begin(2, 3)
        self.near.send(2, 0, b"abc")
        self.near.channel.finish(2)
        await self.until(lambda: self.far.has(2, b"abc"))

    async def test_sizes(self: Any) -> None:
        """If sizes are told at all, they are those that the sender gave."""
        await self.settled()
        self.near.channel.begin(5, 3)
        self.near.send(5, 0, b"abc")
        await self.until(lambda: self.far.has(5, b"abc"))
        self.assertLessEqual(self.far.sizes.items(), {5: 3}.items())

    async def test_pause(self: Any) -> None:
        """A paused end is told of nothing, and of all of it once it resumes; it can send meanwhile."""
        await self.settled()
        self.far.channel.pause()
        self.near.say(b"wait")
        self.far.say(b"go")
        await self.until(lambda: self.near.bodies == [b"go"])
        self.assertEqual(self.far.bodies, [])
        self.far.channel.resume()
        await self.until(lambda: self.far.bodies == [b"wait"])

    async def test_room(self: Any) -> None:
        """A read passes on about as much as it may, and what is left can be read later, paused or not."""
        await self.settled()
        self.far.reads_alone = False
        for _ in range(100):
            self.near.say(b"x" * 1000)
        while len(self.far.bodies) < 100:
            self.far.channel.pause()
            before = len(self.far.bodies)
            self.far.channel.read(2000)
            self.assertLess(len(self.far.bodies) - before, 4)
            self.far.channel.resume()
            await self.moved()
        self.assertEqual(self.far.channel.read(2000), 0)

    async def test_unread(self: Any) -> None:
        """An end whose messages are not read stops reading, so that its answers do not fill the memory."""
        await self.settled()
        self.far.on_body = lambda _: self.far.say(b"x" * 50_000)
        self.near.channel.pause()
        asked = 4 * UNREAD_MAX // 50_000
        for _ in range(asked):
            self.near.say(b"tell me" * 1000)
            for _ in range(3):
                await self.moved()
        answered = len(self.far.bodies)
        self.assertLess(answered, asked)
        self.near.channel.resume()
        await self.until(lambda: len(self.near.bodies) == asked)

    async def test_half_close(self: Any) -> None:
        """After a half-close all that was sent arrives, and both ends are closed once the other one closes."""
        await self.settled()
        content = self.near.fill(1)
        self.near.say(b"bye")
        self.near.channel.half_close()
        await self.until(lambda: self.far.has(1, content) and self.far.bodies == [b"bye"])
        self.far.channel.close()
        await self.until(lambda: self.near.is_closed and self.far.is_closed)

    async def test_close(self: Any) -> None:
        """All that was sent before a close arrives if the other end sends nothing meanwhile; nothing goes after it."""
        await self.settled()
        self.far.say(b"go")
        await self.until(lambda: self.near.bodies == [b"go"])
        content = self.near.fill(1)
        self.near.say(b"bye")
        self.near.channel.close()
        self.near.say(b"too late")
        await self.until(lambda: self.near.is_closed and self.far.is_closed)
        self.assertIsNone(self.near.reason)
        self.assertEqual(self.far.bodies, [b"bye"])
        self.assertEqual(self.far.files[1], content)

    async def test_abort(self: Any) -> None:
        """An abort closes both ends, but not within the call, and what waits is dropped."""
        await self.settled()
        self.far.channel.pause()
        self.near.fill(1)
        for _ in range(30):
            self.near.say(b"x" * 100_000)
        self.near.channel.abort()
        self.assertFalse(self.near.is_closed)
        self.far.channel.resume()
        await self.until(lambda: self.near.is_closed and self.far.is_closed)
        self.assertLess(len(self.far.bodies), 30)

    async def test_closed_once(self: Any) -> None:
        """However often an end is closed, it hears of that once, and last."""
        await self.settled()
        for close in ("close", "abort", "abort", "half_close"):
            getattr(self.near.channel, close)()
        await self.until(lambda: self.near.is_closed and self.far.is_closed)
        self.near.channel.abort()
        for end in (self.near, self.far):
            self.assertEqual((Counter(end.events)["closed"], end.events[-1]), (1, "closed"))

    async def moved(self) -> None:
        """Let what was sent move on for a moment."""
        raise NotImplementedError


class TcpTests(ChannelContract, TestCase):
    timeout = 20
    host = "127.0.0.1"
    carrier = "tcp"

    async def connect(self) -> None:
        far = StreamChannel(reactor, SessionTls(ALICE).accept(), self.far)
        near = StreamChannel(reactor, SessionTls(BOB).connect(self.expected), self.near)
        endpoint = TCP4ServerEndpoint(reactor, 0, interface=self.host)
        port = await endpoint.listen(TcpCarriers(lambda _: far))
        self.addCleanup(port.stopListening)
        address = PeerAddress(self.host, port.getHost().port)
        await connectProtocol(client_endpoint(reactor, address, 5.0), TcpCarrier(near, FILE_READ))
        self.addCleanup(self.end)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.moved()

    async def moved(self) -> None:
        await deferLater(reactor, 0)

    async def end(self) -> None:
        await self.until(lambda: self.far.events)
        for end in (self.near, self.far):
            end.channel.abort()
        await self.until(lambda: self.near.is_closed and self.far.is_closed)


class RelayTests(TcpTests):
    """Both ends connect to a registry, which joins them."""

    carrier = "relay"

    async def connect(self) -> None:
        far = StreamChannel(reactor, SessionTls(ALICE).accept(), self.far)
        near = StreamChannel(reactor, SessionTls(BOB).connect(self.expected), self.near)
        server = RelayServer(reactor)
        await server.listen()
        await server.join((ALICE, far), (BOB, near))
        self.addCleanup(server.stop)
        self.addCleanup(self.end)

    async def test_ends(self) -> None:
        """Each end knows the key of the other end, and the address of the registry, not that of the other end."""
        await self.settled()
        near, far = self.near.channel, self.far.channel
        self.assertEqual(near.remote, far.remote)
        self.assertNotIn(near.local, (far.remote, far.local))
        self.assertEqual((self.near.key, self.far.key), (ALICE.public, BOB.public))
        self.assertEqual([near.carrier, far.carrier], ["relay", "relay"])


class RelayOverTlsTests(RelayTests):
    """The same to a registry with TLS on its port."""

    async def connect(self) -> None:
        far = StreamChannel(reactor, SessionTls(ALICE).accept(), self.far)
        near = StreamChannel(reactor, SessionTls(BOB).connect(self.expected), self.near)
        server = RelayServer(reactor)
        await server.listen(self.patch)
        await server.join((ALICE, far), (BOB, near))
        self.addCleanup(server.stop)
        self.addCleanup(self.end)


class UdpTests(ChannelContract, TestCase):
    timeout = 20
    host = "127.0.0.1"
    carrier = "udp"

    @property
    def tls(self) -> SessionTls:
        """Of the end that accepts."""
        return SessionTls(ALICE)

    def accept(self, host: str) -> End:
        """Take what the opener opens."""
        assert host == self.host
        return self.far

    async def connect(self) -> None:
        near, far = (
            DatagramSessions(reactor, os.urandom),
            DatagramSessions(reactor, os.urandom, self),
        )
        ports = [each.port.listen(0, self.host) for each in (near, far)]
        self.addCleanup(lambda: Deferred.fromCoroutine(near.stop()))
        self.addCleanup(lambda: Deferred.fromCoroutine(far.stop()))
        near.open(
            PeerAddress(self.host, ports[1]), SessionTls(BOB).connect(self.expected), self.near
        )
        await self.until(lambda: self.far.events)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.moved()

    async def moved(self) -> None:
        await deferLater(reactor, 0.0005)


class MemoryTests(ChannelContract, TestCase):
    carrier = "memory"

    async def connect(self) -> None:
        self.clock = Clock()
        self.wire = Wire(
            StreamChannel(self.clock, SessionTls(BOB).connect(self.expected), self.near),
            StreamChannel(self.clock, SessionTls(ALICE).accept(), self.far),
        )
        self.wire.connect()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.clock.advance(0)
            assert self.wire.carry(), "nothing moves any more"

    async def moved(self) -> None:
        self.clock.advance(0)
        self.wire.carry()
