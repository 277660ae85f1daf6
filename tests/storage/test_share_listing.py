"""Tests for `p2pshare.storage.share_listing`."""

from __future__ import annotations

import os
import shutil

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pshare.storage.folder_index import SCAN_MAX, FolderIndex
from p2pshare.storage.share_arguments import SharedPath
from p2pshare.storage.share_listing import page_of
from p2pshare.wire.frames import CONTROL_MAX
from p2pshare.wire.messages import parse_message
from p2pshare.wire.paths import DEPTH_MAX, PATH_MAX, parse_path
from p2pshare.wire.transfer_messages import (
    PAGE_BYTES_MAX,
    PAGE_MAX,
    Entry,
    EntryKind,
    Fault,
    Listing,
)
from tests.storage.share_case import OLD, ShareTestCase

Tree = dict[str, "Tree | int"]
"""What is in a folder: folders, and sizes of files."""

# Names that sort otherwise as text with slashes, by UTF-16, or by case.
NAMES = [
    "a",
    "A",
    "a-",
    "a b",
    "a.b",
    "b",
    "é",
    "\uffee",
    "\U0001f600",
    "\ue000",
    "-",
    "!",
    "0",
    "~",
]

trees: st.SearchStrategy[Tree] = st.recursive(
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3), max_size=4),
    lambda below: st.dictionaries(
        st.sampled_from(NAMES), st.one_of(st.integers(0, 3), below), max_size=5
    ),
    max_leaves=12,
)


def paths_of(tree: Tree, *, recursive: bool) -> list[tuple[tuple[str, ...], EntryKind, int]]:
    """What a listing must hold: a model that knows no cursors."""
    found: list[tuple[tuple[str, ...], EntryKind, int]] = []
    for name, content in tree.items():
        if isinstance(content, int):
            found.append(((name,), EntryKind.FILE, content))
            continue
        found.append(((name,), EntryKind.FOLDER, 0))
        if recursive:
            below = paths_of(content, recursive=True)
            found += [((name, *path), kind, size) for path, kind, size in below]
    return sorted(found, key=lambda each: each[0])


class ModelTests(ShareTestCase):
    def plant(self, tree: Tree, *path: str) -> None:
        folder = self.root.joinpath(*path)
        folder.mkdir()
        for name, content in tree.items():
            if isinstance(content, int):
                (folder / name).write_bytes(bytes(content))
            else:
                self.plant(content, *path, name)

    @settings(max_examples=50)
    @given(trees, st.integers(1, 7), st.booleans(), st.sampled_from([0, 1, 3, SCAN_MAX]))
    def test_pages(self, tree: Tree, limit: int, recursive: bool, scan_max: int) -> None:
        """Pages of any size, whether names are scanned or selected, join to what is there in its order."""
        shutil.rmtree(self.root)
        self.plant(tree)
        self.index = FolderIndex(None, scan_max=scan_max)
        self.tree = self.share(SharedPath("s", self.root))
        expected = paths_of(tree, recursive=recursive)
        found = self.all_entries(("s",), limit, recursive=recursive)
        self.assertEqual([(each.path, each.kind, each.size) for each in found], expected)
        if recursive:
            found = self.all_entries((), limit, recursive=True)[1:]
            self.assertEqual([each.path[1:] for each in found], [path for path, _, _ in expected])

    @settings(max_examples=50)
    @given(
        trees, st.lists(st.sampled_from([*NAMES, "c", "zz"]), max_size=4).map(tuple), st.booleans()
    )
    def test_any_cursor(self, tree: Tree, after: tuple[str, ...], recursive: bool) -> None:
        """A page begins behind any path, one that was never there or is gone as well."""
        shutil.rmtree(self.root)
        self.plant(tree)
        found, more = self.tree.list("bob", ("s",), after, PAGE_MAX, recursive)
        expected = [path for path, _, _ in paths_of(tree, recursive=recursive) if path > after]
        self.assertEqual(([each.path for each in found], more), (expected, False))


class PageTests(ShareTestCase):
    def test_large_folder(self) -> None:
        """A folder that is too large to be scanned for each page has the same pages as any."""
        names = sorted(f"{number * 7919 % 10007:x}" for number in range(SCAN_MAX + 300))
        for name in names:
            os.mknod(self.root / name)
        found = self.all_entries(("s",), PAGE_MAX, recursive=False)
        self.assertEqual([entry.path for entry in found], [(name,) for name in names])
        self.assertTrue(list((self.folder / "folders").iterdir()))
        os.mknod(self.root / "new")
        (page, more) = self.tree.list("bob", ("s",), (names[-2],))
        self.assertEqual(([entry.path[0] for entry in page], more), ([names[-1], "new"], False))

    def test_changes_between_pages(self) -> None:
        """What comes and goes between two pages moves nothing else."""
        for name in "bdf":
            self.write(f"sub/{name}")
        (first, _) = self.tree.list("bob", ("s",), (), 3, True)
        self.assertEqual([entry.path[-1] for entry in first], ["sub", "b", "d"])
        (self.root / "sub/d").unlink()
        self.write("sub/a")
        self.write("sub/e")
        (second, more) = self.tree.list("bob", ("s",), first[-1].path, 3, True)
        self.assertEqual(([entry.path[-1] for entry in second], more), (["e", "f"], False))
        shutil.rmtree(self.root / "sub")
        self.write("z")
        (third, _) = self.tree.list("bob", ("s",), second[-1].path, 3, True)
        self.assertEqual([entry.path for entry in third], [("z",)])

    def test_fresh(self) -> None:
        """Sizes and times are those of now, whatever was read of the names before."""
        self.index = FolderIndex(self.folder / "folders", scan_max=0)
        self.tree = self.share(SharedPath("s", self.root))
        path = self.write("a", b"1")
        before = os.stat(self.root)
        self.tree.list("bob", ("s",))
        self.write("a", b"12", OLD + 5000)
        os.utime(self.root, ns=(before.st_atime_ns, before.st_mtime_ns))
        ((entry,), _) = self.tree.list("bob", ("s",))
        self.assertEqual((entry.size, entry.mtime), (2, OLD // 1000 + 5))
        path.unlink()
        self.assertEqual(self.tree.list("bob", ("s",)), ((), False))

    def test_links_to_folders(self) -> None:
        """Threat 2: loops end: a folder that is reached by a link is listed, and is not walked into."""
        self.write("sub/a")
        (self.root / "sub/loop").symlink_to("..")
        (self.root / "other").symlink_to("sub")
        self.assertEqual(self.names("s", recursive=True), ["other", "sub", "sub/a", "sub/loop"])
        self.assertEqual(self.names("s", "other"), ["a", "loop"])
        self.assertEqual(self.names("s", "sub", "loop"), ["other", "sub"])
        (entries, _) = self.tree.list("bob", ("s",), ("sub", "loop", "x"), 10, True)
        self.assertEqual(entries, ())
        (self.root / "file").symlink_to("sub/a")
        ((entry, *_), _) = self.tree.list("bob", ("s",))
        self.assertEqual((entry.path, entry.kind, entry.size), (("file",), EntryKind.FILE, 6))

    def test_too_deep(self) -> None:
        """Threat 7: what no message could ask for is left out; all that is listed can be asked for."""
        self.write("/".join(["d"] * (DEPTH_MAX - 2)) + "/a")
        self.write("/".join(["d"] * (DEPTH_MAX - 1)) + "/a")
        found = self.all_entries(("s",), 9, recursive=True)
        self.assertEqual(max(len(entry.path) for entry in found), DEPTH_MAX - 1)
        self.assertEqual(self.content("s", *["d"] * (DEPTH_MAX - 2), "a"), b"public")
        folder = os.open(self.root, os.O_RDONLY)
        for _ in range(17):  # whose paths no system call takes at once
            os.mkdir("x" * 255, dir_fd=folder)
            below = os.open("x" * 255, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = below
        os.close(folder)
        found = self.all_entries(("s",), 100, recursive=True)
        self.assertEqual(max(len("/".join(entry.path)) for entry in found), 15 * 256 - 1)
        self.assertGreater(16 * 256 + len("s/"), PATH_MAX)

    def test_longest(self) -> None:
        """Threat 7: the longest path that a message can name is listed, and fetched; a byte more is not."""
        folder = os.open(self.root, os.O_RDONLY)
        for _ in range(15):
            os.mkdir("x" * 255, dir_fd=folder)
            below = os.open("x" * 255, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = below
        left = PATH_MAX - 15 * 256 - len("s/")
        for length in left, left + 1:
            file = os.open("f" * length, os.O_WRONLY | os.O_CREAT, dir_fd=folder)
            os.write(file, b"public")
            os.close(file)
        os.close(folder)
        path = *["x" * 255] * 15, "f" * left
        found = self.all_entries(("s",), 100, recursive=True)
        files = [entry.path for entry in found if entry.kind is EntryKind.FILE]
        self.assertEqual([each for each in files if len(each) == 16], [path])
        self.assertEqual(parse_path("/".join(("s", *path))), ("s", *path))
        self.assertEqual(self.content("s", *path), b"public")


class MessageTests(ShareTestCase):
    def test_fits(self) -> None:
        """Threat 7: a page of the longest and oddest names fits into a message, which the other side takes."""
        for character in ("\x01", '"', "é", "\U0001f600", "x"):
            shutil.rmtree(self.root)
            self.root.mkdir()
            for number in range(1200):
                stem = f"{number:04}"
                os.mknod(self.root / (stem + character * ((255 - 4) // len(character.encode()))))
            entries, more = self.tree.list("bob", ("s",))
            body = Listing(1, entries, more).to_json()
            self.assertTrue(more)
            self.assertLessEqual(len(body), CONTROL_MAX)
            self.assertGreater(len(body), PAGE_BYTES_MAX // 2)
            self.assertEqual(parse_message(body), Listing(1, entries, more))
            self.assertEqual(len(self.all_entries(("s",), PAGE_MAX, recursive=False)), 1200)

    def test_one_at_least(self) -> None:
        """A page has an entry, however little fits, so that the next page is another one."""
        entries = [Entry((name,), EntryKind.FILE, 0, 0) for name in "abc"]
        self.assertEqual(page_of(entries, 1, bytes_max=0), ((entries[0],), True))
        self.assertEqual(page_of(entries, 3, bytes_max=2), (tuple(entries[:2]), True))
        self.assertEqual(page_of(entries, 3, bytes_max=3), (tuple(entries), False))
        self.assertEqual(self.fault(self.tree.list, "bob", ("gone",), (), 0), Fault.NOT_FOUND)
        self.assertEqual(page_of([], 1), ((), False))
