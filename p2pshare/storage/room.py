"""Whether a disk has room, and what to say if it has none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from p2pshare.errors import CannotSave, DiskFull
from p2pshare.storage.reasons import plain_reason

_MIB = 1024 * 1024


def check_room(fd: int, needed: int, path: Path) -> None:
    """Check that the disk of an open file or folder takes `needed` bytes more.

    Raises:
        DiskFull: it does not.
    """
    if needed > (free := _free(fd)):
        raise _disk_full(path, needed, free)


def saving_error(error: OSError, fd: int, needed: int, path: Path) -> CannotSave:
    """What to say of a failure.

    Args:
        error: the failure.
        fd: an open file or folder on the disk in question.
        needed: bytes that were still to be written.
        path: what the user calls the file.
    """
    if error.errno == errno.ENOSPC:
        return _disk_full(path, needed, _free(fd))
    return CannotSave(path=path, reason=plain_reason(error))


def _disk_full(path: Path, needed: int, free: int) -> DiskFull:
    return DiskFull(path=path, needed=_text(needed), free=_text(free))


def _free(fd: int) -> int:
    """Bytes that the disk still takes from us."""
    try:
        status = os.statvfs(fd)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def _text(size: int) -> str:
    return f"{size} bytes" if size < _MIB else f"{size / _MIB:.1f} MiB"
