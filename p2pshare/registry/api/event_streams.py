"""What is told to those who watch presence, and what they may cost (`GET /v1/events`)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from twisted.internet.defer import Deferred

from p2pshare.registry.store import PresenceEvent
from p2pshare.wire.registry_answers import PeerSummary

Position = tuple[int, int]

_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
_HALF_MAX = 2**64 - 1  # of a stream in Redis


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What those who watch can cost the registry."""

    streams_max: int = 256
    streams_per_address_max: int = 16
    names_max: int = 100
    """Of one stream."""
    unsent_max: int = 64 * 1024
    """Bytes that wait for a client, besides what its transport holds; one that lets more come together is dropped."""
    stalled_max: float = 60.0
    """Seconds for which a client may read nothing that waits for it."""
    life: float = 3600.0
    """Seconds until a stream ends; its client comes again and goes on where it was."""
    keep_alive: float = 15.0
    """Seconds between two events `alive`. They are events, as scripts in browsers do not see comments."""
    joins_max: int = 8
    """Questions of joining streams that the store is asked at once."""
    events_max: int = 200
    """Of one poll: the event loop is not held for longer than they take."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a stream is to tell."""

    names: frozenset[str] | None = None
    """None for all."""
    prefix: str = ""
    after: str | None = None
    """The id of the event that the client saw last."""

    def includes(self, name: str) -> bool:
        """Whether changes of this name are told."""
        return (self.names is None or name in self.names) and name.startswith(self.prefix)


class Full(Enum):
    """Why there can be no further stream."""

    HERE = auto()
    FOR_ADDRESS = auto()


class Outlet(Protocol):
    """Where the text of a stream goes."""

    stalled_since: float | None
    """When the client had enough; None while it reads."""

    def write(self, text: bytes) -> None:
        """Pass it on as soon as the client reads; close if too much waits."""

    def drained(self) -> Deferred[None]:
        """Fires when the client reads, or is gone."""

    def finish(self) -> None:
        """End the stream as it should."""

    def drop(self) -> None:
        """Break it off."""


class Stream:
    """One who watches."""

    def __init__(self, wanted: Wanted, address: str, outlet: Outlet, now: float) -> None:
        self.wanted = wanted
        self.address = address
        self.outlet = outlet
        self.opened = now
        self.open = True
        self.pause: Deferred[None] | None = None
        """While it waits until the store is asked again."""
        self.position: Position = (0, 0)
        self._told: Position = (0, 0)

    def tell(self, text: bytes) -> None:
        """Write, unless there is nothing to say or nobody to hear it."""
        if text and self.open:
            self.outlet.write(text)

    def follow(self, news: Sequence[News], position: Position) -> None:
        """Tell what of the news is wanted and new; then all up to `position` is known."""
        told = [
            each
            for each in news
            if each.position > self.position and self.wanted.includes(each.name)
        ]
        self.position = max(self.position, position)
        if told:
            self._told = told[-1].position
            self.tell(b"".join(each.text for each in told))

    def keep_alive(self) -> None:
        """Show that the stream is alive, and from where it could be resumed."""
        if self.outlet.stalled_since is not None:
            return
        id = None
        if self._told < self.position:
            self._told = self.position
            id = f"{self.position[0]}-{self.position[1]}"
        self.tell(event_text("alive", {}, id))


@dataclass(frozen=True, slots=True)
class News:
    """An event as it is written to all who want it."""

    position: Position
    name: str
    text: bytes

    @classmethod
    def of(cls, event: PresenceEvent) -> News:
        """Write it down."""
        return cls(position_of(event.id), event.peer.name, presence_text(event.peer, event.id))


def is_event_id(text: str) -> bool:
    """Whether it could be the id of an event: what is greater, Redis answers with an error."""
    match = _ID.fullmatch(text)
    return match is not None and all(int(half) <= _HALF_MAX for half in match.groups())


def position_of(id: str) -> Position:
    """What orders the ids of events."""
    ms, _, number = id.partition("-")
    return int(ms), int(number)


def event_text(kind: str, data: dict[str, object], id: str | None = None) -> bytes:
    """An event (HTML, section 9.2.5)."""
    id_line = "" if id is None else f"id: {id}\n"
    return f"event: {kind}\n{id_line}data: {json.dumps(data)}\n\n".encode()


def presence_text(peer: PeerSummary, id: str) -> bytes:
    """The event that says what a peer's presence is."""
    return event_text("presence", peer.to_fields(), id)
