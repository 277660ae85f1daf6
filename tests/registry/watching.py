"""A store with events that a test makes up, for event streams."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred, succeed

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.api.event_streams import Stream
from p2pshare.registry.store import EventPage, NameStore, PresenceEvent
from p2pshare.wire.registry_answers import NameKind, PeerSummary, PeerView, Presence


def summary(name: str, presence: Presence = Presence.ONLINE) -> PeerSummary:
    return PeerSummary(name, NameKind.OWNED, presence, 1_700_000_000)


class EventStore:
    """The part of a `NameStore` that event streams use."""

    def __init__(self) -> None:
        self.kept: list[PresenceEvent] = []
        self.forgotten = 0
        self.newest = (1000, 0)
        self.present: dict[str, PeerSummary] = {}
        self.away = False
        self.asked = 0
        self.held: list[tuple[Deferred[Any], Any]] | None = None
        """Replies of the store that a test holds back; None if it does not."""

    @property
    def as_store(self) -> NameStore:
        return cast(NameStore, self)

    def happen(self, name: str, presence: Presence = Presence.ONLINE) -> str:
        """Add an event, and return its id."""
        self.newest = (self.newest[0] + 1, 0)
        event = PresenceEvent(f"{self.newest[0]}-0", summary(name, presence))
        self.present[name] = event.peer
        self.kept.append(event)
        return event.id

    def forget(self) -> None:
        """Forget all events."""
        self.kept.clear()
        self.forgotten = self.newest[0]

    def events(self, after: str | None = None, limit: int = 500) -> Deferred[EventPage]:
        self.asked += 1
        if self.away:
            raise StoreUnavailable(reason="it is away")
        page = self._page(after, limit)
        if self.held is None:
            return succeed(page)
        self.held.append((Deferred(), page))
        return self.held[-1][0]

    def _page(self, after: str | None, limit: int) -> EventPage:
        last = f"{self.newest[0]}-{self.newest[1]}"
        if after is None:
            return EventPage((), last)
        ms = int(after.partition("-")[0])
        found = [each for each in self.kept if int(each.id.partition("-")[0]) > ms]
        shown = tuple(found[:limit])
        if len(found) > limit:
            last = shown[-1].id
        return EventPage(shown, last, ms >= self.forgotten)

    def release(self) -> None:
        """Release the replies that were held back."""
        held, self.held = self.held or [], None
        for waiting, page in held:
            waiting.callback(page)

    def fail(self) -> None:
        """Fail the replies that were held back, as by a defect."""
        held, self.held = self.held or [], None
        for waiting, _ in held:
            waiting.errback(ZeroDivisionError())

    def look_up_peer(self, name: str) -> Deferred[PeerView | None]:
        if self.away:
            raise StoreUnavailable(reason="it is away")
        found = self.present.get(name)
        view = None if found is None else PeerView(found, None, None, (), ())
        if self.held is None:
            return succeed(view)
        self.held.append((Deferred(), view))
        return self.held[-1][0]


class Events(list[tuple[str, str, str]]):
    """The events of a stream: kind, id and data of each; `alive` counts the `alive` events."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.last_id = ""
        self.alive = 0
        for block in text.decode().split("\n\n"):
            fields: dict[str, Any] = dict(
                line.split(": ", 1) for line in block.split("\n") if ": " in line
            )
            self.last_id = fields.get("id", self.last_id)
            if fields.get("event") == "alive":
                self.alive += 1
            elif "data" in fields:
                self.append((fields.get("event", "message"), fields.get("id", ""), fields["data"]))


__all__ = ["EventStore", "Events", "Stream", "summary"]
