"""The spool: files that exist only to be sent."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotSave, WrongUsage
from p2pshare.storage.offers.spool import ORPHAN_LIFE, Spool, SpoolFile
from p2pshare.wire.offers.messages import ID_FORM
from tests.storage.offers.ledger_case import id_of
from tests.storage.small_disk import small_disk


class SpoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.data = Path(self.mktemp()).absolute()
        self.data.mkdir()
        self.spool = Spool(self.data)

    def test_file(self) -> None:
        """A file is found under its own name by its ID, until it is removed; only its owner can read it."""
        file = SpoolFile.create(self.data, "photos.tar")
        self.assertIsNotNone(ID_FORM[0].fullmatch(file.id))
        file.write(b"ab")
        file.write(b"c")
        file.finish()
        path = self.spool.find(file.id)
        self.assertEqual((path.name, path.read_bytes()), ("photos.tar", b"abc"))
        modes = [each.stat().st_mode & 0o777 for each in (path, *path.parents[:2])]
        self.assertEqual(modes, [0o600, 0o700, 0o700])
        for _ in range(2):
            self.spool.remove(file.id)
            self.assertRaises(WrongUsage, self.spool.find, file.id)

    def test_text(self) -> None:
        """A text is written at once, each under an ID of its own."""
        first, second = (self.spool.add("text.txt", each) for each in (b"1", b"2"))
        self.assertNotEqual(first, second)
        self.assertEqual(self.spool.find(second).read_bytes(), b"2")

    def test_discard(self) -> None:
        """What is not finished leaves nothing."""
        file = SpoolFile.create(self.data, "a")
        file.write(b"x" * 100_000)
        file.discard()
        file.discard()
        self.assertEqual(os.listdir(self.data / "outgoing"), [])

    def test_names(self) -> None:
        """Neither names nor IDs lead out of the spool."""
        for name in ("", "..", "a/b", "a\0"):
            self.assertRaises(WrongUsage, SpoolFile.create, self.data, name)
        for spool_id in ("..", "", "../" + id_of(1), "A" * 16):
            self.assertRaises(WrongUsage, self.spool.find, spool_id)
            self.assertRaises(WrongUsage, self.spool.remove, spool_id)

    def test_orphans(self) -> None:
        """Only old files without an offer are removed, that nobody writes, and nothing that is not from here."""
        old, kept, new, growing = (self.spool.add("a", b"x") for _ in range(4))
        other = self.data / "outgoing" / "other"
        other.mkdir()
        paths = [self.spool.find(each) for each in (old, kept, growing)]
        for each in (*paths[:2], *(path.parent for path in paths), other):
            os.utime(each, (0, 0))
        now = self.spool.find(new).parent.stat().st_mtime + ORPHAN_LIFE - 1
        self.spool.remove_orphans({kept}, now)
        names = {each.name for each in (self.data / "outgoing").iterdir()}
        self.assertEqual(names, {kept, new, growing, "other"})
        Spool(self.data / "gone").remove_orphans((), now)

    def test_full_disk(self) -> None:
        """On a full disk nothing is left of a file that could not be written."""
        self.data = small_disk(self)
        self.spool = Spool(self.data)
        self.assertRaisesRegex(CannotSave, "needs", self.spool.add, "a", bytes(3 * 2**20))
        self.assertEqual(os.listdir(self.data / "outgoing"), [])
