"""Tests of what a channel over datagrams keeps for a user that reads nothing."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.credit import CREDIT_WINDOW
from p2pshare.core.datagram.connection import DatagramConnection
from p2pshare.core.datagram.events import Closed, ControlReceived, Event, FinReceived, PieceReceived
from p2pshare.net.datagrams.welcome_port import WelcomePort
from p2pshare.net.session.datagrams import WAITING_MAX, DatagramChannel
from p2pshare.wire.frames import control_frame

PIECE = PieceReceived(1, 0, memoryview(bytes(64 * 1024)))


class PausedTests(SynchronousTestCase):
    """A peer sends pieces without credit while they are not read."""

    def setUp(self) -> None:
        self.connection: Any = Mock(DatagramConnection, control_waiting=0, is_full=False)
        self.user = Mock()
        port = Mock(WelcomePort)
        self.channel = DatagramChannel(Clock(), port, self.connection, self.user)
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
        self.channel = DatagramChannel(self.clock, Mock(WelcomePort), self.connection, self.user)
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
