"""Files that come, on a disk that fails: at each call, in each way, and at the next try all is well."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pshare.errors import CannotSave, DiskFull, TransferFailed
from p2pshare.storage.disk_space import check_room
from p2pshare.storage.incoming import partial_file, publishing
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.partial_file import Incoming
from p2pshare.storage.os_errors import plain_reason
from tests import examples
from tests.storage.incoming_case import (
    BLOCK,
    HIDDEN,
    ORIGIN,
    PLACE,
    Failing,
    IncomingTestCase,
    announced,
    content_of,
    pieces_of,
    root_for,
    whole,
)
from tests.storage.small_disk import small_disk

CONTENT = content_of(6 * BLOCK)
CALLS = (
    "open",
    "pwrite",
    "fdatasync",
    "fsync",
    "link",
    "unlink",
    "fchmod",
    "ftruncate",
    "stat",
    "utime",
)
CODES = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)


class EveryCallTests(IncomingTestCase):
    """P1 and P5, whatever fails."""

    def try_once(self) -> Path:
        part = self.resume()
        try:
            if part is None:
                part = self.begin(CONTENT)
            for index, piece in enumerate(pieces_of(CONTENT)):
                if all(not first <= index < end for first, end in part.have):
                    self.write(part, CONTENT, (index,))
                if index % 2 and piece:
                    part.sync()
            return part.finish(root_for(CONTENT))
        finally:
            if part is not None:
                part.suspend()

    @settings(max_examples=examples(150))
    @given(st.sampled_from(CALLS), st.sampled_from(CODES), st.integers(1, 8), st.booleans())
    def test_one_failure(self, call: str, code: int, nth: int, lasting: bool) -> None:
        """Threats 3 and 10: a call that fails once, or from then on, is a sentence or nothing; then it goes on."""
        patch = self.patch(os, call, Failing(getattr(os, call), code, nth, lasting=lasting))
        path = None
        try:
            path = self.try_once()
        except TransferFailed as error:
            self.assertRegex(str(error), r"^\S.*[^.]\.$")
            if code in (errno.ENOSPC, errno.EDQUOT) and call == "pwrite":
                self.assertIsInstance(error, DiskFull)
        finally:
            patch.restore()
        for name in self.names():
            if not name.startswith(HIDDEN):
                self.assertEqual((self.path / name).read_bytes(), CONTENT)
        if path is None and not (self.path / "cat.jpg").exists():
            path = self.try_once()
            self.assertEqual(path.name, "cat.jpg")
        self.begin(CONTENT).discard()  # leftovers, if the failure left any
        self.assertEqual(self.names(), ["cat.jpg"])
        self.assertEqual((self.path / "cat.jpg").read_bytes(), CONTENT)
        (self.path / "cat.jpg").unlink()

    def test_descriptors(self) -> None:
        """No failure leaves a descriptor open."""
        self.try_once().unlink()
        before = len(os.listdir("/dev/fd"))
        for call in CALLS:
            for nth in range(1, 6):
                patch = self.patch(os, call, Failing(getattr(os, call), errno.EIO, nth))
                try:
                    self.try_once()
                except TransferFailed:
                    pass
                finally:
                    patch.restore()
                self.folder.store_whole([whole(b"x")])
                with self.subTest(call=call, nth=nth):
                    self.assertEqual(len(os.listdir("/dev/fd")), before)


class SyncTests(IncomingTestCase):
    """A sync that failed is not tried again."""

    def assert_sync_fails(self, call: str, code: int = errno.EIO) -> None:
        patch = self.patch(os, call, Failing(getattr(os, call), code))
        part = self.part
        self.assertRaises(CannotSave, part.sync)
        patch.restore()

    def setUp(self) -> None:
        super().setUp()
        self.part: Incoming = self.begin(CONTENT)
        self.write(self.part, CONTENT, (0, 1))
        self.part.sync()
        self.write(self.part, CONTENT, (2, 3))

    def test_forgotten(self) -> None:
        """P5: what it was to make durable is forgotten, and comes again; what was durable before stays."""
        self.assert_sync_fails("fdatasync")
        self.assertEqual((self.part.have, self.part.unsynced), (((0, 2),), 0))
        self.part.sync()
        self.part.close()
        part = self.resume()
        assert part is not None
        self.assertEqual(part.have, ((0, 2),))
        self.write(part, CONTENT, range(2, 6))
        self.assertEqual(part.finish(root_for(CONTENT)).read_bytes(), CONTENT)

    def test_written_meanwhile(self) -> None:
        """So is what another thread writes while it fails: nobody knows which of it reached the disk."""
        pwrite, written, failed = os.pwrite, threading.Event(), threading.Event()

        def slow(fd: int, data: memoryview, offset: int) -> int:
            result = pwrite(fd, data, offset)
            written.set()
            failed.wait(10)
            return result

        patch = self.patch(os, "pwrite", slow)
        errors: list[CannotSave] = []

        def write() -> None:
            try:
                self.write(self.part, CONTENT, (4,))
            except CannotSave as error:
                errors.append(error)

        writing = threading.Thread(target=write)
        writing.start()
        written.wait(10)
        patch.restore()
        self.assert_sync_fails("fdatasync")
        failed.set()
        writing.join()
        self.assertEqual(len(errors), 1)
        self.assertEqual(self.part.have, ((0, 2),))

    def test_finish(self) -> None:
        """The same at the end: it is not published, and the rest comes again."""
        self.write(self.part, CONTENT, (4, 5))
        patch = self.patch(os, "fsync", Failing(os.fsync, errno.EIO))
        with self.assertRaisesRegex(CannotSave, plain_reason(OSError(errno.EIO, ""))):
            self.part.finish(root_for(CONTENT))
        patch.restore()
        self.assertEqual(self.part.have, ((0, 2),))
        self.assertFalse((self.path / "cat.jpg").exists())
        self.write(self.part, CONTENT, range(2, 6))
        self.assertEqual(self.part.finish(root_for(CONTENT)).read_bytes(), CONTENT)

    def test_folder_not_synced(self) -> None:
        """A name that is not durable is taken back, and all blocks are kept."""
        self.write(self.part, CONTENT, (4, 5))
        patch = self.patch(os, "fsync", Failing(os.fsync, errno.EIO, 2))
        self.assertRaises(CannotSave, self.part.finish, root_for(CONTENT))
        patch.restore()
        self.assertFalse((self.path / "cat.jpg").exists())
        self.assertEqual(self.part.have, ((0, 6),))
        self.assertEqual(self.part.finish(root_for(CONTENT)).read_bytes(), CONTENT)

    def test_replaced_and_not_synced(self) -> None:
        """P5: where the old file is replaced already, the error says so."""
        self.part.discard()
        (self.path / "cat.jpg").write_bytes(b"old")
        part = self.begin(CONTENT, overwrite=True)
        self.write(part, CONTENT)
        part.sync()
        self.patch(publishing, "sync_folder", Failing(len, errno.EIO, 1))
        error = self.assertRaises(CannotSave, part.finish, root_for(CONTENT))
        self.assertRegex(str(error), "cannot be written: the old file was replaced, but")
        self.assertEqual((self.path / "cat.jpg").read_bytes(), CONTENT)

    def test_journal_full(self) -> None:
        """A journal that cannot be written forgets nothing: the data is there, and is noted the next time."""
        self.assert_sync_fails("pwrite", errno.ENOSPC)
        self.assertEqual((self.part.have, self.part.unsynced), (((0, 4),), 2 * BLOCK))
        self.part.suspend()
        part = self.resume()
        assert part is not None
        self.assertEqual(part.have, ((0, 4),))

    def test_order(self) -> None:
        """P3: data is synced before it is journalled, and the journal after that; times and mode before the name."""
        calls: list[str] = []
        for name in ("fdatasync", "pwrite", "fsync", "link", "unlink", "fchmod", "utime"):
            call = getattr(os, name)

            def noted(*args: object, call: object = call, name: str = name, **kw: object) -> object:
                on = "folder" if name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode) else ""  # type: ignore[arg-type]
                calls.append(on or name)
                return call(*args, **kw)  # type: ignore[operator]

            self.patch(os, name, noted)
        self.part.sync()
        self.assertEqual(calls, ["fdatasync", "pwrite", "fdatasync"])
        self.write(self.part, CONTENT, (4, 5))
        calls.clear()
        self.part.finish(root_for(CONTENT))
        self.assertEqual(calls, ["utime", "fchmod", "fsync", "link", "folder", "unlink", "unlink"])


class FullDiskTests(IncomingTestCase):
    """P5, threat 10: the disk fills while a file comes."""

    def test_goes_on(self) -> None:
        """A full disk is a sentence with both figures; with room, it goes on where it was."""
        part = self.begin(CONTENT)
        self.write(part, CONTENT, (0, 1))
        patch = self.patch(os, "pwrite", Failing(os.pwrite, errno.ENOSPC, 1, lasting=True))
        error = self.assertRaises(DiskFull, self.write, part, CONTENT, (2,))
        self.assertEqual(error.fields["path"], self.path / "cat.jpg")
        self.assertEqual(error.fields["needed"], "256 bytes")
        part.suspend()
        patch.restore()
        resumed = self.resume() or self.begin(CONTENT)
        self.write(resumed, CONTENT, range(6))
        self.assertEqual(resumed.finish(root_for(CONTENT)).read_bytes(), CONTENT)

    def test_preallocation(self) -> None:
        """A disk that cannot reserve the room leaves nothing, and one that cannot reserve any is written to."""

        def fail(fd: int, size: int) -> None:
            raise OSError(errno.ENOSPC, "")

        self.patch(partial_file, "preallocate", fail)
        self.assertRaises(DiskFull, self.begin, CONTENT)
        self.assertEqual(self.names(), [])

    def test_small_disk(self) -> None:
        """Threat 10: a disk of 2 MiB that is really full, and then has room."""
        disk = small_disk(self)
        with IncomingFolder.open(disk) as folder:
            large = content_of(3 * 2**20)
            error = self.assertRaises(DiskFull, folder.begin, PLACE, ORIGIN, announced(large))
            self.assertEqual((error.fields["needed"], error.fields["free"]), ("3.0 MiB", "2.0 MiB"))
            part = folder.begin(PLACE, ORIGIN, announced(large[: 2**20]))
            (disk / "other").write_bytes(bytes(2**21 - 2**16))
            self.assertRaises(DiskFull, self.write, part, large[: 2**20])
            (result,) = folder.store_whole([whole(large[: 2**18])])
            self.assertIsInstance(result, DiskFull)
            (disk / "other").unlink()
            part.suspend()
            resumed = folder.resume(PLACE, ORIGIN)
            assert resumed is not None
            self.assertGreater(resumed.have[0][1], 100)
            self.write(resumed, large[: 2**20])
            path = resumed.finish(root_for(large[: 2**20]))
            self.assertEqual(path.read_bytes(), large[: 2**20])
            self.assertEqual(os.listdir(disk), ["cat.jpg"])

    def test_disk_that_says_nothing(self) -> None:
        """A disk that does not tell how much room it has is taken for full."""
        self.patch(os, "statvfs", Failing(os.statvfs, errno.ENOSYS, lasting=True))
        self.assertRaises(DiskFull, check_room, 0, 1, self.path)
