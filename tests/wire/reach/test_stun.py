"""STUN: vectors of RFC 5769 and of others, and whatever else arrives."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.stun import (
    ANSWER_MAX,
    MESSAGE_MAX,
    Binding,
    BindingKind,
    answer_to,
    is_authentic,
    is_stun,
    padded_request,
    parse,
)
from tests.wire.statements import ADDRESSES

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
SECRET = bytes(range(32))
REQUEST = Binding(BindingKind.REQUEST, TRANSACTION, "attempt:opener", use_candidate=True)
IPV4_ANSWER = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
"""RFC 5769, section 2.2."""
IPV6_ANSWER = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a147"
    "0113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
"""RFC 5769, section 2.3."""

BINDINGS = st.builds(
    Binding,
    kind=st.sampled_from([BindingKind.REQUEST, BindingKind.SUCCESS]),
    transaction=st.binary(min_size=12, max_size=12),
    username=st.text("abc:", max_size=64),
    mapped=ADDRESSES,
    use_candidate=st.booleans(),
    padding=st.integers(0, 8).map(lambda words: 4 * words),
)


def attribute(number: int, value: bytes) -> bytes:
    return number.to_bytes(2) + len(value).to_bytes(2) + value + bytes(-len(value) % 4)


def message(*attributes: bytes, kind: int = 1) -> bytes:
    """Return a message without a fingerprint."""
    body = b"".join(attributes)
    return kind.to_bytes(2) + len(body).to_bytes(2) + b"\x21\x12\xa4\x42" + TRANSACTION + body


class BindingTests(SynchronousTestCase):
    def test_vectors(self) -> None:
        """The sample answers of RFC 5769 are read, with fingerprints and unknown attributes."""
        for data, ip in (
            (IPV4_ANSWER, "192.0.2.1"),
            (IPV6_ANSWER, "2001:db8:1234:5678:11:2233:4455:6677"),
        ):
            wanted = Binding(BindingKind.SUCCESS, TRANSACTION, mapped=PeerAddress(ip, 32853))
            self.assertEqual(parse(data), wanted)
            self.assertIsNone(parse(data[:-1] + bytes([data[-1] ^ 1])), "a wrong fingerprint")

    @given(BINDINGS, st.none() | st.binary(min_size=1, max_size=40))
    def test_round_trip(self, binding: Binding, secret: bytes | None) -> None:
        """A message is read as it was written, and is authentic under its secret only."""
        data = binding.serialize(secret)
        self.assertTrue(is_stun(data))
        self.assertEqual(parse(data), binding)
        self.assertEqual(is_authentic(data, secret or b""), secret is not None)
        self.assertFalse(is_authentic(data, b"another secret"))

    def test_error(self) -> None:
        """An error has its code."""
        error = Binding(BindingKind.ERROR, TRANSACTION, error=420)
        self.assertEqual(parse(error.serialize()), error)
        for wrong in (b"", bytes(3), b"\0\0\2\x50", b"\0\0\4\x64"):
            self.assertIsNone(parse(message(attribute(9, wrong), kind=0x111)))
        self.assertIsNone(parse(message(kind=0x111)))

    @given(st.binary(max_size=100), st.binary(max_size=80))
    def test_noise(self, noise: bytes, attributes: bytes) -> None:
        """Threat 6: any bytes are a message or None, and nothing is authentic by chance."""
        frame = message(attributes + bytes(-len(attributes) % 4))
        for data in (noise, frame):
            parse(data)
            self.assertFalse(is_authentic(data, SECRET))

    def test_malformed(self) -> None:
        """A message with a wrong length, or with an attribute that is wrong or has to be known, is none."""
        mapped = attribute(0x20, b"\0\1\xa1\x47\xe1\x12\xa6\x43")
        self.assertIsNotNone(parse(message(mapped, kind=0x101)))
        whole = REQUEST.serialize()
        longest = message(attribute(0x26, bytes(MESSAGE_MAX - 24)))
        self.assertIsNotNone(parse(longest))
        for data in (
            b"", whole[:19], whole[:-4], whole + bytes(4), b"\x40" + whole[1:], whole[:4] + bytes(16),
            message(kind=0x011), message(kind=0x003), message(kind=0x101),
            message(b"\0\x20\0\x40" + bytes(8)), message(b"\0\x20"), message(b"\0\6\xff\xff"),
            message(attribute(0x03, bytes(4))), message(attribute(0x7FFF, b"")),
            message(attribute(0x06, b"\xff")), message(attribute(0x06, b"x" * 97)),
            message(mapped[:-4], kind=0x101), message(attribute(0x20, b"\0\3\xa1\x47" + bytes(4)), kind=0x101),
            message(attribute(0x20, b""), kind=0x101), message(attribute(0x20, b"\0\1\x21\x12" + bytes(4)), kind=0x101),
            message(attribute(0x20, b"\0\1\xa1\x47" + bytes(16)), kind=0x101),
            message(attribute(0x26, bytes(MESSAGE_MAX - 20))),
            message(attribute(0x8028, bytes(4))), message(attribute(0x8028, bytes(4)), mapped),
        ):  # fmt: skip
            self.assertIsNone(parse(data), data.hex())
        self.assertIsNotNone(parse(message(attribute(0x8FFF, bytes(7)))), "an optional attribute")

    def test_behind_the_integrity(self) -> None:
        """Threat 35: what is appended to an authentic message is ignored; a shortened digest is not authentic."""
        plain = replace(REQUEST, use_candidate=False)
        signed = plain.serialize(SECRET)[:-8]
        digest = signed[-32:]
        longer = message(signed[20:], attribute(0x25, b""))
        self.assertEqual(parse(longer), plain)
        self.assertTrue(is_authentic(longer, SECRET))
        self.assertFalse(
            is_authentic(message(signed[20:-36], attribute(0x1C, digest[:16])), SECRET)
        )
        self.assertFalse(is_authentic(message(attribute(0x25, b""), signed[20:]), SECRET))

    @given(
        st.sampled_from([padded_request(TRANSACTION), message(), REQUEST.serialize()]), ADDRESSES
    )
    def test_answer(self, request: bytes, source: PeerAddress) -> None:
        """Threat 11: an answer names the source, and is never longer than its request."""
        answer = answer_to(request, source)
        if len(request) >= ANSWER_MAX:
            assert answer is not None
        if answer is not None:
            self.assertLessEqual(len(answer), len(request))
            self.assertEqual(
                parse(answer), Binding(BindingKind.SUCCESS, TRANSACTION, mapped=source)
            )
            self.assertIsNone(answer_to(answer, source), "answers are not answered")

    def test_no_request(self) -> None:
        """Threat 11: nothing else is answered."""
        for data in (b"", bytes(100), IPV4_ANSWER, message(), padded_request(TRANSACTION)[:-4]):
            self.assertIsNone(answer_to(data, PeerAddress("192.0.2.6", 1)))
