"""Making what was written outlast a loss of power: of one file, of many at once, of folders.

A sync that failed is never tried again: the kernel may have forgotten what it could not write, and would then call it
written.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from p2pshare.storage.system_calls import can_sync_file_system, sync_file_system

SYNC_ALL_MIN = 8  # files from which syncing the file system is quicker than syncing each
DIRTY_MAX = 256 * 1024 * 1024  # bytes that others may have waiting, for which we would wait, too

_MEMORY = Path("/proc/meminfo")
_WAITING = re.compile(r"^(?:Dirty|Writeback): +(\d+) kB$", re.MULTILINE)
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF}


def sync_folder(fd: int) -> None:
    """Make the names in an open folder durable, on a disk that can do that.

    Raises:
        OSError: the disk fails.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def sync_path(path: Path) -> None:
    """Make the file or folder at `path` durable, whose last component must not be a link.

    Raises:
        OSError: the disk fails.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_files(fds: Iterable[int], witness: int) -> dict[int, OSError]:
    """Make many open files durable, or folders.

    Of 8 or more on a local disk that has little else to write, the whole file system is synced: 10 000 small files
    take a second then, and 5 to 7 if each is synced by itself. Not if others have much to write, as all would wait for
    that. If it fails, each file is asked by itself, and tells whether it was one of those that could not be written.

    Args:
        fds: what is to be durable.
        witness: a descriptor of our own, opened before any of this was written, on the file system of most of it.

    Returns:
        What could not be made durable, and why.
    """
    device = os.fstat(witness).st_dev
    statuses = {fd: os.fstat(fd) for fd in fds}
    together = {fd for fd, status in statuses.items() if status.st_dev == device}
    if len(together) < SYNC_ALL_MIN or not can_sync_file_system(witness) or _waiting() > DIRTY_MAX:
        together.clear()
    else:
        try:
            sync_file_system(witness)
        except OSError:
            together.clear()
    failed = {}
    for fd, status in statuses.items():
        if fd not in together:
            try:
                (sync_folder if stat.S_ISDIR(status.st_mode) else os.fsync)(fd)
            except OSError as error:
                failed[fd] = error
    return failed


def _waiting() -> int:
    """Bytes that the whole machine has not yet written to its disks; 0 where that is not known."""
    try:
        return 1024 * sum(map(int, _WAITING.findall(_MEMORY.read_text())))
    except OSError:
        return 0
