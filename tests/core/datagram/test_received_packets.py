"""The replay window, and when which ACK is due."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.received_packets import (
    CE_MODULUS,
    PACKETS_MAX,
    ReceivedPackets,
)
from p2pshare.core.datagram.rtt import ACK_DELAY_MAX, GRANULARITY
from p2pshare.core.ranges import RangeSet
from p2pshare.wire.datagrams.frames import Ack
from tests import examples

RTT = 0.08


def arrive(ledger: ReceivedPackets, first: int, end: int, now: float = 0.0) -> None:
    ledger.received([(first, end)], now, RTT, ack_eliciting=True)


def ack(ledger: ReceivedPackets, now: float = 0.0) -> Ack:
    sent = ledger.ack(now)
    assert sent is not None
    return sent


def numbers(sent: Ack) -> set[int]:
    return {number for run in sent.ranges for number in range(*run)}


class ReplayTests(SynchronousTestCase):
    @settings(max_examples=examples(150))
    @given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=8), max_size=20))
    def test_window(self, trains: list[list[int]]) -> None:
        """A packet is new exactly once, and never below the floor, which only rises; memory is bounded."""
        ledger = ReceivedPackets(seen_ranges_max=4, reported_ranges_max=3)
        seen = set[int]()
        floor = 0
        for train in trains:
            for first, end in RangeSet((number, number + 1) for number in train):
                run = range(first, end)
                fresh = all(number >= floor and number not in seen for number in run)
                self.assertEqual(ledger.is_new(first, end), fresh)
                if not fresh:
                    continue
                ledger.received([(first, end)], 0.0, RTT, ack_eliciting=True)
                seen.update(run)
            self.assertGreaterEqual(ledger.floor, floor)
            floor = ledger.floor
            for number in range(62):
                self.assertEqual(ledger.is_new(number), number >= floor and number not in seen)
            sent = ack(ledger)
            self.assertLessEqual(len(sent.ranges), 3)
            self.assertEqual(sent.largest, max(seen))
            self.assertEqual(sent.ranges[-1][1], max(seen) + 1)
            self.assertLessEqual(numbers(sent), seen)

    def test_asking_changes_nothing(self) -> None:
        """A number counts as seen only when its packet was authenticated."""
        ledger = ReceivedPackets()
        self.assertTrue(ledger.is_new(5))
        self.assertTrue(ledger.is_new(3, 2**64))
        self.assertEqual(ledger.largest, -1)
        self.assertIsNone(ledger.ack(0.0))

    def test_huge_numbers(self) -> None:
        """A peer that jumps to the largest number is believed; the numbers between stay new."""
        ledger = ReceivedPackets()
        arrive(ledger, 2**63, 2**63 + 1)
        self.assertTrue(ledger.is_new(2**62))
        self.assertEqual(ack(ledger).ranges, ((2**63, 2**63 + 1),))


class AckTests(SynchronousTestCase):
    def test_second_train(self) -> None:
        """The first train may wait for an eighth of the round trip, and the second may not."""
        ledger = ReceivedPackets()
        self.assertIsNone(ledger.ack_at)
        arrive(ledger, 0, 45, now=1.0)
        self.assertEqual(ledger.ack_at, 1.0 + RTT / 8)
        arrive(ledger, 45, 90, now=1.002)
        self.assertEqual(ledger.ack_at, 1.002)
        self.assertEqual(ack(ledger, 1.002), Ack(89, 0, 0, ((0, 90),)))
        self.assertIsNone(ledger.ack_at)

    def test_delay_bounds(self) -> None:
        """The wait has a lower and an upper bound."""
        for rtt, delay in ((0.0001, GRANULARITY), (3.0, ACK_DELAY_MAX)):
            ledger = ReceivedPackets()
            ledger.received([(0, 1)], 1.0, rtt, ack_eliciting=True)
            self.assertEqual(ledger.ack_at, 1.0 + delay)

    def test_at_once(self) -> None:
        """A gap, a late packet, a mark, a frame that asks, and many packets are acknowledged without delay."""
        for number, at_once, ce in ((11, False, 0), (8, False, 0), (10, True, 0), (10, False, 1)):
            ledger = ReceivedPackets()
            arrive(ledger, 0, 8)
            arrive(ledger, 9, 10)
            ack(ledger)
            run = (number, number + 1)
            ledger.received([run], 1.0, RTT, ack_eliciting=True, at_once=at_once, ce=ce)
            self.assertEqual(ledger.ack_at, 1.0, (number, at_once, ce))
        ledger = ReceivedPackets()
        arrive(ledger, 0, PACKETS_MAX, now=1.0)
        self.assertEqual(ledger.ack_at, 1.0)

    def test_not_due(self) -> None:
        """Packets that only have ACKs, and repetitions, make no ACK due, but the next ACK reports them."""
        ledger = ReceivedPackets()
        ledger.received([(0, 1), (5, 6)], 0.0, RTT, ack_eliciting=False)
        self.assertIsNone(ledger.ack_at)
        self.assertEqual(ack(ledger).ranges, ((0, 1), (5, 6)))
        arrive(ledger, 5, 6)
        self.assertIsNone(ledger.ack_at)

    def test_delay_of_largest(self) -> None:
        """The delay in an ACK is that of its largest packet; marks are counted modulo 2^32."""
        ledger = ReceivedPackets()
        ledger.received([(4, 6)], 1.0, RTT, ack_eliciting=True, ce=CE_MODULUS - 1)
        ledger.received([(2, 3)], 1.5, RTT, ack_eliciting=True, ce=2)
        self.assertEqual(ack(ledger, 2.0), Ack(5, 1_000_000, 1, ((2, 3), (4, 6))))

    def test_acknowledged(self) -> None:
        """What an ACK reported is forgotten when the peer has it; what came since is not, nor is the largest."""
        ledger = ReceivedPackets()
        arrive(ledger, 0, 3)
        arrive(ledger, 5, 8)
        first = ack(ledger)
        arrive(ledger, 4, 5)
        ledger.ack_acknowledged(first)
        self.assertEqual(ack(ledger).ranges, ((4, 5), (7, 8)))
        self.assertFalse(ledger.is_new(1))
        arrive(ledger, 8, 9)
        ledger.ack_acknowledged(ack(ledger))
        self.assertEqual(ack(ledger).ranges, ((8, 9),))
        self.assertEqual(ledger.reported_ranges, 1)
