"""One stream of presence changes (`GET /v1/events`): what its client asked for, what it was sent, what it may cost."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from twisted.internet.defer import Deferred

from p2pshare.errors import RemoteProtocolError
from p2pshare.names import NAME_MAX, is_name
from p2pshare.registry.api.queries import arguments_of, part_of_name
from p2pshare.registry.store import PresenceEvent
from p2pshare.web.exchange import Query
from p2pshare.web.reply_bodies import Outlet
from p2pshare.wire.registry_answers import PeerSummary

Position = tuple[int, int]
"""The id of an event as numbers: the order of the events."""

_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
_HALF_MAX = 2**64 - 1  # of a stream in Redis
_PARAMETERS = frozenset({"names", "prefix", "after"})


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """The bounds of the event streams of one process."""

    streams_max: int = 256
    streams_per_address_max: int = 16
    names_max: int = 100
    """Of one stream."""
    unsent_max: int = 64 * 1024
    """Bytes that wait for a client, besides the buffer of its transport; a client with more is dropped."""
    stalled_max: float = 60.0
    """Seconds for which a client may read nothing of the bytes that wait for it."""
    life: float = 3600.0
    """Seconds until a stream ends; its client reconnects and resumes."""
    keep_alive: float = 15.0
    """Seconds between two `alive` events. They are events, as scripts in browsers do not see comments."""
    joins_max: int = 8
    """Queries of joining streams that the store is asked at once."""
    events_max: int = 200
    """Events of one poll: the event loop is not held for longer than they take."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The changes that a client asks for."""

    names: frozenset[str] | None = None
    """None for all."""
    prefix: str = ""
    after: str | None = None
    """The id of the event that the client received last."""

    @classmethod
    def parse(cls, query: Query, names_max: int) -> Self:
        """Read the arguments of a query.

        Raises:
            RemoteProtocolError: they are malformed, or name more than `names_max` names.
        """
        given = arguments_of(query, _PARAMETERS)
        names = given.get("names")
        listed = None if names is None else names.split(",")
        if listed is not None and len(listed) > names_max:
            raise RemoteProtocolError(reason=f"there are more than {names_max} names")
        for name in listed or ():
            if not is_name(name):
                raise RemoteProtocolError(reason=f"{name[:NAME_MAX]!r} is not a valid name")
        after = query.header(b"Last-Event-ID") or given.get("after") or None
        return cls(
            None if listed is None else frozenset(listed), part_of_name(given, "prefix"), after
        )

    def includes(self, name: str) -> bool:
        """Whether the client gets the changes of this name."""
        return (self.names is None or name in self.names) and name.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """A change, encoded once for all streams."""

    position: Position
    name: str
    text: bytes

    @classmethod
    def of(cls, event: PresenceEvent) -> Self:
        """Encode a change."""
        return cls(position_of(event.id), event.peer.name, presence_text(event.peer, event.id))


class Stream:
    """The state of one open stream."""

    def __init__(self, wanted: Wanted, address: str, outlet: Outlet, now: float) -> None:
        self.wanted = wanted
        self.address = address
        self.outlet = outlet
        self.opened = now
        self.open = True
        self.waiting: Deferred[None] | None = None
        """The pause, or the turn at the store, that the stream waits for; cancelled when the client leaves."""
        self.position: Position = (0, 0)
        """All changes up to here were sent, if the client wants them."""
        self._sent: Position = (0, 0)
        """The last id that the client knows."""

    def send(self, text: bytes) -> None:
        """Write text, unless the client has left."""
        if text and self.open:
            self.outlet.write(text)

    def follow(self, events: Sequence[EncodedEvent], position: Position) -> None:
        """Send the events that are wanted and new, and move on to `position`."""
        new = [
            each
            for each in events
            if each.position > self.position and self.wanted.includes(each.name)
        ]
        self.position = max(self.position, position)
        if new:
            self._sent = new[-1].position
            self.send(b"".join(each.text for each in new))

    def keep_alive(self) -> None:
        """Send `alive`, with the id from which the client can resume if that has changed."""
        if self.outlet.stalled_since is not None:
            return
        id = None
        if self._sent < self.position:
            self._sent = self.position
            id = f"{self.position[0]}-{self.position[1]}"
        self.send(event_text("alive", {}, id))


def is_event_id(text: str) -> bool:
    """Whether a text can be the id of an event. Redis answers a number beyond 64 bits with an error."""
    match = _ID.fullmatch(text)
    return match is not None and all(int(half) <= _HALF_MAX for half in match.groups())


def position_of(id: str) -> Position:
    """Return the position of an event's id."""
    ms, _, number = id.partition("-")
    return int(ms), int(number)


def event_text(kind: str, data: dict[str, object], id: str | None = None) -> bytes:
    """Encode a Server-Sent Event (HTML, section 9.2.5)."""
    id_line = "" if id is None else f"id: {id}\n"
    return f"event: {kind}\n{id_line}data: {json.dumps(data)}\n\n".encode()


def presence_text(peer: PeerSummary, id: str) -> bytes:
    """Encode the event for a peer's presence."""
    return event_text("presence", peer.to_fields(), id)
