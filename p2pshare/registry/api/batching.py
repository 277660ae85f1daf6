"""Questions that are asked together, to cost one command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

Q = TypeVar("Q")
A = TypeVar("A")


class Gathering(Generic[Q, A]):
    """Asks all that came up in a turn of the reactor, or while the last answer was awaited, as one question."""

    def __init__(
        self,
        clock: IReactorTime,
        ask: Callable[[list[Q]], Deferred[A]],
        most: int,
        *,
        waits: bool = True,
    ) -> None:
        """Ask nothing yet.

        Args:
            clock: tells when the turn is over.
            ask: asks up to `most` questions at once, and answers, or fails, in a bounded time.
            most: how many.
            waits: for an answer before it asks again: that gathers more, and keeps the order.
        """
        self._clock = clock
        self._ask = ask
        self._most = most
        self._waits = waits
        self._waiting: list[tuple[Q, Deferred[A]]] = []
        self._is_asking = False

    @property
    def size(self) -> int:
        """How many questions are not asked yet."""
        return len(self._waiting)

    def add(self, question: Q) -> Deferred[A]:
        """Ask, by and by; fires with the answer to all that were asked together."""
        waiting: Deferred[A] = Deferred()
        self._waiting.append((question, waiting))
        if not self._is_asking:
            self._is_asking = True
            self._clock.callLater(0, self._ask_some)
        return waiting

    def _ask_some(self) -> None:
        some, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        self._is_asking = bool(some if self._waits else self._waiting)
        if self._is_asking and not self._waits:
            self._clock.callLater(0, self._ask_some)
        if some:
            self._ask([question for question, _ in some]).addBoth(self._answer, some)

    def _answer(self, answer: A | Failure, some: list[tuple[Q, Deferred[A]]]) -> None:
        if self._waits:
            self._clock.callLater(0, self._ask_some)
        for _, waiting in some:
            waiting.callback(answer)
