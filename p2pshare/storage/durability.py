"""Durability: files and folders that survive a loss of power.

**The order.** Content first, then what refers to it. A block is written, synced, and only then recorded in the journal
(`incoming.partial_file`), so the journal never claims a block that the disk lost. A complete file is synced before it
is linked under its name, and the folder is synced after that. Only then does the sharer hear `done`. With the sync
behind the link, a crash could leave a file of the right name and size without content. Private files
(`identity.private_file`) follow the same order with a rename.

**A sync that failed is never repeated.** After an error the kernel may mark pages as clean although they were not
written, and a second sync would then succeed. So the file counts as lost, and is written again.

**Many small files.** A sync of each of 10 000 files takes 5 to 7 s, one sync of the file system one second. So from 8
files on the file system is synced (`syncfs`). It is used only where it reports errors (Linux 5.8), and only if other
programs have little to write, since all of that is waited for. If it fails, each file is synced by itself, to know
which of them failed.
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
    """Make the names in an open folder durable, where the disk supports that.

    Raises:
        OSError: the disk fails.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def sync_path(path: Path, *, follow: bool = False) -> None:
    """Make the file or folder at `path` durable.

    Args:
        path: its name.
        follow: accept a link as the last component, such as a data folder that is kept on another disk.

    Raises:
        OSError: the disk fails, or `path` is a link that is not followed.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_files(fds: Iterable[int], witness: int) -> dict[int, OSError]:
    """Make many open files or folders durable.

    Args:
        fds: their descriptors.
        witness: a descriptor that was opened before any of this was written, on the file system of most of it.

    Returns:
        The error of each that could not be made durable.
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
    """Return the bytes that the whole machine has not yet written to its disks; 0 if that is unknown."""
    try:
        return 1024 * sum(map(int, _WAITING.findall(_MEMORY.read_text())))
    except OSError:
        return 0
