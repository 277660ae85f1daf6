"""Open folders beneath a folder. Each is opened from the one above it, so no link leads elsewhere."""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from p2pshare.errors import CannotSave
from p2pshare.storage.disk_space import saving_error
from p2pshare.storage.durability import sync_files
from p2pshare.storage.open_file_limit import is_none_left, share_of_files
from p2pshare.storage.system_calls import system_path

HANDLES_MAX = 128  # folders that stay open while unused; fewer under a low limit on open files
FOLDER_SIZE = 4096  # bytes of an empty folder on most disks
SYNCED_MAX = 256  # folders that are synced at once
FILES_PART = 8  # one in 8 of the open files that the limit leaves, for each of the two

Folder = tuple[str, ...]
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_FOLDER = {errno.ENOTDIR, errno.ELOOP}


def path_of(fd: int, path: Path) -> Path | None:
    """Return a path of an open folder, `path` if it is still one; None if there is none."""
    status = os.fstat(fd)
    for candidate in (lambda: path, lambda: system_path(fd)):
        with suppress(OSError):
            there = candidate()
            if there is not None and os.path.samestat(os.stat(there), status):
                return there
    return None


@dataclass(slots=True)
class _Handle:
    fd: int
    users: int = 0


class FolderHandles:
    """Open folders beneath one, created if necessary. Thread-safe."""

    def __init__(self, path: Path, fd: int) -> None:
        """Args:
        path: the top folder, as the user calls it.
        fd: the same, open; it is closed with this object.
        """
        self._path = path
        self._fd = fd
        self._handles_max = share_of_files(HANDLES_MAX, FILES_PART)
        self._handles: OrderedDict[Folder, _Handle] = OrderedDict()
        self._unsynced: set[Folder] = set()  # folders with new folders
        self._lock = threading.RLock()
        self._sync_lock = threading.Lock()
        self._open = True

    @contextmanager
    def using(self, folder: Folder, *, make: bool) -> Iterator[int]:
        """Yield the descriptor of an open folder, valid until the end of the block.

        Raises:
            FileNotFoundError: it does not exist, and `make` is False.
            NotADirectoryError: the same, and something else has its name.
            OSError: too many files are open, even without unused folders.
            DiskFull, CannotSave: it cannot be made; the error names what has its name.
            ValueError: this object is closed.
        """
        handle = self._taken(folder, make)
        try:
            yield handle.fd
        finally:
            with self._lock:
                handle.users -= 1
                self._shrink()

    @property
    def unsynced(self) -> int:
        """The number of folders with new folders that are not durable."""
        with self._lock:
            return len(self._unsynced)

    def sync(
        self, folders: Iterable[Folder] = (), witness: int | None = None
    ) -> dict[Folder, OSError]:
        """Make durable the names in folders, and all folders made since the last call.

        Args:
            folders: the folders.
            witness: as in `sync_files`.

        Returns:
            The folders for which it failed, and those beneath them.
        """
        with self._sync_lock:
            with self._lock:
                made, self._unsynced = self._unsynced, set()
                wanted = list(dict.fromkeys([*folders, *made]))
                if not self._open:
                    closed = OSError(errno.EBADF, os.strerror(errno.EBADF))
                    return dict.fromkeys(wanted, closed)
            failed: dict[Folder, OSError] = {}
            at_once = share_of_files(SYNCED_MAX, FILES_PART)
            start = 0
            while start < len(wanted):
                start += self._sync_some(wanted[start : start + at_once], witness, failed)
            with self._lock:
                self._unsynced |= made & failed.keys()
            for folder in wanted:
                for depth in range(len(folder)):
                    if (above := folder[:depth]) in failed and above in made:
                        failed.setdefault(folder, failed[above])
            return failed

    def _sync_some(
        self, folders: list[Folder], witness: int | None, failed: dict[Folder, OSError]
    ) -> int:
        """Sync as many of the folders as can be open at once; return their number, failed ones included."""
        fds: dict[Folder, int] = {}
        count = len(folders)
        with ExitStack() as using:
            for number, folder in enumerate(folders):
                try:
                    fds[folder] = using.enter_context(self.using(folder, make=False))
                except OSError as error:
                    if is_none_left(error) and fds:  # the others follow when these are closed
                        count = number
                        break
                    failed[folder] = error  # usually somebody has removed it
            refused = sync_files(fds.values(), self._fd if witness is None else witness)
        failed |= {folder: refused[fd] for folder, fd in fds.items() if fd in refused}
        return count

    def free(self) -> bool:
        """Close all unused folders, since too many files are open; whether there were any."""
        with self._lock:
            idle = [folder for folder, handle in self._handles.items() if not handle.users]
            for folder in idle:
                self._forget(folder)
            return bool(idle)

    def close(self) -> None:
        """Close all folders, those in use when their last user ends. May be called again."""
        self.sync()
        with self._lock:
            if self._open:
                self._open = False
                self._shrink()

    def _taken(self, folder: Folder, make: bool) -> _Handle:
        with self._lock:
            if not self._open:
                raise ValueError("the folder is closed already")
            handle = self._handles.get(folder)
            if handle is not None and os.fstat(handle.fd).st_nlink == 0 and not handle.users:
                self._forget(folder)  # somebody has removed it
                handle = None
            if handle is None:
                try:
                    handle = _Handle(self._opened(folder, make))
                except OSError as error:
                    if not is_none_left(error) or not self.free():
                        raise
                    handle = _Handle(self._opened(folder, make))
                self._handles[folder] = handle
            self._handles.move_to_end(folder)
            handle.users += 1
            self._shrink()
            return handle

    def _opened(self, folder: Folder, make: bool) -> int:
        if not folder:
            return os.dup(self._fd)
        *above, name = folder
        handle = self._taken(tuple(above), make)
        try:
            if make:
                self._make(name, handle.fd, tuple(above))
            return os.open(name, OPEN_FOLDER, dir_fd=handle.fd)
        except OSError as error:
            if is_none_left(error):
                raise
            if not make:
                if error.errno in _NO_FOLDER:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
                raise
            path = self._path.joinpath(*folder)
            if error.errno not in _NO_FOLDER:
                raise saving_error(error, handle.fd, FOLDER_SIZE, path) from error
            reason = "it is in the way, for a folder must be here"
            raise CannotSave(path=path, reason=reason) from error
        finally:
            handle.users -= 1

    def _make(self, name: str, above_fd: int, above: Folder) -> None:
        try:
            os.mkdir(name, 0o777, dir_fd=above_fd)
        except FileExistsError:
            return
        self._unsynced.add(above)

    def _shrink(self) -> None:
        """Close unused folders above the bound, the least recently used first."""
        kept_max = self._handles_max if self._open else 0
        if len(self._handles) > kept_max:
            for folder in [each for each, handle in self._handles.items() if not handle.users]:
                if len(self._handles) <= kept_max:
                    return
                self._forget(folder)
        if not self._open and not self._handles and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _forget(self, folder: Folder) -> None:
        os.close(self._handles.pop(folder).fd)
