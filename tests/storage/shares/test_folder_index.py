"""Tests for `p2pshare.storage.shares.folder_index`."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.shares import folder_index
from p2pshare.storage.shares.folder_index import BATCH, RETRY_AFTER, SETTLING, FolderIndex, LeftOut
from p2pshare.storage.shares.rules import Scope

NAMES = ["a", "b", "z", "é", "\uffee", "\U0001f600"]
LATER = 2**62  # nanoseconds since 1970: whatever was changed was changed long ago


class FolderIndexTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.data = self.place / "folders"
        self.trouble: list[str] = []
        self.now = 0.0  # seconds
        self.wall_ns = LATER
        self.slept: list[float] = []
        self.index = self.reopened()

    def reopened(
        self, scan_max: int = 2, folders_max: int = 10, bytes_max: int = 2**20
    ) -> FolderIndex:
        return FolderIndex(
            self.data,
            scan_max=scan_max,
            folders_max=folders_max,
            bytes_max=bytes_max,
            wall_ns=lambda: self.wall_ns,
            clock=lambda: self.now,
            sleep=self.slept.append,
            on_trouble=self.trouble.append,
        )

    def make(self, names: list[str], folder: str = "x") -> Path:
        path = self.place / folder
        path.mkdir(exist_ok=True)
        for name in names:
            os.mknod(path / name)
        return path

    def names(
        self, folder: str = "x", beyond: str = "", count: int = 100
    ) -> tuple[list[str], bool]:
        fd = os.open(self.place / folder, os.O_RDONLY)
        try:
            return self.index.names(fd, beyond, count)[:2]
        finally:
            os.close(fd)

    @contextmanager
    def counting(self) -> Iterator[list[int]]:
        """Count how often a folder is read."""
        reads: list[int] = []
        genuine = folder_index._read

        def reading(fd: int, left_out: LeftOut, scope: Scope) -> object:
            reads.append(fd)
            return genuine(fd, left_out, scope)

        with patch.object(folder_index, "_read", reading):
            yield reads

    def indexed(self) -> int:
        """How many folders are remembered."""
        return len(os.listdir(self.data)) if self.data.exists() else 0


class PageTests(FolderIndexTests):
    def test_small(self) -> None:
        """A small folder is read each time, without a database."""
        self.make(["b", "a"])
        self.assertEqual(self.names(), (["a", "b"], False))
        self.assertEqual(self.names(beyond="a", count=1), (["b"], False))
        self.assertEqual(self.indexed(), 0)

    def test_large(self) -> None:
        """A large folder is read once, and all its pages come in order."""
        self.make(NAMES[::-1])
        self.assertEqual(self.names(count=2), (NAMES[:2], True))
        with self.counting() as reads:
            self.assertEqual(self.names(), (NAMES, False))
            self.assertEqual(self.names(beyond="b", count=2), (["z", "é"], True))
            self.assertEqual(self.names(beyond="é", count=3), (NAMES[4:], False))
            self.assertEqual(self.names(beyond="c", count=1), (["z"], True))
            self.assertEqual(self.names(beyond="\U0010ffff", count=1), ([], False))
            self.index = self.reopened()
            self.assertEqual(self.names(), (NAMES, False))
        self.assertEqual(reads, [])

    def test_many_batches(self) -> None:
        """Names are written in batches, and none is lost."""
        names = sorted(f"{number:x}" for number in range(2 * BATCH + 1))
        self.make(names)
        self.assertEqual(self.names(count=5000), (names, False))

    def test_what_is_listed(self) -> None:
        """Hidden names, names that are not Unicode, and special files are left out."""
        path = self.make([".hidden", os.fsdecode(b"\xff"), *NAMES])
        (path / "folder").mkdir()
        (path / "link").symlink_to("nowhere")
        os.mkfifo(path / "fifo")
        expected = (sorted([*NAMES, "folder", "link"]), False)
        self.assertEqual(self.names(), expected)
        self.index = self.reopened(scan_max=1000)
        self.data = self.place / "other"
        self.assertEqual(self.names(), expected)

    @settings(max_examples=50)
    @given(
        st.sets(
            st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=3)
        )
    )
    def test_same_as_sorted(self, names: set[str]) -> None:
        """Remembered or selected, the names come in the order of their code points."""
        legal = {name for name in names if not name.startswith(".")}
        folder = f"x{len(os.listdir(self.place))}"
        self.make(sorted(legal), folder)
        for index in (FolderIndex(None, scan_max=0), self.reopened(scan_max=0)):
            self.index = index
            found: list[str] = []
            more = True
            while more:
                names_now, more = self.names(folder, found[-1] if found else "", 3)
                found += names_now
            self.assertEqual(found, sorted(legal))

    def test_not_readable(self) -> None:
        """A folder that cannot be read is an error for the caller, and not reported as trouble."""
        self.make(NAMES)
        with patch.object(os, "scandir", side_effect=PermissionError):
            self.assertRaises(PermissionError, self.names)
        self.assertEqual((self.trouble, self.names()), ([], (NAMES, False)))


class ChangeTests(FolderIndexTests):
    def test_seen(self) -> None:
        """New and removed names are seen at once if the folder is read fast."""
        path = self.make(NAMES)
        self.names()
        os.mknod(path / "new")
        self.assertEqual(self.names(), (sorted([*NAMES, "new"]), False))
        (path / "a").unlink()
        self.assertEqual(self.names(), (sorted([*NAMES[1:], "new"]), False))
        self.assertEqual(self.indexed(), 1)

    def test_becomes_small(self) -> None:
        """A folder that becomes small is forgotten."""
        path = self.make(NAMES)
        self.names()
        for name in NAMES[1:]:
            (path / name).unlink()
        self.assertEqual((self.names(), self.indexed()), ((["a"], False), 0))

    def test_changing_all_the_time(self) -> None:
        """Threat 7: a folder that takes 3 s to read and changes all the time is not read all the time."""
        path = self.make(NAMES)
        with patch.object(folder_index, "sync_path", lambda _: setattr(self, "now", self.now + 3)):
            self.names()
            os.mknod(path / "new")
            self.now += 2.9
            with self.counting() as reads:
                self.assertEqual(self.names(), (NAMES, False))
            self.assertEqual(reads, [])
            self.now += 0.2
            self.assertEqual(self.names(), (sorted([*NAMES, "new"]), False))

    def test_just_changed(self) -> None:
        """A folder that was read within the tick of a change is read again later, since its time may repeat."""
        path = self.make(NAMES)
        self.wall_ns = path.stat().st_mtime_ns
        self.names()
        self.assertEqual(self.slept, [SETTLING])
        with self.counting() as reads:
            self.names()
            self.assertEqual(reads, [])
            self.wall_ns = LATER
            self.names()
            self.assertNotEqual(reads, [])
            reads.clear()
            self.names()
            self.assertEqual((reads, self.slept), ([], [SETTLING]))

    def test_another_folder_of_the_name(self) -> None:
        """A folder is known by its inode, not by its name."""
        self.make(NAMES)
        self.names()
        (self.place / "x").rename(self.place / "y")
        self.make(["d", "e", "f"])
        self.assertEqual(self.names("x"), (["d", "e", "f"], False))
        self.assertEqual(self.names("y"), (NAMES, False))


class BoundTests(FolderIndexTests):
    def test_folders(self) -> None:
        """Of too many folders those are forgotten that were not listed for the longest time."""
        self.index = self.reopened(folders_max=2)
        for folder in "xyz":
            self.make(NAMES, folder)
        self.names("x")
        self.names("y")
        old = min(self.data.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(old, (0, 0))
        self.names("x")  # so that it is not the oldest any more
        for path in self.data.iterdir():
            if path != old:
                os.utime(path, (1, 1))
        self.names("z")
        self.assertEqual(self.indexed(), 2)
        with self.counting() as reads:
            self.names("x")
            self.names("z")
            self.assertEqual(reads, [])
            self.names("y")
            self.assertNotEqual(reads, [])

    def test_bytes(self) -> None:
        """The bytes of databases are bounded; a folder beyond the bound is read each time."""
        self.index = self.reopened(bytes_max=40_000)
        for folder in "xyz":
            self.make(NAMES, folder)
            self.names(folder)
        self.assertLessEqual(sum(path.stat().st_size for path in self.data.iterdir()), 40_000)
        self.assertGreater(self.indexed(), 0)
        names = sorted(f"{number:0200}" for number in range(300))
        self.make(names, "large")
        self.assertEqual(self.names("large", count=5), (names[:5], True))
        self.assertEqual(self.names("large", names[9], 5), (names[10:15], True))
        self.assertTrue(any("full" in reason for reason in self.trouble), self.trouble)

    def test_leftovers(self) -> None:
        """Files that a killed process left are removed, and a folder that was partly read is unknown."""
        self.data.mkdir()
        for name in ("1-2.sqlite.new", "1-2.sqlite.new-journal", "what"):
            (self.data / name).write_bytes(b"")
        self.make(NAMES)
        self.names()
        self.assertEqual(self.indexed(), 1)

    def test_private(self) -> None:
        """Threat 39: the names in folders are private."""
        self.make(NAMES)
        self.names()
        (path,) = self.data.iterdir()
        modes = (path.stat().st_mode & 0o777, self.data.stat().st_mode & 0o777)
        self.assertEqual(modes, (0o600, 0o700))


class TroubleTests(FolderIndexTests):
    @settings(max_examples=50)
    @given(st.one_of(st.just(b""), st.binary(max_size=5000)))
    def test_any_content(self, content: bytes) -> None:
        """A database with any content is deleted and replaced."""
        if not self.data.exists():
            self.make(NAMES)
            self.names()
        (path,) = self.data.iterdir()
        path.write_bytes(content)
        self.assertEqual(self.names(), (NAMES, False))
        self.assertEqual(self.names(), (NAMES, False))

    def test_another_database(self) -> None:
        """A database with other tables, or without its row, is replaced and reported."""
        self.make(NAMES)
        self.names()
        (path,) = self.data.iterdir()
        for statement in ("DROP TABLE names", "DELETE FROM folder", "ALTER TABLE folder ADD x"):
            with sqlite3.connect(path) as database:
                database.execute(statement)
            database.close()
            self.assertEqual(self.names(), (NAMES, False))
        self.assertTrue(self.trouble)
        self.assertTrue(all("damaged" in reason for reason in self.trouble))

    def test_gone_meanwhile(self) -> None:
        """A database that another thread removes just now is no trouble: the folder is read again."""
        self.make(NAMES)
        self.names()
        genuine = folder_index._open
        removed: list[Path] = []

        def opening(path: Path) -> sqlite3.Connection:
            if not removed:
                removed.append(path)
                path.unlink()
            return genuine(path)

        with patch.object(folder_index, "_open", opening):
            self.assertEqual(self.names(), (NAMES, False))
        self.assertEqual((len(removed), self.trouble), (1, []))

    def test_nowhere(self) -> None:
        """If nothing can be written, folders are read each time, and writing is retried only later."""
        self.make(NAMES)
        self.data.write_bytes(b"")  # a file, where a folder should be
        for _ in range(3):
            self.assertEqual(self.names(beyond="a", count=2), (["b", "z"], True))
        self.assertEqual(len(self.trouble), 1)
        self.data.unlink()
        self.now = RETRY_AFTER - 1
        self.names()
        self.assertEqual(self.indexed(), 0)
        self.now = RETRY_AFTER + 1
        self.names()
        self.assertEqual(self.indexed(), 1)

    def test_full_disk(self) -> None:
        """A full disk leaves no partial database, and costs time only."""
        self.make(NAMES)
        with patch.object(folder_index, "sync_path", side_effect=OSError(28, "")):
            self.assertEqual(self.names(), (NAMES, False))
        self.assertEqual((self.trouble, self.indexed()), (["the disk is full"], 0))

    def test_link_in_the_way(self) -> None:
        """Threat 2: a link in the place of a database is not written through."""
        self.make(NAMES)
        self.names()
        (path,) = self.data.iterdir()
        (self.place / "victim").write_bytes(b"precious")
        path.unlink()
        path.with_name(f"{path.name}.new").symlink_to(self.place / "victim")
        self.assertEqual(self.names(), (NAMES, False))
        self.assertEqual((self.place / "victim").read_bytes(), b"precious")


class ThreadTests(FolderIndexTests):
    def test_read_once(self) -> None:
        """Of several threads that ask for a folder one reads it for all."""
        self.make(NAMES)
        found: list[tuple[list[str], bool]] = []
        builds: list[str] = []
        genuine = FolderIndex._build

        def building(
            index: FolderIndex,
            path: Path,
            folder: int,
            name: str,
            status: os.stat_result,
            scope: Scope,
        ) -> None:
            builds.append(name)
            genuine(index, path, folder, name, status, scope)

        with patch.object(FolderIndex, "_build", building):
            threads = [
                threading.Thread(target=lambda: found.append(self.names())) for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual((found, len(builds), self.trouble), ([(NAMES, False)] * 8, 1, []))
