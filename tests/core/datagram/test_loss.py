"""Loss detection, with the thresholds of RFC 9002, for single packets and for trains."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.loss import (
    PACKET_THRESHOLD,
    PACKET_THRESHOLD_MAX,
    TIME_THRESHOLD,
    TIME_THRESHOLD_MAX,
    LossDetector,
    Outcome,
)
from p2pshare.core.datagram.rtt import RttEstimator
from p2pshare.core.datagram.sent_packets import SentPackets, TrainPart
from p2pshare.core.ranges import Range, RangeSet
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.frames import Ack
from tests import examples

RTT = 0.1  # seconds


def numbers(parts: object) -> list[int]:
    assert isinstance(parts, list | tuple)
    return [
        part.train.first + at
        for part in parts
        if isinstance(part, TrainPart)
        for run in part.runs
        for at in range(*run)
    ]


class Sender:
    """A ledger and its loss detection; the round trip is known."""

    def __init__(self) -> None:
        self.sent = SentPackets[None]()
        self.rtt = RttEstimator()
        self.loss = LossDetector(self.sent, self.rtt)
        self.now = 0.0
        self.send(1)
        self.now += RTT
        self.ack((0, 1))

    def send(self, *counts: int) -> None:
        for count in counts:
            self.sent.add(count, 100, 100, self.now, None)

    def ack(self, *ranges: Range, ce: int = 0) -> Outcome[None]:
        return self.loss.acknowledge(Ack(ranges[-1][1] - 1, 0, ce, ranges), self.now)


class ThresholdTests(SynchronousTestCase):
    def test_packet_threshold(self) -> None:
        """Packets that are three behind the largest acknowledged one are lost (section 6.1.1)."""
        sender = Sender()
        sender.send(*[1] * 5)
        self.assertEqual(sender.ack((3, 4)).lost, [])
        self.assertEqual(numbers(sender.ack((4, 5)).lost), [1])
        self.assertEqual(numbers(sender.ack((5, 6)).lost), [2])

    def test_time_threshold(self) -> None:
        """A packet that was overtaken is lost after 9/8 of the round trip (section 6.1.2)."""
        sender = Sender()
        sender.send(1)
        began = sender.now
        sender.now += 0.01
        sender.send(1)
        sender.now = began + RTT
        self.assertEqual(sender.ack((2, 3)).lost, [])
        due = sender.loss.get_timer()
        assert due is not None
        round_trip = max(sender.rtt.smoothed, sender.rtt.latest)
        self.assertAlmostEqual(due, began + TIME_THRESHOLD * round_trip)
        self.assertEqual(sender.loss.handle_timer(due - 0.001), Outcome())
        self.assertEqual(numbers(sender.loss.handle_timer(due).lost), [1])
        self.assertIsNone(sender.loss.get_timer())

    def test_newest(self) -> None:
        """Nothing is lost that is newer than all that was acknowledged, however old it is."""
        sender = Sender()
        sender.send(64)
        sender.now += 100
        self.assertEqual(sender.ack((0, 1)), Outcome())
        self.assertEqual(sender.ack((1, 32)).lost, [])
        self.assertEqual(sender.sent.packets_in_flight, 33)

    def test_inside_a_train(self) -> None:
        """A gap before an acknowledged packet of the same train is subject to the threshold of 3."""
        sender = Sender()
        sender.send(64)
        outcome = sender.ack((1, 11), (12, 65))
        self.assertEqual(numbers(outcome.lost), [11])
        sender.send(64)
        self.assertEqual(sender.ack((65, 126), (128, 129)).lost, [])
        self.assertEqual(sender.sent.packets_in_flight, 2)

    def test_overtaken_train(self) -> None:
        """A train that one other train overtakes is not lost; after two it is."""
        sender = Sender()
        sender.send(64, 64, 64)
        self.assertEqual(sender.ack((65, 129)).lost, [])
        self.assertEqual(numbers(sender.ack((65, 193)).lost), list(range(1, 65)))

    def test_end_of_a_train(self) -> None:
        """Packets behind all acknowledged ones of their train wait for as much as a whole train."""
        sender = Sender()
        sender.send(8, 8, 8)
        self.assertEqual(sender.ack((1, 7), (9, 17)).lost, [])
        self.assertEqual(sender.ack((1, 7), (9, 18)).lost, [])
        self.assertEqual(numbers(sender.ack((1, 7), (9, 20)).lost), [7, 8])

    def test_reordering_is_learnt(self) -> None:
        """After a spurious loss the thresholds allow for what was observed, up to their bounds."""
        sender = Sender()
        sender.send(*[1] * 12)
        sender.now += RTT
        self.assertEqual(numbers(sender.ack((6, 7)).lost), [1, 2, 3])
        sender.now += 0.2 * RTT
        outcome = sender.ack((3, 4), (6, 9))
        self.assertEqual(numbers(outcome.late), [3])
        self.assertEqual(sender.loss.packet_threshold, 6)
        self.assertAlmostEqual(sender.loss.time_threshold, 1.2 * RTT / sender.rtt.smoothed)
        sender.send(*[1] * 500)
        self.assertEqual(sender.loss.packet_threshold, 6)
        sender.now += 9 * RTT
        sender.ack((500, 501))
        sender.ack((13, 14), (500, 501))
        self.assertEqual(sender.loss.packet_threshold, PACKET_THRESHOLD_MAX)
        self.assertEqual(sender.loss.time_threshold, TIME_THRESHOLD_MAX)

    def test_never_sent(self) -> None:
        """An ACK of a packet that was never sent is an error of the peer."""
        sender = Sender()
        with self.assertRaises(RemoteProtocolError):
            sender.ack((0, 1), (2**40, 2**41))

    def test_marks(self) -> None:
        """Marks count once, not from an older ACK, and no more than there are new packets."""
        sender = Sender()
        sender.send(*[1] * 9)
        self.assertEqual(sender.ack((1, 4), ce=2).ce, 2)
        self.assertEqual(sender.ack((1, 6), ce=2).ce, 0)
        self.assertEqual(sender.ack((1, 9), ce=1000).ce, 3)
        self.assertEqual(sender.ack((9, 10), ce=1001).ce, 1)


class ProbeTests(SynchronousTestCase):
    def test_expiry(self) -> None:
        """The probe timeout runs from the last packet, doubles, declares nothing lost, and ends with an ACK."""
        sender = Sender()
        self.assertIsNone(sender.loss.get_timer())
        sender.send(2)
        timeout = sender.rtt.probe_timeout
        due = sender.loss.get_timer()
        self.assertEqual(due, sender.now + timeout)
        sender.now += timeout
        self.assertTrue(sender.loss.handle_timer(sender.now).must_probe)
        self.assertEqual(sender.sent.packets_in_flight, 2)
        # Even if the address limit allows no probe, the timer moves on.
        self.assertEqual(sender.loss.get_timer(), sender.now + 2 * timeout)
        sender.send(1)
        sender.now += RTT
        outcome = sender.ack((3, 4))
        self.assertEqual(numbers(outcome.lost), [1, 2])
        self.assertIsNone(sender.loss.get_timer())
        sender.send(1)
        self.assertEqual(sender.loss.get_timer(), sender.now + sender.rtt.probe_timeout)

    def test_mtu_probe(self) -> None:
        """A probe of the path MTU arms no timer, and its loss is told."""
        sender = Sender()
        sender.sent.add(1, 1472, 1472, sender.now, None, in_flight=False)
        self.assertIsNone(sender.loss.get_timer())
        sender.send(1, 1, 1)
        sender.now += RTT
        outcome = sender.ack((2, 5))
        self.assertEqual(numbers(outcome.lost), [1])
        self.assertFalse(outcome.lost[0].train.in_flight)


class PersistentCongestionTests(SynchronousTestCase):
    """RFC 9002, section 7.6.2, has an example of a period of persistent congestion."""

    def lose_over(self, periods: float, arrives: int | None = None) -> bool:
        """Lose packets over a number of probe timeouts; one of them may arrive."""
        sender = Sender()
        sender.now += 0.01
        sender.send(1)
        sender.now += 0.01
        step = periods * sender.rtt.probe_timeout / 4
        sender.send(1)
        for _ in range(4):
            sender.now += step
            sender.send(1)
        sender.now += 0.01
        sender.send(1)
        sender.now += RTT
        between = [] if arrives is None else [(arrives, arrives + 1)]
        return sender.ack((1, 2), *between, (7, 8)).is_congestion_persistent

    def test_duration(self) -> None:
        """Losses over more than three probe timeouts are persistent congestion."""
        # The ACK itself makes the estimate a little larger.
        self.assertTrue(self.lose_over(4))
        self.assertFalse(self.lose_over(2))

    def test_interrupted(self) -> None:
        """An acknowledged packet in the middle ends the period."""
        self.assertFalse(self.lose_over(4, arrives=4))
        self.assertTrue(self.lose_over(8, arrives=6))

    def test_before_first_sample(self) -> None:
        """Without an RTT sample before, no congestion is persistent."""
        sent = SentPackets[None]()
        loss = LossDetector(sent, RttEstimator())
        for now in range(100):
            sent.add(1, 100, 100, float(now), None)
        self.assertFalse(
            loss.acknowledge(Ack(99, 0, 0, ((99, 100),)), 99.1).is_congestion_persistent
        )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 64)),
        st.tuples(st.just("ack"), st.sets(st.integers(0, 200), min_size=1, max_size=40)),
        st.tuples(st.just("wait"), st.floats(0.0, 0.2)),
        st.tuples(st.just("timer"), st.none()),
    ),
    max_size=30,
)


class InvariantTests(SynchronousTestCase):
    @settings(max_examples=examples(150))
    @given(STEPS)
    def test_invariants(self, steps: list[tuple[str, object]]) -> None:
        """In any order of events each packet is resolved once, and a timer is set while any is in flight."""
        sender = Sender()
        resolved, late = set[int](), set[int]()
        for what, value in steps:
            outcome: Outcome[None] = Outcome()
            if what == "send":
                assert isinstance(value, int)
                sender.send(value)
            elif what == "ack":
                assert isinstance(value, set)
                end = sender.sent.next_number
                some = RangeSet((each % end, each % end + 1) for each in value)
                outcome = sender.ack(*some)
            elif what == "wait":
                assert isinstance(value, float)
                sender.now += value
            elif (due := sender.loss.get_timer()) is not None:
                sender.now = max(sender.now, due)
                outcome = sender.loss.handle_timer(sender.now)
                self.assertTrue(outcome.lost or outcome.must_probe)
                after = sender.loss.get_timer()
                self.assertTrue(outcome.lost or (after is not None and after > sender.now))
            once = [*numbers(outcome.acked), *numbers(outcome.lost)]
            self.assertEqual(len(once), len(set(once)))
            self.assertFalse(resolved & set(once))
            resolved.update(once)
            self.assertFalse(late & set(numbers(outcome.late)))
            late.update(numbers(outcome.late))
            self.assertLessEqual(late, resolved)
            flying = sender.sent.next_number - 1 - len(resolved)
            self.assertEqual(sender.sent.packets_in_flight, flying)
            self.assertEqual(sender.sent.bytes_in_flight, 100 * flying)
            self.assertEqual(sender.loss.get_timer() is None, not flying)
            self.assertGreaterEqual(sender.loss.packet_threshold, PACKET_THRESHOLD)
