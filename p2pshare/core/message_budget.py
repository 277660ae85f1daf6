"""A budget of messages for each opener's key, which bounds the sharer's processor time.

A request that is answered is free, and so is an answer that was asked for. Honest openers send one `done` for dozens
of files, and one `credit` for two blocks. Other messages are paid from a bucket that fills with time. While the bucket
of a key is empty, its sessions are not read. If they have more to read at every moment of `FLOOD_MAX` seconds, they
count as a flood and end.
"""

from __future__ import annotations

from p2pshare.core.rate import RateLimit

MESSAGES_PER_S = 200.0  # unanswered messages, of all sessions of a key together
MESSAGES_BURST = 2000  # messages that may come at once after a pause
BATCH = 100  # messages that an empty bucket gains before the key is read again
FLOOD_MAX = 10.0  # seconds over the budget after which the sessions of a key end
BARRED = 30.0  # seconds after a flood in which the key gets no session


class MessageBudget:
    """The budget of one key."""

    def __init__(self, now: float) -> None:
        self._bucket = RateLimit(
            MESSAGES_PER_S,
            now,
            burst_time=MESSAGES_BURST / MESSAGES_PER_S,
            burst_min=MESSAGES_BURST,
        )
        self._short_since: float | None = None
        self._barred_until = now

    def spend(self, messages: int, now: float) -> None:
        """Pay for messages that have arrived."""
        self._bucket.spend(messages, now)

    def earn(self, messages: int, now: float) -> None:
        """Refund messages that were asked for, or answered."""
        self._bucket.spend(-messages, now)

    def wait(self, now: float) -> float:
        """Return the seconds until more may be read; call it only when there is more to read."""
        if self._bucket.available(now) > 0:
            return 0.0
        if self._short_since is None:
            self._short_since = now
        return max(0.0, self._bucket.when(BATCH, now) - now)

    def all_read(self) -> None:
        """Note that nothing more is there to be read."""
        self._short_since = None

    def is_flood(self, now: float) -> bool:
        """Whether there was more to read for too long; if so, the key is barred from now on."""
        if self._short_since is None or now - self._short_since < FLOOD_MAX:
            return False
        self._short_since = None
        self._barred_until = now + BARRED
        return True

    def is_barred(self, now: float) -> bool:
        """Whether the sessions of the key have just ended as a flood."""
        return now < self._barred_until
