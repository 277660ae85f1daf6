"""Tests of `p2pshare.net.session.cipher_suites`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net.session.cipher_suites import (
    AES_FIRST,
    CHACHA20_FIRST,
    ROUNDS,
    measured_suites,
    suites_of_this_machine,
)


def stopwatch(durations: list[float]) -> Callable[[], float]:
    """Return a clock by which the first, second, ... thing that is measured takes so long."""
    times = []
    for number, duration in enumerate(durations):
        times += [float(number), number + duration]
    return iter(times).__next__


class MeasurementTests(SynchronousTestCase):
    def test_faster_first(self) -> None:
        """The cipher whose fastest round is faster is preferred, AES if they are equal."""
        for aes, chacha20, expected in (
            (0.1, 0.3, AES_FIRST),
            (0.3, 0.1, CHACHA20_FIRST),
            (0.1, 0.1, AES_FIRST),
        ):
            seconds = stopwatch([aes] * ROUNDS + [chacha20] * ROUNDS)
            self.assertEqual(measured_suites(seconds), expected)

    def test_interrupted(self) -> None:
        """Rounds that another process interrupts do not count."""
        seconds = stopwatch([0.9] * (ROUNDS - 1) + [0.1] + [0.2] * ROUNDS)
        self.assertEqual(measured_suites(seconds), AES_FIRST)

    def test_this_machine(self) -> None:
        """A machine keeps to its first measurement."""
        self.assertIn(suites_of_this_machine(), (AES_FIRST, CHACHA20_FIRST))
        self.assertIs(suites_of_this_machine(), suites_of_this_machine())
