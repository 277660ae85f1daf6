"""Tests of `p2pshare.peer.uploads`: what the log and the status say of those who fetch."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.serving_work import Outcome, Transfer
from p2pshare.errors import SessionLost
from p2pshare.peer.uploads import LINES_MAX, SUMMARY_EVERY, VISITS_SHOWN, Uploads
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

    def lines(self) -> list[str]:
        """What the log says since it was asked last."""
        lines = [formatEvent(each) for each in self.events]
        self.events.clear()
        return lines


class LogTests(UploadsTestCase):
    def test_from_beginning_to_end(self) -> None:
        """A session has a line when it begins and one when it ends, which sums it up."""
        self.send(transfer(2 * MIB), seconds=0.5)
        self.send(transfer(MIB), outcome=Outcome.UNCONFIRMED)
        self.visit.over(SessionLost(name="bob", reason="the connection broke"))
        first, *_, last = self.lines()
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
                    "total_files": None, "total_bytes": None, "left_s": None,
                }
            ],
        )  # fmt: skip

    def test_going_on(self) -> None:
        """What goes out now, how fast, and how long it takes, by what the other side says of its job."""
        self.visit.job_told(Job("x", 3, 30 * MIB))
        self.send(transfer(10 * MIB), seconds=1.0)
        now = transfer(20 * MIB, "b", "c")
        self.visit.started(now)
        for _ in range(10):
            self.clock.advance(0.1)
            self.visit.sent(MIB)
        (status,) = self.uploads.status()
        self.assertEqual((status["files"], status["bytes"]), (1, 20 * MIB))
        self.assertEqual((status["total_files"], status["total_bytes"]), (3, 30 * MIB))
        self.assertEqual(status["current"], ["b/c"])
        self.assertTrue(8 * MIB < status["rate"] < 12 * MIB, status)
        self.assertTrue(0.8 < status["left_s"] < 1.3, status)
        self.clock.advance(5)
        (status,) = self.uploads.status()
        self.assertEqual((status["rate"], status["left_s"]), (0, None))

    def test_implausible(self) -> None:
        """A job that cannot be is not shown: less than came already, or more than there is."""
        self.send(transfer(10 * MIB))
        for job in (Job("x", 0, 0), Job("x", 2**53, 2**62)):
            self.visit.job_told(job)
            self.send(transfer(10 * MIB))
            (status,) = self.uploads.status()
            self.assertEqual((status["total_files"], status["total_bytes"]), (None, None))

    def test_second_job(self) -> None:
        """A job in a session that had one before counts from its own beginning."""
        self.visit.job_told(Job("x", 2, 20 * MIB))
        self.send(transfer(10 * MIB), transfer(10 * MIB))
        self.visit.job_told(Job("y", 1, 5 * MIB))
        (status,) = self.uploads.status()
        self.assertEqual((status["total_files"], status["total_bytes"]), (1, 5 * MIB))

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
