"""What a registry tells of itself, of a peer and of many peers (`/v1`); `docs/protocol-registry.md` shows the bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Self, TypeVar

from p2pshare.errors import RemoteProtocolError
from p2pshare.names import NAME_MAX, is_name
from p2pshare.wire.addresses import URL_MAX
from p2pshare.wire.heartbeats import SESSION_MAX
from p2pshare.wire.keys import PublicKey, from_base64url, to_base64url
from p2pshare.wire.statements import ADDRESSES_MAX, STATEMENT_MAX, Proof
from p2pshare.wire.strict_json import integer, parse_object, text, texts

PRESENCE_LEASE = 90  # seconds from a sign of life until a peer counts as offline
OWNERSHIP_LEASE = 30 * 24 * 3600  # seconds from the last sign of life until a name is free
HEARTBEAT_FROM, HEARTBEAT_TO = 30, 45  # seconds between two heartbeats, drawn anew each time
CLOCK_SKEW_MAX = 120  # seconds by which `iat` may differ from the registry's clock
SESSION_LIFE = 24 * 3600  # seconds until a peer has to sign its record again
RECORD_LIFE = OWNERSHIP_LEASE  # seconds from `iat` to `exp`, at most
ROTATIONS_MAX = 8  # of a name, the newest, are kept
PAGE_MAX = 500  # peers

E = TypeVar("E", bound=Enum)


class NameKind(Enum):
    """Whose a name is."""

    OWNED = "owned"
    """A key's."""
    CLASSIC = "classic"
    """Anybody's who asked first, in the classic protocol: nobody vouches for it."""


class Presence(Enum):
    """Whether a peer is there."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"
    """A classic one, that registered once and is never heard of again."""
    GONE = "gone"
    """Only in events: the name is nobody's any more."""


@dataclass(frozen=True, slots=True)
class PeerSummary:
    """A line of the list, and the data of an event."""

    name: str
    kind: NameKind
    presence: Presence
    last_seen: int | None
    """Unix time in s of its last sign of life."""

    def to_fields(self) -> dict[str, object]:
        """The JSON object."""
        return {
            "name": self.name,
            "kind": self.kind.value,
            "presence": self.presence.value,
            "last_seen": self.last_seen,
        }

    @classmethod
    def from_fields(cls, fields: object) -> Self:
        """Read what `to_fields` makes; raises `RemoteProtocolError`."""
        if not isinstance(fields, dict):
            raise RemoteProtocolError(reason="a peer is no JSON object")
        name = text(fields, "name", NAME_MAX)
        if not is_name(name):
            raise RemoteProtocolError(reason=f"{name!r} is no name")
        last_seen = None if fields.get("last_seen") is None else integer(fields, "last_seen")
        return cls(
            name, _enum(NameKind, fields, "kind"), _enum(Presence, fields, "presence"), last_seen
        )


@dataclass(frozen=True, slots=True)
class PeerPage:
    """The reply to `GET /v1/peers`."""

    peers: tuple[PeerSummary, ...]
    next: str | None
    """What to ask for as `after` to get the following peers; None after the last."""

    def to_json(self) -> bytes:
        """The body."""
        return json.dumps(
            {"peers": [each.to_fields() for each in self.peers], "next": self.next}
        ).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the body; raises `RemoteProtocolError`."""
        fields = parse_object(body, "the body")
        peers = fields.get("peers")
        if not isinstance(peers, list):
            raise RemoteProtocolError(reason="the peers are no JSON array")
        following = None if fields.get("next") is None else text(fields, "next", NAME_MAX)
        return cls(tuple(map(PeerSummary.from_fields, peers)), following)


@dataclass(frozen=True, slots=True)
class PeerView:
    """The reply to `GET /v1/peers/NAME`."""

    summary: PeerSummary
    key: PublicKey | None
    """The owner's; None for a classic name."""
    record: str | None
    """The `Record` that it signed last."""
    rotations: tuple[str, ...]
    """The `Rotation`s that led to this key, the oldest first; at most `ROTATIONS_MAX`."""
    addresses: tuple[str, ...]
    """`IP:PORT`; for an owned name those of the location, repeated for clients that do not read it."""
    location: str | None = None
    """The `Location` that goes with the record; None while the owner is offline, or if it has told none."""

    def to_json(self) -> bytes:
        """The body."""
        return json.dumps(
            {
                **self.summary.to_fields(),
                "key": None if self.key is None else str(self.key),
                "record": self.record,
                "rotations": self.rotations,
                "location": self.location,
                "addresses": self.addresses,
            }
        ).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the body; raises `RemoteProtocolError`. The statements in it are still to be verified."""
        fields = parse_object(body, "the body")
        key = fields.get("key")
        record, location = (
            None if fields.get(each) is None else text(fields, each, STATEMENT_MAX)
            for each in ("record", "location")
        )
        return cls(
            PeerSummary.from_fields(fields),
            None if key is None else PublicKey.parse(text(fields, "key", 64)),
            record,
            texts(fields, "rotations", ROTATIONS_MAX, STATEMENT_MAX),
            texts(fields, "addresses", ADDRESSES_MAX, 64),
            location,
        )


@dataclass(frozen=True, slots=True)
class ClaimBody:
    """The body of `PUT /v1/peers/NAME`."""

    record: str
    location: str | None = None
    """Where the peer is; a user who runs none tells nothing."""
    rotation: str | None = None
    """If the name's owner was another key until now."""
    receipt: str | None = None
    """The last one that this peer got for the name; the registry asks for it after a loss."""
    invitation: str | None = None

    def to_json(self) -> bytes:
        """The body."""
        return json.dumps({key: value for key, value in asdict(self).items() if value}).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the body; raises `RemoteProtocolError`. The statements in it are still to be verified."""
        fields = parse_object(body, "the body")
        extra = {
            key: text(fields, key, STATEMENT_MAX)
            for key in ("location", "rotation", "receipt", "invitation")
            if fields.get(key) is not None
        }
        return cls(text(fields, "record", STATEMENT_MAX), **extra)


@dataclass(frozen=True, slots=True)
class ReleaseBody:
    """The body of `DELETE /v1/peers/NAME`."""

    release: str

    def to_json(self) -> bytes:
        """The body."""
        return json.dumps({"release": self.release}).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the body; raises `RemoteProtocolError`."""
        return cls(text(parse_object(body, "the body"), "release", STATEMENT_MAX))


@dataclass(frozen=True, slots=True)
class Granted:
    """The reply to a `PUT` that was granted."""

    outcome: str
    """`claimed` or `renewed`."""
    session: str
    mac_key: bytes = field(repr=False)
    receipt: str
    seen: str
    """The IP address from which the request came."""
    lease: int = PRESENCE_LEASE
    """Seconds of presence."""
    ownership: int = OWNERSHIP_LEASE
    """Seconds of ownership."""
    session_life: int = SESSION_LIFE
    """Seconds until the session ends."""

    def to_json(self) -> bytes:
        """The body."""
        return json.dumps({**asdict(self), "mac_key": to_base64url(self.mac_key)}).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the body; raises `RemoteProtocolError`."""
        fields = parse_object(body, "the body")
        return cls(
            text(fields, "outcome", 32),
            text(fields, "session", SESSION_MAX),
            from_base64url(text(fields, "mac_key", 64), "the mac_key"),
            text(fields, "receipt", STATEMENT_MAX),
            text(fields, "seen", 64),
            integer(fields, "lease", 1),
            integer(fields, "ownership", 1),
            integer(fields, "session_life", 1),
        )


@dataclass(frozen=True, slots=True)
class RegistryInfo:
    """The reply to `GET /v1/`."""

    version: str
    """The software's."""
    time: int
    """Unix time in s, by which `iat` is judged."""
    key: PublicKey
    """By which it is known: it signs receipts, and is the `aud` of statements."""
    urls: tuple[str, ...]
    """Where its operator says that it is reached, for people to read; nothing is judged by them."""
    invite_only: bool
    proof: str | None = None
    """The `Proof` that it holds the key, if it was asked for one."""

    def to_json(self) -> bytes:
        """The body; the limits in it are constants."""
        return json.dumps(
            {
                "service": "p2pshare registry",
                "version": self.version,
                "time": self.time,
                "key": str(self.key),
                "urls": self.urls,
                "invite_only": self.invite_only,
                **({} if self.proof is None else {"proof": self.proof}),
                "limits": {
                    "lease": PRESENCE_LEASE,
                    "ownership": OWNERSHIP_LEASE,
                    "heartbeat_from": HEARTBEAT_FROM,
                    "heartbeat_to": HEARTBEAT_TO,
                    "clock_skew": CLOCK_SKEW_MAX,
                    "record_life": RECORD_LIFE,
                    "session_life": SESSION_LIFE,
                    "statement": STATEMENT_MAX,
                    "page": PAGE_MAX,
                },
            }
        ).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the body; raises `RemoteProtocolError`."""
        fields = parse_object(body, "the body")
        if text(fields, "service", 64) != "p2pshare registry":
            raise RemoteProtocolError(reason="it is another service")
        return cls(
            text(fields, "version", 64),
            integer(fields, "time"),
            PublicKey.parse(text(fields, "key", 64)),
            texts(fields, "urls", 64, URL_MAX),
            fields.get("invite_only") is True,
            None if fields.get("proof") is None else text(fields, "proof", STATEMENT_MAX),
        )

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
    """`PROBLEM_PREFIX` and a word that stays."""
    title: str
    detail: str = ""
    extra: tuple[tuple[str, int | str], ...] = ()
    """Further members, such as `seq` or `time`."""

    def to_json(self) -> bytes:
        """The body."""
        members: dict[str, Any] = {"type": self.type, "title": self.title, "status": self.status}
        if self.detail:
            members["detail"] = self.detail
        return json.dumps({**members, **dict(self.extra)}).encode()

    @property
    def word(self) -> str:
        """The type without its prefix."""
        return self.type.removeprefix(PROBLEM_PREFIX)

    def number(self, member: str) -> int | None:
        """A further member that is a number."""
        value = dict(self.extra).get(member)
        return value if isinstance(value, int) else None

    @classmethod
    def parse(cls, status: int, body: bytes) -> Self:
        """Read the body, as far as it is one; `status` is that of the reply."""
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


def _enum(kind: type[E], fields: dict[str, Any], key: str) -> E:
    try:
        return kind(fields.get(key))
    except ValueError:
        raise RemoteProtocolError(reason=f"the {key} is none that is known") from None
