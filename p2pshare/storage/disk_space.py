"""Free space on disks, and the errors for a full one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from p2pshare.errors import CannotSave, DiskFull, TooManyOpenFiles
from p2pshare.storage.open_file_limit import is_none_left
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.quantities import size_text

_FULL = {errno.ENOSPC, errno.EDQUOT}


def check_room(fd: int, needed: int, path: Path) -> None:
    """Check that the disk of an open file or folder has room for `needed` more bytes.

    Raises:
        DiskFull: it has not.
    """
    free, _ = _free(fd)
    if needed > free:
        raise DiskFull(path=path, needed=size_text(needed), free=size_text(free))


def saving_error(error: OSError, fd: int | Path, needed: int, path: Path) -> CannotSave:
    """Return the error for a failed write.

    Args:
        error: the failure.
        fd: an open file or folder on the disk, or its path.
        needed: bytes that were still to be written.
        path: the file's name for the user.
    """
    if error.errno not in _FULL:
        return cannot_save(error, path)
    free, takes_files = _free(fd)
    shown = size_text(free) if takes_files else "no room for another file"
    if error.errno == errno.EDQUOT:
        shown = "nothing of your quota"
    return DiskFull(path=path, needed=size_text(needed), free=shown)


def cannot_save(error: OSError, path: Path) -> CannotSave:
    """Return the error for a failed write that is not about room."""
    kind = TooManyOpenFiles if is_none_left(error) else CannotSave
    return kind(path=path, reason=plain_reason(error))


def replaced_error(error: OSError, path: Path) -> CannotSave:
    """Return the error for a file that replaced another one and could not be made durable."""
    reason = f"the old file was replaced, but the new one may not survive a loss of power ({plain_reason(error)})"
    return CannotSave(path=path, reason=reason)


def free_bytes(path: Path) -> int:
    """Return the bytes that this user may still write to the disk of a path; 0 if that is unknown."""
    return _free(path)[0]


def _free(fd: int | Path) -> tuple[int, bool]:
    """Return the bytes that this user may still write to the disk, and whether it takes another file."""
    try:
        status = os.statvfs(fd)
    except OSError:
        return 0, True
    return status.f_bavail * status.f_frsize, not status.f_files or bool(status.f_favail)
