"""Writes the blocks of a job in threads: a few at once, in the order in which they came.

To wake a thread costs the reactor's thread more than to copy a block, so it is done for several blocks at once where
they come fast, and for those that there are after a moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from p2pshare.core.receiver import ArrivedBlock
from p2pshare.peer.fetch.thread_work import ThreadWork

THREADS_MAX = 1  # that writes: of two, one would spin on the lock that Linux has for a file, on a core that others need
BATCH = 4  # blocks that are written in one go
MOMENT = 0.005  # seconds for which a block waits for others


class Writable(Protocol):
    """Where a block goes."""

    def write_block(self, index: int, data: memoryview, digest: bytes) -> None:
        """Verify it and write it; may block."""


Written = Callable[[int, Failure | None], object]
"""Told of the bytes that were written, or why they were not."""

_Row = tuple[Writable, ArrivedBlock, Written]


class BlockWriter:
    """The queue; the session's credit bounds it."""

    def __init__(
        self,
        reactor: IReactorTime,
        threads: ThreadWork,
        broke: Callable[[Failure], object],
        threads_max: int = THREADS_MAX,
    ) -> None:
        """Args:
        reactor: for timers.
        threads: where blocks are written.
        broke: told of what should never happen.
        threads_max: threads that write at once.
        """
        self._reactor = reactor
        self._threads = threads
        self._broke = broke
        self._free = threads_max
        self._queue: deque[_Row] = deque()
        self._waiting: IDelayedCall | None = None

    def write(self, file: Writable, block: ArrivedBlock, written: Written) -> None:
        """Write a block, and release it."""
        self._queue.append((file, block, written))
        if len(self._queue) >= BATCH:
            self._go_on()
        elif self._waiting is None:
            self._waiting = self._reactor.callLater(MOMENT, self._waited)

    def _waited(self) -> None:
        self._waiting = None
        self._go_on()

    def _go_on(self) -> None:
        while self._queue and self._free:
            self._free -= 1
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            self._threads.run(_write, batch).addCallback(self._over).addErrback(self._broke)

    def _over(self, outcomes: list[tuple[_Row, Failure | None]]) -> None:
        self._free += 1
        for (_, block, written), failure in outcomes:
            size = len(block.data)
            block.release()
            try:
                written(size, failure)
            except Exception:  # the others are to be told all the same
                self._broke(Failure())
        if self._waiting is None:
            self._go_on()


def _write(batch: list[_Row]) -> list[tuple[_Row, Failure | None]]:
    """Write blocks; runs in a thread."""
    outcomes: list[tuple[_Row, Failure | None]] = []
    for row in batch:
        file, block, _ = row
        failure = None
        try:
            file.write_block(block.index, block.data, block.digest)
        except Exception:
            failure = Failure()
        outcomes.append((row, failure))
    return outcomes
