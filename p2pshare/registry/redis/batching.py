"""Many questions to Redis in one command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """Asks all questions of one turn of the reactor together, or all that came while the last answer was awaited."""

    def __init__(
        self,
        clock: IReactorTime,
        ask: Callable[[list[Q]], Deferred[A]],
        most: int,
        *,
        waits: bool = True,
    ) -> None:
        """Prepare to ask.

        Args:
            clock: tells when a turn is over.
            ask: asks up to `most` questions at once, and answers or fails in a bounded time.
            most: questions in one batch.
            waits: whether a batch waits for the answer to the one before, which makes it larger and keeps the order.
        """
        self._clock = clock
        self._ask = ask
        self._most = most
        self._waits = waits
        self._waiting: list[tuple[Q, Deferred[A]]] = []
        self._is_asking = False

    @property
    def size(self) -> int:
        """The number of questions that are not asked yet."""
        return len(self._waiting)

    def add(self, question: Q) -> Deferred[A]:
        """Ask soon; the result is the answer to the whole batch."""
        waiting: Deferred[A] = Deferred()
        self._waiting.append((question, waiting))
        if not self._is_asking:
            self._is_asking = True
            self._clock.callLater(0, self._ask_batch)
        return waiting

    def _ask_batch(self) -> None:
        batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        self._is_asking = bool(batch if self._waits else self._waiting)
        if self._is_asking and not self._waits:
            self._clock.callLater(0, self._ask_batch)
        if batch:
            self._ask([question for question, _ in batch]).addBoth(self._answer, batch)

    def _answer(self, answer: A | Failure, batch: list[tuple[Q, Deferred[A]]]) -> None:
        if self._waits:
            self._clock.callLater(0, self._ask_batch)
        for _, waiting in batch:
            waiting.callback(answer)
