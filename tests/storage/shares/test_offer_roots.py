"""Offers in a tree of shares: who sees them, what is in them, what is counted."""

from __future__ import annotations

import os
from unittest.mock import patch

from p2pshare.errors import WrongUsage
from p2pshare.storage.shares.arguments import SHARES_MAX, SharedPath, Viewer
from p2pshare.storage.shares.offer_roots import (
    OfferCount,
    OfferSurvey,
    offer_roots,
)
from p2pshare.storage.shares.rules import Rules
from p2pshare.wire.offers.messages import ITEMS_MAX, OfferItem
from p2pshare.wire.paths import format_path
from p2pshare.wire.transfer_messages import Entry, EntryKind, Fault, Omitted
from tests.storage.share_case import ShareTestCase, viewer_of

ID = "abcdefghijklmnop"
TOP = f"@{ID}"


def is_bob(viewer: Viewer) -> bool:
    return viewer.name == "bob"


class OfferCase(ShareTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.write("../pictures/cat.jpg", b"cat")
        self.write("../pictures/2024/dog.jpg", b"doggy")
        (self.folder / "pictures/empty").mkdir()
        self.write("../elsewhere/notes.txt", b"notes")
        self.keys = self.folder / "keys"
        self.keys.mkdir()

    def offer(self, *paths: str, as_name: str | None = None) -> tuple[SharedPath, ...]:
        return offer_roots([self.folder / each for each in paths], [self.keys], as_name)

    def survey(self, *paths: str) -> OfferSurvey:
        return self.tree.survey_offer(self.offer(*paths))


class MountTests(OfferCase):
    def mount(self, *paths: str) -> None:
        self.tree.mount(ID, self.offer(*paths), is_bob)

    def test_content(self) -> None:
        """An offer shows files and folders from anywhere, with what is empty, under their own names."""
        self.mount("pictures", "elsewhere/notes.txt")
        self.assertEqual(self.names(TOP), ["notes.txt", "pictures"])
        listed = ["2024", "2024/dog.jpg", "cat.jpg", "empty"]
        self.assertEqual(self.names(TOP, "pictures", recursive=True), listed)
        below = ["notes.txt", "pictures", *(f"pictures/{each}" for each in listed)]
        self.assertEqual(self.names(TOP, recursive=True), below)
        for limit in (1, 2, 3):
            entries = self.all_entries((TOP,), limit, recursive=True)
            self.assertEqual([format_path(each.path) for each in entries], below)
        self.assertEqual(self.content(TOP, "notes.txt"), b"notes")
        self.assertEqual(self.content(TOP, "pictures", "2024", "dog.jpg"), b"doggy")
        self.assertEqual(self.open_fault(TOP), Fault.IS_FOLDER)
        self.assertEqual(self.open_fault(TOP, "pictures"), Fault.IS_FOLDER)
        self.assertEqual(self.open_fault(TOP, "gone"), Fault.NOT_FOUND)

    def test_versions(self) -> None:
        """A file has the version with which it is listed, so that what is here already is recognised."""
        self.mount("pictures", "elsewhere/notes.txt")
        entries, _ = self.listed("bob", (TOP,), recursive=True)
        files = [each for each in entries if each.kind is EntryKind.FILE]
        opened = [self.open("bob", (TOP, *each.path)) for each in files]
        for each in opened:
            self.addCleanup(each.close)
        self.assertEqual([each.version for each in files], [each.version for each in opened])

    def test_recipients_only(self) -> None:
        """Threat 34: an offer does not exist for anybody but its recipients, and no top lists it."""
        self.mount("pictures", "elsewhere/notes.txt")
        self.assertEqual(self.names(), ["s"])
        for path in ((TOP,), (TOP, "notes.txt"), (TOP, "pictures", "cat.jpg"), (TOP, "gone")):
            nothing = ("@bbbbbbbbbbbbbbbb", *path[1:])
            self.assertEqual(self.fault(self.listed, "carol", path), Fault.NOT_FOUND)
            self.assertEqual(self.fault(self.listed, "bob", nothing), Fault.NOT_FOUND)
            self.assertEqual(self.open_fault(*path, viewer="carol"), Fault.NOT_FOUND)
            self.assertEqual(self.open_fault(*nothing, viewer="bob"), Fault.NOT_FOUND)
            self.assertEqual(
                self.fault(self.tree.distrust, viewer_of("carol"), path), Fault.NOT_FOUND
            )

    def test_nothing_is_looked_up(self) -> None:
        """Threat 34: the disk is not accessed for others, so the time reveals nothing."""
        self.mount("pictures")
        asked: list[object] = []
        for name in ("open", "stat"):
            self.patch(os, name, lambda *arguments, **_: asked.append(arguments))
        self.assertEqual(self.open_fault(TOP, "pictures", viewer="carol"), Fault.NOT_FOUND)
        self.assertEqual(self.fault(self.listed, "carol", (TOP, "pictures")), Fault.NOT_FOUND)
        self.assertEqual(asked, [])

    def test_unmount(self) -> None:
        """An offer that ends is not there any more; a file that is open stays readable."""
        self.mount("pictures")
        file = self.open("bob", (TOP, "pictures", "cat.jpg"))
        self.addCleanup(file.close)
        self.tree.unmount(ID)
        self.tree.unmount(ID)
        self.assertEqual(self.open_fault(TOP, "pictures", "cat.jpg"), Fault.NOT_FOUND)
        self.assertEqual(file.read_block(0)[0], b"cat")

    def test_a_root_that_is_gone(self) -> None:
        """A file that is moved away later is named as left out."""
        self.mount("pictures", "elsewhere/notes.txt")
        (self.folder / "elsewhere/notes.txt").unlink()
        self.assertEqual(self.omitted(TOP), {"notes.txt": Omitted.GONE})

    def test_private_folders(self) -> None:
        """A key in an offered folder stays here."""
        (self.keys / "key").write_bytes(b"secret")
        self.tree.mount(ID, offer_roots([self.folder], [self.keys]), is_bob)
        name = self.folder.name
        self.assertNotIn(f"{name}/keys", self.names(TOP, recursive=True))
        self.assertEqual(self.open_fault(TOP, name, "keys", "key"), Fault.NOT_FOUND)


class ReplaceTests(ShareTestCase):
    def test_replace(self) -> None:
        """Shares come and go at once; a survey of one that is gone is empty."""
        self.write("a", b"a")
        self.tree.show([SharedPath("t", self.root)])
        self.assertEqual((self.names(), self.content("t", "a")), (["t"], b"a"))
        self.assertEqual(self.open_fault("s", "a"), Fault.NOT_FOUND)
        self.assertEqual(self.tree.survey("s").looked_at, 0)

    def test_replace_within_a_batch(self) -> None:
        """A share of the same name elsewhere is not served from folders that the one before had open."""
        self.write("d/a", b"old")
        other = self.folder / "other"
        (other / "d").mkdir(parents=True)
        (other / "d/a").write_bytes(b"new")
        asked = iter([lambda: None, lambda: self.tree.show([SharedPath("s", other)])])
        genuine = self.tree._shared

        def replacing(*arguments: object) -> object:
            next(asked)()
            return genuine(*arguments)  # type: ignore[arg-type]

        with patch.object(self.tree, "_shared", replacing):
            path = ("s", "d", "a")
            found = self.tree.open_many(viewer_of("bob"), [path, path])
        self.assertEqual([each.data for each in found], [b"old", b"new"])  # type: ignore[union-attr]


class RootsTests(OfferCase):
    def assert_wrong(self, pattern: str, *paths: str, as_name: str | None = None) -> None:
        with self.assertRaisesRegex(WrongUsage, pattern):
            self.offer(*paths, as_name=as_name)

    def test_names(self) -> None:
        """Of two with one name the second is numbered, whatever else is called so."""
        self.write("../a (1).txt")
        for each in ("x", "y", "z"):
            self.write(f"../{each}/a.txt")
        roots = self.offer("x/a.txt", "a (1).txt", "y/a.txt", "z/a.txt")
        self.assertEqual(
            [(each.name, each.path.parent.name) for each in roots],
            [
                ("a.txt", "x"),
                ("a (1).txt", self.folder.name),
                ("a (2).txt", "y"),
                ("a (3).txt", "z"),
            ],
        )

    def test_hidden(self) -> None:
        """A hidden file that the sender names is sent; what is hidden in a folder only with `--hidden`."""
        self.write("../.profile", b"p")
        self.write("../pictures/.hidden", b"h")
        paths = [self.folder / ".profile", self.folder / "pictures"]
        for hidden in (False, True):
            roots = offer_roots(paths, rules=Rules.of(("*.jpg",), hidden=hidden))
            self.tree.mount(ID, roots, is_bob)
            self.assertEqual(".profile" in self.names(TOP), True)
            self.assertEqual("pictures/.hidden" in self.names(TOP, recursive=True), hidden)
            self.assertNotIn("pictures/cat.jpg", self.names(TOP, recursive=True))

    def test_as_name(self) -> None:
        """A single path may have another name."""
        (root,) = self.offer("elsewhere/notes.txt", as_name="n.md")
        self.assertEqual((root.name, root.path), ("n.md", self.folder / "elsewhere/notes.txt"))
        self.assert_wrong("Only a single", "pictures", "elsewhere", as_name="x")
        self.assert_wrong("under the name 'a/b'", "pictures", as_name="a/b")

    def test_cannot_be_sent(self) -> None:
        """What is missing, special, private or nameless is refused before anything is sent."""
        os.mkfifo(self.folder / "fifo")
        for pattern, path in (
            ("nothing to send", "gone"),
            ("cannot be sent: it is neither a file nor a folder", "fifo"),
            ("cannot be sent: it contains keys", "keys"),
            ("needs a name to be sent under", "/"),
        ):
            self.assert_wrong(pattern, path)
        self.assert_wrong("1 to 1000")
        self.assert_wrong("1 to 1000", *["pictures"] * (SHARES_MAX + 1))


class SurveyTests(OfferCase):
    def test_counts(self) -> None:
        """Files, folders and bytes are counted for each root, and what is left out is named."""
        self.write("../pictures/.hidden")
        os.mkfifo(self.folder / "pictures/fifo")
        survey = self.survey("pictures", "elsewhere/notes.txt")
        self.assertEqual((survey.files, survey.folders, survey.bytes), (3, 3, 13))
        notes = OfferItem("notes.txt", EntryKind.FILE, 5, 1)
        pictures = OfferItem("pictures", EntryKind.FOLDER, 8, 2)
        self.assertEqual((survey.items, survey.more_items), ((notes, pictures), 0))
        left_out = survey.left_out
        self.assertEqual(left_out.hidden_examples, ["pictures/.hidden"])
        self.assertEqual((left_out.omitted_examples, left_out.complete), (["pictures/fifo"], True))

    def test_empty_folder(self) -> None:
        """An empty folder is an item of its own."""
        survey = self.survey("pictures/empty")
        self.assertEqual((survey.files, survey.folders, survey.bytes), (0, 1, 0))
        self.assertEqual(survey.items, (OfferItem("empty", EntryKind.FOLDER, 0, 0),))

    def test_many_items(self) -> None:
        """Only the first roots are described."""
        for number in range(ITEMS_MAX + 2):
            self.write(f"../many/{number:03}")
        names = [f"many/{number:03}" for number in range(ITEMS_MAX + 2)]
        survey = self.survey(*names)
        self.assertEqual((len(survey.items), survey.more_items), (ITEMS_MAX, 2))
        self.assertEqual(survey.files, ITEMS_MAX + 2)

    def test_bounds(self) -> None:
        """More than a receiver takes is refused, and the count can be stopped."""
        count = OfferCount(entries_max=2)
        for name in ("a", "b"):
            count.add(Entry((name,), EntryKind.FILE, 1, 0, "v"))
        with self.assertRaisesRegex(WrongUsage, "At most 2 files"):
            count.add(Entry(("c",), EntryKind.FILE, 1, 0, "v"))
        count = OfferCount(folders_max=0)
        with self.assertRaisesRegex(WrongUsage, "At most 0 folders"):
            count.add(Entry(("d",), EntryKind.FOLDER, 0, 0, "v"))
        survey = self.tree.survey_offer(self.offer("pictures"), lambda: True)
        self.assertFalse(survey.left_out.complete)
