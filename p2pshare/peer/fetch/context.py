"""What the fetches of one job share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from twisted.python.failure import Failure

from p2pshare.core.in_flight import InFlight
from p2pshare.core.receiver import Receiver, Runs
from p2pshare.errors import P2pshareError
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.fetch.block_writer import BlockWriter
from p2pshare.peer.fetch.plan import WantedFile
from p2pshare.peer.fetch.tally import JobTally, SavedFile
from p2pshare.peer.fetch.thread_work import ThreadWork
from p2pshare.storage.incoming.announcement import Announced, Origin, Place, WholeFile
from p2pshare.storage.incoming.folder import Misdated
from p2pshare.storage.incoming.partial_file import Incoming
from p2pshare.storage.incoming.present_files import Absent, Present, Sought
from p2pshare.storage.incoming.publishing import numbered
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import Cancelled, Job, Listing, Offer

IN_USE_DELAY = 0.5  # seconds between two looks at a file that another process fetches
IN_USE_PATIENCE = (
    180.0  # seconds without a byte there, after which the file fails: a lost link takes 120
)
SHORT_DELAY = 0.5  # seconds before a file is tried again, after too many files were open
SHORT_PATIENCE = 60.0  # seconds of that, after which the file fails
IN_USE_REMARK = 2.0  # seconds after which it is said what is waited for
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

    misdated: Misdated | None

    def check(self) -> None:
        """Notice that it was moved or removed."""

    def look_up(self, sought: Sought) -> Present | Absent:
        """Return the file if it is there, and else where it goes."""

    def look_up_all(self, sought: Sequence[Sought]) -> Sequence[Present | Absent | P2pshareError]:
        """Do the same for many files."""

    def settle(
        self,
        sought: Sought,
        candidates: Sequence[str],
        root: bytes,
        stop: Callable[[], bool] = ...,
    ) -> Present | Absent:
        """Return which of the candidates has this root, and else where the file goes."""

    def local_place(self, place: Place) -> Place:
        """Return the place with the names that its file system takes."""

    def make_folder(self, folder: tuple[str, ...]) -> tuple[str, ...]:
        """Make a folder; returns the names that it and those above it have."""

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

    def held_since(self, place: Place, origin: Origin) -> int | None:
        """When the process that fetches a file wrote to it last; None if no process has it."""

    def give_back(self, place: Place) -> None:
        """Give back the name that was claimed for a file."""

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
    on_renamed: Callable[[RemotePath, str], object]
    """Told the local name of a file or folder that cannot have its own."""
    fail: Callable[[RemotePath, int | None, P2pshareError], object]
    """Says that a file failed, of which so many bytes were listed; what stops the whole job stops it."""
    stop: Callable[[BaseException | Failure], object]
    """Ends the whole job."""

    def placed(self, wanted: WantedFile, absent: Absent) -> WantedFile:
        """Return a file that is to be fetched, with the names that it has here; a changed one is told."""
        before, place = wanted.place, absent.place
        for depth, (own, here) in enumerate(zip(before.folder, place.folder, strict=True)):
            if own != here:
                path = wanted.path[: depth - len(before.folder)]
                self.on_renamed(path, here)
        name = numbered(place.name, place.number)
        if before.name != place.name or place.clashes:
            self.on_renamed(wanted.path, name)
        return replace(
            wanted,
            place=place,
            candidates=absent.candidates,
            content_root=absent.root,
            is_claimed=absent.is_claimed,
            is_renamed=wanted.is_renamed or (before.folder, before.name) != (place.folder, name),
        )


def sought(key: PublicKey, wanted: WantedFile, size: int, version: str) -> Sought:
    """Return what is looked for on the disk.

    Args:
        key: of the sharer.
        wanted: the file.
        size: its bytes, as it was listed or offered.
        version: likewise.
    """
    origin = Origin(key, wanted.path)
    return Sought(wanted.place, origin, size, version, wanted.overwrite, wanted.is_claimed)


def found_file(wanted: WantedFile, present: Present) -> SavedFile:
    """Return what is told of a file that was there already."""
    is_renamed = wanted.is_renamed or present.names != (*wanted.place.folder, wanted.place.name)
    size = wanted.size or 0
    path, root = present.path, present.root
    return SavedFile(wanted.path, path, size, 0, 0.0, True, root=root, is_renamed=is_renamed)


def announced_by(offer: Offer) -> Announced:
    """What a sharer says of a file, for the disk."""
    return Announced(offer.size, offer.mtime_ns, offer.executable, offer.version)
