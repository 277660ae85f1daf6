"""Tests for `p2pshare.storage.locks`."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import FolderInUse, FolderUnusable
from p2pshare.storage.locks import LOCK_NAME, UNKNOWN, FolderLock
from p2pshare.storage.os_errors import plain_reason

HOLDER = """
import pathlib, sys
from p2pshare.storage.locks import FolderLock
lock = FolderLock.take(pathlib.Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


class FolderLockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_one_at_a_time(self) -> None:
        """A second process gets the pid of the first; a release admits the next one."""
        lock = FolderLock.take(self.folder)
        error = self.assertRaises(FolderInUse, FolderLock.take, self.folder)
        self.assertEqual(error.fields, {"path": self.folder, "pid": str(os.getpid())})
        lock.release()
        lock.release()
        FolderLock.take(self.folder).release()

    def test_killed_holder(self) -> None:
        """A process that is killed leaves no lock behind."""
        command = [sys.executable, "-c", HOLDER, str(self.folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            self.assertEqual(holder.stdout.readline(), b"locked\n")
            error = self.assertRaises(FolderInUse, FolderLock.take, self.folder)
            self.assertEqual(error.fields["pid"], str(holder.pid))
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        FolderLock.take(self.folder).release()

    def test_holder(self) -> None:
        """Other processes can see the holder without taking the lock; a missing folder has none."""
        self.assertIsNone(FolderLock.holder(self.folder / "none"))
        self.assertIsNone(FolderLock.holder(self.folder))
        self.assertEqual(os.listdir(self.folder), [])
        lock = FolderLock.take(self.folder)
        self.assertEqual(FolderLock.holder(self.folder), str(os.getpid()))
        if os.path.exists("/proc/self/fd"):
            for unrelated in (os.getppid(), 2**22 + 1):  # as if the holder ran in a container
                (self.folder / LOCK_NAME).write_text(f"{unrelated}\n")
                self.assertEqual(FolderLock.holder(self.folder), UNKNOWN)
        lock.release()
        self.assertIsNone(FolderLock.holder(self.folder))
        (self.folder / LOCK_NAME).unlink()
        (self.folder / LOCK_NAME).symlink_to("elsewhere")
        self.assertRaises(FolderUnusable, FolderLock.holder, self.folder)

    def test_garbage_in_the_file(self) -> None:
        """The content of the lock file decides nothing, and is not shown if it is no pid."""
        lock = FolderLock.take(self.folder)
        self.addCleanup(lock.release)
        (self.folder / LOCK_NAME).write_bytes(b"\x1b[2J\xff nonsense")
        error = self.assertRaises(FolderInUse, FolderLock.take, self.folder)
        self.assertEqual(error.fields["pid"], UNKNOWN)

    def test_disk_without_locks(self) -> None:
        """A disk that knows no locks is a clear error, not a start without one."""

        def flock(fd: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        self.patch(fcntl, "flock", flock)
        with self.assertRaisesRegex(FolderUnusable, os.strerror(errno.ENOLCK)):
            FolderLock.take(self.folder)

    def test_makes_the_folder(self) -> None:
        """A folder that is not there is made, for its owner alone, and locked."""
        folder = self.folder / "new" / "one"
        lock = FolderLock.take(folder)
        self.addCleanup(lock.release)
        self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        self.assertRaises(FolderInUse, FolderLock.take, folder)

    def test_unusable(self) -> None:
        """A file in place of the folder, or a symbolic link in place of the lock, is a clear error."""
        (self.folder / "file").write_text("")
        self.assertRaises(FolderUnusable, FolderLock.take, self.folder / "file")
        self.assertRaises(FolderUnusable, FolderLock.take, self.folder / "file" / "below")
        (self.folder / LOCK_NAME).symlink_to("elsewhere")
        with self.assertRaisesRegex(FolderUnusable, plain_reason(OSError(errno.ELOOP, ""))):
            FolderLock.take(self.folder)
        self.assertFalse((self.folder / "elsewhere").exists())
