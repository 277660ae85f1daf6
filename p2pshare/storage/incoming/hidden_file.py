"""The hidden file that later becomes a published file. Its name follows from what it will be; one process locks it.

The name is a hash of the sharer's key, the remote path and the local place, so the next try finds the file without an
index. The lock (`flock`) ends with the process that holds it, so a file without a lock is left over from a crash.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from blake3 import blake3

from p2pshare.errors import CannotSave, InUse
from p2pshare.storage.incoming.announcement import Origin, Place, identity_of
from p2pshare.storage.incoming.publishing import NEW_FILE, READ_FILE, is_still, remove_name

PART_SUFFIX = ".part"
JOURNAL_SUFFIX = ".journal"
OPENINGS_MAX = 8  # tries to open a file that other processes keep removing

_PREFIX = ".p2pshare-"
_OPENING = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
_NOT_OURS = {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES}


def hidden_name(place: Place, origin: Origin) -> str:
    """Return the name of the hidden files of a partial file, without their suffixes."""
    return f"{_PREFIX}{blake3(identity_of(place, origin)).hexdigest(8)}"


def is_absent(folder: Path, place: Place, origin: Origin) -> bool:
    """Whether neither a file that goes to `place` nor a part of it is in a destination folder."""
    target = folder.joinpath(*place.folder)
    part = hidden_name(place, origin) + PART_SUFFIX
    return not (os.path.lexists(target / place.name) or os.path.lexists(target / part))


def create_hidden(folder_fd: int, name: str, path: Path) -> int:
    """Create and lock a hidden file; return its descriptor.

    Args:
        folder_fd: the open folder.
        name: the hidden name.
        path: the final path, for errors.

    Raises:
        FileExistsError: the name is taken, or another process removed the file at once.
        InUse: another process locked the file at once.
        OSError: the folder accepts no file.
    """
    fd = os.open(name, NEW_FILE, 0o600, dir_fd=folder_fd)
    locked = False
    try:
        locked = _lock(fd, folder_fd, name, path)
        if not locked:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        return fd
    finally:
        if not locked:
            os.close(fd)


def open_hidden(folder_fd: int, hidden: str, path: Path) -> int:
    """Open and lock an empty part, and create it if necessary; return its descriptor.

    An earlier part and its journal are discarded, together with their reserved room. Anything else that has the name
    of the part is removed. A part with a second name was published before a kill, or is a trap. Its content is left
    alone; only the hidden name goes.

    Args:
        folder_fd: the open folder.
        hidden: the common start of the names of the part and its journal.
        path: the final path, for errors.

    Raises:
        InUse: another process or thread has it.
        CannotSave: something in its place cannot be removed.
        OSError: the folder accepts no file.
    """
    name = hidden + PART_SUFFIX
    for _ in range(OPENINGS_MAX):
        is_new = True
        try:
            fd: int | None = create_hidden(folder_fd, name, path)
        except FileExistsError:
            fd, is_new = reopen_hidden(folder_fd, name, path), False
        if fd is None:
            continue
        try:
            remove_name(folder_fd, hidden + JOURNAL_SUFFIX)
            if not is_new:
                os.ftruncate(fd, 0)  # even at size 0: it also frees room reserved past the end
        except BaseException:
            os.close(fd)
            raise
        return fd
    raise InUse(path=path)


def reopen_hidden(folder_fd: int, name: str, path: Path) -> int | None:
    """Open and lock an existing hidden file; return its descriptor, or None if there is none any more.

    Raises:
        InUse, CannotSave, OSError: as in `open_hidden`.
    """
    for _ in range(OPENINGS_MAX):
        try:
            fd = os.open(name, _OPENING, dir_fd=folder_fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _NOT_OURS:
                raise
            _remove_foreign(folder_fd, name, path)
            return None
        opened = False
        try:
            if not _is_ours(fd):
                _remove_foreign(folder_fd, name, path)
                return None
            if not _lock(fd, folder_fd, name, path):
                continue
            status = os.fstat(fd)
            if status.st_nlink > 1:
                remove_name(folder_fd, name)
                return None
            if status.st_mode & 0o077:
                os.fchmod(fd, 0o600)
            opened = True
            return fd
        finally:
            if not opened:
                os.close(fd)
    raise InUse(path=path)


def remove_hidden(folder_fd: int, hidden: str) -> None:
    """Remove the names of a part and its journal.

    Raises:
        OSError: one of them cannot be removed.
    """
    for suffix in (PART_SUFFIX, JOURNAL_SUFFIX):
        remove_name(folder_fd, hidden + suffix)


def discard_hidden(folder_fd: int, hidden: str, path: Path) -> None:
    """Remove a part and its journal unless a process has them.

    Raises:
        InUse: a process has the part.
        CannotSave, OSError: it cannot be removed.
    """
    fd = reopen_hidden(folder_fd, hidden + PART_SUFFIX, path)
    try:
        remove_hidden(folder_fd, hidden)
    finally:
        if fd is not None:
            os.close(fd)


def held_since(path: Path | str, folder_fd: int | None = None) -> int | None:
    """Return when a hidden file that a process has was last written, in ns since 1970; None if no process has it."""
    try:
        fd = os.open(path, READ_FILE, dir_fd=folder_fd)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.fstat(fd).st_mtime_ns
    except OSError:
        return None
    else:
        return None
    finally:
        os.close(fd)


def _lock(fd: int, folder_fd: int, name: str, path: Path) -> bool:
    """Lock an open file; False if its previous owner removed the name meanwhile."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(path=path) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return is_still(fd, folder_fd, name)


def _is_ours(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _remove_foreign(folder_fd: int, name: str, path: Path) -> None:
    try:
        remove_name(folder_fd, name)
    except OSError as error:
        raise CannotSave(
            path=path, reason=f"{name} is in the way, and cannot be removed"
        ) from error
