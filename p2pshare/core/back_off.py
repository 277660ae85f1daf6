"""When to try again what failed: soon, then later and later, and for how long."""

from __future__ import annotations

from random import Random

FIRST_DELAY = 0.5  # seconds
LONGEST_DELAY = 30.0  # seconds


class BackOff:
    """Delays that double, with jitter, until patience is at its end."""

    def __init__(
        self,
        rng: Random,
        patience: float,
        first: float = FIRST_DELAY,
        longest: float = LONGEST_DELAY,
    ) -> None:
        """Args:
        rng: source of the jitter.
        patience: seconds without any progress after which there are no more tries.
        first: seconds before the first other try, at most.
        longest: seconds before any.
        """
        self._rng = rng
        self.patience = patience
        self._first = first
        self._longest = longest
        self._delay = first
        self._since: float | None = None

    def progressed(self) -> None:
        """It works: whatever fails next is a new trouble."""
        self._delay = self._first
        self._since = None

    def failed(self, now: float, at_least: float = 0.0) -> float | None:
        """Seconds until the next try; None if there should be none.

        Args:
            now: in seconds.
            at_least: seconds for which the other side asked, of which up to `longest` are granted.
        """
        if self._since is None:
            self._since = now
        left = self._since + self.patience - now
        if left <= 0:
            return None
        delay = self._rng.uniform(0.5, 1.0) * self._delay
        self._delay = min(2 * self._delay, self._longest)
        return min(max(delay, min(at_least, self._longest)), left)
