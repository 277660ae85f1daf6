"""Frames of a session's stream: control messages, and pieces of files.

::

    control  0x00 | length (3 bytes) | JSON
    data     0x01 | length (3 bytes) | transfer (4 bytes) | offset (8 bytes) | bytes of the file

All numbers are big-endian; `length` counts the bytes after it. A piece of a file lies within one block.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import BLOCK_SIZE, FILE_SIZE_MAX

CONTROL = 0
DATA = 1
CONTROL_MAX = 256 * 1024  # bytes of a control message
PIECE_MAX = 256 * 1024  # bytes of a file in one frame
TRANSFER_MAX = 2**32 - 1

_HEAD = struct.Struct(">I")
_DATA_HEAD = struct.Struct(">IIQ")
_PLACE = struct.Struct(">IQ")


@dataclass(frozen=True, slots=True)
class ControlFrame:
    """A control message that has arrived."""

    body: bytes


@dataclass(frozen=True, slots=True)
class DataPiece:
    """Bytes of a file that have arrived; they may be a part of a frame."""

    transfer: int
    offset: int
    """Position of the first byte within the file."""
    data: memoryview
    """Valid until the next call of the decoder."""


Frame = ControlFrame | DataPiece


def control_frame(body: bytes) -> bytes:
    """Return the frame of a control message."""
    assert len(body) <= CONTROL_MAX
    return _HEAD.pack(CONTROL << 24 | len(body)) + body


def data_head(transfer: int, offset: int, length: int) -> bytes:
    """Return the head of a frame with `length` bytes of a file."""
    assert 0 < length <= PIECE_MAX
    return _DATA_HEAD.pack(DATA << 24 | (length + _PLACE.size), transfer, offset)


class FrameDecoder:
    """A decoder of frames from a stream that was cut anywhere."""

    def __init__(self) -> None:
        self._kept = bytearray()  # of a head or control message that is incomplete
        self._transfer = 0
        self._offset = 0
        self._left = 0  # bytes of a file until the next head

    def receive_data(self, data: bytes | memoryview) -> Iterator[Frame]:
        """Yield the frames and pieces that have arrived; consume all of them before the next call.

        Raises:
            RemoteProtocolError: the stream is invalid, and so is the rest of it.
        """
        view = memoryview(data)
        while len(view):
            if self._left:
                piece = view[: self._left]
                view = view[len(piece) :]
                offset = self._offset
                self._left -= len(piece)
                self._offset += len(piece)
                yield DataPiece(self._transfer, offset, piece)
                continue
            wanted = self._wanted() - len(self._kept)
            self._kept += view[:wanted]
            view = view[wanted:]
            if len(self._kept) < self._wanted():
                continue
            kind, length = self._head()
            body = bytes(self._kept[_HEAD.size :])
            self._kept.clear()
            if kind == CONTROL:
                yield ControlFrame(body)
            else:
                self._begin_data(body, length - _PLACE.size)

    def _wanted(self) -> int:
        """Return the bytes of head and body that must be complete before they are decoded."""
        if len(self._kept) < _HEAD.size:
            return _HEAD.size
        kind, length = self._head()
        return _HEAD.size + (length if kind == CONTROL else _PLACE.size)

    def _head(self) -> tuple[int, int]:
        (head,) = _HEAD.unpack_from(self._kept)
        kind, length = head >> 24, head & 0xFFFFFF
        if kind == CONTROL and 0 < length <= CONTROL_MAX:
            return kind, length
        if kind == DATA and _PLACE.size < length <= _PLACE.size + PIECE_MAX:
            return kind, length
        raise RemoteProtocolError(reason="the stream has an invalid frame")

    def _begin_data(self, place: bytes, length: int) -> None:
        self._transfer, self._offset = _PLACE.unpack(place)
        in_block = self._offset % BLOCK_SIZE
        if self._offset + length > FILE_SIZE_MAX or in_block + length > BLOCK_SIZE:
            raise RemoteProtocolError(
                reason="a piece of a file crosses the end of a block or of a file"
            )
        self._left = length
