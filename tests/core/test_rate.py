"""Tests of `p2pshare.core.rate`."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.rate import BURST_MIN, BURST_TIME, UNLIMITED, RateLimit, RateMeter, fair_shares

RATES = st.floats(1_000, 1e9)
STEPS = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 300_000)), max_size=50)


class SharesTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """All that want more than there is get the same; what one cannot use goes to the others."""
        for limit, wanted, shares in (
            (9.0, [inf, inf, inf], [3, 3, 3]),
            (9.0, [1, inf, inf], [1, 4, 4]),
            (9.0, [1, 2, 100], [1, 2, 6]),
            (9.0, [1, 2], [4, 5]),
            (9.0, [], []),
        ):
            self.assertEqual(fair_shares(limit, wanted), shares)

    @given(st.floats(1, 1e9), st.lists(st.floats(0, 1e10) | st.just(inf), min_size=1, max_size=9))
    def test_fair(self, limit: float, wanted: list[float]) -> None:
        """All of the limit is divided; whoever gets less than wanted gets no less than anybody else."""
        shares = fair_shares(limit, wanted)
        self.assertLess(abs(sum(shares) - limit), 1e-6 * limit)
        for share, want in zip(shares, wanted, strict=True):
            self.assertTrue(share >= want * (1 - 1e-9) or share >= max(shares) * (1 - 1e-9))


class RateLimitTests(SynchronousTestCase):
    def test_no_limit(self) -> None:
        """Without a limit everything may go at once, however much went before."""
        limit = RateLimit(None, 0.0)
        limit.spend(10**15, 0.0)
        self.assertEqual((limit.available(0.0), limit.when(10**15, 7.0)), (UNLIMITED, 7.0))

    def test_burst(self) -> None:
        """After a pause a quarter of a second's worth may go at once, and no more however long the pause was."""
        limit = RateLimit(1_000_000, 0.0)
        self.assertEqual(limit.available(0.0), 1_000_000 * BURST_TIME)
        self.assertEqual(limit.available(3600.0), 1_000_000 * BURST_TIME)

    def test_small_burst(self) -> None:
        """However low a rate is, a small piece may go at once."""
        self.assertEqual(RateLimit(1_000, 0.0).available(0.0), BURST_MIN)
        self.assertEqual(RateLimit(1_000, 0.0, burst_min=500).available(0.0), 500)

    def test_when(self) -> None:
        """Missing tokens arrive at the rate; a piece larger than a burst may be sent with a full burst."""
        limit = RateLimit(100_000, 5.0)
        limit.spend(25_000, 5.0)
        self.assertEqual(limit.available(5.0), 0)
        self.assertAlmostEqual(limit.when(10_000, 5.0), 5.1)
        self.assertAlmostEqual(limit.when(10**9, 5.0), 5.25)
        self.assertAlmostEqual(limit.available(5.1), 10_000, -1)

    def test_turns(self) -> None:
        """Callers that reserve are served in the order of their calls, a piece each, so none starves."""
        limit = RateLimit(100_000, 0.0)
        limit.spend(25_000, 0.0)
        turns = []
        for _ in range(5):
            turns.append(round(limit.when(10_000, 0.0), 9))
            limit.spend(10_000, 0.0)
        self.assertEqual(turns, [0.1, 0.2, 0.3, 0.4, 0.5])

    def test_given_back(self) -> None:
        """Reserved bytes that were not sent are available again, up to a burst."""
        limit = RateLimit(100_000, 0.0)
        limit.spend(20_000, 0.0)
        limit.spend(-10_000, 0.0)
        self.assertEqual(limit.available(0.0), 15_000)
        limit.spend(-(10**9), 0.0)
        self.assertEqual(limit.available(0.0), 25_000)

    def test_clock_goes_back(self) -> None:
        """A clock that goes back fills nothing, and does no harm."""
        limit = RateLimit(100_000, 10.0)
        limit.spend(25_000, 10.0)
        self.assertEqual(limit.available(0.0), 0)
        self.assertAlmostEqual(limit.available(0.1), 10_000, -1)

    @given(RATES, STEPS)
    def test_never_faster(self, rate: float, steps: list[tuple[float, int]]) -> None:
        """Spending only what is available stays within the rate and one burst, at any times."""
        limit = RateLimit(rate, 0.0)
        now = 0.0
        spent = 0
        for pause, wanted in steps:
            now += pause
            size = min(wanted, limit.available(now))
            limit.spend(size, now)
            spent += size
        self.assertLessEqual(spent, limit.burst + rate * now + 1)

    @given(RATES, STEPS)
    def test_when_is_right(self, rate: float, steps: list[tuple[float, int]]) -> None:
        """At the time that `when` returns, the requested bytes are available, or a burst."""
        limit = RateLimit(rate, 0.0)
        now = 0.0
        for pause, wanted in steps:
            now = limit.when(wanted, now + pause)
            self.assertGreaterEqual(limit.available(now) + 1, min(wanted, limit.burst))
            limit.spend(wanted, now)

    def test_changed(self) -> None:
        """A limit that is changed, set or lifted holds from then on."""
        limit = RateLimit(1000.0, 0.0, burst_min=100)
        limit.spend(limit.burst, 0.0)
        limit.change(10_000.0, 0.0)
        self.assertEqual((limit.available(0.0), limit.available(0.1)), (0, 1000))
        limit.spend(10_000, 0.1)
        limit.change(None, 0.1)
        self.assertEqual((limit.available(0.1), limit.when(10**9, 0.1)), (UNLIMITED, 0.1))
        limit.spend(10**9, 0.2)
        limit.change(2000.0, 0.2)
        self.assertEqual(limit.available(0.2), limit.burst)
        limit.spend(limit.burst, 0.2)
        self.assertAlmostEqual(limit.when(200, 0.2), 0.3)


class RateMeterTests(SynchronousTestCase):
    def test_steady(self) -> None:
        """A steady rate is measured correctly soon after the beginning."""
        meter = RateMeter(0.0)
        for step in range(1, 101):
            meter.add(1000, step * 0.1)
            if step >= 10:
                self.assertTrue(8_000 < meter.rate(step * 0.1) < 12_000)

    def test_silence(self) -> None:
        """Two seconds after the last byte the rate is 0."""
        meter = RateMeter(100.0)
        meter.add(10**6, 100.0)
        self.assertGreater(meter.rate(100.0), 0)
        self.assertGreater(meter.rate(101.7), 0)
        self.assertEqual(meter.rate(102.3), 0)
        self.assertEqual(meter.rate(10**9), 0)

    @given(STEPS)
    def test_bounded(self, steps: list[tuple[float, int]]) -> None:
        """A rate is at least 0, and at most all bytes within one part of the window."""
        meter = RateMeter(0.0)
        now, total = 0.0, 0
        for pause, size in steps:
            now += pause
            meter.add(size, now)
            total += size
            self.assertTrue(0 <= meter.rate(now) <= total / 0.25 + 1)
