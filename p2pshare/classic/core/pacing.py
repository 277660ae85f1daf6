"""Flow control of a picture: how many rows the sharer may send now, so that the requester does not drop them.

`WindowPace` serves requesters of ours. SIZE among the rows is a probe, which they answer with ROW WANTED for each
missing row and then ACK_SIZE. Datagrams leave their socket buffer in order, so the answer also says that all rows
before the probe have left it. At most one window of rows is unaccounted for. The window grows while answers are prompt,
and shrinks when a queue builds or rows are lost.

`RatePace` serves original requesters, which send nothing before FIN. It is a token bucket that fills at the rate at
which an original decodes rows. After each round the rate is corrected by the part of that round that arrived.
"""

from __future__ import annotations

LOSS_TOLERANCE = 0.2  # of the rows; up to this, loss is blamed on the path and not on the window
LOSS_SAMPLE = 32  # rows; fewer say nothing about loss
WINDOW_START = 64 * 1024  # bytes
WINDOW_MAX = 4 * 1024 * 1024  # bytes
WINDOW_ROWS_MIN = 4  # rows
QUEUE_MAX = 0.005  # seconds of queueing that the window may cause
ORIGINAL_SECONDS_PER_PIXEL = 2.6e-6  # an original takes 2.5 ms for a row of 1200 pixels
ROWS_PER_SECOND_MAX = 2_000.0  # rows/s, of an original
BURST_MAX = 8  # rows sent at once after a late timer; the socket buffer of an original holds 48


class WindowPace:
    """A window of rows that may be unaccounted for."""

    def __init__(
        self, row_bytes: int, *, start: int = WINDOW_START, limit: int = WINDOW_MAX
    ) -> None:
        self._window = float(max(WINDOW_ROWS_MIN, start // row_bytes))
        self._limit = float(max(WINDOW_ROWS_MIN, limit // row_bytes))
        self._sent = 0
        self._sent_at_probe = 0
        self._sent_at_report = 0
        self._growing_fast = True
        self._rtt_min = float("inf")
        self._sample_rows = 0
        self._sample_lost = 0

    @property
    def window(self) -> int:
        """The window in rows."""
        return int(self._window)

    def allowance(self, now: float) -> int:
        """Return how many rows may be sent now."""
        return max(0, self.window - (self._sent - self._sent_at_report))

    def ready_at(self) -> float | None:
        """Return when `allowance` becomes positive by time alone; None if only a report can change it."""
        return 0.0 if self.allowance(0.0) else None

    def rows_sent(self, count: int, now: float) -> None:
        """Note that `count` rows were sent."""
        self._sent += count

    @property
    def wants_probe(self) -> bool:
        """Whether a quarter of the window was sent since the last probe."""
        return self._sent - self._sent_at_probe >= self.window / 4

    def probe_sent(self, now: float) -> None:
        """Note that SIZE or FIN, which will be answered, was sent after the rows so far."""
        self._sent_at_probe = self._sent

    def reported(self, lost: int, rtt: float | None, now: float) -> None:
        """Process the answer to a probe.

        Args:
            lost: rows before the probe that are wanted again.
            rtt: the round trip in seconds; None if it could not be measured.
            now: the time.
        """
        covered = self._sent_at_probe - self._sent_at_report
        self._sent_at_report = self._sent_at_probe
        self._sample_rows += covered
        self._sample_lost += lost
        if rtt is not None:
            self._rtt_min = min(self._rtt_min, rtt)
        if self._sample_rows >= LOSS_SAMPLE:
            too_much = self._sample_lost > LOSS_TOLERANCE * self._sample_rows
            self._sample_rows = self._sample_lost = 0
            if too_much:
                self._shrink(0.7)
                return
        if rtt is not None and rtt > 2 * self._rtt_min + QUEUE_MAX:
            self._shrink(0.9)
        elif self._growing_fast:
            self._window = min(self._limit, self._window + covered)
        else:
            self._window = min(self._limit, self._window + max(1.0, covered / 16))

    def _shrink(self, factor: float) -> None:
        self._growing_fast = False
        self._window = max(float(WINDOW_ROWS_MIN), self._window * factor)


class RatePace:
    """A token bucket of rows, corrected after each round."""

    wants_probe = False

    def __init__(self, width: int) -> None:
        self._rate = min(ROWS_PER_SECOND_MAX, 1 / (width * ORIGINAL_SECONDS_PER_PIXEL))
        self._rate_min = self._rate / 32
        self._rate_max = self._rate * 2
        self._tokens = float(BURST_MAX)
        self._filled_at: float | None = None
        self._round_rows = 0  # rows sent since the last question
        self._asked_rows = 0  # rows sent in the round before it

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self._rate

    def allowance(self, now: float) -> int:
        """See `WindowPace`."""
        if self._filled_at is not None:
            self._tokens = min(
                float(BURST_MAX), self._tokens + (now - self._filled_at) * self._rate
            )
        self._filled_at = now
        return int(self._tokens + 1e-9)

    def ready_at(self) -> float | None:
        """See `WindowPace`."""
        return (self._filled_at or 0.0) + max(0.0, 1 - self._tokens) / self._rate

    def rows_sent(self, count: int, now: float) -> None:
        """See `WindowPace`."""
        self._tokens -= count
        self._round_rows += count

    def probe_sent(self, now: float) -> None:
        """See `WindowPace`."""
        self._asked_rows, self._round_rows = self._round_rows, 0

    def reported(self, lost: int, rtt: float | None, now: float) -> None:
        """See `WindowPace`."""
        rows = self._asked_rows
        if rows < BURST_MAX:
            return
        if lost > rows * 0.05:
            taken = max(0, rows - lost) / rows
            self._rate = max(self._rate_min, 0.9 * taken * self._rate)
        else:
            self._rate = min(self._rate_max, 1.25 * self._rate)


Pace = WindowPace | RatePace
