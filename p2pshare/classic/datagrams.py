"""The datagrams of the classic protocol (`docs/protocol.md`): the words of the welcome port, and the rows of a picture.

Integers are unsigned 32-bit big-endian. `sum8(b)` is the sum of the bytes of b modulo 256. The length and the sender of
a datagram determine its kind, so there is a parser for each direction.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from p2pshare.errors import RemoteProtocolError
from p2pshare.pictures.pixels import PIXELS_MAX, Pixels
from p2pshare.wire.datagrams import DATAGRAM_MAX

ROW_OVERHEAD = 5  # bytes: row number and sum8
ROW_PIXELS_MAX = (DATAGRAM_MAX - ROW_OVERHEAD) // 3  # 21 834
ORIGINAL_ROW_PIXELS_MAX = (4096 - ROW_OVERHEAD) // 3  # 1363: an original receives 4096 bytes
ROWS_MAX = 65_535  # height; each row takes some memory besides its pixels

_SIZE = struct.Struct("!IIB")
_ROW_WANTED = struct.Struct("!IB")
_ROW_NUMBER = struct.Struct("!I")


class Word(bytes, enum.Enum):
    """Datagrams that are ASCII words."""

    TXT = b"TXT"
    IMG = b"IMG"
    IMG2 = b"IMG2"
    """A request for a picture by one of ours, which takes rows as wide as UDP carries, and answers probes."""
    ACK = b"ACK"
    ACK2 = b"ACK2"
    """The answer to IMG2, by a sharer of ours."""
    ACK_SIZE = b"ACK_SIZE"
    FIN = b"FIN"
    COMPLETE = b"COMPLETE"


class Kind(enum.Enum):
    """The two files of a peer."""

    TEXT = "text"
    PICTURE = "picture"


REQUEST_WORDS = {Word.TXT: Kind.TEXT, Word.IMG: Kind.PICTURE, Word.IMG2: Kind.PICTURE}

_WORDS = {word.value: word for word in Word}


def parse_word(data: bytes) -> Word | None:
    """Return the word, or None if `data` is not one."""
    return _WORDS.get(data) if len(data) <= 8 else None


@dataclass(frozen=True, slots=True)
class Size:
    """The dimensions of a picture."""

    width: int
    height: int

    @property
    def fault(self) -> str | None:
        """Why a picture of this size is rejected, in words; None if it is accepted."""
        if not self.width or not self.height:
            return "it is empty"
        if self.width > ROW_PIXELS_MAX:
            return f"a row has at most {ROW_PIXELS_MAX} pixels"
        if self.height > ROWS_MAX:
            return f"at most {ROWS_MAX} rows are accepted"
        if self.width * self.height > PIXELS_MAX:
            return f"at most {PIXELS_MAX} pixels are accepted"
        return None


@dataclass(frozen=True, slots=True)
class RowWanted:
    """A request for a missing row."""

    row: int


def sum8(data: bytes | memoryview) -> int:
    """Return the checksum of a few bytes; for rows, numpy computes it."""
    return sum(data) & 0xFF


def size_datagram(size: Size) -> bytes:
    """Return SIZE: width, height, sum8 of those 8 bytes."""
    numbers = _SIZE.pack(size.width, size.height, 0)[:-1]
    return numbers + bytes([sum8(numbers)])


def row_wanted_datagram(row: int) -> bytes:
    """Return ROW WANTED: row number, sum8 of those 4 bytes."""
    return _ROW_WANTED.pack(row, sum8(_ROW_NUMBER.pack(row)))


def row_datagrams(pixels: Pixels, rows: npt.NDArray[np.intp]) -> list[bytes]:
    """Return ROW for each of `rows`: row number, the bytes of the row, sum8 of all before it."""
    width = pixels.shape[1]
    packed = np.empty((len(rows), 3 * width + ROW_OVERHEAD), np.uint8)
    packed[:, :4] = rows.astype(">u4").view(np.uint8).reshape(-1, 4)
    packed[:, 4:-1] = pixels[rows].reshape(len(rows), 3 * width)
    packed[:, -1] = packed[:, :-1].sum(axis=1, dtype=np.uint8)
    return [row.tobytes() for row in packed]


def parse_from_requester(data: bytes) -> RowWanted | Word:
    """Parse a datagram of a requester that knows the size: ROW WANTED, ACK_SIZE, FIN or COMPLETE.

    Raises:
        RemoteProtocolError: it is none of these, or has a wrong checksum.
    """
    if len(data) == _ROW_WANTED.size:
        row, checksum = _ROW_WANTED.unpack(data)
        if checksum != sum8(data[:4]):
            raise RemoteProtocolError(reason="ROW WANTED with a wrong checksum")
        return RowWanted(row)
    word = parse_word(data)
    if word not in (Word.ACK_SIZE, Word.FIN, Word.COMPLETE):
        raise RemoteProtocolError(reason=f"{len(data)} bytes that no requester sends")
    return word


def parse_size(data: bytes) -> Size:
    """Parse SIZE; the caller checks `Size.fault`.

    Raises:
        RemoteProtocolError: it is not a SIZE, or has a wrong checksum.
    """
    if len(data) != _SIZE.size:
        raise RemoteProtocolError(reason=f"{len(data)} bytes where SIZE has {_SIZE.size}")
    width, height, checksum = _SIZE.unpack(data)
    if checksum != sum8(data[:-1]):
        raise RemoteProtocolError(reason="SIZE with a wrong checksum")
    return Size(width, height)


def parse_row(data: bytes, size: Size) -> tuple[int, Pixels]:
    """Parse a ROW of a picture of `size`; return its number, and its bytes as an array of 3 x width.

    Raises:
        RemoteProtocolError: it is not a row of this picture, or has a wrong checksum.
    """
    if len(data) != 3 * size.width + ROW_OVERHEAD:
        raise RemoteProtocolError(reason=f"{len(data)} bytes where a row has another length")
    everything = np.frombuffer(data, np.uint8)
    if np.add.reduce(everything[:-1], dtype=np.uint8) != everything[-1]:
        raise RemoteProtocolError(reason="ROW with a wrong checksum")
    (row,) = _ROW_NUMBER.unpack_from(data)
    if row >= size.height:
        raise RemoteProtocolError(reason=f"row {row} of a picture of {size.height}")
    return row, everything[4:-1]
