"""A limit for bytes per second: a bucket of tokens that fills with time."""

from __future__ import annotations

BURST_TIME = 0.25  # seconds of the rate that may go at once


class RateLimit:
    """How many bytes may go now, and when more may; for all who share it.

    What is spent may be more than there was: then the others wait the longer, and over any time the rate is kept.
    """

    def __init__(
        self,
        bytes_per_second: float | None,
        now: float,
        *,
        burst_time: float = BURST_TIME,
        burst_min: int = 1,
    ) -> None:
        """Limit to `bytes_per_second`; None is no limit.

        Args:
            bytes_per_second: more than 0.
            now: the clock's time in s; it may go back, which fills nothing.
            burst_time: seconds of the rate that may go at once after a pause.
            burst_min: bytes that may go at once, however low the rate is.
        """
        assert bytes_per_second is None or bytes_per_second > 0
        self.bytes_per_second = bytes_per_second
        self._burst = 0.0
        if bytes_per_second is not None:
            self._burst = max(float(burst_min), bytes_per_second * burst_time)
        self._tokens = self._burst
        self._filled_at = now

    def available(self, now: float) -> int | None:
        """Bytes that may go now; None if there is no limit."""
        if self.bytes_per_second is None:
            return None
        self._fill(now)
        return max(0, int(self._tokens))

    def spend(self, size: int, now: float) -> None:
        """Say that `size` bytes go now."""
        if self.bytes_per_second is not None:
            self._fill(now)
            self._tokens -= size

    def when(self, size: int, now: float) -> float:
        """The time in s from which on `size` bytes, or a whole burst if that is less, may go."""
        if self.bytes_per_second is None:
            return now
        self._fill(now)
        lacking = min(float(size), self._burst) - self._tokens
        return now + max(0.0, lacking / self.bytes_per_second)

    def _fill(self, now: float) -> None:
        if self.bytes_per_second is None:
            return
        passed = max(0.0, now - self._filled_at)
        self._tokens = min(self._burst, self._tokens + passed * self.bytes_per_second)
        self._filled_at = now
