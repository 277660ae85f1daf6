"""One request for a large file: its blocks on their way from the session to the disk.

Theory of operation. A transfer stands between two sides that do not wait for each other. The session delivers a header,
blocks and an end, or breaks. The disk prepares the part, writes blocks and syncs them, in threads. `_TRANSITIONS` says
what each event means in each state.

A transfer that only compares, for the root of a file that is here, is never prepared: it stays `ASKED` until it ends.

An event that the table does not list is ignored: the session may end after an abort, and a thread may fail after
another one has. So the first reason to abort is the one that is reported.

Blocks that arrive while the part is being prepared wait in memory; credit bounds them. `ENDED` covers every last word
of the session: the root, a fault, or the loss of the session. Blocks that are here by then are still written, since the
next request need not repeat them. `ABORTED` covers every reason of this side: a block that is corrupt, a disk that is
full, a job that is stopped. Blocks that wait are released then, and those in a thread are awaited, because a thread
cannot be interrupted and uses the descriptors of the part. `DRAINED` follows when no thread works for this transfer.
`outcome` fires in `OVER` and not before, so the owner may publish, suspend or discard the part at once.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from p2pshare.core.incoming_transfer import ArrivedBlock
from p2pshare.errors import BlockCorrupt, CannotSave, ChangedHere, InUse, TooManyOpenFiles
from p2pshare.peer.fetch.first_file import FirstFile
from p2pshare.peer.fetch.job_parts import JobContext
from p2pshare.storage.incoming.partial_file import Incoming
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import Cancelled, Fault, FileHeader, Runs

CHECKPOINT_BYTES = 32 * 1024 * 1024  # bytes written since the last checkpoint that start another
CHECKPOINT_TIME = 0.5  # seconds from one checkpoint to the next while blocks arrive


class TransferState(enum.Enum):
    """The state of a transfer."""

    ASKED = "nothing has arrived"
    PREPARING = "the file is announced, and the part is being opened or its room reserved"
    WRITING = "blocks are written as they arrive"
    ENDING = "the session has said its last word before the part is prepared"
    DRAINING = "the session has said its last word, and the last blocks are being written"
    ABORTING = "nothing more is wanted, and threads are still at work"
    OVER = "no thread works for the transfer"


class TransferEvent(enum.Enum):
    """Something that may change the state."""

    ANNOUNCED = "the file is announced"
    PREPARED = "the part is ready for blocks"
    ENDED = "the session has said its last word"
    ABORTED = "this side gives up"
    DRAINED = "no thread works for the transfer"


_S, _E = TransferState, TransferEvent
_TRANSITIONS: dict[TransferState, dict[TransferEvent, TransferState]] = {
    _S.ASKED: {_E.ANNOUNCED: _S.PREPARING, _E.ENDED: _S.DRAINING, _E.ABORTED: _S.ABORTING},
    _S.PREPARING: {_E.PREPARED: _S.WRITING, _E.ENDED: _S.ENDING, _E.ABORTED: _S.ABORTING},
    _S.WRITING: {_E.ENDED: _S.DRAINING, _E.ABORTED: _S.ABORTING},
    _S.ENDING: {_E.PREPARED: _S.DRAINING, _E.ABORTED: _S.ABORTING},
    _S.DRAINING: {_E.ABORTED: _S.ABORTING, _E.DRAINED: _S.OVER},
    _S.ABORTING: {_E.DRAINED: _S.OVER},
    _S.OVER: {},
}
_WITH_PART = {_S.WRITING, _S.DRAINING}


class BlockTransfer:
    """One transfer; a `Receiver`."""

    def __init__(
        self,
        context: JobContext,
        on_header: Callable[[FileHeader], object],
        on_written: Callable[[int], object],
        on_end: Callable[[], object] = lambda: None,
    ) -> None:
        """Args:
        context: of the job.
        on_header: called with the header; calls `prepare`, or `refuse` if the header is of no use.
        on_written: called with the bytes of each block that is written.
        on_end: called when the whole file has arrived.
        """
        self._context = context
        self._on_header = on_header
        self._on_written = on_written
        self._on_end = on_end
        self._incoming: Incoming | None = None  # once it is prepared
        self._waiting: deque[ArrivedBlock] = deque()
        self._threads = 0
        self._is_syncing = False
        self._checkpoint_at = 0.0
        self._result: bytes | Fault | None = None
        self._error: BaseException | None = None
        self.state = TransferState.ASKED
        self.number: int | None = None
        """Until the transfer is cancelled, has failed, or its end was reported to the sharer."""
        self.header: FileHeader | None = None
        self.held = 0
        """Bytes of whole blocks that are in memory."""
        self.outcome: Deferred[bytes | Fault | None] = Deferred()
        """The root; or why the file does not arrive, None if the session was lost. Fails with the reason to abort."""

    def begin(self, path: RemotePath, version: str, want: Runs | None) -> None:
        """Request these blocks of a version of the file; None for all blocks."""
        self.number = self._context.remote.get(self, path, version, want)

    def take_over(self, first: FirstFile) -> None:
        """Continue a request that is under way."""
        self.number = first.number
        first.take_over(self)

    def prepare(self, opening: Coroutine[Any, Any, Incoming]) -> None:
        """Open the part for the blocks of the header."""
        self._move(TransferEvent.ANNOUNCED)
        self._threads += 1
        Deferred.fromCoroutine(opening).addCallbacks(self._prepared, self._thread_failed)

    def refuse(self, why: Fault) -> None:
        """End the transfer since its header is of no use."""
        self.cancel(Cancelled.BY_USER)
        self._end(why)

    def abort(self, error: BaseException) -> None:
        """Give the transfer up; `outcome` will fail with `error`."""
        if not self._move(TransferEvent.ABORTED):
            return
        self._error = error
        self.cancel(cancel_reason(error))
        while self._waiting:
            block = self._waiting.popleft()
            self.held -= len(block.data)
            block.release()
        self._check_drained()

    def cancel(self, why: Cancelled) -> None:
        """Tell the sharer that the transfer is not wanted any more, unless it is over there."""
        number, self.number = self.number, None
        if number is not None:
            self._context.remote.cancel(number, why)

    def checkpoint(self, *, even_if_durable: bool = False) -> None:
        """Sync and journal what is written: a kill costs what is written later. This also notices a removed part."""
        incoming = self._incoming
        if incoming is None or self._is_syncing or self.state not in _WITH_PART:
            return
        if incoming.unsynced or even_if_durable:
            self._is_syncing = True
            self._threads += 1
            self._checkpoint_at = self._context.reactor.seconds()
            syncing = self._context.disk.run(incoming.sync)
            syncing.addBoth(self._synced).addErrback(self._context.stop)

    def announced(self, header: FileHeader) -> None:
        """Let the owner judge the header."""
        self.header = header
        self._on_header(header)

    def outgrown(self, header: FileHeader) -> None:
        """Nothing: any size was asked for."""

    def block_arrived(self, block: ArrivedBlock) -> None:
        """Write a block now, or once the part is prepared. Blocks come in any order."""
        if self.state is TransferState.WRITING:
            self.held += len(block.data)
            self._write(block)
        elif self.state is TransferState.PREPARING:
            self.held += len(block.data)
            self._waiting.append(block)
        else:
            block.release()

    def ended(self, root: bytes) -> None:
        """Take the root; the whole file has arrived."""
        self._on_end()
        self._end(root)

    def failed(self, why: Fault) -> None:
        """Take the reason why the sharer does not send it."""
        self.number = None
        self._end(why)

    def interrupted(self) -> None:
        """Take the loss of the session."""
        self.number = None
        self._end(None)

    def _move(self, event: TransferEvent) -> bool:
        """Change the state as the table says; whether the event meant anything."""
        state = _TRANSITIONS[self.state].get(event)
        if state is not None:
            self.state = state
        return state is not None

    def _end(self, result: bytes | Fault | None) -> None:
        if self._move(TransferEvent.ENDED):
            self._result = result
            self._check_drained()

    def _prepared(self, incoming: Incoming) -> None:
        self._threads -= 1
        self._incoming = incoming
        if self._move(TransferEvent.PREPARED):
            while self._waiting:
                self._write(self._waiting.popleft())
        self._check_drained()

    def _write(self, block: ArrivedBlock) -> None:
        assert self._incoming is not None
        self._threads += 1
        self._context.disk.write_block(self._incoming, block, self._written)

    def _written(self, size: int, failure: Failure | None) -> None:
        self.held -= size
        if failure is not None:
            self._thread_failed(failure)
            return
        self._threads -= 1
        self._on_written(size)
        assert self._incoming is not None
        waited = self._context.reactor.seconds() - self._checkpoint_at
        if waited >= CHECKPOINT_TIME or self._incoming.unsynced >= CHECKPOINT_BYTES:
            self.checkpoint()
        self._check_drained()

    def _synced(self, result: Failure | None) -> None:
        self._is_syncing = False
        if result is not None:
            self._thread_failed(result)
        else:
            self._threads -= 1
            self._check_drained()

    def _thread_failed(self, failure: Failure) -> None:
        self._threads -= 1
        assert failure.value is not None
        self.abort(failure.value)
        self._check_drained()

    def _check_drained(self) -> None:
        if not self._threads and self._move(TransferEvent.DRAINED):
            if self._error is not None:
                self.outcome.errback(self._error)
            else:
                self.outcome.callback(self._result)


def cancel_reason(error: BaseException) -> Cancelled:
    """Return what to tell the sharer of a transfer that `error` ended here."""
    if isinstance(error, BlockCorrupt):
        return Cancelled.CORRUPT
    is_disk = isinstance(error, CannotSave) and not isinstance(
        error, InUse | TooManyOpenFiles | ChangedHere
    )
    return Cancelled.DISK if is_disk else Cancelled.BY_USER
