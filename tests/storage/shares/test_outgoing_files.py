"""Tests for `p2pshare.storage.shares.outgoing_files`."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from unittest.mock import patch

from p2pshare.storage.shares import outgoing_files
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.digest_cache import BlockCache, CachedFile
from p2pshare.storage.shares.outgoing_files import OutgoingFile
from p2pshare.wire.blocks import BLOCK_SIZE, block_count, digest_of, root_of
from p2pshare.wire.transfer_messages import VERSION_MAX, Fault
from tests.storage.share_case import OLD, ShareTestCase, viewer_of

SIZE = 3 * BLOCK_SIZE + 5
DATA = os.urandom(BLOCK_SIZE) + bytes(BLOCK_SIZE) + os.urandom(BLOCK_SIZE) + b"12345"
BLOCKS = [DATA[at : at + BLOCK_SIZE] for at in range(0, SIZE, BLOCK_SIZE)]
DIGESTS = [digest_of(block) for block in BLOCKS]
ROOT = root_of(SIZE, DIGESTS)


class OutgoingCase(ShareTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.hashed = 0  # bytes
        genuine = digest_of

        def counting(data: bytes) -> bytes:
            self.hashed += len(data) if len(data) > BLOCK_SIZE // 2 else 0
            return genuine(data)

        self.patch(outgoing_files, "digest_of", counting)

    def opened(self, name: str = "a") -> OutgoingFile:
        opened = self.open("bob", ("s", name))
        self.addCleanup(opened.close)
        return opened

    def remembered(self) -> bytes | None:
        """Return the cached digests of the current file."""
        path = self.root / "a"
        status = path.stat()
        return self.cache.find(
            CachedFile(
                os.fsencode(path),
                status.st_size,
                status.st_mtime_ns,
                status.st_ino,
                status.st_ctime_ns,
            )
        )

    def send(self, name: str = "a") -> tuple[list[tuple[bytes, bytes]], bytes]:
        """All blocks of a file with their digests, and the root."""
        opened = self.opened(name)
        blocks = [opened.read_block(index) for index in range(block_count(opened.size))]
        return blocks, opened.finish()


class ReadTests(OutgoingCase):
    def test_blocks(self) -> None:
        """All blocks come with their digests, and the root is that of the file."""
        self.write("a", DATA)
        self.assertEqual(self.send(), (list(zip(BLOCKS, DIGESTS, strict=True)), ROOT))

    def test_sizes(self) -> None:
        """Files of no byte, of one, of just a block and a byte more have the blocks that they should."""
        for size in (0, 1, BLOCK_SIZE, BLOCK_SIZE + 1, 2 * BLOCK_SIZE):
            data = os.urandom(size)
            self.write("a", data)
            blocks, root = self.send()
            self.assertEqual(b"".join(block for block, _ in blocks), data)
            self.assertEqual(root, root_of(size, [digest for _, digest in blocks]))
            self.assertEqual(len(blocks), block_count(size))

    def test_any_order(self) -> None:
        """Blocks may be read in any order, again, or not at all: the root is the same."""
        self.write("a", DATA)
        opened = self.opened()
        self.assertEqual(opened.read_block(3), (BLOCKS[3], DIGESTS[3]))
        self.assertEqual(opened.digest(1), DIGESTS[1])
        self.assertEqual(opened.read_block(3), (BLOCKS[3], DIGESTS[3]))
        self.assertEqual(opened.finish(), ROOT)
        self.assertEqual(self.hashed, 3 * BLOCK_SIZE)

    def test_no_such_block(self) -> None:
        """Threat 7: a block that a file does not have is not read."""
        self.write("a", DATA)
        opened = self.opened()
        for index in (-1, 4, 2**40):
            self.assertRaises(IndexError, opened.read_block, index)
            self.assertRaises(IndexError, opened.digest, index)

    def test_large_and_sparse(self) -> None:
        """Of a file of 10 GiB only the requested blocks are read, and a file of 2**40 bytes needs no table of that
        size.
        """
        path = self.write("a", b"")
        for size in (10 * 2**30, 2**40):
            os.truncate(path, size)
            opened = self.opened()
            self.assertEqual(opened.size, size)
            last = block_count(size) - 1
            for index in (0, last // 2, last):
                self.assertEqual(opened.read_block(index)[0], bytes(BLOCK_SIZE))
        self.assertEqual(self.hashed, 6 * BLOCK_SIZE)

    def test_short_reads(self) -> None:
        """A file system may give less than was asked for, piece by piece."""
        self.write("a", DATA)
        genuine = os.pread
        with patch.object(os, "pread", lambda fd, size, at: genuine(fd, min(size, 300_001), at)):
            self.assertEqual(self.send(), (list(zip(BLOCKS, DIGESTS, strict=True)), ROOT))

    def test_version(self) -> None:
        """A version fits into its message, and reveals nothing of the machine."""
        path = self.write("a", DATA)
        version = self.opened().version
        self.assertLessEqual(len(version), VERSION_MAX)
        self.assertNotIn(str(path.stat().st_ino), version)
        self.assertEqual(self.opened().version, version)


class ChangedTests(OutgoingCase):
    def assert_changed(self, opened: OutgoingFile) -> None:
        for work in (lambda: opened.read_block(0), lambda: opened.digest(2), opened.finish):
            self.assertEqual(self.fault(work), Fault.CHANGED)
        self.assertIsNone(self.remembered())

    def test_shorter_longer_newer(self) -> None:
        """A file that is cut, grows or is written to is noticed at the next block, and its digests are forgotten."""
        for data in (DATA[:-1], DATA[: BLOCK_SIZE + 1], DATA + b"x", DATA):
            self.write("a", DATA)
            opened = self.opened()
            opened.read_block(0)
            self.write("a", data, OLD + 1000)
            self.assert_changed(opened)

    def test_time_set_back(self) -> None:
        """A change whose time was set back is noticed, during a transfer and between two."""
        path = self.write("a", DATA)
        opened = self.opened()
        opened.finish()
        self.change_secretly(path)
        for work in (lambda: opened.read_block(0), opened.finish):
            self.assertEqual(self.fault(work), Fault.CHANGED)
        again = self.opened()
        self.assertNotEqual(again.version, opened.version)
        self.assertEqual(again.read_block(1), (BLOCKS[0], DIGESTS[0]))
        self.assertNotEqual(again.finish(), ROOT)

    def test_time_of_small(self) -> None:
        """The same holds for a small file."""
        path = self.write("a", b"12345")
        before = self.opened().version
        self.change_secretly(path, b"54321")
        self.assertEqual(self.content("s", "a"), b"54321")
        self.assertNotEqual(self.opened().version, before)

    def change_secretly(self, path: Path, data: bytes = BLOCKS[0] + DATA[:-BLOCK_SIZE]) -> None:
        """Write into a file, and set its time back, in another tick of the kernel's clock."""
        ticked = path.stat().st_ctime_ns
        while path.stat().st_ctime_ns == ticked:
            path.write_bytes(data)
            os.utime(path, ns=(OLD, OLD))

    def test_other_changes(self) -> None:
        """Another name or mode does not change a file that is being sent."""
        path = self.write("a", DATA)
        opened = self.opened()
        opened.read_block(0)
        path.chmod(0o700)
        os.link(path, self.root / "b")
        self.assertEqual(opened.finish(), ROOT)

    def test_at_the_end(self) -> None:
        """A change after the last block was read is noticed before the root is sent."""
        self.write("a", DATA)
        opened = self.opened()
        for index in range(4):
            opened.read_block(index)
        self.write("a", DATA, OLD + 1000)
        self.assertEqual(self.fault(opened.finish), Fault.CHANGED)

    def test_replaced(self) -> None:
        """A file that is replaced or removed is sent as it was when it was opened."""
        self.write("a", DATA)
        opened = self.opened()
        self.write("b", b"other")
        os.replace(self.root / "b", self.root / "a")
        self.assertEqual(opened.read_block(1), (BLOCKS[1], DIGESTS[1]))
        self.assertEqual(opened.finish(), ROOT)
        self.assertEqual(self.content("s", "a"), b"other")

    def test_disk_error(self) -> None:
        """A block that the disk does not return is unreadable, and is sent if the disk returns it later."""
        self.write("a", DATA)
        opened = self.opened()
        error = OSError(errno.EIO, "")
        with patch.object(os, "pread", side_effect=error):
            for work in (lambda: opened.read_block(0), opened.finish):
                self.assertEqual(self.fault(work), Fault.UNREADABLE)
        self.assertEqual(opened.finish(), ROOT)


class CacheTests(OutgoingCase):
    def test_second_time(self) -> None:
        """The second time nothing is hashed, and blocks that are not sent are not read."""
        self.write("a", DATA)
        first = self.send()
        self.hashed = 0
        self.assertEqual(self.send(), first)
        with patch.object(os, "pread", side_effect=OSError):
            opened = self.opened()
            self.assertEqual([opened.digest(index) for index in range(4)], DIGESTS)
            self.assertEqual(opened.finish(), ROOT)
        self.assertEqual(self.hashed, 0)

    def test_distrusted(self) -> None:
        """Digests that a receiver rejects are computed again; only a viewer of the file can cause that."""
        self.tree = self.share(SharedPath("s", self.root, frozenset({"bob"})))
        path = self.write("a", DATA)
        status = path.stat()
        times = status.st_mtime_ns, status.st_ino, status.st_ctime_ns
        wrong = DIGESTS[::-1]
        self.cache.store(CachedFile(os.fsencode(path), SIZE, *times), b"".join(wrong))
        self.assertEqual(self.send()[0][0], (BLOCKS[0], wrong[0]))
        self.assertEqual(
            self.fault(self.tree.distrust, viewer_of("carol"), ("s", "a")), Fault.NOT_FOUND
        )
        self.assertEqual(self.send()[0][0], (BLOCKS[0], wrong[0]))
        self.tree.distrust(viewer_of("bob"), ("s", "a"))
        self.assertEqual(self.send(), (list(zip(BLOCKS, DIGESTS, strict=True)), ROOT))

    def test_another_file(self) -> None:
        """Another path, time, size or inode is another file."""
        self.write("a", DATA)
        self.send()
        for change in ("time", "inode", "path"):
            self.hashed = 0
            if change == "time":
                self.write("a", DATA, OLD + 1000)
            elif change == "inode":
                self.write("new", DATA, OLD + 1000)
                os.replace(self.root / "new", self.root / "a")
            else:
                os.rename(self.root / "a", self.root / "b")
            self.assertEqual(self.send("b" if change == "path" else "a")[1], ROOT)
            self.assertEqual(self.hashed, 3 * BLOCK_SIZE, change)

    def test_just_changed(self) -> None:
        """A file that has just changed is not cached, since its next change may not show in its time."""
        self.cache = BlockCache(self.folder / "new.sqlite", wall_ns=lambda: OLD + 1000)
        self.addCleanup(self.cache.close)
        self.tree = self.share(SharedPath("s", self.root))
        self.write("a", DATA)
        self.send()
        self.hashed = 0
        self.assertEqual(self.send()[1], ROOT)
        self.assertEqual(self.hashed, 3 * BLOCK_SIZE)

    def test_small(self) -> None:
        """A file of one block is not looked up: to hash it is cheaper."""
        self.write("a", b"12345")
        self.send()
        self.assertFalse((self.folder / "hashes.sqlite").exists())

    def test_no_cache(self) -> None:
        """Without a cache all files are sent."""
        (self.folder / "hashes.sqlite").mkdir()
        self.write("a", DATA)
        for _ in range(2):
            self.assertEqual(self.send()[1], ROOT)

    def test_more_than_a_chunk(self) -> None:
        """The digests of many blocks are all kept, each in its place."""
        self.patch(outgoing_files, "_CHUNK", 2)
        self.write("a", DATA)
        for _ in range(2):
            self.assertEqual(self.send(), (list(zip(BLOCKS, DIGESTS, strict=True)), ROOT))
        self.assertEqual(self.remembered(), b"".join(DIGESTS))


class ThreadTests(OutgoingCase):
    def test_closed_while_read(self) -> None:
        """A file that is closed while a thread reads it is closed after that: its number may be another file's next."""
        self.write("a", b"12345")
        opened = self.opened()
        before = len(os.listdir("/dev/fd"))
        reading, may_go_on = threading.Event(), threading.Event()
        genuine = os.pread

        def slow(fd: int, size: int, offset: int) -> bytes:
            reading.set()
            may_go_on.wait(60)
            return genuine(fd, size, offset)

        got: list[object] = []
        with patch.object(os, "pread", slow):
            thread = threading.Thread(target=lambda: got.append(opened.read_block(0)))
            thread.start()
            reading.wait(60)
            opened.close()
            opened.close()
            self.assertEqual(len(os.listdir("/dev/fd")), before)
            self.assertEqual(self.fault(opened.read_block, 0), Fault.UNREADABLE)
            may_go_on.set()
            thread.join()
        self.assertEqual(got, [(b"12345", digest_of(b"12345"))])
        self.assertEqual(len(os.listdir("/dev/fd")), before - 1)

    def test_many_threads(self) -> None:
        """Several threads may read one file."""
        self.write("a", DATA)
        opened = self.opened()
        got: list[tuple[int, tuple[bytes, bytes]]] = []

        def read(first: int) -> None:
            for turn in range(8):
                index = (first + turn) % 4
                got.append((index, opened.read_block(index)))

        threads = [threading.Thread(target=read, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(got), 32)
        self.assertTrue(all(each == (BLOCKS[at], DIGESTS[at]) for at, each in got))
        self.assertEqual(opened.finish(), ROOT)
