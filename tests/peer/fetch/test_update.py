"""Tests of jobs that update what was fetched before, and of `p2pshare.peer.fetch.survey`."""

from __future__ import annotations

import os
from functools import partial
from unittest.mock import patch

from twisted.internet.defer import Deferred

from p2pshare.errors import ChangedHere, LinkGivenUp
from p2pshare.peer.fetch.job import JobItem, JobProgress
from p2pshare.peer.fetch.survey import UpdateCounts, UpdateSurvey
from p2pshare.storage.incoming import saved_files
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.paths import parse_path
from p2pshare.wire.transfer_messages import Get
from tests.peer.fetch import test_job as jobs
from tests.peer.memory_sharer import MemorySession, give

SMALL = b"small"
LARGE = jobs.LARGE[: 2 * BLOCK_SIZE] + b"end"
SECONDS = 1.5  # that a job takes


class UpdateTests(jobs.JobTestCase):
    """Alice's folder `s` was fetched, and then she changes it."""

    def setUp(self) -> None:
        super().setUp()
        self.change(a=SMALL, b=LARGE, same=b"the same")
        self.fetch("s", seconds=SECONDS)
        self.saved.clear()

    def change(self, **files: bytes) -> None:
        """Let Alice write files, which then have other versions."""
        for name, data in files.items():
            path = self.alice.put(f"s/{name}", data)
            number = int(self.alice.versions.get(path, "v0")[1:])
            self.alice.versions[path] = f"v{number + 1}"

    def write(self, name: str, data: bytes) -> None:
        """Let the user write a file."""
        (self.inbox / "s" / name).write_bytes(data)

    def update(self, path: str = "s", **options: bool) -> JobProgress:
        self.failed.clear()
        self.saved.clear()
        return self.fetch(path, seconds=SECONDS, update=True, **options)

    def count(self, *, overwrite: bool = False) -> UpdateCounts:
        items = [JobItem(parse_path("s"), self.inbox, overwrite=overwrite, update=True)]
        folder = partial(IncomingFolder.open, saved=self.records)
        survey = UpdateSurvey(self.remote, items, lambda path, claims: folder(path, claims=claims))
        running = Deferred.fromCoroutine(survey.run())
        self.alice.pass_time(SECONDS)
        return self.successResultOf(running)

    @property
    def replaced(self) -> set[str]:
        return {each.path.name for each in self.saved if each.is_replaced}

    def test_new_and_changed(self) -> None:
        """New files come and changed ones are replaced, whatever their sizes are; nothing is numbered or deleted."""
        self.change(a=SMALL[::-1], b=LARGE[1:], new=b"new")
        del self.alice.files["s", "same"]
        counts = self.count()
        self.assertEqual((counts.new, counts.changed, counts.doubtful), (1, 1, 1))
        self.assertEqual(counts.size, 3 + len(LARGE) - 1)
        progress = self.update()
        self.assertEqual((self.failed, self.replaced), ({}, {"a", "b"}))
        self.assertEqual((progress.files_done, progress.files_already_there), (3, 0))
        self.assertEqual(
            self.came(),
            {"s/a": SMALL[::-1], "s/b": LARGE[1:], "s/new": b"new", "s/same": b"the same"},
        )
        self.assertEqual(self.update().files_already_there, 3)
        self.nothing_left()

    def test_up_to_date(self) -> None:
        """If nothing has changed, nothing is requested; a file that was only touched is compared."""
        before = len(self.alice.gets())
        self.assertEqual(self.count(), UpdateCounts(up_to_date=3))
        self.assertEqual(self.update().files_already_there, 3)
        self.assertEqual(len(self.alice.gets()), before)
        self.change(a=SMALL)
        self.assertEqual(self.count(), UpdateCounts(doubtful=1, up_to_date=2))
        self.assertEqual(self.update().files_already_there, 3)

    def test_kept(self) -> None:
        """A file that the user has changed is kept, whatever its size is, which is an error; not with --force."""
        for mine, counted in ((b"mine!", "doubtful"), (b"longer than it was", "kept")):
            self.write("a", mine)
            self.write("b", b"mine, too")
            self.change(a=SMALL[::-1], b=LARGE[::-1], c=b"c")
            self.assertGreater(getattr(self.count(), counted), 0)
            self.update()
            self.assertEqual(self.came()["s/a"], mine)
            self.assertEqual(self.came()["s/b"], b"mine, too")
            self.assertEqual(sorted(self.failed), ["s/a", "s/b"])
            error = self.error("s/a", ChangedHere)
            self.assertIn(str(self.inbox / "s" / "a"), str(error))
            self.assertEqual(len(self.came()), 4)
        self.assertEqual(self.count(overwrite=True).kept, 0)
        self.update(overwrite=True)
        self.assertEqual((self.failed, self.replaced), ({}, {"a", "b"}))
        self.assertEqual((self.came()["s/a"], self.came()["s/b"]), (SMALL[::-1], LARGE[::-1]))

    def test_changed_to_the_same(self) -> None:
        """A file with the content of the peer is up to date, whoever wrote it."""
        self.change(a=b"other")
        self.write("a", b"other")
        self.assertEqual(self.update().files_already_there, 3)
        self.assertEqual(self.failed, {})

    def test_without_records(self) -> None:
        """Without a record nothing is replaced: the same content is found, and any other is kept."""
        self.records.close()
        self.records = SavedFiles(None)
        self.change(a=b"other")
        self.update()
        self.assertEqual(sorted(self.failed), ["s/a"])
        self.assertEqual(self.came()["s/a"], SMALL)

    def test_not_sure(self) -> None:
        """A record that may hide a change is checked by the content before the file is replaced."""
        with patch.object(saved_files, "shows_changes", return_value=False):
            self.change(a=b"second")
            self.update()
            self.change(a=b"the third")
            self.update()
        self.assertEqual((self.failed, self.came()["s/a"]), ({}, b"the third"))
        with patch.object(saved_files, "shows_changes", return_value=False):
            self.change(a=b"4")
            self.update()
        self.change(a=b"fifth")
        status = (self.inbox / "s" / "a").stat()
        with patch.object(os, "pread", return_value=b"!"):
            self.update()
        self.error("s/a", ChangedHere)
        self.assertEqual((self.inbox / "s" / "a").stat(), status)

    def test_numbered(self) -> None:
        """A file that was saved under a number is replaced there."""
        self.write("c", b"mine")
        self.change(c=b"first")
        self.fetch("s", seconds=SECONDS)
        self.assertEqual(self.came()["s/c (1)"], b"first")
        self.change(c=b"second")
        self.update()
        came = self.came()
        self.assertEqual((came["s/c"], came["s/c (1)"], self.failed), (b"mine", b"second", {}))

    def test_one_file(self) -> None:
        """A single file is updated, too, also under a name of the user's."""
        item = JobItem(parse_path("s/a"), self.inbox, "mine", update=True)
        for data in (SMALL, b"second"):
            self.change(a=data)
            _, running = self.begin(more=[item])
            self.alice.pass_time(SECONDS)
            self.successResultOf(running)
            self.assertEqual(self.came()["mine"], data)

    def test_written_meanwhile(self) -> None:
        """A file that the user writes while its new version arrives is kept."""
        for name, data in (("a", b"other"), ("b", LARGE[::-1])):
            self.change(**{name: data})
            _, running = self.begin("s", update=True)
            path = parse_path(f"s/{name}")

            def late(session: MemorySession, get: Get, name: str = name) -> None:
                self.write(name, b"just now")
                give(session, get)

            self.alice.answers[path] = late
            self.alice.pass_time(SECONDS)
            self.successResultOf(running)
            self.assertEqual(self.came()[f"s/{name}"], b"just now")
            self.error(f"s/{name}", ChangedHere)
            del self.alice.answers[path]
        self.assertEqual(self.hidden(), [])

    def test_stopped(self) -> None:
        """An update that is stopped in the middle goes on with the next one."""
        self.change(a=b"other", b=LARGE[::-1], new=b"new")

        def vanish(session: MemorySession, get: Get) -> None:
            give(session, get, until=1)
            self.alice.refusals = [LinkGivenUp(name="alice", reason="x", patience=1)] * 99
            self.alice.reactor.callLater(0.5, self.alice.lose)

        self.alice.answers["s", "b"] = vanish
        self.remote = self.alice.remote(patience=2)
        _, running = self.begin("s", update=True)
        self.alice.pass_time(20, 0.1)
        self.failureResultOf(running, LinkGivenUp)
        self.assertEqual(self.came()["s/b"], LARGE)
        self.alice.answers.clear()
        self.alice.refusals = []
        self.update()
        self.assertEqual(self.failed, {})
        expected = {"s/a": b"other", "s/b": LARGE[::-1], "s/new": b"new", "s/same": b"the same"}
        self.assertEqual(self.came(), expected)
        self.assertEqual(self.update().files_already_there, 4)

    def test_killed_before_the_record(self) -> None:
        """After a kill between the new name and its record, the file is found by its content."""
        self.change(a=b"other", b=LARGE[BLOCK_SIZE:])
        with patch.object(SavedFiles, "store"):
            self.update()
        self.assertEqual(self.update().files_already_there, 3)
        self.change(a=b"third")
        self.update()
        self.assertEqual((self.failed, self.came()["s/a"]), ({}, b"third"))

    def test_empty_folders(self) -> None:
        """The survey makes no folders; the job does."""
        self.alice.folders.add(("s", "empty"))
        self.change(**{"deep/x": b""})
        self.assertEqual(self.count().new, 1)
        self.assertFalse((self.inbox / "s" / "deep").exists())
        self.update()
        self.assertTrue((self.inbox / "s" / "empty").is_dir())
        self.assertEqual(self.came()["s/deep/x"], b"")
