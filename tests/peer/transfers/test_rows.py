"""Rows of uploads and offers, events of rows, and the traffic: what users see of everything on its way."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import JobNotSo
from p2pshare.peer.transfers import service
from p2pshare.peer.transfers.offer_rows import OfferRows
from p2pshare.peer.transfers.service import RowEvents
from p2pshare.peer.transfers.traffic import QUIET, Traffic
from p2pshare.peer.transfers.uploads import OVER_MAX
from tests.peer.offers.world import KilledError, Person
from tests.peer.transfers.case import MIB, DownloadsTestCase, Job


class UploadTests(DownloadsTestCase):
    """What alice sees of what bob fetches from her."""

    def row(self) -> Job:
        """Return the only row of alice."""
        (row,) = self.jobs(self.alice)
        return row

    def test_upload(self) -> None:
        """A download is a row at the sharer, too: with title, person, path, rate, time left, and an end."""
        self.begin(limit=float(MIB))
        self.alice.write("film", bytes(10 * MIB))
        self.get("files/film")
        self.world.until(lambda: self.jobs(self.alice) and self.row()["rate"], 30, 0.25)
        self.world.wait(4)
        row = self.row()
        self.assertEqual(
            [row[key] for key in ("direction", "kind", "name", "title", "state", "files", "can")],
            ["up", "upload", "bob", "files/film", "running", 1, ["cancel"]],
        )
        self.assertLess(abs(row["rate"] / MIB - 1), 0.4)
        self.assertLess(abs(row["left_s"] - (10 - row["bytes_done"] / MIB)), 2)
        self.assertEqual(row["path"]["kind"], "lan")
        self.world.until(lambda: self.row()["state"] == "done", 30, 0.25)
        row = self.row()
        self.assertEqual((row["files_done"], row["bytes_done"], row["rate"]), (1, 10 * MIB, 0))
        self.alice.ask("job_remove", id=row["id"])
        self.assertEqual(self.jobs(self.alice), [])

    def test_cancelled_by_sharer(self) -> None:
        """The sharer ends an upload: the other end hears that the files were withdrawn, and may ask again."""
        self.begin(limit=float(MIB))
        self.alice.write("film", bytes(10 * MIB))
        job = self.get("files/film")
        self.world.until(lambda: self.job(job)["bytes_done"] > 2 * MIB, 30, 0.25)
        row = self.alice.ask("job_cancel", id=self.row()["id"])
        self.assertEqual(
            (row["state"], row["why"], row["can"]), ("cancelled", "by_you", ["remove"])
        )
        failed = self.until_job(job, state="failed")
        self.assertEqual(failed["why"], "withdrawn")
        with self.assertRaises(JobNotSo):
            self.alice.ask("job_cancel", id=row["id"])
        self.bob.ask("job_retry", id=job["id"])
        self.until_job(job, state="done")
        self.assertEqual({each["state"] for each in self.jobs(self.alice)}, {"cancelled", "done"})

    def test_cancelled_by_opener(self) -> None:
        """A download that its user ends is no completed upload."""
        self.begin(limit=float(MIB))
        self.alice.write("film", bytes(10 * MIB))
        job = self.get("files/film")
        self.world.until(lambda: self.job(job)["bytes_done"] > 2 * MIB, 30, 0.25)
        self.bob.ask("job_cancel", id=job["id"])
        self.world.until(lambda: self.row()["state"] != "running", 30, 0.25)
        self.assertEqual((self.row()["state"], self.row()["why"]), ("cancelled", "by_them"))

    def test_lost(self) -> None:
        """A download whose peer is killed ends as a lost one."""
        self.begin(limit=float(MIB))
        self.alice.write("film", bytes(10 * MIB))
        job = self.get("files/film")
        self.world.until(lambda: self.job(job)["bytes_done"] > 2 * MIB, 30, 0.25)
        self.bob.crash()
        self.world.until(lambda: self.row()["state"] != "running", 60, 0.25)
        self.assertEqual((self.row()["state"], self.row()["why"]), ("cancelled", "lost"))

    def test_bounded(self) -> None:
        """Threat 160: no more than `OVER_MAX` uploads that are over are kept."""
        self.begin()
        self.alice.write("cat.jpg", b"miaow")
        for number in range(OVER_MAX + 10):
            job = self.get("files/cat.jpg", folder=str(self.bob.home / str(number)))
            self.until_job(job, state="done", every=0.02)
        self.world.wait(30)
        self.assertEqual(len(self.jobs(self.alice)), OVER_MAX)
        self.assertEqual(self.alice.ask("jobs_clear")["count"], OVER_MAX)


class OfferTests(DownloadsTestCase):
    """Alice sends bob something."""

    def setUp(self) -> None:
        super().setUp()
        self.begin(limit=float(MIB))
        self.film = self.alice.write("film", bytes(10 * MIB))
        self.sent = self.send(self.alice, self.bob, paths=[str(self.film)])
        self.offered = self.item(self.bob)

    def rows(self, person: Person) -> list[tuple[Any, ...]]:
        """Return what matters of the rows of a person."""
        keys = ("direction", "kind", "name", "title", "state", "offer")
        return [tuple(each[key] for key in keys) for each in self.jobs(person)]

    def accept(self) -> None:
        """Let bob accept the offer, and wait until some of it is there."""
        self.assertEqual((self.jobs(), self.jobs(self.alice)), ([], []))
        self.bob.ask("accept_offer", id=self.offered["id"])
        self.world.until(lambda: self.jobs() and self.jobs()[0]["bytes_done"] > 2 * MIB, 30, 0.25)

    def test_done(self) -> None:
        """An accepted offer is a row at both ends, and no upload besides; both are done in the end."""
        self.accept()
        self.world.wait(1)
        known_by = self.offered["id"]
        down, up = ("down", "offer", "alice", "film"), ("up", "offer", "bob", "film")
        self.assertEqual(self.rows(self.bob), [(*down, "running", known_by)])
        self.assertEqual(self.rows(self.alice), [(*up, "running", known_by)])
        (row,) = self.jobs()
        for each in (row, *self.jobs(self.alice)):
            self.assertEqual(each["path"]["kind"], "lan")
        self.assertLess(abs(row["rate"] / MIB - 1), 0.4)
        self.await_states(self.alice, self.sent, bob="done")
        self.world.wait(1)
        self.assertEqual(self.rows(self.bob), [(*down, "done", known_by)])
        self.assertEqual(self.rows(self.alice), [(*up, "done", known_by)])
        for person in (self.alice, self.bob):
            self.assertEqual(person.ask("jobs_clear")["count"], 1)
            self.assertEqual(self.jobs(person), [])

    def test_declined(self) -> None:
        """To cancel the row of an offer that is being fetched is to decline it."""
        self.accept()
        (row,) = self.jobs()
        self.assertEqual(row["can"], ["pause", "cancel"])
        self.assertEqual(self.bob.ask("job_cancel", id=row["id"])["state"], "cancelled")
        self.await_states(self.alice, self.sent, bob="declined")
        self.assertEqual(self.jobs(self.alice)[0]["why"], "declined")

    def test_paused(self) -> None:
        """An offer is paused and goes on like a download, also over a kill; its sender hears nothing of it."""
        self.accept()
        (row,) = self.jobs()
        self.bob.returns_after = 1.0
        self.bob.crash_after_commits(1)
        with contextlib.suppress(KilledError):
            self.bob.ask("job_pause", id=row["id"])
        self.world.wait(10)
        (paused,) = self.jobs()
        self.assertEqual((paused["state"], paused["can"]), ("paused", ["go_on", "cancel"]))
        self.assertGreaterEqual(paused["bytes_done"], 2 * MIB)
        item = self.item(self.bob)
        self.assertEqual((item["state"], item["paused"], item["rate"]), ("accepted", True, 0))
        self.world.wait(3600)
        self.assertEqual(self.jobs(), [paused | {"updated": self.jobs()[0]["updated"]}])
        self.assertEqual(self.states(self.alice, self.sent), {"bob": "accepted"})
        with self.assertRaises(JobNotSo):
            self.bob.ask("job_pause", id=row["id"])
        self.assertEqual(
            self.bob.ask("pause_offer", id=item["id"])["bytes_done"], paused["bytes_done"]
        )
        self.assertEqual(self.bob.ask("jobs_go_on")["count"], 1)
        before, least = self.world.clock.seconds(), paused["bytes_done"]
        while self.jobs()[0]["state"] != "done":
            self.assertGreaterEqual(self.jobs()[0]["bytes_done"], least)
            self.world.wait(0.5)
        self.assertLess(
            self.world.clock.seconds() - before, 12, "what was here is not fetched again"
        )
        self.assertEqual(self.saved(), {"film": bytes(10 * MIB)})

    def test_ends_while_paused(self) -> None:
        """What is not being fetched cannot be paused; a paused offer can be declined, or expires."""
        with self.assertRaises(JobNotSo):
            self.bob.ask("pause_offer", id=self.offered["id"])
        self.accept()
        ids = ["offer-gone", self.jobs()[0]["id"]]
        with patch.object(OfferRows, "ids", ids):  # one is removed while others are being paused
            self.assertEqual(self.bob.ask("jobs_pause")["count"], 1)
        self.assertEqual(self.jobs()[0]["state"], "paused")
        self.assertEqual(self.bob.ask("job_cancel", id=self.jobs()[0]["id"])["state"], "cancelled")
        self.await_states(self.alice, self.sent, bob="declined")
        self.world.wait(5)
        self.assertEqual(self.saved(), {})
        short = self.send(self.alice, self.bob, paths=[str(self.film)], expires_s=600)
        self.world.until(lambda: len(self.items(self.bob)) == 2, 30, 0.25)
        self.bob.ask("accept_offer", id=short["id"])
        self.bob.ask("pause_offer", id=short["id"])
        self.world.wait(700)
        (item,) = (each for each in self.items(self.bob) if each["id"] == short["id"])
        self.assertEqual(item["why"], "expired")
        self.assertFalse(item["paused"])
        with self.assertRaises(JobNotSo):
            self.bob.ask("go_on_offer", id=short["id"])

    def test_paused_and_accepted(self) -> None:
        """An offer that is paused and goes on at once waits for its try to end; to accept it again is to go on."""
        self.accept()
        (row,) = self.jobs()
        for _ in range(5):
            self.bob.ask("job_pause", id=row["id"])
            self.bob.ask("job_go_on", id=row["id"])
        self.bob.ask("job_pause", id=row["id"])
        self.world.wait(5)
        for folder in (str(Path(self.mktemp()).absolute()), row["folder"]):
            item = self.bob.ask("accept_offer", id=self.offered["id"], folder=folder)
            self.assertEqual((item["paused"], item["bytes_done"]), (False, 0))
            self.bob.ask("job_pause", id=row["id"])
            self.world.wait(5)
        self.bob.ask("accept_offer", id=self.offered["id"])
        self.await_states(self.alice, self.sent, within=60, bob="done")
        self.assertEqual(list(self.saved()), ["film"])

    def test_withdrawn(self) -> None:
        """To cancel the row of an offer that others fetch is to withdraw it."""
        self.accept()
        (row,) = self.jobs(self.alice)
        self.alice.ask("job_cancel", id=row["id"])
        self.world.until(lambda: self.jobs()[0]["state"] == "cancelled", 30, 0.25)
        self.assertEqual(self.jobs()[0]["why"], "withdrawn")

    def test_restart(self) -> None:
        """After a restart, an offer that is being fetched is a row again, and one that is over is none."""
        self.accept()
        self.bob.crash()
        self.bob.start()
        (row,) = self.jobs()
        self.assertIn(row["state"], ("waiting", "running"))
        self.await_states(self.alice, self.sent, within=60, bob="done")
        self.bob.stop()
        self.bob.start()
        self.assertEqual(self.jobs(), [])

    def test_offline(self) -> None:
        """An accepted offer whose sender is away waits, and the row says why."""
        self.accept()
        self.alice.stop()
        self.world.until(lambda: self.jobs()[0]["state"] == "waiting", 120, 0.25)
        self.assertIn(self.jobs()[0]["why"], ("offline", "lost", "unreachable"))
        (row,) = self.jobs()
        self.assertEqual(row["can"], ["pause", "cancel", "retry"])
        self.assertGreaterEqual(row["bytes_done"], 2 * MIB)
        self.assertEqual(self.bob.ask("job_retry", id=row["id"])["id"], row["id"])


class SharedTests(DownloadsTestCase):
    def test_limit(self) -> None:
        """Threat 161: all downloads of a peer share its rate limit equally; it may be changed while they run."""
        self.begin(limit=float(MIB))
        for number in range(2):
            self.alice.write(f"film{number}", bytes([number]) * (20 * MIB))
        jobs = [self.get(f"files/film{number}") for number in range(2)]
        self.world.wait(10)
        traffic = self.bob.ask("traffic")["down"][-5:]
        self.assertLess(abs(sum(traffic) / 5 / MIB - 1), 0.25)
        for each in jobs:
            self.assertLess(abs(self.job(each)["bytes_done"] / MIB - 5), 1)
        self.bob.peer._offers.use(replace(self.bob.peer._settings, limit=8.0 * MIB))  # type: ignore[union-attr]
        for each in jobs:
            self.until_job(each, within=8, state="done")

    def test_events(self) -> None:
        """A running download has at most two events per second; there is traffic in both peers while it runs."""
        self.begin(limit=float(MIB))
        self.alice.write("film", bytes(10 * MIB))
        told: list[tuple[float, str]] = []
        for person in (self.alice, self.bob):
            assert person.peer is not None
            person.peer.events.subscribe(
                lambda kind, fields: told.append((self.world.clock.seconds(), kind))
            )
        self.until_job(self.get("files/film"), state="done")
        self.world.wait(10)
        jobs = [at for at, kind in told if kind == "job"]
        self.assertLess(len(jobs), 2 * 2 * (10 + 3))
        self.assertGreater(len(jobs), 20)
        traffic = [at for at, kind in told if kind == "traffic"]
        self.assertGreaterEqual(len(traffic), 20)
        self.assertLess(max(traffic), max(jobs) + QUIET + 2, "it ends soon after the last byte")


class RowEventsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[float, str]] = []
        self.turns: list[int] = []
        self.events = RowEvents(self.clock, self.tell, every=0.5, at_once=50)

    def tell(self, row_id: str) -> None:
        self.told.append((round(self.clock.seconds(), 2), row_id))

    def pump(self, seconds: float) -> None:
        """Let time pass, and note how many rows each turn tells."""
        for _ in range(round(seconds / 0.005)):
            before = len(self.told)
            self.clock.advance(0.005)
            self.turns.append(len(self.told) - before)

    def test_prompt(self) -> None:
        """The first change after a pause is told at once, the next not before half a second."""
        self.events.soon("a")
        self.pump(0.1)
        self.assertEqual([row for _, row in self.told], ["a"])
        for _ in range(10):
            self.events.soon("a")
            self.pump(0.04)
        self.assertEqual(len(self.told), 1)
        self.pump(1)
        self.assertEqual(len(self.told), 2)

    def test_now(self) -> None:
        """What a user has changed is told at once, and not again for the same change."""
        self.events.soon("a")
        self.events.soon("b")
        self.events.now("a")
        self.assertEqual([row for _, row in self.told], ["a"])
        self.pump(1)
        self.assertEqual([row for _, row in self.told], ["a", "b"])

    def test_many(self) -> None:
        """Threat 160: a thousand rows that keep changing are told 50 at a time, each at most twice per second."""
        for _ in range(100):
            for number in range(1000):
                self.events.soon(str(number))
            self.pump(0.05)
        self.assertLessEqual(max(self.turns), 50)
        of_one = [at for at, row in self.told if row == "7"]
        self.assertGreaterEqual(min(b - a for a, b in pairwise(of_one)), 0.5)
        self.assertGreaterEqual(len(of_one), 5)
        self.assertGreaterEqual(service.EVENT_EVERY, 0.5)

    def test_stopped(self) -> None:
        """Nothing is told after the end."""
        self.events.soon("a")
        self.events.stop()
        self.events.soon("b")
        self.pump(1)
        self.assertEqual((self.told, self.clock.getDelayedCalls()), ([], []))


class TrafficTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.samples: list[tuple[int, int]] = []
        self.traffic = Traffic(
            self.clock, lambda down, up: self.samples.append((down, up)), samples=10
        )

    def asked(self) -> Any:
        """Return the reply of the action."""
        return self.successResultOf(Deferred.fromCoroutine(self.traffic.action({})))

    def pass_by(self, seconds: int) -> None:
        """Let whole seconds pass, in small steps."""
        self.clock.pump([0.25] * (4 * seconds))

    def test_samples(self) -> None:
        """Each second is a sample; the last ones are kept, the oldest first."""
        self.traffic.received(100)
        self.traffic.sent(7)
        self.pass_by(1)
        self.traffic.received(50)
        self.pass_by(1)
        reply = self.asked()
        self.assertEqual(
            (reply["step_s"], reply["down"][-2:], reply["up"][-2:]), (1, [100, 50], [7, 0])
        )
        self.assertEqual(len(reply["down"]), 9)
        self.pass_by(20)
        self.assertEqual(sum(self.asked()["down"]), 0)

    def test_events(self) -> None:
        """Samples are told while something moves, and then there is no timer."""
        self.pass_by(5)
        self.assertEqual(self.samples, [])
        self.traffic.received(100)
        self.pass_by(10)
        self.assertEqual(self.samples, [(100, 0)] + [(0, 0)] * QUIET)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.traffic.sent(9)
        self.traffic.stop()
        self.pass_by(5)
        self.assertEqual(len(self.samples), 1 + QUIET)
