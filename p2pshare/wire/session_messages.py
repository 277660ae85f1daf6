"""The control messages by which a session begins, goes on and ends."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Self

from p2pshare.errors import RemoteProtocolError
from p2pshare.names import NAME_MAX, is_name
from p2pshare.wire.message_fields import Message, enum_of
from p2pshare.wire.strict_json import integer, text

ALPN = b"p2pshare/1"
SESSIONS = "sessions/"
"""What the capability begins with, whatever its version."""
CAP_SESSIONS = f"{SESSIONS}1"
"""The capability, in a peer's record, of one that takes sessions on the TCP port of its welcome port's number."""

VERSION = 1
AGENT_MAX = 64  # characters


class Refusal(enum.Enum):
    """Why there is no session."""

    STRANGER = "stranger"
    """The key owns no name in the sharer's registry."""
    CHANGED = "changed"
    """The name is known under another key."""
    BUSY = "busy"
    """There are too many sessions."""
    LATER = "later"
    """The registry is away, and the sharer does not know this key."""
    VERSION = "version"
    """There is no common version."""


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """The first message of who opened the session."""

    WORD = "hello"

    agent: str
    """Name and version of the program."""
    credit: int
    """Bytes of files that may be sent before there is more credit."""
    version: int = VERSION
    """The highest version of these messages that it speaks."""

    def _fields(self) -> dict[str, object]:
        return {"v": self.version, "agent": self.agent, "credit": self.credit}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        return cls(
            text(fields, "agent", AGENT_MAX), integer(fields, "credit"), integer(fields, "v", 1)
        )


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """The answer to `Hello`: there is a session from now on."""

    WORD = "welcome"

    agent: str
    name: str
    """The name by which the sharer knows who opened the session."""
    version: int = VERSION

    def _fields(self) -> dict[str, object]:
        return {"v": self.version, "agent": self.agent, "name": self.name}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        name = text(fields, "name", NAME_MAX)
        if not is_name(name):
            raise RemoteProtocolError(reason="the name is none")
        return cls(text(fields, "agent", AGENT_MAX), name, integer(fields, "v", 1))


@dataclass(frozen=True, slots=True)
class Refused(Message):
    """The other answer to `Hello`: there is no session, and the connection ends."""

    WORD = "refused"

    why: Refusal
    retry_after: int = 0
    """Seconds, if there is use in another try."""

    def _fields(self) -> dict[str, object]:
        return {"why": self.why.value, "retry_after": self.retry_after}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        return cls(enum_of(Refusal, fields, "why"), integer(fields, "retry_after", 0, 86400))


@dataclass(frozen=True, slots=True)
class Credit(Message):
    """How much may be sent."""

    WORD = "credit"

    bytes: int
    """Of files, counted from the beginning of the session; it never becomes less."""

    def _fields(self) -> dict[str, object]:
        return {"bytes": self.bytes}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Read the members."""
        return cls(integer(fields, "bytes"))


@dataclass(frozen=True, slots=True)
class Ping(Message):
    """Is somebody there? Answered by `Pong`."""

    WORD = "ping"


@dataclass(frozen=True, slots=True)
class Pong(Message):
    """Somebody is."""

    WORD = "pong"


@dataclass(frozen=True, slots=True)
class Bye(Message):
    """There is nothing more to come from this side, which wants the session to end."""

    WORD = "bye"
