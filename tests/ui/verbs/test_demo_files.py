"""Tests of `p2pshare.ui.verbs.demo_files`."""

from __future__ import annotations

import hashlib
import io

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.pictures.decoding import read_picture
from p2pshare.ui.verbs.demo_files import (
    HEIGHT,
    TEXT_LINES,
    TEXT_SHA256,
    WIDTH,
    sample_text,
    write_sample_picture,
)


class SamplesTests(SynchronousTestCase):
    def test_text(self) -> None:
        """The text has the known hash and number of lines."""
        text = sample_text()
        self.assertEqual(hashlib.sha256(text).hexdigest(), TEXT_SHA256)
        self.assertEqual(text.count(b"\n"), TEXT_LINES)

    def test_picture(self) -> None:
        """The picture can be shared, and has more than one colour."""
        file = io.BytesIO()
        write_sample_picture(file)
        pixels = read_picture(file)
        self.assertEqual(pixels.shape, (HEIGHT, WIDTH, 3))
        self.assertGreater(pixels.std(axis=(0, 1)).min(), 15)
