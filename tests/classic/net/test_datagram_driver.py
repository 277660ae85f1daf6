"""Tests of `p2pshare.classic.net.datagram_driver`."""

from __future__ import annotations

import errno
from collections import deque
from typing import Any, cast

from twisted.internet.error import MessageLengthError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.net.datagram_driver import CoreDriver
from p2pshare.core.datagram_core import Address, Outgoing

PEER = ("10.0.0.2", 7000)


class EchoCore:
    """Sends back what it receives, reports it, and sends b"tick" each second."""

    def __init__(self) -> None:
        self.next_tick: float | None = 1.0
        self.outbox: Outgoing = []
        self.events: deque[bytes] = deque()

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        self.outbox.append((data, addr))
        self.events.append(data)

    def datagrams_to_send(self, now: float) -> Outgoing:
        outbox, self.outbox = self.outbox, []
        return outbox

    def get_timer(self) -> float | None:
        return self.next_tick

    def handle_timer(self, now: float) -> None:
        if self.next_tick is not None and now >= self.next_tick:
            self.outbox.append((b"tick", PEER))
            self.next_tick += 1.0

    def next_event(self) -> bytes | None:
        return self.events.popleft() if self.events else None


class FakeTransport:
    """Keeps the written datagrams, or raises what the test wants."""

    def __init__(self) -> None:
        self.written: list[tuple[bytes, Address | None]] = []
        self.errors: deque[Exception | None] = deque()
        self.connected_to: Address | None = None
        self.on_write: Any = None

    def write(self, data: bytes, addr: Address | None = None) -> None:
        error = self.errors.popleft() if self.errors else None
        if error is not None:
            raise error
        self.written.append((data, addr))
        if self.on_write is not None:
            self.on_write()

    def connect(self, host: str, port: int) -> None:
        self.connected_to = (host, port)


class CoreDriverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.core = EchoCore()
        self.events: list[bytes] = []
        self.refusals: list[None] = []
        self.driver = CoreDriver(
            self.core, self.clock, self.events.append, lambda: self.refusals.append(None)
        )
        self.transport = FakeTransport()
        self.driver.makeConnection(cast(Any, self.transport))

    def written(self) -> list[bytes]:
        return [data for data, _ in self.transport.written]

    def test_datagram(self) -> None:
        """A datagram is handed in; the answers and events of the core are delivered at once."""
        self.driver.datagramReceived(b"one", PEER)
        self.assertEqual(self.transport.written, [(b"one", PEER)])
        self.assertEqual(self.events, [b"one"])

    def test_timer(self) -> None:
        """The core is woken up at the times it wants, with one timer."""
        for _ in range(35):
            self.clock.advance(0.1)
            self.assertLessEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(self.written(), [b"tick"] * 3)

    def test_earlier_timer(self) -> None:
        """An earlier time replaces the one that was set."""
        self.core.next_tick = 0.2
        self.driver.pump()
        self.clock.advance(0.21)
        self.assertEqual(self.written(), [b"tick"])

    def test_no_timer(self) -> None:
        """If the core wants no more time, no timer is set again."""
        self.core.next_tick = None
        self.clock.advance(1.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_full_buffer(self) -> None:
        """Datagrams that do not fit into the buffer of the socket wait, in order, and none is lost."""
        self.transport.errors.extend([BlockingIOError(errno.EAGAIN, "full")] * 3)
        for data in (b"one", b"two", b"three"):
            self.driver.datagramReceived(data, PEER)
        self.assertEqual(self.written(), [])
        self.clock.advance(0.01)
        self.assertEqual(self.written(), [b"one", b"two", b"three"])
        self.assertEqual(self.driver.unsent, 0)

    def test_refused_by_the_socket(self) -> None:
        """Any other error counts as loss, and the next datagram is sent."""
        for error in (OSError(errno.ENETUNREACH, "unreachable"), MessageLengthError("too long")):
            self.transport.errors.extend([error, None])
            self.core.outbox = [(b"one", PEER), (b"two", PEER)]
            self.driver.pump()
        self.assertEqual(self.written(), [b"two", b"two"])
        self.assertEqual(self.driver.unsent, 2)

    def test_connected(self) -> None:
        """A connected socket sends datagrams without an address."""
        self.driver.connect(PEER)
        self.driver.datagramReceived(b"one", PEER)
        self.assertEqual(self.transport.connected_to, PEER)
        self.assertEqual(self.transport.written, [(b"one", None)])

    def test_refused_by_the_other_side(self) -> None:
        """A refusal is reported, even during a write; each datagram is sent once."""
        self.transport.on_write = self.driver.connectionRefused
        self.core.outbox = [(b"one", PEER), (b"two", PEER)]
        self.driver.pump()
        self.assertEqual(self.written(), [b"one", b"two"])
        self.assertEqual(len(self.refusals), 2)

    def test_closed_by_a_refusal(self) -> None:
        """If the reactor closes a refused socket, the refusal and its events are delivered."""
        self.driver.connect(PEER)
        self.core.events.append(b"the end")
        self.driver.stopProtocol()
        self.assertEqual(len(self.refusals), 1)
        self.assertEqual(self.events, [b"the end"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """After the socket is closed nothing runs any more."""
        self.driver.stopProtocol()
        self.driver.pump()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.written(), [])
