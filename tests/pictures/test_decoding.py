"""Tests for `p2pshare.pictures.decoding`."""

from __future__ import annotations

import errno
import io
import os
import random
import zlib
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import PictureUnreadable
from p2pshare.pictures import decoding
from p2pshare.pictures.decoding import fit_width, read_picture
from p2pshare.pictures.pixels import PIXELS_MAX, Pixels
from tests import examples


def noise(height: int, width: int, channels: int = 3) -> Pixels:
    """Return pixels without a pattern, always the same."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


class ReadPictureTests(SynchronousTestCase):
    def assert_reads(self, file: io.BytesIO, expected: object) -> None:
        pixels = read_picture(file)
        self.assertEqual((pixels.dtype, pixels.ndim), (np.uint8, 3))
        self.assertTrue(pixels.flags.c_contiguous)
        np.testing.assert_array_equal(pixels, np.asarray(expected))

    def test_rgb(self) -> None:
        """The pixels of a lossless picture are unchanged."""
        pixels = noise(30, 20)
        for format in ("PNG", "WEBP"):
            file = encoded(Image.fromarray(pixels), format, lossless=True)
            self.assert_reads(file, pixels)
            self.assertFalse(file.closed)

    def test_jpeg(self) -> None:
        """A JPEG is decoded as Pillow decodes it."""
        file = encoded(Image.fromarray(noise(30, 20)), "JPEG")
        self.assert_reads(file, Image.open(io.BytesIO(file.getvalue())))

    def test_strips(self) -> None:
        """A picture that is converted in several strips is complete."""
        self.patch(decoding, "STRIP_PIXELS", 100)
        pixels = noise(31, 20)
        self.assert_reads(encoded(Image.fromarray(pixels)), pixels)
        self.patch(decoding, "STRIP_PIXELS", 1)
        self.assert_reads(encoded(Image.fromarray(pixels)), pixels)

    def test_grey(self) -> None:
        """Grey becomes equal parts of red, green and blue."""
        grey = noise(5, 4, 1)
        self.assert_reads(encoded(Image.fromarray(grey)), np.dstack([grey] * 3))

    def test_one_bit(self) -> None:
        """A picture of one bit is black and white, not nearly so."""
        bits = noise(5, 9, 1) > 127
        expected = np.dstack([bits * np.uint8(255)] * 3)
        self.assert_reads(encoded(Image.fromarray(bits)), expected)

    def test_deep_grey(self) -> None:
        """16 bits of grey are scaled to 8, not clipped at 255."""
        deep = np.array([[0, 255, 256, 0x7FFF], [0x8000, 0xFEFF, 0xFF00, 0xFFFF]], np.uint16)
        expected = np.dstack([(deep >> 8).astype(np.uint8)] * 3)
        self.assert_reads(encoded(Image.fromarray(deep)), expected)

    def test_deep_grey_with_transparent_value(self) -> None:
        """The grey value that a 16-bit PNG calls transparent is white."""
        deep = np.array([[0x1234, 0x1235]], np.uint16)
        file = encoded(Image.fromarray(deep), transparency=0x1234)
        self.assert_reads(file, [[[255] * 3, [0x12] * 3]])

    def test_palette(self) -> None:
        """Palette colours are looked up; a transparent one is white."""
        image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
        image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        self.assert_reads(encoded(image), [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]])
        file = encoded(image, transparency=1)
        self.assert_reads(file, [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]])
        file = encoded(image, transparency=bytes([255, 0, 255]))
        self.assert_reads(file, [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]])

    def test_alpha(self) -> None:
        """White shows behind transparent pixels."""
        rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
        expected = [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]
        for format in ("PNG", "WEBP"):
            file = encoded(Image.fromarray(rgba), format, lossless=True, exact=True)
            self.assert_reads(file, expected)
        grey_alpha = Image.fromarray(np.array([[[7, 255], [7, 0]]], np.uint8), "LA")
        self.assert_reads(encoded(grey_alpha), [[[7, 7, 7], [255, 255, 255]]])
        keyed = encoded(Image.fromarray(rgba[:, :, :3]), transparency=(10, 20, 30))
        self.assert_reads(keyed, [[[255] * 3, [255] * 3, [0] * 3]])

    def test_cmyk(self) -> None:
        """The four inks of a JPEG become colours; no ink is white."""
        self.assert_reads(encoded(Image.new("CMYK", (8, 8)), "JPEG"), np.full((8, 8, 3), 255))

    def test_orientation(self) -> None:
        """Each of the eight EXIF orientations is turned upright."""
        for orientation in range(10):
            with self.subTest(orientation=orientation):
                exif = Image.Exif()
                exif[ExifTags.Base.Orientation] = orientation
                file = encoded(Image.fromarray(noise(8, 16)), exif=exif)
                upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue())))
                self.assert_reads(file, upright)

    def test_first_of_many(self) -> None:
        """The first frame of an animation is the picture."""
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        for format, options in (("WEBP", {"lossless": True}), ("GIF", {})):
            file = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
            self.assert_reads(file, frames[0])


class UnreadableTests(SynchronousTestCase):
    def assert_unreadable(self, data: bytes, sentence: str, pixel_limit: int = PIXELS_MAX) -> None:
        with self.assertRaisesRegex(PictureUnreadable, sentence):
            read_picture(io.BytesIO(data), pixel_limit=pixel_limit)

    def test_other_formats(self) -> None:
        """A format that is not on the list is not tried (threat 8)."""
        image = Image.new("RGB", (4, 4))
        for format in ("BMP", "AVIF", "TIFF", "PPM", "ICO"):
            with self.subTest(format=format):
                self.assert_unreadable(
                    encoded(image, format).getvalue(), "no JPEG, PNG, WebP or GIF"
                )
        self.assert_unreadable(b"", "no JPEG, PNG, WebP or GIF")
        self.assert_unreadable(b"%!PS-Adobe-3.0 EPSF-3.0\n", "no JPEG, PNG, WebP or GIF")

    def test_pixel_limit(self) -> None:
        """One pixel above the limit is rejected."""
        data = encoded(Image.new("RGB", (10, 10))).getvalue()
        self.assertEqual(read_picture(io.BytesIO(data), pixel_limit=100).shape, (10, 10, 3))
        self.assert_unreadable(data, "more than 99 pixels", pixel_limit=99)

    def test_bomb(self) -> None:
        """A small file that announces a huge picture is rejected before memory is taken (threat 8)."""
        small = encoded(Image.new("1", (1, 1))).getvalue()
        for side in (9_000, 12_000, 60_000, 2**31 - 1):
            header = b"IHDR" + side.to_bytes(4, "big") * 2 + b"\x01\x00\x00\x00\x00"
            chunk = header + crc_of(header)
            with self.subTest(side=side):
                self.assert_unreadable(small[:12] + chunk + small[33:], "more than 50000000 pixels")
        self.flushWarnings()  # trial hears Pillow's remark before our filter does

    def test_cut_short(self) -> None:
        """A truncated file is unreadable, not half a picture."""
        for format in ("PNG", "JPEG", "WEBP"):
            data = encoded(Image.fromarray(noise(40, 40)), format).getvalue()
            for size in range(16, len(data) - 64, len(data) // 20):
                with self.subTest(format=format, size=size):
                    self.assert_unreadable(data[:size], "picture: ")

    @settings(max_examples=examples(200))
    @given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.randoms(use_true_random=False))
    def test_damaged(self, format: str, rng: random.Random) -> None:
        """A file with changed bytes is a picture or unreadable."""
        self.addCleanup(self.flushWarnings)  # trial hears Pillow's remarks before our filter does
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        image = Image.fromarray(noise(12, 12)).convert(rng.choice(["RGB", "L"]))
        data = bytearray(encoded(image, format, exif=exif).getvalue())
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            pixels = read_picture(io.BytesIO(data))
        except PictureUnreadable:
            return
        self.assertEqual((pixels.dtype, pixels.shape[2]), (np.uint8, 3))

    @settings(max_examples=examples(200))
    @given(
        st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBPVP8 "]),
        st.binary(max_size=200),
    )
    def test_any_bytes(self, magic: bytes, data: bytes) -> None:
        """Any bytes are a picture or unreadable."""
        with self.assertRaises(PictureUnreadable):
            read_picture(io.BytesIO(magic + data))

    def test_disk_error(self) -> None:
        """A disk error is not reported as a damaged picture."""

        class BadDisk(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        with self.assertRaisesRegex(PictureUnreadable, os.strerror(errno.EIO)):
            read_picture(BadDisk())

    def test_name(self) -> None:
        """The error names the picture."""
        name = "my_file.png"
        error = self.assertRaises(PictureUnreadable, read_picture, io.BytesIO(), name=name)
        self.assertEqual(error.fields["path"], name)


class FitWidthTests(SynchronousTestCase):
    def test_narrow_stays(self) -> None:
        """A picture that fits is not copied."""
        pixels = noise(4, 10)
        self.assertIs(fit_width(pixels, 10), pixels)

    def test_keeps_shape(self) -> None:
        """A wide picture keeps its aspect ratio, its colours and at least one row."""
        for height, width, width_max, expected in (
            (300, 400, 100, (75, 100, 3)),
            (3, 4000, 1363, (1, 1363, 3)),
            (1, 50, 1, (1, 1, 3)),
        ):
            pixels = np.full((height, width, 3), (10, 200, 30), np.uint8)
            fitted = fit_width(pixels, width_max)
            self.assertEqual((fitted.shape, fitted.dtype), (expected, np.uint8))
            self.assertTrue(fitted.flags.c_contiguous)
            self.assertEqual(fitted.reshape(-1, 3).max(0).tolist(), [10, 200, 30])


def crc_of(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")
