"""Credit: how many bytes a sharer may send, by the receiver's memory and its user's rate limit.

**Why credit.** TCP has a window of its own, so a receiver could simply stop reading. But then pings, cancellations and
listings would wait behind the data, and a slow receiver would look like a lost one. So the stream is always read, and
memory is bounded by what may arrive. Credit counts the bytes of files since the beginning of the session. Bytes that
were granted may arrive at any moment, so memory is reserved for them:

    granted <= released + window

Bytes count as released when their block has left the memory, not when it has arrived. A slow disk therefore slows the
sharer down by itself.

**Steps.** Each grant costs a message, so credit is granted in steps of an eighth of the window. With smaller steps the
messages cost more than they win. With larger ones the sharer would run out of credit on a long path before the next
grant arrives.

**Rate limits.** A limit delays grants, never reads. Credit ahead of the data is bounded to half a second of the rate,
or a burst would follow each pause. All sessions of a user share one `RateLimit`, and each grant is spent from it at
once.
"""

from __future__ import annotations

from p2pshare.core.rate import RateLimit

CREDIT_WINDOW = 16 * 1024 * 1024  # bytes that are granted or in memory
STEPS = 8  # grants into which a window is cut
LIMITED_STEP_TIME = 0.1  # seconds between two grants under a limit
LIMITED_AHEAD_TIME = 0.5  # seconds of the rate that may be granted and still be on their way
LIMITED_STEP_MIN = 4 * 1024  # bytes of a grant, however low the limit


class CreditControl:
    """The credit of one session."""

    def __init__(self, limit: RateLimit, now: float, window: int = CREDIT_WINDOW) -> None:
        """Begin a session with `granted` bytes of credit.

        Args:
            limit: rate limit of all sessions of this receiver.
            now: in seconds.
            window: bytes that may be granted or in memory at once.
        """
        self.arrived = 0
        """Bytes that have arrived, or of which the sharer reports that it sent them in vain."""
        self.window = window
        """Bytes that may be granted or in memory at once."""
        self._released = 0
        self._limit = limit
        self._rate: float | None = None  # for which the following two are
        self._step = max(1, window // STEPS)
        self._ahead = window
        self.granted = 0
        """Bytes that may arrive in all; at first those that `Hello` grants."""
        self.granted = self._grantable(now)
        limit.spend(self.granted, now)

    @property
    def limited(self) -> bool:
        """Whether a rate limit delays grants."""
        return self._limit.bytes_per_second is not None

    @property
    def outstanding(self) -> int:
        """Return the bytes that were granted and have not arrived."""
        return self.granted - self.arrived

    def release(self, size: int) -> None:
        """Count `size` bytes that arrived and have left the memory."""
        self._released += size

    def due(self, now: float) -> int | None:
        """Return the new total to grant now, or None if a grant is not worth a message yet."""
        self._follow_limit()
        if self._released + self.window - self.granted < self._step:
            return None
        more = self._grantable(now)
        if more < self._step:
            return None
        self._limit.spend(more, now)
        self.granted += more
        return self.granted

    def get_timer(self, now: float) -> float | None:
        """Return the time at which the rate limit allows the next grant; None if a grant needs more than time."""
        self._follow_limit()
        if not self.limited or self._room() < self._step:
            return None
        return self._limit.when(self._step, now)

    def _room(self) -> int:
        """Return the bytes that may be granted, by memory and by the data on its way."""
        return min(
            self._released + self.window - self.granted, self._ahead - self.granted + self.arrived
        )

    def _follow_limit(self) -> None:
        """Choose the steps for the rate as it is now; the user may change it during a session."""
        rate = self._limit.bytes_per_second
        if rate == self._rate:
            return
        self._rate, self._step, self._ahead = rate, max(1, self.window // STEPS), self.window
        if rate is not None:
            self._step = max(LIMITED_STEP_MIN, min(self._step, int(rate * LIMITED_STEP_TIME)))
            self._ahead = max(2 * self._step, min(self.window, int(rate * LIMITED_AHEAD_TIME)))

    def _grantable(self, now: float) -> int:
        self._follow_limit()
        return min(self._room(), self._limit.available(now))
