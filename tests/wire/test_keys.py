"""Keys and base64url."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.keys import FIELD, PublicKey, SigningKey, from_base64url, to_base64url

D = -121665 * pow(121666, -1, FIELD) % FIELD  # of the curve -x² + y² = 1 + D x² y²
SMALL_ORDER = (  # y of the points whose order divides 8
    0,
    1,
    FIELD - 1,
    int.from_bytes(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
    ),
    int.from_bytes(
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
    ),
)


def double(y: int) -> int:
    """The y of twice a point of the curve."""
    xx = (y * y - 1) * pow(D * y * y + 1, -1, FIELD) % FIELD
    return (y * y + xx) * pow(1 - D * xx * y * y, -1, FIELD) % FIELD


def order(y: int) -> int:
    """How often a point of the curve is added to itself until it is the neutral one; 16 for more than 8."""
    for power in range(4):
        if y == 1:
            return int(2**power)
        y = double(y)
    return 16


class KeyTests(SynchronousTestCase):
    """Ed25519."""

    def test_rfc_8032(self) -> None:
        """The second test of RFC 8032, section 7.1."""
        seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
        key = SigningKey(seed)
        self.assertEqual(
            key.public.raw.hex(),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        )
        self.assertEqual(
            key.sign(b"\x72").hex(),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        )
        self.assertEqual(key.seed, seed)

    @given(st.binary(min_size=32, max_size=32), st.binary(max_size=64))
    def test_verify(self, seed: bytes, message: bytes) -> None:
        """A signature holds for its message and key alone."""
        key = SigningKey(seed)
        signature = key.sign(message)
        self.assertTrue(key.public.verify(signature, message))
        self.assertFalse(key.public.verify(signature, message + b"x"))
        self.assertFalse(SigningKey(bytes(31) + b"x").public.verify(signature, message))
        self.assertFalse(key.public.verify(signature[:-1], message))

    @given(st.binary(min_size=32, max_size=32))
    def test_text(self, seed: bytes) -> None:
        """A key has one spelling, and groups that show the same."""
        key = SigningKey(seed).public
        self.assertEqual(PublicKey.parse(str(key)), key)
        self.assertEqual(key.grouped.replace(" ", ""), str(key))
        self.assertEqual({len(group) for group in key.grouped.split()}, {4})

    def test_other_spellings(self) -> None:
        """No other text is that key."""
        text = str(SigningKey(bytes(32)).public)
        for other in (text.upper(), text[:-1], text + "a", text[:-1] + "9", f" {text}", "1" * 52):
            with self.assertRaises(RemoteProtocolError, msg=other):
                PublicKey.parse(other)

    def test_loose_bits(self) -> None:
        """The four unused bits of the last character must be 0."""
        text = str(SigningKey(bytes(32)).public)
        for last in set("abcdefghijklmnopqrstuvwxyz234567") - {text[-1]}:
            if last not in "aq":
                with self.assertRaisesRegex(RemoteProtocolError, "canonical", msg=last):
                    PublicKey.parse(text[:-1] + last)

    def test_small_order(self) -> None:
        """Keys for which anybody can sign anything are refused, with either sign and in other spellings, too."""
        self.assertEqual([order(y) for y in SMALL_ORDER], [4, 1, 2, 8, 8])
        self.assertEqual(sum(SMALL_ORDER[3:]), FIELD)  # each other's negative
        others = (FIELD, FIELD + 1, 2**255 - 1)  # spellings of 0, 1 and 18
        for y in (*SMALL_ORDER, *others):
            for sign in (0, 2**255):
                key = PublicKey((y + sign).to_bytes(32, "little"))
                with self.assertRaisesRegex(RemoteProtocolError, "anybody", msg=hex(y)):
                    PublicKey.parse(str(key))
        self.assertTrue(PublicKey(b"\1" + bytes(31)).verify(b"\1" + bytes(63), b"anything"))

    @given(st.binary(min_size=32, max_size=32))
    def test_other_orders(self, seed: bytes) -> None:
        """No key that follows from a seed is one of these."""
        key = SigningKey(seed).public
        self.assertFalse(key.is_anybodys)
        self.assertEqual(order(int.from_bytes(key.raw, "little") % 2**255), 16)

    def test_a_key_that_is_none(self) -> None:
        """Bytes that are no point of the curve verify nothing, and raise nothing."""
        self.assertFalse(PublicKey(b"\xff" * 32).verify(bytes(64), b""))


class Base64UrlTests(SynchronousTestCase):
    """One spelling for every value."""

    @given(st.binary(max_size=100))
    def test_round_trip(self, data: bytes) -> None:
        """Reading is the inverse of writing."""
        self.assertEqual(from_base64url(to_base64url(data)), data)

    def test_other_spellings(self) -> None:
        """Padding, the other alphabet, spaces, loose bits and other scripts are refused."""
        for text in ("QQ==", "+/+/", "Q Q", "QQ\n", "QR", "Q", "é", "QQ=A"):
            with self.assertRaises(RemoteProtocolError, msg=text):
                from_base64url(text)
