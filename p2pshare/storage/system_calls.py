"""System calls that Python does not offer. Where one is missing, its function raises or says so."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

_RENAME_NOREPLACE = 1  # linux/fs.h
_RENAME_EXCL = 4  # sys/stdio.h of macOS
_KEEP_SIZE = 1  # linux/falloc.h
_PUNCH_HOLE = 2
_F_GETPATH = 50  # sys/fcntl.h of macOS
_PATH_SIZE = 1024  # bytes of the result
_STATFS_SIZE = 512  # bytes, more than any struct statfs has
_SYNCFS_TELLS = (5, 8)  # the first Linux whose syncfs reports failed writes
_LOCAL_DISKS = {0xEF53, 0x58465342, 0x9123683E, 0xF2F52010}  # ext4, XFS, Btrfs, F2FS: linux/magic.h
_NO_PREALLOCATION = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM}


def rename_no_replace(folder_fd: int, old: str, new: str) -> None:
    """Rename a file within a folder atomically, unless the new name is taken.

    Raises:
        FileExistsError: it is taken.
        OSError: it cannot be renamed; `ENOSYS` or `EINVAL` if the system does not support this call.
    """
    if sys.platform == "darwin":
        call, flag = _function("renameatx_np"), _RENAME_EXCL
    else:
        call, flag = _function("renameat2"), _RENAME_NOREPLACE
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _check(call(folder_fd, os.fsencode(old), folder_fd, os.fsencode(new), ctypes.c_uint(flag)))


def preallocate(fd: int, size: int) -> None:
    """Reserve room on the disk for the first `size` bytes, where that is cheap; the size of the file does not change.

    Raises:
        OSError: the disk is full, or a quota used up.
    """
    call = _function("fallocate")
    if call is None or size == 0 or not on_local_disk(fd):
        return
    try:
        _check(call(fd, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size)))
    except OSError as error:
        if error.errno not in _NO_PREALLOCATION:
            raise


def punch_hole(fd: int, start: int, size: int) -> None:
    """Release the disk space of a part of a file, where the disk supports that; the size of the file does not change.

    Raises:
        OSError: the disk fails.
    """
    call = _function("fallocate")
    if call is None or sys.platform != "linux":
        return
    try:
        _check(call(fd, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_int64(start), ctypes.c_int64(size)))
    except OSError as error:
        if error.errno not in _NO_PREALLOCATION:
            raise


def system_path(fd: int) -> Path | None:
    """Return the current path of an open folder, which may be outdated; None where the system does not tell.

    Raises:
        OSError: the system refuses.
    """
    if sys.platform == "darwin":
        told = fcntl.fcntl(fd, _F_GETPATH, bytes(_PATH_SIZE))
        return Path(os.fsdecode(told.partition(b"\0")[0]))
    return Path(os.readlink(f"/proc/self/fd/{fd}")) if sys.platform == "linux" else None


def can_sync_file_system(fd: int) -> bool:
    """Whether `sync_file_system` makes everything durable, and reports what it could not write."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if sys.platform != "linux" or _function("syncfs") is None or release is None:
        return False
    return (int(release[1]), int(release[2])) >= _SYNCFS_TELLS and on_local_disk(fd)


def sync_file_system(fd: int) -> None:
    """Make everything durable that was written to the file system of an open file.

    Raises:
        OSError: something that was written since `fd` was opened is lost, whoever wrote it.
    """
    call = _function("syncfs")
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _check(call(fd))


def on_local_disk(fd: int) -> bool:
    """Whether an open file is on a local disk of a known file system."""
    call = _function("fstatfs")
    if sys.platform != "linux" or call is None:
        return False
    answer = ctypes.create_string_buffer(_STATFS_SIZE)
    if call(fd, answer) != 0:
        return False
    kind = ctypes.c_long.from_buffer(answer).value  # f_type comes first
    return kind & 0xFFFFFFFF in _LOCAL_DISKS


@cache
def _function(name: str) -> Any:
    """Return a function of the C library, called without the interpreter's lock; None if there is none."""
    return getattr(ctypes.CDLL(None, use_errno=True), name, None)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
