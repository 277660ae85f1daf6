"""The network in memory: trains, merging, rebinding, refusal, and the cost of a long run."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram_core import Address, DatagramCore, Outgoing, TrainCore
from p2pshare.testing.links import Conditions
from p2pshare.testing.network import HEADERS, Fate, VirtualNetwork
from tests.strategies import seeds

ALICE = ("10.0.0.1", 5000)
BOB = ("10.0.0.2", 6000)
SEGMENT = 1222  # bytes: 1250 on the line
MBIT = 125_000.0  # bytes per second


@dataclass(frozen=True)
class Train:
    """A train to send."""

    data: bytes
    segment: int
    address: Address


@dataclass
class Received:
    """A train that has arrived."""

    data: bytes
    segment: int
    source: Address
    when: float
    marked: int


@dataclass
class TrainEnd:
    """A core that sends trains at given times, and notes what it receives."""

    due: deque[tuple[float, Train]] = field(default_factory=deque)
    received: list[Received] = field(default_factory=list)
    refused: list[Address] = field(default_factory=list)
    kept: list[memoryview] = field(default_factory=list)
    called_early: bool = False

    @property
    def segments(self) -> list[bytes]:
        return [
            each.data[start : start + each.segment]
            for each in self.received
            for start in range(0, len(each.data), each.segment)
        ]

    @property
    def size(self) -> int:
        return sum(len(each.data) for each in self.received)

    def receive_train(
        self, data: memoryview, segment: int, address: Address, now: float, ce: int = 0
    ) -> None:
        self.kept.append(data)
        self.received.append(Received(bytes(data), segment, address, now, ce))

    def trains_to_send(self, now: float, budget: int) -> list[Train]:
        trains = []
        while self.due and self.due[0][0] <= now and budget > 0:
            trains.append(self.due.popleft()[1])
            budget -= len(trains[-1].data)
        return trains

    def datagram_refused(self, address: Address) -> None:
        self.refused.append(address)

    def get_timer(self) -> float | None:
        return self.due[0][0] if self.due else None

    def handle_timer(self, now: float) -> None:
        self.called_early |= not self.due or self.due[0][0] > now

    def next_event(self) -> None:
        return None


class SingleEnd:
    """A core of single datagrams, which returns each one it receives."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Address, float]] = []
        self._answers: Outgoing = []

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        self.received.append((data, addr, now))
        self._answers.append((data, addr))

    def datagrams_to_send(self, now: float) -> Outgoing:
        answers, self._answers = self._answers, []
        return answers

    def get_timer(self) -> float | None:
        return None

    def handle_timer(self, now: float) -> None:
        raise AssertionError("no timer")

    def next_event(self) -> None:
        return None


class Restless(SingleEnd):
    """A core whose timer is always due."""

    def get_timer(self) -> float | None:
        return 0.0

    def handle_timer(self, now: float) -> None:
        pass


class Pair:
    """Alice, who sends, and Bob, who receives."""

    def __init__(
        self, conditions: Conditions | None = None, *, merging: float = 0.0, seed: int = 1
    ) -> None:
        self.network = VirtualNetwork(random.Random(seed), conditions, merging=merging)
        self.alice, self.bob = TrainEnd(), TrainEnd()
        self.network.attach(ALICE, self.alice)
        self.network.attach(BOB, self.bob)

    def send(self, data: bytes, segment: int = SEGMENT, when: float = 0.0) -> None:
        self.alice.due.append((when, Train(data, segment, BOB)))

    def run(self, until: float = 1e6) -> TrainEnd:
        self.network.run(until)
        return self.bob


def numbered(count: int, size: int = SEGMENT) -> bytes:
    """Return segments that begin with their numbers."""
    return b"".join(number.to_bytes(4) + bytes(size - 4) for number in range(count))


def numbers(end: TrainEnd) -> list[int]:
    return [int.from_bytes(segment[:4]) for segment in end.segments]


class TrainTests(SynchronousTestCase):
    def test_doubles_are_what_they_stand_for(self) -> None:
        """The ends of these tests have the interfaces of cores."""
        self.assertIsInstance(TrainEnd(), TrainCore)
        single: DatagramCore = SingleEnd()
        self.assertNotIsInstance(single, TrainCore)

    def test_train_arrives_merged(self) -> None:
        """Without a rate a train arrives as it was sent, with a shorter last segment."""
        pair = Pair()
        data = random.Random(1).randbytes(10 * SEGMENT + 7)
        pair.send(data)
        (received,) = pair.run().received
        self.assertEqual(received, Received(data, SEGMENT, ALICE, 0.001, 0))
        self.assertEqual(pair.network.sent, 11)

    def test_segments_arrive_one_by_one(self) -> None:
        """Behind a line the segments of a train arrive at their own times, unless the receiver waits for more."""
        conditions = Conditions(rate=10 * MBIT, delay=0.05)
        pair = Pair(conditions)
        pair.send(numbered(20))
        times = [each.when for each in pair.run().received]
        for number, when in enumerate(times):
            self.assertAlmostEqual(when, 0.05 + (number + 1) * 0.001)
        merged = Pair(conditions, merging=0.0045)
        merged.send(numbered(20))
        received = merged.run().received
        self.assertEqual([len(each.data) // SEGMENT for each in received], [5, 5, 5, 5])
        self.assertAlmostEqual(received[0].when, 0.051 + 0.0045)
        self.assertEqual(numbers(merged.bob), list(range(20)))

    @given(
        st.lists(st.integers(1, 3000), min_size=1, max_size=8),
        st.integers(600, 1400),
        st.floats(0, 0.5),
        st.sampled_from([0.0, 0.002]),
        seeds,
    )
    def test_trains_lose_segments_alone(
        self, sizes: list[int], segment: int, loss: float, merging: float, seed: int
    ) -> None:
        """The segments of trains meet the same fate as datagrams of their own, and merging changes no byte."""
        whole, single = (
            Pair(Conditions(rate=MBIT, loss=loss), merging=merging, seed=seed) for _ in range(2)
        )
        for size in sizes:
            data = random.Random(size).randbytes(size)
            whole.send(data, segment)
            for start in range(0, size, segment):
                single.send(data[start : start + segment], segment)
        self.assertEqual(whole.run().segments, single.run().segments)

    def test_buffer_is_lent(self) -> None:
        """A buffer that a core keeps is overwritten after the call."""
        pair = Pair()
        pair.send(b"x" * 100)
        self.assertEqual(pair.run().received[0].data, b"x" * 100)
        self.assertEqual(bytes(pair.bob.kept[0]), bytes(100))

    def test_merged_trains_are_bounded(self) -> None:
        """A merged train has at most 64 segments and 65 507 bytes."""
        pair = Pair()
        pair.send(numbered(100, 100), 100)
        pair.send(numbered(60), SEGMENT)
        counts = [len(each.data) // each.segment for each in pair.run().received]
        self.assertEqual(counts, [64, 36, 53, 7])

    def test_sources_are_not_merged(self) -> None:
        """Segments of two senders stay in trains of their own."""
        pair = Pair()
        pair.network.send_at(0.1, b"one", ALICE, BOB)
        pair.network.send_at(0.1, b"two", ("10.0.0.3", 1), BOB)
        self.assertEqual([each.data for each in pair.run().received], [b"one", b"two"])

    def test_marks_are_counted(self) -> None:
        """A train says how many of its segments are marked."""
        pair = Pair(Conditions(rate=10 * MBIT, mark_above=4.5 * 1250), merging=1.0)
        pair.send(numbered(20))
        self.assertEqual([each.marked for each in pair.run().received], [15])

    def test_corruption_flips_a_bit(self) -> None:
        """A corrupted segment differs in one bit."""
        pair = Pair(Conditions(corruption=1.0))
        pair.send(bytes(1000), 100)
        (received,) = pair.run().received
        for start in range(0, 1000, 100):
            bits = int.from_bytes(received.data[start : start + 100])
            self.assertEqual(bits.bit_count(), 1)

    def test_timers_are_not_early(self) -> None:
        """A core is called when its timer is due, not when an earlier one was."""
        pair = Pair()
        pair.send(b"x", when=2.0)
        pair.network.call_at(1.0, lambda: pair.alice.due.clear())
        pair.network.call_at(1.0, lambda: pair.send(b"y", when=3.0))
        self.assertAlmostEqual(pair.run().received[0].when, 3.001)
        self.assertFalse(pair.alice.called_early)


class MtuTests(SynchronousTestCase):
    def test_black_hole(self) -> None:
        """Segments above the MTU of the link disappear, others arrive."""
        pair = Pair(Conditions(mtu=SEGMENT + HEADERS))
        pair.send(bytes(3 * (SEGMENT + 1)), SEGMENT + 1)
        pair.send(bytes(3 * SEGMENT), SEGMENT)
        self.assertEqual(pair.run().size, 3 * SEGMENT)
        self.assertEqual(pair.alice.refused, [])

    def test_refusal(self) -> None:
        """A link that refuses larger packets says so, and carries nothing of the train."""
        pair = Pair(Conditions(mtu=SEGMENT + HEADERS, refuses_larger=True))
        pair.send(bytes(3 * SEGMENT + 4), SEGMENT + 1)
        pair.send(bytes(SEGMENT), SEGMENT)
        self.assertEqual(pair.run().size, SEGMENT)
        self.assertEqual(pair.alice.refused, [BOB])


class RebindingTests(SynchronousTestCase):
    def check_rebinding(self, new: Address) -> None:
        pair = Pair(Conditions(rate=MBIT, delay=0.01))
        echo = SingleEnd()
        pair.network.detach(BOB)
        pair.network.attach(BOB, echo)
        pair.send(b"1")
        pair.send(b"2", when=1.0)
        pair.network.call_at(0.5, lambda: pair.network.rebind(ALICE, new))
        pair.network.send_at(2.0, b"late", BOB, ALICE)
        pair.run()
        self.assertEqual([source for _, source, _ in echo.received], [ALICE, new])
        self.assertEqual([each.data for each in pair.alice.received], [b"1", b"2"])
        link = pair.network.link(new[0], BOB[0])
        self.assertEqual(link.counts.entered, 2)

    def test_port(self) -> None:
        """After a rebinding a core sends and receives under another port; the old one is dead."""
        self.check_rebinding((ALICE[0], 5001))

    def test_address(self) -> None:
        """After a rebinding a core sends and receives under another address, over the same links."""
        self.check_rebinding(("192.0.2.1", 9))


class LinkTests(SynchronousTestCase):
    def test_directions_are_links_of_their_own(self) -> None:
        """A change of one direction leaves the other one alone, and `change` changes all."""
        pair = Pair()
        pair.network.link(ALICE[0], BOB[0]).conditions = Conditions(loss=1.0)
        pair.send(b"x")
        pair.bob.due.append((0.0, Train(b"y", 1, ALICE)))
        pair.run()
        self.assertEqual((pair.bob.size, pair.alice.size), (0, 1))
        pair.network.change(Conditions())
        pair.send(b"z", when=5.0)
        pair.network.pump(ALICE)
        self.assertEqual(pair.run().size, 1)

    def test_ports_share_a_link(self) -> None:
        """Two flows between two hosts share the rate of the link."""
        pair = Pair(Conditions(rate=MBIT, delay=0.0))
        second = TrainEnd()
        pair.network.attach((BOB[0], 7000), second)
        pair.send(numbered(10))
        pair.alice.due.append((0.0, Train(numbered(10), SEGMENT, (BOB[0], 7000))))
        pair.run()
        self.assertAlmostEqual(pair.bob.received[-1].when, 0.1)
        self.assertAlmostEqual(second.received[-1].when, 0.2)

    def test_rule(self) -> None:
        """A rule decides about segments one by one, in place of the link."""
        pair = Pair()

        def rule(number: int, data: bytes, source: Address, destination: Address) -> Fate | None:
            return {1: (), 2: (0.3, 0.5)}.get(number)

        pair.network.rule = rule
        pair.send(numbered(4))
        self.assertEqual(numbers(pair.run()), [0, 3, 2, 2])


class RunTests(SynchronousTestCase):
    def test_endless_loop(self) -> None:
        """A core that is always due is an error, not an endless test."""
        network = VirtualNetwork(random.Random(1))
        network.attach(ALICE, Restless())
        with self.assertRaises(AssertionError):
            network.run(1.0)

    def check_constant_rate(self, load: float, merging: float) -> Pair:
        """Send 12 MB in trains of 10 over 100 Mbit/s."""
        pair = Pair(
            Conditions(rate=100 * MBIT, queue=125_000, delay=0.05, loss=0.05), merging=merging
        )
        step = 10 * 1250 / (load * 100 * MBIT)

        data = numbered(10)
        for number in range(12_000_000 // len(data)):
            pair.send(data, when=number * step)
        pair.run()
        return pair

    def test_rate_through_trains(self) -> None:
        """A flow of twice the rate gets the rate, less the loss, however its segments are merged."""
        for merging in (0.0, 0.002):
            pair = self.check_constant_rate(2.0, merging)
            seconds = pair.bob.received[-1].when - pair.bob.received[0].when
            packets = pair.bob.size / SEGMENT
            self.assertApproximates(packets * 1250 / seconds / (95 * MBIT), 1.0, 0.01)
