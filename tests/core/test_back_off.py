"""Delays between the tries of something that fails."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.back_off import JITTER, BackOff, LimitedBackOff


class BackOffTests(SynchronousTestCase):
    """Delays that double."""

    def test_doubles(self) -> None:
        """Delays double up to the longest one, and start again after a success."""
        back_off = BackOff(0.5, 3.0)
        self.assertEqual([back_off.next_delay() for _ in range(5)], [0.5, 1.0, 2.0, 3.0, 3.0])
        back_off.reset()
        self.assertEqual(back_off.next_delay(), 0.5)

    def test_jitter(self) -> None:
        """Jitter makes each delay longer, also one that the other side asked for."""
        rng = random.Random(1)
        for at_least in (0.0, 40.0):
            drawn = {BackOff(10.0, 10.0, rng).next_delay(at_least) for _ in range(50)}
            least = max(10.0, at_least)
            self.assertGreaterEqual(min(drawn), least)
            self.assertLessEqual(max(drawn), least * (1 + JITTER))
            self.assertGreater(len(drawn), 40)

    def test_retry_after(self) -> None:
        """A delay that the other side asked for is granted, and the next one is not longer for it."""
        back_off = BackOff(1.0, 8.0)
        self.assertEqual(back_off.next_delay(60.0), 60.0)
        self.assertEqual(back_off.next_delay(), 2.0)


class LimitedBackOffTests(SynchronousTestCase):
    """Delays until patience is exhausted."""

    def begin(self, patience: float) -> LimitedBackOff:
        """A back-off from 0.5 to 30 s."""
        return LimitedBackOff(0.5, 30.0, random.Random(1), patience)

    def test_delays(self) -> None:
        """Delays double until patience is exhausted, and the last one ends with it."""
        back_off = self.begin(120.0)
        now, delays = 0.0, []
        while (delay := back_off.failed(now)) is not None:
            delays.append(delay)
            now += delay
        self.assertTrue(0.5 <= delays[0] <= 0.5 * (1 + JITTER), delays)
        self.assertLessEqual(max(delays), 30.0 * (1 + JITTER))
        self.assertEqual(now, 120.0)
        self.assertLess(len(delays), 15)

    def test_progress(self) -> None:
        """After a success the delays and the patience start again."""
        back_off = self.begin(10.0)
        for now in (0.0, 1.0, 2.0):
            back_off.failed(now)
        back_off.reset()
        delay = back_off.failed(100.0)
        assert delay is not None
        self.assertLessEqual(delay, 0.5 * (1 + JITTER))

    def test_asked_to_wait(self) -> None:
        """A wait that the other side asks for is granted up to the longest delay."""
        back_off = self.begin(100.0)
        granted, bounded = back_off.failed(0.0, at_least=20.0), back_off.failed(0.0, at_least=2e3)
        assert granted is not None and bounded is not None
        self.assertTrue(20.0 <= granted <= 20.0 * (1 + JITTER), granted)
        self.assertTrue(30.0 <= bounded <= 30.0 * (1 + JITTER), bounded)
