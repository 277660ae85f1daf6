"""Tests of `p2pshare.classic.core.round_trips`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.core.round_trips import BACKOFF_MAX, RttEstimator


def estimator() -> RttEstimator:
    return RttEstimator(initial=0.5, rto_min=0.02, rto_max=2.0)


class RttEstimatorTests(SynchronousTestCase):
    def test_before_the_first_sample(self) -> None:
        """The timeout is the initial one, and it stays doubled, since the path may be longer."""
        rtt = estimator()
        self.assertEqual(rtt.rto, 0.5)
        rtt.back_off()
        rtt.reset_backoff()
        self.assertEqual(rtt.rto, 1.0)

    def test_first_sample(self) -> None:
        """After one sample the timeout is three times the sample (RFC 6298, 2.2)."""
        rtt = estimator()
        rtt.add_sample(0.1)
        self.assertAlmostEqual(rtt.rto, 0.3)
        self.assertEqual(rtt.smallest, 0.1)

    def test_steady_path(self) -> None:
        """Equal samples bring the timeout down to the round trip."""
        rtt = estimator()
        for _ in range(100):
            rtt.add_sample(0.1)
        self.assertAlmostEqual(rtt.rto, 0.1, places=3)

    def test_first_sample_was_none(self) -> None:
        """A first sample that includes a lost answer is forgotten after the first proper one."""
        rtt = estimator()
        rtt.add_sample(1.0)
        rtt.add_sample(0.02)
        self.assertAlmostEqual(rtt.rto, 0.06)

    def test_back_off_is_bounded_and_taken_back(self) -> None:
        """The timeout doubles up to a bound; any answer ends the back-off."""
        rtt = estimator()
        rtt.add_sample(0.1)
        for _ in range(10):
            rtt.back_off()
        self.assertAlmostEqual(rtt.rto, 0.3 * BACKOFF_MAX)
        rtt.reset_backoff()
        self.assertAlmostEqual(rtt.rto, 0.3)

    @given(st.lists(st.floats(0, 100)))
    def test_bounds(self, samples: list[float]) -> None:
        """The timeout stays within its bounds for any samples."""
        rtt = estimator()
        for sample in samples:
            rtt.add_sample(sample)
            rtt.back_off()
            self.assertLessEqual(rtt.rto, 2.0)
            self.assertGreaterEqual(rtt.rto, 0.02)
