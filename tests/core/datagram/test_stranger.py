"""A client that was written from docs/protocol-datagrams.md alone meets `DatagramEndpoint`."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.connection import DatagramConnection
from p2pshare.core.datagram.endpoint import DatagramEndpoint, EndpointSettings
from p2pshare.core.datagram.events import (
    ConnectionMade,
    ControlReceived,
    Event,
    FinReceived,
    HandshakeDone,
    PieceReceived,
    SizeReceived,
)
from p2pshare.core.datagram.trains import Address
from p2pshare.net.session.tls import SessionTls
from p2pshare.wire.datagrams.frames import CloseCode
from p2pshare.wire.keys import SigningKey
from tests.core.datagram.stranger import ACK_SIZE, COMPLETE, MISSING, Stranger

STRANGER: Address = ("192.0.2.7", 4007)
SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
ACCEPTOR_KEY = SigningKey(b"a" * 32)
STRANGER_SEED = b"s" * 32
TICK = 0.01  # seconds between two turns
BUDGET = 2**20  # bytes that the acceptor sends in one turn


class Meeting:
    """A stranger and an acceptor, on a path that loses nothing."""

    def __init__(self, suite: str) -> None:
        tls = SessionTls(ACCEPTOR_KEY)
        self.stranger = Stranger(STRANGER_SEED, suite)
        self.endpoint = DatagramEndpoint(
            EndpointSettings(), random.Random(7).randbytes, lambda _: tls.accept()
        )
        self.events: list[Event] = []
        self.connection: DatagramConnection | None = None
        self.now = 0.0

    def run(self, turns: int = 30) -> None:
        """Deliver what either end sends."""
        for _ in range(turns):
            self.now += TICK
            while self.stranger.sent:
                data = memoryview(self.stranger.sent.popleft())
                self.endpoint.receive_train(data, len(data), STRANGER, self.now)
            while happened := self.endpoint.next_event():
                self.connection = happened.connection
                self.events.append(happened.event)
            self.endpoint.handle_timer(self.now)
            for train in self.endpoint.trains_to_send(self.now, BUDGET):
                for at in range(0, len(train.data), train.segment):
                    self.stranger.receive(bytes(train.data[at : at + train.segment]))

    def welcomed(self) -> DatagramConnection:
        """Finish the handshake, and return the acceptor's end."""
        self.run()
        assert self.connection is not None and self.stranger.keys
        return self.connection


class StrangerTests(SynchronousTestCase):
    def test_handshake(self) -> None:
        """Both ends prove their keys, with either cipher suite."""
        for suite in SUITES:
            meeting = Meeting(suite)
            meeting.welcomed()
            key = SigningKey(STRANGER_SEED).public
            self.assertEqual(meeting.events, [ConnectionMade(), HandshakeDone(key)])
            self.assertEqual(meeting.stranger.shown_key, ACCEPTOR_KEY.public.raw)
            self.assertEqual(meeting.stranger.keys[0].suite, suite)

    def test_control(self) -> None:
        """The control stream brings bytes in both directions."""
        meeting = Meeting(SUITES[0])
        connection = meeting.welcomed()
        meeting.stranger.send_control(b"hello, ")
        meeting.stranger.send_control(b"acceptor")
        connection.send_control(b"welcome" * 1000, meeting.now)
        meeting.run()
        heard = b"".join(each.data for each in meeting.events if isinstance(each, ControlReceived))
        self.assertEqual(heard, b"hello, acceptor")
        self.assertEqual(meeting.stranger.control_in, b"welcome" * 1000)

    def test_transfer(self) -> None:
        """A file arrives, and its transfer completes."""
        meeting = Meeting(SUITES[0])
        connection = meeting.welcomed()
        data = random.Random(8).randbytes(300_000)
        connection.begin(5, len(data))
        for at in range(0, len(data), 100_000):
            connection.send_piece(5, at, memoryview(data)[at : at + 100_000], meeting.now)
        connection.finish(5)
        meeting.run(200)
        self.assertEqual(meeting.stranger.files[5], data)
        self.assertEqual(meeting.stranger.completed, {5})

    def test_sharing(self) -> None:
        """A stranger sends a file: its size is acknowledged, and FIN answered with what is missing, then COMPLETE."""
        meeting = Meeting(SUITES[0])
        connection = meeting.welcomed()
        meeting.stranger.send_piece(9, 2000, 1000, b"b" * 1000)
        meeting.stranger.send_fin(9, 2000)
        meeting.run()
        self.assertEqual(
            meeting.events[-3:-1],
            [SizeReceived(9, 2000), PieceReceived(9, 1000, memoryview(b"b" * 1000))],
        )
        self.assertEqual(meeting.events[-1], FinReceived(9))
        connection.answer_fin(9, [(0, 1000)])
        meeting.run()
        meeting.stranger.send_piece(9, 2000, 0, b"a" * 1000)
        meeting.stranger.send_fin(9, 2000)
        meeting.run()
        self.assertEqual(
            meeting.events[-2:], [PieceReceived(9, 0, memoryview(b"a" * 1000)), FinReceived(9)]
        )
        connection.answer_fin(9, [])
        meeting.run()
        self.assertEqual(
            meeting.stranger.answers,
            [(ACK_SIZE, 9, []), (MISSING, 9, [(0, 1000)]), (COMPLETE, 9, [])],
        )

    def test_key_update(self) -> None:
        """A stranger that updates its keys is understood, and the acceptor follows."""
        meeting = Meeting(SUITES[0])
        connection = meeting.welcomed()
        meeting.stranger.update_keys()
        meeting.stranger.send_control(b"updated")
        connection.send_control(b"followed", meeting.now)
        meeting.run()
        self.assertEqual(meeting.stranger.control_in, b"followed")
        self.assertIn(ControlReceived(b"updated"), meeting.events)
        self.assertEqual(meeting.stranger.phase_in, 1)

    def test_close(self) -> None:
        """CLOSE brings the reason, and ends the connection."""
        meeting = Meeting(SUITES[0])
        meeting.welcomed().close(CloseCode.INTERNAL, "no reason", meeting.now)
        meeting.run()
        self.assertEqual(meeting.stranger.closed, (CloseCode.INTERNAL, "no reason"))
        meeting.run(300)
        self.assertEqual(meeting.endpoint.connections, 0)

    def test_violation(self) -> None:
        """Threat 6: a frame that does not exist is answered with CLOSE."""
        meeting = Meeting(SUITES[0])
        meeting.welcomed()
        meeting.stranger.send(b"\x7f")
        meeting.run()
        assert meeting.stranger.closed is not None
        self.assertEqual(meeting.stranger.closed[0], CloseCode.PROTOCOL_VIOLATION)
