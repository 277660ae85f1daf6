"""The counters of a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from p2pshare.wire.paths import RemotePath

CURRENT_SHOWN = 4  # arriving files in a snapshot


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that is here, complete and verified, under its final name."""

    remote: RemotePath
    path: Path
    size: int
    """Bytes."""
    fetched: int
    """Bytes that arrived now; the others were here from an earlier try."""
    seconds: float
    """From the first request to the final name."""
    already_there: bool = False
    """Whether a file of this content was here, so that nothing was fetched."""
    root: bytes = b""
    """The root of its content, if known."""
    is_renamed: bool = False
    """Whether its name, or that of a folder above it, differs from the remote one."""
    is_replaced: bool = False
    """Whether it has taken the place of another file."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A snapshot of a job."""

    files_done: int
    """Files that were fetched, without those that were here already."""
    files_total: int | None
    """All files of the job; None until all are listed."""
    bytes_done: int
    """Bytes that are on the disk or in memory, also those that were here already."""
    bytes_total: int | None
    """Without those of failed files; None until all are listed."""
    files_failed: int
    """Items and files that failed."""
    files_already_there: int
    current: tuple[RemotePath, ...]
    """The first few arriving files."""
    files_listed: int = 0
    """Files that are listed so far; `files_total` in the end."""
    bytes_listed: int = 0
    bytes_fetched: int = 0
    """Bytes that arrived over the session: the basis of the rate."""
    held_elsewhere: int = 0
    """Files that wait for another process, which fetches the same ones."""


@dataclass(slots=True)
class JobTally:
    """The counters behind `JobProgress`."""

    files_done: int = 0
    files_failed: int = 0
    files_already_there: int = 0
    files_listed: int = 0
    bytes_listed: int = 0
    files_lost: int = 0
    """Listed files that failed."""
    bytes_over: int = 0
    """Bytes of files that are under their names."""
    bytes_fetched: int = 0
    all_listed: bool = False
    on_grown: Callable[[int], object] = lambda _: None
    """Called with the bytes by which a file differs from what was listed."""

    def listed(self, files: int, size: int) -> None:
        """Count more files of `size` bytes together; fewer if negative."""
        self.files_listed += files
        self.bytes_listed += size

    def known_better(self, listed: int | None, size: int) -> None:
        """Correct the listed size of a file to the announced one."""
        self.bytes_listed += size - (listed or 0)
        self.on_grown(size - (listed or 0))

    def saved(self, size: int) -> None:
        """Count a fetched file."""
        self.files_done += 1
        self.bytes_over += size

    def already_there(self, size: int) -> None:
        """Count a file that was here."""
        self.files_already_there += 1
        self.bytes_over += size

    def failed(self, size: int | None = None) -> None:
        """Count a failed file that was listed with `size` bytes."""
        self.files_failed += 1
        self.files_lost += 1
        self.bytes_listed -= size or 0

    def item_failed(self) -> None:
        """Count a failed item or folder."""
        self.files_failed += 1

    @property
    def files_total(self) -> int | None:
        """All files of the job; None until all are listed."""
        return self.files_listed if self.all_listed else None

    @property
    def files_left(self) -> int:
        """Listed files that are still to come."""
        return self.files_listed - self.files_done - self.files_already_there - self.files_lost

    def progress(
        self,
        bytes_arriving: int,
        current: tuple[RemotePath, ...],
        bytes_coming: int,
        held_elsewhere: int,
    ) -> JobProgress:
        """Return a snapshot.

        Args:
            bytes_arriving: bytes that are here of files that are not under their names.
            current: the arriving files.
            bytes_coming: those of `bytes_arriving` that are not in `bytes_fetched` yet.
            held_elsewhere: files that wait for another process.
        """
        return JobProgress(
            self.files_done,
            self.files_total,
            self.bytes_over + bytes_arriving,
            self.bytes_listed if self.all_listed else None,
            self.files_failed,
            self.files_already_there,
            current,
            self.files_listed,
            self.bytes_listed,
            self.bytes_fetched + bytes_coming,
            held_elsewhere,
        )
