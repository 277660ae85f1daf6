"""One file on its way, as its receiver sees it: what is wanted, what has arrived, and what lies in memory.

**Any order.** The pieces of a transfer may come in any order, more than once, and cut anywhere. So `arrived` is the
table of all bytes that are here, and decides about each piece: only bytes that it does not have count. A block lies in
`blocks` from its first byte until it is handed on. So a block that is neither there nor missing in `arrived` was handed
on before, and its pieces are repetitions.

**Two halves.** A block is handed on when its bytes and its digest are both here. Digests come as messages, pieces may
take another way, and neither waits for the other. Even the header may be late: if the carrier tells the size of the
file, that suffices to place pieces. Whether they were wanted is decided when the header comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from p2pshare.core.ranges import Range, RangeSet
from p2pshare.core.wanted_blocks import byte_ranges, named_blocks
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import BLOCK_SIZE, FILE_SIZE_MAX, block_length
from p2pshare.wire.transfer_messages import Digests, End, Fault, FileHeader, Get, Listing

DIGESTS_AHEAD_MAX = 4096  # digests of a transfer that wait for their blocks and were not asked for
BUFFERS_KEPT_MAX = 20  # buffers of a block's size that wait for their next use
SHORT = BLOCK_SIZE // 4  # bytes up to which a buffer is made for its block alone


class BlockInMemory:
    """A block of which some bytes have arrived."""

    __slots__ = ("buffer", "left", "length", "view")

    def __init__(self, buffer: bytearray, length: int) -> None:
        self.buffer = buffer
        self.view = memoryview(buffer)[:length]
        """The bytes of the block; those that have not arrived are undefined."""
        self.length = length
        """Bytes."""
        self.left = length
        """Bytes that have not arrived."""


class BlockBuffers:
    """A pool of buffers."""

    def __init__(self, kept_max: int = BUFFERS_KEPT_MAX) -> None:
        self._kept: list[bytearray] = []
        self._kept_max = kept_max

    def take(self, length: int) -> BlockInMemory:
        """Return memory for a block of `length` bytes, up to `BLOCK_SIZE`, with any content."""
        if length <= SHORT:
            return BlockInMemory(bytearray(length), length)
        return BlockInMemory(self._kept.pop() if self._kept else bytearray(BLOCK_SIZE), length)

    def give_back(self, block: BlockInMemory) -> None:
        """Return the memory of a block to the pool; nobody may read it any more."""
        block.view.release()
        if len(block.buffer) == BLOCK_SIZE and len(self._kept) < self._kept_max:
            self._kept.append(block.buffer)


class ArrivedBlock:
    """A block that is complete, but not verified."""

    __slots__ = ("_block", "_on_release", "data", "digest", "index")

    def __init__(
        self,
        on_release: Callable[[BlockInMemory], object],
        block: BlockInMemory,
        index: int,
        digest: bytes,
    ) -> None:
        self._on_release = on_release
        self._block: BlockInMemory | None = block
        self.data = block.view
        """Valid until `release`."""
        self.index = index
        self.digest = digest

    def release(self) -> None:
        """Return the memory; `data` may not be read any more, in any thread."""
        block, self._block = self._block, None
        if block is not None:
            self._on_release(block)


OnDigests = Callable[[int, Sequence[bytes]], object]
"""Called with the number of a block, and the digests of the blocks from there on."""


class Receiver(Protocol):
    """The requester of a file. Its methods must not raise."""

    def announced(self, header: FileHeader) -> None:
        """Handle that the file is about to come."""

    def outgrown(self, header: FileHeader) -> None:
        """Handle the end of the transfer: the file is larger than was expected, and nothing of it comes."""

    def block_arrived(self, block: ArrivedBlock) -> None:
        """Handle a block, and release it in the end. Blocks come in any order, each once."""

    def ended(self, root: bytes) -> None:
        """Handle the end of the transfer: all blocks have arrived. `root` is empty if it was not wanted."""

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


class IncomingTransfer:
    """A file on its way."""

    def __init__(
        self, request: Get, receiver: Receiver, on_digests: OnDigests | None, most: int | None
    ) -> None:
        self.number = request.id
        self.receiver = receiver
        self.on_digests = on_digests
        """Is told the digests that were asked for, as long as the file may be of the version that was asked for."""
        self.most = most
        """Bytes; a larger file is not wanted."""
        self.size: int | None = None
        """Bytes of the file, once the carrier or the header has told it."""
        self.header: FileHeader | None = None
        self.end: End | None = None
        """The last message, if it came before the last piece."""
        self.arrived = RangeSet()
        """The bytes that have arrived."""
        self.blocks: dict[int, BlockInMemory] = {}
        self.handed_on = 0
        """Bytes of the blocks that were handed on."""
        self.wanted_bytes = 0
        """Bytes that are to come in all, once the file is announced."""
        self._request = request
        self._wanted = RangeSet()  # blocks, once the file is announced
        self._expected = RangeSet()  # blocks whose digests come
        self._digested = RangeSet()  # those that have come
        self._digests: dict[int, bytes] = {}  # of wanted blocks that are not handed on
        self._digests_max = DIGESTS_AHEAD_MAX

    @property
    def counted(self) -> int:
        """Return the bytes that this transfer has counted against the credit."""
        return self.arrived.total if self.end is None else self.end.sent

    @property
    def skipped(self) -> int:
        """Return the bytes of the file that do not come, but may be hashed by the other side."""
        if self.header is None or not self._request.root:
            return 0
        return self.header.size - self.wanted_bytes

    @property
    def is_complete(self) -> bool:
        """Whether all is said, and all wanted blocks are handed on."""
        return self.end is not None and self.handed_on == self.wanted_bytes

    def know_size(self, size: int) -> None:
        """Take the size of the file, in bytes.

        Raises:
            RemoteProtocolError: it was told before, and differs; or no file is so large.
        """
        if size > FILE_SIZE_MAX or self.size not in (None, size):
            raise RemoteProtocolError(
                reason="the size of a file is impossible, or was told otherwise"
            )
        self.size = size

    def begin(self, header: FileHeader) -> None:
        """Take the header.

        Raises:
            RemoteProtocolError: it is the second one, or pieces came that it does not allow.
        """
        if self.header is not None:
            raise RemoteProtocolError(reason="it announced a file twice")
        self.know_size(header.size)
        self.header = header
        self._wanted, ahead = named_blocks(self._request, header)
        self._expected = RangeSet([*self._wanted, *ahead])
        self._digests_max += ahead.total
        if not ahead:
            self.on_digests = None
        self.wanted_bytes = sum(end - first for first, end in self._wanted_ranges())
        if not all(index in self._wanted for index in self.blocks):
            raise RemoteProtocolError(reason="it sent a block that was not wanted")

    def length_of_new(self, index: int) -> int:
        """Return the bytes of a block of which the first piece comes now; 0 if it was handed on before.

        Raises:
            RemoteProtocolError: the block does not exist, is not wanted, or comes before its file.
        """
        if self.size is None:
            raise RemoteProtocolError(reason="bytes of a file came before its size")
        if index * BLOCK_SIZE in self.arrived:
            return 0
        length = block_length(self.size, index)
        if length <= 0 or (self.header is not None and index not in self._wanted):
            raise RemoteProtocolError(reason="it sent a block that was not wanted")
        return length

    def add_digests(self, message: Digests) -> None:
        """Keep digests until their blocks are complete.

        Raises:
            RemoteProtocolError: they were not asked for, come twice, or too far ahead of the blocks.
        """
        first, end = message.first, message.first + len(message.digests)
        if any(self._expected.missing(first, end)):
            raise RemoteProtocolError(reason="it sent the digest of a block that was not wanted")
        if self._digested.add(first, end) < end - first:
            raise RemoteProtocolError(reason="it sent the digest of a block twice")
        for index, digest in enumerate(message.digests, first):
            if index in self._wanted:
                self._digests[index] = digest
        if len(self._digests) > self._digests_max:
            raise RemoteProtocolError(reason="it sent too many digests ahead of their blocks")

    def finish(self, end: End) -> int:
        """Take the last message; return the bytes that it counts and that have not arrived.

        Raises:
            RemoteProtocolError: it comes too early, or contradicts what was sent.
        """
        if self.header is None or self.end is not None:
            raise RemoteProtocolError(reason="a file ended at the wrong time")
        if bool(end.root) is not self._request.root:
            raise RemoteProtocolError(
                reason="a file ended without its root, or with an unwanted one"
            )
        if self._digested.total < self._expected.total:
            raise RemoteProtocolError(reason="a file ended with digests missing")
        if end.sent != self.wanted_bytes:
            raise RemoteProtocolError(
                reason="a file ended with another number of bytes than wanted"
            )
        self.end = end
        return end.sent - self.arrived.total

    def take_complete(self, index: int) -> tuple[BlockInMemory, bytes] | None:
        """Return a block and its digest, to be handed on; None if one of the two is not complete."""
        block = self.blocks.get(index)
        if block is None or block.left or (digest := self._digests.pop(index, None)) is None:
            return None
        del self.blocks[index]
        self.handed_on += block.length
        return block, digest

    def missing(self) -> Iterator[Range]:
        """Yield the ranges of bytes that were wanted and have not arrived, ascending.

        Before the header, it is not known what comes, so all bytes count as wanted.
        """
        size = FILE_SIZE_MAX if self.size is None else self.size
        for first, end in ((0, size),) if self.header is None else self._wanted_ranges():
            yield from self.arrived.missing(first, end)

    def _wanted_ranges(self) -> Iterator[Range]:
        assert self.size is not None
        return byte_ranges(self._wanted, self.size)
