"""Control messages that begin a session, keep it alive and end it; and what all control messages share."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Annotated, ClassVar

from p2pshare.wire.json_fields import NAME, JsonObject, omittable, one_of, whole, words

ALPN = b"p2pshare/1"
SESSIONS = "sessions/"
"""The beginning of the capability, in all versions."""
CAP_SESSIONS = f"{SESSIONS}1"
"""The capability, in a peer's record, of accepting sessions on TCP at the number of the welcome port."""

VERSION = 1
AGENT_MAX = 64  # characters
RETRY_AFTER_MAX = 86400  # seconds

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class Message(JsonObject):
    """Any control message: a JSON object whose member `m` is the word of its class."""

    __slots__ = ()

    WORD: ClassVar[str]

    def to_json(self) -> bytes:
        """Return the body of a control frame."""
        return _ENCODER.encode({"m": self.WORD, **self.to_fields()}).encode()


class Refusal(enum.Enum):
    """Reasons to refuse a session."""

    STRANGER = "stranger"
    """The key owns no name in the acceptor's registry."""
    CHANGED = "changed"
    """The acceptor knows the name under another key."""
    BUSY = "busy"
    """There are too many sessions."""
    LATER = "later"
    """The registry is unreachable, and the acceptor does not know the key."""
    WAITING = "waiting"
    """There is no registry, and the acceptor's owner has to accept the key first."""
    VERSION = "version"
    """The two sides have no version in common."""


class Purpose(enum.Enum):
    """What an opener wants of a session, if it is not to fetch."""

    OFFER = "offer"
    """To offer files."""


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """The first message of the opener."""

    WORD = "hello"

    version: Annotated[int, whole(1, key="v")]
    """The highest version of the messages that the opener supports."""
    agent: Annotated[str, words(AGENT_MAX)]
    """Name and version of the program."""
    credit: Annotated[int, whole()]
    """Bytes of files that the acceptor may send before the first `Credit`."""
    name: Annotated[str, omittable(NAME, "")] = ""
    """What the opener calls itself, where there is no registry. It proves nothing."""
    purpose: Annotated[Purpose | None, omittable(one_of(Purpose), None)] = None
    """What the session is for, where there is no registry: an acceptor may let a key in for offers alone."""


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """The answer to `Hello` that opens the session."""

    WORD = "welcome"

    version: Annotated[int, whole(1, key="v")]
    agent: Annotated[str, words(AGENT_MAX)]
    name: Annotated[str, NAME]
    """The name of the opener, as the acceptor knows it."""
    credit: Annotated[int, whole()]
    """Bytes of files that the opener may send before the first `Credit`."""


@dataclass(frozen=True, slots=True)
class Refused(Message):
    """The answer to `Hello` that refuses the session; the connection ends."""

    WORD = "refused"

    why: Annotated[Refusal, one_of(Refusal)]
    retry_after: Annotated[int, whole(0, RETRY_AFTER_MAX)] = 0
    """Seconds until another try makes sense; 0 if the acceptor names no time."""


@dataclass(frozen=True, slots=True)
class Credit(Message):
    """Permission to send more bytes of files."""

    WORD = "credit"

    bytes: Annotated[int, whole()]
    """Bytes allowed since the beginning of the session; the number never decreases."""


@dataclass(frozen=True, slots=True)
class Ping(Message):
    """A question that the other side answers with `Pong`."""

    WORD = "ping"


@dataclass(frozen=True, slots=True)
class Pong(Message):
    """The answer to `Ping`."""

    WORD = "pong"


@dataclass(frozen=True, slots=True)
class Bye(Message):
    """The last message of a side that wants the session to end."""

    WORD = "bye"
