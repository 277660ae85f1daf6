"""The folders of accepted offers."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotSave
from p2pshare.storage.offers.inbox_folder import folder_size, make_folder


class InboxFolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()

    def test_make(self) -> None:
        """A folder is made with those above it, and an existing one stays."""
        for _ in range(2):
            make_folder(self.folder / "a/b")
        self.assertTrue((self.folder / "a/b").is_dir())
        (self.folder / "file").write_bytes(b"")
        self.assertRaisesRegex(CannotSave, "file", make_folder, self.folder / "file")
        self.assertRaises(CannotSave, make_folder, self.folder / "file/x")

    def test_size(self) -> None:
        """What everything in it takes on the disk counts, links do not, and beyond the bound it is unknown."""
        self.assertEqual(folder_size(self.folder), 0)
        make_folder(self.folder / "sub")
        (self.folder / "sub/a").write_bytes(bytes(100_000))
        (self.folder / "link").symlink_to("/")
        size = folder_size(self.folder)
        assert size is not None
        self.assertTrue(100_000 <= size < 200_000)
        self.assertEqual(folder_size(self.folder, entries_max=3), size)
        self.assertIsNone(folder_size(self.folder, entries_max=2))
