"""Tests of `p2pshare.net.datagrams.train_port`: on a scripted socket, and on a real one."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from p2pshare.core.datagram.trains import TRAIN_MAX
from p2pshare.core.datagram_core import Address
from p2pshare.net.datagrams.train_port import (
    QUEUE_MAX,
    READ_MAX,
    READ_TIME,
    TrainPort,
    listen_trains,
)
from p2pshare.net.sockets import interfaces_for

UDP_SEGMENT, UDP_GRO = 103, 104
THERE = ("192.0.2.7", 50000)


class ScriptedSocket:
    """A socket that receives what a test wants, and fails as it wants."""

    def __init__(self) -> None:
        self.arrived: list[tuple[bytes, int | None, int]] = []
        """Bytes, size of the segments if the kernel has joined some, and flags."""
        self.sent: list[tuple[bytes, int | None, Address]] = []
        """Bytes, size of the segments if the kernel is to cut them, and destination."""
        self.train_error: int | None = None
        self.one_error: int | None = None
        self.room = 1000
        """Calls until the buffer is full."""
        self.knows_segments = True
        self.on_read: Any = lambda: None
        self.ttl = 64
        self.ttls: list[int] = []
        """The TTLs with which single datagrams were sent."""
        self.is_closed = False

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (socket.IPPROTO_IP, socket.IP_TTL)
        return self.ttl

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if (level, option) == (socket.IPPROTO_IP, socket.IP_TTL):
            self.ttl = value
        if option == UDP_SEGMENT and not self.knows_segments:
            raise OSError(errno.ENOPROTOOPT, "unknown")

    def bind(self, address: Address) -> None:
        pass

    def getsockname(self) -> Address:
        return "192.0.2.1", 50001

    def fileno(self) -> int:
        return 7

    def recvmsg_into(self, buffers: list[memoryview], size: int) -> tuple[int, Any, int, Any]:
        self.on_read()
        if not self.arrived:
            raise BlockingIOError
        data, segment, flags = self.arrived.pop(0)
        buffers[0][: len(data)] = data
        joined = []
        if segment is not None:
            joined = [(socket.IPPROTO_UDP, UDP_GRO, struct.pack("=i", segment))]
        return len(data), joined, flags, THERE

    def sendmsg(self, buffers: Any, ancillary: Any, flags: int, address: Address) -> None:
        self._take_room()
        if self.train_error is not None:
            raise OSError(self.train_error, "no")
        ((level, option, value),) = ancillary
        assert (level, option) == (socket.IPPROTO_UDP, UDP_SEGMENT)
        self.sent.append((bytes(buffers[0]), struct.unpack("=H", value)[0], address))

    def sendto(self, data: memoryview, address: Address) -> None:
        self._take_room()
        if self.one_error is not None:
            raise OSError(self.one_error, "no")
        self.sent.append((bytes(data), None, address))
        self.ttls.append(self.ttl)

    def _take_room(self) -> None:
        if not self.room:
            raise BlockingIOError
        self.room -= 1


class Recorder(DatagramProtocol):
    """A `TrainProtocol` that records everything."""

    def __init__(self) -> None:
        self.trains: list[tuple[bytes, int, Address]] = []
        self.refused: list[Address] = []
        self.writable = 0
        self.on_train: Any = lambda: None

    def train_received(self, data: memoryview, segment: int, address: Address) -> None:
        self.trains.append((bytes(data), segment, address))
        self.on_train()

    def datagram_refused(self, address: Address) -> None:
        self.refused.append(address)

    def port_writable(self) -> None:
        self.writable += 1


class FakeReactor(Clock):
    """A clock that notes whether the port wants to write."""

    def __init__(self) -> None:
        super().__init__()
        self.writers: set[Any] = set()

    def addReader(self, reader: object) -> None:  # noqa: N802 - of IReactorFDSet
        pass

    def removeReader(self, reader: object) -> None:  # noqa: N802
        pass

    def addWriter(self, writer: object) -> None:  # noqa: N802
        self.writers.add(writer)

    def removeWriter(self, writer: object) -> None:  # noqa: N802
        self.writers.discard(writer)


class ScriptedTests(SynchronousTestCase):
    protocol: Recorder
    socket: ScriptedSocket

    def setUp(self) -> None:
        self.reactor: Any = FakeReactor()

    def open(self, **settings: Any) -> TrainPort:
        self.protocol = Recorder()
        self.socket = ScriptedSocket()
        for name, value in settings.items():
            setattr(self.socket, name, value)
        port = TrainPort(50001, self.protocol, "192.0.2.1", self.reactor)
        self.patch(port, "createInternetSocket", lambda: self.socket)
        port.startListening()
        return port

    def test_received(self) -> None:
        """A joined train has the size of its segments; a single datagram is a train of one."""
        port = self.open(arrived=[(b"a" * 2500, 1000, 0), (b"b" * 700, None, 0)])
        port.doRead()
        self.assertEqual(
            self.protocol.trains, [(b"a" * 2500, 1000, THERE), (b"b" * 700, 700, THERE)]
        )

    def test_joined_here(self) -> None:
        """Datagrams that wait become trains of one source and size, of which the last may be shorter."""
        single = [(b"%d" % number * 100, None, 0) for number in range(5)]
        port = self.open(arrived=[*single, (b"x" * 40, None, 0), (b"y" * 100, None, 0)])
        port.doRead()
        first = b"".join(data for data, _, _ in single) + b"x" * 40
        self.assertEqual(self.protocol.trains, [(first, 100, THERE), (b"y" * 100, 100, THERE)])

    def test_joined_here_and_there(self) -> None:
        """A train of the kernel continues one of equal segments, and larger segments begin another one."""
        arrived = [(b"a" * 100, None, 0), (b"b" * 250, 100, 0), (b"c" * 200, None, 0)]
        port = self.open(arrived=[*arrived, (b"d" * 400, 200, 0)])
        port.doRead()
        expected = [(b"a" * 100 + b"b" * 250, 100, THERE), (b"c" * 200 + b"d" * 400, 200, THERE)]
        self.assertEqual(self.protocol.trains, expected)

    def test_joined_trains_are_bounded(self) -> None:
        """Trains that are joined here have a bound; all bytes arrive in order."""
        for size in (10, 1200, 9000, 65_507):
            datagrams = [bytes([number]) * size for number in range(200)]
            port = self.open(arrived=[(data, None, 0) for data in datagrams])
            while self.socket.arrived:
                port.doRead()
            trains = self.protocol.trains
            self.assertEqual(b"".join(data for data, _, _ in trains), b"".join(datagrams))
            self.assertLessEqual(max(len(data) for data, _, _ in trains), TRAIN_MAX)

    def test_closed_by_a_train(self) -> None:
        """A port that is closed while a train is handed over hands nothing more over."""
        port = self.open(arrived=[(b"a" * 100, None, 0), (b"b" * 200, None, 0)])
        self.protocol.on_train = lambda: setattr(port, "connected", 0)
        port.doRead()
        self.assertEqual(len(self.protocol.trains), 1)

    def test_defect(self) -> None:
        """A protocol that fails is logged, and does not cost the port."""
        port = self.open(arrived=[(b"a" * 100, None, 0), (b"b" * 200, None, 0)])

        def fail() -> None:
            raise KeyError

        self.protocol.on_train = fail
        port.doRead()
        self.assertEqual(len(self.protocol.trains), 2)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)

    def test_no_memory(self) -> None:
        """An error of the kernel does not cost the port."""
        errors = [OSError(errno.ENOMEM, "no memory")]

        def fail_once() -> None:
            if errors:
                raise errors.pop()

        port = self.open(arrived=[(b"a" * 100, None, 0)], on_read=fail_once)
        port.doRead()
        port.doRead()
        self.assertEqual(len(self.protocol.trains), 1)

    def test_cut_off(self) -> None:
        """A train that did not fit into the buffer is dropped and counted."""
        port = self.open(arrived=[(b"a" * 2500, 1000, socket.MSG_TRUNC), (b"b", None, 0)])
        port.doRead()
        self.assertEqual(self.protocol.trains, [(b"b", 1, THERE)])
        self.assertEqual(port.cut_off, 1)

    def test_reading_is_bounded(self) -> None:
        """A wake-up reads so many bytes, or for so long, and no more."""
        flood = [(b"a" * 65000, 1000, 0)] * 100
        port = self.open(arrived=list(flood))
        port.doRead()
        read = sum(len(data) for data, _, _ in self.protocol.trains)
        self.assertTrue(READ_MAX <= read < READ_MAX + 65000, read)
        self.protocol.trains.clear()
        self.protocol.on_train = lambda: self.reactor.advance(READ_TIME / 2)
        port.doRead()
        self.assertEqual(len(self.protocol.trains), 3)

    def test_icmp(self) -> None:
        """An error that ICMP reported does not end the reading."""
        errors = [OSError(errno.ECONNREFUSED, "refused")]

        def on_read() -> None:
            if errors:
                raise errors.pop()

        port = self.open(arrived=[(b"a", None, 0)], on_read=on_read)
        port.doRead()
        self.assertEqual(self.protocol.trains, [(b"a", 1, THERE)])

    def test_sent(self) -> None:
        """The kernel cuts a train; a single segment is sent as it is."""
        port = self.open()
        port.send_train(b"a" * 2500, 1000, THERE)
        port.send_train(b"b" * 1000, 1000, THERE)
        self.assertTrue(port.cuts_trains)
        self.assertEqual(self.socket.sent, [(b"a" * 2500, 1000, THERE), (b"b" * 1000, None, THERE)])

    def test_long_train(self) -> None:
        """A train that is longer than what the kernel cuts at once goes out in several calls, in order."""
        for segment, expected in (
            (1000, [64, 64, 2]),
            (16_332, [4] * 32 + [2]),
            (40_000, [1] * 130),
        ):
            data = b"".join(bytes([number]) * segment for number in range(130))
            port = self.open()
            port.send_train(data, segment, THERE)
            sent = [part for part, _, _ in self.socket.sent]
            self.assertEqual(b"".join(sent), data)
            self.assertEqual([len(part) // segment for part in sent], expected)

    def test_fall_back(self) -> None:
        """If the kernel or the device cannot cut, this train and all later ones go out one by one."""
        whole = [(b"a" * 1000, None, THERE), (b"a" * 1000, None, THERE), (b"a" * 500, None, THERE)]
        for error in (errno.EIO, errno.EINVAL, errno.EMSGSIZE):
            port = self.open(train_error=error)
            port.send_train(b"a" * 2500, 1000, THERE)
            self.assertEqual(self.socket.sent, whole)
            self.socket.train_error = None
            port.send_train(b"a" * 2500, 1000, THERE)
            self.assertEqual(self.socket.sent, 2 * whole)
            self.assertFalse(port.cuts_trains)
            self.assertEqual(port.unsent, 0)

    def test_unknown_option(self) -> None:
        """A kernel without the option gets no train."""
        port = self.open(knows_segments=False)
        port.send_train(b"a" * 2000, 1000, THERE)
        self.assertEqual([size for _, size, _ in self.socket.sent], [None, None])

    def test_too_large(self) -> None:
        """A single segment above the MTU of the interface is reported, and nothing else of the train is lost."""
        port = self.open(one_error=errno.EMSGSIZE)
        port.send_train(b"a" * 9000, 9000, THERE)
        self.assertEqual(self.protocol.refused, [THERE])
        self.assertEqual(port.unsent, 0)

    def test_other_errors(self) -> None:
        """Any other error counts as loss."""
        port = self.open(train_error=errno.ENETUNREACH, one_error=errno.EPERM)
        port.send_train(b"a" * 2000, 1000, THERE)
        port.send_train(b"a", 1000, THERE)
        self.assertEqual(port.unsent, 2)
        self.assertTrue(port.cuts_trains)

    def test_full(self) -> None:
        """Trains wait for room in order, and the protocol hears when there is room again."""
        port = self.open(room=1)
        for letter in (b"a", b"b", b"c"):
            port.send_train(2 * letter, 1, THERE)
        self.assertTrue(port.is_full)
        self.assertIn(port, self.reactor.writers)
        self.socket.room = 1
        port.doWrite()
        self.assertTrue(port.is_full)
        self.assertEqual(self.protocol.writable, 0)
        self.socket.room = 5
        port.doWrite()
        self.assertFalse(port.is_full)
        self.assertNotIn(port, self.reactor.writers)
        self.assertEqual(self.protocol.writable, 1)
        self.assertEqual([data for data, _, _ in self.socket.sent], [b"aa", b"bb", b"cc"])

    def test_full_within_a_train(self) -> None:
        """The rest of a train waits if there is room for some of its segments only."""
        port = self.open(knows_segments=False, room=2)
        port.send_train(b"abc", 1, THERE)
        port.send_train(b"d", 1, THERE)
        self.socket.room = 10
        port.doWrite()
        self.assertEqual(b"".join(data for data, _, _ in self.socket.sent), b"abcd")

    def test_full_again_within_a_train(self) -> None:
        """The same holds for a train that waited: each of its segments is sent once, in order."""
        port = self.open(knows_segments=False, room=0)
        port.send_train(b"abcd", 1, THERE)
        port.send_train(b"ef", 1, THERE)
        for room in (3, 0, 2, 9):
            self.socket.room = room
            port.doWrite()
        self.assertEqual(b"".join(data for data, _, _ in self.socket.sent), b"abcdef")
        self.assertEqual(self.protocol.writable, 1)

    def test_queue_is_bounded(self) -> None:
        """A train beyond the queue counts as lost."""
        port = self.open(room=0)
        for _ in range(QUEUE_MAX + 2):
            port.send_train(b"a", 1, THERE)
        self.assertEqual(port.unsent, 2)


class LoopbackTests(TestCase):
    def test_families(self) -> None:
        """The sockets of both families have one number, and each sets the TTL of a datagram by its own option."""
        port = listen_trains(reactor, 0, Recorder(), "0.0.0.0")  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        if interfaces_for("192.0.2.1") == ("0.0.0.0",):
            raise SkipTest("this machine has no IPv6")
        other = listen_trains(reactor, number, Recorder(), "::")  # type: ignore[arg-type]
        self.addCleanup(other.stopListening)
        self.assertTrue(port.send_with_ttl(b"x", 1, ("127.0.0.1", number)))
        self.assertTrue(other.send_with_ttl(b"x", 1, ("::1", number)))

    def test_trains(self) -> Deferred[None]:
        """A train arrives whole over loopback, however the kernels of both ends treat it."""
        arrived: Deferred[bytes] = Deferred()
        receiving, sending = Recorder(), Recorder()

        def on_train() -> None:
            data = b"".join(each for each, _, _ in receiving.trains)
            if len(data) == 40_100 and not arrived.called:
                arrived.callback(data)

        receiving.on_train = on_train
        ports = [
            listen_trains(reactor, 0, each, "127.0.0.1")  # type: ignore[arg-type]
            for each in (receiving, sending)
        ]
        for each in ports:
            self.addCleanup(each.stopListening)
        host = ports[0].getHost()
        data = b"".join(bytes([number]) * 1000 for number in range(40)) + b"end" * 33 + b"."
        ports[1].send_train(data, 1000, (host.host, host.port))
        arrived.addTimeout(5, reactor)
        return arrived.addCallback(self.assertEqual, data)
