"""The key schedule, checked against vectors and against HMAC."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.protection.keys import (
    AES_128_GCM,
    CHACHA20_POLY1305,
    SALT,
    Aead,
    DirectionKeys,
    KeyPair,
    derive,
    extract,
)
from p2pshare.wire.datagrams.packets import TAG_SIZE

VECTORS = json.loads((Path(__file__).parent / "key_vectors.json").read_text())
AEADS = {"aes_128_gcm": AES_128_GCM, "chacha20_poly1305": CHACHA20_POLY1305}
SECRET = bytes.fromhex(VECTORS["session"]["secret"])
HEADER = bytes(16)

aeads = st.sampled_from([AES_128_GCM, CHACHA20_POLY1305])
numbers = st.integers(0, 2**64 - 1)


def expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand as RFC 5869, section 2.3, defines it, for at most one block."""
    info = b"p2pshare datagrams 1 " + label
    return hmac.digest(secret, info + b"\x01", hashlib.sha256)[:size]


class VectorTests(SynchronousTestCase):
    def test_rfc_5869(self) -> None:
        """The first step is HKDF-Extract: test case 1 of RFC 5869."""
        secret = extract(bytes(range(13)), b"\x0b" * 22)
        self.assertEqual(
            secret.hex(), "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
        )

    @given(st.binary(min_size=32, max_size=32), st.binary(max_size=30), st.integers(1, 32))
    def test_derive(self, secret: bytes, label: bytes, size: int) -> None:
        """The second step is HKDF-Expand with the labels of this protocol."""
        self.assertEqual(derive(secret, label, size), expand(secret, label, size))

    def test_handshake(self) -> None:
        """The keys of HANDSHAKE packets are those of the vectors."""
        vector = VECTORS["handshake"]
        random, cid = bytes.fromhex(vector["random"]), bytes.fromhex(vector["opener_cid"])
        secret = extract(SALT, random + cid)
        self.assertEqual(secret.hex(), vector["initial_secret"])
        for role, is_opener in (("opener", True), ("acceptor", False)):
            direction = derive(secret, role.encode() + b" handshake")
            self.assertEqual(direction.hex(), vector[role]["secret"])
            self.assertEqual(derive(direction, b"key", 16).hex(), vector[role]["key"])
            keys = KeyPair.for_handshake(random, cid, is_opener=is_opener).sealing
            self.assertEqual(keys.iv.hex(), vector[role]["iv"])
            self.assertEqual(
                keys.seal(5, b"x", HEADER),
                DirectionKeys(direction, AES_128_GCM).seal(5, b"x", HEADER),
            )

    def test_session(self) -> None:
        """The keys of PROTECTED packets are those of the vectors."""
        for role in ("opener", "acceptor"):
            vector = VECTORS["session"][role]
            direction = derive(SECRET, role.encode())
            self.assertEqual(direction.hex(), vector["secret"])
            self.assertEqual(derive(direction, b"update").hex(), vector["update"])
            self.assertEqual(derive(direction, b"iv", 12).hex(), vector["iv"])
            for name, aead in AEADS.items():
                key = derive(direction, b"key", aead.key_size)
                self.assertEqual(key.hex(), vector[f"key_{name}"])

    def test_packets(self) -> None:
        """The opener seals the packets of the vectors, and the acceptor opens them, before and after a key update."""
        for vector in VECTORS["packets"]:
            packet, payload = bytes.fromhex(vector["packet"]), bytes.fromhex(vector["payload"])
            first = bytes([0xE0 | vector["phase"]]) + bytes.fromhex(vector["receiver_cid"])
            header = first + vector["number"].to_bytes(8, "big")
            aead = AEADS[vector["aead"]]
            sealing = KeyPair.for_session(SECRET, aead, is_opener=True).sealing
            opening = KeyPair.for_session(SECRET, aead, is_opener=False).opening
            if vector["phase"]:
                sealing, opening = sealing.next(), opening.next()
            self.assertEqual(header + sealing.seal(vector["number"], payload, header), packet)
            self.assertEqual(opening.open(vector["number"], packet[16:], packet[:16]), payload)


class DirectionTests(SynchronousTestCase):
    @given(aeads, numbers, st.binary(max_size=100), st.binary(max_size=50))
    def test_round_trip(self, aead: Aead, number: int, payload: bytes, header: bytes) -> None:
        """Each end opens what the other one seals, in both directions and in the next phase."""
        opener, acceptor = (
            KeyPair.for_session(SECRET, aead, is_opener=each) for each in (True, False)
        )
        for sealing, opening in (
            (opener.sealing, acceptor.opening),
            (acceptor.sealing, opener.opening),
            (opener.sealing.next(), acceptor.opening.next()),
        ):
            sealed = sealing.seal(number, payload, header)
            self.assertEqual(len(sealed), len(payload) + TAG_SIZE)
            self.assertEqual(opening.open(number, sealed, header), payload)

    def test_keys_differ(self) -> None:
        """Other directions, phases, numbers and headers do not open a packet."""
        pair = KeyPair.for_session(SECRET, AES_128_GCM, is_opener=True)
        sealed = pair.sealing.seal(7, b"payload", HEADER)
        self.assertEqual(pair.sealing.open(7, sealed, HEADER), b"payload")
        self.assertIsNone(pair.opening.open(7, sealed, HEADER))
        self.assertIsNone(pair.sealing.next().open(7, sealed, HEADER))
        self.assertIsNone(pair.sealing.open(8, sealed, HEADER))
        self.assertIsNone(pair.sealing.open(7, sealed, HEADER + b"\x00"))

    def test_bits(self) -> None:
        """A packet with any single bit flipped is rejected."""
        for aead in AEADS.values():
            keys = DirectionKeys(SECRET, aead)
            packet = HEADER + keys.seal(0, b"12 bytes more", HEADER)
            for bit in range(8 * len(packet)):
                wrong = bytearray(packet)
                wrong[bit // 8] ^= 1 << bit % 8
                self.assertIsNone(keys.open(0, wrong[16:], wrong[:16]))

    @given(aeads, st.binary(max_size=40))
    def test_anything(self, aead: Aead, data: bytes) -> None:
        """Any bytes are rejected, also fewer than a tag."""
        self.assertIsNone(DirectionKeys(SECRET, aead).open(0, data, HEADER))

    @given(st.lists(numbers, min_size=2, unique=True))
    def test_nonces(self, used: list[int]) -> None:
        """Different packet numbers have different nonces of the right size."""
        keys = DirectionKeys(SECRET, AES_128_GCM)
        nonces = {keys.nonce(number) for number in used}
        self.assertEqual(len(nonces), len(used))
        self.assertEqual({len(nonce) for nonce in nonces}, {12})
