"""Tests of what a channel over datagrams keeps for a user that reads nothing."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.credit import CREDIT_WINDOW
from p2pshare.core.datagram.connection import DatagramConnection
from p2pshare.core.datagram.events import (
    Closed,
    ControlReceived,
    Event,
    FinReceived,
    HandshakeDone,
    PieceReceived,
    SizeReceived,
)
from p2pshare.core.session import Role, SessionCore
from p2pshare.net.datagrams.welcome_port import WelcomePort
from p2pshare.net.session.datagrams import WAITING_MAX, DatagramChannel
from p2pshare.net.session.driver import SessionDriver
from p2pshare.testing.sessions import CREDIT, RecordingOwner, RecordingUser
from p2pshare.wire.frames import control_frame
from p2pshare.wire.session_messages import VERSION, Hello, Welcome
from p2pshare.wire.transfer_messages import Get
from tests.net.session_pairs import ALICE

PIECE = PieceReceived(1, 0, memoryview(bytes(64 * 1024)))


class PausedTests(SynchronousTestCase):
    """A peer sends pieces without credit while they are not read."""

    def setUp(self) -> None:
        self.connection: Any = Mock(DatagramConnection, control_waiting=0, is_full=False)
        self.user = Mock()
        port = Mock(WelcomePort)
        self.channel = DatagramChannel(Clock(), port, self.connection, self.user, is_opener=False)
        self.channel.pause()

    def send(self, event: Event, count: int) -> None:
        for _ in range(count):
            self.channel.happened(event)

    def test_credit(self) -> None:
        """All that the credit of a session allows waits, and arrives."""
        count = CREDIT_WINDOW // len(PIECE.data)
        self.send(PIECE, count)
        self.channel.resume()
        while self.channel.read(2**20):
            pass
        self.assertEqual(self.user.piece_received.call_count, count)
        self.send(PIECE, count)
        self.connection.abort.assert_not_called()

    def test_too_many_pieces(self) -> None:
        """Threat 44: a peer that goes on without credit ends its connection."""
        self.send(PIECE, WAITING_MAX // len(PIECE.data) + 1)
        self.connection.abort.assert_called_once_with()
        self.assertFalse(self.channel._waiting)

    def test_too_many_frames(self) -> None:
        """The same holds for frames without bytes of a file."""
        self.send(FinReceived(1), 200_000)
        self.connection.abort.assert_called_once_with()


class ClosedTests(SynchronousTestCase):
    """The connection is over before everything that came over it is read."""

    def setUp(self) -> None:
        self.connection: Any = Mock(DatagramConnection, control_waiting=0, is_full=False)
        self.user = Mock()
        self.clock = Clock()
        self.channel = DatagramChannel(
            self.clock, Mock(WelcomePort), self.connection, self.user, is_opener=False
        )
        self.channel.pause()
        self.channel.happened(ControlReceived(control_frame(b"{}") * 2))
        self.channel.happened(Closed(None))

    def assert_closed(self) -> None:
        """The user hears of the end once, and not within a call of its own."""
        self.user.closed.assert_not_called()
        self.clock.advance(0)
        self.user.closed.assert_called_once_with(None)
        self.clock.advance(60)
        self.user.closed.assert_called_once()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_read(self) -> None:
        """All is read first."""
        self.channel.resume()
        self.user.closed.assert_not_called()
        self.channel.read(2**20)
        self.assertEqual(self.user.control_received.call_count, 2)
        self.user.closed.assert_called_once_with(None)

    def test_abort(self) -> None:
        """A user that breaks off reads nothing more."""
        self.channel.abort()
        self.assert_closed()

    def test_close(self) -> None:
        """So does one that ends the session."""
        self.channel.half_close()
        self.assert_closed()

    def test_farewell(self) -> None:
        """The same holds for one that is told to end it by what it reads."""
        self.user.control_received.side_effect = lambda _: self.channel.close()
        self.channel.read(2**20)
        self.user.control_received.assert_called_once()
        self.assert_closed()


class OvertakenTests(SynchronousTestCase):
    """The answer to an early request arrives before `welcome`, whose packet was lost and repeated."""

    def setUp(self) -> None:
        self.clock, self.owner = Clock(), RecordingOwner()
        hello = Hello(VERSION, "test/1", CREDIT)
        core = SessionCore(Role.OPENER, 0.0, name="alice", hello=hello)
        core.send_early([Get(1, ("cat.png",))])
        self.driver = SessionDriver(self.clock, core, self.owner)
        self.connection: Any = Mock(DatagramConnection, control_waiting=0, is_full=False, cipher="")
        self.connection.remote = "192.0.2.1", 50001
        self.channel = DatagramChannel(
            self.clock, Mock(WelcomePort), self.connection, self.driver, is_opener=True
        )

    def happened(self, *events: Event) -> None:
        for event in events:
            self.channel.happened(event)

    def test_welcome_is_late(self) -> None:
        """What has overtaken it is received behind it, though the memory of a train is used again."""
        train = bytearray(b"meow")
        welcome = control_frame(Welcome(VERSION, "test/2", "bob", CREDIT).to_json())
        self.happened(HandshakeDone(ALICE.public), SizeReceived(1, 4))
        self.happened(PieceReceived(1, 0, memoryview(train)), FinReceived(1))
        train[:] = b"WOOF"
        self.happened(ControlReceived(welcome[:7]), ControlReceived(welcome[7:]))
        self.driver.begin(user := RecordingUser())
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual((user.pieces, user.sizes), ([(1, 0, b"meow")], {1: 4}))
        self.connection.answer_fin.assert_called_once_with(1, ())  # all has come
        self.connection.abort.assert_not_called()

    def test_it_never_comes(self) -> None:
        """Threat 44: what waits for it is bounded."""
        self.happened(HandshakeDone(ALICE.public))
        self.happened(*[PIECE] * (WAITING_MAX // len(PIECE.data) + 1))
        self.connection.abort.assert_called_once_with()
