"""The states of the blocks of a file, and their digests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum

from p2pshare.wire.blocks import DIGEST_SIZE

CHUNK = 4096  # blocks that share an allocation


class BlockState(IntEnum):
    """The state of a block."""

    MISSING = 0
    WRITTEN = 1
    SYNCED = 2
    """Durable and journalled."""


class BlockTable:
    """About 33 bytes of memory for each block that is here, and none for blocks that are announced and never sent."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.there = 0
        """Blocks that are not missing."""
        self._states: dict[int, bytearray] = {}
        self._digests: dict[int, bytearray] = {}

    def state(self, index: int) -> BlockState:
        """Return the state of a block."""
        states = self._states.get(index // CHUNK)
        return BlockState(states[index % CHUNK]) if states else BlockState.MISSING

    def digest(self, index: int) -> bytes:
        """Return the digest of a block that is here."""
        at = index % CHUNK * DIGEST_SIZE
        return bytes(self._digests[index // CHUNK][at : at + DIGEST_SIZE])

    def put(self, index: int, state: BlockState, digest: bytes) -> None:
        """Add a block."""
        chunk, within = divmod(index, CHUNK)
        self.move(index, state)
        digests = self._digests.setdefault(chunk, bytearray(CHUNK * DIGEST_SIZE))
        digests[within * DIGEST_SIZE : (within + 1) * DIGEST_SIZE] = digest

    def move(self, index: int, state: BlockState) -> None:
        """Set the state of a block."""
        states = self._states.setdefault(index // CHUNK, bytearray(CHUNK))
        self.there += bool(state) - bool(states[index % CHUNK])
        states[index % CHUNK] = state

    def indexes(self, state: BlockState) -> Iterator[int]:
        """Yield the blocks in a state, ascending."""
        for chunk in sorted(self._states):
            for found in re.finditer(re.escape(bytes([state])), self._states[chunk]):
                yield chunk * CHUNK + found.start()

    def runs(self) -> tuple[tuple[int, int], ...]:
        """Return the runs of blocks that are here, ascending: the first block, and the one after the last."""
        runs: list[tuple[int, int]] = []
        for chunk in sorted(self._states):
            for found in re.finditer(rb"[^\0]+", self._states[chunk]):
                first, end = chunk * CHUNK + found.start(), chunk * CHUNK + found.end()
                if runs and runs[-1][1] == first:
                    first = runs.pop()[0]
                runs.append((first, end))
        return tuple(runs)

    def digests(self) -> Iterator[bytes]:
        """Yield the digests of all blocks; none may be missing."""
        for chunk in range(-(-self.count // CHUNK)):
            yield bytes(self._digests[chunk][: (self.count - chunk * CHUNK) * DIGEST_SIZE])
