"""One running question, and every caller that waits for its answer.

A look-up, a listing or a decoded picture is often wanted by several callers at once. The first caller starts the
question and keeps it, usually in a dictionary; each caller gets a Deferred of its own from `wait`. A caller that gives
up leaves the question to the others. With no caller left the question still goes on: its owner keeps the answer for the
next caller, and a thread that waits for DNS cannot be stopped. Only its owner cancels it.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

T = TypeVar("T")


class SharedAnswer(Generic[T]):
    """The answer to a question, for any number of callers, before and after it is there."""

    def __init__(self, question: Deferred[T]) -> None:
        """Take over `question`; if it fails, each caller gets the failure, and nobody else reports it."""
        self._waiting: deque[Deferred[T]] = deque()
        self._outcome: tuple[T | Failure] | None = None
        self._question: Deferred[Any] = question
        question.addBoth(self._answered)

    @property
    def is_open(self) -> bool:
        """Whether the question is not answered yet."""
        return self._outcome is None

    @property
    def has_failed(self) -> bool:
        """Whether the question was answered with an error."""
        return self._outcome is not None and isinstance(self._outcome[0], Failure)

    def wait(self) -> Deferred[T]:
        """Return the answer for one more caller, which may cancel it."""
        if self._outcome is not None:
            (outcome,) = self._outcome
            return fail(outcome) if isinstance(outcome, Failure) else succeed(outcome)
        waiting: Deferred[T] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def cancel(self) -> None:
        """Cancel the question: every caller gets `CancelledError`."""
        self._question.cancel()

    def _answered(self, outcome: T | Failure) -> None:
        self._outcome = (outcome,)
        while self._waiting:  # whose callbacks may cancel others of the list
            self._waiting.popleft().callback(cast(T, outcome))
