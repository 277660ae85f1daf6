"""Writes the blocks of a job in threads: a few at once, in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.python.failure import Failure

from p2pshare.core.taking import ArrivedBlock
from p2pshare.peer.thread_work import ThreadWork

WRITES_MAX = 4  # blocks that are hashed and written at once


class Writable(Protocol):
    """Where a block goes."""

    def write_block(self, index: int, data: memoryview, digest: bytes) -> None:
        """Verify it and write it; may block."""


Written = Callable[[int, Failure | None], object]
"""Told of the bytes that were written, or why they were not."""


class BlockWriter:
    """The queue; the session's credit bounds it."""

    def __init__(
        self,
        threads: ThreadWork,
        broke: Callable[[Failure], object],
        writes_max: int = WRITES_MAX,
    ) -> None:
        """Args:
        threads: where blocks are written.
        broke: told of what should never happen.
        writes_max: blocks that are written at once.
        """
        self._threads = threads
        self._broke = broke
        self._free = writes_max
        self._queue: deque[tuple[Writable, ArrivedBlock, Written]] = deque()

    def write(self, file: Writable, block: ArrivedBlock, written: Written) -> None:
        """Write a block, and release it."""
        self._queue.append((file, block, written))
        self._go_on()

    def _go_on(self) -> None:
        while self._queue and self._free:
            self._free -= 1
            self._write(*self._queue.popleft())

    def _write(self, file: Writable, block: ArrivedBlock, written: Written) -> None:
        size = len(block.data)

        def over(failure: Failure | None) -> None:
            self._free += 1
            block.release()
            written(size, failure)
            self._go_on()

        writing = self._threads.run(file.write_block, block.index, block.data, block.digest)
        writing.addCallbacks(over, over).addErrback(self._broke)
