"""Tests for `p2pshare.ui.terminal.job_view`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.fetch.job import JobProgress
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.job_view import SAMPLES_MAX, JobView, Pace
from tests.ui.screens import COLOURFUL, FakeTty, RealTerminal, real_terminal

MIB = 1 << 20
LONG = ("photos", "a folder with a name that is rather long", "猫" * 30 + ".jpg")
UP = LinkChange(LinkState.UP, "alice")
BROKEN = LinkChange(LinkState.BROKEN, "alice", "nothing arrived for 15 s", 4.0, again=True)


def progress(
    fetched: int, files: int = 12, total: int | None = 812, current: tuple[str, ...] = ("cat.jpg",)
) -> JobProgress:
    size = None if total is None else 100 * MIB
    return JobProgress(files, total, fetched, size, 0, 0, (current,), total or 30, 0, fetched)


class LineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    @contextmanager
    def viewed(
        self, columns: int, *, up: bool = True, peer: str = "alice"
    ) -> Iterator[tuple[RealTerminal, JobView]]:
        with real_terminal(columns) as real:
            view = JobView(Terminal.detect(real.stream, COLOURFUL), peer, self.clock.seconds)
            view.start()
            if up:
                view.link(UP)
            yield real, view
            view.finish()

    def advance(self, view: JobView, seconds: float, now: JobProgress) -> None:
        self.clock.advance(seconds)
        view.update(now)

    def test_fits(self) -> None:
        """At any width, whatever the state, it is one line that is drawn in place, and nothing of it stays."""
        for columns in (10, 20, 30, 40, 72, 80, 200):
            for current in (("cat.jpg",), LONG, ()):
                for change in (UP, BROKEN, LinkChange(LinkState.CONNECTING, "alice")):
                    with (
                        self.subTest(columns=columns, change=change),
                        self.viewed(columns) as (real, view),
                    ):
                        for fetched in (0, 30 * MIB, 30 * MIB, 100 * MIB):
                            view.link(change)
                            for seconds in (1, 7):
                                self.advance(view, seconds, progress(fetched, current=current))
                                self.assertEqual(len(real.show()), 1)
                                self.assertFalse(real.screen.wrapped)
                        view.finish()
                        self.assertEqual(real.show(), [""])
                        self.assertFalse(real.screen.cursor_hidden)

    def test_wide(self) -> None:
        """With 80 columns there is everything that one wants to know."""
        with self.viewed(80) as (real, view):
            self.advance(view, 1, progress(10 * MIB, total=81))
            self.advance(view, 1, progress(20 * MIB, total=81))
            (line,) = real.show()
            self.assertRegex(
                line,
                r"^cat\.jpg [━╸╺]{20,} 20%, 12/81 files, 10\.0 MiB/s, 8 s left$",
            )
            self.advance(view, 1, progress(20 * MIB, 1, 1))
            (line,) = real.show()
            self.assertRegex(
                line, r"^cat\.jpg [━╸╺]{20,} 20%, 20\.0/100\.0 MiB, \S+ MiB/s, \d+ s left$"
            )

    def test_many_files(self) -> None:
        """Of many files it says how many come in a second, and how long that takes, beside a bar of 20 columns."""
        with self.viewed(80) as (real, view):
            for done in 8000, 9000:
                now = progress(int(done / 20000 * 100 * MIB), done, 20000)
                self.advance(view, 1, now)
            (line,) = real.show()
            self.assertRegex(
                line, r"^[━╸╺]{20,} 45%, 9000/20000 files, 1000 files/s, 5\.0 MiB/s, 11 s left$"
            )

    def test_empty_files(self) -> None:
        """Of files without a byte, their number tells the part, and the time."""
        with self.viewed(80) as (real, view):
            for done in 100, 200:
                now = JobProgress(done, 400, 0, 0, 0, 0, (("cat.jpg",),), 400)
                self.advance(view, 1, now)
            self.assertRegex(real.show()[0], r"50%, 200/400 files, 2 s left, 100 files/s$|50%, .*")
            self.assertIn("2 s left", real.show()[0])

    def test_narrow(self) -> None:
        """With 40 columns there is the name, the part and the rate; with 20 the part alone."""
        for columns, pattern in (
            (40, r"^cat\.jpg [━╸╺]{6,} 20%, 12/812, 10\.0 MiB/s$"),
            (20, r"^(\S+ +)?20%, 12/812$"),
        ):
            with self.subTest(columns=columns), self.viewed(columns) as (real, view):
                self.advance(view, 1, progress(10 * MIB))
                self.advance(view, 1, progress(20 * MIB))
                self.assertRegex(real.show()[0], pattern)

    def test_long_name(self) -> None:
        """A long name leaves room for a bar, and shows its end, which tells files apart."""
        with self.viewed(80) as (real, view):
            self.advance(view, 1, progress(10 * MIB, current=LONG))
            self.assertRegex(real.show()[0], r"^~\S*猫\.jpg +[━╸╺]{20,} 10%, 12/812 files")

    def test_one_file(self) -> None:
        """Of a single file nobody counts files."""
        with self.viewed(80) as (real, view):
            self.advance(view, 1, progress(10 * MIB, 0, 1))
            self.assertRegex(real.show()[0], r" 10%, 10\.0/100\.0 MiB$")

    def test_not_listed_yet(self) -> None:
        """While a folder is still being listed, there is what has come."""
        with self.viewed(80) as (real, view):
            self.advance(view, 1, progress(10 * MIB, total=None))
            self.assertRegex(real.show()[0], r" 12/30\+ files, 10\.0 MiB$")

    def test_silence(self) -> None:
        """When nothing comes, it says for how long, and counts on: it is never a frozen bar."""
        for columns, pattern in (
            (80, r" 10% done; nothing from alice for {} s$"),
            (40, r"nothing for {} s$"),
        ):
            with self.subTest(columns=columns), self.viewed(columns) as (real, view):
                self.advance(view, 1, progress(10 * MIB))
                for seconds in (5, 6):
                    self.clock.advance(5 if seconds == 5 else 1)
                    view.update(progress(10 * MIB))
                    self.assertRegex(real.show()[0], pattern.format(seconds))
                self.advance(view, 1, progress(11 * MIB))
                self.assertNotRegex(real.show()[0], "for")

    def test_broken(self) -> None:
        """When the connection broke, it says so, and counts the seconds down to the next try."""
        for columns, pattern in (
            (80, r" 10% done; the connection broke, trying again in {} s$"),
            (40, r"broken, again in {} s$"),
        ):
            with self.subTest(columns=columns), self.viewed(columns) as (real, view):
                self.advance(view, 1, progress(10 * MIB))
                view.link(BROKEN)
                for left in (3, 2):
                    self.advance(view, 1, progress(10 * MIB))
                    self.assertRegex(real.show()[0], pattern.format(left))
                view.link(LinkChange(LinkState.CONNECTING, "alice", again=True))
                self.advance(view, 2, progress(10 * MIB))
                self.assertRegex(real.show()[0], r"connecting.* 2 s$")
                view.link(UP)
                self.advance(view, 1, progress(12 * MIB))
                self.assertRegex(real.show()[0], r"12\S*( of |%)")

    def test_first_contact(self) -> None:
        """Before there is a session, it says what it waits for."""
        with self.viewed(80, up=False) as (real, view):
            self.advance(view, 1, progress(0))
            self.assertRegex(real.show()[0], "connecting to alice$")
            view.link(LinkChange(LinkState.BROKEN, "alice", "busy", 4.0))
            self.advance(view, 1, progress(0))
            self.assertRegex(real.show()[0], "alice is not ready, trying again in 3 s$")

    def test_resized(self) -> None:
        """A terminal that is made narrower gets a line that fits, and nothing of the one before stays."""
        with self.viewed(120) as (real, view):
            real.stream.write("before\n")
            self.advance(view, 1, progress(MIB, current=LONG))
            real.show()
            for columns in (70, 30, 10, 90):
                real.resize(columns)
                self.advance(view, 1, progress(2 * MIB, current=LONG))
                before, line = real.show()
                self.assertEqual(before, "before")
                self.assertLessEqual(len(line), columns)
                self.assertFalse(real.screen.wrapped)
            real.resize(25)
            view.line_above("Saved.")
            self.assertEqual(real.show()[:2], ["before", "Saved."])
            real.resize(20)
            view.finish()
            self.assertEqual(real.show(), ["before", "Saved."])

    def test_hostile_names(self) -> None:
        """What others call their files and themselves moves nothing and marks nothing up (threat 30)."""
        with self.viewed(80, peer="[red]\x1b[2J") as (real, view):
            self.advance(view, 1, progress(MIB, current=("[b]\x1b[2J\n\u202e",)))
            self.assertIn("[b]\\x1b[2J\\x0a\\u202e", real.show()[0])
            self.advance(view, 9, progress(MIB, current=()))
            self.assertIn("nothing from [red]\\x1b[2J for 9 s", real.show()[0])

    def test_line_above(self) -> None:
        """A line that is said meanwhile stays above."""
        with self.viewed(80) as (real, view):
            self.advance(view, 1, progress(MIB))
            view.line_above("Saved [red]cat.jpg\x1b[2J.")
            self.advance(view, 1, progress(2 * MIB))
            first, second = real.show()
            self.assertEqual(first, "Saved [red]cat.jpg\\x1b[2J.")
            self.assertIn(" 2%, ", second)

    def test_no_terminal(self) -> None:
        """Where nothing can be drawn again, and where nobody wants to see it, there is nothing."""
        for stream, environ, silent in ((FakeTty(), {}, False), (FakeTty(), COLOURFUL, True)):
            view = JobView(
                Terminal.detect(stream, environ), "alice", self.clock.seconds, silent=silent
            )
            view.start()
            view.link(UP)
            view.update(progress(MIB))
            view.finish()
            self.assertEqual(stream.getvalue(), "")


class PaceTests(SynchronousTestCase):
    def test_rate(self) -> None:
        """The rate is that of the last seconds, and 0 where nothing is known."""
        pace = Pace()
        self.assertEqual(pace.rate, 0)
        for second in range(20):
            pace.note(second, second * 10 if second < 10 else 100 + (second - 10) * 2)
        self.assertEqual(pace.rate, 2)

    def test_failures(self) -> None:
        """Files that fail one after another are no silence."""
        pace = Pace()
        for second in range(9):
            pace.note(second, 10, 1, second)
        self.assertEqual((pace.quiet(8), pace.rate, pace.files_rate), (0, 0, 0))

    def test_begin_again(self) -> None:
        """Another connection has a rate of its own, and has not been quiet yet."""
        pace = Pace()
        for second in range(3):
            pace.note(second, second * 10)
        pace.begin_again(60)
        self.assertEqual((pace.rate, pace.quiet(60)), (0, 0))
        pace.note(61, 30)
        pace.note(62, 130)
        self.assertEqual(pace.rate, 100)

    def test_bounded(self) -> None:
        """However often it is told, it keeps so many samples and no more."""
        pace = Pace()
        for number in range(10 * SAMPLES_MAX):
            pace.note(number / 1000, number)
        self.assertLessEqual(len(pace._samples), SAMPLES_MAX)
        self.assertAlmostEqual(pace.rate, 1000)
