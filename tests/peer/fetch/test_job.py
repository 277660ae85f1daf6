"""Tests of `p2pshare.peer.fetch.job` and its parts: a sharer in memory, folders on the disk, virtual time."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.in_flight import LARGE_MAX, SMALL_MAX
from p2pshare.core.offers.budget import OfferBudget
from p2pshare.errors import (
    CannotSave,
    DestinationGone,
    DiskFull,
    InUse,
    LinkGivenUp,
    LocalProtocolError,
    OfferChanged,
    P2pshareError,
    PeerUnreachable,
    RemoteBusy,
    RemoteGone,
    RemoteLeftOut,
    RemoteLinkLoop,
    RemoteLinkNotFollowed,
    RemoteNameUnusable,
    RemoteNotFound,
    RemoteProtocolError,
    RemoteSpecial,
    RemoteTooDeep,
    RemoteTooLarge,
    RemoteTooMany,
    RemoteUnreadable,
    RemoteWithdrawn,
    SharerLied,
    SourceChanged,
    TooManyOpenFiles,
)
from p2pshare.peer.fetch import job as fetch_job
from p2pshare.peer.fetch import plan as job_plan
from p2pshare.peer.fetch import small_files
from p2pshare.peer.fetch.job import FetchJob, JobItem, JobProgress, SavedFile
from p2pshare.peer.fetch.job_parts import IN_USE_PATIENCE, SHORT_PATIENCE, TRIES_MAX
from p2pshare.peer.fetch.listing_backlog import LOOSE_MAX
from p2pshare.peer.fetch.plan import just_before
from p2pshare.storage.incoming.announcement import Announced, Origin, Place
from p2pshare.storage.incoming.folder import IncomingFolder
from p2pshare.storage.incoming.hidden_file import PART_SUFFIX
from p2pshare.storage.incoming.partial_file import Incoming
from p2pshare.storage.incoming.saved_files import SavedFiles
from p2pshare.wire.blocks import BLOCK_SIZE, digest_of, root_of
from p2pshare.wire.offers.messages import OfferItem
from p2pshare.wire.paths import COMPONENT_MAX, RemotePath, component_fault, is_reserved, parse_path
from p2pshare.wire.session_messages import Credit
from p2pshare.wire.transfer_messages import (
    Cancel,
    Cancelled,
    Digests,
    Done,
    End,
    Entry,
    EntryKind,
    Failed,
    Fault,
    FileHeader,
    Get,
    Job,
    Listing,
    Omitted,
)
from tests import examples
from tests.peer.memory_sharer import (
    ADDRESS,
    ALICE,
    MTIME,
    MemorySession,
    MemorySharer,
    give,
    give_listing,
    header_of,
)

LARGE = b"".join(bytes([index]) * BLOCK_SIZE for index in range(1, 6)) + b"end"


class JobTestCase(SynchronousTestCase):
    """A sharer, and a folder into which a job fetches."""

    def setUp(self) -> None:
        self.alice = MemorySharer()
        self.inbox = Path(tempfile.mkdtemp(dir=os.getcwd()))
        self.saved: list[SavedFile] = []
        self.failed: dict[str, P2pshareError] = {}
        self.remarks: list[str] = []
        self.renamed: list[tuple[str, str]] = []
        self.folder_options: dict[str, Any] = {}
        self.remote = self.alice.remote()
        self.records = SavedFiles(self.inbox.with_suffix(".sqlite"))
        self.addCleanup(self.records.close)

    def job(
        self,
        *paths: str,
        more: Sequence[JobItem] = (),
        files_max: int | None = None,
        **options: Any,
    ) -> FetchJob:
        items = [JobItem(parse_path(path), self.inbox, **options) for path in paths]
        items += more

        def failed(path: RemotePath, error: P2pshareError) -> None:
            self.failed["/".join(path)] = error

        return FetchJob(
            self.remote,
            items,
            on_saved=self.saved.append,
            on_failed=failed,
            on_remark=lambda _, remark: self.remarks.append(remark),
            files_max=files_max,
            on_renamed=lambda path, name: self.renamed.append(("/".join(path), name)),
            open_folder=partial(IncomingFolder.open, saved=self.records, **self.folder_options),
        )

    def begin(self, *paths: str, **options: Any) -> tuple[FetchJob, Deferred[JobProgress]]:
        job = self.job(*paths, **options)
        return job, Deferred.fromCoroutine(job.run())

    def fetch(self, *paths: str, seconds: float = 5.0, **options: Any) -> JobProgress:
        _, running = self.begin(*paths, **options)
        self.alice.pass_time(seconds)
        return self.successResultOf(running)

    def short_pages(self, limit: int) -> None:
        """Let alice list fewer entries on a page than she is asked for."""

        def lists(session: MemorySession, question: Any) -> None:
            give_listing(session, replace(question, limit=min(question.limit, limit)))

        self.alice.list_answer = lists

    def came(self) -> dict[str, bytes]:
        """All files that are there under their names."""
        return {
            str(path.relative_to(self.inbox)): path.read_bytes()
            for path in self.inbox.rglob("*")
            if path.is_file() and not is_reserved(path.name)
        }

    def hidden(self) -> list[Path]:
        """The partial files that are left."""
        return [path for path in self.inbox.rglob(".p2pshare-*") if path.is_file()]

    def nothing_left(self) -> None:
        """No timer is left once the session is closed, too."""
        self.successResultOf(Deferred.fromCoroutine(self.remote.close()))
        self.assertEqual(self.alice.reactor.getDelayedCalls(), [])

    def error(self, path: str, kind: type[P2pshareError]) -> P2pshareError:
        error = self.failed[path]
        self.assertIsInstance(error, kind)
        return error


class HiddenNameTests(JobTestCase):
    def test_hidden_names(self) -> None:
        """Threat 71: what a stranger hides does not lie hidden in the destination itself; further down it may."""
        for name in ".profile", ".ssh/config", ".ssh/.x", "s/.env", "s/.git/.x":
            self.alice.put(name, name.encode())
        self.alice.folders.add((".empty",))
        expected = {
            "_.profile": b".profile",
            "_.ssh/config": b".ssh/config",
            "_.ssh/.x": b".ssh/.x",
            "s/.env": b"s/.env",
            "s/.git/.x": b"s/.git/.x",
        }
        renamed = {".profile": "_.profile", ".ssh": "_.ssh", ".empty": "_.empty"}
        self.fetch("*")
        self.assertEqual((self.came(), self.failed), (expected, {}))
        self.assertTrue((self.inbox / "_.empty").is_dir())
        self.assertEqual(dict(self.renamed), renamed)
        names = {"/".join(each.remote) for each in self.saved if each.is_renamed}
        self.assertEqual(names, {".profile", ".ssh/config", ".ssh/.x"})
        for path in ".profile", ".ssh", ".ssh/config", ".empty":
            self.fetch(path)
        self.assertEqual(self.came(), {**expected, "config": b".ssh/config"})
        self.assertEqual(len(self.saved), 5 + 4)
        self.assertEqual(dict(self.renamed), renamed)

    def test_hidden_names_in_an_offer(self) -> None:
        """Threat 71: the same is true of what a folder has, as an offer is fetched."""
        for name in "@o/.profile", "@o/.ssh/config", "@o/d/.env", "@o/\u200c.zshrc":
            self.alice.put(name, name.encode())
        _, running = self.begin(more=[JobItem(("@o",), self.inbox, contents=True)])
        self.alice.pass_time(3)
        self.successResultOf(running)
        unseen = "_\u200c.zshrc"  # some file systems ignore that character
        self.assertEqual(set(self.came()), {"_.profile", "_.ssh/config", "d/.env", unseen})
        renamed = {"@o/.profile": "_.profile", "@o/.ssh": "_.ssh", "@o/\u200c.zshrc": unseen}
        self.assertEqual(dict(self.renamed), renamed)

    def test_hidden_name_chosen(self) -> None:
        """A hidden name that the user chose is kept, also around a folder."""
        self.alice.put("s/.env", b"1")
        self.alice.put("s/plain", b"2")
        self.fetch("s/.env", name=".env")
        self.fetch("s/plain", name=".plain")
        self.fetch("s", name=".s")
        expected = {".env": b"1", ".plain": b"2", ".s/s/.env": b"1", ".s/s/plain": b"2"}
        self.assertEqual((self.came(), self.renamed), (expected, []))
        self.assertFalse(any(each.is_renamed for each in self.saved))


class PlanTests(JobTestCase):
    """What is wanted."""

    def setUp(self) -> None:
        super().setUp()
        for path in ("photos/a.jpg", "photos/b.JPG", "photos/2024/c.jpg", "photos/2024/d.png",
                     "docs/a.txt", "my_file.txt", "photos/[1].jpg"):  # fmt: skip
            self.alice.put(path, path.encode())
        self.alice.folders.add(("photos", "empty"))

    def test_file(self) -> None:
        """A file gets its own name, or the one that is wanted."""
        self.fetch("my_file.txt")
        self.fetch("my_file.txt", name="other.txt")
        self.assertEqual(self.came(), {"my_file.txt": b"my_file.txt", "other.txt": b"my_file.txt"})

    def test_folder(self) -> None:
        """A folder arrives under its name with everything in it, also empty folders."""
        progress = self.fetch("photos")
        self.assertEqual(
            sorted(self.came()),
            ["photos/2024/c.jpg", "photos/2024/d.png", "photos/[1].jpg",
             "photos/a.jpg", "photos/b.JPG"],
        )  # fmt: skip
        self.assertTrue((self.inbox / "photos/empty").is_dir())
        self.assertEqual((progress.files_done, progress.files_total), (5, 5))

    def test_folder_into_a_new_one(self) -> None:
        """A new name for a folder is a folder around it, so that the same command means the same when it exists."""
        self.fetch("photos/2024", name="mine")
        self.assertEqual(sorted(self.came()), ["mine/2024/c.jpg", "mine/2024/d.png"])

    def test_everything(self) -> None:
        """The top stands for everything that is shared."""
        self.fetch("")
        self.assertEqual(len(self.came()), 7)
        self.assertIn("docs/a.txt", self.came())

    def test_globs(self) -> None:
        """`*`, `?` and `[…]` match within one name, of files and of folders."""
        for pattern, names in {
            "photos/*.jpg": ["[1].jpg", "a.jpg"],
            "photos/?.*": ["a.jpg", "b.JPG"],
            "p*/2024": ["2024/c.jpg", "2024/d.png"],
            "*/a.*": ["a.jpg", "a.txt"],
            "photos/[ab].*": ["a.jpg", "b.JPG"],
            "photos/20??/c.jpg": ["c.jpg"],
        }.items():
            self.setUp()
            self.fetch(pattern)
            self.assertEqual((sorted(self.came()), self.failed), (names, {}), pattern)

    def test_omitted(self) -> None:
        """Each entry that the sharer left out fails with its reason; of a glob, only matching entries do."""
        kinds: dict[Omitted, type[P2pshareError]] = {
            Omitted.UNREADABLE: RemoteUnreadable,
            Omitted.GONE: RemoteGone,
            Omitted.LINK: RemoteLinkNotFollowed,
            Omitted.LINK_LOOP: RemoteLinkLoop,
            Omitted.NAME: RemoteNameUnusable,
            Omitted.TOO_DEEP: RemoteTooDeep,
            Omitted.SPECIAL: RemoteSpecial,
            Omitted.TOO_LARGE: RemoteTooLarge,
        }
        self.assertEqual(set(kinds), set(Omitted))
        for why in kinds:
            self.alice.omitted["photos", why.value] = why
        self.alice.omitted["photos", "2024", "x"] = Omitted.UNREADABLE
        progress = self.fetch("photos")
        for why, kind in kinds.items():
            error = self.error(f"photos/{why.value}", kind)
            self.assertEqual(error.fields["path"], f"photos/{why.value}")
        self.error("photos/2024/x", RemoteUnreadable)
        self.assertEqual((progress.files_done, progress.files_failed), (5, len(kinds) + 1))
        self.failed.clear()
        self.fetch("photos/l*", "*/20*")
        self.assertEqual(set(self.failed), {"photos/link", "photos/link_loop", "photos/2024/x"})

    def test_omitted_without_names(self) -> None:
        """Entries that were left out without a name fail, too, in a folder and for a glob."""

        def lists(session: MemorySession, question: Any) -> None:
            if question.path in (("photos",), ()):
                session.say(Listing(question.id, (), False, (), 7))
            elif question.path == ("docs",):
                session.say(Listing(question.id, (), False, (), 1))
            else:
                session.say(Failed(question.id, Fault.NOT_FOUND))

        self.alice.list_answer = lists
        self.fetch("photos")
        self.assertEqual(self.error("photos", RemoteLeftOut).fields["count"], 7)
        self.fetch("*.jpg")
        self.error("", RemoteLeftOut)

    def test_literal_wins(self) -> None:
        """A file with exactly the wanted name has precedence over a glob."""
        self.alice.put("photos/1.jpg", b"one")
        self.fetch("photos/[1].jpg")
        self.assertEqual(sorted(self.came()), ["[1].jpg"])

    def test_nothing_matches(self) -> None:
        """A glob that matches nothing is an item that is not there; the others come."""
        progress = self.fetch("photos/*.gif", "nothing", "my_file.txt/x*", "my_file.txt")
        self.assertEqual(len(self.came()), 1)
        for path in ("photos/*.gif", "nothing", "my_file.txt/x*"):
            self.error(path, RemoteNotFound)
        self.assertEqual(progress.files_failed, 3)

    def test_many_pages(self) -> None:
        """Folders of many pages are listed page by page, and no faster than they are fetched."""
        self.short_pages(100)
        for number in range(600):
            self.alice.put(f"many/{number:04}", b"x")
        with patch.object(fetch_job, "QUEUE_MAX", 100):
            progress = self.fetch("many", seconds=20)
        self.assertEqual((progress.files_done, len(self.came())), (600, 600))

    def test_endless(self) -> None:
        """Threat 10: a folder whose listing has no end is given up at a limit, and other items are fetched."""
        depth = 0

        def endless(session: MemorySession, question: Any) -> None:
            nonlocal depth
            if question.path in (("docs",), ()):
                give_listing(session, question)
                return
            if any("*" in each for each in question.path):
                session.say(Failed(question.id, Fault.NOT_FOUND))
                return
            depth += 1
            entry = Entry((f"{depth:09}",), EntryKind.FOLDER, 0, MTIME)
            session.say(Listing(question.id, (entry,), True))

        self.alice.list_answer = endless
        for path in "photos", "photos/*", "*/x*":
            with patch.object(job_plan, "FILES_MAX", 9):
                progress = self.fetch(path, "docs")
            error = self.error(path, RemoteTooMany)
            self.assertEqual((error.fields["most"], error.fields["what"]), (9, "files and folders"))
            self.assertEqual(progress.files_failed, 1)
            with patch.object(job_plan, "FOLDERS_MAX", 9):
                self.fetch(path)
            error = self.error(path, RemoteTooMany)
            self.assertEqual((error.fields["most"], error.fields["what"]), (9, "folders"))
        self.assertEqual(self.came(), {"docs/a.txt": b"docs/a.txt"})
        self.assertEqual(list(self.inbox.iterdir()), [self.inbox / "docs"])

    def test_endless_around_a_file(self) -> None:
        """Threat 10: of a sharer whose listings have no end, a file is not taken for a folder, and nothing is made that
        was not asked for: not for a file, nor for a glob.
        """

        def endless(session: MemorySession, question: Any) -> None:
            after = question.after[0] if question.after else ""
            if after < "a.txt":
                names = ["a.txt"]
            else:
                first = int(after[1:]) + 1 if after[1:].isdigit() else 0
                names = [f"b{number:09}" for number in range(first, first + question.limit)]
            entries = tuple(Entry((name,), EntryKind.FILE, 5, MTIME) for name in names)
            session.say(Listing(question.id, entries, True))

        self.alice.put("docs/a.txt", b"12345")
        self.alice.list_answer = endless
        self.fetch("docs/a.txt")
        self.assertEqual(self.came(), {"a.txt": b"12345"})
        with patch.object(job_plan, "FILES_MAX", 5000):
            self.fetch("docs/*.jpg")
        self.error("docs/*.jpg", RemoteTooMany)
        self.assertEqual(list(self.inbox.iterdir()), [self.inbox / "a.txt"])

    def test_given_up(self) -> None:
        """An item without an end is given up before its listed files are fetched; a user's own bound allows it."""
        for number in range(40):
            self.alice.put(f"many/{number:03}", b"x")

        self.short_pages(5)
        with patch.object(job_plan, "FILES_MAX", 19), patch.object(fetch_job, "QUEUE_MAX", 1):
            progress = self.fetch("many")
        self.error("many", RemoteTooMany)
        self.assertLess(len(self.came()), 20)
        self.assertEqual(progress.files_done, progress.files_total)
        self.assertEqual(progress.bytes_done, progress.bytes_total)
        self.failed.clear()
        with patch.object(job_plan, "FILES_MAX", 22):
            self.fetch("many", files_max=50)
        self.assertEqual((self.failed, len(self.came())), ({}, 40))

    def test_listed_ahead(self) -> None:
        """The total is known long before the files have come, in pages that are compressed meanwhile."""
        self.short_pages(5)
        count = 5 * LOOSE_MAX + 250
        for number in range(count):
            self.alice.put(f"many/{number:04}", b"x")

        def slow(session: MemorySession, get: Get) -> None:
            self.alice.reactor.callLater(1, give, session, get)

        self.alice.answers = dict.fromkeys(self.alice.files, slow)
        with patch.object(fetch_job, "QUEUE_MAX", 100):
            job, running = self.begin("many")
            with patch.object(zlib, "compress", side_effect=zlib.compress) as compress:
                self.alice.pass_time(2.5)
            self.assertGreater(compress.call_count, 0)
            progress = job.progress
            self.assertEqual((progress.files_total, progress.bytes_total), (count, count))
            self.assertLess(progress.files_done, count // 2)
            self.alice.pass_time(12)
        self.assertEqual(self.successResultOf(running).files_done, count)
        self.assertEqual(len(self.came()), count)

    def test_hostile_names(self) -> None:
        """Threat 1: whatever a stranger calls a file, it lands in the folder; what a terminal obeys is not stored."""
        names = ["-rf", "con", "a\x1b[2Jb", "x" * 255, "x\\..\\y", "\u202egpj.exe", "~root", "a:b"]
        for name in names:
            self.alice.put(f"s/{name}", name.encode())
        self.fetch("s")
        self.assertEqual(self.failed, {})
        altered = {"a\x1b[2Jb": "a_[2Jb", "\u202egpj.exe": "_gpj.exe"}
        wanted = {f"s/{altered.get(name, name)}": name.encode() for name in names}
        self.assertEqual(self.came(), wanted)
        self.assertEqual(dict(self.renamed), {f"s/{own}": new for own, new in altered.items()})
        renamed = {each.remote[-1] for each in self.saved if each.is_renamed}
        self.assertEqual(renamed, set(altered))
        self.fetch("s")
        renamed = {each.remote[-1] for each in self.saved[len(names) :] if each.is_renamed}
        self.assertEqual(renamed, set(altered))

    def test_renamed_folder(self) -> None:
        """A folder that cannot have its name is told once, and so is each file in it by its event."""
        for name in "ab":
            self.alice.put(f"s/x\ny/{name}", b"1")
        self.alice.folders.add(("s", "e\n"))
        self.fetch("s")
        self.assertEqual(sorted(self.renamed), [("s/e\n", "e_"), ("s/x\ny", "x_y")])
        self.assertEqual([each.is_renamed for each in self.saved], [True, True])
        self.assertTrue((self.inbox / "s/e_").is_dir())

    def test_portable_names(self) -> None:
        """If that is wished, all names are such as every system takes."""
        self.folder_options["portable_names"] = True
        self.alice.put("s:/a:b", b"one")
        self.fetch("s:")
        self.assertEqual(self.came(), {"s_/a_b": b"one"})

    def test_names_that_become_one(self) -> None:
        """Names that become one here are numbered in the order of the listing, whatever comes first."""
        self.folder_options["portable_names"] = True
        late = [self.alice.put("s/a:b", b"one")]
        self.alice.put("s/a?b", b"two")
        self.alice.answers[late[0]] = lambda session, get: self.alice.reactor.callLater(
            1, give, session, get
        )
        self.fetch("s")
        self.assertEqual(self.came(), {"s/a_b": b"one", "s/a_b (1)": b"two"})
        self.assertIn(("s/a?b", "a_b (1)"), self.renamed)

    def test_names_that_become_one_again(self) -> None:
        """However often they are fetched, files that are here are not fetched again."""
        self.folder_options["portable_names"] = True
        twins = {"a:b": b"one", "a?b": b"two", "a_b": b"one", "c:d": LARGE, "c?d": LARGE[::-1]}
        for name, content in twins.items():
            self.alice.put(f"s/{name}", content)
        self.fetch("s")
        came = self.came()
        self.assertEqual(sorted(came.values()), sorted(twins.values()))
        for step in range(3):
            self.fetch("s")
            self.assertEqual(self.came(), came)
            if step:  # without records, only roots cross
                self.records.close()
        contents = [each for each in self.alice.gets() if each.want != ()]
        self.assertEqual(len(contents), len(twins))

    def test_names_that_become_one_on_two_pages(self) -> None:
        """The same applies to names that are far apart in the listing."""
        self.folder_options["portable_names"] = True
        self.alice.put("s/a:1", b"one")
        self.alice.put("s/a_1", b"two")
        self.short_pages(20)
        for number in range(60):
            self.alice.put(f"s/a={number:04}", b"x")
        self.fetch("s")
        self.assertEqual(self.came()["s/a_1"], b"one")
        self.assertEqual(self.came()["s/a_1 (1)"], b"two")

    def test_same_name_and_content(self) -> None:
        """Two items are two files here, also if they have one name and one content."""
        for _ in range(2):
            self.alice.put("s/same", b"data")
            self.alice.put("t/same", b"data")
            self.fetch("s/same", "t/same")
            self.assertEqual(self.came(), {"same": b"data", "same (1)": b"data"})
        self.assertEqual(len(self.alice.heard_of(Get)), 2)

    def test_overwrite_spares_this_job(self) -> None:
        """A file with `overwrite` replaces no other file of the same job."""
        self.alice.put("s/same", b"one!")
        self.alice.put("t/same", b"two!")
        (self.inbox / "same").write_bytes(b"mine")
        for _ in range(2):
            self.fetch("s/same", "t/same", overwrite=True)
            self.assertEqual(self.came(), {"same": b"one!", "same (1)": b"two!"})
        self.assertEqual(len([each for each in self.alice.heard_of(Get) if each.want != ()]), 2)

    @given(st.text(min_size=1, max_size=90).filter(lambda text: component_fault(text) is None))
    @settings(max_examples=examples(60))
    @example("\x01")
    @example("a\x01")
    def test_just_before(self, name: str) -> None:
        """A path that is just before another is a legal one, and before it."""
        before = just_before(name)
        self.assertLess(before, (name,))
        for component in before:
            self.assertIsNone(component_fault(component))
            self.assertLessEqual(len(component.encode()), COMPONENT_MAX)


class SmallTests(JobTestCase):
    """Files of a block or less."""

    def test_bounded(self) -> None:
        """No more files are in flight than the limit allows."""
        for number in range(300):
            self.alice.put(f"s/{number}", b"x")
        waiting: list[tuple[MemorySession, Get]] = []
        most = 0

        def slow(session: MemorySession, get: Get) -> None:
            nonlocal most
            waiting.append((session, get))
            most = max(most, len(waiting))

        self.alice.answers = dict.fromkeys(self.alice.files, slow)
        _, running = self.begin("s")
        for _ in range(100):
            self.alice.pass_time(0.05)
            for each in waiting:
                give(*each)
            waiting.clear()
        self.assertEqual(self.successResultOf(running).files_done, 300)
        self.assertEqual(most, SMALL_MAX)

    def test_done(self) -> None:
        """The sharer hears which files are saved, many in one message, and the size of the job."""
        for number in range(40):
            self.alice.put(f"s/{number}", b"xyz")
        self.fetch("s")
        done = [number for message in self.alice.heard_of(Done) for number in message.ids]
        self.assertEqual(sorted(done), [get.id for get in self.alice.gets()])
        self.assertLess(len(self.alice.heard_of(Done)), 10)
        self.assertEqual(self.alice.heard_of(Job), [Job("s", 40, 120), Job("s", 0, 0)])

    def test_already_there(self) -> None:
        """A file that is here is not fetched again."""
        self.alice.put("s/a", b"a")
        self.alice.put("s/b", b"b")
        self.fetch("s/a")
        os.renames(self.inbox / "a", self.inbox / "s/a")
        progress = self.fetch("s")
        self.assertEqual((progress.files_done, progress.files_already_there), (1, 1))
        self.assertEqual(progress.bytes_done, progress.bytes_total)
        self.assertEqual([each.already_there for each in self.saved], [False, True, False])

    def test_grown(self) -> None:
        """A file that has grown since it was listed is fetched as it is now."""
        path = self.alice.put("s/log", b"x")
        answer = self.alice.list_answer

        def list_then_grow(session: MemorySession, question: Any) -> None:
            answer(session, question)
            self.alice.files[path] = LARGE

        self.alice.list_answer = list_then_grow
        progress = self.fetch("s")
        self.assertEqual(self.came(), {"s/log": LARGE})
        self.assertEqual(progress.bytes_total, len(LARGE))

    def test_grows_for_ever(self) -> None:
        """Threat 10: a file that has grown at each header is given up after a few requests."""
        path = self.alice.put("s/log", b"x")

        def grow(session: MemorySession, get: Get) -> None:
            self.alice.files[path] += b"x"
            session.say(header_of(session, get))

        self.alice.answers[path] = grow
        progress = self.fetch("s")
        self.error("s/log", SourceChanged)
        self.assertEqual(len(self.alice.gets()), TRIES_MAX)
        self.assertEqual((progress.bytes_total, progress.files_failed), (0, 1))
        self.nothing_left()

    def test_grows_beyond_a_budget(self) -> None:
        """Threat 83: a file whose header has more bytes than its listing and than were offered ends the job."""
        for size, grown in ((1, 2), (len(LARGE), len(LARGE) + 1)):
            path = self.alice.put("s/*", b"x" * size)

            def grow(session: MemorySession, get: Get, more: int = grown) -> None:
                self.alice.files[get.path] = b"x" * more
                session.say(header_of(session, get))

            self.alice.answers[path] = grow
            items = [OfferItem("*", EntryKind.FILE, size, 1)]
            budget = OfferBudget("alice", items, 0, files=1, folders=0, size=size)
            _, running = self.begin("s", contents=True, budget=budget)
            self.alice.pass_time(5)
            self.failureResultOf(running, OfferChanged)
            self.assertEqual(self.came(), {})

    def test_contents(self) -> None:
        """What is in a folder is fetched without the folder, also if its name has characters of a glob."""
        self.alice.put("@[s]/*", b"star")
        self.alice.put("@[s]/d/x", b"x")
        self.fetch("@[s]", contents=True)
        self.assertEqual(self.came(), {"*": b"star", "d/x": b"x"})

    def test_lies(self) -> None:
        """Threat 10: a small file that is not what was announced is given up, with a sentence that says so; the others
        come.
        """
        for name in ("digest", "root", "good"):
            self.alice.put(f"s/{name}", name.encode())

        def lying(session: MemorySession, get: Get) -> None:
            data = self.alice.files[get.path]
            digest, root = digest_of(data), root_of(len(data), [digest_of(data)])
            wrong = bytes(32)
            is_root = get.path[-1] == "root"
            session.say(
                header_of(session, get), Digests(get.id, 0, (digest if is_root else wrong,))
            )
            session.data(get.id, 0, data)
            session.say(End(get.id, wrong if is_root else root, len(data)))

        self.alice.answers = {("s", "digest"): lying, ("s", "root"): lying}
        progress = self.fetch("s")
        self.assertEqual(self.came(), {"s/good": b"good"})
        for name in ("digest", "root"):
            self.error(f"s/{name}", SharerLied)
        self.assertEqual(
            [each.why for each in self.alice.heard_of(Cancel)], [Cancelled.CORRUPT] * 2
        )
        self.assertEqual(progress.bytes_done, progress.bytes_total)

    def test_faults(self) -> None:
        """Files that the sharer cannot send fail; changed files, and those of a busy sharer, are requested again."""
        for fault in set(Fault) - {Fault.WITHDRAWN}:
            self.alice.put(f"s/{fault.value}", b"x")
            self.alice.answers["s", fault.value] = lambda session, get: session.say(
                Failed(get.id, Fault(get.path[-1]))
            )
        self.alice.put("s/fine", b"fine")
        self.fetch("s", seconds=20)
        self.assertEqual(self.came(), {"s/fine": b"fine"})
        self.error("s/not_found", RemoteNotFound)
        self.error("s/changed", SourceChanged)
        self.error("s/busy", RemoteBusy)
        self.error("s/unreadable", RemoteUnreadable)
        self.nothing_left()

    def test_withdrawn(self) -> None:
        """A job ends when the only share that it fetches from has ended; otherwise the other shares go on."""
        self.alice.put("s/fine", b"fine")
        for path in (self.alice.put("s/gone", b"x"), self.alice.put("t/gone", b"x")):
            self.alice.answers[path] = lambda session, get: session.say(
                Failed(get.id, Fault.WITHDRAWN)
            )
        self.fetch("s", "t")
        error = self.error("t/gone", RemoteWithdrawn)
        self.assertEqual((error.fields["path"], error.exit_code), ("t", 4))
        _, running = self.begin("s")
        self.alice.pass_time(3)
        self.failureResultOf(running, RemoteWithdrawn)

    def test_lost(self) -> None:
        """Files that were arriving when the session broke are requested again in the next one."""
        for number in range(20):
            path = self.alice.put(f"s/{number}", b"x")
            if number % 2:
                self.alice.answers[path] = lambda session, get: None
        _, running = self.begin("s")
        self.alice.pass_time(0.5)
        self.alice.answers.clear()
        self.alice.lose()
        self.alice.pass_time(3)
        self.assertEqual(self.successResultOf(running).files_done, 20)
        self.assertEqual(len(self.came()), 20)


class LargeTests(JobTestCase):
    """Files of more than a block."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.alice.put("s/large", LARGE)

    def test_bounded(self) -> None:
        """Only a few large files are in flight."""
        for number in range(10):
            path = self.alice.put(f"many/{number}", LARGE)
            self.alice.answers[path] = lambda session, get: None
        _, running = self.begin("many")
        self.alice.pass_time(1)
        self.assertEqual(len(self.alice.gets()), LARGE_MAX)
        self.alice.answers.clear()
        self.alice.lose()
        self.alice.pass_time(5)
        self.assertEqual(self.successResultOf(running).files_done, 10)

    def test_resumed_after_loss(self) -> None:
        """After a loss, verified blocks are not sent again."""
        self.alice.answers[self.path] = lambda session, get: give(session, get, 3)
        job, running = self.begin("s/large")
        self.alice.pass_time(0.5)
        self.assertEqual(job.progress.bytes_done, 3 * BLOCK_SIZE)
        self.assertEqual(job.progress.current, (self.path,))
        self.alice.answers.clear()
        self.alice.lose()
        self.alice.pass_time(3)
        self.assertEqual(self.successResultOf(running).files_done, 1)
        self.assertEqual(self.alice.heard_of(Get)[-1].want, ((3, 6),))
        self.assertEqual(self.came(), {"large": LARGE})
        self.assertEqual(self.hidden(), [])

    def cancelled_midway(self) -> None:
        self.alice.answers[self.path] = lambda session, get: give(session, get, 3)
        _, running = self.begin("s/large")
        self.alice.pass_time(0.5)
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.alice.answers.clear()
        self.assertEqual(self.came(), {})
        self.assertTrue(self.hidden())

    def test_resumed_after_cancel(self) -> None:
        """A cancelled job keeps verified blocks and tells the sharer, and the next job resumes."""
        self.cancelled_midway()
        self.alice.pass_time(0.1)
        self.assertEqual([each.why for each in self.alice.heard_of(Cancel)], [Cancelled.BY_USER])
        progress = self.fetch("s/large")
        self.assertEqual(self.alice.heard_of(Get)[-1].want, ((3, 6),))
        self.assertEqual(progress.bytes_fetched, len(LARGE) - 3 * BLOCK_SIZE)
        self.assertEqual(self.saved[-1].fetched, len(LARGE) - 3 * BLOCK_SIZE)
        self.assertEqual(self.came(), {"large": LARGE})

    def test_logged(self) -> None:
        """For debugging, the log tells of each step of a large file, with how much of it is there."""
        observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
        self.cancelled_midway()
        self.fetch("s/large")
        told = [str(formatEvent(each)) for each in observer if "fetched" in each]
        path, size, part = "path='s/large'", f"size={len(LARGE)}", 3 * BLOCK_SIZE
        self.assertEqual(
            told,
            [
                f"file begun: {path} {size} had=0 fetched=0",
                f"file stopped: {path} {size} had=0 fetched={part}",
                f"file resumed: {path} {size} had={part} fetched=0",
                f"file verified and saved: {path} {size} had={part} fetched={len(LARGE) - part}",
            ],
        )
        ends = [str(formatEvent(each)) for each in observer if "here" in each and "of" in str(each)]
        self.assertTrue(ends[-1].startswith("job ends: peer=alice files=1 here_already=0 failed=0"))

    def test_changed_since(self) -> None:
        """A file that changed since a part was fetched is fetched from the start, and the user is told."""
        self.cancelled_midway()
        changed = LARGE[::-1]
        self.alice.files[self.path] = changed
        self.alice.versions[self.path] = "v2"
        self.fetch("s/large")
        self.assertEqual(self.came(), {"large": changed})
        self.assertEqual(len(self.remarks), 1)
        self.assertRegex(
            self.remarks[0], "^'s/large' has changed .*, so it is fetched from the start\\.$"
        )

    def test_executable_since(self) -> None:
        """A part of a file that has become executable since is resumed, and the result is executable."""
        self.cancelled_midway()
        self.alice.executable.add(self.path)
        self.fetch("s/large")
        self.assertEqual(self.alice.heard_of(Get)[-1].want, ((3, 6),))
        self.assertEqual((self.failed, self.remarks), ({}, []))
        self.assertEqual(self.came(), {"large": LARGE})
        self.assertTrue(os.access(self.saved[-1].path, os.X_OK))
        self.nothing_left()

    def test_reading_again(self) -> None:
        """While the sharer reads blocks that it need not send, the user is told once what the job waits for."""
        self.cancelled_midway()

        def slow(session: MemorySession, get: Get) -> None:
            give(session, get, len(blocks) - 1)
            last = len(blocks) - 1
            session.after_data(Digests(get.id, last, (digest_of(blocks[last]),)))
            session.data(get.id, last * BLOCK_SIZE, blocks[last])
            sent = len(LARGE) - 3 * BLOCK_SIZE
            end = End(get.id, root_of(len(LARGE), map(digest_of, blocks)), sent)
            self.alice.reactor.callLater(30, session.say, end)

        blocks = [LARGE[at : at + BLOCK_SIZE] for at in range(0, len(LARGE), BLOCK_SIZE)]
        self.alice.answers[self.path] = slow
        _, running = self.begin("s/large")
        self.alice.pass_time(2)
        self.assertEqual(self.remarks, [])
        self.alice.pass_time(20)
        self.assertEqual(len(self.remarks), 1)
        self.assertRegex(self.remarks[0], "^'s/large' is all here; alice still reads .*\\.$")
        self.alice.pass_time(10)
        self.successResultOf(running)
        self.assertEqual((self.came(), self.failed), ({"large": LARGE}, {}))
        self.assertEqual(len(self.remarks), 1)

    def test_slow_block(self) -> None:
        """Bytes count as they come, before their block is whole: over a slow link that is all there is to see."""

        def slow(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get))
            session.after_data(Digests(get.id, 0, (digest_of(LARGE[:BLOCK_SIZE]),)))
            session.data(get.id, 0, LARGE[:1000])

        def slow_small(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get), Digests(get.id, 0, (bytes(32),)))
            session.data(get.id, 0, b"sm")

        small = self.alice.put("s/small", b"small")
        self.alice.answers[self.path] = slow
        self.alice.answers[small] = slow_small
        job, running = self.begin("s")
        self.alice.pass_time(1)
        self.assertEqual((job.progress.bytes_done, job.progress.bytes_fetched), (1002, 1002))
        running.cancel()
        self.failureResultOf(running, CancelledError)

    def test_not_idle(self) -> None:
        """While nothing comes, the sharer hears of the job now and then: it would end a session that seems idle."""
        self.alice.answers[self.path] = lambda session, get: session.say(header_of(session, get))
        _, running = self.begin("s/large")
        self.alice.pass_time(2)
        before = len(self.alice.heard_of(Job))
        self.alice.pass_time(110, 0.1)
        self.assertEqual(len(self.alice.heard_of(Job)), before + 1)
        running.cancel()
        self.failureResultOf(running, CancelledError)

    def test_changed_midway(self) -> None:
        """A file that changes while it is sent is requested again a few times."""
        tries = 0

        def changing(session: MemorySession, get: Get) -> None:
            nonlocal tries
            tries += 1
            give(session, get, 2)
            session.after_data(Failed(get.id, Fault.CHANGED, 2 * BLOCK_SIZE))
            self.alice.versions[self.path] = f"v{tries + 1}"

        self.alice.answers[self.path] = changing
        self.fetch("s/large")
        self.error("s/large", SourceChanged)
        self.assertLess(tries, 5)

    def test_changed_once(self) -> None:
        """One change is no failure."""

        def changing(session: MemorySession, get: Get) -> None:
            give(session, get, 2)
            session.after_data(Failed(get.id, Fault.CHANGED, 2 * BLOCK_SIZE))
            self.alice.versions[self.path] = "v2"
            self.alice.answers.clear()

        self.alice.answers[self.path] = changing
        self.fetch("s/large")
        self.assertEqual((self.came(), self.failed), ({"large": LARGE}, {}))

    def test_corrupt_block(self) -> None:
        """Threat 10: a corrupt block ends its file and no other, and nothing corrupt is kept."""
        self.alice.put("s/other", LARGE)

        def corrupt(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get), Digests(get.id, 0, (bytes(32),)))
            session.data(get.id, 0, LARGE[:BLOCK_SIZE])

        self.alice.answers[self.path] = corrupt
        self.fetch("s")
        self.assertEqual(self.came(), {"s/other": LARGE})
        self.error("s/large", SharerLied)
        self.assertEqual([each.why for each in self.alice.heard_of(Cancel)], [Cancelled.CORRUPT])

    def test_wrong_root(self) -> None:
        """Threat 10: a file whose root is not that of its blocks is not published."""

        def lying(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get))
            for at in range(0, len(LARGE), BLOCK_SIZE):
                block = LARGE[at : at + BLOCK_SIZE]
                session.say(Digests(get.id, at // BLOCK_SIZE, (digest_of(block),)))
                session.data(get.id, at, block)
            session.after_data(End(get.id, bytes(32), len(LARGE)))

        self.alice.answers[self.path] = lying
        self.fetch("s")
        self.assertEqual(self.came(), {})
        self.error("s/large", SharerLied)

    def test_ends_early(self) -> None:
        """Threat 7: a sharer that ends a file early breaks the rules, which ends the job; nothing is published."""

        def lying(session: MemorySession, get: Get) -> None:
            give(session, get, 2)
            session.after_data(End(get.id, bytes(32)))

        self.alice.answers[self.path] = lying
        _, running = self.begin("s")
        self.alice.pass_time(2)
        self.failureResultOf(running, RemoteProtocolError)
        self.assertEqual(self.came(), {})

    def test_tick_while_it_is_finished(self) -> None:
        """A tick does not sync a file that is being published."""
        self.alice.put("s/large", LARGE)
        finish = Incoming.finish
        syncs: list[int] = []

        def ticking(incoming: Incoming, root: bytes) -> Path:
            self.assertGreater(incoming.unsynced, 0)
            with patch.object(Incoming, "sync", side_effect=lambda: syncs.append(1)):
                (fetch,) = job._running
                fetch.tick()
            return finish(incoming, root)

        self.patch(Incoming, "finish", ticking)
        job, running = self.begin("s/large")
        self.alice.pass_time(5)
        self.successResultOf(running)
        self.assertEqual((self.came(), syncs), ({"large": LARGE}, []))

    def other_process(self, name: str = "large", data: bytes = LARGE) -> Incoming:
        """The part of another process that fetches the same file, with its first block."""
        announced = Announced(len(data), MTIME, False, "v1")
        origin = Origin(ALICE.public, ("s", name))
        with IncomingFolder.open(self.inbox) as folder:
            incoming = folder.begin(Place(("s",), name), origin, announced)
        self.addCleanup(incoming.close)
        self.write(incoming, data, 0)
        return incoming

    def write(self, incoming: Incoming, data: bytes, index: int) -> None:
        block = data[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]
        incoming.write_block(index, block, digest_of(block))

    def test_in_use(self) -> None:
        """The job waits for a file that another process fetches while that one makes progress; other files arrive."""
        self.alice.put("s/other", b"x")
        incoming = self.other_process()
        job, running = self.begin("s")
        for index in (1, 2):
            self.alice.pass_time(IN_USE_PATIENCE - 10, 1)
            self.assertEqual(self.came(), {"s/other": b"x"})
            self.assertEqual(job.progress.held_elsewhere, 1)
            self.write(incoming, LARGE, index)
        self.assertEqual(len(self.remarks), 1)
        self.assertRegex(self.remarks[0], "^'s/large' is being fetched by another process: wait")
        self.alice.pass_time(IN_USE_PATIENCE - 10, 1)
        self.assertEqual(self.failed, {})
        self.alice.pass_time(20, 1)
        self.error("s/large", InUse)
        self.successResultOf(running)
        self.assertEqual(incoming.have, ((0, 3),))

    def test_fetched_by_another_process(self) -> None:
        """A file that another process has fetched meanwhile is reported as present, and not fetched again."""
        incoming = self.other_process()
        _, running = self.begin("s")
        self.alice.pass_time(3)
        for index in range(1, 6):
            self.write(incoming, LARGE, index)
        blocks = [LARGE[at : at + BLOCK_SIZE] for at in range(0, len(LARGE), BLOCK_SIZE)]
        incoming.finish(root_of(len(LARGE), map(digest_of, blocks)))
        self.alice.pass_time(3)
        progress = self.successResultOf(running)
        self.assertEqual((progress.files_already_there, progress.bytes_fetched), (1, 0))
        self.assertEqual((self.came(), self.failed), ({"s/large": LARGE}, {}))
        self.assertEqual(self.hidden(), [])

    def test_left_by_another_process(self) -> None:
        """A part that another process has left is resumed with its verified blocks."""
        incoming = self.other_process()
        _, running = self.begin("s")
        self.alice.pass_time(3)
        incoming.suspend()
        self.alice.pass_time(3)
        self.assertEqual(self.successResultOf(running).files_done, 1)
        self.assertEqual(self.alice.heard_of(Get)[-1].want, ((1, 6),))
        self.assertEqual((self.came(), self.failed), ({"s/large": LARGE}, {}))

    def test_waiting_takes_no_slot(self) -> None:
        """Files that wait for another process do not block others, and cancelling ends the wait at once."""
        names = [f"a{number}" for number in range(LARGE_MAX)]
        for name in names:
            self.alice.put(f"s/{name}", LARGE)
            self.other_process(name)
        _, running = self.begin("s")
        self.alice.pass_time(3)
        self.assertEqual(self.came(), {"s/large": LARGE})
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.alice.pass_time(0.1)
        self.nothing_left()

    def test_small_in_use(self) -> None:
        """A small file that another process stores just now is stored once that one has, without being sent again."""
        del self.alice.files[self.path]
        self.alice.put("s/small", b"small")
        for store in (True, False):
            incoming = self.other_process("small", b"small")
            job, running = self.begin("s")
            self.alice.pass_time(3)
            self.assertEqual((job.progress.held_elsewhere, len(self.remarks)), (1, 1))
            if store:
                incoming.finish(root_of(5, [digest_of(b"small")]))
            else:
                incoming.discard()
            self.alice.pass_time(1)
            self.assertEqual(self.successResultOf(running).files_failed, 0)
            self.assertEqual((self.came(), self.hidden()), ({"s/small": b"small"}, []))
            (self.inbox / "s/small").unlink()
            self.remarks.clear()
        self.assertEqual(len(self.alice.heard_of(Get)), 2)

    def test_small_in_use_for_long(self) -> None:
        """The wait has a limit, and ends at once when the job is cancelled."""
        del self.alice.files[self.path]
        self.alice.put("s/small", b"small")
        self.other_process("small", b"small")
        with patch.object(small_files, "IN_USE_PATIENCE", 20.0):
            _, running = self.begin("s")
            self.alice.pass_time(19)
            self.assertNoResult(running)
            self.alice.pass_time(3)
        self.successResultOf(running)
        self.error("s/small", InUse)
        _, running = self.begin("s")
        self.alice.pass_time(3)
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.alice.pass_time(0.1)
        self.nothing_left()

    def test_checkpoints(self) -> None:
        """While blocks arrive, a kill costs those of the last half a second."""
        data = bytes(40 * BLOCK_SIZE)
        digest = digest_of(data[:BLOCK_SIZE])
        self.alice.put("s/large", data)

        def paced(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get))
            for index in range(40):
                at = index * 0.1
                self.alice.reactor.callLater(at, session.say, Digests(get.id, index, (digest,)))
                block = data[:BLOCK_SIZE]
                self.alice.reactor.callLater(at, session.data, get.id, index * BLOCK_SIZE, block)

        self.alice.answers[self.path] = paced
        job, running = self.begin("s/large")
        most = 0
        for _ in range(39):
            self.alice.pass_time(0.1)
            (fetch,) = job._running
            assert fetch._incoming is not None
            most = max(most, fetch._incoming.unsynced)
        assert fetch._incoming is not None
        self.assertGreater(fetch._incoming.have[-1][1], 30)
        self.assertTrue(3 * BLOCK_SIZE <= most <= 5 * BLOCK_SIZE, most)
        self.alice.pass_time(2)
        self.assertEqual(fetch._incoming.unsynced, 0)
        running.cancel()
        self.failureResultOf(running, CancelledError)

    def test_nothing_verified(self) -> None:
        """A file without a verified block leaves nothing, however it ends, and its reserved room is free again."""

        def false(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get), Digests(get.id, 0, (bytes(32),)))
            session.data(get.id, 0, LARGE[:BLOCK_SIZE])

        def withdrawn(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get), Failed(get.id, Fault.NOT_FOUND))

        def changing(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get), Failed(get.id, Fault.CHANGED))

        for answer in (false, withdrawn, changing):
            self.alice.answers[self.path] = answer
            self.fetch("s/large")
            self.assertIn("s/large", self.failed)
            self.assertEqual(self.hidden(), [])
        self.alice.answers[self.path] = lambda session, get: session.say(header_of(session, get))
        _, running = self.begin("s/large")
        self.alice.pass_time(0.5)
        self.assertEqual(len(self.hidden()), 1)
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.assertEqual(self.hidden(), [])

    def test_killed_and_gone(self) -> None:
        """The part that a kill left of a file that is no longer shared is removed, unless it has verified blocks."""
        place, origin = Place((), "large"), Origin(ALICE.public, self.path)
        announced = Announced(len(LARGE), MTIME, False, "v1")
        self.alice.answers[self.path] = lambda session, get: session.say(
            Failed(get.id, Fault.NOT_FOUND)
        )
        for blocks in (0, 1):
            with IncomingFolder.open(self.inbox) as folder:
                incoming = folder.begin(place, origin, announced)
                if blocks:
                    block = LARGE[:BLOCK_SIZE]
                    incoming.write_block(0, block, digest_of(block))
                    incoming.sync()
                incoming.close()
            self.fetch("s/large")
            self.assertEqual(len(self.hidden()), 2 * blocks)

    def test_disk_fills_before_it_goes_on(self) -> None:
        """Threat 10: if the disk has no room for the rest of a suspended file, the job ends; its blocks are kept."""
        self.cancelled_midway()
        free = os.statvfs_result((4096, 4096, 9, 1, 1, 9, 9, 9, 0, 255))
        with patch.object(os, "statvfs", return_value=free):
            _, running = self.begin("s/large")
            self.alice.pass_time(1)
            error = self.failureResultOf(running, DiskFull).value
            self.assertEqual(cast(DiskFull, error).fields["needed"], "2.0 MiB")
        self.fetch("s/large")
        self.assertEqual(self.alice.heard_of(Get)[-1].want, ((3, 6),))

    def test_unknown_size(self) -> None:
        """A file whose size no listing tells is fetched, and not again if it turns out to be there."""
        self.alice.put("s/z", b"")
        answer = self.alice.list_answer

        def secretive(session: MemorySession, question: Any) -> None:
            if question.path == ("s",):
                session.say(Failed(question.id, Fault.UNREADABLE))
            else:
                answer(session, question)

        self.alice.list_answer = secretive
        progress = self.fetch("s/large")
        self.assertEqual(progress.bytes_total, len(LARGE))
        progress = self.fetch("s/large")
        self.assertEqual((progress.files_done, progress.files_already_there), (0, 1))
        self.assertEqual(self.came(), {"large": LARGE})


class ContentTests(JobTestCase):
    """Local files are recognized by content, and only missing content is sent."""

    def contents(self) -> int:
        """How often the content of a file was asked for, since this was asked last."""
        asked = [each for each in self.alice.gets() if each.want != ()]
        self.alice.heard.clear()
        return len(asked)

    def test_changed_behind_its_time(self) -> None:
        """A file whose content changed while its size and time did not is fetched."""
        for content in (b"small", LARGE):
            path = self.alice.put("s", content)
            self.fetch("s")
            self.alice.put("s", content[::-1])
            self.alice.versions[path] = f"v{len(content)}"
            self.fetch("s")
            self.assertIn(content[::-1], self.came().values())

    def test_changed_here(self) -> None:
        """A file that was changed here is fetched again, even if its size and time are the old ones."""
        for content in (b"small", LARGE):
            self.alice.put("s", content)
            self.fetch("s", overwrite=True)
            path = self.inbox / "s"
            before = path.stat()
            with path.open("r+b") as file:
                file.write(content[::-1])
            while path.stat().st_ctime_ns == before.st_ctime_ns:  # a tick of an older kernel
                os.utime(path)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            self.contents()
            progress = self.fetch("s", overwrite=True)
            self.assertEqual((progress.files_done, self.contents()), (1, 1))
            self.assertEqual(self.came(), {"s": content})

    def test_only_roots_cross(self) -> None:
        """Without a record, and after a mere touch, content is compared, not sent."""
        files = {"s/small": b"small", "s/empty": b"", "s/large": LARGE}
        for path, content in files.items():
            self.alice.put(path, content)
        self.fetch("s")
        self.assertEqual(self.contents(), 3)
        for number in range(3):
            if number == 0:
                self.alice.versions = dict.fromkeys(self.alice.files, "touched")
            elif number == 1:
                self.records.close()
            else:
                for path in files:
                    os.utime(self.inbox / path)
            progress = self.fetch("s")
            self.assertEqual((progress.files_already_there, progress.bytes_fetched), (3, 0))
            self.assertEqual(progress.bytes_done, sum(map(len, files.values())))
            asked = self.alice.heard_of(Get)
            self.assertEqual(len(asked), 2)
            done = [number for message in self.alice.heard_of(Done) for number in message.ids]
            self.assertEqual(sorted(done), sorted(each.id for each in asked))
            self.assertEqual(self.contents(), 0)
        self.assertEqual(self.came(), files)
        self.nothing_left()

    def test_other_content_of_the_same_size(self) -> None:
        """A file that the user has by this name stays, and the wanted one comes beside it."""
        for content in (b"mine", LARGE[::-1]):
            (self.inbox / "s").write_bytes(content)
            self.alice.put("s", content[::-1])
            progress = self.fetch("s")
            self.assertEqual((progress.files_done, progress.files_failed), (1, 0))
            self.assertEqual(progress.bytes_done, progress.bytes_total)
            self.assertEqual(self.came(), {"s": content, "s (1)": content[::-1]})
            self.setUp()

    def test_version_just_now(self) -> None:
        """While each look finds another version, as of a file that was just written, the comparison is tried again."""
        for content in (b"small", LARGE):
            path = self.alice.put("s", content)
            self.fetch("s")
            self.records.close()
            count = 0

            def unsettled(session: MemorySession, get: Get, path: RemotePath = path) -> None:
                nonlocal count
                count += 1
                self.alice.versions[path] = f"n{count}" if count < 3 else "settled"
                give(session, get)

            self.alice.answers[path] = unsettled
            progress = self.fetch("s", seconds=10)
            self.assertEqual(progress.files_already_there, 1)
            self.assertEqual(self.came(), {"s": content})
            self.setUp()

    def test_lost_while_comparing(self) -> None:
        """A comparison that is interrupted is done again in the next session."""
        for content in (b"small", LARGE):
            path = self.alice.put("s", content)
            self.fetch("s")
            self.records.close()
            self.alice.answers[path] = lambda session, get: None
            _, running = self.begin("s")
            self.alice.pass_time(0.5)
            self.alice.answers.clear()
            self.alice.lose()
            self.alice.pass_time(3)
            self.assertEqual(self.successResultOf(running).files_already_there, 1)
            self.setUp()

    def test_gone_while_comparing(self) -> None:
        """A root that the sharer cannot send is an error."""
        path = self.alice.put("s", LARGE)
        self.fetch("s")
        self.records.close()
        self.alice.answers[path] = lambda session, get: session.say(
            Failed(get.id, Fault.UNREADABLE)
        )
        self.fetch("s")
        self.error("s", RemoteUnreadable)
        self.nothing_left()

    def test_slow_comparison(self) -> None:
        """A sharer that takes long to read its file is told of once, and the job can be stopped."""
        path = self.alice.put("s", LARGE)
        self.fetch("s")
        self.records.close()
        self.alice.answers[path] = lambda session, get: session.say(header_of(session, get))
        _, running = self.begin("s")
        self.alice.pass_time(20)
        self.assertEqual(len(self.remarks), 1)
        self.assertRegex(self.remarks[0], "^'s' is here by name; alice still reads its file.*\\.$")
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.alice.pass_time(0.1)
        self.nothing_left()

    def test_root_is_told(self) -> None:
        """Each file that is there is told with the root of its content."""
        for content in (b"small", LARGE):
            self.alice.put("s", content)
            blocks = [content[at : at + BLOCK_SIZE] for at in range(0, len(content), BLOCK_SIZE)]
            for _ in range(2):
                self.fetch("s")
                self.assertEqual(self.saved[-1].root, root_of(len(content), map(digest_of, blocks)))
            self.setUp()

    def test_time_that_cannot_be_held(self) -> None:
        """A time that the destination cannot hold is told once."""
        for name in "ab":
            self.alice.put(f"s/{name}", name.encode())
        with patch.object(os, "utime", side_effect=OSError(22, "Invalid argument")):
            self.fetch("s")
        self.assertEqual(len(self.remarks), 1)
        self.assertRegex(self.remarks[0], "'s/a' is dated 2020-09-13 12:26:40 UTC, which")
        self.fetch("s")
        self.assertEqual(len(self.remarks), 1)


class ToldTests(JobTestCase):
    """Messages that tell the sharer how much of the job is still to come."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.alice.put("s/large", LARGE)
        self.alice.put("s/small", b"small")

    def told(self) -> list[tuple[int, int]]:
        """Files and bytes, as they were told since this was asked last."""
        told = [(job.files, job.bytes) for job in self.alice.heard_of(Job)]
        self.alice.heard.clear()
        return told

    def stall(self, blocks: int) -> Deferred[JobProgress]:
        """A job that has the small file, and so many blocks of the large one."""
        self.alice.answers[self.path] = lambda session, get: give(session, get, blocks)
        _, running = self.begin("s")
        self.alice.pass_time(1.5)
        return running

    def test_less_and_less(self) -> None:
        """The amount is what is not here yet; it is told once a second if it has changed, and is zero in the end."""
        offsets = range(0, len(LARGE), BLOCK_SIZE)
        digests = [digest_of(LARGE[at : at + BLOCK_SIZE]) for at in offsets]

        def slow(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get))
            for index, at in enumerate(offsets):
                block = LARGE[at : at + BLOCK_SIZE]
                head = Digests(get.id, index, (digests[index],))
                self.alice.reactor.callLater(2 * index + 0.5, session.after_data, head)
                self.alice.reactor.callLater(2 * index + 0.6, session.data, get.id, at, block)
            end = End(get.id, root_of(len(LARGE), digests), len(LARGE))
            self.alice.reactor.callLater(2 * len(digests), session.after_data, end)

        self.alice.answers[self.path] = slow
        self.fetch("s", seconds=20)
        left = [max(0, len(LARGE) - n * BLOCK_SIZE) for n in range(1, len(digests) + 1)]
        self.assertEqual(self.told(), [(2, len(LARGE) + 5), *[(1, size) for size in left], (0, 0)])

    def test_again_in_a_new_session(self) -> None:
        """A new session hears at once what is still to come, without what has come in the one before."""
        running = self.stall(3)
        self.assertEqual(self.told()[-1], (1, len(LARGE) - 3 * BLOCK_SIZE))
        self.alice.answers.clear()
        self.alice.lose()
        self.alice.pass_time(3)
        self.successResultOf(running)
        first = next(m for m in self.alice.heard if not isinstance(m, Credit))
        self.assertIsInstance(first, Job)
        self.assertEqual(self.told(), [(1, len(LARGE) - 3 * BLOCK_SIZE), (0, 0)])

    def test_resumed(self) -> None:
        """A job that is cancelled is over, and what is here from it is not still to come in the next one."""
        running = self.stall(3)
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.assertEqual(self.told()[-1], (0, 0))
        running = self.stall(4)
        self.assertEqual(self.told()[-1], (1, len(LARGE) - 4 * BLOCK_SIZE))
        running.cancel()
        self.failureResultOf(running, CancelledError)

    def test_there_already(self) -> None:
        """Of a job of which all is here nothing is told, and what fails is not still to come."""
        self.fetch("s")
        self.told()
        self.fetch("s")
        self.assertEqual(self.told(), [])
        self.alice.put("s/gone", b"x")
        self.alice.put("s/large2", LARGE)
        self.alice.answers["s", "gone"] = lambda session, get: session.say(
            Failed(get.id, Fault.UNREADABLE)
        )
        self.alice.answers["s", "large2"] = lambda session, get: session.say(
            header_of(session, get)
        )
        _, running = self.begin("s", "nothing")
        self.alice.pass_time(1.5)
        self.assertEqual(self.told()[-1], (1, len(LARGE)))
        running.cancel()
        self.failureResultOf(running, CancelledError)


class EndTests(JobTestCase):
    """How a job ends."""

    def stalled(self) -> Deferred[JobProgress]:
        """A job that has a part of a large file."""
        path = self.alice.put("s/large", LARGE)
        self.alice.put("s/a", b"x")
        self.alice.answers[path] = lambda session, get: give(session, get, 2)
        _, running = self.begin("s")
        self.alice.pass_time(1.5)
        return running

    def test_destination_removed(self) -> None:
        """A destination that is removed ends the job within two seconds, also while nothing comes."""
        running = self.stalled()
        shutil.rmtree(self.inbox)
        self.alice.pass_time(2)
        error = self.failureResultOf(running, DestinationGone).value
        self.assertEqual(str(error.fields["path"]), str(self.inbox))
        self.assertEqual(self.failed, {})
        self.nothing_left()

    def test_destination_removed_before_small_files(self) -> None:
        """A destination that is removed before small files are stored ends the job, and no file fails by itself."""

        def remove(session: MemorySession, get: Get) -> None:
            shutil.rmtree(self.inbox, ignore_errors=True)
            give(session, get)

        for number in range(40):
            self.alice.answers[self.alice.put(f"s/{number}", b"x")] = remove
        _, running = self.begin("s")
        self.alice.pass_time(1)
        self.failureResultOf(running, DestinationGone)
        self.assertEqual(self.failed, {})

    def test_destination_renamed(self) -> None:
        """A destination that is renamed gets the files all the same, and their real paths are told."""
        self.stalled()
        renamed = self.inbox.with_name(f"{self.inbox.name} new")
        self.inbox.rename(renamed)
        self.alice.put("s/b", b"y")
        self.alice.answers.clear()
        self.alice.lose()
        self.alice.pass_time(3)
        self.assertEqual(self.failed, {})
        self.assertEqual(self.saved[-1].path, renamed / "s" / "large")
        self.assertEqual(self.saved[-1].path.read_bytes(), LARGE)
        self.assertFalse(self.inbox.exists())

    def test_another_folder_in_its_place(self) -> None:
        """A folder that takes the destination's name gets nothing."""
        self.stalled()
        renamed = self.inbox.with_name(f"{self.inbox.name} new")
        self.inbox.rename(renamed)
        (self.inbox / "s").mkdir(parents=True)
        self.alice.answers.clear()
        self.alice.lose()
        self.alice.pass_time(3)
        self.assertEqual(self.saved[-1].path, renamed / "s" / "large")
        self.assertEqual(list((self.inbox / "s").iterdir()), [])

    def test_part_removed(self) -> None:
        """A part that is removed, alone or with its folder, fails within two seconds; the other files come."""
        for remove in (lambda: self.hidden()[0].unlink(), lambda: shutil.rmtree(self.inbox / "s")):
            self.setUp()
            running = self.stalled()
            for each in self.hidden():
                if each.suffix == ".journal":
                    each.unlink()
            remove()
            self.alice.pass_time(2)
            self.assertEqual(self.successResultOf(running).files_failed, 1)
            self.assertIs(type(self.error("s/large", CannotSave)), CannotSave)

    def test_disk_full(self) -> None:
        """Threat 10: a full disk is one error that ends the job; nothing is left open."""
        self.alice.put("s/a", b"x")
        self.alice.put("s/b", LARGE)
        full = DiskFull(path="b", needed="6 MB", free="1 MB")
        with patch.object(IncomingFolder, "begin", side_effect=full):
            _, running = self.begin("s")
            self.alice.pass_time(1)
        self.assertIs(self.failureResultOf(running).value, full)
        self.assertIn(Cancelled.DISK, [each.why for each in self.alice.heard_of(Cancel)])
        self.nothing_left()

    def test_cannot_save(self) -> None:
        """A file that cannot be written is reported, and the others arrive."""
        self.alice.put("s/a", b"x")
        self.alice.put("s/b", LARGE)
        (self.inbox / "s").mkdir()
        (self.inbox / "s/d").write_bytes(b"a file")
        self.alice.put("s/d/x", b"x")
        progress = self.fetch("s")
        self.assertEqual(progress.files_failed, 1)
        self.error("s/d/x", CannotSave)
        self.assertEqual(sorted(self.came()), ["s/a", "s/b", "s/d"])

    def test_one_folder_fails(self) -> None:
        """P3: an error of one folder is reported for its files, and files of another folder are saved and reported."""
        other = Path(tempfile.mkdtemp(dir=os.getcwd()))
        store = IncomingFolder.store_whole
        for name, error in (
            ("a", ZeroDivisionError("oops")),
            ("b", CannotSave(path="b", reason="the disk reports an error")),
        ):

            def failing(folder: IncomingFolder, files: Any, error: Exception = error) -> Any:
                if folder._path == other:
                    raise error
                return store(folder, files)

            here, there = self.alice.put(f"s/{name}", b"x"), self.alice.put(f"s/{name}2", b"x")
            with patch.object(IncomingFolder, "store_whole", failing):
                self.fetch(more=(JobItem(here, self.inbox), JobItem(there, other)))
        self.assertEqual(self.came(), {"a": b"x", "b": b"x"})
        self.assertEqual([each.remote[-1] for each in self.saved], ["a", "b"])
        self.assertEqual(
            self.error("s/a2", LocalProtocolError).fields["reason"], "ZeroDivisionError: oops"
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.error("s/b2", CannotSave)

    def test_nobody_there(self) -> None:
        """If nobody answers at first, that is the error."""
        self.alice.refusals.append(PeerUnreachable(name="alice", address=ADDRESS))
        _, running = self.begin("s")
        self.failureResultOf(running, PeerUnreachable)

    def test_lost_for_good(self) -> None:
        """If no session can be opened again, verified blocks are kept."""
        path = self.alice.put("s", LARGE)
        self.alice.answers[path] = lambda session, get: give(session, get, 2)
        self.remote = self.alice.remote(patience=10.0)
        _, running = self.begin("s")
        self.alice.pass_time(0.5)
        self.alice.refusals += [PeerUnreachable(name="alice", address=ADDRESS)] * 50
        self.alice.lose()
        self.alice.pass_time(12)
        self.failureResultOf(running, LinkGivenUp)
        self.alice.refusals.clear()
        self.alice.answers.clear()
        self.fetch("s")
        self.assertEqual(self.alice.heard_of(Get)[-1].want, ((2, 6),))

    def test_cancelled_anywhere(self) -> None:
        """Whenever a job is cancelled, it ends at once, with nothing left open, and the next one completes it.

        Both share a session, whose credit all comes back.
        """
        for step in range(12):
            self.setUp()
            for number in range(5):
                self.alice.put(f"s/{number}", b"x")
            self.alice.put("s/large", LARGE)
            _, running = self.begin("s")
            self.alice.pass_time(step * 0.01)
            running.cancel()
            ended: list[object] = []
            running.addBoth(ended.append)
            self.alice.pass_time(0.02)
            self.assertEqual(len(ended), 1)
            self.assertEqual(self.remote.in_flight.admit_large(), True)
            self.remote.in_flight.large_left()
            self.fetch("s")
            self.assertEqual(len(self.came()), 6, step)
            self.assertEqual(self.hidden(), [])
            link = self.remote._link
            assert link is not None and len(self.alice.sessions) == 1
            crediting = link.core.crediting
            self.assertEqual(crediting._released, crediting.arrived)

    def test_too_many_open_anywhere(self) -> None:
        """If a file cannot be opened at first because too many are open, all files still arrive, once each."""
        wanted = {"s/large": LARGE, "s/a/b/1": b"1", "s/a/2": b"22", "s/c/3": b""}
        opening, last = os.open, 0
        for nth in itertools.count(1):
            self.setUp()
            for path, data in wanted.items():
                self.alice.put(path, data)
            (self.inbox / "s").mkdir()
            (self.inbox / "s" / "a").mkdir()
            (self.inbox / "s" / "a" / "2").write_bytes(b"22")  # to be compared
            calls = 0

            def fail(name: Any, flags: int, *args: Any, nth: int = nth, **options: Any) -> int:
                nonlocal calls
                calls += options.get("dir_fd") is not None
                if calls == nth and options.get("dir_fd") is not None:
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                return opening(name, flags, *args, **options)

            with patch.object(os, "open", fail):
                self.fetch("s", overwrite=nth % 2 == 0)
            self.assertEqual((self.failed, self.came(), self.hidden()), ({}, wanted, []), nth)
            if calls < nth:
                break
            last = nth
        self.assertGreater(last, 10)

    def test_too_many_open_twice(self) -> None:
        """The bound on the wait counts since the last block that was written, and not since an earlier shortage."""
        path = self.alice.put("s", LARGE)
        blocks = [LARGE[at : at + BLOCK_SIZE] for at in range(0, len(LARGE), BLOCK_SIZE)]

        def answer(session: MemorySession, get: Get) -> None:
            def rest() -> None:
                for index in range(3, len(blocks)):
                    session.after_data(Digests(get.id, index, (digest_of(blocks[index]),)))
                    session.data(get.id, index * BLOCK_SIZE, blocks[index])
                root = root_of(len(LARGE), map(digest_of, blocks))
                session.after_data(End(get.id, root, len(LARGE)))

            give(session, get, 3)
            self.alice.reactor.callLater(SHORT_PATIENCE + 5, rest)

        opening, finishing, shortages = os.open, Incoming.finish, ["begin", "finish"]

        def fail_open(name: Any, *args: Any, **options: Any) -> int:
            if str(name).endswith(PART_SUFFIX) and "begin" in shortages:
                shortages.remove("begin")
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return opening(name, *args, **options)

        def fail_finish(part: Incoming, *args: Any) -> Path:
            if "finish" in shortages:
                shortages.remove("finish")
                self.alice.answers.pop(path)
                raise TooManyOpenFiles(path="s", reason="")
            return finishing(part, *args)

        self.alice.answers[path] = answer
        with patch.object(os, "open", fail_open), patch.object(Incoming, "finish", fail_finish):
            _, running = self.begin("s")
            self.alice.pass_time(SHORT_PATIENCE + 10, 0.1)
        self.successResultOf(running)
        self.assertEqual((self.failed, self.came(), shortages), ({}, {"s": LARGE}, []))

    def test_too_many_open_for_long(self) -> None:
        """The wait for open files has a bound, upon which each file fails with a remedy."""
        self.alice.put("s/large", LARGE)
        self.alice.put("s/small", b"x")
        opening = os.open

        def fail(name: Any, *args: Any, **options: Any) -> int:
            if str(name).endswith(PART_SUFFIX):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return opening(name, *args, **options)

        with patch.object(os, "open", fail):
            _, running = self.begin("s/large", "s/small")
            self.alice.pass_time(SHORT_PATIENCE + 5, 0.2)
        self.assertEqual(self.successResultOf(running).files_failed, 2)
        for path in ("s/large", "s/small"):
            self.error(path, TooManyOpenFiles)
        self.nothing_left()

    def test_nothing_wanted(self) -> None:
        """A job without items is done once there is a session."""
        self.assertEqual(self.fetch().files_total, 0)

    def test_any_header(self) -> None:
        """Threat 6: a header of any size and time is taken or is an error; nothing is left open."""
        self.alice.put("s/a", b"x")

        def lists(session: MemorySession, question: Any) -> None:
            if question.path:
                entry = Entry(("a",), EntryKind.FILE, 2**50, MTIME)
                session.say(Listing(question.id, (entry,), False))
            else:
                give_listing(session, question)

        self.alice.list_answer = lists
        self.alice.answers["s", "a"] = lambda session, get: session.say(
            FileHeader(get.id, 2**50, -(2**52), True, "v" * 64)
        )
        self.alice.folders.add(("s",))
        _, running = self.begin("s")
        self.alice.pass_time(2)
        self.failureResultOf(running, DiskFull)
        self.assertEqual(self.came(), {})
