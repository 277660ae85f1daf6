"""The parts that all fetches of one job share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from twisted.python.failure import Failure

from p2pshare.errors import P2pshareError
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.fetch.disk_work import DiskWork
from p2pshare.peer.fetch.plan import WantedFile
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.tally import JobTally, SavedFile
from p2pshare.storage.incoming.announcement import Announced, Origin
from p2pshare.storage.incoming.present_files import Absent, Present, Sought
from p2pshare.storage.incoming.publishing import numbered
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.paths import RemotePath, format_path
from p2pshare.wire.transfer_messages import Cancelled, FileHeader

IN_USE_PATIENCE = 180.0  # seconds without progress in another process; a lost session costs it 120
IN_USE_REMARK = 2.0  # seconds of waiting for another process after which the user is told
SHORT_DELAY = 0.5  # seconds before the next try after too many files were open
SHORT_PATIENCE = 60.0  # seconds of such tries before the file fails
BUSY_DELAY = 1.0  # seconds before the next request to a busy sharer, times the requests so far
TRIES_MAX = 3  # requests for a file that changes, or from a busy sharer


@dataclass(frozen=True, slots=True)
class JobContext:
    """The parts that all fetches of one job share."""

    remote: RemotePeer
    disk: DiskWork
    tally: JobTally
    on_saved: Callable[[SavedFile], object]
    on_remark: Callable[[RemotePath, str], object]
    on_renamed: Callable[[RemotePath, str], object]
    """Called with the local name of a file or folder that cannot have its own."""
    fail: Callable[[RemotePath, int | None, P2pshareError], object]
    """Called with a file that failed, and its listed bytes; errors that stop the job stop it."""
    stop: Callable[[BaseException | Failure], object]
    """Ends the whole job."""

    @property
    def reactor(self) -> IPeerReactor:
        """For timers."""
        return self.remote.reactor

    def placed(self, wanted: WantedFile, absent: Absent) -> WantedFile:
        """Return a file that is to be fetched with its local names, and report names that differ from its own."""
        before, place = wanted.place, absent.place
        name = numbered(place.name, place.number)
        is_renamed = (before.folder, before.name) != (place.folder, name)
        if is_renamed or place.clashes:
            for depth, (own, here) in enumerate(zip(before.folder, place.folder, strict=True)):
                if own != here:
                    self.on_renamed(wanted.path[: depth - len(before.folder)], here)
            if before.name != place.name or place.clashes:
                self.on_renamed(wanted.path, name)
        return replace(
            wanted,
            place=place,
            candidates=absent.candidates,
            content_root=absent.root,
            is_claimed=absent.is_claimed,
            is_renamed=wanted.is_renamed or is_renamed,
            replaces=absent.replaces,
        )

    def without_first(self, wanted: WantedFile) -> WantedFile:
        """Return the file without a request that is under way, which is cancelled."""
        if wanted.first is None:
            return wanted
        number = wanted.first.drop()
        if number is not None:
            self.remote.cancel(number, Cancelled.BY_USER)
        return replace(wanted, first=None)

    def remark(self, wanted: WantedFile, sentence: str) -> None:
        """Tell the user something about a file; the sentence continues its path."""
        self.on_remark(wanted.path, f"{format_path(wanted.path)!r} {sentence}")


def sought(key: PublicKey, wanted: WantedFile, size: int, version: str) -> Sought:
    """Return what to look for on the disk.

    Args:
        key: the sharer's key.
        wanted: the file.
        size: its bytes, as listed or announced.
        version: its version, as listed or announced.
    """
    origin = Origin(key, wanted.path)
    return Sought(
        wanted.place,
        origin,
        size,
        version,
        wanted.overwrite,
        wanted.is_claimed,
        wanted.update,
        wanted.replaces,
    )


def found_file(wanted: WantedFile, present: Present) -> SavedFile:
    """Return the report on a file that was here already."""
    is_renamed = wanted.is_renamed or present.names != (*wanted.place.folder, wanted.place.name)
    size = wanted.size or 0
    path, root = present.path, present.root
    return SavedFile(wanted.path, path, size, 0, 0.0, True, root=root, is_renamed=is_renamed)


def announced_by(header: FileHeader) -> Announced:
    """Return what a header says of a file, for the disk."""
    return Announced(header.size, header.mtime_ns, header.executable, header.version)
