"""What a job counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from p2pshare.wire.paths import RemotePath

CURRENT_SHOWN = 4  # files that are on their way, in a snapshot


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that is there, whole and verified, under its final name."""

    remote: RemotePath
    path: Path
    size: int
    """Bytes."""
    fetched: int
    """Bytes of it that came now; the others were there from an earlier try."""
    seconds: float
    """From its first request to its name."""
    already_there: bool = False
    """Whether a file of this content was there before, so that nothing was fetched."""
    root: bytes = b""
    """Of its content, if it is at hand."""
    is_renamed: bool = False
    """Whether it has another name than its own, or lies in a folder that has."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job has come."""

    files_done: int
    """Files that were fetched, without those that were there already."""
    files_total: int | None
    """All files of the job; None until all was listed."""
    bytes_done: int
    """Bytes that are on the disk or have arrived in memory, also those that were there already."""
    bytes_total: int | None
    """Without those of files that failed; None until all was listed."""
    files_failed: int
    """Items and files that failed."""
    files_already_there: int
    current: tuple[RemotePath, ...]
    """What is on its way just now: the first few."""
    files_listed: int = 0
    """Files known of so far; `files_total` in the end."""
    bytes_listed: int = 0
    bytes_fetched: int = 0
    """Bytes that came over the session: the rate is made of this."""
    held_elsewhere: int = 0
    """Files that wait for another process, which fetches the same."""


@dataclass(slots=True)
class JobTally:
    """The counters behind `JobProgress`."""

    files_done: int = 0
    files_failed: int = 0
    files_already_there: int = 0
    files_listed: int = 0
    bytes_listed: int = 0
    files_lost: int = 0
    """Of those listed, that failed."""
    bytes_over: int = 0
    """Of files that are there under their names."""
    bytes_fetched: int = 0
    all_listed: bool = False

    def listed(self, files: int, size: int) -> None:
        """There are so many more files, of `size` bytes together, as far as is known."""
        self.files_listed += files
        self.bytes_listed += size

    def not_wanted(self, files: int, size: int) -> None:
        """So many files that were listed are not fetched after all."""
        self.listed(-files, -size)

    def known_better(self, listed: int | None, size: int) -> None:
        """A file was offered, and has `size` bytes."""
        self.bytes_listed += size - (listed or 0)

    def saved(self, size: int) -> None:
        """A file is there that was fetched."""
        self.files_done += 1
        self.bytes_over += size

    def already_there(self, size: int) -> None:
        """A file was there before."""
        self.files_already_there += 1
        self.bytes_over += size

    def failed(self, size: int | None = None) -> None:
        """A file that was listed with `size` bytes failed."""
        self.files_failed += 1
        self.files_lost += 1
        self.bytes_listed -= size or 0

    def item_failed(self) -> None:
        """What is no file that was listed failed."""
        self.files_failed += 1

    @property
    def files_total(self) -> int | None:
        """All files of the job; None until all was listed."""
        return self.files_listed if self.all_listed else None

    @property
    def files_left(self) -> int:
        """Those listed that are still to come."""
        return self.files_listed - self.files_done - self.files_already_there - self.files_lost

    def progress(
        self,
        bytes_arriving: int,
        current: tuple[RemotePath, ...],
        bytes_coming: int = 0,
        held_elsewhere: int = 0,
    ) -> JobProgress:
        """A snapshot.

        Args:
            bytes_arriving: of files that are not under their names yet.
            current: what is on its way.
            bytes_coming: of those, the ones that came over the session and are not counted yet.
            held_elsewhere: files that wait for another process.
        """
        listed = self.all_listed
        return JobProgress(
            self.files_done,
            self.files_total,
            self.bytes_over + bytes_arriving,
            self.bytes_listed if listed else None,
            self.files_failed,
            self.files_already_there,
            current,
            self.files_listed,
            self.bytes_listed,
            self.bytes_fetched + bytes_coming,
            held_elsewhere,
        )
