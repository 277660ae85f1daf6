"""The estimate of the round-trip time, with the numbers of RFC 9002."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.rtt import ACK_DELAY_MAX, BACK_OFF_MAX, RttEstimator


class RttTests(SynchronousTestCase):
    def test_initial(self) -> None:
        """Before the first sample the probe timeout is 1 s (section 6.2.2), and the delay of an ACK."""
        self.assertAlmostEqual(RttEstimator().probe_timeout, 0.333 * 3 + ACK_DELAY_MAX)

    def test_first_sample(self) -> None:
        """The first sample replaces the initial estimate (section 5.3)."""
        rtt = RttEstimator()
        rtt.add_sample(1.0, 0.0, 1.1)
        self.assertAlmostEqual(rtt.smoothed, 0.1)
        self.assertAlmostEqual(rtt.variation, 0.05)
        self.assertAlmostEqual(rtt.probe_timeout, 0.1 + 0.2 + ACK_DELAY_MAX)
        self.assertEqual(rtt.first_sample_at, 1.1)

    def test_smoothing(self) -> None:
        """A further sample counts an eighth, and its deviation from the former estimate a quarter (section 5.3)."""
        rtt = RttEstimator()
        rtt.add_sample(0.0, 0.0, 0.1)
        rtt.add_sample(0.0, 0.0, 0.18)
        self.assertAlmostEqual(rtt.smoothed, 0.11)
        self.assertAlmostEqual(rtt.variation, 0.05 * 3 / 4 + 0.08 / 4)

    def test_ack_delay(self) -> None:
        """The delay of the ACK is subtracted, within its bound, and never below the smallest sample (section 5.3)."""
        rtt = RttEstimator()
        rtt.add_sample(0.0, 0.01, 0.1)
        self.assertAlmostEqual(rtt.latest, 0.1)
        rtt.add_sample(0.0, 0.02, 0.13)
        self.assertAlmostEqual(rtt.latest, 0.11)
        rtt.add_sample(0.0, 0.02, 0.11)
        self.assertAlmostEqual(rtt.latest, 0.11)
        rtt.add_sample(0.0, 5.0, 0.2)
        self.assertAlmostEqual(rtt.latest, 0.2 - ACK_DELAY_MAX)
        self.assertAlmostEqual(rtt.smallest, 0.1)

    def test_back_off(self) -> None:
        """Each expiry doubles the timeout, up to a bound, and an ACK ends that (section 6.2.1)."""
        rtt = RttEstimator()
        timeouts = [rtt.backed_off_timeout]
        for _ in range(10):
            rtt.back_off()
            timeouts.append(rtt.backed_off_timeout)
        factors = [round(each / timeouts[0]) for each in timeouts]
        self.assertEqual(factors, [1, 2, 4, 8, 16, 32, *[BACK_OFF_MAX] * 5])
        rtt.reset_back_off()
        self.assertEqual(rtt.backed_off_timeout, timeouts[0])

    @given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 2**32)), min_size=1))
    def test_bounds(self, samples: list[tuple[float, float]]) -> None:
        """Whatever delays a peer claims, the estimate stays within the samples."""
        rtt = RttEstimator()
        for sample, delay in samples:
            rtt.add_sample(10.0, delay, 10.0 + sample)
        low, high = min(each for each, _ in samples), max(each for each, _ in samples)
        self.assertLessEqual(low - 1e-9, rtt.smoothed)
        self.assertLessEqual(rtt.smoothed, high + 1e-9)
        self.assertGreaterEqual(rtt.variation, 0)
