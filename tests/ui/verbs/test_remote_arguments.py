"""Tests of `p2pshare.ui.verbs.remote_arguments`."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import IllegalName, WrongUsage
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.ui.verbs.remote_arguments import FROM_YOURSELF, parse_items, parse_where

CAT, DOG = "alice:photos/cat.jpg", "alice:dog.jpg"


class ItemsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cwd = Path(self.mktemp()).absolute()
        (self.cwd / "folder").mkdir(parents=True)
        (self.cwd / "file").touch()

    def parsed(self, *words: str, overwrite: bool = False) -> dict[str, list[JobItem]]:
        return parse_items(words, "bob", self.cwd, overwrite=overwrite)

    def wrong(self, *words: str) -> str:
        return str(self.assertRaises(WrongUsage, self.parsed, *words))

    def test_paths(self) -> None:
        """A path is split at slashes; it may begin or end with one, and may contain colons."""
        for word, path in (
            (CAT, ("photos", "cat.jpg")),
            ("alice:/photos/", ("photos",)),
            ("alice:a:b/c", ("a:b", "c")),
            ("alice:photos/*.jpg", ("photos", "*.jpg")),
            ("alice:фото/猫.jpg", ("фото", "猫.jpg")),
        ):
            self.assertEqual(self.parsed(word), {"alice": [JobItem(path, self.cwd)]})

    def test_peers(self) -> None:
        """The items of each peer are together, in the order of the words."""
        jobs = self.parsed(CAT, "carol:x", DOG, overwrite=True)
        self.assertEqual(list(jobs), ["alice", "carol"])
        paths = [item.path for item in jobs["alice"]]
        self.assertEqual(paths, [("photos", "cat.jpg"), ("dog.jpg",)])
        self.assertTrue(all(item.overwrite for items in jobs.values() for item in items))

    def test_destinations(self) -> None:
        """DEST is a folder, or the new name of a single item."""
        for words, folder, name in (
            ((CAT,), ".", None),
            ((CAT, "folder"), "folder", None),
            ((CAT, "folder/"), "folder", None),
            ((CAT, "tom.jpg"), ".", "tom.jpg"),
            ((CAT, "folder/tom.jpg"), "folder", "tom.jpg"),
            ((CAT, "file"), ".", "file"),
            ((CAT, "./a:b"), ".", "a:b"),
            ((CAT, DOG, "folder"), "folder", None),
            (("alice:*.jpg", "folder"), "folder", None),
            ((CAT, "new/"), "new", None),
            ((CAT, DOG, "folder/new/"), "folder/new", None),
            (("alice:*.jpg", "new/"), "new", None),
        ):
            with self.subTest(words=words):
                for item in self.parsed(*words)["alice"]:
                    self.assertEqual((item.folder, item.name), (self.cwd / folder, name))

    def test_wrong(self) -> None:
        """The error about invalid words says which words are valid."""
        for words, pattern in (
            (
                ("alice",),
                "'alice' does not say which file: write alice:PATH. `p2pshare ls alice` lists",
            ),
            (("alice:",), r"'alice:\*' means all of them"),
            (("alice:/",), "does not say which file"),
            (("alice:../x",), "'../x' cannot be a path at alice"),
            (("alice:a/./b",), "'a/./b' cannot be a path at alice"),
            (("alice:a//b",), "a part of it is empty"),
            (("alice:" + "a/" * 100 + "b",), "too long"),
            (("alice:" + "a" * 300,), "more than 255 bytes"),
            (("alice:a\0b",), "NUL"),
            ((CAT, "no/such"), "no folder 'no'"),
            ((CAT, "no/where/"), "no folder 'no/where/'"),
            ((CAT, DOG, "file/"), "2 items need a destination folder, but 'file/' is a file"),
            (("alice/photos",), "'alice:photos'"),
            (("Alice/a/b",), "'Alice:a/b'"),
            (("alice/",), "'alice:'"),
            ((CAT, DOG, "notes"), "2 items need a destination folder, but 'notes' does not"),
            ((CAT, DOG, "file"), "2 items need a destination folder, but 'file' is a file"),
            (("",), "empty"),
            ((CAT, ""), "empty: is a variable not set"),
            (("alice:*.jpg", "notes"), "A glob needs a destination folder"),
            ((CAT, "", "folder"), "words is empty"),
        ):
            with self.subTest(words=words):
                self.assertRegex(self.wrong(*words), pattern)

    def test_illegal_name(self) -> None:
        """A peer's name must be legal, and may be written in upper case."""
        self.assertEqual(list(self.parsed("Alice:x", "ALICE:y")), ["alice"])
        self.assertEqual(parse_where("Alice:x"), ("alice", ("x",)))
        self.assertEqual(self.wrong("BOB:x"), FROM_YOURSELF)
        for word in ("al ice:x", ":x", "list:x"):
            self.assertRaises(IllegalName, self.parsed, word)
            self.assertRaises(IllegalName, parse_where, word)

    def test_yourself(self) -> None:
        """Users cannot get files from themselves."""
        self.assertEqual(self.wrong("bob:x"), FROM_YOURSELF)
        self.assertEqual(self.wrong(CAT, "bob:x"), FROM_YOURSELF)

    def test_where(self) -> None:
        """`ls` takes a peer, or a folder of it."""
        for word, path in (
            ("alice", ()),
            ("alice:", ()),
            ("alice:/", ()),
            ("alice:a/b/", ("a", "b")),
        ):
            self.assertEqual(parse_where(word), ("alice", path))

    def test_slash_for_colon(self) -> None:
        """A slash in place of the colon is rejected, with a suggestion."""
        for word, meant in (("alice/photos", "alice:photos"), ("alice/a:b", None)):
            error = self.assertRaises(WrongUsage, parse_where, word)
            self.assertEqual(f"Did you mean {meant!r}?" in str(error), meant is not None)
        for word in ("/alice", "./alice"):
            self.assertRaises(IllegalName, parse_where, word)

    @given(st.lists(st.text(), min_size=1, max_size=4))
    def test_anything(self, words: list[str]) -> None:
        """Any words are valid or wrong usage."""
        try:
            parse_items(words, None, Path("/nonexistent"), overwrite=False)
        except WrongUsage as error:
            self.assertTrue(str(error))
