"""The folder that all files of a job go to.

Every folder beneath it is reached from the one above, by handles that follow no links, and a name is one component. So
a file stays in here, whatever a stranger calls it. How a file arrives is in `partial_file` (block by block) and
`small_files` (many complete ones at once), whether it is here already in `present_files`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from p2pshare.errors import CannotSave, DestinationGone, TransferFailed
from p2pshare.storage.disk_space import cannot_save, saving_error
from p2pshare.storage.file_times import COARSE_TICK
from p2pshare.storage.incoming.announcement import Announced, Origin, Place, WholeFile
from p2pshare.storage.incoming.claimed_names import Claims
from p2pshare.storage.incoming.folder_handles import OPEN_FOLDER, Folder, FolderHandles, path_of
from p2pshare.storage.incoming.hidden_file import (
    PART_SUFFIX,
    discard_hidden,
    held_since,
    hidden_name,
    open_hidden,
)
from p2pshare.storage.incoming.local_names import LocalNames
from p2pshare.storage.incoming.partial_file import Incoming, Target
from p2pshare.storage.incoming.present_files import Absent, Presence, Present, Sought
from p2pshare.storage.incoming.publishing import current_umask
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.storage.incoming.small_files import BATCH_MAX, FILES_PART, WholeFiles
from p2pshare.storage.open_file_limit import is_none_left, share_of_files
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.blocks import FILE_SIZE_MAX
from p2pshare.wire.paths import RemotePath

UNSYNCED_MAX = 4096  # folders with new folders that are not durable yet; more are synced at once


@dataclass(frozen=True, slots=True)
class Misdated:
    """A file whose time is not the one that its sharer announced; both in nanoseconds since 1970."""

    path: RemotePath
    said_ns: int
    kept_ns: int


class IncomingFolder(AbstractContextManager["IncomingFolder"]):
    """An open folder. Every call may block, and may come from any thread.

    Each call raises `CannotSave` for a place that is not beneath this folder: a component is empty, `.`, `..`, or holds
    a slash. It does the same for a link or a file in place of a folder, and names it.
    """

    def __init__(
        self,
        path: Path,
        fd: int,
        *,
        saved: SavedFiles | None = None,
        claims: Claims | None = None,
        portable_names: bool = False,
    ) -> None:
        """Take over the open folder `fd`, which the user calls `path`; see `open`."""
        self._path = path
        self._handles = FolderHandles(path, fd)
        self._names = LocalNames(path, self._handles, portable=portable_names)
        self._own_claims = None if claims is not None else Claims()
        self._presence = Presence(
            path,
            self._handles,
            self._names,
            saved or SavedFiles(None),
            claims or self._own_claims or Claims(),
        )
        self.misdated: Misdated | None = None
        """The first file whose time the file system could not store."""
        self.umask = current_umask()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        saved: SavedFiles | None = None,
        claims: Claims | None = None,
        portable_names: bool = False,
    ) -> Self:
        """Open an existing folder; the path to it may contain links.

        Args:
            path: the folder.
            saved: the records of files that were saved earlier; None for none.
            claims: the names that other jobs of the same command have taken; None for none.
            portable_names: whether to change all names that some file system would not accept.

        Raises:
            CannotSave: it does not exist, or is no folder.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CannotSave(path=path, reason=plain_reason(error)) from error
        return cls(path, fd, saved=saved, claims=claims, portable_names=portable_names)

    def check(self) -> None:
        """Notice that the folder was moved or removed.

        Raises:
            DestinationGone: no path leads to it any more.
        """
        try:
            with self._handles.using((), make=False) as fd:
                path = path_of(fd, self._path)
        except OSError as error:
            if is_none_left(error):  # the next check will tell
                return
            raise
        if path is None:
            raise DestinationGone(path=self._path)
        if path != self._path:
            self._path = path
            self._presence.moved(path)

    def look_up(self, sought: Sought) -> Present | Absent:
        """Return the file if it is known to be here, otherwise its place; see `present_files`.

        Raises:
            CannotSave: the folder cannot be read, or no name is free.
        """
        (found,) = self.look_up_all([sought])
        if isinstance(found, CannotSave):
            raise found
        return found

    def look_up_all(self, sought: Sequence[Sought]) -> list[Present | Absent | CannotSave]:
        """Look up many files, which is faster. The result has the error of each that cannot be looked up."""
        results: list[Present | Absent | CannotSave | None] = [None] * len(sought)
        local: dict[int, Sought] = {}
        for number, each in enumerate(sought):
            try:
                place = self.local_place(each.place)
                local[number] = each if place is each.place else replace(each, place=place)
            except CannotSave as error:
                results[number] = error
        records = self._presence.records(tuple(local.values()))
        for (number, each), record in zip(local.items(), records, strict=True):
            try:
                results[number] = self._presence.look_up(each, record)
            except OSError as os_error:
                results[number] = cannot_save(os_error, self._path_of(each.place))
            except CannotSave as error:
                results[number] = error
        return [each for each in results if each is not None]

    def settle(
        self,
        sought: Sought,
        candidates: Sequence[str],
        root: bytes,
        stop: Callable[[], bool] = lambda: False,
    ) -> Present | Absent:
        """Return the candidate that has this root, otherwise the place of the file.

        Args:
            sought: as for `look_up`, with the place that it returned.
            candidates: from `look_up`.
            root: from the sharer.
            stop: called before each block is read.

        Raises:
            Stopped: `stop` returned True.
            CannotSave: the folder cannot be read, or no name is free.
        """
        path = self._checked(sought.place)
        try:
            found = self._presence.settle(sought, candidates, root, stop)
        except OSError as error:
            raise cannot_save(error, path) from error
        if isinstance(found, Present):  # an earlier try may have left a part that is of no use now
            hidden = hidden_name(sought.place, sought.origin)
            with (
                suppress(OSError, CannotSave),
                self._handles.using(sought.place.folder, make=False) as fd,
            ):
                discard_hidden(fd, hidden, found.path)
        return found

    def local_place(self, place: Place) -> Place:
        """Return the place with names that its file system accepts.

        Raises:
            CannotSave: a name is not a single component.
        """
        path = self._checked(place)
        try:
            return self._names.place(place)
        except OSError as error:
            raise cannot_save(error, path) from error

    def make_folder(self, folder: Folder) -> Folder:
        """Make a folder and those above it, if they do not exist; return their local names.

        Raises:
            DiskFull, CannotSave: it cannot be made.
        """
        folder = self.local_place(Place(folder, "file")).folder
        try:
            with self._handles.using(folder, make=True):
                pass
            if self._handles.unsynced > UNSYNCED_MAX:
                self.sync_made()
            return folder
        except OSError as error:
            raise cannot_save(error, self._path.joinpath(*folder)) from error

    def begin(
        self,
        place: Place,
        origin: Origin,
        announced: Announced,
        *,
        overwrite: bool = False,
        replaces: bytes = b"",
    ) -> Incoming:
        """Begin a file. An earlier part of the same origin is discarded.

        Args:
            place: its place; folders on the way are made.
            origin: its origin.
            announced: its size, time and version.
            overwrite: replace a regular file of that name in the end.
            replaces: the fingerprint of the only file that is replaced; empty for any.

        Raises:
            InUse: another process has the part.
            DiskFull: the disk has no room for it; nothing is left.
            CannotSave: it cannot be made.
        """
        if not 0 <= announced.size <= FILE_SIZE_MAX:
            raise ValueError(f"{announced.size} bytes are no size of a file")
        target = Target(place, origin, self._checked(place), overwrite, replaces)
        try:
            with self._handles.using(place.folder, make=True) as folder_fd:
                fd = open_hidden(folder_fd, target.hidden, target.path)
                incoming = Incoming(self, folder_fd, fd, target, announced)
        except OSError as error:
            self.check()
            raise saving_error(error, self._path, announced.size, target.path) from error
        try:
            incoming.reserve()
        except BaseException:
            incoming.discard()
            raise
        return incoming

    def resume(
        self,
        place: Place,
        origin: Origin,
        *,
        overwrite: bool = False,
        replaces: bytes = b"",
        on_progress: Callable[[int, int], object] = lambda done, total: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Incoming | None:
        """Resume the part of this origin, if there is one; its `announced` is from the time when it was begun.

        Journalled blocks are hashed again. If none of them is valid, the part is discarded.

        Args:
            place: as for `begin`.
            origin: as for `begin`.
            overwrite: as for `begin`.
            replaces: as for `begin`.
            on_progress: called in this thread with the blocks that were hashed, and all of them.
            stop: called in this thread before each block.

        Raises:
            InUse: another process has the part.
            CannotSave: it cannot be read.
            Stopped: `stop` returned True; the part is kept.
        """
        target = Target(place, origin, self._checked(place), overwrite, replaces)
        try:
            with self._handles.using(place.folder, make=False) as folder_fd:
                incoming = Incoming.reopen(self, folder_fd, target)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise cannot_save(error, target.path) from error
        if incoming is None:
            return None
        try:
            incoming.reverify(on_progress, stop)
        except BaseException as error:
            incoming.close()
            if isinstance(error, OSError):
                raise cannot_save(error, target.path) from error
            raise
        if not incoming.have:
            incoming.discard()
            return None
        return incoming

    def held_since(self, place: Place, origin: Origin) -> int | None:
        """Return when the process that fetches a file wrote it last (ns since 1970); None if no process does."""
        self._checked(place)
        try:
            with self._handles.using(place.folder, make=False) as folder_fd:
                return held_since(hidden_name(place, origin) + PART_SUFFIX, folder_fd)
        except OSError:
            return None

    def give_back(self, place: Place) -> None:
        """Give back the name that `look_up` claimed for a file. Look the file up again afterwards."""
        self._presence.give_back(place)

    def store_whole(self, files: Sequence[WholeFile]) -> list[Path | TransferFailed]:
        """Verify small files, write them, make them durable together, and publish them.

        Returns:
            For each its path; or a `BlockCorrupt`, `DiskFull`, `InUse` or other `CannotSave`, and nothing of it is
            left. An error of one file does not affect the others.
        """
        results: list[Path | TransferFailed] = []
        at_once = share_of_files(BATCH_MAX, FILES_PART)
        while rest := files[len(results) : len(results) + at_once]:
            results += self._store_batch(rest)
        return results

    def close(self) -> None:
        """Make new folders durable, and close. May be called again; parts that are open may go on."""
        self._presence.flush()
        self._handles.close()
        if self._own_claims is not None:
            self._own_claims.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the folder."""
        self.close()

    def sync_made(self) -> None:
        """Make durable the folders that were made.

        Raises:
            OSError: one of them cannot be made durable.
        """
        for error in self._handles.sync().values():
            raise error

    def published(self, saved: Sequence[tuple[WholeFile, str, os.stat_result]]) -> None:
        """Record files that are saved, each with its final name and status, and whether their times were kept."""
        rows = []
        for file, name, status in saved:
            said = file.announced
            sought = Sought(file.place, file.origin, said.size, said.version)
            rows.append((sought, name, status, file.root))
            if self.misdated is None and abs(status.st_mtime_ns - said.mtime_ns) > COARSE_TICK:
                self.misdated = Misdated(file.origin.path, said.mtime_ns, status.st_mtime_ns)
        self._presence.record(rows)

    def _store_batch(self, files: Sequence[WholeFile]) -> list[Path | TransferFailed]:
        """Store files, or the first of them if no more can be open at once; at least one."""
        results: list[Path | TransferFailed | None] = [None] * len(files)
        numbers = []
        for number, file in enumerate(files):
            try:
                self._checked(file.place)
                numbers.append(number)
            except CannotSave as error:
                results[number] = error
        self.check()
        try:
            with self._handles.using((), make=False) as root_fd:
                witness = os.open(".", OPEN_FOLDER, dir_fd=root_fd)
        except OSError as error:
            return [cannot_save(error, self._path_of(each.place)) for each in files]
        try:
            batch = WholeFiles(self._path, self._handles, witness, self.umask)
            stored = batch.store([files[number] for number in numbers])
            self.published(batch.saved)
        finally:
            os.close(witness)
        for number, result in zip(numbers, stored, strict=False):
            results[number] = result
        if len(stored) < len(numbers):
            del results[numbers[len(stored)] :]
        return [each for each in results if each is not None]

    def _path_of(self, place: Place) -> Path:
        return self._path.joinpath(*place.folder, place.name)

    def _checked(self, place: Place) -> Path:
        """Return the path of a place beneath this folder.

        Raises:
            CannotSave: it is not beneath this folder.
        """
        for component in (*place.folder, place.name):
            is_name = component not in ("", ".", "..") and not (
                "/" in component or "\0" in component
            )
            with suppress(UnicodeEncodeError):
                if is_name and os.fsencode(component):
                    continue
            raise CannotSave(path=self._path, reason=f"{component!r} is not the name of a file")
        return self._path_of(place)
