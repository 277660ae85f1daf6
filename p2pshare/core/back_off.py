"""Delays between the tries of something that fails: short at first, then longer, with jitter."""

from __future__ import annotations

from math import inf
from random import Random

JITTER = 0.2  # of each delay, which is added so that many clients do not retry in step


class BackOff:
    """Delays that double from `first` to `longest`."""

    def __init__(self, first: float, longest: float = inf, rng: Random | None = None) -> None:
        """Begin with the first delay.

        Args:
            first: seconds before the first retry.
            longest: seconds from which on the delay does not grow.
            rng: source of up to `JITTER` more of each delay; without it there is no jitter.
        """
        self._first = self._delay = first
        self._longest = longest
        self._rng = rng

    def reset(self) -> None:
        """Start with the first delay again, after a success."""
        self._delay = self._first

    def next_delay(self, at_least: float = 0.0) -> float:
        """Return the seconds until the next try, and double those of the try after it.

        Args:
            at_least: seconds that the other side asked for, such as those of a `Retry-After`.
        """
        delay = max(self._delay, at_least)
        self._delay = min(2 * self._delay, self._longest)
        return delay if self._rng is None else delay * self._rng.uniform(1, 1 + JITTER)


class LimitedBackOff(BackOff):
    """Delays that end when nothing has succeeded for `patience` seconds."""

    def __init__(self, first: float, longest: float, rng: Random, patience: float) -> None:
        super().__init__(first, longest, rng)
        self.patience = patience
        self._failing_since: float | None = None

    def reset(self) -> None:
        """Start with the first delay and the whole patience again, after a success."""
        super().reset()
        self._failing_since = None

    def failed(self, now: float, at_least: float = 0.0) -> float | None:
        """Return the seconds until the next try, or None if patience is exhausted.

        Args:
            now: in seconds.
            at_least: seconds that the other side asked for; no more than `longest` of them are granted.
        """
        if self._failing_since is None:
            self._failing_since = now
        remaining = self._failing_since + self.patience - now
        if remaining <= 0:
            return None
        return min(self.next_delay(min(at_least, self._longest)), remaining)
