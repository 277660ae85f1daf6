"""Tests for `p2pshare.pictures.encoding`."""

from __future__ import annotations

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import CannotSave, WrongUsage
from p2pshare.pictures.encoding import (
    WEBP_SIDE_MAX,
    check_picture_name,
    format_of,
    write_picture,
)
from p2pshare.pictures.pixels import Pixels
from tests import examples


def read_back(file: io.BytesIO) -> Pixels:
    with Image.open(file) as image:
        return np.array(image)


class WritePictureTests(SynchronousTestCase):
    @settings(max_examples=examples(60))
    @given(
        st.sampled_from(["PNG", "WEBP", "BMP", "TIFF", "PPM"]),
        st.integers(1, 90),
        st.integers(1, 90),
        st.integers(0, 2**32 - 1),
        st.sampled_from([1, 2, 256]),
    )
    def test_exact(self, format: str, height: int, width: int, seed: int, levels: int) -> None:
        """Every format keeps every pixel, of noise and of flat pictures."""
        pixels = np.random.default_rng(seed).integers(0, levels, (height, width, 3), np.uint8)
        file = io.BytesIO()
        write_picture(pixels, file, format)
        np.testing.assert_array_equal(read_back(file), pixels)

    def test_read_only_view(self) -> None:
        """Views and read-only pixels are written correctly."""
        pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)[::2, ::2]
        pixels.flags.writeable = False
        file = io.BytesIO()
        write_picture(pixels, file)
        np.testing.assert_array_equal(read_back(file), pixels)

    def test_small(self) -> None:
        """A PNG of a flat picture is a small file."""
        file = io.BytesIO()
        write_picture(np.zeros((900, 1200, 3), np.uint8), file)
        self.assertLess(len(file.getvalue()), 1200 * 900 * 3 // 100)

    def test_too_large_for_webp(self) -> None:
        """A picture that is too large for a format gives an error that names another format."""
        pixels = np.zeros((1, WEBP_SIDE_MAX + 1, 3), np.uint8)
        with self.assertRaisesRegex(CannotSave, "16384 x 1 pixels cannot be written.*png"):
            write_picture(pixels, io.BytesIO(), "WEBP")
        write_picture(pixels[:, 1:], io.BytesIO(), "WEBP")


class PictureNameTests(SynchronousTestCase):
    def test_names(self) -> None:
        """A suffix of a lossless format stays; none means PNG."""
        for name, (checked, format) in {
            "a.png": ("a.png", "PNG"),
            "A.PNG": ("A.PNG", "PNG"),
            "a.webp": ("a.webp", "WEBP"),
            "a.bmp": ("a.bmp", "BMP"),
            "a.tif": ("a.tif", "TIFF"),
            "a.TIFF": ("a.TIFF", "TIFF"),
            "a.ppm": ("a.ppm", "PPM"),
            "a": ("a.png", "PNG"),
            ".a": (".a.png", "PNG"),
            "a.jpg.png": ("a.jpg.png", "PNG"),
        }.items():
            with self.subTest(name=name):
                self.assertEqual(check_picture_name(name), checked)
                self.assertEqual(format_of(checked), format)

    def test_lossy(self) -> None:
        """A lossy format is rejected with the reason and an alternative."""
        for name in ("a.jpg", "a.JPEG", "a.gif"):
            with self.assertRaisesRegex(
                WrongUsage,
                r"(JPEG|GIF) does not keep the pixels exactly: save the picture as 'a\.png'",
            ):
                check_picture_name(name)

    def test_unknown(self) -> None:
        """An unknown suffix is rejected."""
        for name in ("a.txt", "v1.2", "a.png.part"):
            with self.assertRaisesRegex(
                WrongUsage, "is not a lossless picture format.*with one of .bmp"
            ):
                check_picture_name(name)
