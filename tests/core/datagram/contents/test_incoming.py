"""Tests of the answers to transfers that the other end sends."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.contents.incoming import Answer, Incoming
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.frames import MISSING_RANGES_MAX, AckSize, Complete, Missing


class IncomingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.incoming = Incoming(transfers_max=3)

    def sent(self) -> list[Answer]:
        found = list(self.incoming.answers_due())
        for answer in found:
            self.incoming.on_sent(answer)
        return found

    def test_size(self) -> None:
        """A SIZE counts once and is acknowledged once; it never changes."""
        self.assertTrue(self.incoming.on_size(1, 10))
        self.assertFalse(self.incoming.on_size(1, 10))
        self.assertEqual(self.sent(), [AckSize(1)])
        self.assertEqual(self.sent(), [])
        self.incoming.on_lost(AckSize(1))
        self.assertEqual(self.sent(), [AckSize(1)])
        with self.assertRaises(RemoteProtocolError):
            self.incoming.on_size(1, 11)

    def test_bytes(self) -> None:
        """Bytes of unknown transfers are told apart; those beyond the size are an error."""
        self.assertFalse(self.incoming.check(1, 10))
        self.incoming.on_size(1, 10)
        self.assertTrue(self.incoming.check(1, 10))
        with self.assertRaises(RemoteProtocolError):
            self.incoming.check(1, 11)

    def test_the_newest_answer_counts(self) -> None:
        """A lost answer goes out again only while no newer one replaced it."""
        self.incoming.on_size(1, 10)
        self.sent()
        self.incoming.answer_fin(1, [(0, 5)])
        self.assertEqual(self.sent(), [Missing(1, ((0, 5),))])
        self.incoming.on_lost(Missing(1, ((0, 5),)))
        self.assertTrue(self.incoming.is_incomplete)
        self.incoming.answer_fin(1, [])
        self.assertFalse(self.incoming.is_incomplete)
        self.assertEqual(self.sent(), [Complete(1)])
        self.incoming.on_lost(Missing(1, ((0, 5),)))
        self.assertEqual(self.sent(), [])
        self.incoming.on_lost(Complete(1))
        self.assertEqual(self.sent(), [Complete(1)])

    def test_ranges_are_bounded(self) -> None:
        """An answer names the first ranges; a later FIN gets the rest."""
        self.incoming.on_size(1, 1000)
        self.sent()
        self.incoming.answer_fin(1, [(at, at + 1) for at in range(0, 1000, 2)])
        (answer,) = self.sent()
        assert isinstance(answer, Missing)
        self.assertEqual(len(answer.ranges), MISSING_RANGES_MAX)

    def test_ranges_are_cut(self) -> None:
        """Ranges end with the file, as the other end takes anything beyond it as a violation."""
        self.incoming.on_size(1, 10)
        self.sent()
        self.incoming.answer_fin(1, [(3, 50), (60, 70)])
        self.assertEqual(self.sent(), [Missing(1, ((3, 10),))])

    def test_the_oldest_is_forgotten(self) -> None:
        """Threat 44: the number of remembered transfers is bounded."""
        for transfer in range(4):
            self.incoming.on_size(transfer, 10)
        self.assertFalse(self.incoming.knows(0))
        self.assertEqual(self.sent(), [AckSize(1), AckSize(2), AckSize(3)])
        self.incoming.answer_fin(0, [])
        self.incoming.on_lost(AckSize(0))
        self.assertEqual(self.sent(), [])
