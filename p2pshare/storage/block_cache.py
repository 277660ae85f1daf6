"""The digests of files that were sent before: `hashes.sqlite` in the data folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "hashes.sqlite"
ROWS_MAX = 100_000  # files
BYTES_MAX = 64 * 1024 * 1024  # of digests: those of 2 TiB


@dataclass(frozen=True, slots=True)
class CachedFile:
    """What a file must still be for its digests to hold."""

    path: str
    size: int
    """Bytes."""
    mtime_ns: int
    inode: int


class BlockCache:
    """Which digests the blocks of a file have. Usable from any thread; it never fails."""

    def __init__(
        self,
        path: Path | None,
        *,
        rows_max: int = ROWS_MAX,
        bytes_max: int = BYTES_MAX,
        wall_ns: Callable[[], int] = time.time_ns,
        on_trouble: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Use a database, which is made if need be, and made anew if it is damaged.

        Args:
            path: the database; None: nothing is remembered.
            rows_max: files of which it knows; those that were not asked for for the longest time go first.
            bytes_max: of digests.
            wall_ns: nanoseconds since 1970, as the times of files have them.
            on_trouble: called, in whatever thread, with a sentence when the cache is rebuilt or cannot be used.
        """
        raise NotImplementedError

    def find(self, file: CachedFile) -> bytes | None:
        """The digests of all blocks of a file, one behind the other; None if they are not known."""
        raise NotImplementedError

    def store(self, file: CachedFile, digests: bytes) -> None:
        """Remember the digests of all blocks of a file, in place of those that it had."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the database; from now on nothing is found. May be called again."""
        raise NotImplementedError
