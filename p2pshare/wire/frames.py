"""How a session's stream is cut into frames: control messages, and pieces of files.

::

    control  0x00 | length (3 bytes) | JSON
    data     0x01 | length (3 bytes) | transfer (4 bytes) | offset (8 bytes) | bytes of the file

All numbers are big-endian; `length` counts what follows it. A piece of a file never crosses from one block into the
next, and the pieces of a block come in order.
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
    """A control message has arrived."""

    body: bytes


@dataclass(frozen=True, slots=True)
class DataPiece:
    """Bytes of a file have arrived: not always a whole frame of them."""

    transfer: int
    offset: int
    """Of the first byte within the file."""
    data: memoryview
    """It is valid only until the next call of the decoder."""


Frame = ControlFrame | DataPiece


def control_frame(body: bytes) -> bytes:
    """A control message as it is sent."""
    assert len(body) <= CONTROL_MAX
    return _HEAD.pack(CONTROL << 24 | len(body)) + body


def data_head(transfer: int, offset: int, length: int) -> bytes:
    """What goes before `length` bytes of a file."""
    assert 0 < length <= PIECE_MAX
    return _DATA_HEAD.pack(DATA << 24 | (length + _PLACE.size), transfer, offset)


class FrameDecoder:
    """Makes frames of the bytes of a stream, wherever these were cut."""

    def __init__(self) -> None:
        self._kept = bytearray()  # of a head or a control message that is not whole yet
        self._transfer = 0
        self._offset = 0
        self._left = 0  # bytes of a file until the next head

    def receive_data(self, data: bytes | memoryview) -> Iterator[Frame]:
        """What has become whole; go through all of it before the next call.

        Raises:
            RemoteProtocolError: this is no such stream; nothing after this means anything.
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
        """Bytes of head and body that are to be kept together."""
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
        raise RemoteProtocolError(reason="what came is no frame of a session")

    def _begin_data(self, place: bytes, length: int) -> None:
        self._transfer, self._offset = _PLACE.unpack(place)
        in_block = self._offset % BLOCK_SIZE
        if self._offset + length > FILE_SIZE_MAX or in_block + length > BLOCK_SIZE:
            raise RemoteProtocolError(reason="a piece of a file lies where none can be")
        self._left = length
