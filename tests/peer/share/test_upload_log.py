"""Tests of `p2pshare.peer.share.upload_log`."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.session_interface import SessionPath
from p2pshare.core.sharer_transfers import Outcome, Transfer
from p2pshare.errors import SessionLost
from p2pshare.peer.share.upload_log import (
    LINES_MAX,
    NAMES_MAX,
    SESSIONS_EVERY,
    SESSIONS_LOGGED,
    SESSIONS_SHOWN,
    SUMMARY_EVERY,
    Uploads,
)
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.blocks import FILE_SIZE_MAX
from p2pshare.wire.strict_json import INTEGER_MAX
from p2pshare.wire.transfer_messages import Fault, FileHeader, Get, Job

MIB = 1024 * 1024
PATH = SessionPath("udp", PeerAddress("192.0.2.7", 50000))


def transfer(size: int, *path: str, to_send: int | None = None) -> Transfer:
    """A transfer of a file that was opened."""
    made = Transfer(Get(1, path or ("photos", "cat.jpg")), FileHeader(1, size, 0, False, "v"))
    made.to_send = size if to_send is None else to_send
    return made


def summed_up(size: int = 0, **counts: int) -> str:
    """The line about counted files."""
    shown = " ".join(f"{outcome}={count}" for outcome, count in counts.items())
    return f"files uploaded: peer=bob {shown} bytes={size}"


class UploadsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.uploads = Uploads(self.clock)
        logs = capturedLogs()
        self.events: Any = logs.__enter__()
        self.addCleanup(logs.__exit__, None, None, None)
        self.session = self.uploads.begin("bob", PATH)

    def send(self, *sent: Transfer, seconds: float = 0.0, outcome: Outcome | None = None) -> None:
        """Send files one after the other."""
        for each in sent:
            self.session.started(each)
            self.clock.advance(seconds)
            self.session.sent(each.to_send)
            each.sent = each.to_send
            self.end(each, outcome or Outcome.CONFIRMED)

    def end(self, ended: Transfer, outcome: Outcome) -> None:
        ended.outcome = outcome
        self.session.ended(ended)

    def lines(self, *, coming: bool = False) -> list[str]:
        """Return the lines since the last call, with the beginnings of sessions if `coming`."""
        lines = [formatEvent(e) for e in self.events if e["log_level"] >= LogLevel.info]
        self.events.clear()
        return [line for line in lines if coming or not line.startswith("uploads began:")]


class LogTests(UploadsTestCase):
    def test_from_beginning_to_end(self) -> None:
        """A session has a line at its first upload, and one with sums at its end."""
        self.assertEqual(self.lines(coming=True), [])
        self.send(transfer(2 * MIB), seconds=0.5)
        self.send(transfer(MIB), outcome=Outcome.UNCONFIRMED)
        self.session.over(SessionLost(name="bob", reason="the connection broke"))
        first, *_, last = self.lines(coming=True)
        self.assertEqual(first, "uploads began: peer=bob via=udp")
        why = str(SessionLost(name="bob", reason="the connection broke"))
        self.assertEqual(
            last,
            f"uploads ended: peer=bob files=1 unconfirmed=1 bytes={3 * MIB} s=0.5 why={why!r}",
        )
        self.assertEqual((self.uploads.status(), self.clock.getDelayedCalls()), ([], []))

    def test_large(self) -> None:
        """A large file has its own line with its outcome."""
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
                "upload confirmed: peer=bob path=photos/cat.jpg bytes=4194304 sent=4194304 s=2.0",
                "upload confirmed: peer=bob path=a/b bytes=4194304 sent=1048576 s=1.0",
                "upload unconfirmed: peer=bob path=u bytes=4194304 sent=4194304 s=0.0",
                "upload cancelled: peer=bob path=c bytes=4194304 sent=4194304 s=0.0",
                "upload interrupted: peer=bob path=i bytes=4194304 sent=4194304 s=0.0",
                "upload failed: peer=bob path=f bytes=4194304 sent=4194304 s=0.0 why=changed",
            ],
        )

    def test_parts(self) -> None:
        """A part of a file that was looked at is no upload, but its bytes count; one that fails is logged."""
        part = transfer(4 * MIB, to_send=MIB)
        part.request = replace(part.request, root=False)
        self.lines()
        self.send(part, part, outcome=Outcome.UNCONFIRMED)
        self.assertEqual(self.lines(), [])
        self.assertEqual(self.uploads.status()[0]["bytes"], 2 * MIB)
        self.send(part, outcome=Outcome.FAILED)
        self.assertEqual(len(self.lines()), 1)

    def test_previews(self) -> None:
        """A preview is no upload, and begins no row, but its bytes count."""
        told: list[object] = []
        self.uploads.on_activity = told.append
        preview = transfer(MIB)
        preview.request = replace(preview.request, preview=256)
        self.lines()
        self.send(preview, preview)
        self.send(preview, outcome=Outcome.FAILED)
        self.clock.advance(SUMMARY_EVERY)
        self.assertEqual((self.lines(), told), ([], []))
        (status,) = self.uploads.status()
        self.assertEqual((status["files"], status["bytes"]), (0, 3 * MIB))

    def test_small(self) -> None:
        """Small files are counted, and logged every few seconds."""
        self.lines()
        self.send(*[transfer(4096, "photos", str(n)) for n in range(812)], seconds=0.001)
        self.send(transfer(4096, "music", "x"))
        self.assertEqual(self.lines(), [])
        self.clock.advance(SUMMARY_EVERY)
        self.assertEqual(self.lines(), [summed_up(813 * 4096, confirmed=813)])
        self.clock.advance(60)
        self.assertEqual(self.lines(), [])

    def test_small_failures(self) -> None:
        """So are files that failed or were not confirmed."""
        self.lines()
        self.send(transfer(1), outcome=Outcome.UNCONFIRMED)
        self.send(transfer(1), transfer(1), outcome=Outcome.INTERRUPTED)
        self.end(Transfer(Get(1, ("none",))), Outcome.FAILED)
        self.session.over(None)
        self.assertEqual(self.lines()[0], summed_up(unconfirmed=1, interrupted=2, failed=1))

    def test_folder(self) -> None:
        """A `get` of a folder, with which an opener finds out what a path is, is not counted."""
        self.end(Transfer(Get(1, ("photos",)), why=Fault.IS_FOLDER), Outcome.FAILED)
        self.session.over(None)
        self.assertEqual(self.lines(coming=True), [])

    def test_looks_only(self) -> None:
        """A session in which nothing is fetched is not logged."""
        self.session.job_told(Job("x", 1, 1))
        self.session.over(None)
        self.uploads.begin("carol", PATH).over(None)
        self.assertEqual((self.lines(coming=True), self.clock.getDelayedCalls()), ([], []))

    def test_comes_and_goes(self) -> None:
        """However often a peer connects and fetches, its log lines are bounded (threat 7)."""
        self.session.over(None)
        for _ in range(600):
            self.session = self.uploads.begin("bob", PATH)
            self.send(transfer(2 * MIB), transfer(1), seconds=0.05)
            self.session.over(None)
        lines = self.lines(coming=True)
        self.assertEqual(lines.count("uploads began: peer=bob via=udp"), SESSIONS_LOGGED)
        self.assertEqual(sum(line.startswith("uploads ended") for line in lines), SESSIONS_LOGGED)
        rounds = 60 / SUMMARY_EVERY
        self.assertLess(len(lines), rounds * (LINES_MAX + 1) + 4 * SESSIONS_LOGGED)
        self.clock.advance(SESSIONS_EVERY)
        self.lines()
        self.session = self.uploads.begin("bob", PATH)
        self.send(transfer(1))
        self.assertEqual(self.lines(coming=True), ["uploads began: peer=bob via=udp"])
        self.uploads.stop()
        self.assertEqual((len(self.lines()), self.clock.getDelayedCalls()), (1, []))

    def test_many_names(self) -> None:
        """The number of names whose counts are kept is bounded (threat 7)."""
        for number in range(NAMES_MAX + 300):
            self.session = self.uploads.begin(f"n{number}", PATH)
            self.send(transfer(1))
            self.session.over(None)
        self.assertLessEqual(len(self.uploads._names), NAMES_MAX)
        self.assertIn("bob", self.uploads._names)

    def test_over_midway(self) -> None:
        """A session that ends during a transfer leaves nothing behind, whatever is reported later."""
        late = transfer(MIB)
        self.session.started(late)
        self.session.over(None)
        self.end(late, Outcome.INTERRUPTED)
        self.session.started(transfer(1))
        self.session.over(None)
        self.assertEqual((self.uploads.busy, self.uploads.status()), (0, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """However many large files a peer begins to fetch, its log lines are bounded (threat 7)."""
        self.lines()
        for _ in range(1000):
            self.send(transfer(2 * MIB), outcome=Outcome.CANCELLED)
        self.clock.advance(SUMMARY_EVERY)
        lines = self.lines()
        self.assertEqual(len(lines), LINES_MAX + 1)
        self.assertEqual(lines[-1], summed_up(cancelled=1000 - LINES_MAX))

    @given(st.text(min_size=1).filter(lambda text: "/" not in text))
    def test_hostile_names(self, name: str) -> None:
        """The log shows names of files escaped (threat 4)."""
        self.lines()
        self.send(transfer(MIB, "\x1b[2J", name), transfer(1, name))
        self.clock.advance(SUMMARY_EVERY)
        (status,) = self.uploads.status()
        for line in [*self.lines(), *status["current"]]:
            hidden = [c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
            self.assertEqual(hidden, [])


class StatusTests(UploadsTestCase):
    def test_nothing(self) -> None:
        """A session in which nothing is fetched has zeros, and null where nothing is known."""
        self.assertEqual(
            self.uploads.status(),
            [
                {
                    "name": "bob", "via": "udp", "address": "192.0.2.7:50000", "files": 0, "bytes": 0,
                    "rate": 0, "current": [],
                    "files_left": None, "bytes_left": None, "left_s": None,
                }
            ],
        )  # fmt: skip

    def test_going_on(self) -> None:
        """The status shows current files, the rate, and the remaining time by the announced job."""
        self.session.job_told(Job("x", 3, 40 * MIB))
        self.send(transfer(10 * MIB), seconds=1.0)
        now = transfer(20 * MIB, "b", "c")
        self.session.started(now)
        for _ in range(10):
            self.clock.advance(0.1)
            self.session.sent(MIB)
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
        """Remaining files and MiB."""
        (status,) = self.uploads.status()
        size = status["bytes_left"]
        return status["files_left"], None if size is None else size // MIB

    def sent(self) -> tuple[int, int]:
        """Files and MiB that were sent in the job."""
        (status,) = self.uploads.status()
        return status["files"], status["bytes"] // MIB

    def test_told_again(self) -> None:
        """The last announcement counts: the other end may have found more files, or have some already."""
        self.session.job_told(Job("x", 100, 1000 * MIB))
        self.send(transfer(10 * MIB))
        self.assertEqual((self.left(), self.sent()), ((99, 990), (1, 10)))
        self.session.job_told(Job("x", 2, 20 * MIB))
        self.assertEqual((self.left(), self.sent()), ((2, 20), (1, 10)))
        self.send(transfer(10 * MIB))
        self.session.job_told(Job("x", 5, 50 * MIB))
        self.assertEqual((self.left(), self.sent()), ((5, 50), (2, 20)))

    def test_implausible(self) -> None:
        """An implausible announcement is not shown, and nothing remaining is below zero."""
        self.session.job_told(Job("x", INTEGER_MAX, INTEGER_MAX))
        self.assertEqual(self.left(), (None, None))
        self.session.job_told(Job("x", 1000, FILE_SIZE_MAX))
        self.assertEqual(self.left(), (1000, FILE_SIZE_MAX // MIB))
        self.session.job_told(Job("x", 1, 5 * MIB))
        self.send(transfer(10 * MIB), transfer(10 * MIB))
        self.assertEqual(self.left(), (0, 0))

    def test_several_jobs(self) -> None:
        """Each job of a session counts from its own beginning, announced or not."""
        for files in (2, 5, 1):
            self.session.job_told(Job("x", files, 10 * files * MIB))
            self.assertEqual((self.left(), self.sent()), ((files, 10 * files), (0, 0)))
            self.send(*[transfer(10 * MIB) for _ in range(files)])
            self.session.job_told(Job("x", 0, 0))
            self.assertEqual((self.left(), self.sent()), ((0, 0), (files, 10 * files)))
        self.session.started(transfer(10 * MIB))
        self.assertEqual((self.left(), self.sent()), ((None, None), (0, 0)))

    def test_bounded(self) -> None:
        """The status is bounded for many sessions and long names; busy sessions come first (threat 7)."""
        for number in range(300):
            session = self.uploads.begin(f"n{number}", PATH)
            for _ in range(20 * (number == 299)):
                session.started(transfer(5, *["\u202e\U000e0041" * 30] * 60))
        status = self.uploads.status()
        self.assertEqual((len(status), status[0]["name"]), (SESSIONS_SHOWN, "n299"))
        self.assertLess(len(json.dumps(status[0])), 10_000)
        self.assertEqual(self.uploads.sessions, 301)
