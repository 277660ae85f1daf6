"""The work of a job on the disk, in threads: single calls, and blocks in batches.

Waking a thread costs the reactor more than copying a block. So several blocks are written in one go: a full batch at
once, an incomplete one after a moment. One thread writes; of two, one would spin on the lock that Linux has per file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from p2pshare.core.incoming_transfer import ArrivedBlock
from p2pshare.net.sockets import IPeerReactor

BATCH = 4  # blocks that are written in one go
MOMENT = 0.005  # seconds that a block waits for others

T = TypeVar("T")


class Writable(Protocol):
    """The destination of a block, such as `Incoming`."""

    def write_block(self, index: int, data: memoryview, digest: bytes) -> None:
        """Verify the block and write it; may block."""


Written = Callable[[int, Failure | None], object]
"""Called with the bytes of a block when it is written, or with the failure."""

_Row = tuple[Writable, ArrivedBlock, Written]


class DiskWork:
    """All work of one job in threads. The session's credit bounds the blocks that wait here."""

    def __init__(self, reactor: IPeerReactor, on_defect: Callable[[Failure], object]) -> None:
        """Args:
        reactor: for threads and timers.
        on_defect: called with what should never happen.
        """
        self._reactor = reactor
        self._on_defect = on_defect
        self._running = 0
        self._idle: list[Deferred[None]] = []
        self._blocks: deque[_Row] = deque()
        self._is_writing = False
        self._timer: IDelayedCall | None = None

    def run(self, work: Callable[..., T], *args: object) -> Deferred[T]:
        """Call `work(*args)`, which may block, in a thread. The thread goes on if the Deferred is cancelled."""
        outcome: Deferred[T] = Deferred()
        self._running += 1
        pool = self._reactor.getThreadPool()
        running = deferToThreadPool(self._reactor, pool, work, *args)
        running.addCallbacks(outcome.callback, outcome.errback)
        running.addBoth(self._ended)
        return outcome

    async def idle(self) -> None:
        """Return when no thread works for this job."""
        if self._running:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle

    def write_block(self, file: Writable, block: ArrivedBlock, written: Written) -> None:
        """Write a block, release it, and call `written`."""
        self._blocks.append((file, block, written))
        if len(self._blocks) >= BATCH:
            self._write()
        elif self._timer is None:
            self._timer = self._reactor.callLater(MOMENT, self._moment_over)

    def _moment_over(self) -> None:
        self._timer = None
        self._write()

    def _write(self) -> None:
        if self._blocks and not self._is_writing:
            self._is_writing = True
            batch = [self._blocks.popleft() for _ in range(min(BATCH, len(self._blocks)))]
            self.run(_write, batch).addCallback(self._written).addErrback(self._on_defect)

    def _written(self, outcomes: list[tuple[_Row, Failure | None]]) -> None:
        self._is_writing = False
        for (_, block, written), failure in outcomes:
            size = len(block.data)
            block.release()
            try:
                written(size, failure)
            except Exception:  # the owners of the other blocks must hear of them all the same
                self._on_defect(Failure())
        if self._timer is None:
            self._write()

    def _ended(self, _: object) -> None:
        self._running -= 1
        if not self._running:
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)


def _write(batch: list[_Row]) -> list[tuple[_Row, Failure | None]]:
    """Write blocks, in a thread."""
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
