"""Bodies of requests to a registry and of its replies (`/v1`); `docs/protocol-registry.md` shows the bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Self

from p2pshare.errors import RemoteProtocolError
from p2pshare.names import NAME_MAX
from p2pshare.wire.addresses import URL_MAX, stun_place
from p2pshare.wire.heartbeats import SESSION_MAX
from p2pshare.wire.json_fields import (
    NAME,
    Codec,
    Fields,
    JsonObject,
    array,
    omittable,
    one_of,
    optional,
    whole,
    words,
)
from p2pshare.wire.keys import PublicKey, from_base64url, to_base64url
from p2pshare.wire.reach.candidates import CANDIDATES_MAX, TEXT_MAX
from p2pshare.wire.statements import KEY, STATEMENT_MAX, Proof
from p2pshare.wire.strict_json import parse_object, text, texts

PRESENCE_LEASE = 90  # seconds from a sign of life until a peer counts as offline
CLASSIC_LEASE_MAX = 7 * 24 * 3600  # seconds, of a name without a key
OWNERSHIP_LEASE = 30 * 24 * 3600  # seconds from the last sign of life until a name is free
HEARTBEAT_FROM, HEARTBEAT_TO = 30, 45  # seconds between two heartbeats, drawn at random each time
CLOCK_SKEW_MAX = 120  # seconds by which `iat` may differ from the registry's clock
SESSION_LIFE = 24 * 3600  # seconds until a peer has to sign its record again
RECORD_LIFE = OWNERSHIP_LEASE  # seconds from `iat` to `exp`, at most
ROTATIONS_MAX = 8  # newest rotations of a name that are kept
PAGE_MAX = 500  # peers
STUN_MAX = 4  # places where peers can ask for their address over UDP
STUN_TEXT_MAX = 262  # characters of one of them: a host name of 253, brackets, a colon and a port
SERVICE = "p2pshare registry"


class NameKind(Enum):
    """Kinds of names: owned by a key, or registered without one."""

    OWNED = "owned"
    """Owned by a key."""
    CLASSIC = "classic"
    """Registered by the classic protocol: the first to ask has it, and no key vouches for it."""


class Presence(Enum):
    """States of a peer, as the registry knows them."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"
    """A classic peer, which registers once and sends no heartbeats."""
    GONE = "gone"
    """Only in events: nobody has the name any more."""


class Body(JsonObject):
    """The body of a request or reply."""

    __slots__ = ()

    def to_json(self) -> bytes:
        """Return the body."""
        return json.dumps(self.to_fields()).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the body; statements in it are not verified.

        Raises:
            RemoteProtocolError: it is not valid.
        """
        return cls.from_fields(parse_object(body, "the body"))


_STATEMENT = words(STATEMENT_MAX)
_SECONDS = whole(1)
_TRUE = Codec(lambda fields, key: fields.get(key) is True)
_MAC_KEY = Codec(
    lambda fields, key: from_base64url(text(fields, key, 64), f"the {key}"), to_base64url
)


def _texts(most: int, longest: int) -> Codec:
    return Codec(lambda fields, key: texts(fields, key, most, longest))


def _read_stun(fields: Fields, key: str) -> tuple[str, ...]:
    found = texts(fields, key, STUN_MAX, STUN_TEXT_MAX)
    try:
        for each in found:
            stun_place(each)
    except ValueError:
        raise RemoteProtocolError(reason=f"the {key} has a place that is not HOST:PORT") from None
    return found


_STUN = omittable(Codec(_read_stun), ())


@dataclass(frozen=True, slots=True)
class PeerSummary(JsonObject):
    """A line of the list of peers, and the data of an event."""

    name: Annotated[str, NAME]
    kind: Annotated[NameKind, one_of(NameKind)]
    presence: Annotated[Presence, one_of(Presence)]
    since: Annotated[int | None, optional(whole())]
    """Unix time in s since which the peer is online without a break; if it is not online, of the last sign of life."""
    mark: str = ""
    """A remark that belongs to the name wherever it is shown; no registry makes one, and it is not sent."""

    @property
    def label(self) -> str:
        """Return the name as it is shown, with the mark."""
        return f"{self.name} ({self.mark})" if self.mark else self.name

    def to_fields(self) -> Fields:
        """Return the JSON object; written out, since a registry lists thousands of peers."""
        return {
            "name": self.name,
            "kind": self.kind.value,
            "presence": self.presence.value,
            "since": self.since,
        }


def _summary(fields: object) -> PeerSummary:
    if not isinstance(fields, dict):
        raise RemoteProtocolError(reason="a peer is no JSON object")
    return PeerSummary.from_fields(fields)


_INLINE = Codec(lambda fields, _key: PeerSummary.from_fields(fields), PeerSummary.to_fields)


@dataclass(frozen=True, slots=True)
class PeerPage(Body):
    """The reply to `GET /v1/peers`."""

    peers: Annotated[tuple[PeerSummary, ...], array(0, PAGE_MAX, _summary, PeerSummary.to_fields)]
    next: Annotated[str | None, optional(words(NAME_MAX))]
    """The `after` of the request for the following page; None after the last page."""


@dataclass(frozen=True, slots=True)
class PeerView(Body):
    """The reply to `GET /v1/peers/NAME`."""

    summary: Annotated[PeerSummary, _INLINE]
    """Its members stand beside those of the other fields."""
    key: Annotated[PublicKey | None, optional(KEY)]
    """The owner's; None for a classic name."""
    record: Annotated[str | None, optional(_STATEMENT)]
    """The owner's latest `Record`."""
    rotations: Annotated[tuple[str, ...], _texts(ROTATIONS_MAX, STATEMENT_MAX)]
    """The `Rotation`s that led to this key, the oldest first; at most `ROTATIONS_MAX`."""
    addresses: Annotated[tuple[str, ...], _texts(CANDIDATES_MAX, TEXT_MAX)]
    """`IP:PORT`; for an owned name those of the location, repeated for clients that do not read it."""
    location: Annotated[str | None, optional(_STATEMENT)] = None
    """The `Location` of the record; None while the owner is offline, or if it has none."""

    def to_json(self) -> bytes:
        """Return the body."""
        fields = self.to_fields()
        return json.dumps({**fields.pop("summary"), **fields}).encode()


@dataclass(frozen=True, slots=True)
class ClaimBody(Body):
    """The body of `PUT /v1/peers/NAME`."""

    record: Annotated[str, _STATEMENT]
    location: Annotated[str | None, optional(_STATEMENT)] = None
    """The peer's location; None for a user who runs no peer."""
    rotation: Annotated[str | None, optional(_STATEMENT)] = None
    """The last rotation, if the name may still belong to the key before."""
    receipt: Annotated[str | None, optional(_STATEMENT)] = None
    """The peer's latest receipt for the name; the registry needs it after it has lost its store."""
    invitation: Annotated[str | None, optional(_STATEMENT)] = None

    def to_json(self) -> bytes:
        """Return the body, without the members that are None."""
        fields = self.to_fields()
        return json.dumps({key: value for key, value in fields.items() if value}).encode()


@dataclass(frozen=True, slots=True)
class ReleaseBody(Body):
    """The body of `DELETE /v1/peers/NAME`."""

    release: Annotated[str, _STATEMENT]


@dataclass(frozen=True, slots=True)
class Granted(Body):
    """The reply to a claim that was granted."""

    outcome: Annotated[str, words(32)]
    """`claimed` or `renewed`."""
    session: Annotated[str, words(SESSION_MAX)]
    mac_key: Annotated[bytes, _MAC_KEY] = field(repr=False)
    receipt: Annotated[str, _STATEMENT]
    seen: Annotated[str, words(64)]
    """The IP address from which the request came."""
    lease: Annotated[int, _SECONDS] = PRESENCE_LEASE
    """Seconds of presence."""
    ownership: Annotated[int, _SECONDS] = OWNERSHIP_LEASE
    """Seconds of ownership."""
    session_life: Annotated[int, _SECONDS] = SESSION_LIFE
    """Seconds until the session ends."""


@dataclass(frozen=True, slots=True)
class RegistryInfo(Body):
    """The reply to `GET /v1/`."""

    version: Annotated[str, words(64)]
    """The software's."""
    time: Annotated[int, whole()]
    """Unix time in s, by which the registry judges `iat`."""
    key: Annotated[PublicKey, KEY]
    """The registry's identity: it signs receipts, and is the `aud` of statements."""
    urls: Annotated[tuple[str, ...], _texts(64, URL_MAX)]
    """URLs of the registry according to its operator, for people to read; no decision depends on them."""
    invite_only: Annotated[bool, _TRUE]
    proof: Annotated[str | None, optional(_STATEMENT)] = None
    """The `Proof` that the registry holds the key, if the request had a challenge."""
    stun: Annotated[tuple[str, ...], _STUN] = ()
    """Where peers ask for their address over UDP (STUN); `stun_place` reads each."""
    relay: Annotated[bool, _TRUE] = False
    """Whether peers can meet at its relay."""

    def to_json(self) -> bytes:
        """Return the body; the limits in it are constants."""
        fields = {key: value for key, value in self.to_fields().items() if value is not None}
        limits = {
            "lease": PRESENCE_LEASE,
            "ownership": OWNERSHIP_LEASE,
            "heartbeat_from": HEARTBEAT_FROM,
            "heartbeat_to": HEARTBEAT_TO,
            "clock_skew": CLOCK_SKEW_MAX,
            "record_life": RECORD_LIFE,
            "session_life": SESSION_LIFE,
            "statement": STATEMENT_MAX,
            "page": PAGE_MAX,
        }
        return json.dumps({"service": SERVICE, **fields, "limits": limits}).encode()

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Read a JSON object of a registry."""
        if text(fields, "service", 64) != SERVICE:
            raise RemoteProtocolError(reason="it is another service")
        return super(RegistryInfo, cls).from_fields(fields)

    def proves(self, challenge: str) -> bool:
        """Whether the registry has signed this challenge with its key."""
        if self.proof is None:
            return False
        try:
            proof = Proof.read(self.proof, self.key)
        except RemoteProtocolError:
            return False
        return (proof.key, proof.challenge) == (self.key, challenge)


@dataclass(frozen=True, slots=True)
class Problem:
    """The body of an error (RFC 9457)."""

    status: int
    type: str
    """`PROBLEM_PREFIX` and a word that never changes."""
    title: str
    detail: str = ""
    extra: tuple[tuple[str, int | str], ...] = ()
    """Further members, such as `seq` or `time`."""

    def to_json(self) -> bytes:
        """Return the body."""
        members: dict[str, Any] = {"type": self.type, "title": self.title, "status": self.status}
        if self.detail:
            members["detail"] = self.detail
        return json.dumps({**members, **dict(self.extra)}).encode()

    @property
    def word(self) -> str:
        """Return the type without its prefix."""
        return self.type.removeprefix(PROBLEM_PREFIX)

    def number(self, member: str) -> int | None:
        """Return a further member that is a number, or None."""
        value = dict(self.extra).get(member)
        return value if isinstance(value, int) else None

    @classmethod
    def parse(cls, status: int, body: bytes) -> Self:
        """Read as much of the body as is valid; `status` is that of the reply."""
        try:
            fields = parse_object(body, "the body")
        except RemoteProtocolError:
            fields = {}
        known = {
            key: str(fields.pop(key, ""))[:STATEMENT_MAX] for key in ("type", "title", "detail")
        }
        fields.pop("status", None)
        extra = tuple((key, each) for key, each in fields.items() if isinstance(each, int | str))
        return cls(status, **known, extra=extra)


PROBLEM_PREFIX = "urn:p2pshare:problem:"
