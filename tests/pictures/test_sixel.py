"""Tests of `p2pshare.pictures.sixel`, which read the sequence as a terminal does."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.pictures.pixels import Pixels
from p2pshare.pictures.sixel import COLOURS_MAX, SIXEL_PIXELS_MAX, encode_sixel
from tests import examples

TOKEN = re.compile(
    r'"1;1;(?P<width>\d+);(?P<height>\d+)|#(?P<number>\d+);2;(?P<colour>[\d;]+)|#(?P<use>\d+)'
    r"|!(?P<count>\d+)(?P<again>[?-~])|(?P<one>[?-~])|(?P<move>[$-])"
)


def decode(sequence: str) -> tuple[Pixels, int]:
    """Return the picture that a terminal draws, and the number of colours; undrawn pixels are an error."""
    assert sequence.startswith("\x1bP0;1q") and sequence.endswith("\x1b\\")
    body, end = sequence[6:-2], 0
    palette: dict[int, list[int]] = {}
    canvas = np.full((1, 1, 3), -1, np.int64)
    width = height = colour = column = band = 0
    for match in TOKEN.finditer(body):
        assert match.start() == end, body[end : match.start()]
        end = match.end()
        if match["width"]:
            width, height = int(match["width"]), int(match["height"])
            canvas = np.full((height + 6, width, 3), -1, np.int64)
        elif match["number"]:
            palette[int(match["number"])] = [
                round(int(p) * 2.55) for p in match["colour"].split(";")
            ]
        elif match["use"]:
            colour = int(match["use"])
        elif match["move"]:
            column, band = 0, band + (match["move"] == "-")
        else:
            count = int(match["count"] or 1)
            bits = ord(match["again"] or match["one"]) - ord("?")
            for bit in range(6):
                if bits >> bit & 1:
                    canvas[6 * band + bit, column : column + count] = palette[colour]
            column += count
            assert column <= width
    assert end == len(body)
    assert (canvas[height:] == -1).all() and (canvas[:height] >= 0).all()
    return canvas[:height].astype(np.uint8), len(palette)


class SixelTests(SynchronousTestCase):
    @settings(max_examples=examples(20))
    @given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**32 - 1))
    def test_few_colours(self, width: int, height: int, seed: int) -> None:
        """A picture of a few colours is drawn as it is, but for the rounding of colours to percents."""
        rng = np.random.default_rng(seed)
        colours = rng.integers(0, 256, (4, 3), np.uint8)
        pixels = colours[rng.integers(0, 4, (height, width))]
        drawn, _ = decode(encode_sixel(pixels))
        self.assertEqual(drawn.shape, pixels.shape)
        self.assertLessEqual(np.abs(drawn.astype(int) - pixels).max(), 3)

    def test_many_colours(self) -> None:
        """A photo is drawn in 256 colours, similar to it on average."""
        down, across = np.mgrid[0:100, 0:130]
        pixels = np.stack((down * 2, across, 255 - down - across), 2).clip(0, 255).astype(np.uint8)
        drawn, colours = decode(encode_sixel(pixels))
        self.assertLessEqual(colours, COLOURS_MAX)
        self.assertLess(np.abs(drawn.astype(int) - pixels).mean(), 8)

    def test_runs(self) -> None:
        """An even picture takes a few bytes."""
        self.assertLess(len(encode_sixel(np.full((60, 800, 3), 7, np.uint8))), 500)

    def test_bound(self) -> None:
        """A picture that is too large, or empty, is rejected before it is encoded."""
        for shape in ((1, SIXEL_PIXELS_MAX + 1, 3), (0, 5, 3)):
            with self.assertRaises(ValueError):
                encode_sixel(np.zeros(shape, np.uint8))
