"""A file that comes in blocks, and may be kept, half done, for another day."""

from __future__ import annotations

from pathlib import Path

from p2pshare.storage.announcement import Announced, Origin, Place


class Incoming:
    """A partial file, locked for as long as this object is open. Every call may block, and from any thread."""

    place: Place
    origin: Origin
    announced: Announced

    @property
    def have(self) -> tuple[tuple[int, int], ...]:
        """Runs of the blocks that are there and verified: the first, and the one behind the last; ascending."""
        raise NotImplementedError

    @property
    def unsynced(self) -> int:
        """Bytes that are written and not yet journalled."""
        raise NotImplementedError

    def write_block(self, index: int, data: bytes | bytearray | memoryview, digest: bytes) -> None:
        """Verify a block, and write it."""
        raise NotImplementedError

    def sync(self) -> None:
        """Make durable what was written before this call, and journal it."""
        raise NotImplementedError

    def finish(self, root: bytes) -> Path:
        """Publish the file under its name."""
        raise NotImplementedError

    def suspend(self) -> None:
        """Keep for later what is there, and close."""
        raise NotImplementedError

    def discard(self) -> None:
        """Remove what is there, and close."""
        raise NotImplementedError
