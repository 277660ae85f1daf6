"""Tests of the room that files take on a real disk, before, while and after they come."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import DiskFull
from p2pshare.storage.incoming.announcement import Announced, Origin, Place, WholeFile
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.partial_file import Incoming
from p2pshare.wire.blocks import BLOCK_SIZE, digest_of, root_of
from p2pshare.wire.keys import PublicKey
from tests.storage.small_disk import made_disk

DISK = 16 * BLOCK_SIZE  # bytes
BLOCKS = 10  # of the file
BLOCK = os.urandom(BLOCK_SIZE)
DIGEST = digest_of(BLOCK)
PLACE = Place((), "film")
ORIGIN = Origin(PublicKey(b"k" * 32), ("films", "film"))
SLACK = 64 * 1024  # bytes that a disk needs for its own records


class RoomTests(SynchronousTestCase):
    """A suspended file takes the room of its verified blocks only."""

    def setUp(self) -> None:
        self.disk = made_disk(self, DISK, "mkfs.ext4", "-q", "-F", "-O", "^has_journal")
        self.folder = IncomingFolder.open(self.disk)
        self.addCleanup(self.folder.close)
        self.at_first = self.free()

    def free(self) -> int:
        status = os.statvfs(self.disk)
        return status.f_bavail * status.f_frsize

    def begin(self, blocks: int = BLOCKS) -> Incoming:
        said = Announced(blocks * BLOCK_SIZE, 1, False, "v1")
        part = self.folder.begin(PLACE, ORIGIN, said)
        self.addCleanup(part.close)
        self.assert_taken(blocks)
        return part

    def resume(self) -> Incoming:
        part = self.folder.resume(PLACE, ORIGIN)
        assert part is not None
        self.addCleanup(part.close)
        return part

    def write(self, part: Incoming, *indexes: int) -> None:
        for index in indexes:
            part.write_block(index, BLOCK, DIGEST)

    def finish(self, part: Incoming, blocks: int = BLOCKS) -> Path:
        return part.finish(root_of(blocks * BLOCK_SIZE, [DIGEST] * blocks))

    def assert_taken(self, blocks: int) -> None:
        """So many blocks of room are not free any more."""
        taken = self.at_first - self.free() - blocks * BLOCK_SIZE
        self.assertTrue(0 <= taken <= SLACK, f"{taken} bytes more than {blocks} blocks are taken")

    def assert_nothing_left(self) -> None:
        self.assertEqual([each for each in os.listdir(self.disk) if each != "lost+found"], [])
        self.assert_taken(0)

    def test_nothing_came(self) -> None:
        """A suspended file without a verified block is removed."""
        part = self.begin()
        self.assertRaises(DiskFull, self.folder.begin, Place((), "other"), ORIGIN, part.announced)
        part.suspend()
        self.assert_nothing_left()

    def test_suspended(self) -> None:
        """A suspended file keeps the room of its blocks, and reserves the rest when it continues."""
        part = self.begin()
        self.write(part, 2, 3, 7)
        part.suspend()
        self.assert_taken(3)
        part = self.resume()
        self.assert_taken(3)
        self.assertEqual(part.have, ((2, 4), (7, 8)))
        part.reserve()
        self.assert_taken(BLOCKS)
        part.reserve()
        self.write(part, *range(BLOCKS))
        path = self.finish(part)
        self.assertEqual(path.read_bytes(), BLOCK * BLOCKS)
        self.assert_taken(BLOCKS)

    def test_no_room_to_go_on(self) -> None:
        """A disk that was filled meanwhile is noticed before a block comes, and verified blocks are kept."""
        part = self.begin()
        self.write(part, 0)
        part.suspend()
        (self.disk / "other").write_bytes(bytes(6 * BLOCK_SIZE))
        part = self.resume()
        error = self.assertRaises(DiskFull, part.reserve)
        path, needed = error.fields["path"], error.fields["needed"]
        self.assertEqual((path, needed), (self.disk / "film", "9.0 MiB"))
        part.suspend()
        self.assert_taken(1 + 6)
        self.assertEqual(self.resume().have, ((0, 1),))

    def test_killed(self) -> None:
        """The room that a killed process reserved is released by the next try, before any request."""
        part = self.begin()
        self.write(part, 4)
        part.sync()
        self.write(part, 5)
        part.close()
        self.assert_taken(BLOCKS)
        self.assertEqual(self.resume().have, ((4, 5),))
        self.assert_taken(1)

    def test_killed_at_once(self) -> None:
        """A kill before the first journalled block leaves nothing after the next try."""
        for blocks in ((), (4,)):
            part = self.begin()
            self.write(part, *blocks)
            part.close()
            self.assertIsNone(self.folder.resume(PLACE, ORIGIN))
            self.assert_nothing_left()

    def test_damaged(self) -> None:
        """The room of a damaged block is released."""
        part = self.begin()
        self.write(part, 1, 2)
        part.suspend()
        (hidden,) = self.disk.glob("*.part")
        with open(hidden, "r+b") as file:
            file.seek(2 * BLOCK_SIZE)
            file.write(b"!")
        self.assertEqual(self.resume().have, ((1, 2),))
        self.assert_taken(1)

    def test_smaller_file(self) -> None:
        """A file inherits no room of a larger one that was killed under its name."""
        self.begin().close()
        part = self.begin(2)
        self.write(part, 0, 1)
        self.finish(part, 2)
        self.assert_taken(2)

    def test_small_file(self) -> None:
        """Neither does a file that comes at once."""
        self.begin().close()
        said = Announced(6, 1, False, "v1")
        digests = (digest_of(b"cat\n.."),)
        file = WholeFile(PLACE, ORIGIN, said, b"cat\n..", digests, root_of(6, digests))
        (path,) = self.folder.store_whole([file])
        assert isinstance(path, Path)
        self.assertLessEqual(path.stat().st_blocks * 512, SLACK)
        self.assert_taken(0)

    def test_no_room_for_the_journal(self) -> None:
        """The journal has room even on a disk that the reservation has filled."""
        part = self.begin()
        self.write(part, 0)
        left = self.free()
        (self.disk / "other").write_bytes(bytes(left))
        self.assertEqual(self.free(), 0)
        part.suspend()
        self.assertEqual(self.resume().have, ((0, 1),))
