"""Tests for `p2pshare.ui.dialog.remote_folder`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import WrongUsage
from p2pshare.ui.dialog.remote_folder import ENTRIES_KEPT, Fetch, Open, RemoteFolder
from p2pshare.wire.paths import format_path, parse_path
from p2pshare.wire.transfer_messages import Entry, EntryKind


def file(name: str) -> Entry:
    return Entry((name,), EntryKind.FILE, 2048, 0)


def folder(name: str) -> Entry:
    return Entry((name,), EntryKind.FOLDER, 0, 0)


class RemoteFolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.here = RemoteFolder("alice", ("photos",))
        self.lines = self.here.add([file("2"), folder("b"), file("c [1].jpg")], False)

    def test_lines(self) -> None:
        """Each entry has a number; a folder has a slash, a file its size."""
        self.assertEqual(
            self.lines,
            ["alice:photos:", "   1  2  2.0 KiB", "   2  b/", "   3  c [1].jpg  2.0 KiB"],
        )
        for path in (("x",), ()):
            self.assertEqual(len(RemoteFolder("alice", path).add([], False)), 2)

    def test_answers(self) -> None:
        """Numbers, names, paths, globs and ways back; the name of an entry is never a glob."""
        for answer, meaning in {
            "1": Fetch(("photos", "2")),
            "2": Open(("photos", "b")),
            "./2": Fetch(("photos", "2")),
            "c [1].jpg": Fetch(("photos", "c [1].jpg")),
            "*.jpg": Fetch(("photos", "*.jpg")),
            "b/x": Open(("photos", "b", "x")),
            "/music": Open(("music",)),
            "alice:music/a": Open(("music", "a")),
            "get 2": Fetch(("photos", "b")),
            "GET .": Fetch(("photos",)),
            "get /": Fetch(("*",)),
            "..": Open(()),
            "../../..": Open(()),
            ".": Open(("photos",)),
            "more": Open(("photos", "more")),
            "./get": Open(("photos", "get")),
            "ls": Open(("photos",), may_fetch=False),
            "LS b/x": Open(("photos", "b", "x"), may_fetch=False),
            "ls 2": Open(("photos", "b"), may_fetch=False),
            "./ls 2": Open(("photos", "ls 2")),
        }.items():
            self.assertEqual(self.here.read(answer), meaning, answer)
        self.assertIsNone(RemoteFolder("alice", ()).read(".."))
        for answer in (
            "0",
            "4",
            "get",
            "get ",
            "ls 1",
            "ls ./2",
            "a/.p2pshareignore",
            "x\0",
            "b/" * 70 + "x",
        ):
            with self.subTest(answer=answer):
                self.assertRaises(WrongUsage, self.here.read, answer)

    def test_more(self) -> None:
        """Pages continue the numbers; the number of kept entries is bounded: threat 31."""
        here = RemoteFolder("alice", ())
        self.assertIn("more", here.add([file("a")], True)[-1])
        self.assertEqual(here.read("more"), Open((), ("a",)))
        self.assertEqual(here.add([file("b")], False), ["   2  b  2.0 KiB"])
        self.assertEqual(here.read("2"), Fetch(("b",)))
        self.assertEqual(here.read("more"), Open(("more",)))
        here.add([file(f"f{n}") for n in range(ENTRIES_KEPT)], True)
        self.assertRaises(WrongUsage, here.read, f"{ENTRIES_KEPT + 1}")

    @given(st.text(max_size=30))
    def test_anything(self, answer: str) -> None:
        """Any answer gives a valid path, or is wrong usage: threat 1."""
        try:
            meaning = self.here.read(answer.strip())
        except WrongUsage as error:
            self.assertTrue(str(error))
            return
        assert meaning is not None, "this is not the top"
        self.assertEqual(parse_path(format_path(meaning.path)), meaning.path)
