"""Bounds on the files that are on their way at once: dozens of small ones, a few large ones."""

from __future__ import annotations

LARGE_MAX = 4  # files of more than a block that are being fetched at once
SMALL_MAX = 64  # files of at most a block that were requested and have not arrived
SMALL_UNSAVED_MAX = 192  # those, and files that arrived and are not under their names yet
SMALL_BYTES = 8 * 1024 * 1024  # bytes of all these


class InFlight:
    """A count of the files that are on their way from one peer."""

    def __init__(
        self,
        large_max: int = LARGE_MAX,
        small_max: int = SMALL_MAX,
        unsaved_max: int = SMALL_UNSAVED_MAX,
        small_bytes: int = SMALL_BYTES,
    ) -> None:
        self._large_max = large_max
        self._small_max = small_max
        self._unsaved_max = unsaved_max
        self._bytes_max = small_bytes
        self._large = 0
        self._small = 0
        self._unsaved = 0
        self._bytes = 0

    def admit_small(self, size: int) -> bool:
        """Whether another file of `size` bytes may be requested; if so, it is counted."""
        if (
            self._small >= self._small_max
            or self._unsaved >= self._unsaved_max
            or (self._bytes + size > self._bytes_max and self._unsaved)
        ):
            return False
        self._small += 1
        self._unsaved += 1
        self._bytes += size
        return True

    def small_arrived(self) -> None:
        """Count a small file that has arrived or ended."""
        self._small -= 1

    def small_left(self, size: int) -> None:
        """Count a small file of `size` bytes that has left the memory or does not come."""
        self._unsaved -= 1
        self._bytes -= size

    def admit_large(self) -> bool:
        """Whether another large file may be requested; if so, it is counted."""
        if self._large >= self._large_max:
            return False
        self._large += 1
        return True

    def large_left(self) -> None:
        """Count a large file that has ended."""
        self._large -= 1
