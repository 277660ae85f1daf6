"""How many messages the openers with one key may send, so that they do not use up a sharer's processor time.

A request that is answered costs nothing: honest openers send one `done` for dozens of files, and one `credit` for two
blocks. Only messages beyond that are paid for, out of a bucket that fills with time. A key with an empty bucket is not
read from until there is something in it again. If its sessions have more to say at every moment for `FLOOD_MAX`
seconds, they are a flood.
"""

from __future__ import annotations

from p2pshare.core.rate import RateLimit

MESSAGES_PER_S = 200.0  # messages without an answer, of one key: its sessions share them
MESSAGES_BURST = 2000  # messages that may come at once after a pause
BATCH = 100  # messages for which a key with an empty bucket waits
FLOOD_MAX = (
    10.0  # seconds with more to read than the budget allows, after which the sessions of a key end
)
BARRED = 30.0  # seconds after that in which the key gets no session


class MessageBudget:
    """Of one key."""

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
        """So many messages have come."""
        self._bucket.spend(messages, now)

    def earn(self, now: float) -> None:
        """A request was answered."""
        self._bucket.spend(-1, now)

    def wait(self, now: float) -> float:
        """Seconds until more may be read; call it when there is more."""
        if self._bucket.available(now) > 0:
            return 0.0
        if self._short_since is None:
            self._short_since = now
        return max(0.0, self._bucket.when(BATCH, now) - now)

    def all_read(self) -> None:
        """There is nothing more to read."""
        self._short_since = None

    def is_flood(self, now: float) -> bool:
        """Whether there was more to read for too long; if so, the key is barred from now on."""
        if self._short_since is None or now - self._short_since < FLOOD_MAX:
            return False
        self._short_since = None
        self._barred_until = now + BARRED
        return True

    def is_barred(self, now: float) -> bool:
        """Whether its sessions have ended as a flood a short time ago."""
        return now < self._barred_until
