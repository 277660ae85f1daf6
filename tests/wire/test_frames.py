"""Tests for `p2pshare.wire.frames`."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import BLOCK_SIZE, FILE_SIZE_MAX
from p2pshare.wire.frames import (
    CONTROL_MAX,
    PIECE_MAX,
    ControlFrame,
    DataPiece,
    FrameDecoder,
    control_frame,
    data_head,
)
from tests.wire.sessions import pieces

Item = bytes | tuple[int, int, bytes]

ITEMS = st.lists(st.binary(min_size=1, max_size=40) | pieces(), max_size=6)
CUTS = st.lists(st.integers(0, 2**21), max_size=12)


def encoded(items: list[Item]) -> bytes:
    """Return the bytes of frames."""
    frames = [
        control_frame(each)
        if isinstance(each, bytes)
        else data_head(each[0], each[1], len(each[2])) + each[2]
        for each in items
    ]
    return b"".join(frames)


def decoded(chunks: list[bytes]) -> list[Item]:
    """Return the decoded frames, with the pieces of each frame joined."""
    decoder, items = FrameDecoder(), list[Item]()
    for chunk in chunks:
        for frame in decoder.receive_data(chunk):
            if isinstance(frame, ControlFrame):
                items.append(frame.body)
                continue
            last = items[-1] if items else b""
            if (
                isinstance(last, tuple)
                and (last[0], last[1] + len(last[2])) == (frame.transfer, frame.offset)
                and len(last[2]) + len(frame.data) <= PIECE_MAX
            ):
                items[-1] = (last[0], last[1], last[2] + bytes(frame.data))
            else:
                items.append((frame.transfer, frame.offset, bytes(frame.data)))
    return items


class FrameTests(SynchronousTestCase):
    @given(ITEMS, CUTS)
    def test_cut_anywhere(self, items: list[Item], cuts: list[int]) -> None:
        """Wherever the stream is cut, the same frames come."""
        stream = encoded(items)
        ends = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
        chunks = [stream[start:end] for start, end in pairwise(ends)]
        self.assertEqual(decoded(chunks), decoded([stream]))
        self.assertEqual(b"".join(chunks), stream)

    def test_byte_by_byte(self) -> None:
        """So they do byte by byte, and are those that were sent."""
        items: list[Item] = [b"{}", (7, 2**20, b"abc"), b"x", (8, 5, b"d")]
        stream = encoded(items)
        self.assertEqual(decoded([bytes([each]) for each in stream]), items)

    def test_no_copies(self) -> None:
        """A piece is a view of the bytes that arrived; the decoder keeps no bytes of a file."""
        data = encoded([(1, 0, b"x" * PIECE_MAX)])
        (piece,) = FrameDecoder().receive_data(data)
        assert isinstance(piece, DataPiece)
        self.assertIs(piece.data.obj, data)

    def test_bounds(self) -> None:
        """Threat 7: the largest frames pass; a length beyond is an error before anything of the frame is kept."""
        self.assertEqual(len(decoded([encoded([b"x" * CONTROL_MAX])])), 1)
        for head in (
            b"\x00\x00\x00\x00",
            b"\x00" + (CONTROL_MAX + 1).to_bytes(3, "big"),
            b"\x00\xff\xff\xff",
            b"\x01\x00\x00\x0c",
            b"\x01" + (PIECE_MAX + 13).to_bytes(3, "big"),
            b"\x01\xff\xff\xff",
            b"\x02\x00\x00\x01",
            b"GET ",
            b"\x16\x03\x01\x00",
        ):
            with self.assertRaises(RemoteProtocolError, msg=head.hex()):
                list(FrameDecoder().receive_data(head))

    def test_places(self) -> None:
        """Threat 7: a piece that leaves its block, or lies where no file can be, is an error."""
        for offset, length in (
            (BLOCK_SIZE - 1, 2),
            (FILE_SIZE_MAX, 1),
            (FILE_SIZE_MAX - 1, 2),
            (2**64 - 1, 1),
        ):
            with self.assertRaises(RemoteProtocolError, msg=str(offset)):
                list(FrameDecoder().receive_data(data_head(1, offset, length) + b"x"))
        whole = data_head(1, BLOCK_SIZE - PIECE_MAX, PIECE_MAX) + b"x"
        self.assertEqual(len(list(FrameDecoder().receive_data(whole))), 1)

    @given(st.lists(st.binary(max_size=64), max_size=8))
    def test_anything(self, chunks: list[bytes]) -> None:
        """Threat 6: any bytes are frames, the beginning of some, or an error."""
        try:
            items = decoded(chunks)
        except RemoteProtocolError:
            return
        self.assertLessEqual(len(encoded(items)), sum(map(len, chunks)))
