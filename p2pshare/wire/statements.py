"""Signed statements of peers and registries: records, releases, rotations, receipts, invitations and proofs of a key.

A statement is compact JSON, signed over a message that begins with its kind, so that a statement of one kind cannot be
used as another kind::

    message   = "p2pshare-" kind "-v1" NUL payload
    statement = base64url(payload) "." base64url(Ed25519(message))

The signature is verified over the bytes that arrived, never over a second serialisation of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Generic, Self, TypeVar

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.json_fields import (
    NAME,
    Codec,
    Fields,
    JsonObject,
    matching,
    omittable,
    one_of,
    whole,
)
from p2pshare.wire.keys import KEY_SIZE, PublicKey, SigningKey, from_base64url, to_base64url
from p2pshare.wire.reach.candidates import CANDIDATES, Candidate, Mapping, tcp_addresses
from p2pshare.wire.strict_json import integer, parse_object, text, texts

VERSION = 1
STATEMENT_MAX = 4096  # characters of a statement
CAPS_MAX = 16
CAP_CLASSIC = "classic"
"""The capability of a peer that supports the classic protocol."""
CAP_REACH = "reach/1"
"""The capability of a peer that follows its inbox at the registry, takes calls, and meets others at the relay."""

_CAP = re.compile(r"[a-z0-9][a-z0-9._/-]{0,31}")
_DIGEST = re.compile(r"(?:[A-Za-z0-9_-]{43})?")
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _payload(of: JsonObject) -> bytes:
    return _ENCODER.encode({"v": VERSION, **of.to_fields()}).encode()


class Statement(JsonObject):
    """Anything that is signed: a JSON object of its fields, with `v` before them."""

    __slots__ = ()

    KIND: ClassVar[str]

    def sign(self, key: SigningKey) -> str:
        """Return the statement as it is sent."""
        payload = _payload(self)
        return f"{to_base64url(payload)}.{to_base64url(key.sign(self._message(payload)))}"

    def unsigned(self) -> str:
        """Return the statement without a signature: `parse` reads it, and `read` rejects it."""
        return f"{to_base64url(_payload(self))}."

    @classmethod
    def read(cls, statement: str, signer: PublicKey | None = None) -> Self:
        """Verify and read a statement.

        Args:
            statement: as it arrived.
            signer: the key that must have signed it; None for the key that it names.

        Raises:
            RemoteProtocolError: it is too long, is not signed by `signer`, or is not a valid statement of this kind.
        """
        unverified = cls.parse(statement)
        if not unverified.is_signed_by(signer or unverified.statement.signer):
            raise RemoteProtocolError(reason=f"the signature of the {cls.KIND} is wrong")
        return unverified.statement

    @classmethod
    def parse(cls, statement: str) -> Unverified[Self]:
        """Read a statement without its verification, which costs the most, so that the caller can do cheaper checks
        first.

        Raises:
            RemoteProtocolError: it is too long, or is not a valid statement of this kind.
        """
        try:
            return cls._parse(statement)
        except RemoteProtocolError as error:
            reason = f"the {cls.KIND} is wrong: {error.fields['reason']}"
            raise RemoteProtocolError(reason=reason) from None

    @classmethod
    def _parse(cls, statement: str) -> Unverified[Self]:
        payload_text, dot, signature_text = statement.partition(".")
        if len(statement) > STATEMENT_MAX or not dot:
            raise RemoteProtocolError(
                reason="it is not two base64url texts with a dot between, of at most "
                f"{STATEMENT_MAX} characters"
            )
        payload = from_base64url(payload_text, "its payload")
        values = parse_object(payload, "its payload")
        integer(values, "v", VERSION, VERSION)
        signature = from_base64url(signature_text, "its signature")
        return Unverified(cls.from_fields(values), signature, cls._message(payload))

    @property
    def signer(self) -> PublicKey:
        """Return the key that must have signed it: the one that it names."""
        key = getattr(self, "key", None)
        assert isinstance(key, PublicKey)
        return key

    @classmethod
    def _message(cls, payload: bytes) -> bytes:
        return f"p2pshare-{cls.KIND}-v{VERSION}\0".encode() + payload


S = TypeVar("S", bound=Statement)


@dataclass(frozen=True, slots=True)
class Unverified(Generic[S]):
    """A statement whose signature is not verified."""

    statement: S
    signature: bytes
    message: bytes
    """The message that must have been signed."""

    def is_signed_by(self, signer: PublicKey) -> bool:
        """Whether this key has signed it."""
        return signer.verify(self.signature, self.message)


def is_drawn(text: str) -> bool:
    """Whether `text` can be drawn at random, as a challenge is: 16 to 64 characters of base64url."""
    return _ID.fullmatch(text) is not None


def _read_caps(fields: Fields, key: str) -> tuple[str, ...]:
    found = texts(fields, key, CAPS_MAX, 32)
    if not all(map(_CAP.fullmatch, found)):
        raise RemoteProtocolError(reason="a capability is 1 to 32 of a-z, 0-9 and ._/-")
    return found


KEY = Codec(lambda fields, key: PublicKey.parse(text(fields, key, 64), f"the {key}"), str)
"""A public key."""


def _read_raw_key(fields: Fields, key: str) -> str:
    found = text(fields, key, 43)
    if found and len(from_base64url(found, f"the {key}")) != KEY_SIZE:
        raise RemoteProtocolError(
            reason=f"the {key} is not {KEY_SIZE} bytes in base64url, nor empty"
        )
    return found


RAW_KEY = Codec(_read_raw_key)
"""A key for something else than signatures, as base64url of 32 bytes; empty if there is none."""
DRAWN = matching(_ID, 64, "16 to 64 characters of base64url")
"""A random text."""

_Key = Annotated[PublicKey, KEY]
_Name = Annotated[str, NAME]
_Drawn = Annotated[str, DRAWN]
_Number = Annotated[int, whole(1)]
_Time = Annotated[int, whole()]
"""Unix time in s."""


@dataclass(frozen=True, slots=True)
class Record(Statement):
    """The record of a peer, valid while the peer owns its name. Its candidates are in a `Location`, of which it has the
    digest.
    """

    KIND = "record"

    name: _Name
    key: _Key
    seq: _Number
    """A number greater than in any earlier record: the Unix time in ms, or more."""
    iat: _Time
    """Unix time in s of the signature."""
    exp: _Time
    """Unix time in s at which it expires."""
    aud: _Key
    """The key of the registry that it is for; every other registry rejects it."""
    location: Annotated[str, matching(_DIGEST, 43, "a SHA-256 in base64url, nor empty")]
    """The `digest_of` the `Location`; empty if there is none."""
    caps: Annotated[tuple[str, ...], Codec(_read_caps)]
    """Capabilities, such as `CAP_CLASSIC`."""
    seal: Annotated[str, omittable(RAW_KEY, "")] = ""
    """The X25519 key for which signals to the peer are sealed; empty if it takes none."""


@dataclass(frozen=True, slots=True)
class Location(JsonObject):
    """The candidates of a peer. A registry shows them only while the peer is online.

    The location is sent beside the record, which has its digest. So one signature covers both, and the record can be
    verified without the location. The salt keeps others from finding the candidates by trying all that exist.
    """

    salt: _Drawn
    """16 to 64 characters of base64url, drawn for each record."""
    candidates: Annotated[tuple[Candidate, ...], CANDIDATES]
    """Where the welcome port may be reached, the best first."""
    mapping: Annotated[Mapping, one_of(Mapping)] = Mapping.UNKNOWN
    """Of the NAT in front of the peer."""

    def to_text(self) -> str:
        """Return the location as it is sent."""
        return to_base64url(_payload(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a location; whether it belongs to a record is not checked.

        Raises:
            RemoteProtocolError: it is not valid.
        """
        try:
            if len(text) > STATEMENT_MAX:
                raise RemoteProtocolError(reason=f"it has more than {STATEMENT_MAX} characters")
            values = parse_object(from_base64url(text, "its text"), "its text")
            integer(values, "v", VERSION, VERSION)
            return cls.from_fields(values)
        except RemoteProtocolError as error:
            reason = f"the location is wrong: {error.fields['reason']}"
            raise RemoteProtocolError(reason=reason) from None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the different `IP:PORT`s of the candidates that may have TCP; an IPv6 address has brackets."""
        return tcp_addresses(self.candidates)

    @property
    def ipv4_address(self) -> PeerAddress | None:
        """Return its first IPv4 address that may have TCP."""
        found = (each.address for each in self.candidates if each.has_tcp)
        return next((each for each in found if not each.is_ipv6), None)


def digest_of(location: str) -> str:
    """Return the digest of a location for a record: the SHA-256 of its text, in base64url."""
    return to_base64url(hashlib.sha256(b"p2pshare-location-v1\0" + location.encode()).digest())


@dataclass(frozen=True, slots=True)
class Release(Statement):
    """The statement by which a peer gives up its name."""

    KIND = "release"

    name: _Name
    key: _Key
    seq: _Number
    """As in a record, which shares the numbers."""
    iat: _Time
    aud: _Key


@dataclass(frozen=True, slots=True)
class Rotation(Statement):
    """The statement by which the owner of a name replaces its key."""

    KIND = "rotation"

    name: _Name
    key: _Key
    """The old key, which signs."""
    new: _Key
    iat: _Time
    aud: _Key


@dataclass(frozen=True, slots=True)
class Receipt(Statement):
    """The statement of a registry that a key owns a name. With it an owner gets the name back after the registry has
    lost its store.
    """

    KIND = "receipt"

    name: _Name
    key: _Key
    """The owner's; the registry's key signs."""
    claim: _Number
    """A number greater for each later owner of the name."""
    exp: _Time
    """Unix time in s."""


@dataclass(frozen=True, slots=True)
class Invitation(Statement):
    """The permission of a registry's operator to claim one new name."""

    KIND = "invitation"

    id: _Drawn
    """16 to 64 characters of base64url; it can be used once."""
    iat: _Time
    """Unix time in s."""
    exp: _Time
    """Unix time in s."""


@dataclass(frozen=True, slots=True)
class Proof(Statement):
    """The proof that a registry holds its key."""

    KIND = "proof"

    key: _Key
    """The registry's, which signs."""
    challenge: _Drawn
    """16 to 64 characters of base64url that the client has drawn."""
    iat: _Time
    """Unix time in s."""
