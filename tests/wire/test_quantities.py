"""Tests for `p2pshare.wire.quantities`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.wire.quantities import (
    count_text,
    difference_text,
    duration_text,
    rate_text,
    size_text,
)


class NumbersTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        """Bytes have the largest unit that fits."""
        for size, text in {
            0: "0 bytes",
            1: "1 byte",
            1023: "1023 bytes",
            1024: "1.0 KiB",
            1024**2 - 1: "1.0 MiB",
            1536 * 1024: "1.5 MiB",
            1024**3: "1.0 GiB",
            5000 * 1024**4: "5000.0 TiB",
        }.items():
            self.assertEqual(size_text(size), text)

    def test_differences(self) -> None:
        """The difference of two clocks has days if it is long."""
        for ahead, text in {
            121: "2 min 01 s ahead of",
            -5: "5 s behind",
            -7200: "2 h 00 min behind",
            399.6 * 86400: "400 days ahead of",
        }.items():
            self.assertEqual(difference_text(ahead), text)

    def test_counts_and_rates(self) -> None:
        """Counts have no unit prefixes."""
        self.assertEqual(count_text(412, "rows"), "412 rows")
        self.assertEqual(count_text(2048, "bytes"), "2.0 KiB")
        self.assertEqual(rate_text(349.6, "rows"), "350 rows/s")
        self.assertEqual(rate_text(47_290_000), "45.1 MiB/s")

    def test_durations(self) -> None:
        """A short time is exact, a long one is rounded."""
        for seconds, text in {
            0: "0 s",
            3: "3 s",
            0.44: "0.4 s",
            9.96: "10 s",
            59.4: "59 s",
            59.6: "1 min 00 s",
            185: "3 min 05 s",
            3599.7: "1 h 00 min",
            7380: "2 h 03 min",
        }.items():
            self.assertEqual(duration_text(seconds), text)

    @given(st.floats(0, 1e18))
    def test_short(self, number: float) -> None:
        """Texts of realistic numbers are short."""
        self.assertLessEqual(len(size_text(number)), 14)
        self.assertLessEqual(len(duration_text(number)), 26)
