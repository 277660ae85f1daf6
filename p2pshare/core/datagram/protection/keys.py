"""The key schedule of the datagrams: from a shared secret to the keys that seal packets.

    HANDSHAKE   random | opener CID  -- Extract -->  initial secret   -- "opener handshake"  -->  direction secret
                                                                      -- "acceptor handshake" ->  direction secret
    PROTECTED   TLS exporter         ----------------> session secret -- "opener"            -->  direction secret
                                                                      -- "acceptor"          -->  direction secret

    direction secret  -- "key"    -->  AEAD key
                      -- "iv"     -->  12 bytes; nonce = iv XOR packet number
                      -- "update" -->  the direction secret of the next phase

Each arrow with a label is one HKDF-Expand (RFC 5869, section 2.3) with SHA-256. The structure is that of QUIC
(RFC 9001, section 5), with plain labels.

Everybody who sees the opener's first packet can derive the handshake keys. They prove only that a packet is not corrupt
and that its sender saw that packet; TLS authenticates what is inside. The secrecy of files rests on the session secret
alone. The invariant for its keys: no packet number, and therefore no nonce, is used twice with one direction secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

SALT = b"p2pshare datagrams 1"
LABEL_PREFIX = b"p2pshare datagrams 1 "
EXPORTER_LABEL = b"EXPORTER-p2pshare-datagrams-1"
SECRET_SIZE = 32  # bytes, of SHA-256
IV_SIZE = 12  # bytes of a nonce (RFC 5116, section 5.1)

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Aead:
    """An authenticated cipher."""

    cipher: type[AESGCM] | type[ChaCha20Poly1305]
    key_size: int
    """In bytes."""


AES_128_GCM = Aead(AESGCM, 16)
CHACHA20_POLY1305 = Aead(ChaCha20Poly1305, 32)

AEADS: Mapping[str, Aead] = {
    "TLS_AES_128_GCM_SHA256": AES_128_GCM,
    "TLS_CHACHA20_POLY1305_SHA256": CHACHA20_POLY1305,
}
"""The cipher of PROTECTED packets by the TLS cipher suite (RFC 8446, appendix B.4)."""


def extract(salt: bytes, material: bytes) -> bytes:
    """Return a secret of `SECRET_SIZE` bytes: HKDF-Extract (RFC 5869, section 2.2) with SHA-256."""
    return HKDF.extract(SHA256(), salt, material)


def derive(secret: bytes, label: bytes, size: int = SECRET_SIZE) -> bytes:
    """Return `size` bytes that a secret gives under a label of this protocol: HKDF-Expand with SHA-256."""
    return HKDFExpand(SHA256(), size, LABEL_PREFIX + label).derive(secret)


class DirectionKeys:
    """The keys of one direction in one phase, made from its direction secret."""

    __slots__ = ("_aead", "_secret", "cipher", "iv")

    def __init__(self, secret: bytes, aead: Aead) -> None:
        self._secret = secret
        self._aead = aead
        self.iv = derive(secret, b"iv", IV_SIZE)
        self.cipher = aead.cipher(derive(secret, b"key", aead.key_size))

    def nonce(self, number: int) -> bytes:
        """Return the nonce of a packet number, which is below 2**64."""
        return (int.from_bytes(self.iv, "big") ^ number).to_bytes(IV_SIZE, "big")

    def seal(self, number: int, payload: Bytes, header: Bytes) -> bytes:
        """Return the encrypted payload and the tag, which also covers the header. Each number may be used once."""
        return self.cipher.encrypt(self.nonce(number), payload, header)

    def open(self, number: int, sealed: Bytes, header: Bytes) -> bytes | None:
        """Return the payload, or None if the packet is not what the other end sealed."""
        try:
            return self.cipher.decrypt(self.nonce(number), sealed, header)
        except InvalidTag:  # also for fewer bytes than a tag
            return None

    def next(self) -> DirectionKeys:
        """Return the keys of the next phase."""
        return DirectionKeys(derive(self._secret, b"update"), self._aead)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The keys of both directions, as one end uses them."""

    sealing: DirectionKeys
    opening: DirectionKeys

    @classmethod
    def for_handshake(cls, random: bytes, opener_cid: bytes, *, is_opener: bool) -> Self:
        """Return the keys of HANDSHAKE packets, which the opener's OPEN determines."""
        secret = extract(SALT, random + opener_cid)
        return cls._of(secret, b" handshake", AES_128_GCM, is_opener)

    @classmethod
    def for_session(cls, secret: bytes, aead: Aead, *, is_opener: bool) -> Self:
        """Return the first keys of PROTECTED packets, from the secret that TLS exports."""
        return cls._of(secret, b"", aead, is_opener)

    @classmethod
    def _of(cls, secret: bytes, suffix: bytes, aead: Aead, is_opener: bool) -> Self:
        opener, acceptor = (
            DirectionKeys(derive(secret, role + suffix), aead) for role in (b"opener", b"acceptor")
        )
        return cls(opener, acceptor) if is_opener else cls(acceptor, opener)
