"""The model of a link, measured with flows of constant rate before anything is measured on it.

A link that serves too much makes every transport on it look good, and congestion control finds such a fault. So the
first tests hold the link to its rate over any window of time.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.testing.links import JITTER_PERIOD, Arrival, Bursts, Conditions, Link
from tests.strategies import seeds

SIZE = 1250  # bytes
RATE = 1_250_000.0  # bytes per second: 1000 packets
PERFECT = Conditions(delay=0.0)
PROBABILITY_SIGMAS = 5  # a fraction further off its mean than this is no accident


def constant_rate(
    conditions: Conditions, rate: float, seconds: float, seed: int = 1, burst: int = 1
) -> tuple[list[float], list[tuple[Arrival, ...]], Link]:
    """Send packets at `rate` bytes per second, `burst` at once; return when, their fates, and the link."""
    link = Link(conditions, random.Random(seed))
    count = int(rate * seconds / SIZE)
    times = [number // burst * burst * SIZE / rate for number in range(count)]
    return times, [link.send(SIZE, when) for when in times], link


def arrivals_of(fates: list[tuple[Arrival, ...]]) -> list[float]:
    return [arrival.when for fate in fates for arrival in fate]


class RateTests(SynchronousTestCase):
    def test_overload_gets_the_rate(self) -> None:
        """Twice the rate in, exactly the rate out, and the rest is dropped."""
        conditions = Conditions(rate=RATE, queue=50_000, delay=0.05)
        _, fates, link = constant_rate(conditions, 2 * RATE, seconds=10.0)
        arrived = [when for when in arrivals_of(fates) if when <= 10.05]
        self.assertApproximates(len(arrived), 10.0 * RATE / SIZE, 1)
        self.assertEqual(link.counts.entered, link.counts.dropped + len(arrivals_of(fates)))

    @given(st.sampled_from([0.3, 0.9, 1.0, 1.1, 2.0, 10.0]), st.integers(1, 64), seeds)
    def test_no_window_gets_more(self, load: float, burst: int, seed: int) -> None:
        """In no window of time do more packets arrive than the rate allows, whatever the load and its bursts."""
        conditions = Conditions(rate=RATE, queue=30_000, delay=0.02, loss=0.01)
        _, fates, _ = constant_rate(conditions, load * RATE, 0.5, seed, burst)
        arrived = arrivals_of(fates)
        for window in (0.001, 0.01, 0.1):
            most = max(
                bisect_right(arrived, start + window) - number
                for number, start in enumerate(arrived)
            )
            self.assertLessEqual(most, math.floor(window * RATE / SIZE + 1e-6) + 1)

    def test_underload_waits_for_nothing(self) -> None:
        """At half the rate each packet arrives after its own transmission and the delay."""
        conditions = Conditions(rate=RATE, queue=50_000, delay=0.05)
        times, fates, _ = constant_rate(conditions, RATE / 2, seconds=2.0)
        for when, (arrival,) in zip(times, fates, strict=True):
            self.assertAlmostEqual(arrival.when, when + SIZE / RATE + 0.05)

    def test_no_rate(self) -> None:
        """Without a rate any number of packets arrives after the delay."""
        link = Link(Conditions(delay=0.05), random.Random(1))
        self.assertEqual(
            {link.send(SIZE, 1.0) for _ in range(1000)}, {(Arrival(1.05, False, False),)}
        )

    def test_lost_packets_use_the_line(self) -> None:
        """Loss does not leave more room for others: of the rate, the fraction that is not lost arrives."""
        conditions = Conditions(rate=RATE, queue=50_000, delay=0.0, loss=0.2)
        _, fates, link = constant_rate(conditions, 2 * RATE, seconds=20.0)
        arrived = sum(when <= 20.0 for when in arrivals_of(fates))
        self.assertApproximates(arrived / (20.0 * RATE / SIZE), 0.8, 0.015)
        self.assertApproximates(link.counts.bytes_sent, 20.0 * RATE + 50_000, 2 * SIZE)

    def test_other_conditions(self) -> None:
        """A rate that changes counts from the next packet on."""
        link = Link(Conditions(rate=RATE, delay=0.0), random.Random(1))
        (first,) = link.send(SIZE, 0.0)
        link.conditions = dataclasses.replace(link.conditions, rate=RATE / 2)
        (second,) = link.send(SIZE, 0.0)
        self.assertAlmostEqual(first.when, SIZE / RATE)
        self.assertAlmostEqual(second.when, 3 * SIZE / RATE)


class QueueTests(SynchronousTestCase):
    def test_bound(self) -> None:
        """No packet waits for more than the queue, and some wait for all of it."""
        conditions = Conditions(rate=RATE, queue=50_000, delay=0.0)
        times, fates, _ = constant_rate(conditions, 1.5 * RATE, seconds=5.0)
        waits = [
            fate[0].when - when - SIZE / RATE
            for when, fate in zip(times, fates, strict=True)
            if fate
        ]
        self.assertLessEqual(max(waits), 50_000 / RATE + 1e-9)
        self.assertGreater(max(waits), (50_000 - SIZE) / RATE)

    def test_burst(self) -> None:
        """Of a burst, the queue takes what it holds and the packet behind which nothing waits."""
        link = Link(Conditions(rate=RATE, queue=10.5 * SIZE), random.Random(1))
        fates = [bool(link.send(SIZE, 0.0)) for _ in range(20)]
        self.assertEqual(fates, [True] * 11 + [False] * 9)
        self.assertEqual(link.counts.dropped, 9)
        self.assertAlmostEqual(link.backlog(0.0), 11 * SIZE)
        self.assertAlmostEqual(link.backlog(0.005), 6 * SIZE)
        self.assertEqual(link.backlog(1.0), 0.0)

    def test_marks(self) -> None:
        """Packets behind more than the threshold are marked, others are not."""
        link = Link(Conditions(rate=RATE, mark_above=4.5 * SIZE), random.Random(1))
        marks = [link.send(SIZE, 0.0)[0].is_marked for _ in range(10)]
        self.assertEqual(marks, [False] * 5 + [True] * 5)
        self.assertEqual(link.counts.marked, 5)


class LossTests(SynchronousTestCase):
    def check_fraction(
        self, count: int, of: int, probability: float, correlation: float = 1
    ) -> None:
        """Hold a count to a binomial distribution; `correlation` widens its variance."""
        sigma = math.sqrt(of * probability * (1 - probability) * correlation)
        self.assertApproximates(count, of * probability, PROBABILITY_SIGMAS * sigma)

    def test_fractions(self) -> None:
        """Each fault happens to its fraction of the packets."""
        for probability in (0.01, 0.2):
            conditions = dataclasses.replace(
                PERFECT, loss=probability, corruption=probability, duplication=probability
            )
            _, fates, link = constant_rate(conditions, RATE, seconds=50.0)
            kept = len(fates) - link.counts.lost
            self.check_fraction(link.counts.lost, len(fates), probability)
            self.check_fraction(link.counts.duplicated, kept, probability)
            self.check_fraction(link.counts.corrupted, len(arrivals_of(fates)), probability)
            self.assertEqual(sum(len(fate) == 2 for fate in fates), link.counts.duplicated)

    def test_losses_are_independent(self) -> None:
        """With random loss, a packet behind a lost one is lost no more often."""
        _, fates, _ = constant_rate(dataclasses.replace(PERFECT, loss=0.1), RATE, seconds=50.0)
        lost = [not fate for fate in fates]
        behind = [second for first, second in itertools.pairwise(lost) if first]
        self.check_fraction(sum(behind), len(behind), 0.1)

    def test_bursts(self) -> None:
        """Loss in bursts has the mean of the model of Gilbert and Elliott, and its length of bursts."""
        bursts = Bursts(begin=0.005, end=0.1)
        _, fates, link = constant_rate(
            dataclasses.replace(PERFECT, bursts=bursts), RATE, seconds=200.0
        )
        self.assertAlmostEqual(bursts.mean_loss, 0.0476, places=4)
        self.check_fraction(link.counts.lost, len(fates), bursts.mean_loss, 2 / bursts.end)
        lost = [not fate for fate in fates]
        runs = sum(second and not first for first, second in itertools.pairwise(lost))
        self.assertApproximates(link.counts.lost / runs, 1 / bursts.end, 1.5)

    def test_partial_bursts(self) -> None:
        """In the bad state a fraction of the packets may still pass."""
        bursts = Bursts(begin=0.02, end=0.05, loss=0.4)
        _, fates, link = constant_rate(
            dataclasses.replace(PERFECT, bursts=bursts), RATE, seconds=100.0
        )
        self.check_fraction(link.counts.lost, len(fates), bursts.mean_loss, 2 / bursts.end)


class DelayTests(SynchronousTestCase):
    def test_jitter(self) -> None:
        """Delays with jitter are spread evenly, and packets keep their order."""
        conditions = Conditions(delay=0.05, jitter=0.04)
        link = Link(conditions, random.Random(1))
        sparse = [link.send(SIZE, 1.0 * second)[0].when - second for second in range(5000)]
        self.assertGreaterEqual(min(sparse), 0.05)
        self.assertLessEqual(max(sparse), 0.09 + 1e-9)
        for quarter in range(4):
            inside = sum(quarter <= (delay - 0.05) / 0.01 < quarter + 1 for delay in sparse)
            self.assertApproximates(inside, 1250, 200)
        _, fates, _ = constant_rate(conditions, RATE, seconds=5.0)
        arrived = arrivals_of(fates)
        self.assertEqual(arrived, sorted(arrived))
        self.assertGreater(len(set(arrived)), 5.0 / JITTER_PERIOD / 2)

    def test_reordering(self) -> None:
        """The packets that are held back, and only those, are overtaken."""
        conditions = Conditions(delay=0.05, reordering=0.1, reordering_delay=0.03)
        times, fates, _ = constant_rate(conditions, RATE, seconds=20.0)
        extra = [fate[0].when - when - 0.05 for when, fate in zip(times, fates, strict=True)]
        late = [each for each in extra if each > 1e-9]
        self.assertApproximates(len(late) / len(extra), 0.1, 0.01)
        self.assertLessEqual(max(late), 0.03 + 1e-9)
        self.assertApproximates(sum(late) / len(late), 0.015, 0.001)

    def test_duplicates_are_sorted(self) -> None:
        """The first copy is the one that arrives first."""
        conditions = Conditions(duplication=1.0, reordering=1.0, reordering_delay=0.1)
        _, fates, _ = constant_rate(conditions, RATE, seconds=1.0)
        self.assertTrue(all(len(fate) == 2 and fate[0].when <= fate[1].when for fate in fates))


class MtuTests(SynchronousTestCase):
    def test_larger_packets_disappear(self) -> None:
        """A packet above the MTU neither arrives nor uses the line."""
        link = Link(Conditions(rate=RATE, mtu=SIZE), random.Random(1))
        self.assertTrue(link.fits(SIZE))
        self.assertFalse(link.fits(SIZE + 1))
        self.assertEqual(link.send(SIZE + 1, 0.0), ())
        self.assertEqual(link.backlog(0.0), 0.0)
        self.assertEqual(len(link.send(SIZE, 0.0)), 1)
        self.assertEqual(link.counts.too_large, 1)


class DeterminismTests(SynchronousTestCase):
    def test_same_seed(self) -> None:
        """The same seed gives the same arrivals, another seed gives others."""
        conditions = Conditions(
            RATE, loss=0.1, bursts=Bursts(0.01, 0.1), corruption=0.1, jitter=0.01, duplication=0.1
        )
        runs = [constant_rate(conditions, 1.2 * RATE, 1.0, seed)[1] for seed in (1, 1, 2)]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])
