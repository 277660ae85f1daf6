"""Tests for `p2pshare.storage.incoming.folder`: where files land, and what is in the way."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pshare.errors import CannotSave, DestinationGone, DiskFull, TransferFailed
from p2pshare.storage.incoming import folder as incoming_folder
from p2pshare.storage.incoming import folder_handles, publishing
from p2pshare.storage.incoming import small_files as whole_files
from p2pshare.storage.incoming.announcement import Announced, Origin, Place
from p2pshare.storage.incoming.destination import safe_name
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.folder_handles import SYNCED_MAX
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.blocks import FILE_SIZE_MAX
from tests.storage.incoming.test_destination import HOSTILE
from tests.storage.incoming_case import (
    BLOCK,
    HIDDEN,
    MTIME,
    ORIGIN,
    PLACE,
    IncomingTestCase,
    announced,
    content_of,
    root_for,
    whole,
)

CONTENT = content_of(3 * BLOCK)
ILLEGAL = ("", ".", "..", "/", "a/b", "../x", "/etc/passwd", "a\0b", "\ud800", "a/", "./a")


def safe_place(path: Sequence[str]) -> Place:
    """The portable names of a remote path."""
    *folder, name = map(safe_name, path)
    return Place(tuple(folder), name)


class FindTests(IncomingTestCase):
    """P8: what is there already is not fetched again."""

    def test_there(self) -> None:
        """A plain file of this content, under the name or a numbered one, is it."""
        first, second = self.fetch(CONTENT), self.fetch(CONTENT[:BLOCK])
        self.assertEqual(self.find(CONTENT), first)
        self.assertEqual(self.find(CONTENT[:BLOCK]), second)

    def test_there_by_another_number(self) -> None:
        """A file that is to replace the one of its name is not content with a numbered one."""
        first, second = self.fetch(CONTENT), self.fetch(CONTENT[:BLOCK])
        self.assertNotEqual(first, second)
        self.assertIsNone(self.find(CONTENT[:BLOCK], overwrite=True))
        self.assertEqual(self.find(CONTENT, overwrite=True), first)

    def test_not_there(self) -> None:
        """Another content of the same size, another size, another folder, a folder or a link is not it."""
        path = self.fetch(CONTENT)
        for place, content in (
            (PLACE, CONTENT + b"x"),
            (PLACE, CONTENT[::-1]),
            (Place((), "dog.jpg"), CONTENT),
            (Place(("gone", "far"), "cat.jpg"), CONTENT),
            (Place(("cat.jpg",), "cat.jpg"), CONTENT),
        ):
            self.assertIsNone(self.find(content, place, version="v2"))
        (self.path / "link").symlink_to(path)
        self.assertIsNone(self.find(CONTENT, Place((), "link")))


class HostileTests(IncomingTestCase):
    """Nothing is written outside, whatever a file is called."""

    def land(self, place: Place) -> list[Path]:
        """Take a file in every way that there is."""
        self.folder.make_folder(place.folder)
        origin = Origin(ORIGIN.key, ("x",))
        part = self.folder.begin(place, origin, announced(b"1"))
        part.write_block(0, b"1", whole(b"1").digests[0])
        part.suspend()
        resumed = self.folder.resume(place, origin)
        assert resumed is not None
        paths = [resumed.finish(root_for(b"1"))]
        others = [Origin(ORIGIN.key, (each,)) for each in "yz"]
        for result in self.folder.store_whole([whole(b"22", place, each) for each in others]):
            assert isinstance(result, Path), result
            paths.append(result)
        found = self.find(b"1", place, origin=origin)
        assert found is not None
        return [*paths, found]

    def test_table(self) -> None:
        """Threat 1: each hostile name, of a file and of a folder, in every way of taking it, stays inside."""
        for name in HOSTILE:
            for path in ((name,), (name, name)):
                with self.subTest(path=path):
                    place = safe_place(path)
                    above = self.path.joinpath(*place.folder)
                    for landed in set(self.land(place)):
                        self.assertEqual(Path(os.path.realpath(landed)).parent, above)
                        landed.unlink()
        self.assert_untouched()

    @settings(max_examples=40)
    @given(st.lists(st.text(st.characters(codec=None, categories=None)), min_size=1, max_size=3))
    def test_any_name(self, path: list[str]) -> None:
        """Threat 1: so does a file of any name at all."""
        place = safe_place([str(len(self.names())), *path])
        for landed in self.land(place):
            above = Path(os.path.realpath(landed)).parent
            self.assertEqual(above, self.path.joinpath(*place.folder))

    def test_names_that_are_none(self) -> None:
        """Threat 1: a name that could lead elsewhere is refused in every way."""
        for name in ILLEGAL:
            for place in (Place((), name), Place((name,), "a"), Place(("a", name), "a")):
                with self.subTest(place=place):
                    (result,) = self.folder.store_whole([whole(b"x", place)])
                    self.assertIsInstance(result, CannotSave)
                    self.assertNotIn("\0", str(result))
                    for call in (
                        lambda place=place: self.folder.begin(place, ORIGIN, announced(b"")),
                        lambda place=place: self.folder.resume(place, ORIGIN),
                        lambda place=place: self.find(b"", place),
                    ):
                        self.assertRaisesRegex(CannotSave, "not the name of a file", call)
            self.assertRaises(CannotSave, self.folder.make_folder, (name,))
        self.assertEqual(self.names(), [])


class LinkTests(IncomingTestCase):
    """Threat 2: links that somebody has placed lead nowhere."""

    def assert_refused(self, place: Place, named: str) -> None:
        for call in (
            lambda: self.begin(CONTENT, place),
            lambda: self.folder.make_folder(place.folder),
        ):
            self.assertRaisesRegex(CannotSave, f"{named} .* in the way", call)
        (result,) = self.folder.store_whole([whole(CONTENT, place)])
        self.assertIsInstance(result, CannotSave)
        self.assertIsNone(self.resume(place))
        self.assertIsNone(self.find(b"1", place))
        self.assert_untouched()

    def test_parent(self) -> None:
        """Threat 2: a link where a folder must be, or a file, is named, and not followed."""
        (self.path / "link").symlink_to(self.outside)
        (self.path / "file").write_bytes(b"")
        self.folder.make_folder(("a",))
        (self.path / "a" / "link").symlink_to(self.outside)
        self.assert_refused(Place(("link",), "x"), "/link")
        self.assert_refused(Place(("link", "sub"), "x"), "/link")
        self.assert_refused(Place(("a", "link"), "x"), "a/link")
        self.assert_refused(Place(("file",), "x"), "/file")

    def test_parent_swapped(self) -> None:
        """Threat 2: a folder that becomes a link during the transfer leads nothing elsewhere."""
        place = Place(("sub",), "cat.jpg")
        part = self.begin(CONTENT, place)
        os.rename(self.path / "sub", self.path / "moved")
        (self.path / "sub").symlink_to(self.outside)
        self.write(part, CONTENT)
        part.sync()
        part.finish(root_for(CONTENT))
        self.folder.store_whole([whole(CONTENT, place)])
        self.assert_untouched()
        self.assertEqual((self.path / "moved" / "cat.jpg").read_bytes(), CONTENT)

    def test_temporary_names(self) -> None:
        """Threat 2: links, hard links, folders and pipes under the hidden names are not written to."""
        part = self.begin(CONTENT)
        self.write(part, CONTENT)
        part.sync()
        names = [self.only_part(), self.only_part(".journal")]
        part.discard()
        victim = self.outside / "victim"
        for make in (
            lambda name: name.symlink_to(victim),
            lambda name: os.link(victim, name),
            os.mkfifo,
        ):
            for name in names:
                victim.write_bytes(b"precious")
                make(name)
            self.assertIsNone(self.resume())
            for name in names:
                if not os.path.lexists(name):
                    make(name)
            self.assertEqual(self.fetch(CONTENT).read_bytes(), CONTENT)
            (self.path / "cat.jpg").unlink()
            self.assertEqual(self.names(), [])
            self.assertEqual(victim.read_bytes(), b"precious")
            make(names[0])
            stored = self.folder.store_whole([whole(CONTENT, PLACE, ORIGIN)])
            self.assertEqual(stored, [self.path / "cat.jpg"])
            (self.path / "cat.jpg").unlink()
            self.assertEqual(victim.read_bytes(), b"precious")

    def test_folder_under_a_temporary_name(self) -> None:
        """Threat 2: what cannot be removed is named, and stays."""
        self.begin(CONTENT).close()
        name = self.only_part()
        name.unlink()
        name.mkdir()
        self.assertRaisesRegex(CannotSave, f"{HIDDEN}.* is in the way", self.begin, CONTENT)
        self.assertTrue(name.is_dir())

    def test_part_swapped(self) -> None:
        """Threat 2: another file that takes the part's name during the transfer is not published."""
        part = self.begin(CONTENT)
        self.write(part, CONTENT)
        name = self.only_part()
        name.unlink()
        name.symlink_to(self.outside / "x")
        self.assertRaisesRegex(CannotSave, "somebody has removed", part.finish, root_for(CONTENT))
        self.assertFalse((self.path / "cat.jpg").exists())
        self.assert_untouched()


class FolderTests(IncomingTestCase):
    """Folders beneath."""

    def test_made(self) -> None:
        """Folders are made on the way, as open as the user's, and may be there already."""
        before = os.umask(0o027)
        try:
            self.folder.make_folder(("a", "b"))
        finally:
            os.umask(before)
        self.assertEqual((self.path / "a" / "b").stat().st_mode & 0o777, 0o750)
        self.folder.make_folder(("a",))
        self.assertEqual(self.fetch(CONTENT, Place(("a", "c", "d"), "x")).read_bytes(), CONTENT)
        self.assertEqual(self.names(), ["a", "a/b", "a/c", "a/c/d", "a/c/d/x"])

    def test_handles_are_bounded(self) -> None:
        """However many folders there are, few are open at once."""
        with IncomingFolder.open(self.path) as folder:
            before = len(os.listdir("/dev/fd"))
            files = [whole(b"x", Place((str(n % 40), str(n)), "f")) for n in range(400)]
            self.assertTrue(all(isinstance(each, Path) for each in folder.store_whole(files)))
            for n in range(400):
                folder.make_folder((str(n % 40), str(n), "sub"))
            self.assertLessEqual(len(os.listdir("/dev/fd")) - before, 128)
        self.assertEqual(len(list(self.path.glob("*/*/f"))), 400)

    def test_syncs_are_bounded(self) -> None:
        """However many folders were made, few are open at once to make that durable; and it is, at the end."""
        counts: list[int] = []

        def sync(fds: Iterable[int], witness: int) -> dict[int, OSError]:
            counts.append(len(list(fds)))
            return {}

        self.patch(folder_handles, "sync_files", sync)
        for n in range(SYNCED_MAX + 10):
            self.folder.make_folder((str(n), "sub"))
        self.folder.close()
        self.assertEqual(sorted(counts), [11, SYNCED_MAX])

    def test_unsynced_is_bounded(self) -> None:
        """Threat 7: however many folders a sharer lists, those that are not durable are remembered up to a bound."""
        self.patch(incoming_folder, "UNSYNCED_MAX", 10)
        counts: list[int] = []

        def sync(fds: Iterable[int], witness: int) -> dict[int, OSError]:
            counts.append(len(list(fds)))
            return {}

        self.patch(folder_handles, "sync_files", sync)
        for n in range(100):
            self.folder.make_folder((str(n), "sub"))
        self.assertGreater(len(counts), 5)
        self.assertLessEqual(max(counts), 12)

    def test_made_folder_not_synced(self) -> None:
        """A folder that was made, and is not durable, takes no file: neither does a later one before it is."""
        place = Place(("a", "b"), "x")

        def sync(fds: Iterable[int], witness: int) -> dict[int, OSError]:
            return dict.fromkeys(fds, OSError(errno.EIO, ""))

        patch = self.patch(folder_handles, "sync_files", sync)
        for _ in range(2):
            part = self.begin(CONTENT, place)
            self.write(part, CONTENT)
            with self.assertRaisesRegex(CannotSave, plain_reason(OSError(errno.EIO, ""))):
                part.finish(root_for(CONTENT))
            part.discard()
            (result,) = self.folder.store_whole([whole(CONTENT, place)])
            self.assertIsInstance(result, CannotSave)
            self.assertEqual(self.names(), ["a", "a/b"])
        patch.restore()
        self.assertEqual(self.fetch(CONTENT, place).read_bytes(), CONTENT)

    def test_closed_while_storing(self) -> None:
        """Files whose folder is closed before their names are durable are not said to be there."""

        def publish(*args: Any, **options: Any) -> str:
            self.folder.close()
            return publishing.publish(*args, **options)

        self.patch(whole_files, "publish", publish)
        (result,) = self.folder.store_whole([whole(b"x")])
        self.assertIn(plain_reason(OSError(errno.EBADF, "")), str(result))
        self.assertEqual(self.names(), [])

    def test_removed_by_somebody(self) -> None:
        """A folder that the user removes between two files is made again."""
        place = Place(("sub",), "x")
        self.fetch(CONTENT, place).unlink()
        (self.path / "sub").rmdir()
        self.assertEqual(self.fetch(CONTENT, place).read_bytes(), CONTENT)

    def test_opening(self) -> None:
        """A folder that is not there, or is none, is a clear error; links on the way to it are the user's."""
        (self.path / "file").write_bytes(b"")
        for name, number in (("gone", errno.ENOENT), ("file", errno.ENOTDIR)):
            with self.assertRaisesRegex(CannotSave, plain_reason(OSError(number, ""))):
                IncomingFolder.open(self.path / name)
        (self.outside / "link").symlink_to(self.path)
        with IncomingFolder.open(self.outside / "link") as folder:
            self.assertEqual(folder.store_whole([whole(b"x")]), [self.outside / "link" / "cat.jpg"])

    def test_renamed(self) -> None:
        """A folder that is renamed, or one beneath it, gets its files, and their real paths are told."""
        part = self.begin(CONTENT, Place(("sub",), "large"))
        self.write(part, CONTENT)
        os.rename(self.path, self.outside / "new")
        os.rename(self.outside / "new" / "sub", self.outside / "new" / "moved")
        path = part.finish(root_for(CONTENT))
        self.assertEqual(path, self.outside / "new" / "moved" / "large")
        files = [whole(b"x", Place((folder,), "small")) for folder in ("sub", "other")]
        paths = self.folder.store_whole(files)
        new = self.outside / "new"
        self.assertEqual(paths, [new / "moved" / "small", new / "other" / "small"])
        self.assertEqual((new / "other" / "small").read_bytes(), b"x")

    def test_no_path_is_told(self) -> None:
        """Where the system does not tell the path of a renamed folder, it counts as gone."""
        self.patch(folder_handles, "system_path", lambda fd: None)
        self.folder.check()
        os.rename(self.path, self.outside / "new")
        self.assertRaises(DestinationGone, self.folder.check)
        with self.assertRaises(DestinationGone):
            self.folder.store_whole([whole(b"x")])

    def test_removed(self) -> None:
        """A folder that is removed takes no file."""
        part = self.begin(CONTENT)
        shutil.rmtree(self.path)
        for call in (part.sync, self.folder.check, lambda: self.begin(CONTENT)):
            with self.assertRaises(DestinationGone):
                call()

    def test_closed(self) -> None:
        """After closing, nothing begins; what has begun goes on."""
        part = self.begin(CONTENT)
        self.folder.close()
        self.folder.close()
        self.assertRaises(ValueError, self.begin, CONTENT)
        self.assertRaises(ValueError, self.folder.make_folder, ("a",))
        self.write(part, CONTENT)
        self.assertEqual(part.finish(root_for(CONTENT)).read_bytes(), CONTENT)


class RoomTests(IncomingTestCase):
    """P5: a disk that has no room."""

    def test_no_room(self) -> None:
        """Threats 7 and 10: a size that the disk does not take is refused with both figures before a byte comes."""
        lie = Announced(FILE_SIZE_MAX, MTIME, False, "v1")
        error = self.assertRaises(DiskFull, self.folder.begin, PLACE, ORIGIN, lie)
        self.assertEqual(error.fields["needed"], "1024.0 TiB")
        self.assertRegex(str(error.fields["free"]), r"^[\d.]+ [MGT]iB$")
        self.assertEqual(self.names(), [])
        self.assertIsInstance(DiskFull(path="x", needed="1", free="0"), TransferFailed)
        for size in (-1, FILE_SIZE_MAX + 1):
            lie = Announced(size, MTIME, False, "v1")
            self.assertRaises(ValueError, self.folder.begin, PLACE, ORIGIN, lie)

    def test_room_is_taken(self) -> None:
        """A size that the disk does take makes no file that looks as large."""
        part = self.folder.begin(PLACE, ORIGIN, Announced(2**20, MTIME, False, "v1"))
        self.assertEqual(self.only_part().stat().st_size, 0)
        part.discard()
        self.assertEqual(self.names(), [])

    def test_no_room_for_a_folder(self) -> None:
        """A disk that takes no folder or hidden file is as full as one that takes no bytes: it ends a job at once."""

        def fail(*args: Any, **options: Any) -> int:
            raise OSError(errno.ENOSPC, "")

        patch = self.patch(os, "mkdir", fail)
        self.assertRaises(DiskFull, self.folder.make_folder, ("a",))
        (result,) = self.folder.store_whole([whole(b"x", Place(("a",), "x"))])
        self.assertIsInstance(result, DiskFull)
        patch.restore()
        self.patch(incoming_folder, "open_hidden", fail)
        said = Announced(2**20, MTIME, False, "v1")
        self.assertRaises(DiskFull, self.folder.begin, PLACE, ORIGIN, said)
        self.assertEqual(self.names(), [])

    def test_no_room_for_a_file(self) -> None:
        """Of a disk that has bytes left, but takes no more files, just that is said."""

        def fail(*args: Any, **options: Any) -> int:
            raise OSError(errno.ENOSPC, "")

        genuine = os.statvfs(self.path)
        fields = list(genuine[:10])
        fields[7] = 0  # f_favail
        self.patch(os, "statvfs", lambda _: os.statvfs_result(fields))
        self.patch(whole_files, "open_hidden", fail)
        (result,) = self.folder.store_whole([whole(b"x")])
        assert isinstance(result, DiskFull)
        self.assertNotRegex(str(result.fields["free"]), r"\d|quota")
