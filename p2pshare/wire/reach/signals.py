"""Signals: the small messages by which two peers agree on how to connect, passed on by a registry that cannot read
them.

Theory of operation. A signal is a statement, signed by its sender, and then sealed for its recipient by HPKE (RFC 9180,
base mode). The order matters: the signature is inside, so the registry does not learn the addresses and cannot replace
the sender, and the recipient knows who has sent them. The seal alone proves nothing about the sender.

A signed signal could be sealed again and passed on, since the signature does not cover the seal: Bob could seal the
signal that Alice sent him for Carol. Therefore the signal names its recipient (`to`) and registry (`aud`), and `unseal`
compares both. The `info` of HPKE binds them as well. A sealed signal that is sent to another peer, or through another
registry, does not open.

The recipient opens it with an X25519 key that is derived from its signing key. So a peer has one secret to keep, and a
rotation replaces both. The registry's record of a peer names the public key (`Record.seal`), and each signal names that
of its sender, for the answer.

`unseal` knows no clock. Its caller compares `iat` with its own clock (`CLOCK_SKEW_MAX`) and remembers attempts; both
together reject a replay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.json_fields import NAME, matching, one_of, whole, words
from p2pshare.wire.keys import PublicKey, SigningKey, from_base64url, to_base64url
from p2pshare.wire.reach.candidates import CANDIDATES, Candidate, Mapping, endpoints
from p2pshare.wire.statements import DRAWN, KEY, RAW_KEY, Statement

SEALED_MAX = 3072  # bytes of a sealed signal
BACK_MAX = 4  # addresses for connections back
WHY_MAX = 64  # characters
MAIN_INBOX = "main"
"""The inbox at which a running peer is called."""

INBOX_MAX = 64  # characters
_INBOX = re.compile(r"main|[A-Za-z0-9_-]{16,64}")
INBOX = matching(_INBOX, INBOX_MAX, "main, nor 16 to 64 characters of base64url")
"""The name of an inbox."""
_ROOM = re.compile(r"(?:[A-Za-z0-9_-]{16,64})?")
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_SEAL_INFO = b"p2pshare seal v1"
_SIGNAL_INFO = b"p2pshare-signal-v1\0"


class Step(StrEnum):
    """The steps of a call."""

    CALL = "call"
    """The opener asks for a connection."""
    ANSWER = "answer"
    """The peer agrees, and has opened its NAT for the opener's candidates."""
    GO = "go"
    """The opener has begun its checks; the peer begins its own."""
    RELAY = "relay"
    """The opener waits at the relay, in the room of the call."""
    REFUSED = "refused"
    """The peer does not agree; `why` says the reason."""


@dataclass(frozen=True, slots=True)
class Signal(Statement):
    """A step of an attempt of two peers to connect."""

    KIND = "signal"

    attempt: Annotated[str, DRAWN]
    """16 to 64 characters of base64url that the opener has drawn: the same in all signals of an attempt."""
    step: Annotated[Step, one_of(Step)]
    name: Annotated[str, NAME]
    """The sender's."""
    key: Annotated[PublicKey, KEY]
    """The sender's, which signs."""
    to: Annotated[PublicKey, KEY]
    """The recipient's."""
    aud: Annotated[PublicKey, KEY]
    """The key of the registry that passes it on."""
    iat: Annotated[int, whole()]
    """Unix time in s."""
    inbox: Annotated[str, INBOX]
    """The sender's, for the answer."""
    seal: Annotated[str, RAW_KEY]
    """The sender's X25519 key, for the answer."""
    candidates: Annotated[tuple[Candidate, ...], CANDIDATES]
    """The sender's, at this moment."""
    mapping: Annotated[Mapping, one_of(Mapping)]
    """Of the sender's NAT."""
    secret: Annotated[str, RAW_KEY]
    """32 bytes that authenticate the checks of the attempt; empty unless it is a call."""
    room: Annotated[str, matching(_ROOM, 64, "empty, nor 16 to 64 characters of base64url")]
    """The room at the relay; empty if the sender does not use the relay."""
    back: Annotated[tuple[PeerAddress, ...], endpoints(BACK_MAX)]
    """Where the sender listens for TCP connections of this attempt."""
    why: Annotated[str, words(WHY_MAX)]
    """The reason of a refusal; otherwise empty."""


def seal_keys(key: SigningKey) -> X25519PrivateKey:
    """Return the key that opens signals for the holder of `key`, derived from it."""
    derived = HKDF(SHA256(), 32, salt=None, info=_SEAL_INFO).derive(key.seed)
    return X25519PrivateKey.from_private_bytes(derived)


def seal_of(key: SigningKey) -> str:
    """Return the public key for which signals to the holder of `key` are sealed, as records and signals name it."""
    return to_base64url(seal_keys(key).public_key().public_bytes_raw())


def seal(signal: str, to_seal: str, to_key: PublicKey, aud: PublicKey) -> bytes:
    """Seal a signal.

    Args:
        signal: the signed statement.
        to_seal: the recipient's X25519 key, from its record or signal.
        to_key: the recipient.
        aud: the registry that passes it on.

    Raises:
        RemoteProtocolError: `to_seal` is no key.
    """
    try:
        public = X25519PublicKey.from_public_bytes(from_base64url(to_seal, "the seal"))
        sealed = _SUITE.encrypt(signal.encode(), public, _info(to_key, aud))
    except ValueError:  # it has another length, or is a point of small order
        raise RemoteProtocolError(reason="the seal is no X25519 key") from None
    assert len(sealed) <= SEALED_MAX, "no signal with legal fields is so long"
    return sealed


def unseal(data: bytes, key: SigningKey, aud: PublicKey) -> Signal:
    """Open, verify and return a signal.

    Args:
        data: the sealed signal.
        key: the recipient's.
        aud: the registry that has passed it on.

    Raises:
        RemoteProtocolError: it is not sealed for this recipient and registry, or is no signal with these, or is not
            signed by the key that it names.
    """
    if len(data) > SEALED_MAX:
        raise RemoteProtocolError(reason=f"a sealed signal has more than {SEALED_MAX} bytes")
    try:
        text = _SUITE.decrypt(data, seal_keys(key), _info(key.public, aud)).decode("ascii")
    except (InvalidTag, ValueError):
        raise RemoteProtocolError(reason="a signal does not open") from None
    signal = Signal.read(text)
    if signal.to != key.public or signal.aud != aud:
        raise RemoteProtocolError(reason="a signal is for another peer or registry")
    return signal


def _info(to: PublicKey, aud: PublicKey) -> bytes:
    return _SIGNAL_INFO + to.raw + aud.raw
