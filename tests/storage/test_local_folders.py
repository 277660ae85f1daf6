"""Folders of this machine from which a user chooses."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotRead, CannotSave, WrongUsage
from p2pshare.storage.local_folders import list_local, make_local, read_local_path


class LocalFolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def names(self, *, hidden: bool = False, files: bool = False) -> list[str]:
        """Return what is listed."""
        found = list_local(self.folder, hidden=hidden, files=files)
        return [each.name for each in found.entries]

    def test_order(self) -> None:
        """Names are sorted as people look for them; files and hidden names come only if they are wanted."""
        for name in ("b", "A", ".x"):
            (self.folder / name).mkdir()
        (self.folder / "a.txt").write_bytes(b"123")
        self.assertEqual(self.names(), ["A", "b"])
        self.assertEqual(self.names(files=True, hidden=True), ["A", "a.txt", "b", ".x"])
        found = list_local(self.folder, hidden=False, files=True)
        self.assertEqual([(each.is_folder, each.bytes) for each in found.entries][1], (False, 3))
        self.assertEqual((found.path, found.parent), (self.folder, self.folder.parent))
        self.assertIsNone(list_local(Path("/"), hidden=False, files=False).parent)

    def test_surprises(self) -> None:
        """Nothing waits for a FIFO, and what cannot be chosen is counted; a link is marked."""
        os.mkfifo(self.folder / "fifo")
        (self.folder / "nowhere").symlink_to("gone")
        (self.folder / "up").symlink_to("..")
        os.mkdir(os.fsencode(self.folder) + b"/\xff")
        found = list_local(self.folder, hidden=False, files=True)
        self.assertEqual([(each.name, each.is_link) for each in found.entries], [("up", True)])
        self.assertEqual(found.left_out, 3)

    def test_parts(self) -> None:
        """A long folder comes in parts, each behind the last name of the one before."""
        for name in ("b", "A", ".h", "c"):
            (self.folder / name).mkdir()

        def part(after: str) -> tuple[list[str], bool]:
            found = list_local(self.folder, hidden=True, files=False, after=after, most=2)
            return [each.name for each in found.entries], found.more

        self.assertEqual(part(""), (["A", "b"], True))
        self.assertEqual(part("b"), (["c", ".h"], False))
        self.assertEqual(part(".h"), ([], False))

    def test_bound(self) -> None:
        """Of a folder with too many names the first ones are listed, and that is said."""
        for number in range(3):
            (self.folder / str(number)).mkdir()
        found = list_local(self.folder, hidden=False, files=False, entries_max=2)
        self.assertEqual((len(found.entries), found.is_cut), (2, True))

    def test_errors(self) -> None:
        """What cannot be read or made is an error in a sentence."""
        (self.folder / "file").write_bytes(b"")
        for name, reason in (("gone", "no such"), ("file", "not a folder")):
            with self.assertRaisesRegex(CannotRead, reason):
                list_local(self.folder / name, hidden=False, files=False)
        make_local(self.folder / "new")
        self.assertTrue((self.folder / "new").is_dir())
        for path, kind in (
            (self.folder / "new", CannotSave),
            (self.folder / "gone" / "new", CannotSave),
            (self.folder / ".p2pshare-x", WrongUsage),
            (self.folder / ("x" * 300), WrongUsage),
        ):
            self.assertRaises(kind, make_local, path)

    def test_paths(self) -> None:
        """A path is absolute, or begins at the home folder."""
        home = Path("/home/alice")
        for text, path in (("", home), ("~", home), ("~/a", home / "a"), ("/a/../b/", Path("/b"))):
            self.assertEqual(read_local_path(text, home), path)
        for text in ("a", "../a", "/a\0"):
            self.assertRaises(WrongUsage, read_local_path, text, home)
