"""Tests for `p2pshare.pictures.png`."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.pictures import png
from p2pshare.pictures.png import write_png


class WritePngTests(SynchronousTestCase):
    @settings(max_examples=60)
    @given(
        st.integers(1, 90),
        st.integers(1, 90),
        st.integers(1, 2000),
        st.integers(0, 2**32 - 1),
        st.sampled_from([1, 2, 256]),
    )
    def test_exact(self, height: int, width: int, strip: int, seed: int, levels: int) -> None:
        """However it is cut into strips, an independent decoder reads every pixel back."""
        pixels = np.random.default_rng(seed).integers(0, levels, (height, width, 3), np.uint8)
        patch = self.patch(png, "STRIP_SIZE", strip)
        file = io.BytesIO()
        write_png(pixels, file)
        patch.restore()
        with Image.open(file) as image:
            image.verify()  # every checksum
        with Image.open(file) as image:
            self.assertEqual((image.format, image.mode), ("PNG", "RGB"))
            np.testing.assert_array_equal(np.asarray(image), pixels)

    def test_small(self) -> None:
        """A flat picture becomes a small file."""
        file = io.BytesIO()
        write_png(np.zeros((900, 1200, 3), np.uint8), file)
        self.assertLess(len(file.getvalue()), 1200 * 900 * 3 // 100)
