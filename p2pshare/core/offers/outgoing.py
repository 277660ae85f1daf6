"""When a person is told about offers: at once, when that person is online again, and after a back-off.

There is one schedule for each person, whatever the number of offers: a person who does not answer is tried once, and
not once for each offer. Presence is a hint for the time of a try. It can be unknown, and a person who is shown online
need not be reachable. So the first try follows at once in any case, and while the person is not known to be offline,
others follow with longer and longer pauses.
"""

from __future__ import annotations

from random import Random
from typing import Generic, TypeVar

from p2pshare.core.back_off import BackOff

RETRY_FIRST, RETRY_MAX = 5.0, 600.0  # seconds until the next try of a person, before jitter


T = TypeVar("T")


class PersonSchedule(Generic[T]):
    """What is to be told to one person, and when."""

    def __init__(
        self, rng: Random, *, first: float = RETRY_FIRST, longest: float = RETRY_MAX
    ) -> None:
        """Begin with nothing to tell.

        Args:
            rng: source of jitter.
            first: seconds before the first retry.
            longest: seconds from which on the pause does not grow.
        """
        self._back_off = BackOff(first, longest, rng)
        self._longest = longest
        self._pending: dict[str, T] = {}  # by the id of the offer; the next one first
        self._is_online: bool | None = None
        self._due: float | None = None  # time of the next try
        self._has_failed = False  # since the person was seen last
        self._current: tuple[str, T] | None = None  # what the person is being told

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to tell."""
        return not self._pending

    @property
    def is_online(self) -> bool | None:
        """Whether the person is online; None if that is not known."""
        return self._is_online

    def want(self, offer_id: str, telling: T, now: float) -> None:
        """Add something to tell; it takes the place of what was to be told about the same offer."""
        self._pending[offer_id] = telling
        if not self._has_failed:
            self._due = now

    def forget(self, offer_id: str) -> None:
        """Tell nothing more about an offer."""
        self._pending.pop(offer_id, None)

    def presence(self, is_online: bool | None, now: float) -> None:
        """Take what is known of the person's presence."""
        self._is_online = is_online
        if is_online:
            self._back_off.reset()
            self._has_failed = False
            self._due = now
        elif is_online is False and self._has_failed:
            self._due = None

    def next(self, now: float) -> tuple[str, T] | None:
        """Return what to tell now, which is under way until `told` or `failed` is called; None if nothing is due."""
        if self._current is not None or not self._pending or self._due is None or now < self._due:
            return None
        self._current = next(iter(self._pending.items()))
        return self._current

    def told(self) -> None:
        """Note that the person has answered, so that this need not be told again."""
        assert self._current is not None
        (offer_id, telling), self._current = self._current, None
        if self._pending.get(offer_id) == telling:  # else there is something else to tell by now
            del self._pending[offer_id]
        self._has_failed = False
        self._back_off.reset()

    def failed(self, now: float, at_least: float = 0.0) -> None:
        """Note that the person was not reached, or wants to be asked later, after `at_least` seconds."""
        assert self._current is not None
        (offer_id, _), self._current = self._current, None
        if offer_id in self._pending:  # the others come first the next time
            self._pending[offer_id] = self._pending.pop(offer_id)
        self._has_failed = True
        delay = self._back_off.next_delay(min(at_least, self._longest))
        self._due = None if self._is_online is False else now + delay

    def get_timer(self) -> float | None:
        """Return the time from which `next` may return something; None if only an event can change that."""
        return None if self._current is not None or not self._pending else self._due
