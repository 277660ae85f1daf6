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
        """Fill the window, ask, and be answered; how many rows went out."""
        rows = pace.allowance(0.0)
        pace.rows_sent(rows, 0.0)
        pace.probe_sent(0.0)
        pace.reported(round(lost * rows), rtt, 0.0)
        return rows

    def test_start(self) -> None:
        """The first window is 64 KiB; once it is sent, only a report opens it again."""
        pace = WindowPace(ROW)
        self.assertEqual(pace.allowance(0.0), WINDOW_START // ROW)
        self.assertIsNotNone(pace.ready_at())
        pace.rows_sent(pace.allowance(0.0), 0.0)
        self.assertEqual(pace.allowance(1e9), 0)
        self.assertIsNone(pace.ready_at())
        self.assertTrue(pace.wants_probe)

    def test_doubles_at_first(self) -> None:
        """With prompt reports and nothing lost the window doubles with each, up to its limit."""
        pace = WindowPace(ROW)
        rounds = [self.round(pace) for _ in range(8)]
        self.assertEqual(rounds[:3], [64, 128, 256])
        self.assertEqual(rounds[-1], WINDOW_MAX // ROW)

    def test_queue(self) -> None:
        """A round trip that becomes longer than the queue may make it shrinks the window."""
        pace = WindowPace(ROW)
        self.round(pace, rtt=0.01)
        before = pace.window
        self.round(pace, rtt=0.03)
        self.assertLess(pace.window, before)
        self.round(pace, rtt=0.01)
        self.assertLess(pace.window, before + before // 8)

    def test_loss_of_the_path(self) -> None:
        """Ten per cent of loss do not keep the window from growing."""
        pace = WindowPace(ROW)
        for _ in range(8):
            self.round(pace, lost=0.1)
        self.assertEqual(pace.window, WINDOW_MAX // ROW)

    def test_too_much_loss(self) -> None:
        """Half of the rows lost again and again brings the window to its minimum, and no lower."""
        pace = WindowPace(ROW)
        for _ in range(50):
            self.round(pace, lost=0.5)
        self.assertLessEqual(pace.window, 2 * WINDOW_ROWS_MIN)
        self.assertGreaterEqual(pace.window, WINDOW_ROWS_MIN)

    def test_wide_rows(self) -> None:
        """Rows that fill a datagram still get a window of a few."""
        self.assertEqual(WindowPace(65_000).allowance(0.0), WINDOW_ROWS_MIN)


class RatePaceTests(SynchronousTestCase):
    def sent_in(self, pace: RatePace, seconds: float, start: float = 0.0) -> int:
        """Send whatever is allowed at each millisecond; how many rows that were."""
        total = 0
        for millisecond in range(round(seconds * 1000)):
            now = start + millisecond / 1000
            rows = pace.allowance(now)
            if rows:
                pace.rows_sent(rows, now)
            total += rows
        return total

    def test_rate_of_an_original(self) -> None:
        """Rows go out as an original can decode them, and a few at once at most."""
        pace = RatePace(1200)
        self.assertEqual(pace.allowance(0.0), BURST_MAX)
        expected = 1 / (1200 * ORIGINAL_SECONDS_PER_PIXEL)
        self.assertApproximates(self.sent_in(pace, 1.0), expected + BURST_MAX, 2)

    def test_late_timer(self) -> None:
        """However late the timer is, no more than a few rows go out at once."""
        pace = RatePace(1200)
        pace.allowance(0.0)
        self.assertEqual(pace.allowance(100.0), BURST_MAX)

    def test_ready_at(self) -> None:
        """At the time that it names there is an allowance, and shortly before there is none."""
        pace = RatePace(1200)
        pace.rows_sent(pace.allowance(0.0), 0.0)
        ready = pace.ready_at()
        assert ready is not None
        self.assertEqual(pace.allowance(ready - 1e-4), 0)
        self.assertEqual(pace.allowance(ready), 1)

    def test_follows_what_was_taken(self) -> None:
        """If half was lost, half the rate follows; if nothing was, a higher one."""
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
        """The rate never falls to nothing."""
        pace = RatePace(1200)
        for second in range(100):
            sent = self.sent_in(pace, 1.0, start=float(second))
            pace.probe_sent(second + 1.0)
            pace.reported(sent, None, second + 1.0)
        self.assertGreater(pace.rate, 5.0)
