"""Tests of `p2pshare.peer.share.upload_log`: what the log and the status say of those who fetch."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.sharer_transfers import Outcome, Transfer
from p2pshare.errors import SessionLost
from p2pshare.peer.share.upload_log import (
    GUESTS_MAX,
    LINES_MAX,
    RATE_OVER,
    SUMMARY_EVERY,
    VISITS_EVERY,
    VISITS_SHOWN,
    VISITS_TOLD,
    Uploads,
)
from p2pshare.wire.blocks import FILE_SIZE_MAX
from p2pshare.wire.strict_json import INTEGER_MAX
from p2pshare.wire.transfer_messages import Fault, Get, Job, Offer

MIB = 1024 * 1024


def transfer(size: int, *path: str, to_send: int | None = None) -> Transfer:
    """A transfer of a file that was opened."""
    made = Transfer(Get(1, path or ("photos", "cat.jpg")), Offer(1, size, 0, False, "v"))
    made.to_send = size if to_send is None else to_send
    return made


class UploadsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.uploads = Uploads(self.clock)
        logs = capturedLogs()
        self.events: Any = logs.__enter__()
        self.addCleanup(logs.__exit__, None, None, None)
        self.visit = self.uploads.begin("bob")

    def send(self, *sent: Transfer, seconds: float = 0.0, outcome: Outcome | None = None) -> None:
        """Let files go out, one after the other."""
        for each in sent:
            self.visit.started(each)
            self.clock.advance(seconds)
            self.visit.sent(each.to_send)
            each.sent = each.to_send
            self.end(each, outcome or Outcome.CONFIRMED)

    def end(self, ended: Transfer, outcome: Outcome) -> None:
        ended.outcome = outcome
        self.visit.ended(ended)

    def lines(self, *, coming: bool = False) -> list[str]:
        """What the log says since it was asked last, also of who comes if that is wanted."""
        lines = [formatEvent(e) for e in self.events if e["log_level"] >= LogLevel.info]
        self.events.clear()
        return [line for line in lines if coming or not line.endswith(" is here")]


class LogTests(UploadsTestCase):
    def test_from_beginning_to_end(self) -> None:
        """A session has a line when it begins to fetch and one when it ends, which sums it up."""
        self.assertEqual(self.lines(coming=True), [])
        self.send(transfer(2 * MIB), seconds=0.5)
        self.send(transfer(MIB), outcome=Outcome.UNCONFIRMED)
        self.visit.over(SessionLost(name="bob", reason="the connection broke"))
        first, *_, last = self.lines(coming=True)
        self.assertEqual(first, "bob is here")
        self.assertEqual(
            last,
            "bob has left after 0.5 s, with 1 file (3.0 MiB sent), 1 more not confirmed: "
            + str(SessionLost(name="bob", reason="the connection broke")),
        )
        self.assertEqual((self.uploads.status(), self.clock.getDelayedCalls()), ([], []))

    def test_large(self) -> None:
        """A large file has a line of its own, which says what became of it."""
        self.lines()
        self.send(transfer(4 * MIB), seconds=2.0)
        self.send(transfer(4 * MIB, "a", "b", to_send=MIB), seconds=1.0)
        self.send(transfer(4 * MIB, "u"), outcome=Outcome.UNCONFIRMED)
        self.send(transfer(4 * MIB, "c"), outcome=Outcome.CANCELLED)
        self.send(transfer(4 * MIB, "i"), outcome=Outcome.INTERRUPTED)
        changed = transfer(4 * MIB, "f")
        changed.why = Fault.CHANGED
        self.send(changed, outcome=Outcome.FAILED)
        self.assertEqual(
            self.lines(),
            [
                "bob fetched 'photos/cat.jpg', 4.0 MiB at 2.0 MiB/s",
                "bob fetched 'a/b', 4.0 MiB at 1.0 MiB/s, 3.0 MiB of it earlier",
                "bob was sent all of 'u', 4.0 MiB, but never confirmed it",
                "bob was sent 4.0 MiB of 'c', then did not want it",
                "bob was sent 4.0 MiB of 'i', then left",
                "bob did not get all of 'f': it was changed while it was read",
            ],
        )

    def test_small(self) -> None:
        """Small files are summed up every few seconds, with how many came in a second and from where."""
        self.lines()
        self.send(*[transfer(4096, "photos", str(n)) for n in range(812)], seconds=0.001)
        self.send(transfer(4096, "music", "x"))
        self.assertEqual(self.lines(), [])
        self.clock.advance(SUMMARY_EVERY)
        self.assertEqual(
            self.lines(), ["bob fetched 813 files, 3.2 MiB, 1002 files/s, from photos and 1 more"]
        )
        self.clock.advance(60)
        self.assertEqual(self.lines(), [])

    def test_small_at_once(self) -> None:
        """What was confirmed in one go says nothing of how many files come in a second."""
        for seconds in 0.0, 0.0001, RATE_OVER:
            self.lines()
            self.send(*[transfer(4096, str(n)) for n in range(10)], seconds=seconds / 10)
            self.clock.advance(SUMMARY_EVERY)
            (line,) = self.lines()
            self.assertTrue(line.startswith("bob fetched 10 files, 40.0 KiB, from"), line)

    def test_small_failures(self) -> None:
        """So are those that did not come, or that nobody confirmed."""
        self.lines()
        self.send(transfer(1), outcome=Outcome.UNCONFIRMED)
        self.send(transfer(1), transfer(1), outcome=Outcome.INTERRUPTED)
        self.end(Transfer(Get(1, ("none",))), Outcome.FAILED)
        self.visit.over(None)
        self.assertEqual(
            self.lines()[0],
            "bob never confirmed 1 file; left 2 files unfinished; did not get 1 file",
        )

    def test_looks_only(self) -> None:
        """Who fetches nothing, as who completes a word does, comes and goes unsaid."""
        self.visit.job_told(Job("x", 1, 1))
        self.visit.over(None)
        self.uploads.begin("carol").over(None)
        self.assertEqual((self.lines(coming=True), self.clock.getDelayedCalls()), ([], []))

    def test_comes_and_goes(self) -> None:
        """However often somebody comes and fetches, the log gets a few lines in some seconds (threat 7)."""
        self.visit.over(None)
        for _ in range(600):
            self.visit = self.uploads.begin("bob")
            self.send(transfer(2 * MIB), transfer(1), seconds=0.05)
            self.visit.over(None)
        lines = self.lines(coming=True)
        self.assertEqual(lines.count("bob is here"), VISITS_TOLD)
        self.assertEqual(sum("has left" in line for line in lines), VISITS_TOLD)
        rounds = 60 / SUMMARY_EVERY
        self.assertLess(len(lines), rounds * (LINES_MAX + 1) + 4 * VISITS_TOLD)
        self.clock.advance(VISITS_EVERY)
        self.lines()
        self.visit = self.uploads.begin("bob")
        self.send(transfer(1))
        self.assertEqual(self.lines(coming=True), ["bob is here"])
        self.uploads.stop()
        self.assertEqual((len(self.lines()), self.clock.getDelayedCalls()), (1, []))

    def test_many_names(self) -> None:
        """Of names that are here no more it is forgotten what was said, if there are many (threat 7)."""
        for number in range(3 * GUESTS_MAX):
            self.visit = self.uploads.begin(f"n{number}")
            self.send(transfer(1))
            self.visit.over(None)
        self.assertLessEqual(len(self.uploads._guests), GUESTS_MAX)
        self.assertIn("bob", self.uploads._guests)

    def test_over_midway(self) -> None:
        """A visit that is over in the middle of a transfer leaves nothing behind, whatever is told of it later."""
        late = transfer(MIB)
        self.visit.started(late)
        self.visit.over(None)
        self.end(late, Outcome.INTERRUPTED)
        self.visit.started(transfer(1))
        self.visit.over(None)
        self.assertEqual((self.uploads.busy, self.uploads.status()), (0, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """However many large files somebody begins, the log gets a few lines in some seconds (threat 7)."""
        self.lines()
        for _ in range(1000):
            self.send(transfer(2 * MIB), outcome=Outcome.CANCELLED)
        self.clock.advance(SUMMARY_EVERY)
        lines = self.lines()
        self.assertEqual(len(lines), LINES_MAX + 1)
        self.assertEqual(lines[-1], f"bob left {1000 - LINES_MAX} files unfinished")

    @given(st.text(min_size=1).filter(lambda text: "/" not in text))
    def test_hostile_names(self, name: str) -> None:
        """Nothing in a file's name reaches the log raw (threat 4)."""
        self.lines()
        self.send(transfer(MIB, "\x1b[2J", name), transfer(1, name))
        self.clock.advance(SUMMARY_EVERY)
        (status,) = self.uploads.status()
        for line in [*self.lines(), *status["current"]]:
            hidden = [c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
            self.assertEqual(hidden, [])


class StatusTests(UploadsTestCase):
    def test_nothing(self) -> None:
        """Of somebody who is there and fetches nothing there are zeros, and nothing made up."""
        self.assertEqual(
            self.uploads.status(),
            [
                {
                    "name": "bob", "files": 0, "bytes": 0, "rate": 0, "current": [],
                    "files_left": None, "bytes_left": None, "left_s": None,
                }
            ],
        )  # fmt: skip

    def test_going_on(self) -> None:
        """What goes out now, how fast, and how long it takes, by what the other side says of its job."""
        self.visit.job_told(Job("x", 3, 40 * MIB))
        self.send(transfer(10 * MIB), seconds=1.0)
        now = transfer(20 * MIB, "b", "c")
        self.visit.started(now)
        for _ in range(10):
            self.clock.advance(0.1)
            self.visit.sent(MIB)
        (status,) = self.uploads.status()
        self.assertEqual((status["files"], status["bytes"]), (1, 20 * MIB))
        self.assertEqual((status["files_left"], status["bytes_left"]), (2, 20 * MIB))
        self.assertEqual(status["current"], ["b/c"])
        self.assertTrue(8 * MIB < status["rate"] < 12 * MIB, status)
        self.assertTrue(1.6 < status["left_s"] < 2.6, status)
        self.clock.advance(5)
        (status,) = self.uploads.status()
        self.assertEqual((status["rate"], status["left_s"]), (0, None))

    def left(self) -> tuple[int | None, int | None]:
        """Files and MiB that are still to come."""
        (status,) = self.uploads.status()
        size = status["bytes_left"]
        return status["files_left"], None if size is None else size // MIB

    def sent(self) -> tuple[int, int]:
        """Files and MiB that went out in the job."""
        (status,) = self.uploads.status()
        return status["files"], status["bytes"] // MIB

    def test_told_again(self) -> None:
        """What the other side says last counts, from then on: it may have found more, or have it already."""
        self.visit.job_told(Job("x", 100, 1000 * MIB))
        self.send(transfer(10 * MIB))
        self.assertEqual((self.left(), self.sent()), ((99, 990), (1, 10)))
        self.visit.job_told(Job("x", 2, 20 * MIB))
        self.assertEqual((self.left(), self.sent()), ((2, 20), (1, 10)))
        self.send(transfer(10 * MIB))
        self.visit.job_told(Job("x", 5, 50 * MIB))
        self.assertEqual((self.left(), self.sent()), ((5, 50), (2, 20)))

    def test_implausible(self) -> None:
        """What cannot be is not shown, and never less than nothing."""
        self.visit.job_told(Job("x", INTEGER_MAX, INTEGER_MAX))
        self.assertEqual(self.left(), (None, None))
        self.visit.job_told(Job("x", 1000, FILE_SIZE_MAX))
        self.assertEqual(self.left(), (1000, FILE_SIZE_MAX // MIB))
        self.visit.job_told(Job("x", 1, 5 * MIB))
        self.send(transfer(10 * MIB), transfer(10 * MIB))
        self.assertEqual(self.left(), (0, 0))

    def test_several_jobs(self) -> None:
        """A job in a session that had others counts from its own beginning, be it larger or smaller, told of or not."""
        for files in (2, 5, 1):
            self.visit.job_told(Job("x", files, 10 * files * MIB))
            self.assertEqual((self.left(), self.sent()), ((files, 10 * files), (0, 0)))
            self.send(*[transfer(10 * MIB) for _ in range(files)])
            self.visit.job_told(Job("x", 0, 0))
            self.assertEqual((self.left(), self.sent()), ((0, 0), (files, 10 * files)))
        self.visit.started(transfer(10 * MIB))
        self.assertEqual((self.left(), self.sent()), ((None, None), (0, 0)))

    def test_bounded(self) -> None:
        """With many sessions and long names the status stays small; those that fetch come first (threat 7)."""
        for number in range(300):
            visit = self.uploads.begin(f"n{number}")
            for _ in range(20 * (number == 299)):
                visit.started(transfer(5, *["\u202e\U000e0041" * 30] * 60))
        status = self.uploads.status()
        self.assertEqual((len(status), status[0]["name"]), (VISITS_SHOWN, "n299"))
        self.assertLess(len(json.dumps(status[0])), 10_000)
        self.assertEqual(self.uploads.sessions, 301)
