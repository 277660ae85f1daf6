"""Publishing: give a complete, durable hidden file its final name, and never overwrite another file unless asked.

Every file that arrives goes through the steps below, whatever brings it: blocks (`partial_file`), batches of small
files (`small_files`) or a stream (`sequential_file`). The column on the right says what a `kill -9` or a power cut
after the step costs.

::

    1. write the bytes into a hidden, locked file         all blocks that are not journalled, and small files
    2. fdatasync the file, then journal its blocks        blocks written since: at most half a second's worth
    3. set size, times and mode; fsync the file           the same
    4. check that the hidden name is still this file      the same
    5. link the final name, which fails if it exists      a kill: nothing; a power cut: the same as before
    6. fsync the folder, and new folders above it         nothing
    7. remove the hidden name and the journal             nothing

Why this order:

* The journal (2) comes after the data. The reverse order would journal blocks that a power cut has lost.
* The mode (3) comes before the name, so the file is never visible with its private mode. The times come before the
  fsync, because the record of saved files compares them later.
* The name (5) comes after the fsync. A name that reaches the disk before its data is an empty file after a power cut.
* A hard link, not a rename: `rename` replaces an existing file without a word. Disks without hard links get
  `renameat2(RENAME_NOREPLACE)`, and the oldest an empty file that reserves the name.
* The caller reports success after (6) only. If (6) fails, the name is taken back, so that no file is reported as
  missing and there after all. A file that replaced another one cannot be taken back; its error says so.
* The hidden name (7) goes last. A crash before leaves a part with two names, which `hidden_file` recognizes by its
  link count, or a journal without a part. Both are removed when the same file is fetched again.

A failed fsync is never repeated: the kernel may have dropped the pages, and would then report success.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePath

from p2pshare.errors import CannotSave, ChangedHere
from p2pshare.storage.disk_space import replaced_error
from p2pshare.storage.durability import sync_folder
from p2pshare.storage.incoming.destination import SAFE_NAME_MAX, SUFFIX_MAX
from p2pshare.storage.incoming.saved_files import fingerprint_of
from p2pshare.storage.system_calls import rename_no_replace

COPIES_MAX = 999  # numbered names per file: "alice (1).png" and so on
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NO_SAFE_RENAME = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
_UMASK = re.compile(r"^Umask:\s*([0-7]+)$", re.MULTILINE)
_umask_lock = threading.Lock()


def publish_durably(
    folder_fd: int,
    fd: int,
    hidden_name: str,
    path: Path,
    *,
    overwrite: bool,
    number: int = 0,
    replaces: bytes = b"",
    sync_above: Callable[[], object] = lambda: None,
) -> str:
    """Publish one file whose bytes are durable, and make its name durable: steps 5 and 6. Return the name.

    Args:
        folder_fd: the open folder of both names.
        fd: the open file.
        hidden_name: as in `publish`.
        path: as in `publish`.
        overwrite: as in `publish`.
        number: as in `publish`.
        replaces: as in `publish`.
        sync_above: makes new folders above durable; may raise `OSError`.

    Raises:
        CannotSave, OSError: as in `publish`; the file still has its hidden name, and no other unless it replaced one.
    """
    name = publish(
        folder_fd, hidden_name, path, overwrite=overwrite, number=number, replaces=replaces
    )
    try:
        sync_folder(folder_fd)
        sync_above()
    except OSError as error:
        if overwrite:
            raise replaced_error(error, path) from error
        if is_still(fd, folder_fd, hidden_name):
            remove_name(folder_fd, name)
        elif is_still(fd, folder_fd, name):  # a disk without links
            os.rename(name, hidden_name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        raise
    return name


def publish(
    folder_fd: int,
    hidden_name: str,
    path: Path,
    *,
    overwrite: bool,
    number: int = 0,
    replaces: bytes = b"",
) -> str:
    """Give a hidden file its final name. Return that name. The hidden name may remain; `remove_name` removes it.

    Args:
        folder_fd: the open folder of both names.
        hidden_name: the present name.
        path: the wanted path, for errors; only its last component is used.
        overwrite: replace a regular file of that name. Otherwise the first free name of `alice.png`, `alice (1).png`
            and so on is used.
        number: the first of these numbers to try.
        replaces: the fingerprint of the only file that may be overwritten; empty for any.

    Raises:
        ChangedHere: the file to replace has another fingerprint.
        CannotSave: all names are taken, or the file to replace is not a regular one.
        OSError: the disk fails.
    """
    if overwrite:
        path = path.with_name(numbered(path.name, number))
        _replace(folder_fd, hidden_name, path, replaces)
        return path.name
    for each in range(number, COPIES_MAX + 1):
        candidate = numbered(path.name, each)
        try:
            _claim(folder_fd, hidden_name, candidate)
        except FileExistsError:
            continue
        return candidate
    raise CannotSave(path=path, reason=f"{COPIES_MAX} copies of it exist already")


def remove_name(folder_fd: int, name: str) -> None:
    """Remove a name if it exists.

    Raises:
        OSError: it cannot be removed.
    """
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder_fd)


def status_of(folder_fd: int, name: str) -> os.stat_result | None:
    """Return the status of a name in an open folder, without following links; None if the name does not exist."""
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_still(fd: int, folder_fd: int, name: str) -> bool:
    """Whether a name in a folder belongs to an open file."""
    there = status_of(folder_fd, name)
    return there is not None and os.path.samestat(there, os.fstat(fd))


def numbered(name: str, number: int) -> str:
    """Return `alice.png`, `alice (1).png` and so on, shortened to fit the file system."""
    if number == 0:
        return name
    suffix = PurePath(name).suffix
    if len(os.fsencode(suffix)) > SUFFIX_MAX:  # a dot within a long name, not a file type
        suffix = ""
    ending = f" ({number}){suffix}"
    stem = name.removesuffix(suffix)
    return shortened(stem, SAFE_NAME_MAX - len(os.fsencode(ending))) + ending


def shortened(text: str, size_max: int) -> str:
    """Return the longest prefix of whole characters that takes at most `size_max` bytes in a file name."""
    encoded = os.fsencode(text)
    return text if len(encoded) <= size_max else encoded[:size_max].decode("utf-8", "ignore")


def set_attributes(
    fd: int, umask: int, mtime_ns: int | None = None, *, executable: bool = False
) -> None:
    """Give a file the mode of the user's other files, and its modification time (ns since 1970): step 3."""
    if mtime_ns is not None:
        with suppress(OSError):  # the file system does not store times
            os.utime(fd, ns=(mtime_ns, mtime_ns))
    with suppress(PermissionError):  # the file system does not store modes
        os.fchmod(fd, (0o777 if executable else 0o666) & ~umask)


def current_umask() -> int:
    """Return the umask. If the kernel does not show it, it is read by setting it to private for a moment."""
    with suppress(OSError):
        if (found := _UMASK.search(Path("/proc/self/status").read_text())) is not None:
            return int(found[1], 8)
    with _umask_lock:
        umask = os.umask(0o077)
        os.umask(umask)
    return umask


def _replace(folder_fd: int, hidden_name: str, path: Path, replaces: bytes) -> None:
    """Take over the name of a regular file; folders, links and devices are not replaced.

    Nothing prevents a program from writing to a file between the look at it and the replacement.
    """
    there = status_of(folder_fd, path.name)
    if there is not None and not stat.S_ISREG(there.st_mode):
        reason = "its name belongs to something that is not a plain file, and is not replaced"
        raise CannotSave(path=path, reason=reason)
    if replaces and there is not None and fingerprint_of(there) != replaces:
        raise ChangedHere(path=path)
    os.rename(hidden_name, path.name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def _claim(folder_fd: int, hidden_name: str, candidate: str) -> None:
    """Give the hidden file a name atomically. Raises `FileExistsError` if the name is taken."""
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
    """Do the same on a disk without hard links, such as FAT and some network disks."""
    try:
        rename_no_replace(folder_fd, hidden_name, candidate)
    except OSError as error:
        if error.errno not in _NO_SAFE_RENAME:
            raise
        # An empty file reserves the name, then it is replaced. Only a kill between these two lines leaves it behind.
        os.close(os.open(candidate, NEW_FILE, 0o600, dir_fd=folder_fd))
        try:
            os.rename(hidden_name, candidate, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except OSError:
            os.unlink(candidate, dir_fd=folder_fd)
            raise
