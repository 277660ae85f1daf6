"""The sharer's side of a session: it decides which work comes next, and what goes out.

::

    Get -> waiting -> (opened in a batch) -> FileHeader -> Digests, pieces, Digests, pieces ... -> End -> Done

**Work and results.** Everything that may block is work: the owner asks for it with `next_work`, does it in a thread,
and reports with `listed`, `opened`, `blocks_read` and so on. So this core has no threads, and tests can finish work in
any order. A transfer is *busy* while work with its file is under way. A transfer that ends meanwhile closes its file
only when that work has ended: a closed descriptor may be reused by another file while a thread still reads from it.

**Small and large files.** Files of one block or less are opened, read and finished in one go, many in a batch; there is
no timer, and requests during a batch form the next one. Of larger files a few are open at once, and a few blocks are
read ahead. A batch does not know sizes before it opens a file, so a file that turns out large beyond the limit is
closed and queued separately. Previews of pictures are made a few at a time, and are small files from then on.

**Confirmation.** A transfer whose `End` went out is kept as unconfirmed until `Done`, so that uploads can be reported
truthfully. This table is bounded: the oldest is reported as unconfirmed when it is full. A transfer without a root is
never confirmed: its requester looks at a part of the file, and saves none.

`SharerLimits` bounds all memory of a session, whatever it requests and however slowly it reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from p2pshare.core.outflow import Outflow
from p2pshare.core.ranges import RangeSet
from p2pshare.core.sharer_transfers import (
    CloseWork,
    DigestWork,
    FinishWork,
    JobTold,
    ListWork,
    OpenWork,
    Outcome,
    Piece,
    PreviewWork,
    ReadBlock,
    ReadWork,
    ServingEvent,
    SharerLimits,
    Transfer,
    TransferEnded,
    TransferStarted,
    Work,
    take_first,
)
from p2pshare.core.wanted_blocks import byte_ranges, named_blocks
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import BLOCK_SIZE, block_count
from p2pshare.wire.frames import PIECE_MAX
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.session_messages import Credit, Message
from p2pshare.wire.transfer_messages import (
    Cancel,
    Cancelled,
    Digests,
    Done,
    End,
    Entry,
    Failed,
    Fault,
    FileHeader,
    Get,
    Job,
    List,
    Listing,
    Omission,
    Stopped,
)

LIMITS = SharerLimits()


class SharerCore:
    """The decisions for one session. After each call, go through work, events, and messages."""

    def __init__(self, limits: SharerLimits = LIMITS) -> None:
        self._limits = limits
        self._memory = limits.small_bytes  # bytes
        self._files_max = limits.open_files
        self._events: deque[ServingEvent] = deque()
        self._outflow = Outflow()
        self._lists: dict[int, List] = {}  # not sent yet
        self._lists_waiting: deque[List] = deque()
        self._listing = 0  # listings that are being made
        self._listings: deque[Listing] = deque()  # that wait to go out
        self._transfers: dict[int, Transfer] = {}  # until their `End` went out
        self._unconfirmed: dict[int, Transfer] = {}
        self._waiting: deque[Transfer] = deque()  # to be opened
        self._large: deque[Transfer] = deque()  # to be opened, known to be large
        self._previews: deque[Transfer] = deque()  # to be made
        self._is_opening = False
        self._previewing: list[Transfer] = []  # whose previews are being made, or were made last
        self._open_files = 0
        self._readers: deque[Transfer] = deque()  # open files
        self._reads = 0  # works under way with open files
        self._reading = 0  # blocks being read
        self._closing: deque[Transfer] = deque()
        self._is_over = False

    def receive_message(self, message: Message) -> None:
        """Handle a message; one about a transfer that is unknown or over is ignored.

        Raises:
            RemoteProtocolError: the message is illegal.
        """
        match message:
            case Get():
                self._get(message)
            case List():
                self._list(message)
            case Credit():
                self._outflow.grant(message.bytes)
            case Done():
                for number in message.ids:
                    if (sent := self._unconfirmed.pop(number, None)) is not None:
                        self._end(sent, Outcome.CONFIRMED)
            case Cancel():
                self._cancel(message)
            case Job():
                self._events.append(JobTold(message))
            case _:
                raise RemoteProtocolError(reason=f"{message.WORD!r} is not allowed here")

    def close(self) -> None:
        """End the session: open files are closed, and nothing more goes out."""
        self._is_over = True
        for transfer in list(self._transfers.values()):
            self._stop(transfer, Outcome.INTERRUPTED)
        for transfer in self._unconfirmed.values():
            self._end(transfer, Outcome.UNCONFIRMED)
        self._unconfirmed.clear()

    def restrict_memory(self, size: int) -> None:
        """Bound the blocks of large files in memory to `size` bytes, and those of small files too; one block is always
        allowed.
        """
        self._memory = max(size, BLOCK_SIZE)

    def restrict_open_files(self, count: int) -> None:
        """Bound the open large files to `count`, but at least one."""
        self._files_max = max(1, min(count, self._limits.open_files))

    def next_event(self) -> ServingEvent | None:
        """Return the next event, or None."""
        return self._events.popleft() if self._events else None

    def next_work(self) -> Work | None:
        """Return work that may block, or None; more may be handed out before its result comes in."""
        if self._closing:
            return CloseWork(self._closing.popleft())
        if self._is_over:
            return None
        return self._list_work() or self._read_work() or self._open_work() or self._preview_work()

    # Results of work

    def listed(
        self,
        request: List,
        entries: Sequence[Entry],
        *,
        more: bool,
        omitted: Sequence[Omission] = (),
        unnamed: int = 0,
    ) -> None:
        """Take a listing."""
        self._listing -= 1
        self._listings.append(Listing(request.id, tuple(entries), more, tuple(omitted), unnamed))

    def list_failed(self, request: List, why: Fault) -> None:
        """Take the failure of a listing."""
        self._listing -= 1
        del self._lists[request.id]
        self._answer(Failed(request.id, why))

    def opened(self, transfer: Transfer, header: FileHeader) -> None:
        """Take a file that was opened and stays open."""
        transfer.is_open = True
        self._open_files += 1
        if not self._is_free(transfer):
            return
        wanted, transfer.announced = named_blocks(transfer.request, header)
        named = RangeSet([*wanted, *transfer.announced])
        transfer.unread.extend(wanted)
        transfer.ahead.extend(transfer.announced)
        if transfer.request.root:
            transfer.unhashed.extend(named.missing(0, block_count(header.size)))
        transfer.to_send = sum(end - first for first, end in byte_ranges(wanted, header.size))
        self._readers.append(transfer)
        self._start(transfer, header)

    def opened_whole(
        self, transfer: Transfer, header: FileHeader, block: ReadBlock | None, root: bytes
    ) -> None:
        """Take a file of at most one block that was opened, read, finished and closed; an empty one has no block."""
        if not self._is_free(transfer):
            return
        transfer.is_whole = True
        transfer.root = root
        wanted, transfer.announced = named_blocks(transfer.request, header)
        if block is not None and transfer.announced:
            transfer.digests = Digests(transfer.id, block.index, (block.digest,))
        if block is not None and wanted:
            transfer.to_send = header.size
            self._outflow.hold(transfer, block)
        self._start(transfer, header)

    def too_large(self, transfer: Transfer) -> None:
        """Take a file that was closed again, since there is no room for another large one."""
        if self._is_free(transfer):
            self._large.append(transfer)

    def batch_done(self, work: OpenWork) -> None:
        """Take the end of a batch; transfers without a result wait for the next one."""
        self._is_opening = False
        left = [each for each in work.transfers if each.is_busy and not each.is_open]
        for transfer in reversed(left):
            if self._is_free(transfer):
                self._waiting.appendleft(transfer)

    def blocks_read(self, transfer: Transfer, blocks: Sequence[ReadBlock]) -> None:
        """Take blocks of an open file."""
        if self._work_ended(transfer):
            for block in blocks:
                self._outflow.hold(transfer, block)
            self._outflow.take_turn(transfer)

    def digested(self, work: DigestWork, digests: Sequence[bytes]) -> None:
        """Take the digests of blocks."""
        transfer, first = work.transfer, work.indexes.start
        if self._work_ended(transfer) and first in transfer.announced:
            transfer.digests = Digests(transfer.id, first, tuple(digests))
            self._outflow.take_turn(transfer)

    def finished(self, transfer: Transfer, root: bytes) -> None:
        """Take the root of an open file that has not changed; any bytes if it is not wanted."""
        if self._work_ended(transfer):
            transfer.root = root
            self._close_file(transfer)
            self._outflow.take_turn(transfer)

    def failed(self, transfer: Transfer, why: Fault) -> None:
        """Take the failure of work with a file."""
        wanted = self._work_ended(transfer) if transfer.is_open else self._is_free(transfer)
        if wanted:
            self._stop(transfer, Outcome.FAILED, why)
            self._answer(Failed(transfer.id, why, transfer.sent))

    def withdraw(self, is_shared: Callable[[RemotePath], bool]) -> None:
        """Stop all transfers of files that are not shared with the other side any more."""
        for transfer in list(self._transfers.values()):
            if not is_shared(transfer.request.path):
                self._stop(transfer, Outcome.FAILED, Fault.WITHDRAWN)
                self._answer(Failed(transfer.id, Fault.WITHDRAWN, transfer.sent))

    # Messages and pieces

    def next_message(self) -> Message | None:
        """Return the message that goes out next; None if there is none, or a piece of a file comes first.

        Call it only while there is room.
        """
        if self._is_over:
            return None
        if self._listings:
            listing = self._listings.popleft()
            del self._lists[listing.id]
            return listing
        message = self._outflow.next_message()
        if isinstance(message, End):
            self._await_done(self._transfers.pop(message.id))
        return message

    def piece_size(self, most: int = PIECE_MAX) -> int:
        """Return the bytes of the next piece, at most `most`, after `next_message` returned None; 0: there is none."""
        return self._outflow.piece_size(most)

    def take_piece(self, size: int) -> Piece:
        """Return the first `size` bytes, at most `piece_size`, of the next piece, and count them as sent."""
        return self._outflow.take_piece(size)

    # Requests

    def _get(self, request: Get) -> None:
        self._expect_answerable(request.id)
        if not request.path:
            self._answer(Failed(request.id, Fault.IS_FOLDER))
        elif len(self._transfers) >= self._limits.transfers:
            self._answer(Failed(request.id, Fault.BUSY))
        else:
            if (before := self._unconfirmed.pop(request.id, None)) is not None:
                self._end(before, Outcome.UNCONFIRMED)
            transfer = self._transfers[request.id] = Transfer(request)
            (self._previews if request.preview else self._waiting).append(transfer)

    def _list(self, request: List) -> None:
        self._expect_answerable(request.id)
        if len(self._lists) >= self._limits.lists:
            self._answer(Failed(request.id, Fault.BUSY))
            return
        self._lists[request.id] = request
        self._lists_waiting.append(request)

    def _cancel(self, message: Cancel) -> None:
        if (transfer := self._transfers.get(message.id)) is not None:
            self._stop(transfer, Outcome.CANCELLED, message.why)
            self._answer(Stopped(transfer.id, transfer.sent))
        elif (sent := self._unconfirmed.pop(message.id, None)) is not None:
            self._end(sent, Outcome.CANCELLED, message.why)

    def _expect_answerable(self, number: int) -> None:
        if self._outflow.answers >= self._limits.answers:
            raise RemoteProtocolError(reason="it sends requests without reading answers")
        if number in self._transfers or number in self._lists:
            raise RemoteProtocolError(reason=f"the number {number} is in use")

    def _answer(self, message: Message) -> None:
        if not self._is_over:
            self._outflow.answer(message)

    # Work

    def _list_work(self) -> Work | None:
        unsent = self._listing + len(self._listings)
        if not self._lists_waiting or unsent >= self._limits.lists_at_once:
            return None
        self._listing += 1
        return ListWork(self._lists_waiting.popleft())

    def _open_work(self) -> Work | None:
        """Return a batch, one at a time; later requests go into the next one."""
        small = self._small_bytes_free
        large = self._files_max - self._open_files
        if self._is_opening or small < BLOCK_SIZE:
            return None
        batch: list[Transfer] = []
        while self._large and len(batch) < large:
            batch.append(self._large.popleft())
        while self._waiting and len(batch) < self._limits.batch:
            batch.append(self._waiting.popleft())
        if not batch:
            return None
        for transfer in batch:
            transfer.is_busy = True
        self._is_opening = True
        return OpenWork(tuple(batch), small, large)

    def _preview_work(self) -> Work | None:
        """Return work with one preview; a few may be made at once."""
        self._previewing = [each for each in self._previewing if each.is_busy]
        is_full = len(self._previewing) >= self._limits.previews_at_once
        if not self._previews or is_full or self._small_bytes_free < BLOCK_SIZE:
            return None
        transfer = self._previews.popleft()
        self._previewing.append(transfer)
        transfer.is_busy = True
        return PreviewWork(transfer)

    @property
    def _small_bytes_free(self) -> int:
        """The bytes of files of at most one block that may be read now."""
        return min(self._limits.small_bytes, self._memory) - self._outflow.small_bytes_held

    def _read_work(self) -> Work | None:
        """Return work with the next open file that is not busy, in turn."""
        if self._reads >= self._limits.reads_at_once:
            return None
        for _ in range(len(self._readers)):
            transfer = self._readers[0]
            self._readers.rotate(-1)
            if not transfer.is_busy and (work := self._work_with(transfer)) is not None:
                transfer.is_busy = True
                self._reads += 1
                return work
        return None

    def _work_with(self, transfer: Transfer) -> Work | None:
        if transfer.ahead and transfer.digests is None:
            return DigestWork(transfer, take_first(transfer.ahead, self._limits.digest_batch))
        if transfer.unread:
            room = min(self._limits.read_ahead, self._memory // BLOCK_SIZE)
            room -= self._reading + self._outflow.blocks_held
            if room <= 0:
                return None
            indexes = take_first(transfer.unread, min(room, self._limits.read_batch))
            transfer.reading = len(indexes)
            self._reading += len(indexes)
            return ReadWork(transfer, indexes)
        if transfer.unhashed:
            return DigestWork(transfer, take_first(transfer.unhashed, self._limits.digest_batch))
        return None if transfer.ahead else FinishWork(transfer)

    # Transfers

    def _start(self, transfer: Transfer, header: FileHeader) -> None:
        transfer.header = header
        self._events.append(TransferStarted(transfer))
        self._outflow.take_turn(transfer)

    def _await_done(self, transfer: Transfer) -> None:
        self._outflow.drop(transfer)
        if not transfer.request.root:  # a part of a file is not saved
            self._end(transfer, Outcome.UNCONFIRMED)
            return
        if len(self._unconfirmed) >= self._limits.unconfirmed:
            self._end(self._unconfirmed.pop(next(iter(self._unconfirmed))), Outcome.UNCONFIRMED)
        self._unconfirmed[transfer.id] = transfer

    def _work_ended(self, transfer: Transfer) -> bool:
        """Note that work with an open file has ended; return whether the file is still wanted."""
        self._reads -= 1
        self._reading -= transfer.reading
        transfer.reading = 0
        return self._is_free(transfer)

    def _is_free(self, transfer: Transfer) -> bool:
        """Note that a transfer is no longer busy; return whether it is still wanted, and close its file if not."""
        transfer.is_busy = False
        if transfer.outcome is None:
            return True
        self._close_file(transfer)
        return False

    def _stop(
        self, transfer: Transfer, outcome: Outcome, why: Fault | Cancelled | None = None
    ) -> None:
        """End a transfer before all of it went out."""
        del self._transfers[transfer.id]
        self._outflow.drop(transfer)
        if not transfer.is_busy:
            for queue in (self._waiting, self._large, self._previews):
                if transfer in queue:
                    queue.remove(transfer)
            self._close_file(transfer)
        self._end(transfer, outcome, why)

    def _close_file(self, transfer: Transfer) -> None:
        if transfer.is_open:
            transfer.is_open = False
            self._open_files -= 1
            self._closing.append(transfer)
            if transfer in self._readers:
                self._readers.remove(transfer)

    def _end(
        self, transfer: Transfer, outcome: Outcome, why: Fault | Cancelled | None = None
    ) -> None:
        transfer.outcome = outcome
        transfer.why = why
        self._events.append(TransferEnded(transfer))
