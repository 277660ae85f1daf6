"""Tests of what a channel over datagrams keeps for a user that reads nothing."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.credit import CREDIT_WINDOW
from p2pshare.core.datagram.connection import DatagramConnection
from p2pshare.core.datagram.events import Event, FinReceived, PieceReceived
from p2pshare.net.datagrams.welcome_port import WelcomePort
from p2pshare.net.session.datagrams import WAITING_MAX, DatagramChannel

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
