"""One file of more than a block: it arrives block by block, and is resumed after any interruption.

Theory of operation. A fetch is a sequence, so it is a coroutine: its position is its state, and the flags are few.

::

    compare ── a candidate has the root ────────────────────────────────────────────┐
       │ no candidate has it                                                        │
    resume the part on the disk, if there is one                                    │
       │                                                                            │
    transfer ◄── session lost, file changed (at most TRIES_MAX), sharer busy        │
       │                                                                            │
    finish: verify the root, publish ──────────────────────► done to the sharer ────┴──► saved

* Events that do not come in sequence (messages, blocks, threads, the end of a session) are `BlockTransfer`'s, one for
  each request. A new request begins with a new transfer, so nothing of the last one needs to be reset.
* Three errors lead back: `_Candidates` to the comparison (the announced version may be here), `InUse` to a wait for the
  other process, `TooManyOpenFiles` to a pause. The part is suspended first where it is open. All others end the fetch.
* `stop` aborts the transfer, ends the wait, and lets threads that hash ask `_is_stopping`. Then the coroutine ends by
  `Stopped`, and the part is suspended: what is verified is kept.
* A part is always closed by the fetch that opened it, in `run`. It never closes while a thread uses it, since the
  outcome of a transfer waits for its threads.
* The place among the large files in flight is free once the last byte has arrived. The next file can then arrive while
  this one is hashed and published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.core.ranges import RangeSet
from p2pshare.errors import BlockCorrupt, InUse, P2pshareError, SharerLied, TooManyOpenFiles
from p2pshare.peer.fetch.block_transfer import BlockTransfer, cancel_reason
from p2pshare.peer.fetch.job_parts import (
    BUSY_DELAY,
    IN_USE_PATIENCE,
    IN_USE_REMARK,
    SHORT_DELAY,
    SHORT_PATIENCE,
    TRIES_MAX,
    JobContext,
    announced_by,
    found_file,
    sought,
)
from p2pshare.peer.fetch.plan import WantedFile
from p2pshare.peer.fetch.remote_faults import error_of
from p2pshare.peer.fetch.tally import SavedFile
from p2pshare.storage.incoming.announcement import Origin
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.partial_file import Incoming
from p2pshare.storage.incoming.present_files import Present, Sought, Stopped
from p2pshare.wire.blocks import BLOCK_SIZE, block_count
from p2pshare.wire.paths import format_path
from p2pshare.wire.transfer_messages import RUNS_MAX, Cancelled, Fault, FileHeader, Runs

IN_USE_DELAY = 0.5  # seconds between two looks at a file that another process fetches
READING_TICKS = 3  # ticks without an end, all blocks being here, after which the user is told
CHANGES_MAX = 4  # versions of a file that local files are compared with
CHANGED_DELAY = 1.0  # seconds before the next comparison: a file just written changes at each look


class _AlreadyHere(Exception):  # noqa: N818 - not an error
    """The file need not be fetched."""

    def __init__(self, present: Present) -> None:
        super().__init__()
        self.present = present


class _Candidates(Exception):  # noqa: N818 - not an error
    """Local files may have the content of the announced version."""


class LargeFetch:
    """One such file; `run` it once."""

    _log = Logger()

    def __init__(self, context: JobContext, folder: IncomingFolder, wanted: WantedFile) -> None:
        self.wanted = wanted
        self._context = context
        self._folder = folder
        self._origin = Origin(context.remote.key, wanted.path, context.remote.name)
        self._incoming: Incoming | None = None
        self._transfer: BlockTransfer | None = None
        self._pause: Deferred[None] | None = None
        self._is_stopping = False
        self._has_slot = True  # among the large files in flight
        self._had = 0  # bytes that were here
        self._written = 0  # bytes written since
        self._size = wanted.size
        self._ticks_whole = 0
        self._short_since: float | None = (
            None  # the first shortage of files since a block was written
        )
        self.is_held_elsewhere = False
        """Whether it waits for another process that fetches the same file."""

    @property
    def bytes_here(self) -> int:
        """Bytes that have arrived, now or in an earlier try."""
        return self._had + self._written + self.bytes_coming

    @property
    def bytes_coming(self) -> int:
        """Bytes that have arrived now and are not written yet."""
        transfer = self._transfer
        if transfer is None:
            return 0
        number = transfer.number
        return transfer.held + (0 if number is None else self._context.remote.arriving(number))

    async def run(self) -> None:
        """Fetch the file. Every outcome is reported to the job."""
        context, wanted = self._context, self.wanted
        try:
            started = context.reactor.seconds()
            while True:
                try:
                    await self._fetch(started)
                    break
                except InUse as error:
                    self._note("held by another process")
                    self._drop_first()
                    await self._wait_for_other(error)
                except TooManyOpenFiles as error:
                    self._drop_first()
                    await self._wait_for_files(error)
        except Stopped:
            self._note("stopped")
        except _AlreadyHere as here:
            self._note("here already")
            context.tally.already_there(self.wanted.size or 0)
            context.on_saved(found_file(self.wanted, here.present))
            await self._close_part(Incoming.discard)
        except BlockCorrupt as error:
            self._note("corrupt", error)
            lied = SharerLied(name=context.remote.name, path=format_path(wanted.path))
            context.fail(wanted.path, self._size, lied)
        except P2pshareError as error:
            self._note("failed", error)
            context.fail(wanted.path, self._size, error)
        finally:
            self._drop_first()
            if self._transfer is not None:
                self._transfer.cancel(Cancelled.BY_USER)
            self._free_slot()
            await self._close_part(Incoming.suspend)

    def stop(self) -> None:
        """End soon, and keep what has arrived."""
        self._is_stopping = True
        if self._transfer is not None:
            self._transfer.abort(Stopped())
        if self._pause is not None:
            self._pause.cancel()

    def tick(self) -> None:
        """Make durable what is written, notice a removed part, and tell the user of a sharer that takes long.

        Call it once a second.
        """
        transfer = self._transfer
        if transfer is None:
            return
        transfer.checkpoint(even_if_durable=True)
        if transfer.number is None:
            return
        name, header = self._context.remote.name, transfer.header
        if self.wanted.candidates:
            sentence = f"is here by name; {name} still reads its file, to compare."
        elif header is not None and self._had and self.bytes_here >= header.size:
            sentence = f"is all here; {name} still reads what was fetched earlier, to compare."
        else:
            return
        self._ticks_whole += 1
        if self._ticks_whole == READING_TICKS:
            self._context.remark(self.wanted, sentence)

    async def _fetch(self, started: float) -> None:
        context, tries = self._context, self.wanted.tries
        if self.wanted.candidates:
            tries = await self._compare(tries)
        self._incoming = await context.disk.run(self._resume)
        if self._incoming is not None:
            self._drop_first()
        self._had = 0 if self._incoming is None else self._incoming.bytes_there
        self._note("resumed" if self._had else "begun")
        while True:
            version, want, rest = _missing_of(self._incoming)
            try:
                root = await self._request(version, want, self._announced, self._free_slot)
            except _Candidates:
                tries = await self._compare(tries)
                continue
            if isinstance(root, bytes):
                if not rest:
                    break
                assert self._transfer is not None
                self._transfer.cancel(Cancelled.BY_USER)  # the next request asks for the rest
                continue
            self._note("interrupted" if root is None else f"not sent ({root.value})")
            if self._incoming is not None:  # the pause may be long, and end with a kill
                await context.disk.run(self._incoming.sync)
            if root is not None:
                tries += 1
                await self._wait_or_fail(root, tries, root is Fault.BUSY)
        size, fetched = self._size or 0, self._written
        path, wanted = await self._finish(root), self.wanted
        self._note("verified and saved")
        self._had = self._written = 0
        context.tally.saved(size)
        seconds = context.reactor.seconds() - started
        is_renamed = wanted.is_renamed or path.name != wanted.place.name
        context.on_saved(
            SavedFile(
                wanted.path,
                path,
                size,
                fetched,
                seconds,
                root=root,
                is_renamed=is_renamed,
                is_replaced=wanted.replaces is not None,
            )
        )

    async def _request(
        self,
        version: str,
        want: Runs | None,
        on_header: Callable[[FileHeader], object],
        on_end: Callable[[], object] = lambda: None,
    ) -> bytes | Fault | None:
        """Request the file once; return as `BlockTransfer.outcome` does."""
        context = self._context
        self._check_stopping()
        while not context.remote.is_up:
            try:
                await self._wait(Deferred.fromCoroutine(context.remote.ready()))
            except P2pshareError as error:
                context.stop(error)
                raise Stopped from error
        self._transfer = BlockTransfer(context, on_header, self._block_written, on_end)
        first, self.wanted = self.wanted.first, replace(self.wanted, first=None)
        if first is None:
            self._transfer.begin(self.wanted.path, version, want)
        else:
            self._transfer.take_over(first)
        return await self._transfer.outcome

    def _announced(self, header: FileHeader) -> None:
        self._know_size(header)
        assert self._transfer is not None
        self._transfer.prepare(self._open_part(header))

    async def _open_part(self, header: FileHeader) -> Incoming:
        """Continue the part that is open, or begin a new one.

        Raises:
            _AlreadyHere: the announced version is here.
            _Candidates: it may be here.
            P2pshareError: it cannot be saved.
        """
        disk, part, announced = self._context.disk, self._incoming, announced_by(header)
        if part is not None:
            if announced == replace(part.announced, executable=header.executable):
                part.announced = announced
                await disk.run(part.reserve)
                return part
            sentence = (
                "has changed since a part of it was fetched, so it is fetched from the start."
            )
            self._context.remark(self.wanted, sentence)
            self._had = self._written = 0
            await self._close_part(Incoming.discard)
        if not self.wanted.is_claimed:
            await self._look_up(header.size, header.version)
            if self.wanted.candidates:
                raise _Candidates
        wanted = self.wanted
        self._incoming = await disk.run(
            lambda: self._folder.begin(
                wanted.place,
                self._origin,
                announced,
                overwrite=wanted.may_replace,
                replaces=wanted.replaces or b"",
            )
        )
        return self._incoming

    def _block_written(self, size: int) -> None:
        self._written += size
        self._short_since = None
        self._context.tally.bytes_fetched += size

    async def _finish(self, root: bytes) -> Path:
        """Publish the file, and report it to the sharer."""
        context, part, transfer = self._context, self._incoming, self._transfer
        assert part is not None and transfer is not None and transfer.number is not None
        self._transfer = None  # from now on, it is published even if the job is stopped
        try:
            path = await context.disk.run(part.finish, root)
        except P2pshareError as error:
            transfer.cancel(cancel_reason(error))
            raise
        self._incoming = None
        context.remote.done([transfer.number])
        return path

    async def _compare(self, tries: int) -> int:
        """Compare local files with the sharer's file, of which only the root is sent. Return the tries so far.

        Raises:
            _AlreadyHere: one of them has its content.
            P2pshareError: the sharer cannot send the root.
        """
        changes = 0
        while self.wanted.candidates:
            wanted = self.wanted
            root: bytes | Fault | None = wanted.content_root or None
            if root is None:
                root = await self._request(wanted.version, (), self._judge)
            if root is None:
                continue
            if root is Fault.CHANGED and self._transfer and (header := self._transfer.header):
                changes += 1
                if changes < CHANGES_MAX:
                    await self._wait(deferLater(self._context.reactor, CHANGED_DELAY))
                    await self._look_up(header.size, header.version)
                else:  # it is fetched as it is by then
                    await self._settle((), b"")
            elif isinstance(root, Fault):
                tries += 1
                await self._wait_or_fail(root, tries, True)
            else:
                await self._settle(wanted.candidates, root)
        return tries

    def _judge(self, header: FileHeader) -> None:
        """Let a comparison end if the file has changed since it was listed."""
        self._know_size(header)
        if (header.size, header.version) != (self.wanted.size, self.wanted.version):
            assert self._transfer is not None
            self._transfer.refuse(Fault.CHANGED)

    async def _settle(self, candidates: tuple[str, ...], root: bytes) -> None:
        """Find the candidate that has the root, or claim a name for the file.

        Raises:
            _AlreadyHere: a candidate has it.
        """
        context, transfer = self._context, self._transfer
        wanted = self._sought(self.wanted.size or 0, self.wanted.version)
        found = await context.disk.run(
            self._folder.settle, wanted, candidates, root, lambda: self._is_stopping
        )
        if transfer is not None and transfer.number is not None and isinstance(found, Present):
            context.remote.done([transfer.number])
            transfer.number = None
        elif transfer is not None:
            transfer.cancel(Cancelled.BY_USER)
        if isinstance(found, Present):
            raise _AlreadyHere(found)
        self.wanted = context.placed(self.wanted, found)

    async def _look_up(self, size: int, version: str) -> None:
        """Look for a version of the file on the disk.

        Raises:
            _AlreadyHere: it is here.
        """
        self.wanted = replace(self.wanted, size=size, version=version)
        found = await self._context.disk.run(self._folder.look_up, self._sought(size, version))
        if isinstance(found, Present):
            raise _AlreadyHere(found)
        self.wanted = self._context.placed(self.wanted, found)

    def _sought(self, size: int, version: str) -> Sought:
        return sought(self._context.remote.key, self.wanted, size, version)

    def _know_size(self, header: FileHeader) -> None:
        if self._size != header.size:
            self._context.tally.known_better(self._size, header.size)
            self._size = header.size

    async def _wait_for_other(self, error: InUse) -> None:
        """Wait while another process fetches the file and makes progress.

        Raises:
            _AlreadyHere: the other process has fetched it.
            InUse: the other process makes no progress.
        """
        context, folder = self._context, self._folder
        self._free_slot()
        self.is_held_elsewhere = True
        place, seconds = self.wanted.place, context.reactor.seconds
        began = moved = seconds()
        last, is_told = 0, False
        while (since := await context.disk.run(folder.held_since, place, self._origin)) is not None:
            if since != last:
                last, moved = since, seconds()
            elif seconds() - moved >= IN_USE_PATIENCE:
                raise error
            if not is_told and seconds() - began >= IN_USE_REMARK:
                is_told = True
                sentence = "is being fetched by another process: waiting for that one."
                context.remark(self.wanted, sentence)
            await self._wait(deferLater(context.reactor, IN_USE_DELAY))
        while not context.remote.in_flight.admit_large():
            await self._wait(deferLater(context.reactor, IN_USE_DELAY))
        self._has_slot = True
        self.is_held_elsewhere = False
        if self.wanted.is_claimed:
            folder.give_back(place)
            self.wanted = replace(self.wanted, is_claimed=False)
        if self.wanted.size is not None:
            await self._look_up(self.wanted.size, self.wanted.version)

    async def _wait_for_files(self, error: TooManyOpenFiles) -> None:
        """Suspend the part, and wait for others to close files, too.

        Raises:
            TooManyOpenFiles: nothing could be written for too long.
        """
        now = self._context.reactor.seconds()
        if self._short_since is None:
            self._short_since = now
        elif now - self._short_since >= SHORT_PATIENCE:
            raise error
        await self._close_part(Incoming.suspend)
        self._had = self._written = 0
        await self._wait(deferLater(self._context.reactor, SHORT_DELAY))

    async def _wait_or_fail(self, why: Fault, tries: int, waits: bool) -> None:
        """Wait before the next request.

        Raises:
            P2pshareError: another request makes no sense.
        """
        context = self._context
        if why not in (Fault.CHANGED, Fault.BUSY) or tries >= TRIES_MAX:
            raise error_of(why, context.remote.name, self.wanted.path)
        if waits:
            await self._wait(deferLater(context.reactor, BUSY_DELAY * tries))

    async def _wait(self, pause: Deferred[None]) -> None:
        """Wait for something that `stop` may cancel.

        Raises:
            Stopped: it was cancelled.
        """
        self._check_stopping()
        self._pause = pause
        try:
            await pause
        except CancelledError:
            self._check_stopping()
            raise
        finally:
            self._pause = None
        self._check_stopping()

    def _check_stopping(self) -> None:
        if self._is_stopping:
            raise Stopped

    def _resume(self) -> Incoming | None:
        """Go on with the part on the disk; in a thread."""
        return self._folder.resume(
            self.wanted.place,
            self._origin,
            overwrite=self.wanted.may_replace,
            replaces=self.wanted.replaces or b"",
            on_progress=self._hashed,
            stop=lambda: self._is_stopping,
        )

    def _hashed(self, done: int, total: int) -> None:
        """Count blocks on the disk that were hashed again; in a thread."""
        self._had = done * BLOCK_SIZE

    async def _close_part(self, close: Callable[[Incoming], None]) -> None:
        part, self._incoming = self._incoming, None
        if part is not None:
            await self._context.disk.run(close, part)

    def _drop_first(self) -> None:
        """Cancel the request that is under way, unless it was taken over. It would hold credit."""
        self.wanted = self._context.without_first(self.wanted)

    def _free_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._context.remote.in_flight.large_left()
            self._context.remote.room_freed()

    def _note(self, event: str, error: P2pshareError | None = None) -> None:
        self._log.debug(
            "file {event}: path={path!r} size={size} had={had} fetched={fetched}{why}",
            event=event,
            path=format_path(self.wanted.path),
            size=self._size,
            had=self._had,
            fetched=self._written,
            why="" if error is None else f" why={str(error)!r}",
        )


def _missing_of(part: Incoming | None) -> tuple[str, Runs | None, Runs]:
    """Return the version of a part, the blocks to ask for, None for all, and those to ask for after them."""
    if part is None:
        return "", None, ()
    here, count = RangeSet(part.have), block_count(part.announced.size)
    missing = tuple(here.missing(0, count))
    return part.announced.version, missing[:RUNS_MAX], missing[RUNS_MAX:]
