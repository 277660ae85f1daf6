"""Tests of the timer for ends that are silent."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.silence import PINGS_MAX, SilenceTimer
from p2pshare.core.datagram_core import Address
from p2pshare.testing.network import Fate
from tests.core.datagram.pair import HERE, THERE, Pair


class SilenceTests(SynchronousTestCase):
    def test_times(self) -> None:
        """PINGs go out 1, 3, 7, 15 and 31 s after the last packet, and no more until another one comes."""
        timer = SilenceTimer(10.0)
        timer.heard(100.0)
        times = []
        for _ in range(PINGS_MAX):
            times.append(timer.due)
            timer.pinged()
        self.assertEqual(times, [101.0, 103.0, 107.0, 115.0, 131.0])
        self.assertIsNone(timer.due)
        timer.heard(200.0)
        self.assertEqual(timer.due, 201.0)

    def test_abandoned_transfer(self) -> None:
        """A transfer that is announced and never sent costs five PINGs of each end, and then no timer."""
        pair = Pair().open()
        pair.run(5.0)
        before = pair.network.sent
        pair.acceptor.up.begin(1, 1000)
        pair.acceptor.up.send_piece(1, 0, memoryview(bytes(10)), pair.network.now)
        pair.run(300.0)
        self.assertIn(1, pair.opener.files)
        self.assertLess(pair.network.sent - before, 4 * PINGS_MAX + 8)
        self.assertEqual([each.get_timer() for each in pair.endpoints.values()], [None, None])

    def test_sender_without_credit(self) -> None:
        """An end that waits with a part of a file sends PINGs, which open its NAT if that has forgotten the path."""
        pair = Pair().open()
        pair.acceptor.up.begin(1, 1000)
        pair.acceptor.up.send_piece(1, 0, memoryview(bytes(10)), pair.network.now)
        pair.run(0.5)
        sent: list[Address] = []

        def only_outgoing(_: int, __: bytes, source: Address, ___: Address) -> Fate | None:
            sent.append(source)
            return () if source == HERE else None  # a NAT before `THERE` lets nothing in

        pair.network.rule = only_outgoing
        pair.run(1.5)
        self.assertIn(THERE, sent)
