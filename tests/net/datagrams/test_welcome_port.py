"""Tests of `p2pshare.net.datagrams.welcome_port`, with an endpoint that does what a test wants."""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram_core import Address
from p2pshare.errors import PortUnusable
from p2pshare.net.datagrams.train_port import TrainPort
from p2pshare.net.datagrams.welcome_port import FULL_WAIT, SEND_AT_ONCE, WelcomePort
from tests.net.datagrams.test_train_port import THERE, FakeReactor, ScriptedSocket

OURS = b"\xe0" + b"x" * 99
WORD = b"TXT" + b"." * 97
STUN = b"\x00\x01" + b"." * 98


@dataclass
class Train:
    data: bytes
    segment: int = 1000
    address: Address = THERE


class ScriptedEndpoint:
    """A `TrainCore` that records what it gets, and returns what a test wants."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, int, Address, float]] = []
        self.refused: list[Address] = []
        self.outgoing: deque[Train] = deque()
        self.events: deque[str] = deque()
        self.due: float | None = None
        self.ticks = 0

    def receive_train(
        self, data: memoryview, segment: int, address: Address, now: float, ce: int = 0
    ) -> None:
        self.received.append((bytes(data), segment, address, now))

    def trains_to_send(self, now: float, budget: int) -> Sequence[Train]:
        return [self.outgoing.popleft()] if self.outgoing else []

    def datagram_refused(self, address: Address) -> None:
        self.refused.append(address)

    def get_timer(self) -> float | None:
        return self.due

    def handle_timer(self, now: float) -> None:
        self.ticks += 1
        self.due = None

    def next_event(self) -> Any:
        return self.events.popleft() if self.events else None


class Words(DatagramProtocol):
    """The classic protocol."""

    def __init__(self) -> None:
        self.words: list[tuple[bytes, Address]] = []

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        self.words.append((datagram, addr))


class WelcomePortTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = FakeReactor()
        self.endpoint = ScriptedEndpoint()
        self.events: list[str] = []
        self.classic = Words()
        self.on_event: Any = self.events.append
        self.socket = ScriptedSocket()
        self.patch(TrainPort, "createInternetSocket", lambda _: self.socket)

    def open(self, classic: DatagramProtocol | None = None, *interfaces: str) -> WelcomePort:
        port = WelcomePort(self.reactor, self.endpoint, lambda event: self.on_event(event), classic)
        self.assertEqual(port.listen(50001, *(interfaces or ("192.0.2.1",))), 50001)
        return port

    def receive(self, port: WelcomePort, data: bytes, segment: int = 100) -> None:
        port.train_received(memoryview(data), segment, THERE)

    def test_first_byte(self) -> None:
        """The first byte tells the protocol: packets go to the endpoint, words to the classic core."""
        port = self.open(self.classic)
        for datagram in (OURS, WORD, STUN, bytes([191]) * 100, b"\x04" * 100):
            self.receive(port, datagram)
        self.assertEqual(self.endpoint.received, [(OURS, 100, THERE, 0.0)])
        self.assertEqual([word[:1] for word, _ in self.classic.words], [b"T", b"\xbf", b"\x04"])
        self.assertEqual(port.ignored, 1)

    def test_without_classic(self) -> None:
        """Words are ignored unless the classic protocol is enabled."""
        port = self.open()
        self.receive(port, WORD + STUN)
        self.assertEqual((self.endpoint.received, port.ignored), ([], 2))

    def test_trains(self) -> None:
        """A train of packets stays whole; in a train of other datagrams, each is looked at by itself."""
        port = self.open(self.classic)
        self.receive(port, OURS + OURS + WORD)
        self.receive(port, WORD + OURS + WORD[:50])
        self.assertEqual([data for data, *_ in self.endpoint.received], [OURS + OURS + WORD, OURS])
        self.assertEqual([word for word, _ in self.classic.words], [WORD, WORD[:50]])

    def test_classic_answers(self) -> None:
        """The classic protocol sends over the same socket."""
        self.open(self.classic)
        assert self.classic.transport is not None
        self.classic.transport.write(b"ACK", THERE)
        self.assertEqual(self.socket.sent, [(b"ACK", None, THERE)])

    def test_classic_over_ipv4_only(self) -> None:
        """The classic protocol gets the socket for IPv4, and stops with the port."""
        port = self.open(self.classic, "0.0.0.0", "::")
        transport: Any = self.classic.transport
        self.assertEqual(transport.addressFamily, socket.AF_INET)
        stopping = Deferred.fromCoroutine(port.stop())
        self.reactor.pump([0.0] * 3)
        self.successResultOf(stopping)
        self.assertIsNone(self.classic.transport)

    def test_stun(self) -> None:
        """A STUN message goes to the first handler that takes it; others are ignored."""
        port, taken = self.open(), list[tuple[str, bytes, Address]]()

        def takes_first(data: bytes, address: Address) -> bool:
            taken.append(("first", data, address))
            return data[1] == 1

        def takes_all(data: bytes, address: Address) -> bool:
            taken.append(("second", data, address))
            return True

        port.add_stun_handler(takes_first)
        self.receive(port, STUN + b"\x00\x02" + STUN[2:])
        port.add_stun_handler(takes_all)
        self.receive(port, b"\x00\x02" + STUN[2:])
        self.assertEqual([who for who, *_ in taken], ["first", "first", "first", "second"])
        self.assertEqual((taken[0][1:], port.ignored), ((STUN, THERE), 1))
        port.remove_stun_handler(takes_first)
        port.remove_stun_handler(takes_all)
        self.receive(port, STUN)
        self.assertEqual((len(taken), port.ignored), (4, 2))

    def test_send_to(self) -> None:
        """A single datagram is sent with the TTL that is wanted, and the next one with the usual TTL."""
        port = self.open()
        self.assertTrue(port.send_to(b"a", THERE))
        self.assertTrue(port.send_to(b"b", THERE, 3))
        self.assertTrue(port.send_to(b"c", THERE))
        sent = [data for data, _, _ in self.socket.sent]
        self.assertEqual((sent, self.socket.ttls), ([b"a", b"b", b"c"], [64, 3, 64]))
        self.assertFalse(port.send_to(b"d", ("2001:db8::7", 50000)))
        self.socket.one_error = errno.ENETUNREACH
        self.assertFalse(port.send_to(b"e", THERE, 3))
        self.assertFalse(port.send_to(b"f", THERE))
        self.assertEqual(self.socket.ttl, 64)

    def test_families(self) -> None:
        """Each family has its socket, of one number, and trains leave by the socket of their destination."""
        sockets = [ScriptedSocket(), ScriptedSocket()]
        made = iter(sockets)
        self.patch(TrainPort, "createInternetSocket", lambda _: next(made))
        port = self.open(None, "0.0.0.0", "::")
        there = ("2001:db8::7", 50000)
        self.endpoint.outgoing.extend([Train(b"four"), Train(b"six", address=there)])
        port.pump()
        sent = [[(data, to) for data, _, to in each.sent] for each in sockets]
        self.assertEqual(sent, [[(b"four", THERE)], [(b"six", there)]])
        self.assertEqual(port.number, 50001)

    def test_one_is_full(self) -> None:
        """While the socket of one family is full, the endpoint is not asked; both go on once there is room."""
        sockets = [ScriptedSocket(), ScriptedSocket()]
        made = iter(sockets)
        self.patch(TrainPort, "createInternetSocket", lambda _: next(made))
        port = self.open(None, "0.0.0.0", "::")
        sockets[0].room = 0
        self.endpoint.outgoing.extend([Train(b"four"), Train(b"six", address=("2001:db8::7", 1))])
        port.pump()
        self.assertEqual((len(self.endpoint.outgoing), sockets[1].sent), (1, []))
        sockets[0].room = 10
        (writer,) = self.reactor.writers
        writer.doWrite()
        self.assertEqual([len(each.sent) for each in sockets], [1, 1])

    def test_all_or_none(self) -> None:
        """If one socket cannot be bound, none stays open."""
        sockets = [ScriptedSocket(), ScriptedSocket()]
        made = iter(sockets)
        self.patch(TrainPort, "createInternetSocket", lambda _: next(made))

        def bind(_: Address) -> None:
            raise OSError(98, "Address already in use")

        sockets[1].bind = bind  # type: ignore[method-assign,assignment]
        port = WelcomePort(self.reactor, self.endpoint, self.events.append, self.classic)
        self.assertRaises(PortUnusable, port.listen, 50001, "0.0.0.0", "::")
        self.assertIsNone(port.number)
        self.reactor.advance(0)
        self.assertTrue(sockets[0].is_closed)
        self.assertIsNone(self.classic.transport)

    def test_defect(self) -> None:
        """An event that cannot be handled stops neither the next one, nor sending, nor the timer."""

        def fail(event: str) -> None:
            self.events.append(event)
            raise KeyError(event)

        port, self.on_event = self.open(), fail
        self.endpoint.events.extend(["one", "two"])
        self.endpoint.outgoing.append(Train(b"a"))
        self.endpoint.due = 5.0
        self.receive(port, OURS)
        self.assertEqual((self.events, len(self.socket.sent)), (["one", "two"], 1))
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)

    def test_full_timer(self) -> None:
        """A full socket does not keep the timer busy, though the time to send has come; deadlines still run."""
        port = self.open()
        self.patch(self.endpoint, "get_timer", lambda: 0.0)
        self.socket.room = 0
        self.endpoint.outgoing.append(Train(b"a"))
        port.pump()
        self.reactor.pump([0.0] * 10)
        self.assertEqual(self.endpoint.ticks, 0)
        self.reactor.advance(FULL_WAIT)
        self.assertEqual(self.endpoint.ticks, 1)

    def test_pump(self) -> None:
        """After each train, events are delivered, and what is due is sent until nothing is."""
        port = self.open()
        self.endpoint.events.extend(["one", "two"])
        self.endpoint.outgoing.extend([Train(b"a" * 2500), Train(b"b")])
        self.receive(port, OURS)
        self.assertEqual(self.events, ["one", "two"])
        self.assertEqual([data for data, *_ in self.socket.sent], [b"a" * 2500, b"b"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_event_leads_to_sending(self) -> None:
        """What an event makes due goes out at once, without a second pump inside of the first."""
        port = self.open()

        def on_event(event: str) -> None:
            self.events.append(event)
            self.endpoint.outgoing.append(Train(b"answer"))
            port.pump()
            port.pump_soon()
            self.assertEqual(self.socket.sent, [])

        self.on_event = on_event
        self.endpoint.events.append("question")
        self.receive(port, OURS)
        self.assertEqual([data for data, *_ in self.socket.sent], [b"answer"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_timer(self) -> None:
        """One timer runs at the endpoint's deadline, and none while there is no deadline."""
        port = self.open()
        self.endpoint.due = 2.0
        port.pump()
        self.endpoint.due = 3.0
        port.pump()
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.advance(3.0)
        self.assertGreaterEqual(self.endpoint.ticks, 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_idle(self) -> None:
        """A deadline that is gone takes its timer with it."""
        port = self.open()
        self.endpoint.due = 2.0
        port.pump()
        self.endpoint.due = None
        port.pump()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_sending_is_bounded(self) -> None:
        """An endpoint with much to send leaves turns to others."""
        port = self.open()
        size = 64_000
        count = 3 * SEND_AT_ONCE // size
        self.endpoint.outgoing.extend([Train(b"a" * size)] * count)
        port.pump()
        self.assertEqual(len(self.socket.sent), SEND_AT_ONCE // size + 1)
        for _ in range(4):
            self.reactor.advance(0)
        self.assertEqual(len(self.socket.sent), count)

    def test_full(self) -> None:
        """While the socket is full the endpoint is not asked; it is again once there is room."""
        port = self.open()
        self.socket.room = 0
        self.endpoint.outgoing.extend([Train(b"a"), Train(b"b")])
        port.pump()
        self.assertEqual(len(self.endpoint.outgoing), 1)
        self.socket.room = 10
        (writer,) = self.reactor.writers
        writer.doWrite()
        self.assertEqual([data for data, *_ in self.socket.sent], [b"a", b"b"])

    def test_refused(self) -> None:
        """A datagram that is too large for the interface is reported."""
        port = self.open()
        port.datagram_refused(THERE)
        self.assertEqual(self.endpoint.refused, [THERE])

    def test_port_in_use(self) -> None:
        """A port that is in use is an error that names it."""

        def bind(_: Address) -> None:
            raise OSError(98, "Address already in use")

        self.socket.bind = bind  # type: ignore[method-assign,assignment]
        port = WelcomePort(self.reactor, self.endpoint, self.events.append)
        error = self.assertRaises(PortUnusable, port.listen, 50001, "192.0.2.1")
        self.assertEqual(error.fields["port"], 50001)
