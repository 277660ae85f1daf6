"""What an update will do, counted before it does anything: `get --update` tells it first.

The items are listed and looked up on the disk as for a job, and nothing is requested, made or kept. So a folder of a
million files is counted in little memory; the job lists it again. What the job does may differ where files change in
between, and where only the content tells whether two files are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from p2pshare.errors import ChangedHere, P2pshareError
from p2pshare.peer.fetch.disk_work import DiskWork
from p2pshare.peer.fetch.job import Found, look_up
from p2pshare.peer.fetch.plan import JobItem, JobPlan, WantedFile
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.storage.incoming.claimed_names import Claims
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.present_files import Absent, Present


@dataclass(slots=True)
class UpdateCounts:
    """The files of an update."""

    new: int = 0
    """Files that are not here."""
    changed: int = 0
    """Files that will be replaced."""
    doubtful: int = 0
    """Files whose content has to be compared: they are the same, or replaced, or kept."""
    kept: int = 0
    """Files that are not as they were fetched, and stay."""
    up_to_date: int = 0
    size: int = 0
    """Bytes of the new and the changed ones, as listed."""

    @property
    def files(self) -> int:
        """All of them."""
        return self.new + self.changed + self.doubtful + self.kept + self.up_to_date

    def add(self, wanted: WantedFile, found: Found) -> None:
        """Count a file by what was found; one that cannot be looked up is reported by the job."""
        if isinstance(found, Present):
            self.up_to_date += 1
        elif isinstance(found, ChangedHere):
            self.kept += 1
        elif isinstance(found, Absent):
            if found.candidates or wanted.size is None:
                self.doubtful += 1
                return
            self.new += found.replaces is None
            self.changed += found.replaces is not None
            self.size += wanted.size


class UpdateSurvey:
    """Counts the files of one update: `run` it once. `counts` may be read at any time."""

    def __init__(
        self,
        remote: RemotePeer,
        items: Sequence[JobItem],
        open_folder: Callable[[Path, Claims], IncomingFolder],
        files_max: int | None = None,
    ) -> None:
        """Args:
        remote: the sharer.
        items: the wanted items.
        open_folder: opens the folders of the items with the claims of this survey.
        files_max: as for `JobPlan`.
        """
        self._remote = remote
        self._plan = JobPlan(remote, items, lambda *_: None, files_max=files_max)
        self._open_folder = open_folder
        self._claims = Claims()
        self._folders: dict[Path, IncomingFolder] = {}
        self._disk = DiskWork(remote.reactor, lambda _: None)
        self.counts = UpdateCounts()

    async def run(self) -> UpdateCounts:
        """List and look up everything.

        Raises:
            P2pshareError: the destination cannot be opened, or no session can.
        """
        try:
            async for page in self._plan.pages():
                files = [each for each in page.wanted() if isinstance(each, WantedFile)]
                for wanted, found in await self._disk.run(self._look_up, files):
                    self.counts.add(wanted, found)
        finally:
            await self._disk.idle()
            await self._disk.run(self._close)
        return self.counts

    def _look_up(self, files: Sequence[WantedFile]) -> list[tuple[WantedFile, Found]]:
        for root in {each.root for each in files} - self._folders.keys():
            self._folders[root] = self._open_folder(root, self._claims)
        found = look_up(self._remote.key, self._folders, files)
        return [(wanted, each) for wanted, each in found if isinstance(wanted, WantedFile)]

    def _close(self) -> None:
        for folder in self._folders.values():
            with suppress(P2pshareError, OSError):
                folder.close()
        self._claims.close()
