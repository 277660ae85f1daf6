"""Bounds what is read from the sessions of one key, so that no opener slows down the others.

All sessions of a key share one message budget and one slice of plaintext in each turn of the reactor. However many
sessions a flooding key has, and whatever they send, others wait for one slice of it and not for everything it has sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from p2pshare.core.message_budget import MessageBudget
from p2pshare.net.clocks import LazyTimer

SLICE = (
    4096  # bytes of messages read from one key in a turn of the reactor: up to about 5 ms of work
)


class Reader(Protocol):
    """A session that reads."""

    def read_on(self) -> None:
        """Read on: there is room again."""


class Intake:
    """The reading of one key; each of its sessions asks for `room` before it reads."""

    def __init__(self, clock: IReactorTime, on_flood: Callable[[], object]) -> None:
        """Begin with a full budget; `on_flood` ends the sessions of the key."""
        self._clock = clock
        self._on_flood = on_flood
        self.budget = MessageBudget(clock.seconds())
        self._left = SLICE
        self._waiting: deque[Reader] = deque()
        self._next = LazyTimer(clock, self._turn)

    def room(self, reader: Reader) -> int:
        """Return the bytes that `reader` may read now; if 0, its `read_on` is called later."""
        now = self._clock.seconds()
        wait = self.budget.wait(now)
        if not wait and self._left:
            return self._left
        if self.budget.is_flood(now):
            self._on_flood()
        else:
            if reader not in self._waiting:
                self._waiting.append(reader)
            self._next.set(now + wait)
        return 0

    def was_read(self, size: int, messages: int) -> None:
        """Count what was read, bytes of files left out."""
        if not size and not messages:
            return
        self._left = max(0, self._left - size)
        now = self._clock.seconds()
        self.budget.spend(messages, now)
        self._next.set(now)

    def earn(self, messages: int) -> None:
        """Refund messages: a request was answered, or answers are asked for."""
        self.budget.earn(messages, self._clock.seconds())

    def leave(self, reader: Reader) -> None:
        """Forget `reader`, which has ended."""
        if reader in self._waiting:
            self._waiting.remove(reader)
        if not self._waiting:
            self._next.cancel()
            self._turn()

    def _turn(self) -> None:
        """Begin a new slice, with the sessions that have waited longest."""
        self._left = SLICE
        if not self._waiting:
            self.budget.all_read()
        for reader in list(self._waiting):
            if self._left and reader in self._waiting:
                self._waiting.remove(reader)
                reader.read_on()
