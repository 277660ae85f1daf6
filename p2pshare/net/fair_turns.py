"""Work that may go on in few places at once, shared fairly among those that want it done."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class FairTurns:
    """Lets `total` pieces of work go on at once, `of_one` of them for one party; the parties take turns."""

    def __init__(self, total: int, of_one: int) -> None:
        self._total = total
        self._of_one = of_one
        self._going: Counter[str] = Counter()
        self._waiting: dict[str, deque[Callable[[], object]]] = {}  # the next one first

    def run(self, party: str, work: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Do `work` for `party` in its turn; returns what it gives. To cancel that is to pass over what still waits."""
        result: Deferred[T] = Deferred()

        def begin() -> None:
            if result.called:
                self._ended(party)
            else:
                work().addBoth(end)

        def end(outcome: T | Failure) -> None:
            if not result.called:
                result.callback(outcome)
            self._ended(party)

        self._waiting.setdefault(party, deque()).append(begin)
        self._begin_some()
        return result

    def _ended(self, party: str) -> None:
        self._going[party] -= 1
        self._begin_some()

    def _begin_some(self) -> None:
        while self._going.total() < self._total:
            party = next((each for each in self._waiting if self._going[each] < self._of_one), None)
            if party is None:
                break
            waiting = self._waiting.pop(party)
            begin = waiting.popleft()
            if waiting:
                self._waiting[party] = waiting  # behind the others
            self._going[party] += 1
            begin()
        self._going += Counter()  # forget those with nothing going on
