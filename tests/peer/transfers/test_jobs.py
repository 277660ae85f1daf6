"""Downloads of the user: they go on after a kill, wait for who is away, and can be paused, ended and repeated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

from p2pshare.errors import (
    DiskFull,
    JobNotSo,
    KeyChanged,
    NoSuchJob,
    RemoteProtocolError,
    WrongUsage,
)
from p2pshare.peer.fetch.job import FetchJob
from p2pshare.peer.find.lookup import PeerFinder
from p2pshare.storage.offers.downloads import DownloadState, KeptDownload, KeptDownloads
from tests.peer.offers.world import KilledError
from tests.peer.transfers.case import MIB, DownloadsTestCase

HOUR = 3600.0


class GetTests(DownloadsTestCase):
    def test_done(self) -> None:
        """A file and a folder arrive; the row counts them, and the history has a line."""
        self.begin()
        self.alice.write("cat.jpg", b"miaow")
        self.alice.write("trip/one", b"1")
        self.alice.write("trip/two", b"22")
        job = self.get("files/cat.jpg", "files/trip")
        done = self.until_job(job, state="done")
        self.assertEqual(self.saved(), {"cat.jpg": b"miaow", "trip/one": b"1", "trip/two": b"22"})
        counts = {
            key: done[key] for key in ("files", "files_done", "files_failed", "bytes", "bytes_done")
        }
        self.assertEqual(
            counts, {"files": 3, "files_done": 3, "files_failed": 0, "bytes": 8, "bytes_done": 8}
        )
        self.assertEqual((done["title"], done["can"]), ("files/cat.jpg and 1 more", ["remove"]))
        (entry,) = self.bob.ask("history")["entries"]
        self.assertEqual(
            (entry["title"], entry["files"], entry["bytes"], entry["outcome"]),
            ("files/cat.jpg and 1 more", 3, 8, "done"),
        )

    def test_folder(self) -> None:
        """The files go to the folder that was named, which is made."""
        self.begin()
        self.alice.write("cat.jpg", b"miaow")
        folder = self.bob.home / "new" / "one"
        self.until_job(self.get("files/cat.jpg", folder=str(folder)), state="done")
        self.assertEqual((folder / "cat.jpg").read_bytes(), b"miaow")

    def test_twice(self) -> None:
        """The same request again, while the first is not over, makes no second download."""
        self.begin()
        self.alice.stop()
        one, other = self.get("files/a", "files/b"), self.get("files/b", "files/a")
        self.assertEqual(one["id"], other["id"])
        for fields in ({"folder": str(self.bob.home)}, {"paths": ["files/a"]}):
            again = self.get(**{"paths": ["files/a", "files/b"], **fields})
            self.assertNotEqual(again["id"], one["id"])

    def test_wrong(self) -> None:
        """A request that makes no sense, or leads into the data folder (threat 143), is refused at once."""
        self.begin()
        file = self.bob.write("file")
        link = self.bob.home / "link"
        link.symlink_to(self.bob.data)
        wrong: tuple[dict[str, Any], ...] = (
            {"name": "bob"},
            {"paths": []},
            {"paths": [""]},
            {"folder": "relative"},
            {"folder": str(file)},
            {"folder": str(self.bob.data)},
            {"folder": str(self.bob.home / "x" / ".." / "link" / "new")},
        )
        for fields in wrong:
            with self.assertRaises(WrongUsage, msg=fields):
                self.get(**{"paths": ["files"], **fields})
        for fields in ({"paths": ["../x"]}, {"paths": ["x"] * 1001}, {"update": 1}):
            with self.assertRaises(RemoteProtocolError, msg=fields):
                self.get(**{"paths": ["files"], **fields})
        self.assertEqual(self.jobs(), [])

    def test_some_fail(self) -> None:
        """What does not exist is listed with the reason; the rest arrives, and a retry fetches what is there then."""
        self.begin()
        self.alice.write("cat.jpg", b"miaow")
        job = self.get("files/cat.jpg", "files/dog.jpg")
        failed = self.until_job(job, state="failed")
        self.assertEqual((failed["why"], failed["files_failed"]), ("some_failed", 1))
        ((path, why),) = ((each["path"], each["why"]) for each in failed["failures"])
        self.assertEqual((path, why), ("files/dog.jpg", "not_found"))
        self.alice.write("dog.jpg", b"woof")
        self.bob.ask("job_retry", id=job["id"])
        done = self.until_job(job, state="done")
        self.assertEqual((done["files_failed"], done["failures"]), (0, []))
        self.assertEqual(self.saved(), {"cat.jpg": b"miaow", "dog.jpg": b"woof"})

    def test_many_fail(self) -> None:
        """Threat 160: of many files that fail, with long names, some are kept, and all are counted."""
        self.begin()
        names = [f"files/{'x' * 240}/{'y' * 240}/{'z' * 200}{number}" for number in range(200)]
        job = self.get(*names)
        self.assertEqual((len(job["paths"]), job["more_paths"]), (4, 196))
        failed = self.until_job(job, state="failed")
        self.assertEqual((failed["why"], failed["files_failed"]), ("not_found", 200))
        self.assertEqual(len(failed["failures"]), 50)
        self.assertEqual(failed["more_failures"], 150)
        for each in failed["failures"]:
            self.assertLessEqual(max(len(each["path"]), len(each["why_text"])), 512)
            self.assertIn(each["path"][-9:], {name[-9:] for name in names})

    def test_update_and_force(self) -> None:
        """A repeated download keeps both versions, `update` replaces what was fetched, `force` anything."""
        self.begin()
        self.alice.write("a", b"1")
        self.until_job(self.get("files/a"), state="done")
        self.alice.write("a", b"22")
        self.until_job(self.get("files/a", update=True), state="done")
        self.assertEqual(self.saved(), {"a": b"22"})
        (self.bob.inbox / "alice" / "a").write_bytes(b"mine")
        failed = self.until_job(self.get("files/a", update=True), state="failed")
        self.assertEqual(failed["why"], "folder")
        self.until_job(self.get("files/a", force=True), state="done")
        self.assertEqual(self.saved(), {"a": b"22"})

    def test_nobody(self) -> None:
        """A name that nobody has ends the download."""
        self.begin()
        failed = self.until_job(self.get("files", name="zoe"), state="failed")
        self.assertEqual((failed["why"], failed["can"]), ("unknown_name", ["retry", "remove"]))


class WaitingTests(DownloadsTestCase):
    def test_offline(self) -> None:
        """A sharer that is away is waited for; the row says so, and the download goes on when it is back."""
        self.begin()
        self.alice.write("cat.jpg", b"miaow")
        self.alice.stop()
        job = self.get("files/cat.jpg")
        waits = self.until_job(job, why="offline", within=120)
        self.assertEqual((waits["state"], waits["can"]), ("waiting", ["pause", "cancel", "retry"]))
        self.assertIn("alice", waits["why_text"])
        self.assertGreater(waits["retry_at"], self.world.wall())
        self.world.wait(HOUR)
        self.alice.start()
        self.until_job(job, state="done")

    def test_many_offline(self) -> None:
        """Threat 161: a hundred downloads from somebody who is away cost a try now and then, not one for each."""
        self.begin()
        self.alice.write("cat.jpg", b"miaow")
        self.alice.stop()
        jobs = [self.get("files/cat.jpg", folder=str(self.bob.home / str(n))) for n in range(100)]
        self.until_job(jobs[0], why="offline", within=120)
        self.world.wait(3600)
        before = self.bob.steps
        self.world.wait(3600)
        self.assertLess(self.bob.steps - before, 5000)
        self.assertEqual({each["why"] for each in self.jobs()}, {"offline"})
        self.alice.start()
        self.until_job(jobs[-1], state="done", within=120)

    def test_killed(self) -> None:
        """A peer that is killed in the middle goes on after its restart, without fetching verified data again."""
        self.begin(limit=float(MIB))
        self.alice.write("film", bytes(range(256)) * 4096 * 20)
        job = self.get("files/film")
        self.world.until(lambda: self.job(job)["bytes_done"] > 12 * MIB, 60, 0.25)
        self.assertEqual(self.job(job)["state"], "running")
        self.bob.crash()
        self.bob.start()
        before = self.world.clock.seconds()
        self.assertIn(self.job(job)["state"], ("waiting", "running"))
        self.assertGreater(self.job(job)["bytes_done"], 5 * MIB, "as it was written last")
        done = self.until_job(job, state="done", within=60)
        self.assertLess(self.world.clock.seconds() - before, 12)
        self.assertEqual(done["bytes_done"], 20 * MIB)
        self.assertEqual(self.saved()["film"], bytes(range(256)) * 4096 * 20)
        (entry,) = self.bob.ask("history")["entries"]
        self.assertEqual(entry["outcome"], "done")

    def test_killed_after_each_commit(self) -> None:
        """Whenever a peer is killed between two commits, the download is done in the end, with one line of history."""
        self.begin()
        self.alice.write("cat.jpg", b"miaow")
        self.bob.returns_after = 1.0
        for commits in range(1, 9):
            deaths = self.bob.deaths
            self.bob.crash_after_commits(commits)
            folder = self.bob.home / str(commits)
            with contextlib.suppress(KilledError):
                self.get("files/cat.jpg", folder=str(folder))
            self.world.wait(20)
            if not self.jobs():  # it was killed before the request was kept
                self.get("files/cat.jpg", folder=str(folder))
            self.world.until(lambda: {each["state"] for each in self.jobs()} == {"done"}, 60, 0.25)
            self.assertEqual((folder / "cat.jpg").read_bytes(), b"miaow")
            if self.bob.deaths == deaths:
                break
            self.bob.ask("jobs_clear")
        self.assertGreater(commits, 2, "it was killed at least twice")
        entries = [each for each in self.bob.ask("history")["entries"] if each["peer"] == "alice"]
        self.assertEqual(len(entries), commits)

    def test_sharer_killed(self) -> None:
        """A sharer that is killed in the middle is waited for."""
        self.begin(limit=float(MIB))
        self.alice.write("film", bytes(20 * MIB))
        job = self.get("files/film")
        self.world.until(lambda: self.job(job)["bytes_done"] > 5 * MIB, 60, 0.25)
        self.alice.crash()
        self.until_job(job, why="reconnecting")
        self.until_job(job, state="waiting", within=120)
        self.assertGreater(self.job(job)["bytes_done"], 4 * MIB)
        self.alice.start()
        self.until_job(job, state="done", within=60)

    def test_key_changed(self) -> None:
        """A key that has changed keeps a download waiting; when the user has settled that, it goes on."""
        self.begin()
        self.alice.write("cat.jpg", b"miaow")
        changed = KeyChanged(name="alice", known="one", now="other")
        with patch.object(PeerFinder, "find", side_effect=changed):
            job = self.get("files/cat.jpg")
            waits = self.until_job(job, why="key_changed")
            self.assertEqual((waits["state"], waits["why_text"]), ("waiting", str(changed)))
        self.assertEqual(self.saved(), {})
        self.bob.ask("job_retry", id=job["id"])
        self.until_job(job, state="done")

    def test_disk_full(self) -> None:
        """A full disk does not end a download; the peer tries again by itself."""
        self.begin()
        self.alice.write("cat.jpg", b"miaow")
        full = DiskFull(path="x", needed="2 B", free="1 B")
        with patch.object(FetchJob, "run", side_effect=full):
            job = self.get("files/cat.jpg")
            waits = self.until_job(job, why="disk_full")
            self.assertEqual(waits["can"], ["pause", "cancel", "retry"])
        self.until_job(job, state="done", within=60)

    def test_slots(self) -> None:
        """Only two downloads from one person run at once; the others wait for their turn, in order."""
        self.begin(limit=float(MIB))
        jobs = []
        for number in range(4):
            self.alice.write(f"film{number}", bytes([number]) * (3 * MIB))
            jobs.append(self.get(f"files/film{number}"))
        self.until_job(jobs[1], state="running")
        states = [(each["state"], each["why"]) for each in map(self.job, jobs)]
        self.assertEqual(states, [("running", None)] * 2 + [("waiting", "queue")] * 2)
        self.assertLess(self.job(jobs[2])["turn"], self.job(jobs[3])["turn"])
        for job in jobs:
            self.until_job(job, state="done", within=60)


class LanTests(DownloadsTestCase):
    """Without a registry."""

    is_lan = True

    def test_acceptance(self) -> None:
        """A download waits until the sharer has accepted the key of the user, and says so."""
        self.begin()
        self.alice.write("cat.jpg", b"miaow")
        job = self.get("files/cat.jpg")
        waits = self.until_job(job, why="acceptance")
        self.assertEqual(waits["state"], "waiting")
        self.alice.ask("accept", name="bob")
        self.until_job(job, state="done", within=60)
        self.assertEqual(self.saved(), {"cat.jpg": b"miaow"})


class DecisionTests(DownloadsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.begin(limit=float(MIB))
        self.alice.write("film", bytes(20 * MIB))
        self.film = self.get("files/film")
        self.world.until(lambda: self.job(self.film)["bytes_done"] > 5 * MIB, 60, 0.25)

    def do(self, action: str) -> str:
        """Perform an action on the download, and return its state in the reply."""
        return str(self.bob.ask(f"job_{action}", id=self.film["id"])["state"])

    def test_pause(self) -> None:
        """A paused download keeps what it has, also over a restart, and frees its slot."""
        self.assertEqual(self.do("pause"), "paused")
        self.world.wait(5)
        self.assertFalse(self.bob.peer._offers.parts.queue.is_running(self.film["id"]))  # type: ignore[union-attr]
        (part,) = (name for name in self.saved() if name.endswith(".part"))
        done = self.job(self.film)["bytes_done"]
        self.assertEqual(self.job(self.film)["can"], ["go_on", "cancel"])
        self.bob.stop()
        self.bob.start()
        self.world.wait(HOUR)
        self.assertIn(part, self.saved())
        self.assertEqual(self.job(self.film)["state"], "paused")
        self.assertEqual(self.job(self.film)["bytes_done"], done)
        self.do("go_on")
        before = self.world.clock.seconds()
        self.until_job(self.film, state="done", within=60)
        self.assertLess(self.world.clock.seconds() - before, 17)

    def test_pause_and_go_on_at_once(self) -> None:
        """A download that goes on before its try has wound up waits for that."""
        for _ in range(5):
            self.do("pause")
            self.do("go_on")
        self.until_job(self.film, state="done", within=60)
        self.assertEqual(list(self.saved()), ["film"])

    def test_cancel(self) -> None:
        """A cancelled download leaves no incomplete file; it can be repeated or removed."""
        self.assertEqual(self.do("cancel"), "cancelled")
        self.world.wait(5)
        self.assertEqual(self.saved(), {})
        (entry,) = self.bob.ask("history")["entries"]
        self.assertEqual(entry["outcome"], "failed")
        self.do("retry")
        self.until_job(self.film, state="done", within=60)
        self.do("remove")
        self.assertEqual(self.jobs(), [])
        with self.assertRaises(NoSuchJob):
            self.do("retry")

    def test_killed_after_cancel(self) -> None:
        """A peer that is killed before it has removed the incomplete files of a cancelled download does so later."""
        other = self.get("files/film", folder=str(self.bob.home / "other"))
        self.bob.returns_after = 1.0
        self.bob.crash_after_commits(1)
        with contextlib.suppress(KilledError):
            self.do("cancel")
        self.world.wait(20)
        self.assertEqual(self.bob.deaths, 1)
        cancelled = self.job(self.film)
        self.assertEqual((cancelled["state"], cancelled["why"]), ("cancelled", None))
        self.assertEqual([*self.saved()], [])
        self.until_job(other, state="done", within=60)
        paused = self.get("files/film")
        self.until_job(paused, state="running", within=60)
        self.world.until(lambda: self.job(paused)["bytes_done"] > 5 * MIB, 60, 0.25)
        self.bob.ask("job_pause", id=paused["id"])
        self.bob.stop()
        self.bob.start()
        self.world.wait(20)
        self.assertEqual(len(self.saved()), 2, "the incomplete file of another download stays")

    def test_not_so(self) -> None:
        """An action that does not fit the state is refused, and changes nothing."""
        for action in ("go_on", "remove"):
            with self.assertRaises(JobNotSo):
                self.do(action)
        self.do("pause")
        with self.assertRaises(JobNotSo):
            self.do("pause")
        self.assertEqual(self.job(self.film)["state"], "paused")

    def test_all(self) -> None:
        """All are paused and go on together; all that are over are cleared."""
        other = self.get("files/film", folder=str(self.bob.home / "other"))
        self.assertEqual(self.bob.ask("jobs_pause")["count"], 2)
        self.assertEqual({each["state"] for each in self.jobs()}, {"paused"})
        self.assertEqual(self.bob.ask("jobs_go_on")["count"], 2)
        for each in (self.film, other):
            self.until_job(each, state="done", within=120)
        self.assertEqual(self.bob.ask("jobs_clear")["count"], 2)
        self.assertEqual(self.jobs(), [])
        self.bob.stop()
        self.bob.start()
        self.assertEqual(self.jobs(), [])

    def test_cancel_and_retry_at_once(self) -> None:
        """A download that is wanted again before its try has wound up keeps what it has."""
        self.do("cancel")
        self.do("retry")
        before = self.world.clock.seconds()
        self.until_job(self.film, state="done", within=60)
        self.assertLess(self.world.clock.seconds() - before, 17)


class SideBySideTests(DownloadsTestCase):
    """What happens while a change is being written."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()
        self.alice.write("cat.jpg", b"miaow")

    @contextlib.contextmanager
    def during(self, state: DownloadState, act: Callable[[], object]) -> Iterator[None]:
        """Do something once, while a download is being written with this state."""
        put, acts = KeptDownloads.put, [act]

        def slow(store: KeptDownloads, downloads: Sequence[KeptDownload]) -> tuple[str, ...]:
            if acts and any(each.state is state for each in downloads):
                acts.pop()()
            return put(store, downloads)

        with patch.object(KeptDownloads, "put", slow):
            yield
            self.world.wait(0.1)  # what waits for the write goes on in a later turn
        self.assertEqual(acts, [])

    def ask_later(self, do: str, **fields: Any) -> Callable[[], object]:
        """Return how to ask bob's peer for something; the replies are in `replies`."""
        self.replies: list[Any] = []
        return lambda: self.bob.asked(do, **fields).addBoth(self.replies.append)

    def state(self, job: dict[str, Any]) -> str:
        """Return the state of a download after a restart."""
        self.bob.stop()
        self.bob.start()
        return str(self.job(job)["state"])

    def test_get_twice(self) -> None:
        """A second click, while the first is being written, makes no second download."""
        self.alice.stop()
        again = self.ask_later("get", name="alice", paths=["files/cat.jpg"])
        with self.during(DownloadState.WAITING, again):
            job = self.get("files/cat.jpg")
        self.assertEqual([each["id"] for each in self.replies], [job["id"]])
        self.assertEqual([each["id"] for each in self.jobs()], [job["id"]])

    def test_pause_at_the_end(self) -> None:
        """A download that ends while the user pauses it is one or the other, also after a restart."""
        job = self.get("files/cat.jpg")
        with self.during(DownloadState.DONE, self.ask_later("job_pause", id=job["id"])):
            self.until_job(job, state="done")
        self.assertIsInstance(self.replies[0].value, JobNotSo)
        self.assertEqual(self.state(job), "done")

    def test_end_during_pause(self) -> None:
        """A download that ends while it is being paused is paused, and has one line of history in the end."""
        job = self.get("files/cat.jpg")
        with self.during(DownloadState.PAUSED, lambda: self.world.wait(20)):
            self.assertEqual(self.bob.ask("job_pause", id=job["id"])["state"], "paused")
        self.assertEqual(self.saved(), {"cat.jpg": b"miaow"})
        self.assertEqual(self.state(job), "paused")
        self.bob.ask("job_go_on", id=job["id"])
        self.until_job(job, state="done")
        self.assertLessEqual(len(self.bob.ask("history")["entries"]), 1)

    def test_remove_during_retry(self) -> None:
        """A download that is wanted again is not removed by a click that came too late."""
        self.alice.stop()
        job = self.get("files/cat.jpg")
        self.bob.ask("job_cancel", id=job["id"])
        with self.during(DownloadState.WAITING, self.ask_later("job_remove", id=job["id"])):
            self.bob.ask("job_retry", id=job["id"])
        self.alice.start()
        self.until_job(job, state="done", within=60)
        self.assertEqual(self.saved(), {"cat.jpg": b"miaow"})
