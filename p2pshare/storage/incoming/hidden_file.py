"""The hidden file that becomes a file: its name follows from what it will be, and one process at a time has it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from blake3 import blake3

from p2pshare.errors import CannotSave, InUse
from p2pshare.storage.incoming.publishing import NEW_FILE, remove_name

PART_SUFFIX = ".part"
JOURNAL_SUFFIX = ".journal"
OPENINGS_MAX = 8  # of a file that others remove whenever it is opened

_PREFIX = ".p2pshare-"
_OPENING = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
_NOT_OURS = {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES}


def hidden_name(identity: bytes) -> str:
    """The name of the hidden files of a partial file, without their suffixes."""
    return f"{_PREFIX}{blake3(identity).hexdigest(8)}"


def open_hidden(folder_fd: int, hidden: str, path: Path) -> int:
    """Open and lock an empty part, which is made if need be.

    An earlier part and its journal are discarded, with the room that was reserved for them. Something else that has
    the name of the part is removed.

    That another name leads to it, too, is what a kill leaves between publishing the file and removing its hidden name,
    or a trap: what the other name leads to is left alone.

    Args:
        folder_fd: the folder, open.
        hidden: what the names of the part and its journal have in common.
        path: the final one, as the user calls it.

    Raises:
        InUse: another process has it, or another thread of this one.
        CannotSave: something that cannot be removed is in its place.
        OSError: the folder takes no file.
    """
    name = hidden + PART_SUFFIX
    for _ in range(OPENINGS_MAX):
        fd, is_new = _made(folder_fd, name, path), True
        if fd is None:
            fd, is_new = reopen_hidden(folder_fd, name, path), False
        if fd is None:
            continue
        try:
            remove_name(folder_fd, hidden + JOURNAL_SUFFIX)
            if not is_new:
                os.ftruncate(
                    fd, 0
                )  # even if its size is 0: this also frees room reserved behind its end
        except BaseException:
            os.close(fd)
            raise
        return fd
    raise InUse(path=path)


def reopen_hidden(folder_fd: int, name: str, path: Path) -> int | None:
    """Open and lock a hidden file that is there; None if there is none any more.

    Raises:
        InUse, CannotSave, OSError: as of `open_hidden`.
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


def is_still(fd: int, folder_fd: int, name: str) -> bool:
    """Whether a name in a folder is that of an open file."""
    try:
        there = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def held_since(path: Path | str, folder_fd: int | None = None) -> int | None:
    """Return when a hidden file that a process has was last written to, in ns since 1970; None if nobody has it."""
    try:
        fd = os.open(path, _READING, dir_fd=folder_fd)
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


def _made(folder_fd: int, name: str, path: Path) -> int | None:
    """Make and lock a hidden file; None if there is one, or another process took its name at once."""
    try:
        fd = os.open(name, NEW_FILE, 0o600, dir_fd=folder_fd)
    except FileExistsError:
        return None
    locked = False
    try:
        locked = _lock(fd, folder_fd, name, path)
    finally:
        if not locked:
            os.close(fd)
    return fd if locked else None


def _lock(fd: int, folder_fd: int, name: str, path: Path) -> bool:
    """Lock an open file; False if it has lost its name to who had it before."""
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
