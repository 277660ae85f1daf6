"""Drafts: files that arrive one by one before they are offered."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotSave, ControlRefused, NoRoomForDraft, WrongUsage
from p2pshare.storage.offers.drafts import RESERVE, Draft
from p2pshare.storage.offers.spool import Spool
from p2pshare.wire.paths import COMPONENT_MAX, DEPTH_MAX, RemotePath
from tests.storage.small_disk import small_disk


class DraftTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.data = Path(self.mktemp()).absolute()
        self.data.mkdir()

    def draft(self, **bounds: int) -> Draft:
        """Begin a draft."""
        self.folder = Spool(self.data).make_folder()
        return Draft(self.folder, **{"reserve": 0, **bounds})

    def add(self, draft: Draft, path: str, content: bytes = b"x") -> None:
        """Bring a file."""
        file = draft.begin(tuple(path.split("/")), len(content))
        try:
            file.write(content[:1])
            file.write(content[1:])
            file.finish()
        finally:
            file.discard()

    def there(self) -> dict[str, bytes]:
        """Return what is in the folder of the draft."""
        files = (each for each in self.folder.rglob("*") if each.is_file())
        return {str(each.relative_to(self.folder)): each.read_bytes() for each in files}

    def test_files(self) -> None:
        """Files and folders keep their paths, only their owner can read them, and those at the top are offered."""
        draft = self.draft()
        self.add(draft, "b/c/d.txt", b"123")
        self.add(draft, "a", b"")
        draft.add_folder(("b", "empty"))
        self.assertEqual(self.there(), {"b/c/d.txt": b"123", "a": b""})
        self.assertEqual(draft.close(), (self.folder / "a", self.folder / "b"))
        modes = {each.stat().st_mode & 0o077 for each in self.folder.rglob("*")}
        self.assertEqual(modes, {0})

    def test_parts(self) -> None:
        """A file that is being written cannot be offered, and leaves nothing if it is not finished."""
        draft = self.draft()
        file = draft.begin(("a",), 2)
        file.write(b"1")
        self.assertTrue(draft.is_busy)
        self.assertRaises(ControlRefused, draft.close)
        self.assertRaises(WrongUsage, file.finish)
        self.assertRaises(WrongUsage, file.write, b"23")
        for _ in range(2):
            file.discard()
        self.assertEqual(os.listdir(self.folder), [])
        self.assertRaises(WrongUsage, draft.close)
        self.add(draft, "a")
        self.assertEqual(self.there(), {"a": b"x"})

    def test_closed(self) -> None:
        """A draft that is being sent takes nothing more, until it turns out that it is not sent."""
        draft = self.draft()
        self.add(draft, "a")
        draft.close()
        self.assertRaises(WrongUsage, self.add, draft, "b")
        self.assertRaises(WrongUsage, draft.add_folder, ("c",))
        draft.reopen()
        self.add(draft, "b")
        self.assertEqual(len(draft.close()), 2)

    def test_names(self) -> None:
        """Threat 140: no path leads out of a draft, to a reserved name, or to what is there."""
        draft = self.draft()
        self.add(draft, "a")
        self.add(draft, "b/c")
        deep = ("x",) * (DEPTH_MAX + 1)
        paths: tuple[RemotePath, ...] = (
            *((), ("..", "x"), ("a\0",), ("",), ("x" * (COMPONENT_MAX + 1),), deep),
            *((".p2pshare-draft-1",), ("a",), ("b",), ("a", "below"), ("\udcff",)),
        )
        for path in paths:
            with self.assertRaises(WrongUsage):
                file = draft.begin(path, 0)
                try:
                    file.finish()
                finally:
                    file.discard()
        for path in (("..",), ("a",), ("a", "b")):
            self.assertRaises(WrongUsage, draft.add_folder, path)
        self.assertEqual(self.there(), {"a": b"x", "b/c": b"x"})
        self.assertEqual({each.name for each in self.data.iterdir()}, {"outgoing"})

    def test_bounds(self) -> None:
        """Threat 140: files, folders and bytes are bounded, also those of files that are still arriving."""
        draft = self.draft(files_max=3, bytes_max=5)
        self.add(draft, "a/b", b"12")
        coming = draft.begin(("c",), 3)
        self.assertRaises(WrongUsage, self.add, draft, "d", b"1")
        coming.discard()
        self.add(draft, "c", b"123")
        self.assertRaises(WrongUsage, self.add, draft, "d", b"")
        self.assertRaises(WrongUsage, draft.add_folder, ("d",))
        self.assertEqual(self.there(), {"a/b": b"12", "c": b"123"})

    def test_full_disk(self) -> None:
        """Threat 140: a file without room is refused before its first byte; what still arrives counts."""
        self.data = small_disk(self)
        draft = self.draft()
        first = draft.begin(("a",), 2**20)
        with self.assertRaisesRegex(NoRoomForDraft, "b needs 1.5 MiB"):
            draft.begin(("b",), 3 * 2**19)
        first.discard()
        second = draft.begin(("b",), 3 * 2**19)
        (self.data / "other").write_bytes(bytes(2**20))
        with self.assertRaises(CannotSave):
            second.write(bytes(3 * 2**19))
        second.discard()
        self.assertRaises(NoRoomForDraft, self.draft(reserve=RESERVE).begin, ("a",), 0)
        self.assertEqual(self.there(), {})
