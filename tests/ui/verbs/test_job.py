"""Tests of `p2pshare.ui.verbs.job`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import KeyChanged, LinkGivenUp, P2pshareError, RemoteNotFound, SourceChanged
from p2pshare.peer.fetch.job import JobProgress, SavedFile
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.job import DRAW_EVERY, LINES_MAX, RENAMED_SHOWN, Results, WatchedJob
from p2pshare.wire.paths import RemotePath
from tests.ui.screens import COLOURFUL, real_terminal

MIB = 1 << 20
NOT_FOUND = RemoteNotFound(name="alice", path="nope")
CHANGED = SourceChanged(name="alice", path="log")
BROKEN = LinkChange(LinkState.BROKEN, "alice", "nothing came", 4.0, again=True)


class FakeJob:
    """A job that is controlled by the test."""

    def __init__(self) -> None:
        self.progress = JobProgress(0, None, 0, None, 0, 0, (("cat.jpg",),))
        self.over: Deferred[JobProgress] = Deferred()

    def __call__(
        self,
        remote: object,
        items: object,
        *,
        on_saved: Callable[[SavedFile], object],
        on_failed: Callable[[RemotePath, P2pshareError], object],
        on_remark: Callable[[RemotePath, str], object],
        on_renamed: Callable[[RemotePath, str], object],
    ) -> FakeJob:
        self.saved, self.failed, self.remark = on_saved, on_failed, on_remark
        self.renamed = on_renamed
        return self

    @property
    def files_total(self) -> int | None:
        return self.progress.files_total

    async def run(self) -> JobProgress:
        return await self.over

    def knows(self, files: int, size: int) -> None:
        self.progress = JobProgress(0, files, 0, size, 0, 0, (("cat.jpg",),), files)


class FakeInvocation:
    def __init__(self, output: Output, cwd: Path) -> None:
        self.reactor = Clock()
        self.output = output
        self.cwd = cwd


class WatchedJobTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.options: dict[str, bool] = {}

    def begin(self, *, json: bool = False, quiet: bool = False, **options: bool) -> None:
        self.options = options  # of the results
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        terminals = [Terminal.detect(stream, {}) for stream in (self.stdout, self.stderr)]
        self.start(Output(*terminals, json=json, quiet=quiet))

    def start(self, output: Output) -> None:
        self.cwd = Path("/home/bob")
        fake = FakeInvocation(output, self.cwd)
        self.clock = fake.reactor
        self.job = FakeJob()
        self.results = Results(cast(Invocation, fake), **self.options)
        self.watched = WatchedJob(
            cast(Invocation, fake), "alice", self.results, make_job=cast(Any, self.job)
        )
        items = [JobItem(("cat.jpg",), self.cwd)]
        self.running = Deferred.fromCoroutine(self.watched.run(cast(RemotePeer, None), items))

    def saved(
        self, name: str, size: int = MIB, fetched: int | None = None, *, there: bool = False
    ) -> None:
        got = size if fetched is None else fetched
        self.job.saved(SavedFile((name,), self.cwd / name, size, got, 0.5, there))

    def end(self) -> None:
        self.job.over.callback(self.job.progress)
        self.successResultOf(self.running)
        self.results.summarize()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.getvalue().splitlines()]


class PeopleTests(WatchedJobTestCase):
    def test_one_file(self) -> None:
        """A single file gets one line."""
        self.begin()
        self.job.knows(1, MIB)
        self.saved("cat.jpg")
        self.end()
        said = "Saved cat.jpg: 1.0 MiB in 0.5 s, 2.0 MiB/s.\n"
        self.assertEqual((self.stdout.getvalue(), self.stderr.getvalue()), (said, ""))

    def test_resumed(self) -> None:
        """The line of a resumed file says how much was fetched now."""
        self.begin()
        self.job.knows(1, 4 * MIB)
        self.saved("cat.jpg", 4 * MIB, MIB)
        self.end()
        self.assertIn("Saved cat.jpg: 4.0 MiB, 1.0 MiB of it fetched now", self.stdout.getvalue())

    def test_several(self) -> None:
        """A few files get a line each, and a sum."""
        self.begin()
        self.job.knows(3, 2 * MIB)
        self.saved("cat.jpg")
        self.assertIn("Saved cat.jpg", self.stdout.getvalue())
        self.saved("dog.jpg", there=True, fetched=0)
        self.job.failed(("log",), CHANGED)
        self.clock.advance(2)
        self.end()
        *_, there, summary = self.stdout.getvalue().splitlines()
        self.assertEqual(there, "dog.jpg is here already.")
        self.assertEqual(
            summary, "1 file, 1.0 MiB, in 2 s, 512.0 KiB/s; 1 was here already; 1 failed."
        )
        self.assertRegex(self.stderr.getvalue(), r"^p2pshare: 'log' of 'alice' kept changing .*\n$")
        self.assertEqual(self.results.exit_code, 1)

    def test_many(self) -> None:
        """Many files get only the sum, also if their number was not known before."""
        for total in (None, LINES_MAX + 1):
            self.begin()
            if total:
                self.job.knows(total, MIB)
            for number in range(LINES_MAX + 1):
                self.saved(f"{number}.jpg")
            self.clock.advance(41)
            self.end()
            self.assertEqual(self.stdout.getvalue(), "21 files, 21.0 MiB, in 41 s, 524.5 KiB/s.\n")

    def test_few_after_all(self) -> None:
        """The lines wait until the number of files is known."""
        self.begin()
        self.saved("cat.jpg")
        self.assertEqual(self.stdout.getvalue(), "")
        self.end()
        self.assertIn("Saved cat.jpg", self.stdout.getvalue())

    def test_update(self) -> None:
        """An update does not name what was here already."""
        self.begin(names_present=False)
        self.job.knows(2, 2 * MIB)
        self.saved("cat.jpg")
        self.saved("dog.jpg", there=True, fetched=0)
        self.end()
        self.assertNotIn("dog.jpg", self.stdout.getvalue())
        self.assertIn("1 was here already", self.stdout.getvalue())

    def test_repeated(self) -> None:
        """If a job is repeated, its errors are forgotten, and what it has fetched is not news again."""
        self.begin(tries_again=True)
        self.job.knows(2, 2 * MIB)
        self.saved("cat.jpg")
        self.job.failed(("log",), CHANGED)
        self.results.begin_again("alice")
        self.saved("cat.jpg", there=True, fetched=0)
        self.saved("dog.jpg", there=True, fetched=0)
        self.end()
        results = self.results
        self.assertEqual((results.files, results.already_there, results.failures), (1, 1, 0))
        self.assertEqual(results.exit_code, 0)

    def test_quiet(self) -> None:
        """With `--quiet` only errors are written."""
        self.begin(quiet=True)
        self.saved("cat.jpg")
        self.job.failed(("nope",), NOT_FOUND)
        self.watched.link(BROKEN)
        self.end()
        self.assertEqual(self.stdout.getvalue(), "")
        self.assertEqual(self.stderr.getvalue().count("\n"), 1)

    def test_link(self) -> None:
        """A broken connection is reported once, however often it is retried, and so is its return."""
        self.begin()
        self.watched.link(LinkChange(LinkState.UP, "alice"))
        for _ in range(3):
            self.watched.link(BROKEN)
            self.watched.link(LinkChange(LinkState.CONNECTING, "alice", again=True))
        self.watched.link(LinkChange(LinkState.UP, "alice", again=True))
        self.assertEqual(
            self.stderr.getvalue(),
            "the connection to alice broke (nothing came), trying again in 4 s.\n"
            "the connection to alice is back.\n",
        )
        self.end()

    def test_remark(self) -> None:
        """A remark goes to stderr."""
        self.begin()
        self.job.remark(("log",), "log has changed, and starts again.")
        self.end()
        self.assertIn("log has changed, and starts again.", self.stderr.getvalue())
        self.assertEqual(self.stdout.getvalue(), "")

    def test_renamed(self) -> None:
        """The first changed names are reported, and then their number."""
        self.begin()
        for number in range(RENAMED_SHOWN + 3):
            self.job.renamed((f"a:{number}",), f"a_{number}")
        self.end()
        lines = self.stderr.getvalue().splitlines()
        self.assertEqual(len(lines), RENAMED_SHOWN + 1)
        self.assertIn("'a:0' is saved as 'a_0'", lines[0])
        self.assertIn("3 more names were changed", lines[-1])

    def test_hostile_names(self) -> None:
        """Names of files cannot move the cursor (threat 30)."""
        self.begin()
        self.saved("\x1b[2J")
        self.job.failed(("\x1b[2J",), RemoteNotFound(name="alice", path="\x1b[2J"))
        self.job.remark(("\x1b[2J",), "\x1b[2J begins anew.")
        self.end()
        self.assertNotIn("\x1b", self.stdout.getvalue() + self.stderr.getvalue())

    def test_terminal(self) -> None:
        """On a terminal the line is redrawn, other lines stay above it, and it is erased at the end."""
        for columns in (40, 80):
            with self.subTest(columns=columns), real_terminal(columns) as real:
                terminal = Terminal.detect(real.stream, COLOURFUL)
                self.start(Output(terminal, terminal))
                self.watched.link(LinkChange(LinkState.UP, "alice"))
                self.job.knows(2, 2 * MIB)
                self.clock.advance(DRAW_EVERY)
                self.assertIn("0/2" if columns == 40 else "0/2 files", real.show()[-1])
                self.saved("cat.jpg")
                self.job.failed(("nope",), NOT_FOUND)
                self.watched.link(BROKEN)
                self.clock.advance(DRAW_EVERY)
                self.assertRegex(real.show()[-1], "again in 4 s$")
                self.end()
                shown = real.show()
                self.assertTrue(shown[0].startswith("Saved cat.jpg: 1.0 MiB in 0.5 s"))
                self.assertTrue(shown[-1].endswith("failed."))
                self.assertNotRegex("\n".join(shown), r"broken, again|━")
                self.assertFalse(real.screen.wrapped)
                self.assertFalse(real.screen.cursor_hidden)

    def test_cancelled(self) -> None:
        """Cancelling cancels the job and erases the line."""
        with real_terminal(80) as real:
            terminal = Terminal.detect(real.stream, COLOURFUL)
            self.start(Output(terminal, terminal))
            self.running.addErrback(lambda _: None)
            self.running.cancel()
            self.assertTrue(self.job.over.called)
            self.assertEqual(real.show(), [""])
            self.assertFalse(real.screen.cursor_hidden)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ProgramsTests(WatchedJobTestCase):
    def test_events(self) -> None:
        """Programs get an event for each step."""
        self.begin(json=True)
        self.job.knows(2, 2 * MIB)
        self.saved("cat.jpg")
        self.job.failed(("nope",), NOT_FOUND)
        self.job.remark(("log",), "It begins anew.")
        self.watched.link(BROKEN)
        self.clock.advance(2)
        self.end()
        saved, failed, remark, link, *_, summary = self.events()
        self.assertEqual(
            saved,
            {
                "event": "saved",
                "from": "alice:cat.jpg",
                "path": "/home/bob/cat.jpg",
                "size": MIB,
                "fetched": MIB,
                "seconds": 0.5,
                "already_there": False,
                "renamed": False,
                "replaced": False,
                "root": None,
            },
        )
        self.assertEqual(
            (failed["event"], failed["from"], failed["kind"], failed["exit_code"]),
            ("failed", "alice:nope", "remote_not_found", 4),
        )
        self.assertEqual((remark["event"], remark["from"]), ("remark", "alice:log"))
        self.assertEqual((link["event"], link["from"]), ("remark", "alice"))
        self.assertEqual(
            summary,
            {
                "event": "summary",
                "files": 1,
                "bytes": MIB,
                "seconds": 2.0,
                "already_there": 0,
                "replaced": 0,
                "kept": 0,
                "failed": 1,
            },
        )
        self.assertEqual(self.stderr.getvalue(), "")

    def test_progress(self) -> None:
        """Progress is reported at most once a second."""
        self.begin(json=True)
        self.job.knows(2, 2 * MIB)
        self.clock.pump([DRAW_EVERY] * 35)
        told = [event for event in self.events() if event["event"] == "progress"]
        self.assertEqual(len(told), 3)
        self.assertEqual((told[0]["total"], told[0]["files_total"]), (2 * MIB, 2))
        self.assertEqual((told[0]["files_listed"], told[0]["files_rate"]), (2, 0.0))
        self.end()


class ExitCodeTests(WatchedJobTestCase):
    def code(self, *errors: P2pshareError, saved: int = 0) -> int:
        self.begin()
        for number in range(saved):
            self.saved(f"{number}.jpg")
        for error in errors:
            self.results.failed(error)
        self.end()
        return self.results.exit_code

    def test_codes(self) -> None:
        """The exit code is 0, the code of the only reason if nothing was fetched, 3 after a hard stop, or 1."""
        lost = LinkGivenUp(name="alice", reason="x", patience=120)
        changed = KeyChanged(name="alice", known="a", now="b")
        self.assertEqual(self.code(saved=2), 0)
        self.assertEqual(self.code(NOT_FOUND), 4)
        self.assertEqual(self.code(NOT_FOUND, NOT_FOUND), 4)
        self.assertEqual(self.code(lost), 5)
        self.assertEqual(self.code(NOT_FOUND, lost), 1)
        self.assertEqual(self.code(NOT_FOUND, saved=1), 1)
        self.assertEqual(self.code(changed, saved=1), 3)
