"""A shared file that is open to be sent."""

from __future__ import annotations

from dataclasses import dataclass

from p2pshare.wire.paths import RemotePath


class OutgoingFile:
    """A file of any size, read block by block. Calls block, and may come from several threads."""

    path: RemotePath
    size: int
    """Bytes."""
    mtime: int
    """Microseconds since 1970."""
    executable: bool
    version: str
    """Another one as soon as the file holds something else."""

    def read_block(self, index: int) -> tuple[bytes, bytes]:
        """The bytes of a block and their digest.

        Raises:
            Unavailable: the file was changed, or cannot be read.
        """
        raise NotImplementedError

    def digest(self, index: int) -> bytes:
        """The digest of a block that need not be sent.

        Raises:
            Unavailable: as for `read_block`.
        """
        raise NotImplementedError

    def finish(self) -> bytes:
        """The root; reads the blocks that were not, and remembers the digests of all for the next time.

        Raises:
            Unavailable: as for `read_block`.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the file. May be called again."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class WholeOutgoing:
    """A file of at most one block, read at once; nothing of it is open any more."""

    path: RemotePath
    size: int
    """Bytes."""
    mtime: int
    """Microseconds since 1970."""
    executable: bool
    version: str
    data: bytes
    digest: bytes | None
    """Of its block; None if it is empty and has none."""
    root: bytes
