"""Packets of the datagram transport: what anybody can read of a datagram.

::

    OPEN       0xC0 | version | opener CID 7 | random 32 | fill, 1200 bytes or more in all
    COOKIE     0xC1 | version | opener CID 7 | random 32 | length u8 | cookie
    HANDSHAKE  0xC2 from the opener, 0xC3 from the acceptor
               | version | opener CID 7 | acceptor CID 7 | number u64 | length u8 | token | sealed frames | tag 16
    PROTECTED  0xE0, or 0xE1 in odd key phases | receiver's CID 7 | number u64 | sealed frames | tag 16

All numbers are big-endian. In HANDSHAKE and PROTECTED everything before the sealed frames is the associated data (AAD)
of the AEAD. The values here hold that part only: `header.size` is where the sealed frames begin. The fields of OPEN and
COOKIE keep their places in later versions, so that versions can be negotiated.

`p2pshare.core.datagram.protection` seals and opens trains of PROTECTED packets as numpy matrices, and uses the offsets
below instead of these classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import ClassVar, Self

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.fields import U8, U64, FieldReader

VERSION = 1
CID_SIZE = 7  # bytes
UNKNOWN_CID = bytes(CID_SIZE)  # nobody's; in HANDSHAKE for that of an acceptor before it is known
RANDOM_SIZE = 32  # bytes
COOKIE_MAX = 223  # bytes; so that a token has at most 255
TAG_SIZE = 16  # bytes; of AES-GCM and ChaCha20-Poly1305 alike
OPEN_SIZE = 1200  # bytes of UDP payload; as a QUIC client's first datagram (RFC 9000, 14.1)
PACKET_NUMBER_MAX = (
    2**62 - 1
)  # as in QUIC (RFC 9000, 12.3); so a signed integer of 64 bits holds every difference

PROTECTED_HEADER_SIZE = 16  # bytes
PROTECTED_CID_AT = 1  # with the type before it, the first u64 of the header is type << 56 | CID
PROTECTED_NUMBER_AT = 8  # a u64
PROTECTED_OVERHEAD = PROTECTED_HEADER_SIZE + TAG_SIZE  # bytes of a packet that are not frames
SEALED_MIN = 1 + TAG_SIZE  # bytes; a packet holds at least one frame


class DatagramKind(Enum):
    """The protocols that share the welcome port, and are told apart by the first byte."""

    STUN = "stun"
    P2PSHARE = "p2pshare"
    CLASSIC = "classic"


class PacketType(IntEnum):
    """The first byte of a packet. The lowest bit of PROTECTED is the key phase."""

    OPEN = 0xC0
    COOKIE = 0xC1
    HANDSHAKE_OF_OPENER = 0xC2
    HANDSHAKE_OF_ACCEPTOR = 0xC3
    PROTECTED = 0xE0


STUN_FIRST_BYTES = range(4)  # RFC 7983
P2PSHARE_FIRST_BYTES = range(192, 256)


def kind_of(first_byte: int) -> DatagramKind:
    """Return the protocol of a datagram. An empty datagram has no first byte, and belongs to none."""
    if first_byte in P2PSHARE_FIRST_BYTES:
        return DatagramKind.P2PSHARE
    return DatagramKind.STUN if first_byte in STUN_FIRST_BYTES else DatagramKind.CLASSIC


@dataclass(frozen=True, slots=True)
class Open:
    """The request for a cookie, by which an opener begins."""

    opener_cid: bytes
    random: bytes
    """`RANDOM_SIZE` bytes: the opener recognises the answer by them, and the keys of the handshake come from them."""
    version: int = VERSION

    def serialize(self) -> bytes:
        """Return the datagram, `OPEN_SIZE` bytes."""
        head = bytes([PacketType.OPEN, self.version]) + self.opener_cid + self.random
        return head.ljust(OPEN_SIZE, b"\0")

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read what follows the type. A version that is not `VERSION` is no error: it gets an answer."""
        version, opener_cid, random = _opening(reader)
        if reader.position + reader.left < OPEN_SIZE:
            raise RemoteProtocolError(reason="an OPEN packet is too short")
        return cls(opener_cid, random, version)


@dataclass(frozen=True, slots=True)
class Cookie:
    """The only answer to OPEN. It is shorter than OPEN, and the acceptor remembers nothing of either."""

    opener_cid: bytes
    random: bytes
    cookie: bytes
    """At most `COOKIE_MAX` bytes; empty if the acceptor does not support the version of OPEN."""
    version: int = VERSION
    """If `cookie` is empty: a version that the acceptor supports."""

    def serialize(self) -> bytes:
        """Return the datagram."""
        head = bytes([PacketType.COOKIE, self.version]) + self.opener_cid + self.random
        return head + bytes([len(self.cookie)]) + self.cookie

    @classmethod
    def parse(cls, reader: FieldReader) -> Self:
        """Read what follows the type."""
        version, opener_cid, random = _opening(reader)
        cookie = bytes(reader.take(reader.number(U8)))
        if reader.left or len(cookie) > COOKIE_MAX:
            raise RemoteProtocolError(reason="a COOKIE packet has an invalid length")
        return cls(opener_cid, random, cookie, version)


@dataclass(frozen=True, slots=True)
class HandshakeHeader:
    """All of a HANDSHAKE packet that precedes its sealed frames."""

    FIXED_SIZE: ClassVar[int] = 2 + 2 * CID_SIZE + 8 + 1  # bytes of the header without the token
    SIZE_MAX: ClassVar[int] = FIXED_SIZE + COOKIE_MAX + RANDOM_SIZE

    from_opener: bool
    opener_cid: bytes
    acceptor_cid: bytes
    """`UNKNOWN_CID` until the opener knows it."""
    number: int
    token: bytes = b""
    """The cookie and then `RANDOM_SIZE` bytes of OPEN, until the opener knows the acceptor's CID; then empty."""

    @property
    def size(self) -> int:
        """Bytes of the header: it is the associated data, and the sealed frames begin behind it."""
        return self.FIXED_SIZE + len(self.token)

    @property
    def cookie(self) -> bytes:
        """The cookie in the token; empty if there is no token."""
        return self.token[:-RANDOM_SIZE]

    @property
    def random(self) -> bytes:
        """The random bytes of OPEN in the token; empty if there is no token."""
        return self.token[-RANDOM_SIZE:]

    def serialize(self) -> bytes:
        """Return the header."""
        kind = (
            PacketType.HANDSHAKE_OF_OPENER if self.from_opener else PacketType.HANDSHAKE_OF_ACCEPTOR
        )
        cids = self.opener_cid + self.acceptor_cid
        token = bytes([len(self.token)]) + self.token
        return bytes([kind, VERSION]) + cids + U64.pack(self.number) + token

    @classmethod
    def parse(cls, reader: FieldReader, *, from_opener: bool) -> Self:
        """Read what follows the type, up to the sealed frames."""
        if reader.number(U8) != VERSION:
            raise RemoteProtocolError(reason="a HANDSHAKE packet has an unknown version")
        opener_cid, acceptor_cid = _cid(reader), bytes(reader.take(CID_SIZE))
        number = _packet_number(reader)
        token = bytes(reader.take(reader.number(U8)))
        _check_sealed(reader)
        has_token = len(token) > RANDOM_SIZE
        if bool(token) != has_token or has_token != (acceptor_cid == UNKNOWN_CID):
            raise RemoteProtocolError(reason="the token of a HANDSHAKE packet is out of place")
        if has_token and not from_opener:
            raise RemoteProtocolError(reason="a HANDSHAKE packet of an acceptor has a token")
        return cls(from_opener, opener_cid, acceptor_cid, number, token)


@dataclass(frozen=True, slots=True)
class ProtectedHeader:
    """The header of a PROTECTED packet."""

    cid: bytes
    """The receiver's."""
    number: int
    key_phase: int = 0
    """0 or 1: the lowest bit of the number of key updates so far."""

    @property
    def size(self) -> int:
        """Bytes of the header: it is the associated data, and the sealed frames begin behind it."""
        return PROTECTED_HEADER_SIZE

    def serialize(self) -> bytes:
        """Return the header."""
        return bytes([PacketType.PROTECTED | self.key_phase]) + self.cid + U64.pack(self.number)

    @classmethod
    def parse(cls, reader: FieldReader, key_phase: int) -> Self:
        """Read what follows the type, up to the sealed frames."""
        cid, number = _cid(reader), _packet_number(reader)
        _check_sealed(reader)
        return cls(cid, number, key_phase)


Packet = Open | Cookie | HandshakeHeader | ProtectedHeader


def parse_packet(segment: memoryview) -> Packet:
    """Read the part of a packet that is not sealed.

    Raises:
        RemoteProtocolError: it is no packet. Its sender is not authenticated, so drop it without an answer.
    """
    reader = FieldReader(segment)
    match reader.number(U8):
        case PacketType.OPEN:
            return Open.parse(reader)
        case PacketType.COOKIE:
            return Cookie.parse(reader)
        case PacketType.HANDSHAKE_OF_OPENER:
            return HandshakeHeader.parse(reader, from_opener=True)
        case PacketType.HANDSHAKE_OF_ACCEPTOR:
            return HandshakeHeader.parse(reader, from_opener=False)
        case kind if kind | 1 == PacketType.PROTECTED | 1:
            return ProtectedHeader.parse(reader, kind & 1)
    raise RemoteProtocolError(reason="a packet has an unknown type")


def _opening(reader: FieldReader) -> tuple[int, bytes, bytes]:
    """Read the version, the opener's CID and its random bytes, as in OPEN and COOKIE."""
    return reader.number(U8), _cid(reader), bytes(reader.take(RANDOM_SIZE))


def _cid(reader: FieldReader) -> bytes:
    cid = bytes(reader.take(CID_SIZE))
    if cid == UNKNOWN_CID:
        raise RemoteProtocolError(reason="a packet has no connection ID")
    return cid


def _packet_number(reader: FieldReader) -> int:
    number = reader.number(U64)
    if number > PACKET_NUMBER_MAX:
        raise RemoteProtocolError(reason="a packet number is too large")
    return number


def _check_sealed(reader: FieldReader) -> None:
    if reader.left < SEALED_MIN:
        raise RemoteProtocolError(reason="a packet is too short")
