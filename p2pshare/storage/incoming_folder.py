"""The folder beneath which all files of a job go.

Every folder beneath it is reached from the one above, by handles that follow no links, and a name is one component:
whatever a stranger calls a file, it lands in here. How a file becomes one is in `incoming`, and for many small ones in
`whole_files`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from p2pshare.errors import CannotSave, TransferFailed
from p2pshare.storage.announcement import Announced, Origin, Place, WholeFile
from p2pshare.storage.folder_handles import HANDLES_MAX, Folder, FolderHandles
from p2pshare.storage.hidden_file import (
    JOURNAL_SUFFIX,
    PART_SUFFIX,
    hidden_name,
    identity_of,
    open_hidden,
    reopen_hidden,
)
from p2pshare.storage.incoming import Incoming
from p2pshare.storage.part_journal import PartJournal
from p2pshare.storage.publishing import COPIES_MAX, current_umask, numbered, remove_name
from p2pshare.storage.reasons import plain_reason
from p2pshare.storage.room import saving_error
from p2pshare.storage.whole_files import BATCH_MAX, WholeFiles
from p2pshare.wire.blocks import FILE_SIZE_MAX

UNSYNCED_MAX = 4096  # folders in which folders were made, upon which those are made durable

_OPENING = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_JOURNAL = {errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES}


class IncomingFolder(AbstractContextManager["IncomingFolder"]):
    """An open folder. Every call may block, and may come from any thread.

    Where a place is not one beneath this folder, as no component may be empty, `.`, `..`, or hold a slash, each call
    raises `CannotSave`; so it does for a link or a file where a folder must be, which it names.
    """

    def __init__(self, path: Path, fd: int, *, handles_max: int = HANDLES_MAX) -> None:
        """Take over the open folder `fd`, which the user calls `path`; see `open`."""
        self._path = path
        self._handles = FolderHandles(path, fd, handles_max=handles_max)
        self._umask = current_umask()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder, which must exist; the way to it may have links.

        Raises:
            CannotSave: it is not there, or none.
        """
        try:
            return cls(path, os.open(path, _OPENING))
        except OSError as error:
            raise CannotSave(path=path, reason=plain_reason(error)) from error

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
        """The file, if it is there already: a plain one of this name, or numbered, with this size and time.

        Args:
            place: where it would go.
            size: its bytes.
            mtime_ns: when it was last changed, in nanoseconds since 1970.
            origin: if it is there, what a kill has left of its part is removed.
            overwrite: it is to have this very name, whatever else has it, so that a numbered one is none.
            skip: so many such files are others, by names that have become this one.

        Raises:
            CannotSave: the folder cannot be looked at.
        """
        path = self._checked(place)
        try:
            with self._handles.using(place.folder, make=False) as folder_fd:
                for number in range(1 if overwrite else COPIES_MAX + 1):
                    name = numbered(place.name, number)
                    there = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
                    if (
                        stat.S_ISREG(there.st_mode)
                        and there.st_size == size
                        and there.st_mtime_ns == mtime_ns
                    ):
                        if skip:
                            skip -= 1
                            continue
                        if origin is not None:
                            self._tidy(folder_fd, place, origin, path)
                        return path.with_name(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise CannotSave(path=path, reason=plain_reason(error)) from error
        return None

    def make_folder(self, folder: Folder) -> None:
        """Make a folder, and those above it, unless they are there.

        Raises:
            DiskFull, CannotSave: it cannot be made.
        """
        path = self._checked(Place(folder, "file")).parent
        try:
            with self._handles.using(folder, make=True):
                pass
            if self._handles.unsynced > UNSYNCED_MAX:
                self._sync_made()
        except OSError as error:
            raise CannotSave(path=path, reason=plain_reason(error)) from error

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
            raise CannotSave(path=path, reason=plain_reason(error)) from error
        if incoming is None:
            return None
        try:
            incoming.reverify(on_progress, stop)
        except OSError as error:
            incoming.close()
            raise CannotSave(path=path, reason=plain_reason(error)) from error
        except BaseException:
            incoming.close()
            raise
        if not incoming.have:
            incoming.discard()
            return None
        return incoming

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
        for start in range(0, len(files), BATCH_MAX):
            results += self._store_batch(files[start : start + BATCH_MAX])
        return results

    def close(self) -> None:
        """Make durable the folders that were made, and close. May be called again; what has begun goes on."""
        self._handles.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the folder."""
        self.close()

    def _store_batch(self, files: Sequence[WholeFile]) -> list[Path | TransferFailed]:
        results: list[Path | TransferFailed | None] = [None] * len(files)
        numbers = []
        for number, file in enumerate(files):
            try:
                self._checked(file.place)
                numbers.append(number)
            except CannotSave as error:
                results[number] = error
        with self._handles.using((), make=False) as root_fd:
            witness = os.open(".", _OPENING, dir_fd=root_fd)
            try:
                batch = WholeFiles(self._path, self._handles, witness, self._umask)
                stored = batch.store([files[number] for number in numbers])
            finally:
                os.close(witness)
        for number, result in zip(numbers, stored, strict=True):
            results[number] = result
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
                self._remove_hidden(folder_fd, hidden)
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
        return Incoming(
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
            journal=journal,
        )

    def _tidy(self, folder_fd: int, place: Place, origin: Origin, path: Path) -> None:
        """Remove the part and the journal of a file that is there, unless somebody is at them."""
        hidden = hidden_name(identity_of(place, origin))
        with suppress(OSError, CannotSave):
            fd = reopen_hidden(folder_fd, hidden + PART_SUFFIX, path)
            try:
                self._remove_hidden(folder_fd, hidden)
            finally:
                if fd is not None:
                    os.close(fd)

    @staticmethod
    def _remove_hidden(folder_fd: int, hidden: str) -> None:
        for suffix in (PART_SUFFIX, JOURNAL_SUFFIX):
            remove_name(folder_fd, hidden + suffix)

    def _sync_made(self) -> None:
        for error in self._handles.sync().values():
            raise error

    def _checked(self, place: Place) -> Path:
        """The path of a place that is beneath this folder."""
        for component in (*place.folder, place.name):
            if component in ("", ".", "..") or "/" in component or "\0" in component:
                raise CannotSave(path=self._path, reason=f"{component!r} is not the name of a file")
            try:
                os.fsencode(component)
            except UnicodeEncodeError:
                reason = f"{component!r} is not the name of a file"
                raise CannotSave(path=self._path, reason=reason) from None
        return self._path.joinpath(*place.folder, place.name)
