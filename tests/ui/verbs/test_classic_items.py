"""Tests for `p2pshare.ui.verbs.classic_items`."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.datagrams import Kind
from p2pshare.errors import IllegalName, WrongUsage
from p2pshare.ui.verbs.classic_items import Wanted, parse_wanted
from p2pshare.ui.verbs.items import FROM_YOURSELF
from p2pshare.wire.addresses import PeerAddress

TEXT, PICTURE = "alice:my_file.txt", "alice:my_file.jpg"


class WantedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cwd = Path(self.mktemp()).absolute()
        (self.cwd / "folder").mkdir(parents=True)

    def parsed(self, *words: str) -> list[tuple[str, Kind, Path]]:
        wanted = parse_wanted(words, "bob", self.cwd)
        return [(each.peer, each.kind, (each.folder / each.name)) for each in wanted]

    def wrong(self, *words: str) -> str:
        return str(self.assertRaises(WrongUsage, parse_wanted, words, "bob", self.cwd))

    def test_kinds(self) -> None:
        """The suffix says whether it is the text or the picture."""
        for suffix, kind in {
            ".txt": Kind.TEXT,
            ".jpg": Kind.PICTURE,
            ".jpeg": Kind.PICTURE,
            ".PNG": Kind.PICTURE,
            ".webp": Kind.PICTURE,
        }.items():
            ((_, parsed, _),) = self.parsed(f"alice:my_file{suffix}")
            self.assertIs(parsed, kind)

    def test_default_names(self) -> None:
        """Without DEST a file is named after its peer, in the current folder."""
        self.assertEqual(self.parsed(TEXT), [("alice", Kind.TEXT, self.cwd / "alice.txt")])
        self.assertEqual(self.parsed(PICTURE), [("alice", Kind.PICTURE, self.cwd / "alice.png")])
        ((_, _, path),) = self.parsed("con:my_file.txt")
        self.assertEqual(path.name, "_con.txt")

    def test_destinations(self) -> None:
        """DEST is a folder or a file name; a picture's name without a suffix gets one."""
        for words, paths in (
            ((TEXT, "folder"), ["folder/alice.txt"]),
            ((TEXT, "notes"), ["notes"]),
            ((TEXT, "folder/notes.md"), ["folder/notes.md"]),
            ((PICTURE, "holiday"), ["holiday.png"]),
            ((PICTURE, "holiday.webp"), ["holiday.webp"]),
            ((TEXT, "./a:b"), ["a:b"]),
            ((TEXT, "new/"), ["new/alice.txt"]),
            ((TEXT, PICTURE, "new/"), ["new/alice.txt", "new/alice.png"]),
            (("Alice:my_file.txt",), ["alice.txt"]),
            ((TEXT, PICTURE), ["alice.txt", "alice.png"]),
            ((TEXT, "carol:my_file.png", "folder"), ["folder/alice.txt", "folder/carol.png"]),
        ):
            found = [path for _, _, path in self.parsed(*words)]
            self.assertEqual(found, [self.cwd / path for path in paths])

    def test_wrong(self) -> None:
        """What cannot be done is a sentence that says what can."""
        for words, pattern in (
            (("alice",), "'alice' does not say which file: write alice:my_file.txt"),
            (("alice:",), "alice:my_file.txt for the text"),
            (("alice:my_file",), "alice:my_file.jpg for the picture"),
            (("alice:my_file.gif",), "'my_file.gif' cannot be got"),
            (("alice:report.txt",), "'report.txt' cannot be got from alice"),
            (("alice:../my_file.txt",), "cannot be got"),
            (
                (PICTURE, "x.jpg"),
                r"JPEG does not keep the pixels exactly: save the picture as 'x\.png'",
            ),
            ((TEXT, "no/such"), "no folder 'no'"),
            ((TEXT, "no/where/"), "no folder 'no/where/'"),
            (("alice/my_file.txt",), "'alice:my_file.txt'"),
            ((TEXT, PICTURE, "notes"), "2 files need a folder"),
            ((TEXT, "", "folder"), "'' does not say which file"),
        ):
            with self.subTest(words=words):
                self.assertRegex(self.wrong(*words), pattern)

    def test_illegal_name(self) -> None:
        """A peer's name must be one."""
        self.assertRaises(IllegalName, parse_wanted, ["Al ice:my_file.txt"], None, self.cwd)
        self.assertRaises(IllegalName, parse_wanted, [":my_file.txt"], None, self.cwd)

    def test_yourself(self) -> None:
        """Nobody gets files from themselves."""
        self.assertEqual(self.wrong("bob:my_file.txt"), FROM_YOURSELF)
        self.assertEqual(self.wrong(TEXT, "bob:my_file.jpg"), FROM_YOURSELF)

    def test_order(self) -> None:
        """With an address it becomes an order."""
        address = PeerAddress("192.0.2.7", 49152)
        order = Wanted.of("alice", Kind.TEXT, None, self.cwd).order(address, overwrite=True)
        self.assertEqual((order.peer, order.address), ("alice", address))
        self.assertEqual((order.folder, order.name), (self.cwd, "alice.txt"))
        self.assertTrue(order.overwrite)

    @given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1, max_size=4))
    def test_anything(self, words: list[str]) -> None:
        """Any words are understood or are wrong usage."""
        try:
            parse_wanted(words, None, Path("/nonexistent"))
        except WrongUsage as error:
            self.assertTrue(str(error))
