"""Rates in bytes per second: a limit, which is a token bucket, and a meter."""

from __future__ import annotations

from collections.abc import Sequence

BURST_TIME = 0.25  # seconds of the rate that may go at once
BURST_MIN = 16 * 1024  # bytes that may go at once, however low the rate is
UNLIMITED = 2**62  # bytes
WINDOW = 2.0  # seconds over which a rate is measured
SLOTS = 8  # parts of the window
_SLOT = WINDOW / SLOTS


class RateLimit:
    """A limit on the rate of all sessions that share it.

    More may be spent than there is. A caller that spends n bytes first, and then waits until the time that `when(n)`
    returned before, has reserved its turn. All callers that do so are served in the order of their calls.
    """

    def __init__(
        self,
        bytes_per_second: float | None,
        now: float,
        *,
        burst_time: float = BURST_TIME,
        burst_min: int = BURST_MIN,
    ) -> None:
        """Limit to `bytes_per_second`; None is no limit.

        Args:
            bytes_per_second: more than 0.
            now: the clock's time in s; a clock that goes back fills nothing.
            burst_time: seconds of the rate that may be sent at once after a pause.
            burst_min: bytes that may be sent at once, however low the rate is.
        """
        assert bytes_per_second is None or bytes_per_second > 0
        self.bytes_per_second = bytes_per_second
        self._burst_time = burst_time
        self._burst_min = burst_min
        self.burst = self._burst_of(bytes_per_second)
        """Bytes that may be sent at once after a pause."""
        self._tokens = float(self.burst)
        self._filled_at = now

    def change(
        self, bytes_per_second: float | None, now: float, *, burst: int | None = None
    ) -> None:
        """Limit to another rate, more than 0, or to none.

        Args:
            bytes_per_second: the rate.
            now: the clock's time in s.
            burst: bytes that may be sent at once after a pause; None for those that belong to the rate.
        """
        was_limited = self.bytes_per_second is not None
        if self.bytes_per_second is not None:
            self._fill(self.bytes_per_second, now)
        self.bytes_per_second = bytes_per_second
        self.burst = self._burst_of(bytes_per_second) if burst is None else burst
        if was_limited and bytes_per_second is not None:
            self._tokens = min(self._tokens, float(self.burst))
        else:
            self._tokens = float(self.burst)
        self._filled_at = now

    def _burst_of(self, rate: float | None) -> int:
        return UNLIMITED if rate is None else max(self._burst_min, int(rate * self._burst_time))

    def available(self, now: float) -> int:
        """Return the bytes that may be sent now."""
        if self.bytes_per_second is None:
            return UNLIMITED
        self._fill(self.bytes_per_second, now)
        return max(0, int(self._tokens))

    def spend(self, size: int, now: float) -> None:
        """Spend `size` bytes; a negative number gives back bytes that were spent and not sent."""
        if self.bytes_per_second is not None:
            self._fill(self.bytes_per_second, now)
            self._tokens = min(self._tokens - size, float(self.burst))

    def when(self, size: int, now: float) -> float:
        """Return the time in s from which `size` bytes, or a burst if that is less, may be sent."""
        if self.bytes_per_second is None:
            return now
        self._fill(self.bytes_per_second, now)
        lacking = min(size, self.burst) - self._tokens
        return now + max(0.0, lacking / self.bytes_per_second)

    def _fill(self, rate: float, now: float) -> None:
        passed = max(0.0, now - self._filled_at)
        self._tokens = min(float(self.burst), self._tokens + passed * rate)
        self._filled_at = now


def fair_shares(limit: float, wanted: Sequence[float]) -> list[float]:
    """Divide a rate among several that want some: nobody gets more than they want while others lack it.

    What nobody wants is divided equally, so that each can grow.

    Args:
        limit: bytes per second in all.
        wanted: bytes per second that each can use; `math.inf` is allowed.
    """
    shares, left = [0.0] * len(wanted), limit
    order = sorted(range(len(wanted)), key=lambda each: wanted[each])
    for place, each in enumerate(order):
        shares[each] = min(wanted[each], left / (len(order) - place))
        left -= shares[each]
    return [each + left / len(shares) for each in shares]


class RateMeter:
    """A meter of the rate in the last seconds."""

    def __init__(self, now: float) -> None:
        """Begin at `now`, in s."""
        self._counts = [0.0] * SLOTS
        self._at = int(now / _SLOT)  # the slot that is being filled
        self._began = now

    def add(self, size: int, now: float) -> None:
        """Count `size` bytes."""
        self._turn(now)
        self._counts[self._at % len(self._counts)] += size

    def rate(self, now: float) -> float:
        """Return the bytes per second; 0 if there were none for a whole window."""
        self._turn(now)
        past = min(now - self._began, now - (self._at - len(self._counts) + 1) * _SLOT)
        return sum(self._counts) / max(past, _SLOT)

    def _turn(self, now: float) -> None:
        slot = int(now / _SLOT)
        slots = len(self._counts)
        for passed in range(min(slot - self._at, slots)):
            self._counts[(slot - passed) % slots] = 0
        self._at = max(self._at, slot)
