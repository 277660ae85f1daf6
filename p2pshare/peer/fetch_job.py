"""Many files fetched from one peer, as one job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pshare.errors import P2pshareError
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.job_plan import JobItem
from p2pshare.peer.remote import RemotePeer
from p2pshare.wire.paths import RemotePath

__all__ = ["FetchJob", "JobItem", "JobProgress", "SavedFile"]


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
    """Whether a file of this name, size and time was there before, so that nothing was fetched."""


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
    """None until all was listed."""
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


class FetchJob:
    """One job; `run` it once. `progress` may be looked at meanwhile, at any time."""

    def __init__(
        self,
        reactor: IPeerReactor,
        remote: RemotePeer,
        items: Sequence[JobItem],
        *,
        on_saved: Callable[[SavedFile], object] = lambda _: None,
        on_failed: Callable[[RemotePath, P2pshareError], object] = lambda *_: None,
        on_remark: Callable[[RemotePath, str], object] = lambda *_: None,
    ) -> None:
        """Args:
        on_saved: told of each file that is there under its name.
        on_failed: told of each item, or file of one, that is not.
        on_remark: told in a sentence what a user may want to know of a file, such as that it begins anew.
        """
        raise NotImplementedError

    @property
    def progress(self) -> JobProgress:
        """How far it has come."""
        raise NotImplementedError

    async def run(self) -> JobProgress:
        """Fetch all items; what fails is told to `on_failed`, and the others go on.

        When it is cancelled, what has come so far is kept for another try, before it ends.

        Raises:
            DiskFull: nothing more can be written; what has come is kept.
            P2pshareError: the session was lost, and there was no other to be had in time.
        """
        raise NotImplementedError
