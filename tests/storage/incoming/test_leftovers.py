"""Tests for `p2pshare.storage.incoming.leftovers`: partial files that are listed and removed."""

from __future__ import annotations

import errno
import os
from typing import Any

from p2pshare.errors import CannotSave, InUse
from p2pshare.storage.incoming import journal as part_journal
from p2pshare.storage.incoming.announcement import Origin, Place
from p2pshare.storage.incoming.leftovers import Leftover, leftovers, remove
from p2pshare.storage.incoming.sequential_file import SequentialFile
from p2pshare.storage.os_errors import plain_reason
from tests.storage.incoming_case import BLOCK, ORIGIN, IncomingTestCase, announced, content_of

CONTENT = content_of(5 * BLOCK + 7)


class LeftoverTests(IncomingTestCase):
    """Partial files that stopped transfers left below a folder."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(part_journal, "block_length", lambda size, i: min(BLOCK, size - i * BLOCK))
        self.patch(part_journal, "block_count", lambda size: -(-size // BLOCK))
        self.errors: list[CannotSave] = []

    def found(self) -> list[Leftover]:
        return list(leftovers(self.path, self.errors.append))

    def leave(self, place: Place, *indexes: int, **options: Any) -> None:
        """Leave what a kill leaves."""
        origin = Origin(ORIGIN.key, ("photos", place.name), "alice")
        part = self.folder.begin(place, origin, announced(CONTENT))
        self.write(part, CONTENT, indexes)
        part.sync()
        part.close()

    def test_told(self) -> None:
        """Each is told with its sharer, its path there, its place here, and how much of it is verified."""
        self.leave(Place(("a", "b"), "ünï.jpg"), 0, 2, 5)
        self.leave(Place((), "cat.jpg"))
        (self.path / ".p2pshare-notes.txt").write_bytes(b"mine")
        nothing, some = self.found()
        self.assertIsNone(nothing.origin)
        self.assertEqual(nothing.path.parent, self.path)
        assert some.origin is not None
        self.assertEqual((some.origin.peer, some.origin.path), ("alice", ("photos", "ünï.jpg")))
        self.assertEqual(some.path, self.path / "a" / "b" / "ünï.jpg")
        self.assertEqual((some.origin.size, some.origin.verified), (len(CONTENT), 2 * BLOCK + 7))
        self.assertGreater(some.on_disk, 0)
        self.assertEqual((nothing.in_use, some.in_use, self.errors), (False, False, []))

    def test_removed(self) -> None:
        """They are removed with their journals, those of the classic protocol too, and nothing else."""
        self.leave(Place(("a",), "cat.jpg"), 0)
        self.leave(Place((), "cat.jpg"), 1)
        (self.path / ".alice.png.p2pshare-01234567.part").write_bytes(b"rows")
        (self.path / ".p2pshare-0123456789abcdef.journal").write_bytes(b"alone")
        (self.path / ".p2pshare-0123456789abcdef.txt").write_bytes(b"mine")
        (self.path / "link").symlink_to(self.outside)
        (self.outside / ".p2pshare-0123456789abcdef.part").write_bytes(b"elsewhere")
        found = self.found()
        self.assertEqual(len(found), 4)
        self.assertIn(self.path / "alice.png", [each.path for each in found])
        for each in found:
            remove(each)
        self.assertEqual(self.names(), [".p2pshare-0123456789abcdef.txt", "a", "link"])
        self.assertEqual(len(os.listdir(self.outside)), 1)

    def test_in_use(self) -> None:
        """A part that a process uses is kept, also one of the classic protocol."""
        part = self.begin(CONTENT)
        self.write(part, CONTENT, (0,))
        part.sync()
        with SequentialFile.create(self.path, "alice.png"):
            found = self.found()
            self.assertEqual([each.in_use for each in found], [True, True])
            for each in found:
                self.assertRaises(InUse, remove, each)
            self.assertEqual(len(self.names()), 3)
        part.suspend()
        self.assertEqual([each.in_use for each in self.found()], [False])

    def test_published_and_killed(self) -> None:
        """Where a part is a published file by another name, that file stays."""
        self.leave(Place((), "cat.jpg"), *range(6))
        os.link(self.only_part(), self.path / "cat.jpg")
        for each in self.found():
            remove(each)
        self.assertEqual(self.names(), ["cat.jpg"])

    def test_damaged(self) -> None:
        """A journal that is cut off or damaged anywhere is told of as far as it is sound."""
        self.leave(Place((), "cat.jpg"), 0, 1)
        journal = self.only_part(".journal")
        content = journal.read_bytes()
        for length in range(0, len(content), 7):
            journal.write_bytes(content[:length])
            (each,) = self.found()
            blocks = max(0, (length - len(content)) // 48 + 2)
            verified = 0 if each.origin is None else each.origin.verified
            self.assertEqual(verified, blocks * BLOCK)

    def test_failures(self) -> None:
        """A part that cannot be removed is an error that names it."""
        name = self.path / ".p2pshare-0123456789abcdef.part"
        name.mkdir()
        (name / "x").touch()
        self.assertEqual(self.found(), [])
        self.leave(Place(("a",), "cat.jpg"), 0)
        (found,) = self.found()
        os.rename(self.path / "a", self.path / "b")
        with self.assertRaisesRegex(CannotSave, plain_reason(OSError(errno.ENOENT, ""))):
            remove(found)
