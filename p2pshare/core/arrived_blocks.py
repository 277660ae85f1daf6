"""Blocks in the memory of a receiver: the pool of their buffers, and the interface through which they are handed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.transfer_messages import Fault, Listing, Offer

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

    def offered(self, offer: Offer) -> None:
        """Handle that the file is about to come."""

    def outgrown(self, offer: Offer) -> None:
        """Handle the end of the transfer: the file is larger than was expected, and nothing of it comes."""

    def block_arrived(self, block: ArrivedBlock) -> None:
        """Handle a block, and release it in the end. Blocks come in any order, each once."""

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
