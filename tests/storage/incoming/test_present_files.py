"""Tests for `p2pshare.storage.incoming.present_files` with its parts: what is here is known by content."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotSave
from p2pshare.storage.file_times import COARSE_TICK, TICK, shows_changes
from p2pshare.storage.incoming import claimed_names as claims
from p2pshare.storage.incoming import present_files as presence
from p2pshare.storage.incoming import saved_files
from p2pshare.storage.incoming.announcement import Origin, Place
from p2pshare.storage.incoming.claimed_names import Claims
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.present_files import Absent, Present, Sought, Stopped
from p2pshare.storage.incoming.saved_files import SavedFiles
from tests.storage.incoming_case import (
    BLOCK,
    ORIGIN,
    PLACE,
    IncomingTestCase,
    content_of,
    root_for,
    whole,
)
from tests.storage.share_case import OLD

SMALL = content_of(BLOCK // 2)
LARGE = content_of(3 * BLOCK + 5)
OTHER = Origin(ORIGIN.key, ("photos", "dog.jpg"))


def sought(content: bytes, origin: Origin = ORIGIN, version: str = "v1", **options: Any) -> Sought:
    return Sought(PLACE, origin, len(content), version, **options)


class RecordTests(IncomingTestCase):
    """A record decides, as long as it holds."""

    def look_up(self, wanted: Sought) -> Present | Absent:
        with IncomingFolder.open(self.path, saved=self.records) as folder:
            return folder.look_up(wanted)

    def store(self, content: bytes) -> Path:
        (path,) = self.folder.store_whole([whole(content, origin=ORIGIN)])
        assert isinstance(path, Path)
        return path

    def test_saved(self) -> None:
        """A file that was saved in this version is here, and is not even read."""
        for save in (self.store, self.fetch):
            path = save(LARGE)
            with patch.object(os, "pread", side_effect=AssertionError("it is read")):
                found = self.look_up(sought(LARGE))
            self.assertEqual(found, Present(path, (path.name,), root_for(LARGE)))
            path.unlink()

    def test_another_version(self) -> None:
        """Another version, or an unknown one, has to be compared, for which nothing local is read."""
        path = self.fetch(LARGE)
        for version in ("v2", ""):
            wanted = sought(LARGE, version=version)
            found = self.look_up(wanted)
            self.assertEqual(found, Absent(PLACE, (path.name,)))
            with (
                IncomingFolder.open(self.path, saved=self.records) as folder,
                patch.object(presence, "read_root", side_effect=AssertionError("it is read")),
            ):
                self.assertIsInstance(folder.settle(wanted, (path.name,), root_for(LARGE)), Present)
        self.assertIsInstance(self.look_up(sought(LARGE, version="v2")), Present)

    def test_touched(self) -> None:
        """A file that was written to since does not count, whatever its size and time are."""
        path = self.fetch(LARGE)
        before = path.stat()
        changed = LARGE[::-1]
        with path.open("r+b") as file:
            file.write(changed)
        while path.stat().st_ctime_ns == before.st_ctime_ns:  # within a tick of an older kernel
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.assertEqual(path.stat().st_mtime_ns, before.st_mtime_ns)
        self.assertIsNone(self.find(LARGE))
        self.assertEqual(self.find(changed), path)

    def test_saved_just_now(self) -> None:
        """A file that may have changed without a trace is read once more, and the sharer is not asked."""
        with patch.object(saved_files, "shows_changes", return_value=False):
            path = self.fetch(LARGE)
        self.assertEqual(self.look_up(sought(LARGE)), Absent(PLACE, (path.name,), root_for(LARGE)))
        self.assertEqual(self.find(LARGE), path)
        self.assertIsInstance(self.look_up(sought(LARGE)), Present)
        path.unlink()
        with patch.object(saved_files, "shows_changes", return_value=False):
            self.store(SMALL)
        with patch.object(os, "pread", return_value=b"another"):
            self.assertIsInstance(self.look_up(sought(SMALL)), Absent)
        self.assertIsInstance(self.look_up(sought(SMALL)), Present)

    def test_when_changes_show(self) -> None:
        """Right after a file was saved, a change shows if times are fine and the file is dated otherwise."""
        now = 1_800_000_000_123_456_789
        for ctime_ns, mtime_ns, passed, shows in (
            (now, OLD, 0, True),
            (now, now, 0, False),
            (now, now, 2 * TICK, True),
            (now // 10**9 * 10**9, OLD, 0, False),
            (now // 10**9 * 10**9, OLD, 2 * COARSE_TICK, True),
        ):
            status = SimpleNamespace(st_ctime_ns=ctime_ns, st_mtime_ns=mtime_ns)
            self.assertIs(shows_changes(cast(Any, status), ctime_ns + passed), shows)

    def test_other_file(self) -> None:
        """A file of the same name, size and time is not it; one of the same content is."""
        path = self.fetch(LARGE)
        other = Origin(ORIGIN.key, ("photos", "2", "cat.jpg"))
        self.assertIsNone(self.find(LARGE[::-1], origin=other))
        self.assertEqual(self.find(LARGE, origin=other), path)
        self.assertEqual(self.find(LARGE, origin=other), path)

    def test_without_records(self) -> None:
        """Where nothing is remembered, the content is compared, and nothing else."""
        path = self.fetch(LARGE)
        self.records.close()
        self.records = SavedFiles(None)
        os.utime(path)
        self.assertEqual(self.find(LARGE), path)
        self.assertIsNone(self.find(LARGE[::-1]))

    def test_empty(self) -> None:
        """An empty file is known by its size; nobody has to be asked."""
        path = self.fetch(b"")
        self.records.close()
        found = self.look_up(sought(b"", version="v9"))
        assert isinstance(found, Present)
        self.assertEqual(found.path, path)

    def test_stopped(self) -> None:
        """A comparison of a large file can be stopped."""
        self.fetch(LARGE)
        self.records.close()
        with (
            IncomingFolder.open(self.path) as folder,
            self.assertRaises(Stopped),
        ):
            folder.settle(sought(LARGE), (PLACE.name,), root_for(LARGE), lambda: True)

    def test_published_meanwhile(self) -> None:
        """A file that another process has published since the look-up is not saved twice, whatever its time."""
        path = self.store(SMALL)
        os.utime(path)
        self.assertEqual(self.store(SMALL), path)
        self.assertEqual(self.names(), [path.name])


class ClaimTests(IncomingTestCase):
    """No local file stands for two remote ones."""

    def placed(self, content: bytes, origin: Origin, *, overwrite: bool = False) -> str:
        """The name that a file gets, or has."""
        wanted = sought(content, origin, overwrite=overwrite)
        found = self.folder.look_up(wanted)
        if isinstance(found, Absent) and found.candidates:
            wanted = replace(wanted, place=found.place, is_claimed=found.is_claimed)
            found = self.folder.settle(wanted, found.candidates, root_for(content))
        if isinstance(found, Present):
            return found.path.name
        (path,) = self.folder.store_whole(
            [whole(content, found.place, origin, overwrite=overwrite)]
        )
        assert isinstance(path, Path)
        return path.name

    def again(self) -> None:
        """The next job."""
        self.folder.close()
        self.folder = IncomingFolder.open(self.path, saved=self.records)

    def test_same_content(self) -> None:
        """Two files of the same content and name are two here, too; the same in each job, and in any order."""
        for order in ((ORIGIN, OTHER), (ORIGIN, OTHER), (OTHER, ORIGIN)):
            names = {each: self.placed(SMALL, each) for each in order}
            self.assertEqual(names, {ORIGIN: "cat.jpg", OTHER: "cat (1).jpg"})
            self.again()
        self.assertEqual(self.names(), ["cat (1).jpg", "cat.jpg"])

    def test_without_records(self) -> None:
        """Without records it is the same as long as the order is."""
        self.records.close()
        for _ in range(3):
            self.again()
            names = [self.placed(each, o) for each, o in ((SMALL, ORIGIN), (SMALL[::-1], OTHER))]
            self.assertEqual(names, ["cat.jpg", "cat (1).jpg"])

    def test_overwrite(self) -> None:
        """No file that the same job has saved is replaced."""
        (self.path / "cat.jpg").write_bytes(b"mine")
        for _ in range(3):
            self.assertEqual(self.placed(SMALL, ORIGIN, overwrite=True), "cat.jpg")
            self.assertEqual(self.placed(SMALL[::-1], OTHER, overwrite=True), "cat (1).jpg")
            self.assertEqual((self.path / "cat.jpg").read_bytes(), SMALL)
            self.assertEqual((self.path / "cat (1).jpg").read_bytes(), SMALL[::-1])
            self.again()

    def test_overwrite_in_doubt(self) -> None:
        """A file that has to be compared first keeps its name meanwhile, whatever is looked up next."""
        self.placed(LARGE, ORIGIN, overwrite=True)
        self.placed(b"", OTHER, overwrite=True)
        for _ in range(2):
            self.again()
            first = self.folder.look_up(sought(LARGE, ORIGIN, "v2", overwrite=True))
            second = self.folder.look_up(sought(b"", OTHER, overwrite=True))
            assert isinstance(first, Absent) and isinstance(second, Present)
            self.assertEqual((first.candidates, second.path.name), (("cat.jpg",), "cat (1).jpg"))

    def test_names_go_by_the_listing(self) -> None:
        """A file has its number once it is looked up, whichever is saved first."""
        first = self.folder.look_up(sought(SMALL, ORIGIN))
        second = self.folder.look_up(sought(LARGE, OTHER))
        assert isinstance(first, Absent) and isinstance(second, Absent)
        self.assertEqual((first.place.number, second.place.number), (0, 1))
        self.assertEqual((first.place.clashes, second.place.clashes), (False, True))
        paths = self.folder.store_whole(
            [whole(LARGE, second.place, OTHER), whole(SMALL, first.place, ORIGIN)]
        )
        self.assertEqual(paths, [self.path / "cat (1).jpg", self.path / "cat.jpg"])

    def test_all_taken(self) -> None:
        """After so many copies there are no more, which is an error."""
        self.patch(presence, "COPIES_MAX", 2)
        for number in range(3):
            self.placed(bytes([number]) * 9, Origin(ORIGIN.key, (str(number),)))
        with self.assertRaisesRegex(CannotSave, "2 copies"):
            self.placed(SMALL, OTHER)

    def test_many(self) -> None:
        """Claims of a large job are not in memory, and are known all the same."""
        self.patch(claims, "RECENT_MAX", 3)
        taken = Claims()
        self.addCleanup(taken.close)
        names = [str(number) for number in range(10)]
        self.assertEqual([taken.take(each) for each in names], [True] * 10)
        self.assertEqual([taken.take(each) for each in names], [False] * 10)
        self.assertEqual([taken.has(each) for each in ("7", "x")], [True, False])

    def test_repeated_job(self) -> None:
        """A job that is repeated gives its own names back, in memory or not, and nobody else's."""
        self.patch(claims, "RECENT_MAX", 3)
        first = Claims()
        self.addCleanup(first.close)
        second = first.beside()
        for number in range(10):
            (first if number % 2 else second).take(str(number))
        self.assertFalse(second.take("1") or first.take("0"))
        second.give_all_back()
        self.assertEqual([first.has(str(number)) for number in range(4)], [False, True] * 2)


class FoldingTests(SynchronousTestCase):
    """Names that are one on the file system of the destination."""

    def test_one_case(self) -> None:
        """Where upper and lower case are one, so are the claims of two such names."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        for folds, number in ((True, 1), (False, 0)):
            with IncomingFolder.open(folder) as incoming:
                incoming._names._folds = folds
                places = []
                for name in ("A.jpg", "a.jpg"):
                    wanted = Sought(Place((), name), Origin(ORIGIN.key, (name,)), 5, "v")
                    found = incoming.look_up(wanted)
                    assert isinstance(found, Absent)
                    places.append(found.place.number)
                self.assertEqual(places, [0, number])
