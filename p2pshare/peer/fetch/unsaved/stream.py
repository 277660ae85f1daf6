"""A file that is passed on as it arrives, such as to standard output: verified bytes, in order, each once.

Theory of operation. Blocks may arrive in any order, and a pipe may take them slowly. A block that is not next is kept
in memory; one that is next goes to a thread, which verifies it and writes it. A block is released, and so gives credit,
when it is written. So the credit of the session bounds what lies in memory, and a pipe that stalls stalls the sharer.
The session itself goes on: only the thread waits for the pipe.

`Streamed` is what outlives a request, a session, and with `get --wait` a connection. The next request wants the blocks
behind those that were taken, of the same version. What was written cannot be taken back, so a file that has changed
since its first byte was written is an error, and so is a root that does not match in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from p2pshare.core.incoming_transfer import ArrivedBlock
from p2pshare.errors import BlockCorrupt, SharerLied, StreamCutShort
from p2pshare.peer.fetch.block_transfer import cancel_reason
from p2pshare.peer.fetch.disk_work import DiskWork
from p2pshare.peer.fetch.job_parts import BUSY_DELAY, TRIES_MAX
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.remote_faults import error_of
from p2pshare.peer.fetch.tally import JobProgress, SavedFile
from p2pshare.wire.blocks import DIGEST_SIZE, block_count, digest_of, root_of
from p2pshare.wire.paths import format_path
from p2pshare.wire.transfer_messages import TITLE_MAX, Cancelled, Fault, FileHeader, Job, Runs

DESTINATION = Path("-")
"""What a file that was passed on is reported as."""

Write = Callable[[memoryview], object]
"""Writes all of some bytes; may block, and is called in a thread. Nothing is written after it has raised."""


class Streamed:
    """What of one file was passed on so far."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._broken: BaseException | None = None
        self._digests = bytearray()
        self.header: FileHeader | None = None
        """Of the version that is passed on."""
        self.written = 0
        """Bytes."""

    @property
    def taken(self) -> int:
        """The number of blocks that are written, or on their way there."""
        return len(self._digests) // DIGEST_SIZE

    def take(self, block: ArrivedBlock) -> None:
        """Count the next block, which is then to be written."""
        self._digests += block.digest

    def write_block(self, index: int, data: memoryview, digest: bytes) -> None:
        """Verify a block and pass it on; in a thread.

        Raises:
            BlockCorrupt: it does not match its digest.
            Exception: it cannot be written, or one before it could not.
        """
        if self._broken is not None:
            raise self._broken
        try:
            if digest_of(data) != digest:
                raise BlockCorrupt(path=DESTINATION, reason=f"block {index}")
            self._write(data)
        except BaseException as error:
            self._broken = error
            raise
        self.written += len(data)

    def has_root(self, root: bytes) -> bool:
        """Whether all blocks together have this root."""
        assert self.header is not None
        return root_of(self.header.size, (bytes(self._digests),)) == root

    def missing(self) -> tuple[str, Runs | None]:
        """Return the version to request, and the blocks of it; None for all."""
        if self.header is None or not self.taken:
            return "", None
        count = block_count(self.header.size)
        rest: Runs = ((self.taken, count),) if self.taken < count else ()
        return self.header.version, rest


class StreamJob:
    """A job of one file that is passed on: `run` it once. `progress` may be read at any time."""

    def __init__(
        self,
        remote: RemotePeer,
        items: Sequence[JobItem],
        *,
        streamed: Streamed,
        on_saved: Callable[[SavedFile], object] = lambda _: None,
        **_: object,
    ) -> None:
        """Args:
        remote: the sharer.
        items: the file.
        streamed: what was passed on before, and where to.
        on_saved: called when all of it was passed on.
        """
        (item,) = items  # `get` has checked that there is one
        self._remote = remote
        self._path = item.path
        self._streamed = streamed
        self._on_saved = on_saved
        self._disk = DiskWork(remote.reactor, self._fail)
        self._request: _Request | None = None
        self._number: int | None = None  # of a transfer that is not over at the sharer
        self._error: Failure | None = None
        self._pending = 0  # blocks that wait for the thread, or are in it
        self._drained: Deferred[None] | None = None
        self._fetched = 0  # bytes
        self._is_done = False

    @property
    def files_total(self) -> int:
        """One."""
        return 1

    @property
    def progress(self) -> JobProgress:
        """A snapshot of the job; `bytes_done` are written."""
        streamed, header = self._streamed, self._streamed.header
        size = None if header is None else header.size
        coming = () if self._is_done else (self._path,)
        done = streamed.written
        return JobProgress(
            int(self._is_done), 1, done, size, 0, 0, coming, 1, size or 0, self._fetched
        )

    async def run(self) -> JobProgress:
        """Pass the file on.

        Raises:
            StreamCutShort: it has changed since its first byte was written.
            RemoteIsFolder: it is a folder.
            SharerLied: it does not match its checksums.
            OSError: it cannot be written; a `BrokenPipeError` if nobody reads it.
            P2pshareError: it cannot be fetched, or not all of it; another job can continue it.
        """
        remote, streamed = self._remote, self._streamed
        began = remote.reactor.seconds()
        try:
            root = await self._fetch()
            await self._all_written()
            if not streamed.has_root(root):
                raise BlockCorrupt(path=DESTINATION, reason="its root is another one")
        except BlockCorrupt as error:
            self._cancel(cancel_reason(error))
            raise SharerLied(name=remote.name, path=format_path(self._path)) from None
        except BaseException as error:
            self._cancel(cancel_reason(error))
            raise
        if self._number is not None:
            remote.done([self._number])
        self._tell_job(0, 0)
        self._is_done = True
        seconds, size = remote.reactor.seconds() - began, streamed.written
        self._on_saved(SavedFile(self._path, DESTINATION, size, self._fetched, seconds, root=root))
        return self.progress

    async def _fetch(self) -> bytes:
        """Request the file until all of it has come; return its root.

        Nothing is requested before all is written that has come: a pipe that stalls for hours, while the sharer closes
        idle sessions, must not fill the memory.
        """
        remote, streamed, tries = self._remote, self._streamed, 0
        while True:
            await self._all_written()
            await remote.ready()
            request = self._request = _Request(streamed, self._take)
            version, want = streamed.missing()
            self._number = remote.get(request, self._path, version, want)
            header = streamed.header
            self._tell_job(1, 0 if header is None else header.size - streamed.written)
            try:
                outcome = await request.outcome
            finally:
                self._request = None
                request.drop()
            if isinstance(outcome, bytes):
                return outcome
            if not request.has_changed:
                self._number = None
            if outcome is Fault.CHANGED and streamed.taken:
                await self._all_written()
                path, written = format_path(self._path), streamed.written
                raise StreamCutShort(name=remote.name, path=path, written=written)
            if outcome is not None:
                tries += 1
                if outcome not in (Fault.BUSY, Fault.CHANGED) or tries >= TRIES_MAX:
                    raise error_of(outcome, remote.name, self._path)
                await deferLater(remote.reactor, BUSY_DELAY * tries)

    def _take(self, block: ArrivedBlock) -> None:
        """Pass on the next block."""
        self._streamed.take(block)
        self._fetched += len(block.data)
        self._pending += 1
        self._disk.write_block(self._streamed, block, self._block_written)

    def _block_written(self, _size: int, failure: Failure | None) -> None:
        self._pending -= 1
        if failure is not None:
            self._fail(failure)
        elif not self._pending:
            self._wake()

    def _fail(self, failure: Failure) -> None:
        """End the job by the first error of the thread."""
        if self._error is None:
            self._error = failure
            if self._request is not None:
                self._request.give_up(failure)
            self._wake()

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    async def _all_written(self) -> None:
        """Return when all that has come is written.

        Raises:
            Exception: something could not be written.
        """
        if self._pending and self._error is None:
            self._drained = Deferred()
            await self._drained
        if self._error is not None:
            self._error.raiseException()

    def _cancel(self, why: Cancelled) -> None:
        number, self._number = self._number, None
        if number is not None:
            self._remote.cancel(number, why)
        self._tell_job(0, 0)

    def _tell_job(self, files: int, size: int) -> None:
        """Tell the sharer what is still to come."""
        self._remote.tell_job(Job(format_path(self._path)[:TITLE_MAX], files, size))


class _Request:
    """One request for the rest of the file; a `Receiver`."""

    def __init__(self, streamed: Streamed, take: Callable[[ArrivedBlock], object]) -> None:
        self._streamed = streamed
        self._take = take
        self._held: dict[int, ArrivedBlock] = {}  # by their numbers, before their turn
        self.outcome: Deferred[bytes | Fault | None] = Deferred()
        """The root, when all blocks have come; or why they do not come, None if the session was lost."""
        self.has_changed = False
        """Whether another version was announced than the one that was passed on; the sharer still sends it."""

    def drop(self) -> None:
        """Release the blocks whose turn does not come."""
        held, self._held = self._held, {}
        for block in held.values():
            block.release()

    def give_up(self, failure: Failure) -> None:
        """End with an error."""
        if not self.outcome.called:
            self.outcome.errback(failure)

    def announced(self, header: FileHeader) -> None:
        """Take the header, which comes before the digest of any block."""
        known = self._streamed.header
        if known is None or not self._streamed.taken:
            self._streamed.header = header
        elif (header.size, header.version) != (known.size, known.version):
            self.has_changed = True
            self._answer(Fault.CHANGED)

    def outgrown(self, header: FileHeader) -> None:
        """Nothing: any size was asked for."""

    def block_arrived(self, block: ArrivedBlock) -> None:
        """Pass the block on, or keep it until its turn."""
        if self.outcome.called:
            block.release()
        else:
            self._held[block.index] = block
            while (following := self._held.pop(self._streamed.taken, None)) is not None:
                self._take(following)

    def ended(self, root: bytes) -> None:
        """See `Receiver`."""
        self._answer(root)

    def failed(self, why: Fault) -> None:
        """See `Receiver`."""
        self._answer(why)

    def interrupted(self) -> None:
        """See `Receiver`."""
        self._answer(None)

    def _answer(self, answer: bytes | Fault | None) -> None:
        if not self.outcome.called:
            self.outcome.callback(answer)
