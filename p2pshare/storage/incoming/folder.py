"""The folder beneath which all files of a job go.

Every folder beneath it is reached from the one above, by handles that follow no links, and a name is one component:
whatever a stranger calls a file, it lands in here. How a file becomes one is in `incoming`, and for many small ones in
`whole_files`.
"""

from __future__ import annotations

import errno
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
from p2pshare.storage.incoming.announcement import Announced, Origin, Place, WholeFile, identity_of
from p2pshare.storage.incoming.claimed_names import Claims
from p2pshare.storage.incoming.folder_handles import Folder, FolderHandles, path_of
from p2pshare.storage.incoming.hidden_file import (
    JOURNAL_SUFFIX,
    PART_SUFFIX,
    discard_hidden,
    held_since,
    hidden_name,
    open_hidden,
    remove_hidden,
    reopen_hidden,
)
from p2pshare.storage.incoming.journal import PartJournal
from p2pshare.storage.incoming.local_names import LocalNames
from p2pshare.storage.incoming.partial_file import Incoming
from p2pshare.storage.incoming.present_files import Absent, Presence, Present, Sought
from p2pshare.storage.incoming.publishing import current_umask, remove_name
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.storage.incoming.small_files import BATCH_MAX, FILES_PART, WholeFiles
from p2pshare.storage.open_files import is_none_left, share_of_files
from p2pshare.storage.reasons import plain_reason
from p2pshare.wire.blocks import FILE_SIZE_MAX
from p2pshare.wire.paths import RemotePath

UNSYNCED_MAX = 4096  # folders in which folders were made, upon which those are made durable

_OPENING = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_JOURNAL = {errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES}


@dataclass(frozen=True, slots=True)
class Misdated:
    """A file whose time is not what its sharer says; both are in nanoseconds since 1970."""

    path: RemotePath
    said_ns: int
    kept_ns: int


class IncomingFolder(AbstractContextManager["IncomingFolder"]):
    """An open folder. Every call may block, and may come from any thread.

    Where a place is not one beneath this folder, as no component may be empty, `.`, `..`, or hold a slash, each call
    raises `CannotSave`; so it does for a link or a file where a folder must be, which it names.
    """

    def __init__(
        self,
        path: Path,
        fd: int,
        *,
        handles_max: int | None = None,
        saved: SavedFiles | None = None,
        claims: Claims | None = None,
        portable_names: bool = False,
    ) -> None:
        """Take over the open folder `fd`, which the user calls `path`; see `open`."""
        self._path = path
        self._handles = FolderHandles(path, fd, handles_max=handles_max)
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
        """The first file whose time the file system could not hold."""
        self._umask = current_umask()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        saved: SavedFiles | None = None,
        claims: Claims | None = None,
        portable_names: bool = False,
    ) -> Self:
        """Open a folder, which must exist; the way to it may have links.

        Args:
            path: the folder.
            saved: the records of what was saved before; None: there are none.
            claims: the names that are taken by the same command; None: none are.
            portable_names: whether all names are changed that some file system would not take.

        Raises:
            CannotSave: it is not there, or none.
        """
        try:
            fd = os.open(path, _OPENING)
        except OSError as error:
            raise CannotSave(path=path, reason=plain_reason(error)) from error
        return cls(path, fd, saved=saved, claims=claims, portable_names=portable_names)

    def check(self) -> None:
        """Notice that somebody has moved the folder, or removed it.

        Raises:
            DestinationGone: no path leads to it any more.
        """
        try:
            with self._handles.using((), make=False) as fd:
                path = path_of(fd, self._path)
        except OSError as error:
            if is_none_left(error):  # the next look tells
                return
            raise
        if path is None:
            raise DestinationGone(path=self._path)
        if path != self._path:
            self._path = path
            self._presence.moved(path)

    def look_up(self, sought: Sought) -> Present | Absent:
        """Return the file if it is known to be there, and else where it goes; see `storage.incoming.present_files`.

        Raises:
            CannotSave: the folder cannot be looked at, or there is no free name.
        """
        (found,) = self.look_up_all([sought])
        if isinstance(found, CannotSave):
            raise found
        return found

    def look_up_all(self, sought: Sequence[Sought]) -> list[Present | Absent | CannotSave]:
        """Do the same for many files, which is faster; with the error of each that cannot be looked up."""
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
        """Return which of the candidates is the file that has this root, and else where it goes.

        Args:
            sought: as of `look_up`, with the place that it told.
            candidates: of `look_up`.
            root: what the sharer says.
            stop: is asked before each block that is read.

        Raises:
            Stopped: `stop` said so.
            CannotSave: the folder cannot be looked at, or there is no free name.
        """
        self._check(sought.place)
        try:
            found = self._presence.settle(sought, candidates, root, stop)
        except OSError as error:
            raise cannot_save(error, self._path_of(sought.place)) from error
        if isinstance(found, Present):
            with suppress(OSError), self._handles.using(sought.place.folder, make=False) as fd:
                self._tidy(fd, sought.place, sought.origin, found.path)
        return found

    def local_place(self, place: Place) -> Place:
        """Return the place with the names that its file system takes.

        Raises:
            CannotSave: a name is none.
        """
        self._check(place)
        try:
            return self._names.place(place)
        except OSError as error:
            raise cannot_save(error, self._path_of(place)) from error

    def make_folder(self, folder: Folder) -> Folder:
        """Make a folder, and those above it, unless they are there; returns the names that they have.

        Raises:
            DiskFull, CannotSave: it cannot be made.
        """
        folder = self.local_place(Place(folder, "file")).folder
        path = self._path.joinpath(*folder)
        try:
            with self._handles.using(folder, make=True):
                pass
            if self._handles.unsynced > UNSYNCED_MAX:
                self._sync_made()
            return folder
        except OSError as error:
            raise cannot_save(error, path) from error

    def resume(
        self,
        place: Place,
        origin: Origin,
        *,
        overwrite: bool = False,
        on_progress: Callable[[int, int], object] = lambda done, total: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Incoming | None:
        """Go on with a partial file of this origin, if there is one: its `announced` is that of the time when it was
        begun. The blocks of which its journal tells are hashed again; without one that is still right, nothing is left.

        Args:
            place: where it goes.
            origin: which file it is.
            overwrite: as of `begin`.
            on_progress: is told, in this thread, how many of how many blocks were hashed.
            stop: is asked, in this thread, before each of them.

        Raises:
            InUse: another process has it.
            CannotSave: it cannot be read.
            Stopped: `stop` said so; the partial file is kept.
        """
        path = self._checked(place)
        hidden = hidden_name(identity_of(place, origin))
        try:
            with self._handles.using(place.folder, make=False) as folder_fd:
                fd = reopen_hidden(folder_fd, hidden + PART_SUFFIX, path)
                if fd is None:
                    remove_name(folder_fd, hidden + JOURNAL_SUFFIX)
                    return None
                incoming = self._resumed(folder_fd, fd, hidden, path, place, origin, overwrite)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise cannot_save(error, path) from error
        if incoming is None:
            return None
        try:
            incoming.reverify(on_progress, stop)
        except OSError as error:
            incoming.close()
            raise cannot_save(error, path) from error
        except BaseException:
            incoming.close()
            raise
        if not incoming.have:
            incoming.discard()
            return None
        return incoming

    def held_since(self, place: Place, origin: Origin) -> int | None:
        """Return when the process that fetches a file wrote to it last, in ns since 1970; None if no process has it."""
        self._check(place)
        hidden = hidden_name(identity_of(place, origin))
        try:
            with self._handles.using(place.folder, make=False) as folder_fd:
                return held_since(hidden + PART_SUFFIX, folder_fd)
        except OSError:
            return None

    def give_back(self, place: Place) -> None:
        """Give back the name that `look_up` claimed for a file, which is then to be looked up again."""
        self._presence.give_back(place)

    def begin(
        self, place: Place, origin: Origin, announced: Announced, *, overwrite: bool = False
    ) -> Incoming:
        """Begin a file; what there is of an earlier one of this origin is discarded.

        Args:
            place: where it goes; folders on the way are made.
            origin: which file it is.
            announced: what is said of it.
            overwrite: replace a plain file of that name, in the end.

        Raises:
            InUse: another process has it.
            DiskFull: the disk has no room for it; nothing is left.
            CannotSave: it cannot be made.
        """
        if not 0 <= announced.size <= FILE_SIZE_MAX:
            raise ValueError(f"{announced.size} bytes are no size of a file")
        path = self._checked(place)
        hidden = hidden_name(identity_of(place, origin))
        try:
            with self._handles.using(place.folder, make=True) as folder_fd:
                fd = open_hidden(folder_fd, hidden, path)
                try:
                    incoming = self._incoming(
                        folder_fd, fd, hidden, path, place, origin, announced, overwrite
                    )
                except BaseException:
                    os.close(fd)
                    raise
        except OSError as error:
            self.check()
            raise saving_error(error, self._path, announced.size, path) from error
        try:
            incoming.reserve()
        except BaseException:
            incoming.discard()
            raise
        return incoming

    def store_whole(self, files: Sequence[WholeFile]) -> list[Path | TransferFailed]:
        """Verify small files, write them, make them durable all at once, and publish them.

        Returns:
            For each its path; or a `BlockCorrupt`, `DiskFull`, `InUse` or other `CannotSave`, and then nothing is left
            of it. An error of one file concerns no other.
        """
        results: list[Path | TransferFailed] = []
        at_once = share_of_files(BATCH_MAX, FILES_PART)
        while rest := files[len(results) : len(results) + at_once]:
            results += self._store_batch(rest)
        return results

    def close(self) -> None:
        """Make durable the folders that were made, and close. May be called again; what has begun goes on."""
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
                witness = os.open(".", _OPENING, dir_fd=root_fd)
        except OSError as error:
            return [cannot_save(error, self._path_of(each.place)) for each in files]
        try:
            batch = WholeFiles(self._path, self._handles, witness, self._umask)
            stored = batch.store([files[number] for number in numbers])
            self._note(batch.saved)
        finally:
            os.close(witness)
        for number, result in zip(numbers, stored, strict=False):
            results[number] = result
        if len(stored) < len(numbers):
            del results[numbers[len(stored)] :]
        return [each for each in results if each is not None]

    def _resumed(
        self,
        folder_fd: int,
        fd: int,
        hidden: str,
        path: Path,
        place: Place,
        origin: Origin,
        overwrite: bool,
    ) -> Incoming | None:
        """What its journal, if it has one that can be read, makes of a locked part."""
        try:
            try:
                identity = identity_of(place, origin)
                read = PartJournal.reopen(folder_fd, hidden + JOURNAL_SUFFIX, identity)
            except OSError as error:
                if error.errno not in _NO_JOURNAL:
                    raise
                read = None
            if read is None:
                remove_hidden(folder_fd, hidden)
                os.close(fd)
                return None
        except BaseException:
            os.close(fd)
            raise
        journal, announced = read
        return self._incoming(
            folder_fd, fd, hidden, path, place, origin, announced, overwrite, journal
        )

    def _incoming(
        self,
        folder_fd: int,
        fd: int,
        hidden: str,
        path: Path,
        place: Place,
        origin: Origin,
        announced: Announced,
        overwrite: bool,
        journal: PartJournal | None = None,
    ) -> Incoming:
        def on_published(name: str, status: os.stat_result, root: bytes) -> None:
            said = incoming.announced
            self._note([(WholeFile(place, origin, said, b"", (), root), name, status)])

        incoming = Incoming(
            os.dup(folder_fd),
            fd,
            hidden,
            path,
            place,
            origin,
            announced,
            umask=self._umask,
            overwrite=overwrite,
            sync_folders=self._sync_made,
            check_folder=self.check,
            on_published=on_published,
            journal=journal,
        )
        return incoming

    def _note(self, saved: Sequence[tuple[WholeFile, str, os.stat_result]]) -> None:
        """Remember what was saved, and whether its time is not what it was to be."""
        rows = []
        for file, name, status in saved:
            said = file.announced
            sought = Sought(file.place, file.origin, said.size, said.version)
            rows.append((sought, name, status, file.root))
            if self.misdated is None and abs(status.st_mtime_ns - said.mtime_ns) > COARSE_TICK:
                self.misdated = Misdated(file.origin.path, said.mtime_ns, status.st_mtime_ns)
        self._presence.record(rows)

    def _tidy(self, folder_fd: int, place: Place, origin: Origin, path: Path) -> None:
        """Remove the part and the journal of a file that is there, unless somebody is at them."""
        hidden = hidden_name(identity_of(place, origin))
        with suppress(OSError, CannotSave):
            discard_hidden(folder_fd, hidden, path)

    def _sync_made(self) -> None:
        for error in self._handles.sync().values():
            raise error

    def _checked(self, place: Place) -> Path:
        """The path of a place that is beneath this folder."""
        self._check(place)
        return self._path_of(place)

    def _path_of(self, place: Place) -> Path:
        return self._path.joinpath(*place.folder, place.name)

    def _check(self, place: Place) -> None:
        for component in (*place.folder, place.name):
            if component in ("", ".", "..") or "/" in component or "\0" in component:
                raise CannotSave(path=self._path, reason=f"{component!r} is not the name of a file")
            try:
                os.fsencode(component)
            except UnicodeEncodeError:
                reason = f"{component!r} is not the name of a file"
                raise CannotSave(path=self._path, reason=reason) from None
