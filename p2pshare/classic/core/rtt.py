"""An estimate of the round-trip time (RFC 6298, section 2)."""

from __future__ import annotations

BACKOFF_MAX = 4.0  # questions are a few bytes, so asking too often costs less than a stall


class RttEstimator:
    """Smoothed round-trip time, its variation, and the retransmission time-out that follows from them."""

    def __init__(self, *, initial: float, rto_min: float, rto_max: float) -> None:
        """All in seconds; `initial` is the time-out before the first sample."""
        self._initial = initial
        self._rto_min = rto_min
        self._rto_max = rto_max
        self._variation = 0.0
        self._backoff = 1.0
        self.smoothed: float | None = None
        """Seconds; None before the first sample."""
        self.smallest = float("inf")
        """Seconds: the smallest sample so far."""

    def add_sample(self, rtt: float) -> None:
        """Take in a measured round trip of `rtt` seconds; a repeated request gives no sample (Karn)."""
        self._backoff = 1.0
        self.smallest = min(self.smallest, rtt)
        if self.smoothed is None or rtt < self.smoothed / 4:
            # The first sample, or the earlier ones were not round trips: one that begins with a
            # lost answer is far too long, and would be averaged out only after many more.
            self.smoothed, self._variation = rtt, rtt / 2
        else:
            self._variation += (abs(self.smoothed - rtt) - self._variation) / 4
            self.smoothed += (rtt - self.smoothed) / 8

    def back_off(self) -> None:
        """Double the time-out, since nothing came within it; the next sample takes that back."""
        self._backoff = min(2 * self._backoff, BACKOFF_MAX)

    def reset_backoff(self) -> None:
        """Take back all doubling, since something came, though nothing that can be timed.

        Before the first sample the doubling stays: the round trip may be longer than `initial`.
        """
        if self.smoothed is not None:
            self._backoff = 1.0

    @property
    def rto(self) -> float:
        """Seconds to wait for an answer before asking again."""
        return min(self._rto_max, self._base * self._backoff)

    @property
    def _base(self) -> float:
        if self.smoothed is None:
            return self._initial
        return max(self._rto_min, self.smoothed + 4 * self._variation)
