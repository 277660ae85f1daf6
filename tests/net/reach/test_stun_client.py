"""Tests of `p2pshare.net.reach.stun_client`, with a port in memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram_core import Address
from p2pshare.net.reach.stun_client import (
    GIVE_UP,
    REQUESTS_AT,
    REQUESTS_MAX,
    StunAnswer,
    StunClient,
)
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.stun import Binding, BindingKind, answer_to, parse

SERVER = PeerAddress("192.0.2.1", 8000)
OTHER = PeerAddress("192.0.2.1", 8001)
MAPPED = PeerAddress("203.0.113.9", 40000)


class FakePort:
    """A port that records what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Address]] = []
        self.handlers: list[Callable[[bytes, Address], bool]] = []

    def send_to(self, data: bytes, address: Address, ttl: int | None = None) -> bool:
        """Record it."""
        self.sent.append((data, address))
        return True

    def add_stun_handler(self, handler: Callable[[bytes, Address], bool]) -> None:
        """Record it."""
        self.handlers.append(handler)

    def remove_stun_handler(self, handler: Callable[[bytes, Address], bool]) -> None:
        """Record it."""
        self.handlers.remove(handler)


class StunClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.port = FakePort()
        numbers = count(1)
        self.client = StunClient(self.clock, self.port, lambda size: next(numbers).to_bytes(size))

    def answer(self, request: int = -1, mapped: PeerAddress = MAPPED) -> bytes:
        """Return a server's answer to a request that was sent."""
        answer = answer_to(self.port.sent[request][0], mapped)
        assert answer is not None
        return answer

    def receive(self, data: bytes, source: PeerAddress = SERVER) -> bool:
        """Let the port receive a STUN message."""
        return any(handler(data, (source.ip, source.port)) for handler in self.port.handlers)

    def test_answer(self) -> None:
        """The mapped address and the round-trip time are returned, and nothing is left behind."""
        asking = self.client.ask(SERVER)
        self.assertEqual(self.port.sent[0][1], (SERVER.ip, SERVER.port))
        self.clock.advance(0.125)
        self.assertTrue(self.receive(self.answer()))
        self.assertEqual(self.successResultOf(asking), StunAnswer(SERVER, MAPPED, 0.125))
        self.assertEqual((self.port.handlers, self.clock.getDelayedCalls()), ([], []))

    def test_repeated(self) -> None:
        """A request is repeated with its transaction, and given up in the end."""
        asking = self.client.ask(SERVER)
        self.clock.pump([0.05] * 38)
        self.assertEqual(len({data for data, _ in self.port.sent}), 1)
        self.assertEqual(len(self.port.sent), len(REQUESTS_AT))
        self.assertNoResult(asking)
        self.clock.advance(GIVE_UP - 1.9 + 0.001)
        self.assertIsNone(self.successResultOf(asking))
        self.assertEqual((self.port.handlers, self.clock.getDelayedCalls()), ([], []))

    def test_two_servers(self) -> None:
        """Several servers are asked at the same time."""
        first, second = self.client.ask(SERVER), self.client.ask(OTHER)
        self.receive(self.answer(1), OTHER)
        self.assertNoResult(first)
        answer = self.successResultOf(second)
        assert answer is not None
        self.assertEqual(answer.server, OTHER)
        self.receive(self.answer(0))
        self.assertIsNotNone(self.successResultOf(first))

    def test_forged_answers(self) -> None:
        """An answer from another server, of another transaction, of another kind, or with an address that no peer can
        have, counts for nothing (threat 51).
        """
        asking = self.client.ask(SERVER)
        right = self.answer()
        self.assertFalse(self.receive(right, OTHER))
        self.assertFalse(self.receive(right, PeerAddress("192.0.2.9", SERVER.port)))
        foreign = Binding(BindingKind.SUCCESS, b"another one.", mapped=MAPPED).serialize()
        self.assertFalse(self.receive(foreign))
        self.assertFalse(self.receive(self.port.sent[0][0]))  # its own request, reflected
        message = parse(self.port.sent[0][0])
        assert message is not None
        refused = Binding(BindingKind.ERROR, message.transaction, error=500).serialize()
        self.assertTrue(self.receive(refused))
        for ip in ("224.0.0.1", "169.254.1.1", "::ffff:192.0.2.1"):
            self.assertTrue(self.receive(self.answer(0, PeerAddress(ip, 1))))
        self.assertNoResult(asking)
        self.receive(right)
        self.assertIsNotNone(self.successResultOf(asking))

    def test_bound(self) -> None:
        """Only so many servers are asked at the same time."""
        asking = [self.client.ask(SERVER) for _ in range(REQUESTS_MAX)]
        self.assertIsNone(self.successResultOf(self.client.ask(SERVER)))
        self.assertEqual(len(self.port.sent), REQUESTS_MAX)
        self.client.stop()
        for each in asking:
            self.assertIsNone(self.successResultOf(each))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled(self) -> None:
        """A request that is cancelled is forgotten."""
        asking = self.client.ask(SERVER)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual((self.port.handlers, self.clock.getDelayedCalls()), ([], []))
