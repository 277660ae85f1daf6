"""Tests of `p2pshare.classic.datagrams`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.datagrams import (
    ROW_PIXELS_MAX,
    ROWS_MAX,
    RowWanted,
    Size,
    Word,
    parse_from_requester,
    parse_row,
    parse_size,
    parse_word,
    row_datagrams,
    row_wanted_datagram,
    size_datagram,
    sum8,
)
from p2pshare.errors import RemoteProtocolError
from p2pshare.pictures.pixels import PIXELS_MAX, Pixels
from p2pshare.wire.datagrams import DATAGRAM_MAX
from tests.strategies import pictures

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
numbers = st.integers(0, 2**32 - 1)


def documented() -> dict[str, bytes]:
    """Return the vectors of the protocol document."""
    text = PROTOCOL.read_text().split("## Vectors")[1]
    rows = re.findall(r"^\| (.+?) \| `([0-9a-f ]+)` \|$", text, re.MULTILINE)
    return {what: bytes.fromhex(hexadecimal) for what, hexadecimal in rows}


class VectorTests(SynchronousTestCase):
    def test_code_makes_what_the_document_says(self) -> None:
        """The code makes every vector of the document, and the document has all of them."""
        made: dict[str, bytes] = {word.name: word.value for word in Word}
        made["SIZE of 1200 x 900"] = size_datagram(Size(1200, 900))
        made["SIZE of 2 x 1"] = size_datagram(Size(2, 1))
        coloured = np.array([[[255, 0, 0], [255, 255, 255]]], np.uint8)
        (made["ROW 0 of 2 pixels, red and white"],) = row_datagrams(coloured, np.array([0]))
        (made["ROW 258 of 1 pixel, black"],) = row_datagrams(
            np.zeros((259, 1, 3), np.uint8), np.array([258])
        )
        made["ROW WANTED 258"] = row_wanted_datagram(258)
        made["ROW WANTED 4294967295"] = row_wanted_datagram(2**32 - 1)
        self.assertEqual(documented(), made)


class RoundTripTests(SynchronousTestCase):
    @given(numbers, numbers)
    def test_size(self, width: int, height: int) -> None:
        """A SIZE is parsed to its values."""
        self.assertEqual(parse_size(size_datagram(Size(width, height))), Size(width, height))

    @given(numbers)
    def test_row_wanted(self, row: int) -> None:
        """A ROW WANTED is parsed to its row."""
        self.assertEqual(parse_from_requester(row_wanted_datagram(row)), RowWanted(row))

    @given(pictures())
    def test_rows(self, pixels: Pixels) -> None:
        """Every row is parsed to its number and its bytes."""
        height, width, _ = pixels.shape
        for number, data in enumerate(row_datagrams(pixels, np.arange(height))):
            row, content = parse_row(data, Size(width, height))
            self.assertEqual(row, number)
            self.assertEqual(content.tobytes(), pixels[number].tobytes())

    def test_widest_row(self) -> None:
        """The widest row fills a datagram but for a byte or two."""
        (data,) = row_datagrams(np.zeros((1, ROW_PIXELS_MAX, 3), np.uint8), np.array([0]))
        self.assertLessEqual(len(data), DATAGRAM_MAX)
        self.assertGreater(len(data) + 3, DATAGRAM_MAX)


class HostileInputTests(SynchronousTestCase):
    @given(st.binary(max_size=40))
    def test_anything_is_a_value_or_a_typed_error(self, data: bytes) -> None:
        """Random bytes raise only RemoteProtocolError, and every value survives a round trip."""
        self.assertIn(parse_word(data), [None, *Word])
        for parse in (parse_from_requester, parse_size, lambda d: parse_row(d, Size(2, 5))):
            try:
                parse(data)
            except RemoteProtocolError as error:
                self.assertIn("reason", error.fields)

    @given(pictures(rows_max=4), st.data())
    def test_any_changed_byte_is_noticed(self, pixels: Pixels, data: st.DataObject) -> None:
        """A datagram with one changed byte fails its checksum, or has another length."""
        height, width, _ = pixels.shape
        size = Size(width, height)
        row = data.draw(st.sampled_from(row_datagrams(pixels, np.arange(height))))
        for whole, parse in (
            (row, lambda d: parse_row(d, size)),
            (size_datagram(size), parse_size),
            (row_wanted_datagram(7), parse_from_requester),
        ):
            at = data.draw(st.integers(0, len(whole) - 1))
            damaged = bytearray(whole)
            damaged[at] ^= data.draw(st.integers(1, 255))
            self.assertRaises(RemoteProtocolError, parse, bytes(damaged))

    def test_row_outside_the_picture(self) -> None:
        """A row with a number outside the picture is rejected."""
        (data,) = row_datagrams(np.zeros((8, 2, 3), np.uint8), np.array([7]))
        self.assertRaises(RemoteProtocolError, parse_row, data, Size(2, 7))

    def test_words_of_the_other_side(self) -> None:
        """The words of a sharer are rejected from a requester."""
        for word in (Word.ACK, Word.ACK2, Word.IMG, Word.TXT):
            self.assertRaises(RemoteProtocolError, parse_from_requester, word.value)


class SizeTests(SynchronousTestCase):
    def test_fault(self) -> None:
        """Empty, too wide, too high and too large pictures are rejected with a reason; the largest one is accepted."""
        rows, pixels = PIXELS_MAX // 10_000, "pixels are accepted"
        for width, height, fault in (
            (0, 5, "empty"), (5, 0, "empty"), (0, 0, "empty"), (1, 1, None),
            (ROW_PIXELS_MAX, 1, None), (ROW_PIXELS_MAX + 1, 1, "a row has at most"),
            (1, ROWS_MAX, None), (1, ROWS_MAX + 1, "rows are accepted"),
            (10_000, rows, None), (10_000, rows + 1, pixels), (2**32 - 1, 2**32 - 1, "a row has at most"),
        ):  # fmt: skip
            found = Size(width, height).fault
            if fault is None:
                self.assertIsNone(found, (width, height))
            else:
                self.assertIn(fault, found or "")


class ChecksumTests(SynchronousTestCase):
    @given(st.binary(max_size=2000))
    def test_sum8_is_the_sum(self, data: bytes) -> None:
        """The checksum is the sum of the bytes, modulo 256."""
        self.assertEqual(sum8(data), sum(data) % 256)
