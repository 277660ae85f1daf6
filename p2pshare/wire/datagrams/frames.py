"""Frames of the datagram transport: what HANDSHAKE and PROTECTED packets hold.

A payload is a sequence of frames, and each begins with a byte for its type. PADDING and DATA have no length: they
extend to the end of the payload. docs/protocol-datagrams.md has a table for each frame.

Every value that a frame must not have is an error here, so that the rest of the transport never checks numbers again:
packet numbers in an ACK are ascending and not negative, pieces of a file lie within a block, ranges lie within a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import ClassVar, Self

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import FILE_SIZE_MAX, is_within_block
from p2pshare.wire.datagrams.acks import (
    RANGE_SIZE,
    AckKind,
    Run,
    decode_bitmap,
    decode_ranges,
    encode_runs,
)
from p2pshare.wire.datagrams.fields import U8, U16, U32, U64, FieldReader
from p2pshare.wire.datagrams.packets import PACKET_NUMBER_MAX

PADDING = 0x00

ACK_HEAD_SIZE = 20  # bytes before ranges or bitmap
ACK_SIZE_MIN = ACK_HEAD_SIZE + RANGE_SIZE  # bytes; the budget of an ACK frame is at least this
ACK_SIZE_MAX = (
    1000  # bytes of an ACK frame unless the caller says otherwise; it fits into every packet
)
MISSING_RANGES_MAX = 64  # in one frame; the answer to a later FIN has the rest
MISSING_HEAD_SIZE = 7  # bytes
CONTROL_STREAM_MAX = 2**62  # bytes, in all
CONTROL_HEAD_SIZE = 11  # bytes before those of the stream
CRYPTO_STREAM_MAX = 32 * 1024  # bytes of TLS in one direction; a handshake has about 2 KiB
CRYPTO_HEAD_SIZE = 7  # bytes before those of TLS
CHALLENGE_SIZE = 8  # bytes; as in QUIC (RFC 9000, 19.17)
REASON_MAX = 200  # bytes of UTF-8

DATA_HEAD_SIZE = 12  # bytes before those of the file
DATA_PLACE_AT = 0  # a u64: type << 56 | offset
DATA_TRANSFER_AT = 8  # a u32
DATA_OFFSET_BITS = 56


@dataclass(frozen=True, slots=True)
class Ping:
    """A frame that only asks for an acknowledgement."""

    TYPE: ClassVar[int] = 0x01

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        return b""

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        return cls()


@dataclass(frozen=True, slots=True)
class Ack:
    """Packets that have arrived. Each ACK repeats the recent past, so that the loss of an ACK costs little."""

    TYPE: ClassVar[int] = 0x02

    largest: int
    """The largest packet number in `ranges`."""
    delay_us: int
    """Microseconds between the arrival of packet `largest` and this frame."""
    ce: int
    """Packets so far, modulo 2^32, that arrived with the mark "congestion experienced" (RFC 3168)."""
    ranges: tuple[Run, ...]
    """Ascending runs of packets: (first, behind the last)."""

    def body(self, room: int = ACK_SIZE_MAX) -> bytes:
        """Return the bytes behind the type; the frame has at most `room` bytes, at least `ACK_SIZE_MIN`."""
        encoded = encode_runs(self.ranges, room - ACK_HEAD_SIZE)
        counters = U64.pack(self.largest) + U32.pack(self.delay_us) + U32.pack(self.ce)
        return U8.pack(encoded.kind) + counters + U16.pack(encoded.count) + encoded.data

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        kind, largest = reader.number(U8), reader.number(U64)
        delay_us, ce, count = reader.number(U32), reader.number(U32), reader.number(U16)
        if largest > PACKET_NUMBER_MAX or not count:
            raise RemoteProtocolError(reason="an ACK frame acknowledges no possible packet")
        if kind == AckKind.RANGES:
            return cls(largest, delay_us, ce, decode_ranges(reader, largest, count))
        if kind == AckKind.BITMAP:
            return cls(largest, delay_us, ce, decode_bitmap(reader, largest, count))
        raise RemoteProtocolError(reason="an ACK frame has an unknown kind")


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the file of a transfer. It precedes DATA in each packet until ACK_SIZE has come."""

    TYPE: ClassVar[int] = 0x05

    transfer: int
    size: int
    """Bytes of the file, at most `FILE_SIZE_MAX`."""

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        return U32.pack(self.transfer) + U64.pack(self.size)

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        return cls(reader.number(U32), _file_size(reader))


@dataclass(frozen=True, slots=True)
class AckSize:
    """The receiver of a transfer knows its size: DATA needs no SIZE any more."""

    TYPE: ClassVar[int] = 0x06

    transfer: int

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        return U32.pack(self.transfer)

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        return cls(reader.number(U32))


@dataclass(frozen=True, slots=True)
class Missing:
    """The receiver's answer to FIN while bytes of the file are missing."""

    TYPE: ClassVar[int] = 0x07

    transfer: int
    ranges: tuple[Run, ...]
    """1 to `MISSING_RANGES_MAX` ascending runs of bytes of the file: (first, behind the last)."""

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        runs = b"".join(U64.pack(first) + U64.pack(end - first) for first, end in self.ranges)
        return U32.pack(self.transfer) + U16.pack(len(self.ranges)) + runs

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        transfer, count = reader.number(U32), reader.number(U16)
        if not 0 < count <= MISSING_RANGES_MAX:
            raise RemoteProtocolError(reason="a MISSING frame has an invalid number of ranges")
        numbers = reader.numbers(2 * count, "Q")
        runs = [
            (first, first + length)
            for first, length in zip(numbers[::2], numbers[1::2], strict=True)
        ]
        if not _are_ranges_of_file(runs):
            raise RemoteProtocolError(reason="a MISSING frame has an invalid range")
        return cls(transfer, tuple(runs))


@dataclass(frozen=True, slots=True)
class Fin:
    """Everything of a transfer was sent once. It is answered by MISSING or COMPLETE."""

    TYPE: ClassVar[int] = 0x08

    transfer: int
    sent: int
    """Bytes of the file that were sent in this transfer, each counted once."""

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        return U32.pack(self.transfer) + U64.pack(self.sent)

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        return cls(reader.number(U32), _file_size(reader))


@dataclass(frozen=True, slots=True)
class Complete:
    """The receiver's answer to FIN once nothing is missing: the sender forgets the transfer."""

    TYPE: ClassVar[int] = 0x09

    transfer: int

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        return U32.pack(self.transfer)

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        return cls(reader.number(U32))


@dataclass(frozen=True, slots=True)
class Credit:
    """The bytes of the control stream that may be sent since the beginning. The largest one counts."""

    TYPE: ClassVar[int] = 0x0A

    limit: int

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        return U64.pack(self.limit)

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        limit = reader.number(U64)
        if limit > CONTROL_STREAM_MAX:
            raise RemoteProtocolError(reason="a CREDIT frame has an impossible limit")
        return cls(limit)


@dataclass(frozen=True, slots=True)
class Challenge:
    """The question whether the other end receives at an address."""

    TYPE: ClassVar[int] = 0x0B

    data: bytes
    """`CHALLENGE_SIZE` random bytes."""

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        return self.data

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        return cls(bytes(reader.take(CHALLENGE_SIZE)))


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to CHALLENGE."""

    TYPE: ClassVar[int] = 0x0C

    data: bytes
    """Those of the CHALLENGE."""

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        return self.data

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        return cls(bytes(reader.take(CHALLENGE_SIZE)))


class CloseCode(IntEnum):
    """The known codes of CLOSE. A receiver accepts others, too: each means that the connection is over."""

    DONE = 0
    PROTOCOL_VIOLATION = 1
    HANDSHAKE_FAILED = 2
    INTERNAL = 3


@dataclass(frozen=True, slots=True)
class Close:
    """The end of the connection. Nothing more comes from its sender."""

    TYPE: ClassVar[int] = 0x0D

    code: int
    """A `CloseCode`, or a number that is unknown here."""
    reason: str = ""
    """For the log. The frame has at most the first `REASON_MAX` bytes of it, in UTF-8."""

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        reason = self.reason.encode()[:REASON_MAX].decode(errors="ignore").encode()
        return U16.pack(self.code) + U8.pack(len(reason)) + reason

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        code, length = reader.number(U16), reader.number(U8)
        if length > REASON_MAX:
            raise RemoteProtocolError(reason="the reason of a CLOSE frame is too long")
        try:
            return cls(code, bytes(reader.take(length)).decode())
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(reason="the reason of a CLOSE frame is not UTF-8") from error


@dataclass(frozen=True, slots=True)
class Control:
    """Bytes of the control stream."""

    TYPE: ClassVar[int] = 0x0E

    offset: int
    """Position of the first byte in the stream."""
    data: bytes

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        return U64.pack(self.offset) + U16.pack(len(self.data)) + self.data

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        return cls(*_stream_bytes(reader, reader.number(U64), CONTROL_STREAM_MAX))


@dataclass(frozen=True, slots=True)
class Crypto:
    """Bytes of the TLS handshake. Only HANDSHAKE packets hold them."""

    TYPE: ClassVar[int] = 0x0F

    offset: int
    """Position of the first byte in the bytes of TLS in this direction."""
    data: bytes

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        return U32.pack(self.offset) + U16.pack(len(self.data)) + self.data

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        return cls(*_stream_bytes(reader, reader.number(U32), CRYPTO_STREAM_MAX))


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a file, up to the end of the packet."""

    TYPE: ClassVar[int] = 0x10

    transfer: int
    offset: int
    """Position of the first byte within the file."""
    data: bytes | memoryview
    """Within one block. Once parsed: a view of the payload."""

    def body(self) -> bytes:
        """Return the bytes behind the type."""
        return self.offset.to_bytes(DATA_OFFSET_BITS // 8) + U32.pack(self.transfer) + self.data

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read the bytes behind the type."""
        offset = int.from_bytes(reader.take(DATA_OFFSET_BITS // 8))
        transfer, data = reader.number(U32), reader.rest()
        if not is_within_block(offset, len(data)):
            raise RemoteProtocolError(reason="a DATA frame is not within a block of a file")
        return cls(transfer, offset, data)


Frame = (
    Ping | Ack | Size | AckSize | Missing | Fin | Complete
    | Credit | Challenge | Response | Close | Control | Crypto | Data
)  # fmt: skip

_IN_HANDSHAKE = {each.TYPE: each for each in (Ping, Ack, Close, Crypto)}
_IN_PROTECTED = {
    each.TYPE: each
    for each in (
        *(Ping, Ack, Size, AckSize, Missing, Fin, Complete),
        *(Credit, Challenge, Response, Close, Control, Data),
    )
}


def serialize(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    return bytes([frame.TYPE]) + frame.body()


def serialize_ack(ack: Ack, room: int) -> bytes:
    """Return an ACK frame of at most `room` bytes, which is at least `ACK_SIZE_MIN`.

    It leaves out the oldest packets that do not fit.
    """
    return bytes([ack.TYPE]) + ack.body(room)


def parse_frames(payload: memoryview, *, in_handshake: bool = False) -> Iterator[Frame]:
    """Yield the frames of a packet; PADDING is left out.

    Args:
        payload: the plaintext of a packet. `Data` has views of it.
        in_handshake: whether it is a HANDSHAKE packet.

    Raises:
        RemoteProtocolError: the payload is invalid; the frames before the error were yielded.
    """
    known = _IN_HANDSHAKE if in_handshake else _IN_PROTECTED
    reader = FieldReader(payload)
    if not reader.left:
        raise RemoteProtocolError(reason="a packet has no frame")
    while reader.left:
        kind = reader.number(U8)
        if kind == PADDING:
            if any(reader.rest()):
                raise RemoteProtocolError(reason="the padding of a packet is not zero")
        elif kind in known:
            yield known[kind].parse(reader)
        else:
            raise RemoteProtocolError(reason="a packet has a frame of a wrong type")


def is_ack_eliciting(frame: Frame) -> bool:
    """Whether a packet with this frame is to be acknowledged (RFC 9002, 2)."""
    return not isinstance(frame, Ack | Close)


def _file_size(reader: FieldReader) -> int:
    size = reader.number(U64)
    if size > FILE_SIZE_MAX:
        raise RemoteProtocolError(reason="a frame has an impossible size of a file")
    return size


def _are_ranges_of_file(runs: list[Run]) -> bool:
    """Whether they are ascending, not empty, do not overlap, and lie within the largest file."""
    return (
        all(first < end <= FILE_SIZE_MAX for first, end in runs)
        and all(before[1] <= after[0] for before, after in pairwise(runs))
    )  # fmt: skip


def _stream_bytes(reader: FieldReader, offset: int, most: int) -> tuple[int, bytes]:
    """Read length and bytes of a part of a stream of at most `most` bytes."""
    data = bytes(reader.take(reader.number(U16)))
    if not data or offset + len(data) > most:
        raise RemoteProtocolError(reason="a frame has an impossible part of a stream")
    return offset, data
