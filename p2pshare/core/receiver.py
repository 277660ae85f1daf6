"""The receiver's side of a session: it checks what arrives, assembles blocks, and returns credit.

A transfer has these states; `IncomingTransfer` has the table of its bytes. Anything else violates the protocol and ends
the session::

    ASKED      --FileHeader-->         ANNOUNCED Digests and pieces, in any order
    ANNOUNCED  --End-->                ENDING    pieces only, unless all are here
    ENDING     --the last piece-->     over
    any        --Failed-->             over
    any        --cancelled here-->     UNSETTLED --End, Failed or Stopped--> over

Pieces may also come before `FileHeader`, if the carrier has told the size of the file.

**Credit is counted twice, and must agree.** The sharer counts bytes when it sends them, this side when they arrive, and
repetitions not at all. On a carrier that loses and repeats, the two numbers may differ for good once a transfer ends
early: its last bytes never come. So each transfer ends with the number of bytes that it has counted (`sent`), and this
side counts the difference. Pieces of a transfer that is over are ignored and count nothing, since `sent` has them.

**Memory.** These bounds hold, whatever a sharer sends. Bytes that have arrived and were not released lie within the
credit's window. A block takes its whole buffer with its first byte, so the buffers have a bound of their own. An honest
sharer sends the blocks of a transfer in ascending order the first time. Then all blocks of a transfer that have begun,
except the last one, were sent as a whole, and lie within the window. So the blocks that have begun never take more than
the window and one block for each transfer. `RUNS_OF_BYTES_MAX` bounds the tables of what has arrived, and
`DIGESTS_AHEAD_MAX` the digests that wait for their blocks.

**Verification is not done here.** Hashing a block takes milliseconds, so it belongs in a thread. An `ArrivedBlock` owns
its buffer until `release`, which returns the buffer to the pool and its bytes to the credit. A receiver that forgets to
release stalls the session: that is the backpressure of the disk.

**`achieved` decides about retries.** After a break, a session that achieved something resets the back-off of the
connection. A block of a file with one block achieves nothing by itself: it is requested again as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from p2pshare.core.credit import CreditControl
from p2pshare.core.incoming_transfer import (
    ArrivedBlock,
    BlockBuffers,
    BlockInMemory,
    IncomingTransfer,
    Lister,
    OnDigests,
    Receiver,
)
from p2pshare.core.ranges import Range
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.datagrams.frames import MISSING_RANGES_MAX
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import (
    Digests,
    End,
    Failed,
    Fault,
    FileHeader,
    Get,
    List,
    Listing,
    Runs,
    Stopped,
)

RUNS_OF_BYTES_MAX = (
    65536  # separate runs of bytes that have arrived, of all open transfers of a session
)


class ReceiverCore:
    """All requests over one session."""

    def __init__(
        self, crediting: CreditControl, buffers: BlockBuffers | None = None, first_id: int = 1
    ) -> None:
        """Begin a session.

        Args:
            crediting: the credit of this session.
            buffers: a pool that may be shared with the session before.
            first_id: the number of the first request.
        """
        self.crediting = crediting
        self._buffers = buffers if buffers is not None else BlockBuffers()
        self._first_id = first_id
        self.next_id = first_id
        """The number of the next request."""
        self._transfers: dict[int, IncomingTransfer] = {}
        self._unsettled: dict[int, int] = {}  # bytes that were counted of cancelled transfers
        self._lists: dict[int, tuple[List, Lister]] = {}
        self._begun = 0  # bytes of blocks that have begun and are not handed on, each as a whole
        self._runs = 0  # in the tables of all open transfers
        self.on_release: Callable[[], object] = lambda: None
        """Called when there may be more credit to grant."""
        self.achieved = 0
        """A number that grows with results that need not be requested again after a break."""
        self._heard = 0

    def get(
        self,
        receiver: Receiver,
        path: RemotePath,
        version: str = "",
        want: Runs | None = None,
        digests: Runs = (),
        on_digests: OnDigests | None = None,
        most: int | None = None,
        preview: int = 0,
        root: bool = True,
    ) -> Get:
        """Request a file.

        Args:
            receiver: is told what comes.
            path: of the file.
            version: the version, from an earlier header, that `want` and `digests` are about; all blocks of another
                version come.
            want: at most `RUNS_MAX` runs of the blocks that are to come; None for all.
            digests: as many runs of blocks whose digests are to come ahead, wanted or not.
            on_digests: is told all digests that come of that version.
            most: bytes; a larger file is not wanted.
            preview: the longest edge, in pixels, of a preview that is to come in place of the file; 0 for the file.
            root: whether the root of the whole file is wanted.
        """
        want = None if want is None else tuple(want)
        request = Get(self._new_id(), path, version, want, tuple(digests), preview, root)
        self._transfers[request.id] = IncomingTransfer(request, receiver, on_digests, most)
        return request

    def list(
        self, lister: Lister, path: RemotePath, after: RemotePath, limit: int, recursive: bool
    ) -> List:
        """Request a page of a folder."""
        message = List(self._new_id(), path, after, limit, recursive)
        self._lists[message.id] = message, lister
        return message

    def forget(self, number: int) -> bool:
        """Ignore what still comes of this request, except its last message; return whether it was open."""
        transfer = self._transfers.get(number)
        if transfer is None:
            return self._lists.pop(number, None) is not None
        self._drop(transfer)
        if transfer.end is None:
            self._unsettled[number] = transfer.counted
        return True

    def is_own(self, number: int) -> bool:
        """Whether this number was given in this session."""
        return self._first_id <= number < self.next_id

    def filled(self, number: int) -> int:
        """Return the bytes of a transfer that have arrived in blocks that are not handed on."""
        transfer = self._transfers.get(number)
        return 0 if transfer is None else transfer.arrived.total - transfer.handed_on

    def missing(self, number: int) -> Sequence[Range]:
        """Return the ranges of bytes that were wanted and have not arrived, ascending: the first `MISSING_RANGES_MAX`.

        None are missing of a transfer that is complete, over or unknown.
        """
        transfer = self._transfers.get(number)
        return () if transfer is None else tuple(islice(transfer.missing(), MISSING_RANGES_MAX))

    @property
    def progress(self) -> int:
        """Return a number that grows with everything that arrives."""
        return self._heard + self.crediting.arrived

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._transfers or self._lists)

    @property
    def is_awaiting(self) -> bool:
        """Whether the other side owes something that it may send now: it has credit, or counted the bytes before."""
        if self.crediting.outstanding > 0:
            return self.busy
        return any(transfer.end is not None for transfer in self._transfers.values())

    @property
    def skipped(self) -> int:
        """Return the bytes of open transfers that are present here; the other side may have to hash them."""
        return sum(transfer.skipped for transfer in self._transfers.values())

    def message_received(self, message: Message) -> int | None:
        """Handle a message; return the number of a transfer that is to be cancelled, or None.

        Raises:
            RemoteProtocolError: the message is illegal now.
        """
        self._heard += 1
        match message:
            case Digests():
                if (transfer := self._transfer(message.id)) is not None:
                    self._digests_received(transfer, message)
            case FileHeader():
                if (transfer := self._transfer(message.id)) is not None:
                    return self._announced(transfer, message)
            case End():
                if (transfer := self._transfer(message.id)) is not None:
                    self._end(transfer, message)
                else:
                    self._settle_cancelled(message)
            case Failed():
                self._failed(message)
            case Stopped():
                if self._transfer(message.id) is not None:
                    raise RemoteProtocolError(reason="it stopped a file that was not cancelled")
                self._settle_cancelled(message)
            case Listing():
                self._listed(message)
        return None

    def size_received(self, number: int, size: int) -> None:
        """Take the size of a file, in bytes, from a carrier that tells it before the pieces.

        Raises:
            RemoteProtocolError: it contradicts the header, or nobody asked for the file.
        """
        if (transfer := self._transfer(number)) is not None:
            transfer.know_size(size)

    def data_received(self, number: int, offset: int, data: memoryview) -> None:
        """Copy bytes of a file to their place.

        Raises:
            RemoteProtocolError: they are illegal here or now.
        """
        transfer = self._transfers.get(number)
        if transfer is None:
            self._check_asked(number)
            return
        index, start = divmod(offset, BLOCK_SIZE)
        block = transfer.blocks.get(index) or self._begin_block(transfer, index)
        if block is None:
            return
        end = start + len(data)
        if end > block.length:
            raise RemoteProtocolError(reason="a piece crosses the end of its block")
        arrived, runs = transfer.arrived, len(transfer.arrived)
        new = arrived.add(offset, offset + len(data))
        if not new:
            return
        self._runs += len(arrived) - runs
        if transfer.end is None:
            self._count(new)
        else:  # `sent` has counted them
            self._heard += 1
        if self._runs > RUNS_OF_BYTES_MAX:
            raise RemoteProtocolError(reason="the bytes of its files came in too many places")
        block.view[start:end] = data
        block.left -= new
        if not block.left:
            self._hand_on(transfer, index)

    def interrupt(self) -> None:
        """End all requests: the session is lost."""
        transfers, self._transfers = self._transfers, {}
        lists, self._lists = self._lists, {}
        for transfer in transfers.values():
            self._free(transfer)
            transfer.receiver.interrupted()
        for _, lister in lists.values():
            lister.interrupted()

    def _is_asked(self, number: int) -> bool:
        return number in self._transfers or number in self._lists

    def _new_id(self) -> int:
        number, self.next_id = self.next_id, self.next_id + 1
        return number

    def _transfer(self, number: int) -> IncomingTransfer | None:
        transfer = self._transfers.get(number)
        if transfer is None:
            self._check_asked(number)
        return transfer

    def _check_asked(self, number: int) -> None:
        if not self.is_own(number) or number in self._lists:
            raise RemoteProtocolError(reason="it answered a request that does not exist")

    def _announced(self, transfer: IncomingTransfer, header: FileHeader) -> int | None:
        if transfer.most is not None and header.size > transfer.most:
            self.forget(header.id)
            transfer.receiver.outgrown(header)
            return header.id
        transfer.begin(header)
        transfer.receiver.announced(header)
        return None

    def _digests_received(self, transfer: IncomingTransfer, message: Digests) -> None:
        transfer.add_digests(message)
        if transfer.on_digests is not None:
            transfer.on_digests(message.first, message.digests)
        for index in range(message.first, message.first + len(message.digests)):
            self._hand_on(transfer, index)

    def _begin_block(self, transfer: IncomingTransfer, index: int) -> BlockInMemory | None:
        """Take memory for a block; None if the block was handed on before."""
        length = transfer.length_of_new(index)
        if not length:
            return None
        self._begun += length
        if self._begun > self.crediting.window + len(self._transfers) * BLOCK_SIZE:
            raise RemoteProtocolError(reason="it began too many blocks without completing them")
        block = transfer.blocks[index] = self._buffers.take(length)
        return block

    def _hand_on(self, transfer: IncomingTransfer, index: int) -> None:
        """Give a block to the receiver if all of it is here, and then the end if that was the last block."""
        complete = transfer.take_complete(index)
        if complete is None:
            return
        block, digest = complete
        self._begun -= block.length
        if transfer.size != block.length:  # a single block is worth nothing without its end
            self.achieved += 1
        transfer.receiver.block_arrived(ArrivedBlock(self._released, block, index, digest))
        self._end_if_complete(transfer)

    def _released(self, block: BlockInMemory) -> None:
        """Take back the memory of a block that was handed on."""
        self._buffers.give_back(block)
        self.crediting.release(block.length)
        self.on_release()

    def _end(self, transfer: IncomingTransfer, end: End) -> None:
        self._count(transfer.finish(end))
        self._end_if_complete(transfer)

    def _end_if_complete(self, transfer: IncomingTransfer) -> None:
        number, end = transfer.number, transfer.end
        if end is not None and transfer.is_complete and number in self._transfers:
            del self._transfers[number]
            self._runs -= len(transfer.arrived)
            self.achieved += 1
            transfer.receiver.ended(end.root)

    def _failed(self, message: Failed) -> None:
        if message.why is not Fault.BUSY:
            self.achieved += self._is_asked(message.id)
        asked = self._lists.pop(message.id, None)
        if asked is not None:
            asked[1].failed(message.why)
            return
        transfer = self._transfer(message.id)
        if transfer is not None:
            if transfer.end is not None:
                raise RemoteProtocolError(reason="a file failed after its end")
            self._settle(message, transfer.counted)
            self._drop(transfer)
            transfer.receiver.failed(message.why)
        else:
            self._settle_cancelled(message)

    def _drop(self, transfer: IncomingTransfer) -> None:
        """Free the memory of an open transfer, and ignore what still comes of it."""
        del self._transfers[transfer.number]
        self._free(transfer)
        self.crediting.release(transfer.counted - transfer.handed_on)
        self.on_release()

    def _free(self, transfer: IncomingTransfer) -> None:
        """Free the memory of blocks that are not handed on; none of them will be."""
        for block in transfer.blocks.values():
            self._begun -= block.length
            self._buffers.give_back(block)
        transfer.blocks.clear()
        self._runs -= len(transfer.arrived)

    def _settle_cancelled(self, message: End | Failed | Stopped) -> None:
        """Settle a transfer that was cancelled here, unless it is settled already."""
        if message.id in self._unsettled:
            self._settle(message, self._unsettled.pop(message.id))

    def _settle(self, message: End | Failed | Stopped, counted: int) -> None:
        """Count the bytes of a transfer that were sent and will be ignored; `counted` ones are counted already."""
        rest = message.sent - counted
        if rest < 0:
            raise RemoteProtocolError(reason="it sent more bytes of a file than it says")
        self._count(rest)
        self.crediting.release(rest)
        self.on_release()

    def _count(self, size: int) -> None:
        """Count bytes that have arrived, or will not."""
        crediting = self.crediting
        crediting.arrived += size
        if crediting.arrived > crediting.granted:
            raise RemoteProtocolError(reason="it sent more than its credit")

    def _listed(self, listing: Listing) -> None:
        asked = self._lists.get(listing.id)
        if asked is None:
            if not self.is_own(listing.id) or listing.id in self._transfers:
                raise RemoteProtocolError(reason="it answered a listing that does not exist")
            return
        question, lister = asked
        _check_listing(question, listing)
        del self._lists[listing.id]
        self.achieved += 1
        lister.listed(listing)


def _check_listing(question: List, listing: Listing) -> None:
    """Reject a page that does not fit its request, above all one after which there is no last page."""
    if len(listing.entries) > question.limit or (listing.more and not listing.entries):
        raise RemoteProtocolError(reason="a listing has too many or too few entries")
    before = question.after
    for entry in listing.entries:
        if entry.path <= before or (len(entry.path) > 1 and not question.recursive):
            raise RemoteProtocolError(reason="a listing is not in order")
        before = entry.path
