"""The requester's side of a session: what comes is checked, put together to blocks, and paid for with credit.

A transfer goes through these states; whatever else comes is the other side's fault, and ends the session:

    ASKED  --Offer-->  BETWEEN  --Block-->  WITHIN  --its last byte-->  BETWEEN  --End, no block missing-->  over
    any    --Failed->  over

What is said about a transfer that is over is passed over, for it may have been on its way when that one was cancelled.
Its bytes count as any others do, and are forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from p2pshare.core.block_buffers import BlockBuffers
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

Runs = Sequence[tuple[int, int]]
"""Blocks: the first of each run, and the one behind its last; ascending."""


class ArrivedBlock:
    """A block that came whole. Whether it is what its digest says is not known yet."""

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
        """Give the memory back: nobody reads `data` any more, in whatever thread."""
        taking, self._taking = self._taking, None
        if taking is not None:
            length = len(self.data)
            self.data.release()
            taking.released(self._buffer, length)


class Receiver(Protocol):
    """Who asked for a file, and is told what comes of it. None of these may raise."""

    def offered(self, offer: Offer) -> None:
        """The file is about to come."""

    def outgrown(self, offer: Offer) -> None:
        """It is larger than was expected. Nothing of it comes: this transfer is over."""

    def block_arrived(self, block: ArrivedBlock) -> None:
        """A block has come; release it in the end."""

    def ended(self, root: bytes) -> None:
        """All blocks have come: this transfer is over."""

    def failed(self, why: Fault) -> None:
        """It does not come, or not all of it: this transfer is over."""

    def interrupted(self) -> None:
        """The session is lost: this transfer is over."""


class Lister(Protocol):
    """Who asked for a page of a folder."""

    def listed(self, listing: Listing) -> None:
        """Here it is."""

    def failed(self, why: Fault) -> None:
        """It does not come."""

    def interrupted(self) -> None:
        """The session is lost."""


class _Transfer:
    """One file on its way."""

    __slots__ = (
        "behind", "buffer", "digest", "expected", "filled", "have", "index", "length", "most",
        "offer", "position", "receiver", "skipped", "version", "view",
    )  # fmt: skip

    def __init__(self, receiver: Receiver, version: str, have: Runs, most: int | None) -> None:
        self.receiver = receiver
        self.version = version
        self.have = have
        self.most = most
        self.offer: Offer | None = None
        self.expected = 0  # the index of the next block
        self.behind = 0  # of the last block
        self.skipped = 0  # bytes that do not come, but that the other side has to read
        self.view: memoryview | None = None  # of the block that is coming
        self.buffer = bytearray()
        self.index = 0
        self.digest = b""
        self.length = 0
        self.filled = 0
        self.position = 0  # in the file, of the next byte

    def begin(self, offer: Offer) -> None:
        """The file comes, without the blocks that are there of this very version."""
        self.offer = offer
        self.behind = block_count(offer.size)
        if offer.version != self.version:
            self.have = ()
        self.skipped = BLOCK_SIZE * sum(
            max(0, min(end, self.behind) - first) for first, end in self.have
        )
        self.expected = self._missing_from(0)

    def next_expected(self) -> None:
        """The block is complete."""
        self.view = None
        self.expected = self._missing_from(self.index + 1)

    def _missing_from(self, index: int) -> int:
        for first, end in self.have:
            if index < first:
                break
            index = max(index, end)
        return index


class ReceiverCore:
    """All that was asked for over one session."""

    def __init__(
        self, crediting: CreditControl, buffers: BlockBuffers | None = None, first_id: int = 1
    ) -> None:
        """Args:
        crediting: the credit of this session.
        buffers: memory that may be shared with the session before.
        first_id: the number of the first question.
        """
        self.crediting = crediting
        self._buffers = buffers if buffers is not None else BlockBuffers()
        self._first_id = first_id
        self.next_id = first_id
        """The number of the next question."""
        self._transfers: dict[int, _Transfer] = {}
        self._lists: dict[int, tuple[List, Lister]] = {}
        self.on_release: Callable[[], object] = lambda: None
        """Called whenever there may be more credit to grant."""
        self.achieved = 0
        """A number that grows with what need not be asked for again, should this session be lost."""
        self._heard = 0

    def get(
        self,
        receiver: Receiver,
        path: RemotePath,
        version: str = "",
        have: Runs = (),
        most: int | None = None,
    ) -> Get:
        """Ask for a file.

        Args:
            receiver: is told what comes.
            path: of the file.
            version: what was offered earlier, of which `have` is there.
            have: blocks that are there; only the first `RANGES_MAX` runs are told of.
            most: bytes; a larger file is not wanted.
        """
        have = tuple(have[:RANGES_MAX]) if version else ()
        message = Get(self._new_id(), path, version, have)
        self._transfers[message.id] = _Transfer(receiver, version, have, most)
        return message

    def list(
        self, lister: Lister, path: RemotePath, after: RemotePath, limit: int, recursive: bool
    ) -> List:
        """Ask for a page of a folder."""
        message = List(self._new_id(), path, after, limit, recursive)
        self._lists[message.id] = message, lister
        return message

    def forget(self, number: int) -> bool:
        """Pass over what still comes of this transfer; whether there was anything to come."""
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
        """Bytes that are there of the block that is coming."""
        transfer = self._transfers.get(number)
        return transfer.filled if transfer is not None and transfer.view is not None else 0

    @property
    def progress(self) -> int:
        """A number that grows with all that comes, whatever it is worth."""
        return self._heard + self.crediting.arrived

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._transfers or self._lists)

    @property
    def skipped(self) -> int:
        """Bytes of files on their way that are here, and that the other side may read to know what they are."""
        return sum(transfer.skipped for transfer in self._transfers.values())

    def message_received(self, message: Message) -> int | None:
        """Take what the sharer says; the number of a transfer that is to be cancelled.

        Raises:
            RemoteProtocolError: it must not say that now.
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
        """Take bytes of a file; they are copied to where they belong.

        Raises:
            RemoteProtocolError: they must not come, not here or not now.
        """
        size = len(data)
        crediting = self.crediting
        crediting.arrived += size
        if crediting.arrived > crediting.granted:
            raise RemoteProtocolError(reason="it sent more than there was credit for")
        coming = self._transfers.get(transfer)
        if coming is None:
            self._check_asked(transfer)
            crediting.release(size)
            self.on_release()
            return
        view = coming.view
        if view is None or offset != coming.position:
            raise RemoteProtocolError(reason="bytes of a file came that are not the next ones")
        filled = coming.filled
        end = filled + size
        if end > coming.length:
            raise RemoteProtocolError(reason="more bytes came than a block has")
        view[filled:end] = data
        coming.filled = end
        coming.position = offset + size
        if end == coming.length:
            self._end_block(coming, view)

    def released(self, buffer: bytearray, size: int) -> None:
        """A buffer is free again, with `size` bytes that came in it."""
        self._buffers.give_back(buffer)
        self.crediting.release(size)
        self.on_release()

    def interrupt(self) -> None:
        """The session is lost: tell everybody who waits."""
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
            raise RemoteProtocolError(reason="it answered what was not asked")

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
            raise RemoteProtocolError(reason="a block came before it could")
        if block.index != transfer.expected or block.index >= transfer.behind:
            raise RemoteProtocolError(reason="a block came that is not the next one missing")
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
        if transfer.behind > 1:  # else it is worth nothing without its end
            self.achieved += 1
        transfer.receiver.block_arrived(block)

    def _end(self, transfer: _Transfer, end: End) -> None:
        if transfer.offer is None or transfer.view is not None:
            raise RemoteProtocolError(reason="a file ended before it could")
        if transfer.expected < transfer.behind:
            raise RemoteProtocolError(reason="a file ended, and blocks of it are missing")
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
                raise RemoteProtocolError(reason="it listed what was not asked for")
            return
        question, lister = asked
        _check_listing(question, listing)
        del self._lists[listing.id]
        self.achieved += 1
        lister.listed(listing)


def _check_listing(question: List, listing: Listing) -> None:
    """Refuse a page that is not what was asked for, above all one by which there would be no last page."""
    if len(listing.entries) > question.limit or (listing.more and not listing.entries):
        raise RemoteProtocolError(reason="a listing has more or fewer entries than it may")
    before = question.after
    for entry in listing.entries:
        if entry.path <= before or (len(entry.path) > 1 and not question.recursive):
            raise RemoteProtocolError(reason="a listing is not in order")
        before = entry.path
