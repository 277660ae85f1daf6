"""Giving a hidden file that is complete and durable its final name, so that nothing is overwritten unless asked."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from contextlib import suppress
from pathlib import Path, PurePath

from p2pshare.errors import CannotSave
from p2pshare.storage.incoming.destination import SUFFIX_MAX
from p2pshare.storage.system_calls import rename_no_replace

COPIES_MAX = 999  # numbered names, "alice (1).png" and so on, before giving up
FILE_NAME_MAX = 255  # bytes, of nearly every file system
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NO_SAFE_RENAME = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
_UMASK = re.compile(r"^Umask:\s*([0-7]+)$", re.MULTILINE)
_umask_lock = threading.Lock()


def publish(
    folder_fd: int, hidden_name: str, path: Path, *, overwrite: bool, number: int = 0
) -> str:
    """Give a hidden file its final name. It may have the hidden one still; `remove_name` takes that from it.

    Args:
        folder_fd: the folder, open, of both names.
        hidden_name: of the file.
        path: the final one, as the user calls it; its last component counts.
        overwrite: replace a plain file of that name; else the first free of `alice.png`, `alice (1).png` and so on is
            taken.
        number: of the first of these names that may be taken.

    Returns:
        The name.

    Raises:
        CannotSave: all are taken, or what is to be replaced is not a plain file.
        OSError: the disk fails.
    """
    if overwrite:
        path = path.with_name(numbered(path.name, number))
        _replace(folder_fd, hidden_name, path)
        return path.name
    for each in range(number, COPIES_MAX + 1):
        candidate = numbered(path.name, each)
        try:
            _claim(folder_fd, hidden_name, candidate)
        except FileExistsError:
            continue
        return candidate
    raise CannotSave(path=path, reason=f"there are {COPIES_MAX} copies of it already")


def remove_name(folder_fd: int, name: str) -> None:
    """Remove a name, if it is there.

    Raises:
        OSError: it cannot be removed.
    """
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder_fd)


def numbered(name: str, number: int) -> str:
    """`alice.png`, `alice (1).png`, …, cut to what a file system takes."""
    if number == 0:
        return name
    suffix = PurePath(name).suffix
    if len(os.fsencode(suffix)) > SUFFIX_MAX:  # a point in a long name, rather than a kind of file
        suffix = ""
    ending = f" ({number}){suffix}"
    stem = name.removesuffix(suffix)
    return shortened(stem, FILE_NAME_MAX - len(os.fsencode(ending))) + ending


def shortened(text: str, size_max: int) -> str:
    """As much of `text` as takes at most `size_max` bytes in a file name, in whole characters."""
    encoded = os.fsencode(text)
    return text if len(encoded) <= size_max else encoded[:size_max].decode("utf-8", "ignore")


def set_mode(fd: int, umask: int, *, executable: bool = False) -> None:
    """Make a file as open as the user's other files."""
    with suppress(PermissionError):  # a disk that knows no modes
        os.fchmod(fd, (0o777 if executable else 0o666) & ~umask)


def current_umask() -> int:
    """The umask. Where the kernel does not show it, it is read by setting it: for that moment, files are private."""
    with suppress(OSError):
        if (found := _UMASK.search(Path("/proc/self/status").read_text())) is not None:
            return int(found[1], 8)
    with _umask_lock:
        umask = os.umask(0o077)
        os.umask(umask)
    return umask


def _replace(folder_fd: int, hidden_name: str, path: Path) -> None:
    """Take the name from a regular file; a folder, a link or a device keeps it."""
    with suppress(FileNotFoundError):
        there = os.stat(path.name, dir_fd=folder_fd, follow_symlinks=False)
        if not stat.S_ISREG(there.st_mode):
            raise CannotSave(
                path=path, reason="what has this name is not a plain file, and is not replaced"
            )
    os.rename(hidden_name, path.name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def _claim(folder_fd: int, hidden_name: str, candidate: str) -> None:
    """Give the hidden file a name, atomically, or fail with `FileExistsError`."""
    try:
        os.link(
            hidden_name,
            candidate,
            src_dir_fd=folder_fd,
            dst_dir_fd=folder_fd,
            follow_symlinks=False,
        )
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _claim_without_links(folder_fd, hidden_name, candidate)


def _claim_without_links(folder_fd: int, hidden_name: str, candidate: str) -> None:
    """The same on a disk without links: FAT, some network disks."""
    try:
        rename_no_replace(folder_fd, hidden_name, candidate)
    except OSError as error:
        if error.errno not in _NO_SAFE_RENAME:
            raise
        # The name is reserved by an empty file, then replaced. Only a kill between these two lines can leave the
        # empty file.
        os.close(os.open(candidate, NEW_FILE, 0o600, dir_fd=folder_fd))
        try:
            os.rename(hidden_name, candidate, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except OSError:
            os.unlink(candidate, dir_fd=folder_fd)
            raise
