"""Tests of `p2pshare.ui.terminal.growing_picture`, in the view of a job."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.fetch.job import JobProgress
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.drawn_picture import PICTURE_COLUMNS, PICTURE_LINES
from p2pshare.ui.terminal.job_view import JobView
from tests.ui.screens import COLOURFUL, FakeTty, Screen

SIZE = 900 * 1200 * 3


class GrowingPictureTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pixels = np.zeros((900, 1200, 3), np.uint8)
        self.have = np.zeros(900, bool)
        self.begin(COLOURFUL)

    def begin(self, environ: Mapping[str, str], *, silent: bool = False) -> None:
        self.stream = FakeTty()
        terminal = Terminal.detect(self.stream, environ)
        self.view = JobView(terminal, "bob", Clock().seconds, silent=silent)
        self.view.start()
        self.view.link(LinkChange(LinkState.UP, "bob"))

    def draw(self, rows: int) -> None:
        self.have[:rows] = True
        self.view.show_picture(self.pixels, self.have)
        self.view.update(JobProgress(0, 1, 3600 * rows, SIZE, 0, 0, (("my_file.jpg",),), 1))

    def shown(self) -> list[str]:
        screen = Screen(80)
        screen.feed(self.stream.getvalue())
        self.assertFalse(screen.wrapped)
        return screen.shown()

    def pictured(self) -> int:
        return sum("▀" in line for line in self.shown())

    def test_row_by_row(self) -> None:
        """The picture grows above the line, and no line of it is drawn twice."""
        counts = []
        for rows in (0, 100, 500, 900):
            self.draw(rows)
            counts.append(self.pictured())
            self.assertIn("my_file.jpg", self.shown()[-1])
        self.assertEqual(counts, sorted(counts))
        self.assertEqual((counts[0], counts[-1]), (0, PICTURE_LINES))
        self.view.finish()
        shown = self.shown()[:PICTURE_LINES]
        self.assertLessEqual(max(map(len, shown)), PICTURE_COLUMNS)
        self.assertEqual("".join(shown).count("▀"), PICTURE_LINES * len(shown[0]))

    def test_waits_for_missing_rows(self) -> None:
        """A line that lacks rows holds back the lines below it until they arrive."""
        self.have[:] = True
        self.have[405:500] = False
        self.view.show_picture(self.pixels, self.have)
        self.assertEqual(self.pictured(), 405 * PICTURE_LINES // 900)
        self.draw(900)
        self.assertEqual(self.pictured(), PICTURE_LINES)

    def test_next_picture(self) -> None:
        """A second picture begins below the first."""
        self.draw(900)
        self.view.show_picture(self.pixels.copy(), self.have)
        self.assertEqual(
            self.stream.getvalue().count("▀"), 2 * PICTURE_LINES * len(self.shown()[0])
        )

    def test_without_colours(self) -> None:
        """A terminal without colours shows the line, but no picture."""
        self.begin({"TERM": "xterm-256color", "NO_COLOR": "1"})
        self.draw(900)
        self.assertNotIn("▀", self.stream.getvalue())
        self.assertIn("my_file.jpg", self.stream.getvalue())

    def test_silent(self) -> None:
        """A silent view and a dumb terminal show nothing."""
        for environ, silent in ((COLOURFUL, True), ({"TERM": "dumb"}, False)):
            self.begin(environ, silent=silent)
            self.draw(900)
            self.view.finish()
            self.assertEqual(self.stream.getvalue(), "")
