"""Tests of `p2pshare.ui.terminal.drawn_picture`, in the view of a job."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.fetch.job import JobProgress
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.drawn_picture import BOX_MAX, PICTURE_COLUMNS, PICTURE_LINES, draw_picture
from p2pshare.ui.terminal.growing_picture import STEPS
from p2pshare.ui.terminal.job_view import JobView
from p2pshare.ui.terminal.picture_form import Graphics, PictureForm
from tests import examples
from tests.pictures.test_kitty import decode as decode_kitty
from tests.pictures.test_sixel import decode as decode_sixel
from tests.ui.screens import COLOURFUL, FakeTty

CELL = (10, 20)
SIXEL = re.compile(r"\x1bP[^\x1b]*\x1b\\")
KITTY = re.compile(r"(?:\x1b_G[^\x1b]*\x1b\\)+")


def terminal_with(
    form: PictureForm, cell: tuple[int, int] | None = CELL
) -> tuple[Terminal, FakeTty]:
    stream = FakeTty()
    terminal = Terminal.detect(stream, COLOURFUL)
    return replace(terminal, graphics=Graphics(form, cell, itertools.count(5))), stream


class FitTests(SynchronousTestCase):
    def test_aspect_ratio(self) -> None:
        """A picture keeps its aspect ratio, and is not enlarged, unless it is a preview of a larger one."""
        terminal, _ = terminal_with(PictureForm.SIXEL)
        for shape, enlarged, size in (
            ((1000, 2000, 3), False, (320, 640)),
            ((2000, 1000, 3), False, (400, 200)),
            ((31, 45, 3), False, (31, 45)),
            ((48, 64, 3), True, (400, 533)),
        ):
            with self.subTest(shape=shape):
                drawn = draw_picture(terminal, np.zeros(shape, np.uint8), enlarged=enlarged)
                shown, _ = decode_sixel(drawn.pieces[0])
                self.assertEqual(shown.shape[:2], size)
                self.assertEqual(
                    (drawn.lines, drawn.columns), (-(-size[0] // 20), -(-size[1] // 10))
                )

    @settings(max_examples=examples(15))
    @given(
        st.sampled_from([PictureForm.SIXEL, PictureForm.KITTY]),
        st.sampled_from([None, (4, 4), CELL, (64, 64), (7, 15)]),
        st.sampled_from([(1, 1), (1, 9000), (9000, 1), (700, 900), (3, 2)]),
        st.booleans(),
    )
    def test_bounds(
        self,
        form: PictureForm,
        cell: tuple[int, int] | None,
        size: tuple[int, int],
        enlarged: bool,
    ) -> None:
        """Whatever the picture and the cells are, it fits, and has at least one line (threat 8)."""
        terminal, _ = terminal_with(form, cell)
        drawn = draw_picture(terminal, np.zeros((*size, 3), np.uint8), enlarged=enlarged)
        self.assertLessEqual(1, drawn.lines)
        self.assertLessEqual(drawn.lines, PICTURE_LINES)
        self.assertLessEqual(1, drawn.columns)
        self.assertLessEqual(drawn.columns, PICTURE_COLUMNS)
        if form is PictureForm.SIXEL:
            shown = decode_sixel(drawn.pieces[0])[0]
        else:
            (text,) = KITTY.findall(drawn.text(3))
            keys, shown = decode_kitty(text)
            self.assertEqual("c" in keys, cell is None)
        self.assertLessEqual(shown.shape[:2], (BOX_MAX[1], BOX_MAX[0]))

    def test_cursor(self) -> None:
        """Room is made for a picture, and the cursor is saved, restored, and put below it."""
        for form in (PictureForm.SIXEL, PictureForm.KITTY):
            terminal, _ = terminal_with(form)
            text = draw_picture(terminal, np.zeros((100, 100, 3), np.uint8)).text(1)
            self.assertTrue(text.startswith("\n\n\n\n\n\x1b[5A\x1b7"))
            self.assertTrue(text.endswith("\x1b8\x1b[5B"))


class ViewTests(SynchronousTestCase):
    """Pictures above the line of a job."""

    def begin(self, form: PictureForm) -> None:
        terminal, self.stream = terminal_with(form)
        self.view = JobView(terminal, "bob", Clock().seconds)
        self.view.start()
        self.view.link(LinkChange(LinkState.UP, "bob"))

    def written(self) -> str:
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return text

    def show(self, rows: int) -> str:
        self.view.show_image(self.view.draw_image(np.zeros((rows, 90, 3), np.uint8)))
        return self.written()

    def test_replaced(self) -> None:
        """A sharper picture replaces the one before: the old one is deleted, and the number stays."""
        self.begin(PictureForm.KITTY)
        self.assertIn("i=5,", self.show(90))
        second = self.show(120)
        self.assertIn("a=d,d=I,i=5,q=2\x1b\\\x1b[5A", second)
        self.assertLess(second.index("a=d"), second.index("a=T"))
        self.assertIn("a=T,f=100,t=d,i=5,", second)
        self.view.line_above("a remark")
        self.written()
        third = self.show(90)
        self.assertNotIn("a=d", third)
        self.assertIn("a=T,f=100,t=d,i=6,", third)

    def test_grows(self) -> None:
        """A picture of which rows arrive is drawn a few times, in place of the one before."""
        for form, sequence in ((PictureForm.SIXEL, SIXEL), (PictureForm.KITTY, KITTY)):
            self.begin(form)
            pixels, have = np.full((400, 2600, 3), 255, np.uint8), np.zeros(400, bool)
            drawn = []
            for rows in range(0, 401, 10):
                have[:rows] = True
                self.view.show_picture(pixels, have)
                self.view.update(JobProgress(0, 1, rows, 400, 0, 0, (("a.jpg",),), 1))
                drawn += [each for each in sequence.findall(self.written()) if "a=d" not in each]
            self.assertEqual(len(drawn), STEPS)

    def test_off(self) -> None:
        """With pictures off, there is none."""
        self.begin(PictureForm.OFF)
        pixels, have = np.zeros((8, 8, 3), np.uint8), np.ones(8, bool)
        self.written()
        self.view.show_picture(pixels, have)
        self.assertEqual(self.show(8), "")
