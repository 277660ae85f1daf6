"""Tests for `p2pshare.storage.seen`."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.seen import BYTES_MAX, ENTRIES_MAX, FOLDERS_MAX, NAMES_MAX, Seen


class SeenTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.seen = Seen(self.folder)

    def test_remembered(self) -> None:
        """Names and entries are there for the next process, and nobody else can read them."""
        self.seen.saw_names(["bob", "alice"])
        self.seen.saw_entries("carol", ("a",), {"x y": False, "sub": True})
        again = Seen(self.folder)
        self.assertEqual(again.names(), ("bob", "alice", "carol"))
        self.assertEqual(again.entries("carol", ("a",)), {"x y": False, "sub": True})
        self.assertEqual(again.entries("carol", ()), {})
        self.assertEqual(stat.S_IMODE(self.seen.path.stat().st_mode), 0o600)

    def test_added(self) -> None:
        """A part of a folder is added to what was seen of it; all of it takes its place."""
        self.seen.saw_entries("bob", (), {"a": False})
        self.seen.saw_entries("bob", (), {"b": True})
        self.assertEqual(self.seen.entries("bob", ()), {"a": False, "b": True})
        self.seen.saw_entries("bob", (), {"c": False}, whole=True)
        self.assertEqual(self.seen.entries("bob", ()), {"c": False})

    def test_bounded(self) -> None:
        """However much is seen, the file stays small, and what was seen last is in it: threat 31."""
        self.seen.saw_names(f"n{n}" for n in range(NAMES_MAX + 5))
        self.assertEqual(len(self.seen.names()), NAMES_MAX)
        self.seen.saw_entries("bob", (), {f"{n}": False for n in range(ENTRIES_MAX + 5)})
        self.assertEqual(len(self.seen.entries("bob", ())), ENTRIES_MAX)
        for n in range(12):
            self.seen.saw_entries("bob", (f"{n}",), {f"{e:0200}": False for e in range(400)})
        self.assertLessEqual(self.seen.path.stat().st_size, BYTES_MAX)
        self.assertEqual(len(self.seen.entries("bob", ("11",))), 400)
        self.seen.path.unlink()
        for n in range(FOLDERS_MAX + 3):
            self.seen.saw_entries("bob", (f"{n}",), {})
        self.assertEqual(self.seen.path.read_text().count("bob:"), FOLDERS_MAX)

    def test_illegal(self) -> None:
        """What no entry can be called is not remembered: threat 1."""
        self.seen.saw_entries("bob", (), {"..": True, "a/b": False, "": False, "ok": False})
        self.assertEqual(self.seen.entries("bob", ()), {"ok": False})

    def test_no_folder(self) -> None:
        """Where there is no data folder, none is made."""
        seen = Seen(self.folder / "none")
        seen.saw_names(["bob"])
        self.assertEqual((seen.names(), (self.folder / "none").exists()), ((), False))

    @given(st.binary(max_size=80) | st.sampled_from([b'{"v":1,"names":["..","a"],"folders":{}}']))
    def test_damaged(self, content: bytes) -> None:
        """A file that is damaged is as good as none, and is written anew."""
        self.seen.path.write_bytes(content)
        self.seen.path.chmod(0o600)
        self.assertEqual(self.seen.names(), ())
        self.seen.saw_names(["bob"])
        self.assertEqual(self.seen.names(), ("bob",))

    def test_open_to_others(self) -> None:
        """What others may have written is not read: threat 39."""
        self.seen.saw_names(["bob"])
        self.seen.path.chmod(0o644)
        self.assertEqual(self.seen.names(), ())
