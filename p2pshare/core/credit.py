"""How much a sharer may send: what the receiver has memory for, and no more in a second than its user wants.

Credit counts the bytes of files from the beginning of a session on. What was granted and has not come yet may come at
any moment, so memory is kept for it:

    granted <= released + window

The user's limit is kept by granting later, not by reading later: so the words between the two go on, and a receiver
that takes its time is never taken for one that fell silent.
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
            limit: of all sessions of this receiver.
            now: in seconds.
            window: bytes that may be granted or in memory at once.
        """
        self.arrived = 0
        """Bytes that have come."""
        self._released = 0
        self._limit = limit
        self._window = window
        self._step = max(1, window // STEPS)
        self._ahead = window
        if limit.bytes_per_second is not None:
            self._step = max(
                LIMITED_STEP_MIN, min(self._step, int(limit.bytes_per_second * LIMITED_STEP_TIME))
            )
            self._ahead = max(
                2 * self._step, min(window, int(limit.bytes_per_second * LIMITED_AHEAD_TIME))
            )
        self.granted = 0
        """Bytes that may come in all; first those that `Hello` speaks of."""
        self.granted = self._grantable(now)
        limit.spend(self.granted, now)

    @property
    def limited(self) -> bool:
        """Whether time alone makes more credit."""
        return self._limit.bytes_per_second is not None

    @property
    def outstanding(self) -> int:
        """Bytes that may come and have not."""
        return self.granted - self.arrived

    def release(self, size: int) -> None:
        """Say that `size` bytes that came have left the memory."""
        self._released += size

    def due(self, now: float) -> int | None:
        """What is to be granted now, in all; None if a grant is not worth a message yet."""
        if self._released + self._window - self.granted < self._step:
            return None
        more = self._grantable(now)
        if more < self._step:
            return None
        self._limit.spend(more, now)
        self.granted += more
        return self.granted

    def get_timer(self, now: float) -> float | None:
        """When there will be more by time alone; None if it takes more than that."""
        if not self.limited or self._room() < self._step:
            return None
        return self._limit.when(self._step, now)

    def _room(self) -> int:
        """Bytes that memory allows for, and what is on its way already."""
        return min(
            self._released + self._window - self.granted, self._ahead - self.granted + self.arrived
        )

    def _grantable(self, now: float) -> int:
        return min(self._room(), self._limit.available(now))
