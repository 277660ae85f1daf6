"""What the fetches of one job share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from twisted.python.failure import Failure

from p2pshare.core.in_flight import InFlight
from p2pshare.core.taking import Receiver, Runs
from p2pshare.errors import P2pshareError
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.block_writer import BlockWriter
from p2pshare.peer.job_tally import JobTally, SavedFile
from p2pshare.peer.thread_work import ThreadWork
from p2pshare.storage.announcement import Announced, Origin, Place, WholeFile
from p2pshare.storage.incoming import Incoming
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import Cancelled, Job, Listing, Offer

TRIES_MAX = 3  # requests for a file that changes, or that its sharer has no time for


class Remote(Protocol):
    """What a job needs of a `RemotePeer`."""

    reactor: IPeerReactor
    name: str
    in_flight: InFlight
    on_room: set[Callable[[], object]]
    on_up: set[Callable[[], object]]

    @property
    def key(self) -> PublicKey:
        """The peer's."""

    @property
    def is_up(self) -> bool:
        """Whether there is a session."""

    async def ready(self) -> None:
        """Return as soon as there is a session."""

    async def list(
        self,
        path: RemotePath,
        after: RemotePath = (),
        limit: int = ...,
        *,
        recursive: bool = False,
    ) -> Listing:
        """Ask for a page of a folder."""

    def get(
        self,
        receiver: Receiver,
        path: RemotePath,
        version: str = "",
        have: Runs = (),
        most: int | None = None,
    ) -> int:
        """Ask for a file."""

    def cancel(self, number: int, why: Cancelled) -> None:
        """Want nothing more of a transfer."""

    def done(self, numbers: Sequence[int]) -> None:
        """Tell of files that are there."""

    def tell_job(self, job: Job) -> None:
        """Tell how much is still to come."""

    def arriving(self, number: int) -> int:
        """Bytes of a block that is not whole yet."""

    def room_freed(self) -> None:
        """Let all ask for more."""


class Folder(Protocol):
    """What a job needs of an `IncomingFolder`."""

    def find(
        self,
        place: Place,
        size: int,
        mtime_ns: int,
        origin: Origin | None = None,
        *,
        overwrite: bool = False,
        skip: int = 0,
    ) -> Path | None:
        """The file, if it is there already."""

    def make_folder(self, folder: tuple[str, ...]) -> None:
        """Make a folder."""

    def resume(
        self,
        place: Place,
        origin: Origin,
        *,
        overwrite: bool = False,
        on_progress: Callable[[int, int], object] = ...,
        stop: Callable[[], bool] = ...,
    ) -> Incoming | None:
        """Go on with a partial file."""

    def begin(
        self, place: Place, origin: Origin, announced: Announced, *, overwrite: bool = False
    ) -> Incoming:
        """Begin a file."""

    def store_whole(self, files: Sequence[WholeFile]) -> Sequence[Path | P2pshareError]:
        """Store small files."""

    def close(self) -> None:
        """Close the folder."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """What the fetches of one job share."""

    reactor: IPeerReactor
    remote: Remote
    threads: ThreadWork
    writer: BlockWriter
    tally: JobTally
    on_saved: Callable[[SavedFile], object]
    on_remark: Callable[[RemotePath, str], object]
    fail: Callable[[RemotePath, int | None, P2pshareError], object]
    """Says that a file failed, of which so many bytes were listed; what stops the whole job stops it."""
    stop: Callable[[BaseException | Failure], object]
    """Ends the whole job."""


def announced_by(offer: Offer) -> Announced:
    """What a sharer says of a file, for the disk."""
    return Announced(offer.size, offer.mtime_ns, offer.executable, offer.version)
