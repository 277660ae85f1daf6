"""How fast a sharer sends rows: two answers to "as much as the other side takes".

`WindowPace` is for requesters of ours, which report on the way: SIZE, sent again among the rows, is a probe that they
answer with ROW WANTED for what they lack and then ACK_SIZE. Since datagrams are drained in order, the answer also says
that all rows before the probe have left the requester's socket buffer. So no more than a window of rows is ever
unaccounted for, and the window grows while answers come promptly and shrinks when a queue builds or rows get lost.

`RatePace` is for original requesters, which say nothing until FIN: a token bucket, filled at the rate that an
original can decode and corrected after each round by what it took of that round.
"""

from __future__ import annotations

from typing import Protocol

LOSS_TOLERANCE = 0.2  # of the rows: up to that, loss is taken for the path's own and not for ours
LOSS_SAMPLE = 32  # rows: fewer say nothing of loss
WINDOW_START = 64 * 1024  # bytes
WINDOW_MAX = 4 * 1024 * 1024  # bytes
WINDOW_ROWS_MIN = 4  # rows
QUEUE_MAX = 0.005  # seconds of queueing that the window may cause
ORIGINAL_SECONDS_PER_PIXEL = 2.6e-6  # an original takes 2.5 ms for a row of 1200 pixels
ROWS_PER_SECOND_MAX = 2_000.0  # rows/s, of an original
BURST_MAX = (
    8  # rows that may go out at once after a late timer; an original's socket buffer holds 48
)


class Pace(Protocol):
    """When rows may go out, and how many."""

    @property
    def wants_probe(self) -> bool:
        """Whether SIZE is to be sent now among the rows, as a question that brings a report."""

    def allowance(self, now: float) -> int:
        """The number of rows that may go out now."""

    def ready_at(self) -> float | None:
        """From when on there is an allowance, by time alone; None: only a report brings one."""

    def rows_sent(self, count: int, now: float) -> None:
        """Rows went out."""

    def probe_sent(self, now: float) -> None:
        """A question that will be answered went out after the rows so far: SIZE or FIN."""

    def reported(self, lost: int, rtt: float | None, now: float) -> None:
        """The question was answered: `lost` rows before it are wanted again.

        `rtt` is in seconds, or None where it could not be measured.
        """


class WindowPace:
    """At most a window of rows is unaccounted for."""

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
        """Rows."""
        return int(self._window)

    def allowance(self, now: float) -> int:
        """See `Pace`."""
        return max(0, self.window - (self._sent - self._sent_at_report))

    def ready_at(self) -> float | None:
        """See `Pace`."""
        return 0.0 if self.allowance(0.0) else None

    def rows_sent(self, count: int, now: float) -> None:
        """See `Pace`."""
        self._sent += count

    @property
    def wants_probe(self) -> bool:
        """Whether enough rows went out since the last probe to ask about them."""
        return self._sent - self._sent_at_probe >= self.window / 4

    def probe_sent(self, now: float) -> None:
        """See `Pace`."""
        self._sent_at_probe = self._sent

    def reported(self, lost: int, rtt: float | None, now: float) -> None:
        """See `Pace`."""
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
        self._round_rows = 0  # rows since the last question
        self._asked_rows = 0  # rows that it was about

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self._rate

    def allowance(self, now: float) -> int:
        """See `Pace`."""
        if self._filled_at is not None:
            self._tokens = min(
                float(BURST_MAX), self._tokens + (now - self._filled_at) * self._rate
            )
        self._filled_at = now
        return int(self._tokens + 1e-9)

    def ready_at(self) -> float | None:
        """See `Pace`."""
        return (self._filled_at or 0.0) + max(0.0, 1 - self._tokens) / self._rate

    def rows_sent(self, count: int, now: float) -> None:
        """See `Pace`."""
        self._tokens -= count
        self._round_rows += count

    def probe_sent(self, now: float) -> None:
        """See `Pace`."""
        self._asked_rows, self._round_rows = self._round_rows, 0

    def reported(self, lost: int, rtt: float | None, now: float) -> None:
        """See `Pace`."""
        rows = self._asked_rows
        if rows < BURST_MAX:
            return
        if lost > rows * 0.05:
            taken = max(0, rows - lost) / rows
            self._rate = max(self._rate_min, 0.9 * taken * self._rate)
        else:
            self._rate = min(self._rate_max, 1.25 * self._rate)
