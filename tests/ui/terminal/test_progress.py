"""Tests for `p2pshare.ui.terminal.progress`."""

from __future__ import annotations

import io

import numpy as np
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.progress import PREVIEW_COLUMNS, PREVIEW_LINES, ProgressView
from tests.ui.screens import COLOURFUL, FakeTty, RealTerminal, Screen, real_terminal

LONG_TITLE = "a name that is much too long to be shown in full.png"


class RealTerminalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def begin(
        self, real: RealTerminal, title: str, unit: str = "rows", total: int | None = 900
    ) -> ProgressView:
        terminal = Terminal.detect(real.stream, COLOURFUL)
        view = ProgressView(terminal, title, unit, total, self.clock.seconds)
        view.start()
        return view

    def advance(self, view: ProgressView, done: int) -> None:
        self.clock.advance(1)
        view.update(done)

    def test_fits(self) -> None:
        """At any width it is one line, drawn in place, and nothing but the sentence stays."""
        for columns in (20, 36, 40, 72, 80, 200):
            for title in ("bob.png", LONG_TITLE):
                with self.subTest(columns=columns, title=title), real_terminal(columns) as real:
                    view = self.begin(real, title)
                    for done in (0, 300, 600, 900):
                        self.advance(view, done)
                        self.assertEqual(len(real.show()), 1)
                        self.assertFalse(real.screen.wrapped)
                        self.assertTrue(real.screen.cursor_hidden)
                    view.finish("Saved.")
                    self.assertEqual(real.show(), ["Saved."])
                    self.assertFalse(real.screen.cursor_hidden)

    def test_wide(self) -> None:
        """With 80 columns there is everything that one wants to know."""
        with real_terminal(80) as real:
            view = self.begin(real, "bob.png")
            self.advance(view, 100)
            self.advance(view, 300)
            (line,) = real.show()
            self.assertRegex(line, r"^bob\.png [━╸╺]+ 300 of 900 rows, 200 rows/s, 3 s left$")
            view.finish()

    def test_narrow(self) -> None:
        """With 40 columns it is a bar, the part and the rate, with 20 the part alone."""
        for columns, pattern in ((40, r"^bob\.png .*33 %, 200 rows/s$"), (20, r"^bob\.png +33 %$")):
            with real_terminal(columns) as real:
                view = self.begin(real, "bob.png")
                self.advance(view, 100)
                self.advance(view, 300)
                self.assertRegex(real.show()[0], pattern)
                view.finish()

    def test_resized(self) -> None:
        """A terminal that is made narrower gets a line that fits, and nothing of the one before stays."""
        with real_terminal(80) as real:
            view = self.begin(real, "bob.txt")
            self.advance(view, 300)
            real.show()
            real.resize(30)
            self.advance(view, 600)
            (line,) = real.show()
            self.assertLessEqual(len(line), 30)
            self.assertFalse(real.screen.wrapped)
            real.resize(20)
            view.finish("Saved.")
            self.assertEqual(real.show(), ["Saved."])

    def test_total_unknown(self) -> None:
        """Without a total there is the amount and the rate; it may come to be known."""
        with real_terminal(80) as real:
            view = self.begin(real, "bob.txt", unit="bytes", total=None)
            self.advance(view, 1 << 20)
            self.advance(view, 3 << 20)
            self.assertRegex(real.show()[0], r"3\.0 MiB, 2\.0 MiB/s$")
            view.update(3 << 20, total=6 << 20)
            self.assertRegex(real.show()[0], r"3\.0 MiB of 6\.0 MiB$")
            view.finish()

    def test_hostile_title(self) -> None:
        """A title from outside moves nothing and marks nothing up."""
        with real_terminal(80) as real:
            view = self.begin(real, "[red]\x1b[2J\n")
            self.advance(view, 1)
            self.assertRegex(real.show()[0], r"^\[red\]\\x1b\[2J\\x0a ")
            view.finish()


class PictureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stream = FakeTty()
        terminal = Terminal.detect(self.stream, COLOURFUL)
        self.view = ProgressView(terminal, "bob.png", "rows", 900, Clock().seconds)
        self.view.start()
        self.pixels = np.zeros((900, 1200, 3), np.uint8)
        self.have = np.zeros(900, bool)

    def shown(self) -> list[str]:
        screen = Screen(80)
        screen.feed(self.stream.getvalue())
        self.assertFalse(screen.wrapped)
        return screen.shown()

    def pictured(self) -> int:
        return sum("▀" in line for line in self.shown())

    def test_row_by_row(self) -> None:
        """The picture grows above the line; what is drawn is not drawn again."""
        counts = []
        for done in (0, 100, 500, 900):
            self.have[:done] = True
            self.view.show_picture(self.pixels, self.have)
            self.view.update(done)
            counts.append(self.pictured())
            self.assertIn("bob.png", self.shown()[-1])
        self.assertEqual(counts, sorted(counts))
        self.assertEqual((counts[0], counts[-1]), (0, PREVIEW_LINES))
        self.view.finish("Saved.")
        shown = self.shown()
        self.assertEqual(shown[-1], "Saved.")
        self.assertEqual(len(shown), PREVIEW_LINES + 1)
        self.assertLessEqual(max(map(len, shown)), PREVIEW_COLUMNS)
        self.assertEqual("".join(shown).count("▀"), PREVIEW_LINES * len(shown[0]))

    def test_waits_for_missing_rows(self) -> None:
        """A line that lacks rows is not drawn, nor what is below it, until they have come."""
        self.have[:] = True
        self.have[405:500] = False
        self.view.show_picture(self.pixels, self.have)
        self.assertEqual(self.pictured(), 405 * PREVIEW_LINES // 900)
        self.have[:] = True
        self.view.finish()
        self.assertEqual(self.pictured(), PREVIEW_LINES)

    def test_failed_transfer(self) -> None:
        """What never arrived is not drawn."""
        self.have[:450] = True
        self.view.show_picture(self.pixels, self.have)
        self.view.finish()
        self.view.finish("bob fell silent.")
        self.assertEqual(self.pictured(), PREVIEW_LINES // 2)

    def test_terminal_without_colours(self) -> None:
        """Where a picture cannot be shown, the line still is."""
        stream = FakeTty()
        terminal = Terminal.detect(stream, {"TERM": "xterm-256color", "NO_COLOR": "1"})
        view = ProgressView(terminal, "bob.png", "rows", 900, Clock().seconds)
        view.start()
        view.show_picture(self.pixels, np.ones(900, bool))
        view.update(300)
        view.finish("Saved.")
        self.assertNotIn("▀", stream.getvalue())
        self.assertIn("bob.png", stream.getvalue())
        self.assertNotRegex(stream.getvalue(), r"\x1b\[[0-9;]+m")


class PlainStreamTests(SynchronousTestCase):
    def output(self, stream: io.StringIO, *, silent: bool, done: int = 5) -> str:
        terminal = Terminal.detect(stream, {"TERM": "dumb"})
        view = ProgressView(terminal, "bob.png", "rows", 9, Clock().seconds, silent=silent)
        view.start()
        view.show_picture(np.zeros((9, 9, 3), np.uint8), np.ones(9, bool))
        for now in (0, done, done):
            view.update(now)
        view.finish("Saved.")
        return stream.getvalue()

    def test_two_lines(self) -> None:
        """A pipe and a dumb terminal get a line when something has arrived and one at the end."""
        for stream in (io.StringIO(), FakeTty()):
            self.assertEqual(self.output(stream, silent=False), "bob.png\nSaved.\n")

    def test_nothing_arrived(self) -> None:
        """What never begins has no line, so that the error which ended it stands alone."""
        self.assertEqual(self.output(io.StringIO(), silent=False, done=0), "Saved.\n")

    def test_silent(self) -> None:
        """Who wants nothing gets nothing."""
        for stream in (io.StringIO(), FakeTty()):
            self.assertEqual(self.output(stream, silent=True), "")
