"""Tests of `p2pshare.wire.reach.port_mappings`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.wire.reach.port_mappings import (
    NONCE_SIZE,
    UNSUPPORTED_VERSION,
    Mapped,
    Transport,
    parse_pcp,
    parse_pmp_address,
    parse_pmp_mapping,
    pcp_request,
    pmp_address_request,
    pmp_mapping_request,
)

NONCE = b"n" * NONCE_SIZE
PCP_ANSWER = bytes.fromhex(
    "02 81 00 00 00000e10 00000001 000000000000000000000000"  # header: lifetime 3600, epoch 1
    "6e6e6e6e6e6e6e6e6e6e6e6e 11 000000 c350 c351 00000000000000000000ffffcb007109"
)


class PortMappingTests(SynchronousTestCase):
    def test_requests(self) -> None:
        """Requests have the bytes of the RFCs."""
        self.assertEqual(pmp_address_request(), b"\0\0")
        self.assertEqual(
            pmp_mapping_request(Transport.TCP, 50000, 50001, 3600),
            bytes.fromhex("00 02 0000 c350 c351 00000e10"),
        )
        self.assertEqual(pmp_mapping_request(Transport.UDP, 1, 2, 0)[1], 1)
        self.assertEqual(
            pcp_request("192.168.1.5", NONCE, Transport.UDP, 50000, 50001, 3600),
            bytes.fromhex(
                "02 01 0000 00000e10 00000000000000000000ffffc0a80105"
                "6e6e6e6e6e6e6e6e6e6e6e6e 11 000000 c350 c351 00000000000000000000ffff00000000"
            ),
        )
        self.assertEqual(len(pcp_request("2001:db8::5", NONCE, Transport.UDP, 1, 1, 1)), 60)

    def test_answers(self) -> None:
        """Answers are read, refusals too."""
        address = bytes.fromhex("00 80 0000 00000001 cb007109")
        self.assertEqual(parse_pmp_address(address), (0, "203.0.113.9"))
        self.assertEqual(parse_pmp_address(bytes.fromhex("00 80 0003 00000001")), (3, ""))
        mapping = bytes.fromhex("00 81 0000 00000001 c350 c351 00000e10")
        self.assertEqual(
            parse_pmp_mapping(mapping, Transport.UDP, 50000), Mapped(0, 50001, "", 3600)
        )
        refused = bytes.fromhex("00 81 0002 00000001")
        self.assertEqual(parse_pmp_mapping(refused, Transport.UDP, 50000), Mapped(2))
        self.assertEqual(
            parse_pcp(PCP_ANSWER, NONCE, Transport.UDP, 50000),
            Mapped(0, 50001, "203.0.113.9", 3600),
        )
        self.assertEqual(
            parse_pcp(PCP_ANSWER[:3] + b"\x02" + PCP_ANSWER[4:], NONCE, Transport.UDP, 50000),
            Mapped(2),
        )

    def test_other_version(self) -> None:
        """A router that knows NAT-PMP only says so in either protocol."""
        old = Mapped(UNSUPPORTED_VERSION)
        for answer in ("00 80 0001 00000001", "02 81 00 01 00000000 00000001" + "00" * 12):
            self.assertEqual(parse_pcp(bytes.fromhex(answer), NONCE, Transport.UDP, 1), old)

    def test_foreign_answers(self) -> None:
        """An answer to another request, with another nonce, or cut off, is none (threat 53)."""
        self.assertIsNone(parse_pcp(PCP_ANSWER, b"o" * NONCE_SIZE, Transport.UDP, 50000))
        self.assertIsNone(parse_pcp(PCP_ANSWER, NONCE, Transport.TCP, 50000))
        self.assertIsNone(parse_pcp(PCP_ANSWER, NONCE, Transport.UDP, 50001))
        self.assertIsNone(parse_pcp(PCP_ANSWER + bytes(2000), NONCE, Transport.UDP, 50000))
        self.assertIsNone(parse_pcp(PCP_ANSWER[:50], NONCE, Transport.UDP, 50000))
        mapping = bytes.fromhex("00 81 0000 00000001 c350 c351 00000e10")
        self.assertIsNone(parse_pmp_mapping(mapping, Transport.TCP, 50000))
        self.assertIsNone(parse_pmp_mapping(mapping, Transport.UDP, 50001))
        self.assertIsNone(parse_pmp_mapping(mapping[:12], Transport.UDP, 50000))
        self.assertIsNone(parse_pmp_address(b"\0\x81" + bytes(10)))

    @settings(max_examples=50)
    @given(st.binary(max_size=80) | st.binary(max_size=60).map(PCP_ANSWER[:24].__add__))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes, nothing is raised."""
        parse_pmp_address(data)
        parse_pmp_mapping(data, Transport.UDP, 50000)
        parse_pcp(data, NONCE, Transport.UDP, 50000)
