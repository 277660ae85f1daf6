"""Tests for `p2pshare.pictures.thumbnails`."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import PictureUnreadable
from p2pshare.pictures.decoding import read_picture
from p2pshare.pictures.thumbnails import THUMBNAIL_MAX, make_thumbnails
from tests.pictures.test_decoding import encoded, noise


def make_thumbnail(file: BinaryIO, edge: int, **limits: Any) -> bytes:
    """Return the thumbnail with one edge."""
    return make_thumbnails(file, (edge,), **limits)[edge]


class ThumbnailTests(SynchronousTestCase):
    """A thumbnail is small, similar, and nothing but pixels."""

    def sizes(self, width: int, height: int, edge: int) -> tuple[int, int]:
        """Return the width and height of the thumbnail of a picture."""
        file = encoded(Image.new("RGB", (width, height), "teal"))
        with Image.open(io.BytesIO(make_thumbnail(file, edge))) as image:
            self.assertEqual(image.format, "JPEG")
            return image.size

    def test_sizes(self) -> None:
        """The longest edge has the wanted number of pixels; small pictures keep theirs."""
        self.assertEqual(self.sizes(640, 480, 64), (64, 48))
        self.assertEqual(self.sizes(480, 640, 64), (48, 64))
        self.assertEqual(self.sizes(10, 6, 64), (10, 6))
        self.assertEqual(self.sizes(4000, 1, 64), (64, 1))

    def test_similar(self) -> None:
        """Its colours are those of the picture, in all formats."""
        halves = np.zeros((600, 800, 3), np.uint8)
        halves[:, :400] = (200, 40, 40)
        halves[:, 400:] = (40, 40, 200)
        for format in ("JPEG", "PNG", "WEBP"):
            file = encoded(Image.fromarray(halves), format)
            pixels = read_picture(io.BytesIO(make_thumbnail(file, 64))).astype(int)
            self.assertEqual(pixels.shape, (48, 64, 3))
            self.assertLess(abs(pixels[24, 16] - (200, 40, 40)).max(), 12)
            self.assertLess(abs(pixels[24, 48] - (40, 40, 200)).max(), 12)

    def test_bytes(self) -> None:
        """Even noise, which compresses worst, fits into the bound."""
        file = encoded(Image.fromarray(noise(1500, 1500)), "PNG")
        self.assertLessEqual(len(make_thumbnail(file, 1024)), THUMBNAIL_MAX)

    def test_stripped(self) -> None:
        """No metadata of the picture is in it, and it is upright."""
        image = Image.new("RGB", (400, 300), "teal")
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        exif[ExifTags.Base.Artist] = "Somebody Secret"
        exif[ExifTags.Base.ImageDescription] = "48.8584 N, 2.2945 E"
        file = encoded(
            image, "JPEG", exif=exif, comment=b"Secret comment", icc_profile=b"Secret!" * 9
        )
        small = make_thumbnail(file, 64)
        for secret in (b"Secret", b"48.8584", b"Exif"):
            self.assertIn(secret, file.getvalue())
            self.assertNotIn(secret, small)
        with Image.open(io.BytesIO(small)) as opened:
            self.assertEqual(opened.size, (48, 64))
            self.assertEqual(dict(opened.getexif()), {})

    def test_no_picture(self) -> None:
        """Threat 8: other files, other formats and pictures that are too large have none."""
        bmp = encoded(Image.new("RGB", (10, 10)), "BMP")
        for file in (io.BytesIO(b"hello"), io.BytesIO(), bmp):
            self.assertRaises(PictureUnreadable, make_thumbnail, file, 64)
        large = encoded(Image.new("L", (200, 100)))
        self.assertRaises(PictureUnreadable, make_thumbnail, large, 64, pixel_limit=19_999)
