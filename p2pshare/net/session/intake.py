"""What is read of the sessions of one key: within its budget of messages, in turn, and little at once.

However many sessions a key has, and whatever they send, all of them together get one slice of each turn. So the others,
and connections that are no sessions yet, wait for a slice of each flooding key and not for all that it has sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pshare.core.message_budget import MessageBudget

SLICE = 4096  # bytes of messages that one key gets read in a turn of the reactor: up to some 5 ms


class Reader(Protocol):
    """A session that reads."""

    def read_on(self) -> None:
        """Read: there is room again."""


class Intake:
    """Of one key; each of its sessions asks for `room` before it reads."""

    def __init__(self, clock: IReactorTime, on_flood: Callable[[], object]) -> None:
        """Begin with a full budget; `on_flood` hears that the sessions are to be ended."""
        self._clock = clock
        self._on_flood = on_flood
        self.budget = MessageBudget(clock.seconds())
        self._left = SLICE
        self._waiting: deque[Reader] = deque()
        self._next: IDelayedCall | None = None

    def room(self, reader: Reader) -> int:
        """Bytes that `reader` may read now; if there are none, it is told when that has changed."""
        now = self._clock.seconds()
        wait = self.budget.wait(now)
        if not wait and self._left:
            return self._left
        if self.budget.is_flood(now):
            self._on_flood()
        else:
            if reader not in self._waiting:
                self._waiting.append(reader)
            self._turn_after(wait)
        return 0

    def was_read(self, size: int, messages: int) -> None:
        """So much was read."""
        self._left = max(0, self._left - size)
        self.budget.spend(messages, self._clock.seconds())
        self._turn_after(0.0)

    def answered(self) -> None:
        """A request was answered."""
        self.budget.earn(self._clock.seconds())

    def leave(self, reader: Reader) -> None:
        """Wait no more with `reader`, which has ended."""
        if reader in self._waiting:
            self._waiting.remove(reader)
        if not self._waiting and self._next is not None:
            self._next.cancel()
            self._turn()

    def _turn_after(self, wait: float) -> None:
        if self._next is None:
            self._next = self._clock.callLater(wait, self._turn)

    def _turn(self) -> None:
        """Go on in the next turn, with those that have waited longest."""
        self._next = None
        self._left = SLICE
        if not self._waiting:
            self.budget.all_read()
        for reader in list(self._waiting):
            if self._left and reader in self._waiting:
                self._waiting.remove(reader)
                reader.read_on()
