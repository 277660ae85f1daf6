"""Tests of `p2pshare.pictures.kitty`, which read the sequences as a terminal does."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.pictures.decoding import read_picture
from p2pshare.pictures.kitty import (
    KITTY_PIXELS_MAX,
    PIECE,
    delete_kitty,
    encode_kitty,
    place_kitty,
)
from p2pshare.pictures.pixels import Pixels

COMMAND = re.compile(r"\x1b_G([^;\x1b]*)(?:;([^\x1b]*))?\x1b\\")


def decode(text: str) -> tuple[dict[str, str], Pixels]:
    """Return the keys of a picture and its pixels; anything else in `text` is an error."""
    keys: dict[str, str] = {}
    data = ""
    assert not COMMAND.sub("", text)
    for number, match in enumerate(COMMAND.finditer(text)):
        given = dict(each.split("=") for each in match[1].split(","))
        assert len(match[2]) <= PIECE and (given["m"] == "0" or len(match[2]) % 4 == 0)
        assert number == 0 or set(given) == {"q", "m"}
        keys = keys or given
        data += match[2]
        if given["m"] == "0":
            assert match.end() == len(text)
    return keys, read_picture(io.BytesIO(base64.b64decode(data, validate=True)))


class KittyTests(SynchronousTestCase):
    def test_pieces(self) -> None:
        """A picture is sent exactly, in pieces; the cursor stays, and no answer is wanted."""
        pixels = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
        pieces = encode_kitty(pixels)
        self.assertGreater(len(pieces), 5)
        keys, shown = decode(place_kitty(pieces, 77, (12, 5)))
        self.assertTrue(np.array_equal(shown, pixels))
        wanted = {"a": "T", "f": "100", "i": "77", "c": "12", "r": "5", "C": "1", "q": "2"}
        self.assertEqual(wanted.items() - keys.items(), set())
        self.assertNotIn("c", decode(place_kitty(pieces, 77, None))[0])

    def test_small(self) -> None:
        """A picture of one pixel is one piece."""
        keys, shown = decode(place_kitty(encode_kitty(np.zeros((1, 1, 3), np.uint8)), 1, None))
        self.assertEqual((keys["m"], shown.shape), ("0", (1, 1, 3)))

    def test_delete(self) -> None:
        """A deletion names one picture, whose memory is freed, too."""
        self.assertEqual(delete_kitty(9), "\x1b_Ga=d,d=I,i=9,q=2\x1b\\")

    def test_bound(self) -> None:
        """A picture that is too large, or empty, is rejected before it is encoded."""
        for shape in ((1, KITTY_PIXELS_MAX + 1, 3), (5, 0, 3)):
            with self.assertRaises(ValueError):
                encode_kitty(np.zeros(shape, np.uint8))
