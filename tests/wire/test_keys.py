"""Keys and base64url."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.keys import PublicKey, SigningKey, from_base64url, to_base64url


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

    @settings(deadline=None)
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
    def test_text(self, raw: bytes) -> None:
        """A key has one spelling, and groups that show the same."""
        key = PublicKey(raw)
        self.assertEqual(PublicKey.parse(str(key)), key)
        self.assertEqual(key.grouped.replace(" ", ""), str(key))
        self.assertEqual({len(group) for group in key.grouped.split()}, {4})

    def test_other_spellings(self) -> None:
        """No other text is that key."""
        text = str(PublicKey(bytes(32)))
        for other in (text.upper(), text[:-1], text + "a", text[:-1] + "b", f" {text}", "1" * 52):
            with self.assertRaises(RemoteProtocolError, msg=other):
                PublicKey.parse(other)

    def test_a_key_that_is_none(self) -> None:
        """Bytes that are no point of the curve verify nothing, and raise nothing."""
        self.assertFalse(PublicKey(b"\xff" * 32).verify(bytes(64), b""))


class Base64UrlTests(SynchronousTestCase):
    """One spelling for every value."""

    @given(st.binary(max_size=100))
    def test_round_trip(self, data: bytes) -> None:
        """What is written is read."""
        self.assertEqual(from_base64url(to_base64url(data)), data)

    def test_other_spellings(self) -> None:
        """Padding, the other alphabet, spaces, loose bits and other scripts are refused."""
        for text in ("QQ==", "+/+/", "Q Q", "QQ\n", "QR", "Q", "é", "QQ=A"):
            with self.assertRaises(RemoteProtocolError, msg=text):
                from_base64url(text)
