"""Tests for `p2pshare.storage.shares.listing`."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pshare.storage.shares import tree as share_tree
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.folder_index import SCAN_MAX, FolderIndex
from p2pshare.storage.shares.listing import LINKS_DEEP_MAX, Page, Survey, page_of
from p2pshare.wire.control_messages import parse_message
from p2pshare.wire.frames import CONTROL_MAX
from p2pshare.wire.paths import DEPTH_MAX, PATH_MAX, parse_path
from p2pshare.wire.transfer_messages import (
    OMITTED_MAX,
    PAGE_BYTES_MAX,
    PAGE_MAX,
    Entry,
    EntryKind,
    Fault,
    Listing,
    Omission,
    Omitted,
)
from tests.storage.share_case import OLD, ShareTestCase, viewer_of

Tree = dict[str, "Tree | int"]
"""The content of a folder: folders, and sizes of files."""

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
    """Return the paths that a listing must have: a model without cursors."""
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
        """Pages of any size join to the whole listing in order, whether names are scanned or selected."""
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
        found, more = self.listed("bob", ("s",), after, PAGE_MAX, recursive)
        expected = [path for path, _, _ in paths_of(tree, recursive=recursive) if path > after]
        self.assertEqual(([each.path for each in found], more), (expected, False))


class OmissionTests(ShareTestCase):
    """Files and folders that are not listed are named, unless only the owner may know of them."""

    def link(self, name: str, target: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def test_names(self) -> None:
        """Names that are not UTF-8, and special files, are named with their folder; hidden ones are not."""
        self.write("sub/a")
        os.close(os.open(os.fsencode(self.root) + b"/sub/caf\xe9", os.O_CREAT, 0o600))
        os.mkfifo(self.root / "sub/pipe")
        self.write(".hidden")
        self.write("sub/.git/config")
        expected = {"sub/caf\\xe9": Omitted.NAME, "sub/pipe": Omitted.SPECIAL}
        self.assertEqual(self.omitted("s"), expected)
        self.assertEqual(self.omitted("s", recursive=False), {})
        self.assertEqual(self.omitted(), {f"s/{path}": why for path, why in expected.items()})

    def test_links(self) -> None:
        """Links that lead nowhere, out, to hidden files or in a circle are named, alike in all listings."""
        self.write("../secret", b"secret")
        self.write(".hidden/x")
        self.write("sub/x")
        for name, target in ("out", "../secret"), ("gone", "nothing"), ("hid", ".hidden"):
            self.link(name, target)
        self.link("self", "self")
        expected = dict.fromkeys(("out", "gone", "hid", "self"), Omitted.LINK)
        self.assertEqual(self.omitted("s"), expected)
        self.assertEqual(self.omitted("s", recursive=False), expected)

    def test_loops(self) -> None:
        """Threat 2: links to the folder itself, to one above and to each other are loops, wherever a listing begins."""
        self.write("a/file")
        self.write("b/file")
        self.link("here", ".")
        self.link("a/up", "..")
        self.link("a/b", "../b")
        self.link("b/a", "../a")
        loop = Omitted.LINK_LOOP
        self.assertEqual(
            self.omitted("s"),
            {"here": loop, "a/up": loop, "a/b/a": loop, "b/a/b": loop, "b/a/up": loop},
        )
        self.assertEqual(self.omitted("s", "a"), {"up": loop, "b/a": loop})
        self.assertEqual(
            self.names("s", recursive=True),
            ["a", "a/b", "a/b/file", "a/file", "b", "b/a", "b/a/file", "b/file"],
        )

    def test_moved_loop(self) -> None:
        """A link to the folder above the one that a link leads to is a loop, too."""
        self.write("releases/v3/file")
        self.link("latest", "releases/v3")
        self.link("releases/v3/all", "..")
        self.assertEqual(
            self.names("s", recursive=True),
            ["latest", "latest/file", "releases", "releases/v3", "releases/v3/file"],
        )
        self.assertEqual(set(self.omitted("s").values()), {Omitted.LINK_LOOP})

    def test_fan_out(self) -> None:
        """Threats 2 and 7: folders with links to each other do not have more paths than the bound on links allows."""
        count = 5
        for one in range(count):
            (self.root / f"f{one}").mkdir()
            for other in range(count):
                self.link(f"f{one}/l{other}", f"../f{other}")
        found = self.all_entries(("s",), 100, recursive=True)
        self.assertEqual(max(len(entry.path) for entry in found), 1 + LINKS_DEEP_MAX)
        self.assertEqual(len(found), 5 + 5 * 4 + 5 * 4 * 3 + 5 * 4 * 3 * 2)

    def test_unreadable(self) -> None:
        """A folder that cannot be opened or examined is not listed as empty."""
        self.write("closed/a")
        self.write("listed/a")
        self.link("way", "closed")
        genuine_open, genuine_stat = os.open, os.stat

        def opening(path: object, *arguments: int, **keywords: int) -> int:
            if path == "closed":
                raise PermissionError(errno.EACCES, "no")
            return genuine_open(path, *arguments, **keywords)  # type: ignore[arg-type]

        def stating(path: object, **keywords: object) -> os.stat_result:
            if path == "a":
                raise PermissionError(errno.EACCES, "no")
            return genuine_stat(path, **keywords)  # type: ignore[arg-type]

        self.patch(os, "open", opening)
        self.patch(os, "stat", stating)
        self.assertEqual(self.names("s", recursive=True), ["listed"])
        expected = dict.fromkeys(("closed", "listed/a", "way"), Omitted.UNREADABLE)
        self.assertEqual(self.omitted("s"), expected)

    def test_gone_between_pages(self) -> None:
        """A folder that disappears after a page of it is named."""
        self.write("sub/a")
        self.write("sub/b")
        page = self.tree.list(viewer_of("bob"), ("s",), (), 2, True)
        shutil.rmtree(self.root / "sub")
        rest = self.tree.list(viewer_of("bob"), ("s",), page.entries[-1].path, 2, True)
        self.assertEqual(rest, Page((), False, (Omission(("sub",), Omitted.GONE),)))

    def test_share_away(self) -> None:
        """A missing share is named to those who may see it."""
        self.tree = self.share(
            SharedPath("s", self.root / "gone"),
            SharedPath("t", self.root / "gone", frozenset({"carol"})),
        )
        self.assertEqual(self.omitted(), {"s": Omitted.GONE})
        self.assertEqual(self.omitted(recursive=False), {"s": Omitted.GONE})

    def test_too_deep(self) -> None:
        """Threat 7: a folder with paths that no message can hold is named once."""
        deep = "/".join(["d"] * (DEPTH_MAX - 1))
        self.write(f"{deep}/a")
        self.write(f"{deep}/b")
        self.assertEqual(self.omitted("s"), {deep: Omitted.TOO_DEEP})

    def test_bounded(self) -> None:
        """Threat 7: so many are named and the rest is counted; the message holds them, however long they are."""
        for number in range(OMITTED_MAX + 20):
            self.link(f"{number:03}" + "\x01" * 250, "nothing")
        page = self.tree.list(viewer_of("bob"), ("s",))
        self.assertGreater(page.unnamed, 20)
        self.assertEqual(len(page.omitted) + page.unnamed, OMITTED_MAX + 20)
        message = Listing(1, page.entries, page.more, page.omitted, page.unnamed)
        self.assertEqual(parse_message(message.to_json()), message)

    def test_large_folder(self) -> None:
        """A folder with a database names the same omissions as one that is read, and each once."""
        for number in range(6):
            self.write(f"{number}")
        os.mkfifo(self.root / "pipe")
        self.write(".hidden")
        for folders in self.folder / "folders", None:
            self.index = FolderIndex(folders, scan_max=2)
            self.tree = self.share(SharedPath("s", self.root))
            for _ in range(2):
                pages = self.pages(("s",), 2)
                found = [each for page in pages for each in page.omitted]
                self.assertEqual(found, [Omission(("pipe",), Omitted.SPECIAL)])
                self.assertEqual(self.tree.survey("s").hidden_examples, [".hidden"])

    def pages(self, path: tuple[str, ...], limit: int) -> list[Page]:
        pages = [self.tree.list(viewer_of("bob"), path, (), limit, True)]
        while pages[-1].more:
            after = pages[-1].entries[-1].path
            pages.append(self.tree.list(viewer_of("bob"), path, after, limit, True))
        return pages

    @settings(max_examples=40)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["", "a/", "b/", "a/c/"]),
                st.sampled_from(["x", "y", "z", ".h"]),
                st.sampled_from(
                    ["", "pipe", ".", "..", "a", "../b", "../a", "../..", "x", "../a/x", "/etc"]
                ),
            ),
            max_size=9,
        ),
        st.integers(1, 4),
    )
    def test_nothing_is_lost(self, plan: list[tuple[str, str, str]], limit: int) -> None:
        """In any share each name is an entry or an omission, the same in pages of any size."""
        shutil.rmtree(self.root)
        for folder in "a/c", "b":
            (self.root / folder).mkdir(parents=True)
        for folder, name, kind in plan:
            path = self.root / folder / name
            if not os.path.lexists(path):
                if kind == "pipe":
                    os.mkfifo(path)
                elif kind:
                    path.symlink_to(kind)
                else:
                    path.touch()
        whole = self.tree.list(viewer_of("bob"), ("s",), recursive=True)
        pages = self.pages(("s",), limit)
        self.assertEqual([each for page in pages for each in page.entries], list(whole.entries))
        self.assertEqual([each for page in pages for each in page.omitted], list(whole.omitted))
        told = [each.path for each in whole.entries] + [each.path for each in whole.omitted]
        self.assertEqual(len(set(told)), len(told))
        there = {
            Path(folder, name).relative_to(self.root).parts
            for folder, folders, files in os.walk(self.root)
            for name in folders + files
            if not name.startswith(".")
        }
        self.assertLessEqual(there, set(told))
        for entry in whole.entries:
            if entry.kind is EntryKind.FILE:
                self.assertEqual(self.content("s", *entry.path), b"")


class SurveyTests(ShareTestCase):
    """Surveys for the owner of a share."""

    def test_survey(self) -> None:
        """Hidden names, private folders and omissions are counted, and some are named."""
        self.write("sub/.git/config")
        self.write(".x")
        self.write("keys/key")
        os.mkfifo(self.root / "sub/pipe")
        self.tree = self.share(SharedPath("s", self.root, private=(self.root / "keys",)))
        survey = self.tree.survey("s")
        self.assertEqual((survey.hidden, survey.complete), (3, True))
        self.assertEqual(sorted(survey.hidden_examples), [".x", "keys", "sub/.git"])
        self.assertEqual(survey.omitted, {Omitted.SPECIAL: 1})
        self.assertEqual(survey.omitted_examples, ["sub/pipe"])
        self.assertEqual(self.omitted("s"), {"sub/pipe": Omitted.SPECIAL})

    def test_bounded(self) -> None:
        """Threat 7: a survey ends at a bound, or when it is stopped, and says that it is incomplete."""
        for name in "abc":
            self.write(name)
        self.patch(share_tree, "SURVEY_MAX", 2)
        self.assertEqual(self.tree.survey("s"), Survey(2, complete=False))
        self.assertFalse(self.tree.survey("s", stop=lambda: True).complete)

    def test_away(self) -> None:
        """A missing share is reported."""
        shutil.rmtree(self.root)
        self.assertEqual(self.tree.survey("s").omitted, {Omitted.GONE: 1})


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
        (page, more) = self.listed("bob", ("s",), (names[-2],))
        self.assertEqual(([entry.path[0] for entry in page], more), ([names[-1], "new"], False))

    def test_large_folder_of_any_time(self) -> None:
        """A large folder that is dated 2300 is indexed as any other."""
        self.index = FolderIndex(self.folder / "folders", scan_max=1)
        self.tree = self.share(SharedPath("s", self.root))
        for name in "abc":
            self.write(name)
        os.utime(self.root, ns=(0, 10_413_792_000_000_000_000))
        self.assertEqual(self.names("s"), ["a", "b", "c"])
        self.assertTrue(list((self.folder / "folders").iterdir()))

    def test_changes_between_pages(self) -> None:
        """Files that appear or disappear between two pages shift nothing else."""
        for name in "bdf":
            self.write(f"sub/{name}")
        (first, _) = self.listed("bob", ("s",), (), 3, True)
        self.assertEqual([entry.path[-1] for entry in first], ["sub", "b", "d"])
        (self.root / "sub/d").unlink()
        self.write("sub/a")
        self.write("sub/e")
        (second, more) = self.listed("bob", ("s",), first[-1].path, 3, True)
        self.assertEqual(([entry.path[-1] for entry in second], more), (["e", "f"], False))
        shutil.rmtree(self.root / "sub")
        self.write("z")
        (third, _) = self.listed("bob", ("s",), second[-1].path, 3, True)
        self.assertEqual([entry.path for entry in third], [("z",)])

    def test_fresh(self) -> None:
        """Sizes and times are those of now, whatever was read of the names before."""
        self.index = FolderIndex(self.folder / "folders", scan_max=0)
        self.tree = self.share(SharedPath("s", self.root))
        path = self.write("a", b"1")
        before = os.stat(self.root)
        self.listed("bob", ("s",))
        self.write("a", b"12", OLD + 5000)
        os.utime(self.root, ns=(before.st_atime_ns, before.st_mtime_ns))
        ((entry,), _) = self.listed("bob", ("s",))
        self.assertEqual((entry.size, entry.mtime_ns), (2, OLD + 5_000))
        path.unlink()
        self.assertEqual(self.listed("bob", ("s",)), ((), False))

    def test_links_to_folders(self) -> None:
        """Threat 2: the content of a folder is listed under a link to it, too; loops end, and are named."""
        self.write("sub/a")
        (self.root / "sub/loop").symlink_to("..")
        (self.root / "other").symlink_to("sub")
        self.assertEqual(self.names("s", recursive=True), ["other", "other/a", "sub", "sub/a"])
        loops = {"other/loop": Omitted.LINK_LOOP, "sub/loop": Omitted.LINK_LOOP}
        self.assertEqual(self.omitted("s"), loops)
        self.assertEqual(self.content("s", "other", "a"), b"public")
        self.assertEqual(self.names("s", "other"), ["a", "loop"])
        self.assertEqual(self.names("s", "sub", "loop"), ["other", "sub"])
        (entries, _) = self.listed("bob", ("s",), ("sub", "loop", "x"), 10, True)
        self.assertEqual(entries, ())
        (self.root / "file").symlink_to("sub/a")
        ((entry, *_), _) = self.listed("bob", ("s",))
        self.assertEqual((entry.path, entry.kind, entry.size), (("file",), EntryKind.FILE, 6))

    def test_too_deep(self) -> None:
        """Threat 7: paths that no message can hold are left out; every listed path can be requested."""
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
            for number in range(700):
                stem = f"{number:04}"
                os.mknod(self.root / (stem + character * ((255 - 4) // len(character.encode()))))
            entries, more = self.listed("bob", ("s",))
            body = Listing(1, entries, more).to_json()
            self.assertTrue(more)
            self.assertLessEqual(len(body), CONTROL_MAX)
            self.assertGreater(len(body), PAGE_BYTES_MAX // 2)
            self.assertEqual(parse_message(body), Listing(1, entries, more))
            self.assertEqual(len(self.all_entries(("s",), PAGE_MAX, recursive=False)), 700)

    def test_one_at_least(self) -> None:
        """A page has at least one entry, however little fits, so that the next page differs."""
        entries = [Entry((name,), EntryKind.FILE, 0, 0) for name in "abc"]
        self.assertEqual(page_of(entries, 1, bytes_max=0), Page((entries[0],), True))
        self.assertEqual(page_of(entries, 3, bytes_max=2), Page(tuple(entries[:2]), True))
        self.assertEqual(page_of(entries, 3, bytes_max=3), Page(tuple(entries), False))
        self.assertEqual(self.fault(self.listed, "bob", ("gone",), (), 0), Fault.NOT_FOUND)
        self.assertEqual(page_of([], 1), Page((), False))
