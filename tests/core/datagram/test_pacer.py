"""The pacer with timers as coarse as those of a reactor."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.pacer import (
    BURST_PACKETS_MIN,
    BURST_TIME,
    FIRST_PACKETS,
    QUANTUM_MAX,
    QUANTUM_PACKETS_MIN,
    Pacer,
)

SEGMENT = 1200  # bytes
TICK = 0.001  # seconds, to which timers are rounded up


def run(rate: float, lateness: float, seconds: float, seed: int = 1) -> list[tuple[float, int]]:
    """Send whatever the pacer allows, with timers that are late, and return when how many bytes left."""
    rng = Random(seed)
    pacer = Pacer(rate, SEGMENT, 0.0)
    pacer.spend(pacer.budget(0.0), 0.0)
    now, sent = 0.0, []
    while now < seconds:
        due = pacer.next_at(now)
        now = max(now, due) - max(now, due) % -TICK + rng.uniform(0, lateness)
        size = pacer.budget(now)
        assert size, "the time has come, but nothing may go"
        pacer.spend(size, now)
        sent.append((now, size))
    return sent


class PacerTests(SynchronousTestCase):
    def test_rate(self) -> None:
        """Over a second exactly the rate leaves, from slow to fast, if timers are as late as is normal."""
        for rate in (50e3, 250e3, 12.5e6, 1e9):
            sent = sum(size for _, size in run(rate, TICK, 1.0))
            allowance = max(QUANTUM_PACKETS_MIN * SEGMENT, rate * BURST_TIME)
            self.assertApproximates(sent, rate, 0.02 * rate + allowance)

    def test_trains(self) -> None:
        """A budget is worth a train: two packets at least, and a millisecond of a fast rate."""
        self.assertTrue(all(size >= 2 * SEGMENT for _, size in run(50e3, TICK, 1.0)))
        self.assertTrue(all(size >= 12_500 for _, size in run(12.5e6, TICK, 0.1)))
        self.assertTrue(all(size >= QUANTUM_MAX for _, size in run(1e9, TICK, 0.1)))

    def test_late_timer(self) -> None:
        """What a late timer has missed becomes no burst."""
        rate = 12.5e6
        pacer = Pacer(rate, SEGMENT, 0.0)
        pacer.spend(pacer.budget(0.0), 0.0)
        self.assertEqual(pacer.budget(5.0), int(rate * BURST_TIME))
        slow = Pacer(50e3, SEGMENT, 0.0)
        slow.spend(slow.budget(0.0), 0.0)
        self.assertEqual(slow.budget(5.0), BURST_PACKETS_MIN * SEGMENT)

    def test_start(self) -> None:
        """The initial window may leave at once; later windows may not."""
        pacer = Pacer(36e3, SEGMENT, 7.0)
        self.assertEqual(pacer.budget(7.0), FIRST_PACKETS * SEGMENT)
        pacer.spend(FIRST_PACKETS * SEGMENT, 7.0)
        self.assertEqual(pacer.budget(99.0), BURST_PACKETS_MIN * SEGMENT)

    def test_debt(self) -> None:
        """Bytes beyond the budget delay those after them."""
        pacer = Pacer(1e6, SEGMENT, 0.0)
        pacer.spend(pacer.budget(0.0) + 10_000, 0.0)
        self.assertEqual(pacer.budget(0.01), 0)
        self.assertApproximates(pacer.next_at(0.01), 0.01 + 2 * SEGMENT / 1e6, 2e-6)

    def test_change(self) -> None:
        """A new rate holds from now on; a smaller bucket keeps no more than it holds."""
        pacer = Pacer(100e6, SEGMENT, 0.0)
        pacer.spend(SEGMENT, 0.0)
        pacer.change(1e6, SEGMENT, 1.0)
        self.assertEqual(pacer.budget(1.0), BURST_PACKETS_MIN * SEGMENT)
        pacer.spend(BURST_PACKETS_MIN * SEGMENT, 1.0)
        pacer.change(2e6, SEGMENT, 1.001)
        self.assertApproximates(pacer.next_at(1.001), 1.001 + (2 * SEGMENT - 1000) / 2e6, 2e-6)

    @given(st.floats(1e3, 1e9), st.floats(0, 1e6), st.integers(0, 10**6))
    def test_next(self, rate: float, now: float, spent: int) -> None:
        """When the time has come that `next_at` gives, there is a budget."""
        pacer = Pacer(rate, SEGMENT, now)
        pacer.spend(spent, now)
        self.assertGreater(pacer.budget(pacer.next_at(now)), 0)

    @settings(max_examples=50)
    @given(st.floats(1e4, 1e9), st.floats(0, 0.05), st.integers(0, 99))
    def test_bursts(self, rate: float, lateness: float, seed: int) -> None:
        """In no period more leaves than the rate and one bucket, however late the timers are."""
        sent = run(rate, lateness, 0.2, seed)
        bucket = max(BURST_PACKETS_MIN * SEGMENT, rate * BURST_TIME)
        for first in range(0, len(sent), 7):
            size = 0
            for now, more in sent[first:]:
                size += more
                self.assertLessEqual(size, rate * (now - sent[first][0]) + bucket + 1)
