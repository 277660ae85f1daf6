"""Tests for `p2pshare.storage.incoming.small_files`: many small files at once."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from p2pshare.errors import BlockCorrupt, CannotSave, DiskFull, InUse, TooManyOpenFiles
from p2pshare.storage import durability, open_file_limit, system_calls
from p2pshare.storage.durability import SYNC_ALL_MIN, sync_files
from p2pshare.storage.incoming import folder as incoming_folder
from p2pshare.storage.incoming import folder_handles
from p2pshare.storage.incoming.announcement import Place, WholeFile
from p2pshare.storage.incoming.small_files import BATCH_MAX
from p2pshare.storage.open_file_limit import FILES_RESERVED
from p2pshare.storage.os_errors import plain_reason
from tests.storage.incoming_case import (
    BLOCK,
    MTIME,
    ORIGIN,
    PLACE,
    Failing,
    IncomingTestCase,
    content_of,
    whole,
)


def files(count: int, folder: tuple[str, ...] = ()) -> list[WholeFile]:
    return [whole(content_of(n % 200, n), Place(folder, str(n))) for n in range(count)]


class StoreTests(IncomingTestCase):
    """The same promises as of large files."""

    def test_stored(self) -> None:
        """Each is under its name with its bytes and time, in order; also more than fit into one batch."""
        wanted = files(BATCH_MAX + 3, ("a", "b"))
        paths = self.folder.store_whole(wanted)
        for file, path in zip(wanted, paths, strict=True):
            assert isinstance(path, Path)
            self.assertEqual(path, self.path / "a" / "b" / file.place.name)
            self.assertEqual(path.read_bytes(), file.data)
            self.assertEqual(path.stat().st_mtime_ns, MTIME)
        self.assertEqual(len(self.names()), len(wanted) + 2)
        self.assertEqual(self.folder.store_whole([]), [])

    def test_mode(self) -> None:
        """Those that can be run can be run."""
        file = whole(b"x")
        file = replace(file, announced=replace(file.announced, executable=True))
        (path,) = self.folder.store_whole([file])
        assert isinstance(path, Path)
        self.assertTrue(path.stat().st_mode & stat.S_IXUSR)

    def test_nothing_overwritten(self) -> None:
        """Threat 3: of files that want one name, each gets its own; a plain file is replaced if asked for."""
        (self.path / "cat.jpg").write_bytes(b"old")
        origins = [replace(ORIGIN, path=(each,)) for each in "abc"]
        results = self.folder.store_whole([whole(b"new", PLACE, each) for each in origins])
        names = [path.name for path in results if isinstance(path, Path)]
        self.assertEqual(names, ["cat (1).jpg", "cat (2).jpg", "cat (3).jpg"])
        self.assertEqual((self.path / "cat.jpg").read_bytes(), b"old")
        self.folder.store_whole([whole(b"new", overwrite=True)])
        self.assertEqual((self.path / "cat.jpg").read_bytes(), b"new")

    def test_published_meanwhile(self) -> None:
        """P8: of two processes that fetch the same at once, the second one leaves no copy; another content is kept."""
        for _ in range(2):
            self.assertEqual(self.folder.store_whole([whole(b"one")]), [self.path / "cat.jpg"])
        self.assertEqual(self.names(), ["cat.jpg"])
        self.folder.store_whole([whole(b"two")])
        self.assertEqual(self.names(), ["cat (1).jpg", "cat.jpg"])

    def test_corrupt(self) -> None:
        """Content that was not announced is not written, and does not affect other files."""
        good = whole(content_of(BLOCK + 1))
        wrong = bytes(32)
        results = self.folder.store_whole(
            [
                replace(good, data=good.data[:-1]),
                replace(good, data=bytes(BLOCK + 1)),
                replace(good, digests=(good.digests[0], wrong)),
                replace(good, digests=good.digests[:1]),
                replace(good, root=wrong),
                good,
            ]
        )
        for result in results[:-1]:
            self.assertIsInstance(result, BlockCorrupt)
        self.assertEqual(results[-1], self.path / "cat.jpg")
        self.assertEqual(self.names(), ["cat.jpg"])

    def test_leftovers(self) -> None:
        """Threat 39: what a process that was killed has left of the same file is used up, its journal too."""
        content = content_of(2 * BLOCK)
        part = self.begin(content)
        self.write(part, content)
        part.suspend()
        self.folder.store_whole([whole(content[:3], PLACE, ORIGIN)])
        self.assertEqual(self.names(), ["cat.jpg"])
        self.assertEqual((self.path / "cat.jpg").read_bytes(), content[:3])

    def test_in_use(self) -> None:
        """A file that somebody else is fetching is left to them; the others are stored."""
        part = self.begin(b"x")
        results = self.folder.store_whole([whole(b"x", PLACE, ORIGIN), *files(2)])
        self.assertIsInstance(results[0], InUse)
        self.assertTrue(all(isinstance(each, Path) for each in results[1:]))
        part.discard()


class OpenFilesTests(IncomingTestCase):
    """Under a low limit on open files."""

    @contextmanager
    def limited(self, spare: int) -> Iterator[None]:
        """Let this process open so many files more."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(spare)]
        for fd in taken:
            os.close(fd)
        others = max(taken) + 1 - spare  # some may be open since tests that ran before
        self.patch(open_file_limit, "FILES_RESERVED", max(FILES_RESERVED, others))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_small_batches(self) -> None:
        """P1: many files, each in its own folder, are stored in batches as the limit allows, one by one if need be."""
        wanted = [whole(b"x", Place(("a", str(n), "b"), "c"), overwrite=True) for n in range(40)]
        paths = [self.path / "a" / str(n) / "b" / "c" for n in range(40)]
        with self.limited(12):
            self.assertEqual(self.folder.store_whole(wanted), paths)
        for module in (incoming_folder, folder_handles):  # as if others had taken these files
            self.patch(module, "share_of_files", lambda *_: BATCH_MAX)
        for spare in (12, 30):
            with self.limited(spare):
                self.assertEqual(self.folder.store_whole(wanted), paths)
        self.assertTrue(all(path.read_bytes() == b"x" for path in paths))

    def test_none_left(self) -> None:
        """Where not even one can be open, each fails with a remedy, and nothing is left."""
        self.folder.make_folder(("a",))
        with self.limited(1):
            results = self.folder.store_whole(files(3, ("a",)))
        self.assertEqual([type(each) for each in results], [TooManyOpenFiles] * 3)
        self.assertEqual(self.names(), ["a"])


class FailureTests(IncomingTestCase):
    """P5: a failure of one file concerns no other, and leaves nothing."""

    def failing(self, call: str, code: int, nth: int) -> Failing:
        failing = Failing(getattr(os, call), code, nth)
        patch = self.patch(os, call, failing)
        self.addCleanup(patch.restore)
        return failing

    def test_one_of_many(self) -> None:
        """Threat 10: the disk fills, a quota ends, a disk fails: one is an error, the others are there."""
        for call in ("pwrite", "link", "fchmod"):
            for code, kind in (
                (errno.ENOSPC, DiskFull),
                (errno.EDQUOT, DiskFull),
                (errno.EIO, CannotSave),
            ):
                with self.subTest(call=call, code=code):
                    folder = (f"{call}{code}",)
                    patch = self.patch(os, call, Failing(getattr(os, call), code, 3))
                    results = self.folder.store_whole(files(9, folder)[1:])
                    patch.restore()
                    failed = [each for each in results if not isinstance(each, Path)]
                    self.assertEqual([type(each) for each in failed], [kind])
                    there = sorted(os.listdir(self.path / folder[0]))
                    self.assertEqual(there, [str(n) for n in range(1, 9) if n != 3])

    def test_sync_fails(self) -> None:
        """A file that is not durable gets no name, whether few files are synced or the whole disk."""
        for count in (SYNC_ALL_MIN - 1, SYNC_ALL_MIN + 3):
            with self.subTest(count=count):
                folder = (str(count),)
                self.folder.make_folder(folder)
                self.patch(durability, "sync_file_system", Failing(len, errno.EIO, 1))
                patch = self.patch(os, "fsync", Failing(os.fsync, errno.EIO, 2))
                results = self.folder.store_whole(files(count, folder))
                patch.restore()
                self.assertEqual([n for n in range(count) if not isinstance(results[n], Path)], [1])
                self.assertIn(plain_reason(OSError(errno.EIO, "")), str(results[1]))
                self.assertNotIn("1", os.listdir(self.path / folder[0]))
                self.assertEqual(len(os.listdir(self.path / folder[0])), count - 1)

    def test_folder_not_synced(self) -> None:
        """A name that is not durable is no success."""
        self.folder.make_folder(("a",))
        self.folder.store_whole(files(1, ("a",)))  # the folder itself is durable now
        fsync = os.fsync

        def fail(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EIO, "")
            fsync(fd)

        self.patch(os, "fsync", fail)
        (result,) = self.folder.store_whole([whole(b"x", Place(("a",), "x"))])
        self.assertIsInstance(result, CannotSave)
        self.assertEqual(self.names(), ["a", "a/0"])
        (result,) = self.folder.store_whole([whole(b"x", Place(("a",), "0"), overwrite=True)])
        self.assertRegex(str(result), "cannot be written: the old file was replaced, but")
        self.assertEqual((self.path / "a/0").read_bytes(), b"x")


class SyncTests(IncomingTestCase):
    """Many files are made durable at once where that is safe and quick."""

    def calls(self, count: int) -> tuple[int, int]:
        """How often the file system and a file were synced."""
        together, each = Failing(lambda fd: None, 0, -1), Failing(os.fsync, 0, -1)
        counts = [0, 0]

        def counted(number: int, call: Callable[..., Any]) -> Callable[..., Any]:
            def count_and_call(*args: Any) -> Any:
                counts[number] += 1
                return call(*args)

            return count_and_call

        self.patch(durability, "sync_file_system", counted(0, together))
        patch = self.patch(os, "fsync", counted(1, each))
        fds = [os.open(self.path / str(n), os.O_CREAT | os.O_WRONLY) for n in range(count)]
        witness = os.open(self.path, os.O_RDONLY)
        self.assertEqual(sync_files(fds, witness), {})
        patch.restore()
        for fd in (*fds, witness):
            os.close(fd)
        return counts[0], counts[1]

    def test_few_and_many(self) -> None:
        """Few are synced one by one, many at once; one by one, too, on disks whose ways are not known."""
        self.patch(durability, "can_sync_file_system", lambda fd: True)
        self.patch(durability, "_waiting", lambda: 0)
        self.assertEqual(self.calls(SYNC_ALL_MIN - 1), (0, SYNC_ALL_MIN - 1))
        self.assertEqual(self.calls(SYNC_ALL_MIN), (1, 0))
        self.patch(durability, "can_sync_file_system", lambda fd: False)
        self.assertEqual(self.calls(SYNC_ALL_MIN), (0, SYNC_ALL_MIN))

    def test_others_write_much(self) -> None:
        """A sync does not wait for the data of other programs."""
        self.patch(durability, "can_sync_file_system", lambda fd: True)
        self.patch(durability, "_waiting", lambda: durability.DIRTY_MAX + 1)
        self.assertEqual(self.calls(SYNC_ALL_MIN), (0, SYNC_ALL_MIN))

    def test_for_real(self) -> None:
        """Where the system can sync a disk the whole file, it does, and room can be reserved on it."""
        with open(self.path / "file", "wb") as file:
            if system_calls.can_sync_file_system(file.fileno()):
                system_calls.sync_file_system(file.fileno())
            system_calls.preallocate(file.fileno(), BLOCK)
            self.assertEqual(os.fstat(file.fileno()).st_size, 0)

    def test_rename(self) -> None:
        """A name is taken without a link, if it is free; or the system cannot do that, and says so."""
        (self.path / "old").write_bytes(b"old")
        (self.path / "taken").write_bytes(b"taken")
        fd = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        self.assertRaises(OSError, system_calls.rename_no_replace, fd, "old", "taken")
        try:
            system_calls.rename_no_replace(fd, "old", "new")
        except OSError as error:
            self.assertIn(error.errno, (errno.ENOSYS, errno.EINVAL))
        else:
            self.assertEqual(self.names(), ["new", "taken"])
        self.assertEqual((self.path / "taken").read_bytes(), b"taken")

    def test_nothing_there(self) -> None:
        """A system that has none of the special calls says so, and everything works."""
        self.assertGreaterEqual(durability._waiting(), 0)
        self.patch(durability, "_MEMORY", self.path / "none")
        self.assertEqual(durability._waiting(), 0)
        self.patch(system_calls, "_function", lambda name: None)
        for call in (
            lambda: system_calls.sync_file_system(0),
            lambda: system_calls.rename_no_replace(0, "a", "b"),
        ):
            self.assertEqual(self.assertRaises(OSError, call).errno, errno.ENOSYS)
        self.assertFalse(system_calls.can_sync_file_system(0))
        self.assertTrue(all(isinstance(each, Path) for each in self.folder.store_whole(files(20))))
        self.patch(os, "link", Failing(os.link, errno.EPERM, lasting=True))
        self.assertEqual(self.fetch(content_of(BLOCK)).name, "cat.jpg")

    def test_old_kernels(self) -> None:
        """A kernel that does not tell what it could not write is not relied on."""
        uname = os.uname()
        for release, good in (("5.7.19", False), ("4.19.0-x", False), ("odd", False)):
            parts = (*uname[:2], release, *uname[3:])
            self.patch(os, "uname", lambda parts=parts: os.uname_result(parts))
            self.assertEqual(system_calls.can_sync_file_system(0), good)
