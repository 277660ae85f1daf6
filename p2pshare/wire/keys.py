"""Ed25519 keys (RFC 8032): who a peer is, and how it signs."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from p2pshare.errors import RemoteProtocolError

KEY_SIZE = 32  # bytes
SIGNATURE_SIZE = 64  # bytes
TEXT_SIZE = 52  # characters of a key as text: base32 (RFC 4648) in lower case, without padding
GROUP_SIZE = 4  # characters of a key as people read it

_TEXT = re.compile(rf"[a-z2-7]{{{TEXT_SIZE}}}")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A peer's identity."""

    raw: bytes
    """`KEY_SIZE` bytes."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` writes.

        Raises:
            RemoteProtocolError: it is anything else.
        """
        if _TEXT.fullmatch(text):
            key = cls(base64.b32decode(text.upper() + "===="))
            if str(key) == text:  # the last character has four bits that mean nothing
                return key
        raise RemoteProtocolError(reason=f"a key is {TEXT_SIZE} characters of a-z and 2-7")

    def __str__(self) -> str:
        """`TEXT_SIZE` characters."""
        return base64.b32encode(self.raw).decode().rstrip("=").lower()

    @property
    def grouped(self) -> str:
        """The text in groups, for people to compare."""
        text = str(self)
        return " ".join(text[i : i + GROUP_SIZE] for i in range(0, TEXT_SIZE, GROUP_SIZE))

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether this key has signed the message."""
        try:
            _loaded(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@lru_cache(maxsize=4096)
def _loaded(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)


class SigningKey:
    """The secret half of an identity."""

    def __init__(self, seed: bytes) -> None:
        """Make the key that follows from `KEY_SIZE` random bytes."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    @property
    def seed(self) -> bytes:
        """The bytes that it follows from."""
        return self._key.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """`SIGNATURE_SIZE` bytes."""
        return self._key.sign(message)


def to_base64url(data: bytes) -> str:
    """RFC 4648, section 5, without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    """Read what `to_base64url` writes.

    Raises:
        RemoteProtocolError: it is anything else.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or to_base64url(data) != text:
        raise RemoteProtocolError(reason="it is no base64url without padding")
    return data
