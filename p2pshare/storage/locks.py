"""Locks on folders and files, for one process at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from p2pshare.errors import FolderInUse, FolderUnusable
from p2pshare.storage.os_errors import plain_reason

LOCK_NAME = "lock"
PID_MAX = 20  # characters
UNKNOWN = "unknown"
TRIES_MAX = 100  # until a process that holds the lock counts as stuck
PAUSE = 0.05  # seconds between two of them

_OPENING = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FolderLock:
    """An exclusive lock on a folder, held until `release` or the end of the process.

    The kernel releases the lock when its holder dies in any way, so it never gets stale. The file `lock` stays; the pid
    in it is for people. A daemon takes its locks after its fork, or the pid would be its parent's. A child process that
    is started by exec does not inherit the lock.
    """

    def __init__(self, folder: Path, fd: int) -> None:
        self._folder = folder
        self._fd: int | None = fd

    @classmethod
    def take(cls, folder: Path) -> Self:
        """Lock a folder, which is made if need be, private to its owner.

        Raises:
            FolderInUse: another process holds the lock, or this one already does.
            FolderUnusable: the folder cannot be made or locked.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(folder / LOCK_NAME, _OPENING, 0o600)
        except OSError as error:
            raise FolderUnusable(path=folder, reason=plain_reason(error)) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            pid = _read_pid(fd)
            os.close(fd)
            raise FolderInUse(path=folder, pid=pid) from error
        except OSError as error:
            os.close(fd)
            raise FolderUnusable(path=folder, reason=plain_reason(error)) from error
        return cls(folder, fd)

    @classmethod
    def holder(cls, folder: Path) -> str | None:
        """Return the pid of the process that holds the lock of a folder, or `UNKNOWN`; None if the lock is free.

        The pid is unknown if the holder has not written it yet. It is also unknown if the holder runs in a container
        with its own numbers: then the number in the file belongs to an unrelated process here.

        This takes a shared lock for some microseconds; a service that starts in this moment finds the folder in use.

        Raises:
            FolderUnusable: the lock cannot be examined.
        """
        try:
            fd = os.open(
                folder / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise FolderUnusable(path=folder, reason=plain_reason(error)) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _read_pid(fd)
            return pid if _may_hold(pid, fd) else UNKNOWN
        except OSError as error:
            raise FolderUnusable(path=folder, reason=plain_reason(error)) from error
        finally:
            os.close(fd)
        return None

    def remove(self, name: str) -> None:
        """Remove a file that an earlier holder left in the folder, if it exists.

        Raises:
            FolderUnusable: it cannot be removed.
        """
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            reason = f"{name} cannot be removed: {plain_reason(error)}"
            raise FolderUnusable(path=self._folder, reason=reason) from error

    def release(self) -> None:
        """Release the lock. May be called again.

        The file is not removed: another process may have it open already, and would then lock a file that is gone.
        """
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


@contextmanager
def waiting_lock(path: Path, sleep: Callable[[float], object] = time.sleep) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is made if need be, with its folder; the kernel ends it with the process.

    Args:
        path: the file, which stays empty.
        sleep: waits for a number of seconds while another process holds the lock.

    Raises:
        OSError: the file cannot be opened; `TimeoutError` if another process keeps it locked.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, _OPENING, 0o600)
    try:
        for tried in range(TRIES_MAX + 1):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if tried == TRIES_MAX:
                    raise TimeoutError("another process keeps it locked") from None
                sleep(PAUSE)
        yield
    finally:
        os.close(fd)


def is_process(pid: int) -> bool:
    """Whether a process has this number; it may have ended, if its parent has not noticed."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _read_pid(fd: int) -> str:
    """Return the pid in a lock file, or `UNKNOWN` if its holder has not written it."""
    written = os.pread(fd, PID_MAX, 0).decode("ascii", "replace").strip()
    return written if written.isdecimal() else UNKNOWN


def _may_hold(pid: str, fd: int) -> bool:
    """Whether a process may have a file open, as far as this system shows."""
    wanted = os.fstat(fd)
    try:
        opened = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return True  # another user's process
    except OSError:
        return not os.path.exists("/proc/self/fd")
    for each in opened:
        with suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{each}"), wanted):
                return True
    return False
