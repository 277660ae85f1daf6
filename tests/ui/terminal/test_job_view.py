"""Tests of `p2pshare.ui.terminal.job_view`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.session_interface import SessionPath
from p2pshare.peer.fetch.job import JobProgress
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.job_view import SAMPLES_MAX, JobView, Pace
from p2pshare.wire.addresses import PeerAddress
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

    def test_images(self) -> None:
        """A picture takes the place of the last one, unless something was written since or the size has changed."""
        small, large = (np.full((rows, 40, 3), 9, np.uint8) for rows in (8, 12))
        with self.viewed(80) as (real, view):
            self.advance(view, 1, progress(0))
            for pixels in (small, large, small):
                view.show_image(view.draw_image(pixels))
                screen = real.show()
                self.assertEqual(sum("▀" in row for row in screen), len(pixels) // 2)
                self.assertEqual(len(screen), len(pixels) // 2 + 1)
            view.line_above("a remark")
            view.show_image(view.draw_image(large))
            self.assertEqual(sum("▀" in row for row in real.show()), 4 + 6)
            real.resize(70)
            view.show_image(view.draw_image(large))
            self.assertEqual(sum("▀" in row for row in real.show()), 4 + 6 + 6)

    def test_fits(self) -> None:
        """At any width and in any state there is one line, redrawn in place, and none of it stays."""
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
        """With 80 columns every part is shown."""
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

    def test_path(self) -> None:
        """For the first seconds of a session the line shows its path; later the numbers take its room."""
        path = SessionPath("udp", PeerAddress("192.0.2.7", 50000))
        for columns, pattern in (
            (80, r"^cat\.jpg [━╸╺]{20,} 10%, via udp, 192\.0\.2\.7:50000$"),
            (40, r"^[━╸╺]{6,} 10%, via udp, 192\.0\.2\.7:50000$"),
            (30, r" 10%, 12/812$"),
        ):
            with self.subTest(columns=columns), self.viewed(columns, up=False) as (real, view):
                view.link(replace(UP, path=path))
                self.advance(view, 1, progress(10 * MIB))
                self.assertRegex(real.show()[0], pattern)
                self.advance(view, 2, progress(20 * MIB))
                self.assertNotIn("192", real.show()[0])
        with self.viewed(120, up=False) as (real, view):
            view.link(replace(UP, path=path))
            self.advance(view, 3, progress(20 * MIB))
            self.assertRegex(real.show()[0], r", via udp$")

    def test_many_files(self) -> None:
        """For many files the line shows files per second and the time left, beside a bar of 20 columns."""
        with self.viewed(80) as (real, view):
            for done in 8000, 9000:
                now = progress(int(done / 20000 * 100 * MIB), done, 20000)
                self.advance(view, 1, now)
            (line,) = real.show()
            self.assertRegex(
                line, r"^[━╸╺]{20,} 45%, 9000/20000 files, 1000 files/s, 5\.0 MiB/s, 11 s left$"
            )

    def test_empty_files(self) -> None:
        """For empty files, their number gives the percentage and the time left."""
        with self.viewed(80) as (real, view):
            for done in 100, 200:
                now = JobProgress(done, 400, 0, 0, 0, 0, (("cat.jpg",),), 400)
                self.advance(view, 1, now)
            self.assertRegex(real.show()[0], r"50%, 200/400 files, 2 s left, 100 files/s$|50%, .*")
            self.assertIn("2 s left", real.show()[0])

    def test_narrow(self) -> None:
        """With 40 columns there is the name, the percentage and the rate; with 20 the percentage."""
        for columns, pattern in (
            (40, r"^cat\.jpg [━╸╺]{6,} 20%, 12/812, 10\.0 MiB/s$"),
            (20, r"^(\S+ +)?20%, 12/812$"),
        ):
            with self.subTest(columns=columns), self.viewed(columns) as (real, view):
                self.advance(view, 1, progress(10 * MIB))
                self.advance(view, 1, progress(20 * MIB))
                self.assertRegex(real.show()[0], pattern)

    def test_long_name(self) -> None:
        """A long name leaves room for a bar, and its end is shown, which tells files apart."""
        with self.viewed(80) as (real, view):
            self.advance(view, 1, progress(10 * MIB, current=LONG))
            self.assertRegex(real.show()[0], r"^~\S*猫\.jpg +[━╸╺]{20,} 10%, 12/812 files")

    def test_one_file(self) -> None:
        """A single file has no count."""
        with self.viewed(80) as (real, view):
            self.advance(view, 1, progress(10 * MIB, 0, 1))
            self.assertRegex(real.show()[0], r" 10%, 10\.0/100\.0 MiB$")

    def test_not_listed_yet(self) -> None:
        """While a folder is being listed, the line shows what has arrived."""
        with self.viewed(80) as (real, view):
            self.advance(view, 1, progress(10 * MIB, total=None))
            self.assertRegex(real.show()[0], r" 12/30\+ files, 10\.0 MiB$")

    def test_silence(self) -> None:
        """While nothing arrives, the line counts the seconds: it is never a frozen bar."""
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
        """After the connection broke, the line counts down to the next attempt."""
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
        """Before there is a session, the line says what it waits for."""
        with self.viewed(80, up=False) as (real, view):
            self.advance(view, 1, progress(0))
            self.assertRegex(real.show()[0], "connecting to alice$")
            view.link(LinkChange(LinkState.BROKEN, "alice", "busy", 4.0))
            self.advance(view, 1, progress(0))
            self.assertRegex(real.show()[0], "alice is not ready, trying again in 3 s$")

    def test_resized(self) -> None:
        """After the terminal was made narrower the line fits, and nothing of the old one stays."""
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
        """Names of files and peers cannot move the cursor or add styles (threat 30)."""
        with self.viewed(80, peer="[red]\x1b[2J") as (real, view):
            self.advance(view, 1, progress(MIB, current=("[b]\x1b[2J\n\u202e",)))
            self.assertIn("[b]\\x1b[2J\\x0a\\u202e", real.show()[0])
            self.advance(view, 9, progress(MIB, current=()))
            self.assertIn("nothing from [red]\\x1b[2J for 9 s", real.show()[0])

    def test_line_above(self) -> None:
        """A line written above the view stays."""
        with self.viewed(80) as (real, view):
            self.advance(view, 1, progress(MIB))
            view.line_above("Saved [red]cat.jpg\x1b[2J.")
            self.advance(view, 1, progress(2 * MIB))
            first, second = real.show()
            self.assertEqual(first, "Saved [red]cat.jpg\\x1b[2J.")
            self.assertIn(" 2%, ", second)

    def test_no_terminal(self) -> None:
        """Nothing is drawn where nothing can be redrawn, and in a silent view."""
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
        """The rate covers the last seconds, and is 0 without samples."""
        pace = Pace()
        self.assertEqual(pace.rate, 0)
        for second in range(20):
            pace.note(second, second * 10 if second < 10 else 100 + (second - 10) * 2)
        self.assertEqual(pace.rate, 2)

    def test_failures(self) -> None:
        """Files that fail one after another do not count as silence."""
        pace = Pace()
        for second in range(9):
            pace.note(second, 10, 1, second)
        self.assertEqual((pace.quiet(8), pace.rate, pace.files_rate), (0, 0, 0))

    def test_begin_again(self) -> None:
        """A new connection starts with a new rate, and is not quiet yet."""
        pace = Pace()
        for second in range(3):
            pace.note(second, second * 10)
        pace.begin_again(60)
        self.assertEqual((pace.rate, pace.quiet(60)), (0, 0))
        pace.note(61, 30)
        pace.note(62, 130)
        self.assertEqual(pace.rate, 100)

    def test_bounded(self) -> None:
        """The number of samples is bounded."""
        pace = Pace()
        for number in range(10 * SAMPLES_MAX):
            pace.note(number / 1000, number)
        self.assertLessEqual(len(pace._samples), SAMPLES_MAX)
        self.assertAlmostEqual(pace.rate, 1000)
