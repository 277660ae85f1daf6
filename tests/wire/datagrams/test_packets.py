"""Tests for `p2pshare.wire.datagrams.packets`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.packets import (
    CID_SIZE,
    COOKIE_MAX,
    OPEN_SIZE,
    PACKET_NUMBER_MAX,
    PROTECTED_CID_AT,
    PROTECTED_HEADER_SIZE,
    PROTECTED_NUMBER_AT,
    RANDOM_SIZE,
    SEALED_MIN,
    UNKNOWN_CID,
    VERSION,
    Cookie,
    DatagramKind,
    HandshakeHeader,
    Open,
    Packet,
    ProtectedHeader,
    kind_of,
    parse_packet,
)
from tests.wire.datagrams.values import PACKETS

CID = b"opener!"
RANDOM = bytes(range(RANDOM_SIZE))
SEALED = bytes(SEALED_MIN)

ANY_PACKET = st.one_of(*PACKETS.values())


def datagram_of(packet: Packet) -> bytes:
    """Return a datagram with the packet, with the least sealed bytes behind a header."""
    head = packet.serialize()
    return head if isinstance(packet, Open | Cookie) else head + SEALED


class PacketTests(SynchronousTestCase):
    def refuse(self, datagram: bytes) -> None:
        self.assertRaises(RemoteProtocolError, parse_packet, memoryview(datagram))

    @given(ANY_PACKET)
    def test_round_trip(self, packet: Packet) -> None:
        """Each packet is parsed as the value that was serialized, and has a first byte of p2pshare."""
        datagram = datagram_of(packet)
        self.assertEqual(parse_packet(memoryview(datagram)), packet)
        self.assertIs(kind_of(datagram[0]), DatagramKind.P2PSHARE)

    @given(ANY_PACKET)
    def test_header_size(self, packet: Packet) -> None:
        """The sealed frames begin at `size`."""
        if isinstance(packet, HandshakeHeader | ProtectedHeader):
            self.assertEqual(packet.size, len(packet.serialize()))
            if isinstance(packet, HandshakeHeader):
                self.assertLessEqual(packet.size, HandshakeHeader.SIZE_MAX)

    @given(ANY_PACKET, st.data())
    def test_truncated(self, packet: Packet, data: st.DataObject) -> None:
        """Threat 6: a packet that is cut off anywhere is an error."""
        datagram = datagram_of(packet)
        self.refuse(datagram[: data.draw(st.integers(0, len(datagram) - 1))])

    @given(
        st.binary(max_size=80)
        | st.builds(
            bytes.__add__,
            st.sampled_from([bytes([kind]) for kind in range(0xC0, 0x100)]),
            st.binary(max_size=80),
        )
    )
    def test_anything(self, datagram: bytes) -> None:
        """Threat 6: any bytes are a packet or an error, and a packet serializes to the bytes that were parsed."""
        try:
            packet = parse_packet(memoryview(datagram))
        except RemoteProtocolError:
            return
        self.assertEqual(packet.serialize(), datagram[: len(packet.serialize())])

    def test_first_bytes(self) -> None:
        """The first byte tells STUN, p2pshare and the classic protocol apart."""
        kinds = [kind_of(first) for first in range(256)]
        self.assertEqual(kinds[:4], [DatagramKind.STUN] * 4)
        self.assertEqual(kinds[4:192], [DatagramKind.CLASSIC] * 188)
        self.assertEqual(kinds[192:], [DatagramKind.P2PSHARE] * 64)

    def test_cookie_is_short(self) -> None:
        """Threat 6: an OPEN brings more bytes than the longest COOKIE has."""
        opened = Open(CID, RANDOM).serialize()
        self.assertEqual(len(opened), OPEN_SIZE)
        self.assertLess(len(Cookie(CID, RANDOM, bytes(COOKIE_MAX)).serialize()), OPEN_SIZE)
        self.refuse(opened[:-1])
        self.refuse(Cookie(CID, RANDOM, b"").serialize() + b"\0")
        self.refuse(Cookie(CID, RANDOM, bytes(COOKIE_MAX + 1)).serialize())

    def test_other_versions(self) -> None:
        """An OPEN of another version is read whatever its fill is, since it is answered; a HANDSHAKE is not."""
        newer = Open(CID, RANDOM, VERSION + 1)
        fill = b"x" * (OPEN_SIZE - len(newer.serialize().rstrip(b"\0")))
        self.assertEqual(
            parse_packet(memoryview(newer.serialize().rstrip(b"\0") + fill + b"more")), newer
        )
        header = HandshakeHeader(True, CID, CID, 0).serialize()
        self.refuse(header[:1] + bytes([VERSION + 1]) + header[2:] + SEALED)

    def test_tokens(self) -> None:
        """An opener shows its token exactly as long as it does not know the acceptor's CID; an acceptor shows none."""
        token = b"c" + RANDOM
        header = HandshakeHeader(True, CID, UNKNOWN_CID, 0, token)
        self.assertEqual((header.cookie, header.random), (b"c", RANDOM))
        for wrong in (
            HandshakeHeader(True, CID, UNKNOWN_CID, 0),
            HandshakeHeader(True, CID, UNKNOWN_CID, 0, RANDOM),
            HandshakeHeader(True, CID, CID, 0, token),
            HandshakeHeader(False, CID, UNKNOWN_CID, 0, token),
            HandshakeHeader(False, CID, UNKNOWN_CID, 0),
            HandshakeHeader(False, CID, CID, 0, token),
        ):
            self.refuse(datagram_of(wrong))

    def test_bounds(self) -> None:
        """Threat 6: a CID of zeros, an impossible packet number and an unknown type are errors."""
        for wrong in (
            Open(UNKNOWN_CID, RANDOM),
            HandshakeHeader(False, UNKNOWN_CID, CID, 0),
            HandshakeHeader(False, CID, CID, PACKET_NUMBER_MAX + 1),
            ProtectedHeader(UNKNOWN_CID, 0),
            ProtectedHeader(CID, PACKET_NUMBER_MAX + 1),
        ):
            self.refuse(datagram_of(wrong))
        for kind in {*range(0xC4, 0xE0), *range(0xE2, 0x100)}:
            self.refuse(bytes([kind]) + datagram_of(ProtectedHeader(CID, 0))[1:])

    def test_offsets(self) -> None:
        """The offsets for the data path are those of the header."""
        header = ProtectedHeader(CID, 2**40 + 7, 1).serialize()
        self.assertEqual(len(header), PROTECTED_HEADER_SIZE)
        self.assertEqual(header[PROTECTED_CID_AT : PROTECTED_CID_AT + CID_SIZE], CID)
        self.assertEqual(int.from_bytes(header[PROTECTED_NUMBER_AT:]), 2**40 + 7)
        self.assertEqual(header[0], 0xE1)
