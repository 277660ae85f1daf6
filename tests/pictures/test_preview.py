"""Tests for `p2pshare.pictures.preview`."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.pictures.preview import Preview
from tests import examples

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def cells(line: str) -> str:
    return ESCAPE.sub("", line)


class PreviewTests(SynchronousTestCase):
    def test_two_pixels_to_a_cell(self) -> None:
        """A small picture is shown pixel by pixel; the upper pixels are the foreground."""
        pixels = np.array([[[1, 2, 3], [1, 2, 3]], [[4, 5, 6], [7, 8, 9]]], np.uint8)
        preview = Preview(2, 2, columns=80, lines=24)
        self.assertEqual((preview.columns, preview.lines), (2, 1))
        self.assertEqual(
            preview.render_line(pixels, np.ones(2, bool), 0, true_colour=True),
            "\x1b[38;2;1;2;3m\x1b[48;2;4;5;6m▀\x1b[38;2;1;2;3m\x1b[48;2;7;8;9m▀\x1b[0m",
        )

    def test_indexed_colours(self) -> None:
        """With 256 colours the nearest colour of the cube is used."""
        pixels = np.array([[[0, 0, 0]], [[250, 100, 94]]], np.uint8)
        line = Preview(1, 2, 80, 24).render_line(pixels, np.ones(2, bool), 0, true_colour=False)
        self.assertEqual(line, "\x1b[38;5;16m\x1b[48;5;203m▀\x1b[0m")

    def test_equal_neighbours(self) -> None:
        """Neighbouring cells of one colour share one escape sequence."""
        pixels = np.zeros((2, 50, 3), np.uint8)
        line = Preview(50, 2, 80, 24).render_line(pixels, np.ones(2, bool), 0, true_colour=True)
        self.assertEqual(len(ESCAPE.findall(line)), 3)
        self.assertEqual(cells(line), "▀" * 50)

    def test_missing_rows(self) -> None:
        """Missing rows are blank, whatever the buffer contains."""
        pixels = np.full((2, 3, 3), 99, np.uint8)
        preview = Preview(3, 2, 80, 24)
        for have, shown, colour in (
            ([True, False], "▀▀▀", "38"),
            ([False, True], "▄▄▄", "38"),
            ([False, False], "   ", None),
        ):
            line = preview.render_line(pixels, np.array(have), 0, true_colour=True)
            self.assertEqual(cells(line), shown)
            self.assertEqual("\x1b[38" in line, colour is not None)
            self.assertNotIn("\x1b[48", line)
            self.assertFalse(preview.is_ready(np.array(have), 0))
        self.assertTrue(preview.is_ready(np.array([True, True]), 0))

    def test_missing_rows_do_not_count(self) -> None:
        """The colour of a cell is the mean of the rows that have arrived."""
        pixels = np.zeros((8, 1, 3), np.uint8)
        pixels[0], pixels[1] = 100, 200
        have = np.zeros(8, bool)
        have[:2] = True
        line = Preview(1, 8, 80, 1).render_line(pixels, have, 0, true_colour=True)
        self.assertIn("\x1b[38;2;150;150;150m", line)

    def test_shape(self) -> None:
        """A large picture is scaled to its cells with its aspect ratio; a small one is not enlarged."""
        for size, columns, lines in (
            ((1200, 900), 64, 24),
            ((4000, 3000), 64, 24),
            ((900, 1200), 36, 24),
            ((100, 1), 80, 1),
            ((1, 100), 1, 24),
            ((20000, 1), 80, 1),
            ((3, 3), 3, 2),
        ):
            preview = Preview(*size, columns=80, lines=24)
            self.assertEqual((preview.columns, preview.lines), (columns, lines), size)

    @settings(max_examples=examples(60))
    @given(
        *[st.integers(1, 300)] * 2,
        *[st.integers(1, 90)] * 2,
        st.booleans(),
        st.integers(0, 2**32 - 1),
    )
    def test_any_picture(
        self, width: int, height: int, columns: int, lines: int, true_colour: bool, seed: int
    ) -> None:
        """Any picture, in any state, fills exactly its cells."""
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        have = rng.random(height) < rng.random()
        preview = Preview(width, height, columns, lines)
        self.assertLessEqual(preview.columns, columns)
        self.assertLessEqual(preview.lines, lines)
        for line in range(preview.lines):
            drawn = cells(preview.render_line(pixels, have, line, true_colour=true_colour))
            self.assertRegex(drawn, f"^[ ▀▄]{{{preview.columns}}}$")
