"""The receiver's side of a session: it checks what arrives, assembles blocks, and returns credit.

A transfer has these states. Anything else violates the protocol and ends the session::

    REQUESTED  --Offer-->  BETWEEN  --Block-->  WITHIN  --its last byte-->  BETWEEN  --End, no block missing-->  over
    any        --Failed->  over

**Blocks of a transfer come in order, and each once.** The sharer knows what the receiver has (`Get.have`), so the next
missing block is always known. Any other index is an error, and no table of received blocks is needed.

**A cancelled transfer is over here at once.** Its messages and bytes may still be on their way. They are ignored, but
the number must have been given in this session, and the bytes count against credit as all bytes do. Otherwise a sharer
could send any amount under an old number.

**Verification is not done here.** Hashing a block takes milliseconds, so it belongs in a thread. An `ArrivedBlock` owns
its buffer until `release`, which returns the buffer to the pool and its bytes to the credit. A receiver that forgets to
release stalls the session: that is the backpressure of the disk.

**`achieved` decides about retries.** After a break, a session that achieved something resets the back-off of the
connection. A block of a file with one block achieves nothing by itself: it is requested again as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from p2pshare.core.credit import CreditControl
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import BLOCK_SIZE, block_count, block_length
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import (
    RANGES_MAX,
    Block,
    End,
    Failed,
    Fault,
    Get,
    List,
    Listing,
    Offer,
)

BUFFERS_KEPT_MAX = 20  # buffers of a block's size that wait for their next use
SHORT = BLOCK_SIZE // 4  # bytes up to which a buffer is made for its block alone

Runs = Sequence[tuple[int, int]]
"""Runs of blocks, ascending: the first block, and the one behind the last."""


class BlockBuffers:
    """A pool of buffers."""

    def __init__(self, kept_max: int = BUFFERS_KEPT_MAX) -> None:
        self._kept: list[bytearray] = []
        self._kept_max = kept_max

    def take(self, length: int) -> bytearray:
        """Return a buffer of at least `length` bytes, up to `BLOCK_SIZE`, with any content."""
        if length <= SHORT:
            return bytearray(length)
        return self._kept.pop() if self._kept else bytearray(BLOCK_SIZE)

    def give_back(self, buffer: bytearray) -> None:
        """Return `buffer` to the pool; nobody may read it any more."""
        if len(buffer) == BLOCK_SIZE and len(self._kept) < self._kept_max:
            self._kept.append(buffer)


class ArrivedBlock:
    """A block that is complete, but not verified."""

    __slots__ = ("_buffer", "_taking", "data", "digest", "index")

    def __init__(
        self, taking: ReceiverCore, buffer: bytearray, data: memoryview, index: int, digest: bytes
    ) -> None:
        self._taking: ReceiverCore | None = taking
        self._buffer = buffer
        self.data = data
        """Valid until `release`."""
        self.index = index
        self.digest = digest

    def release(self) -> None:
        """Return the memory; `data` may not be read any more, in any thread."""
        taking, self._taking = self._taking, None
        if taking is not None:
            length = len(self.data)
            self.data.release()
            taking.released(self._buffer, length)


class Receiver(Protocol):
    """The requester of a file. Its methods must not raise."""

    def offered(self, offer: Offer) -> None:
        """Handle that the file is about to come."""

    def outgrown(self, offer: Offer) -> None:
        """Handle the end of the transfer: the file is larger than was expected, and nothing of it comes."""

    def block_arrived(self, block: ArrivedBlock) -> None:
        """Handle a block, and release it in the end."""

    def ended(self, root: bytes) -> None:
        """Handle the end of the transfer: all blocks have arrived."""

    def failed(self, why: Fault) -> None:
        """Handle the end of the transfer: the file does not come, or not all of it."""

    def interrupted(self) -> None:
        """Handle the end of the transfer: the session is lost."""


class Lister(Protocol):
    """The requester of a page of a folder."""

    def listed(self, listing: Listing) -> None:
        """Handle the page."""

    def failed(self, why: Fault) -> None:
        """Handle that the page does not come."""

    def interrupted(self) -> None:
        """Handle that the session is lost."""


@dataclass(slots=True, eq=False)
class _Transfer:
    """A file on its way."""

    receiver: Receiver
    version: str
    have: Runs
    most: int | None
    offer: Offer | None = None
    expected: int = 0  # index of the next block
    behind: int = 0  # index behind the last block
    skipped: int = 0  # bytes that are not sent, but may be hashed by the other side
    view: memoryview | None = None  # of the current block
    buffer: bytearray = field(default_factory=bytearray)
    index: int = 0
    digest: bytes = b""
    length: int = 0
    filled: int = 0
    position: int = 0  # of the next byte in the file

    def begin(self, offer: Offer) -> None:
        """Begin a file; blocks that are present count only if they are of its version."""
        self.offer = offer
        self.behind = block_count(offer.size)
        if offer.version != self.version:
            self.have = ()
        self.skipped = BLOCK_SIZE * sum(
            max(0, min(end, self.behind) - first) for first, end in self.have
        )
        self.expected = self._missing_from(0)

    def next_expected(self) -> None:
        """End a block that is complete."""
        self.view = None
        self.expected = self._missing_from(self.index + 1)

    def _missing_from(self, index: int) -> int:
        for first, end in self.have:
            if index < first:
                break
            index = max(index, end)
        return index


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
        self._transfers: dict[int, _Transfer] = {}
        self._lists: dict[int, tuple[List, Lister]] = {}
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
        have: Runs = (),
        most: int | None = None,
    ) -> Get:
        """Request a file.

        Args:
            receiver: is told what comes.
            path: of the file.
            version: the version, from an earlier offer, of the blocks in `have`.
            have: blocks that are present; only the first `RANGES_MAX` runs are sent.
            most: bytes; a larger file is not wanted.
        """
        have = tuple(have[:RANGES_MAX]) if version else ()
        message = Get(self._new_id(), path, version, have)
        self._transfers[message.id] = _Transfer(receiver, version, have, most)
        return message

    def list(
        self, lister: Lister, path: RemotePath, after: RemotePath, limit: int, recursive: bool
    ) -> List:
        """Request a page of a folder."""
        message = List(self._new_id(), path, after, limit, recursive)
        self._lists[message.id] = message, lister
        return message

    def forget(self, number: int) -> bool:
        """Ignore what still comes of this request; return whether it was open."""
        transfer = self._transfers.pop(number, None)
        if transfer is None:
            return self._lists.pop(number, None) is not None
        if transfer.view is not None:
            transfer.view.release()
            self.released(transfer.buffer, transfer.filled)
        return True

    def is_own(self, number: int) -> bool:
        """Whether this number was given in this session."""
        return self._first_id <= number < self.next_id

    def filled(self, number: int) -> int:
        """Return the bytes that have arrived of the current block."""
        transfer = self._transfers.get(number)
        return transfer.filled if transfer is not None and transfer.view is not None else 0

    @property
    def progress(self) -> int:
        """Return a number that grows with everything that arrives."""
        return self._heard + self.crediting.arrived

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._transfers or self._lists)

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
            case Block():
                if (transfer := self._transfer(message.id)) is not None:
                    self._begin_block(transfer, message)
            case Offer():
                if (transfer := self._transfer(message.id)) is not None:
                    return self._offered(transfer, message)
            case End():
                if (transfer := self._transfer(message.id)) is not None:
                    self._end(transfer, message)
            case Failed():
                self._failed(message)
            case Listing():
                self._listed(message)
        return None

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Copy bytes of a file to their place.

        Raises:
            RemoteProtocolError: they are illegal here or now.
        """
        size = len(data)
        crediting = self.crediting
        crediting.arrived += size
        if crediting.arrived > crediting.granted:
            raise RemoteProtocolError(reason="it sent more than its credit")
        coming = self._transfers.get(transfer)
        if coming is None:
            self._check_asked(transfer)
            crediting.release(size)
            self.on_release()
            return
        view = coming.view
        if view is None or offset != coming.position:
            raise RemoteProtocolError(reason="bytes of a file are out of order")
        filled = coming.filled
        end = filled + size
        if end > coming.length:
            raise RemoteProtocolError(reason="a block is too long")
        view[filled:end] = data
        coming.filled = end
        coming.position = offset + size
        if end == coming.length:
            self._end_block(coming, view)

    def released(self, buffer: bytearray, size: int) -> None:
        """Take back a buffer, with `size` bytes that arrived in it."""
        self._buffers.give_back(buffer)
        self.crediting.release(size)
        self.on_release()

    def interrupt(self) -> None:
        """End all requests: the session is lost."""
        transfers, self._transfers = self._transfers, {}
        lists, self._lists = self._lists, {}
        for transfer in transfers.values():
            if transfer.view is not None:
                transfer.view.release()
                self._buffers.give_back(transfer.buffer)
            transfer.receiver.interrupted()
        for _, lister in lists.values():
            lister.interrupted()

    def _is_asked(self, number: int) -> bool:
        return number in self._transfers or number in self._lists

    def _new_id(self) -> int:
        number, self.next_id = self.next_id, self.next_id + 1
        return number

    def _transfer(self, number: int) -> _Transfer | None:
        transfer = self._transfers.get(number)
        if transfer is None:
            self._check_asked(number)
        return transfer

    def _check_asked(self, number: int) -> None:
        if not self.is_own(number) or number in self._lists:
            raise RemoteProtocolError(reason="it answered a request that does not exist")

    def _offered(self, transfer: _Transfer, offer: Offer) -> int | None:
        if transfer.offer is not None:
            raise RemoteProtocolError(reason="it offered a file twice")
        if transfer.most is not None and offer.size > transfer.most:
            del self._transfers[offer.id]
            transfer.receiver.outgrown(offer)
            return offer.id
        transfer.begin(offer)
        transfer.receiver.offered(offer)
        return None

    def _begin_block(self, transfer: _Transfer, block: Block) -> None:
        if transfer.offer is None or transfer.view is not None:
            raise RemoteProtocolError(reason="a block came at the wrong time")
        if block.index != transfer.expected or block.index >= transfer.behind:
            raise RemoteProtocolError(reason="a block is not the next missing one")
        length = block_length(transfer.offer.size, block.index)
        transfer.buffer = self._buffers.take(length)
        transfer.view = memoryview(transfer.buffer)[:length]
        transfer.index = block.index
        transfer.digest = block.digest
        transfer.length = length
        transfer.filled = 0
        transfer.position = block.index * BLOCK_SIZE

    def _end_block(self, transfer: _Transfer, view: memoryview) -> None:
        block = ArrivedBlock(self, transfer.buffer, view, transfer.index, transfer.digest)
        transfer.next_expected()
        if transfer.behind > 1:  # a single block is worth nothing without its end
            self.achieved += 1
        transfer.receiver.block_arrived(block)

    def _end(self, transfer: _Transfer, end: End) -> None:
        if transfer.offer is None or transfer.view is not None:
            raise RemoteProtocolError(reason="a file ended at the wrong time")
        if transfer.expected < transfer.behind:
            raise RemoteProtocolError(reason="a file ended with blocks missing")
        del self._transfers[end.id]
        self.achieved += 1
        transfer.receiver.ended(end.root)

    def _failed(self, message: Failed) -> None:
        if message.why is not Fault.BUSY:
            self.achieved += self._is_asked(message.id)
        asked = self._lists.pop(message.id, None)
        if asked is not None:
            asked[1].failed(message.why)
        elif (transfer := self._transfer(message.id)) is not None:
            self.forget(message.id)
            transfer.receiver.failed(message.why)

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
