"""Buffers for blocks that arrive, which are reused."""

from __future__ import annotations

from p2pshare.wire.blocks import BLOCK_SIZE

KEPT_MAX = 20  # buffers of a block's size that wait for their next use
SHORT = BLOCK_SIZE // 4  # bytes up to which a buffer is made for its block alone


class BlockBuffers:
    """A pool of buffers."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
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
