"""Tests of `p2pshare.pictures.reduced` and `jpeg_header`: small pictures of hostile files, at a bounded cost."""

from __future__ import annotations

import io
import random
import struct
import threading
import zlib

from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import PictureUnreadable
from p2pshare.pictures.jpeg_header import jpeg_scans, jpeg_size
from p2pshare.pictures.reduced import READS_MAX, SCANS_MAX, PixelRoom, read_small
from tests.pictures.test_decoding import encoded


def jpeg(width: int = 80, height: int = 60, **options: object) -> bytes:
    """Return a JPEG."""
    return encoded(Image.new("RGB", (width, height), "teal"), "JPEG", **options).getvalue()


def png_bomb(width: int, height: int) -> bytes:
    """Return a PNG of few bytes that announces this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    )


def many_scans(count: int) -> bytes:
    """Return a progressive JPEG whose last scan comes many times."""
    data = jpeg(progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + count * data[at:-2] + data[-2:]


class ReducedTests(SynchronousTestCase):
    """What is decoded, and what is not."""

    def refused(self, data: bytes) -> str:
        """Return why a file has no small picture."""
        return str(self.assertRaises(PictureUnreadable, read_small, io.BytesIO(data), 64))

    def test_orientations(self) -> None:
        """Each of the eight orientations of EXIF is undone."""
        upright = Image.new("RGB", (96, 64), "white")
        upright.paste("red", (0, 0, 48, 32))  # the upper left quarter
        corners = {
            2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }  # fmt: skip
        for orientation, stored in corners.items():
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = orientation
            small = read_small(encoded(upright.transpose(stored), "JPEG", exif=exif), 48)
            self.assertEqual(small.size, (48, 32), orientation)
            colours = [small.getpixel(at) for at in ((8, 8), (40, 8), (8, 28), (40, 28))]
            reds = [isinstance(each, tuple) and each[1] < 128 for each in colours]
            self.assertEqual(reds, [True, False, False, False], orientation)

    def test_modes(self) -> None:
        """Palettes, greys of 16 bits, print colours and transparent parts become RGB, white behind them."""
        clear = Image.new("RGBA", (100, 80), (200, 0, 0, 0))
        deep = Image.new("I;16", (100, 80), 0x8000)
        for image, format, colour in (
            (clear, "PNG", (255, 255, 255)),
            (clear, "WEBP", (255, 255, 255)),
            (clear, "GIF", (255, 255, 255)),
            (deep, "PNG", (128, 128, 128)),
            (Image.new("P", (100, 80), 0), "PNG", (0, 0, 0)),
            (Image.new("L", (100, 80), 7), "JPEG", (7, 7, 7)),
            (Image.new("CMYK", (100, 80), (0, 0, 0, 0)), "JPEG", (255, 255, 255)),
        ):
            small = read_small(encoded(image, format), 50)
            self.assertEqual((small.mode, small.size), ("RGB", (50, 40)))
            self.assertEqual(small.getpixel((5, 5)), colour, (image.mode, format))

    def test_embedded_thumbnail(self) -> None:
        """Threat 122: the thumbnail within a file is not looked at: it need not show the picture."""
        data, lie = jpeg(), encoded(Image.new("RGB", (160, 120), "red"), "JPEG").getvalue()
        exif = b"Exif\0\0" + lie
        segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        small = read_small(io.BytesIO(data[:2] + segment + data[2:]), 64)
        pixel = small.getpixel((3, 3))
        assert isinstance(pixel, tuple)
        self.assertLess(pixel[0], 20, "teal, not red")

    def test_bombs(self) -> None:
        """Threats 8 and 122: sizes beyond the limit, endless scans, cut and foreign files are refused at once."""
        for size in ((60_000, 60_000), (50_000_001, 1), (2**31 - 1, 2**31 - 1)):
            self.assertIn("pixels", self.refused(png_bomb(*size)))
        self.assertIn("parts", self.refused(many_scans(SCANS_MAX)))
        read_small(io.BytesIO(many_scans(20)), 64)
        whole = jpeg(800, 600)
        for cut in (3, 100, len(whole) // 2, len(whole) - 40):
            self.refused(whole[:cut])
        parts = encoded(Image.new("P", (10, 10)), "GIF").getvalue()
        parts = parts[:13] + b"!\xf9\x04\0\0\0\0\0" * READS_MAX + parts[13:]
        self.assertIn("too many parts", self.refused(parts))
        svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
        bmp = encoded(Image.new("RGB", (10, 10)), "BMP").getvalue()
        for data in (b"", svg, bmp, b"%PDF-1.4", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 "):
            self.refused(data)

    @given(st.integers(0, 2**32), st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]))
    def test_damaged(self, seed: int, format: str) -> None:
        """Threat 122: a damaged file gives a picture or the one error, never another one."""
        rng = random.Random(seed)
        data = bytearray(encoded(Image.effect_noise((60, 40), 50), format).getvalue())
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            small = read_small(io.BytesIO(bytes(data)), 64, pixel_limit=100_000)
        except PictureUnreadable:
            return
        self.assertLessEqual(max(small.size), 64)

    def test_room(self) -> None:
        """Pictures are decoded at once as far as their pixels fit; a large one waits until it is alone."""
        room, held, most = PixelRoom(100), list[int](), list[int]()

        def decode(pixels: int) -> None:
            with room.hold(pixels):
                held.append(pixels)
                most.append(sum(held))
                held.remove(pixels)

        threads = [threading.Thread(target=decode, args=(each,)) for each in (1000, 60, 50, 40, 1)]
        with room.hold(60), room.hold(40):
            for each in threads:
                each.start()
            self.assertEqual(most, [])
        for each in threads:
            each.join()
        self.assertEqual(len(most), len(threads))
        self.assertLessEqual(max(each for each in most if each != 1000), 100)


class HeaderTests(SynchronousTestCase):
    """JPEG headers."""

    def test_size(self) -> None:
        """The size is that of the frame; what browsers would not decode has none."""
        for data in (
            jpeg(80, 60),
            jpeg(80, 60, progressive=True),
            jpeg(80, 60, comment=b"\xff\xc0"),
        ):
            self.assertEqual(jpeg_size(data), (80, 60))
        self.assertEqual(jpeg_size(encoded(Image.new("L", (9, 5)), "JPEG").getvalue()), (9, 5))
        whole = jpeg()
        at = whole.index(b"\xff\xc0")
        for data in (
            b"",
            b"<html>",
            b"GIF89a",
            whole[:-2],
            whole[:at] + whole[at + 19 :],
            whole[:at] + whole[at : at + 19] * 2 + whole[at + 19 :],
            whole.replace(b"\xff\xc0", b"\xff\xc9"),
            encoded(Image.new("CMYK", (9, 5)), "JPEG").getvalue(),
            b"\xff\xd8\xff\xe0\xff\xff\xff\xd9",
        ):
            self.assertIsNone(jpeg_size(data), data[:20])

    @given(st.binary(max_size=60))
    def test_anything(self, data: bytes) -> None:
        """Threat 122: any bytes have a size or none, and a bounded number of scans."""
        for each in (data, b"\xff\xd8" + data + b"\xff\xd9"):
            size = jpeg_size(each)
            self.assertTrue(size is None or min(size) > 0)
            self.assertLessEqual(jpeg_scans(each, 5), 6)

    def test_scans(self) -> None:
        """All scans are counted that a decoder goes over, whatever lies between them."""
        self.assertEqual(jpeg_scans(jpeg(), 99), 1)
        progressive = jpeg(progressive=True)
        scans = progressive.count(b"\xff\xda")
        self.assertEqual(jpeg_scans(progressive, 99), scans)
        self.assertEqual(jpeg_scans(many_scans(200), 99), 100)
        self.assertEqual(jpeg_scans(progressive.replace(b"\xff\xda", b"??\xff\xff\xda"), 99), scans)
        self.assertEqual(jpeg_scans(jpeg() + many_scans(200), 99), 1, "behind the end")
