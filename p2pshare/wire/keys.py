"""Ed25519 keys (RFC 8032): the identity of a peer, and its signatures."""

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
CACHE_SIZE = 4096  # keys whose other forms are cached, since the same ones recur

FIELD = 2**255 - 19  # Ed25519 calculates modulo this (RFC 8032, section 5.1)

_SMALL_ORDER = (
    0,
    1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
)
"""With -1 the y of all points whose order divides 8: anybody can make signatures that such a key verifies."""
_TEXT = re.compile(rf"[a-z2-7]{{{TEXT_SIZE}}}")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A peer's identity."""

    raw: bytes
    """`KEY_SIZE` bytes."""

    @classmethod
    def parse(cls, text: str, what: str = "the key") -> Self:
        """Read the text of a key.

        Args:
            text: as `str` writes it.
            what: name of the key in an error.

        Raises:
            RemoteProtocolError: it is no key, or one of `is_anybodys`.
        """
        raw = _raw_of(text)
        if raw is None:
            raise RemoteProtocolError(
                reason=f"{what} is not {TEXT_SIZE} characters of a-z, in lower case, and 2-7, in canonical form"
            )
        key = cls(raw)
        if key.is_anybodys:
            raise RemoteProtocolError(reason=f"{what} is one that anybody can sign for")
        return key

    def __str__(self) -> str:
        """Return `TEXT_SIZE` characters."""
        return _text_of(self.raw)

    @property
    def is_anybodys(self) -> bool:
        """Whether it is a point of small order, or not in canonical form. Signatures by such a key prove nothing."""
        y = int.from_bytes(self.raw, "little") % 2**255  # without the sign of x
        return y >= FIELD - 1 or y in _SMALL_ORDER

    @property
    def grouped(self) -> str:
        """Return the text in groups, for people to compare."""
        text = str(self)
        return " ".join(text[i : i + GROUP_SIZE] for i in range(0, TEXT_SIZE, GROUP_SIZE))

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether this key has signed the message."""
        try:
            _loaded(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@lru_cache(maxsize=CACHE_SIZE)
def _text_of(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


@lru_cache(maxsize=CACHE_SIZE)
def _raw_of(text: str) -> bytes | None:
    if _TEXT.fullmatch(text):
        raw = base64.b32decode(text.upper() + "====")
        if _text_of(raw) == text:  # the last character has four unused bits
            return raw
    return None


@lru_cache(maxsize=CACHE_SIZE)
def _loaded(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)


class SigningKey:
    """A secret key."""

    def __init__(self, seed: bytes) -> None:
        """Derive the key from `KEY_SIZE` random bytes."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    @property
    def seed(self) -> bytes:
        """Return the bytes from which the key was derived."""
        return self._key.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature, `SIGNATURE_SIZE` bytes."""
        return self._key.sign(message)


def to_base64url(data: bytes) -> str:
    """Encode by RFC 4648, section 5, without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_base64url(text: str, what: str = "it") -> bytes:
    """Decode what `to_base64url` writes.

    Args:
        text: the base64url.
        what: name of the text in an error.

    Raises:
        RemoteProtocolError: it is not canonical base64url without padding.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or to_base64url(data) != text:
        raise RemoteProtocolError(reason=f"{what} is no canonical base64url without padding")
    return data
