"""Whether a disk has room, and what to say if it has none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from p2pshare.errors import CannotSave, DiskFull, TooManyOpenFiles
from p2pshare.storage.open_files import is_none_left
from p2pshare.storage.reasons import plain_reason
from p2pshare.wire.quantities import size_text

_FULL = {errno.ENOSPC, errno.EDQUOT}


def check_room(fd: int, needed: int, path: Path) -> None:
    """Check that the disk of an open file or folder takes `needed` bytes more.

    Raises:
        DiskFull: it does not.
    """
    if needed > (free := _free(fd)):
        raise DiskFull(path=path, needed=size_text(needed), free=size_text(free))


def saving_error(error: OSError, fd: int | Path, needed: int, path: Path) -> CannotSave:
    """What to say of a failure.

    Args:
        error: the failure.
        fd: a file or folder on the disk in question, open, or its path.
        needed: bytes that were still to be written.
        path: what the user calls the file.
    """
    if error.errno not in _FULL:
        return cannot_save(error, path)
    if error.errno == errno.EDQUOT:
        free = "nothing of your quota"
    else:
        free = "no room for another file" if _takes_no_file(fd) else size_text(_free(fd))
    return DiskFull(path=path, needed=size_text(needed), free=free)


def cannot_save(error: OSError, path: Path) -> CannotSave:
    """What to say of a failure that is not about room."""
    kind = TooManyOpenFiles if is_none_left(error) else CannotSave
    return kind(path=path, reason=plain_reason(error))


def replaced_error(error: OSError, path: Path) -> CannotSave:
    """What to say where a file has taken the place of another one, and that could not be made durable."""
    reason = f"what had this name is replaced, but the disk may not keep the new one ({plain_reason(error)})"
    return CannotSave(path=path, reason=reason)


def _free(fd: int | Path) -> int:
    """Bytes that the disk still takes from us."""
    try:
        status = os.statvfs(fd)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def _takes_no_file(fd: int | Path) -> bool:
    """Whether it is the number of files that is at its end, on a disk that bounds it."""
    try:
        status = os.statvfs(fd)
    except OSError:
        return False
    return bool(status.f_files) and not status.f_favail
