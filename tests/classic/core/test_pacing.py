"""Tests of `p2pshare.classic.core.pacing`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.core.pacing import (
    BURST_MAX,
    ORIGINAL_SECONDS_PER_PIXEL,
    WINDOW_MAX,
    WINDOW_ROWS_MIN,
    WINDOW_START,
    RatePace,
    WindowPace,
)

ROW = 1024  # bytes


class WindowPaceTests(SynchronousTestCase):
    def round(self, pace: WindowPace, lost: float = 0.0, rtt: float | None = 0.1) -> int:
        """Send a window of rows, ask, and get the answer; return how many rows were sent."""
        rows = pace.allowance(0.0)
        pace.rows_sent(rows, 0.0)
        pace.probe_sent(0.0)
        pace.reported(round(lost * rows), rtt, 0.0)
        return rows

    def test_start(self) -> None:
        """The first window is 64 KiB; after that only a report allows more rows."""
        pace = WindowPace(ROW)
        self.assertEqual(pace.allowance(0.0), WINDOW_START // ROW)
        self.assertIsNotNone(pace.ready_at())
        pace.rows_sent(pace.allowance(0.0), 0.0)
        self.assertEqual(pace.allowance(1e9), 0)
        self.assertIsNone(pace.ready_at())
        self.assertTrue(pace.wants_probe)

    def test_doubles_at_first(self) -> None:
        """With prompt reports and no loss, the window doubles with each report, up to its limit."""
        pace = WindowPace(ROW)
        rounds = [self.round(pace) for _ in range(8)]
        self.assertEqual(rounds[:3], [64, 128, 256])
        self.assertEqual(rounds[-1], WINDOW_MAX // ROW)

    def test_queue(self) -> None:
        """A round trip that is longer than the allowed queueing shrinks the window."""
        pace = WindowPace(ROW)
        self.round(pace, rtt=0.01)
        before = pace.window
        self.round(pace, rtt=0.03)
        self.assertLess(pace.window, before)
        self.round(pace, rtt=0.01)
        self.assertLess(pace.window, before + before // 8)

    def test_loss_of_the_path(self) -> None:
        """A loss of ten per cent does not stop the growth of the window."""
        pace = WindowPace(ROW)
        for _ in range(8):
            self.round(pace, lost=0.1)
        self.assertEqual(pace.window, WINDOW_MAX // ROW)

    def test_too_much_loss(self) -> None:
        """Repeated loss of half of the rows shrinks the window to its minimum."""
        pace = WindowPace(ROW)
        for _ in range(50):
            self.round(pace, lost=0.5)
        self.assertLessEqual(pace.window, 2 * WINDOW_ROWS_MIN)
        self.assertGreaterEqual(pace.window, WINDOW_ROWS_MIN)

    def test_wide_rows(self) -> None:
        """The window holds a few rows even if each fills a datagram."""
        self.assertEqual(WindowPace(65_000).allowance(0.0), WINDOW_ROWS_MIN)


class RatePaceTests(SynchronousTestCase):
    def sent_in(self, pace: RatePace, seconds: float, start: float = 0.0) -> int:
        """Send the allowed rows at each millisecond; return how many were sent."""
        total = 0
        for millisecond in range(round(seconds * 1000)):
            now = start + millisecond / 1000
            rows = pace.allowance(now)
            if rows:
                pace.rows_sent(rows, now)
            total += rows
        return total

    def test_rate_of_an_original(self) -> None:
        """Rows are sent at the rate at which an original decodes them, in small bursts."""
        pace = RatePace(1200)
        self.assertEqual(pace.allowance(0.0), BURST_MAX)
        expected = 1 / (1200 * ORIGINAL_SECONDS_PER_PIXEL)
        self.assertApproximates(self.sent_in(pace, 1.0), expected + BURST_MAX, 2)

    def test_late_timer(self) -> None:
        """After a late timer only a few rows are sent at once."""
        pace = RatePace(1200)
        pace.allowance(0.0)
        self.assertEqual(pace.allowance(100.0), BURST_MAX)

    def test_ready_at(self) -> None:
        """There is an allowance at the announced time, and none shortly before."""
        pace = RatePace(1200)
        pace.rows_sent(pace.allowance(0.0), 0.0)
        ready = pace.ready_at()
        assert ready is not None
        self.assertEqual(pace.allowance(ready - 1e-4), 0)
        self.assertEqual(pace.allowance(ready), 1)

    def test_follows_what_was_taken(self) -> None:
        """If half of the rows are lost, the rate halves; if none is lost, it grows."""
        pace = RatePace(1200)
        first = pace.rate
        sent = self.sent_in(pace, 1.0)
        pace.probe_sent(1.0)
        pace.reported(sent // 2, None, 1.0)
        slower = pace.rate
        self.assertLess(slower, first * 0.6)
        self.assertGreater(slower, first * 0.3)
        self.sent_in(pace, 1.0, start=1.0)
        pace.probe_sent(2.0)
        pace.reported(0, None, 2.0)
        self.assertGreater(pace.rate, slower)

    def test_everything_lost(self) -> None:
        """The rate has a lower bound."""
        pace = RatePace(1200)
        for second in range(100):
            sent = self.sent_in(pace, 1.0, start=float(second))
            pace.probe_sent(second + 1.0)
            pace.reported(sent, None, second + 1.0)
        self.assertGreater(pace.rate, 5.0)
