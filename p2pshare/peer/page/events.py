"""The event stream of the peer's page (`GET /api/v1/events`): the events of the peer as Server-Sent Events."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from p2pshare.peer.control import OVERRUN, QUEUE_BYTES, REPLY_MAX, Fields
from p2pshare.peer.events import EventHub
from p2pshare.peer.page.access import Access
from p2pshare.web.exchange import Query, Reply
from p2pshare.web.reply_bodies import Outlet

STREAMS_MAX = 32  # open at a time; the oldest one ends for a further one
ALIVE_INTERVAL = 15.0  # seconds between two `alive` events
VANISHED_MAX = 60.0  # seconds for which the browser's machine may acknowledge nothing
RECONNECT_AFTER = 1000  # ms that a browser waits before it connects again
HEADERS = ((b"Cache-Control", b"no-store"), (b"X-Accel-Buffering", b"no"))


@dataclass(slots=True, eq=False)
class _Stream:
    """One open stream."""

    outlet: Outlet
    secret: str
    """Of the session that it belongs to."""
    unsent: int = 0
    """Bytes that wait for the browser since it stopped reading."""


class EventStreams:
    """All open streams."""

    def __init__(
        self,
        clock: IReactorTime,
        events: EventHub,
        access: Access,
        hello: Callable[[], Awaitable[Fields]],
    ) -> None:
        """Pass `events` on; each stream begins with what `hello` returns."""
        self._access = access
        self._hello = hello
        self._streams: dict[_Stream, None] = {}
        self._unsubscribe = events.subscribe(self._published, lambda: bool(self._streams))
        self._looking = LoopingCall(self._keep_alive)
        self._looking.clock = clock

    def __len__(self) -> int:
        """The number of open streams."""
        return len(self._streams)

    async def answer(self, query: Query) -> Reply:
        """Return the reply that begins a stream."""
        secret = self._access.session(query)
        hello = await self._hello()
        begin = partial(self._open, secret, hello)
        return Reply(HTTPStatus.OK, (), b"text/event-stream", HEADERS, stream=begin)

    def stop(self) -> None:
        """End all streams."""
        self._unsubscribe()
        for stream in list(self._streams):
            stream.outlet.finish()

    def end_sessions(self) -> None:
        """End the streams of sessions that are not valid any more."""
        for stream in list(self._streams):
            if not self._access.sessions.is_valid(stream.secret):
                stream.outlet.finish()

    def _open(self, secret: str, hello: Fields, outlet: Outlet) -> None:
        while len(self._streams) >= STREAMS_MAX:
            next(iter(self._streams)).outlet.drop()
        outlet.limit_unacknowledged(VANISHED_MAX)
        stream = _Stream(outlet, secret)
        self._streams[stream] = None
        outlet.when_over(partial(self._forget, stream))
        if not self._looking.running:
            self._looking.start(ALIVE_INTERVAL, now=False)
        self._send(stream, b"retry: %d\n\n" % RECONNECT_AFTER + event_text("hello", hello))

    def _forget(self, stream: _Stream) -> None:
        self._streams.pop(stream, None)
        if not self._streams and self._looking.running:
            self._looking.stop()

    def _published(self, kind: str, fields: dict[str, Any]) -> None:
        if self._streams:
            text = event_text(kind, fields)
            for stream in list(self._streams):
                self._send(stream, text)

    def _send(self, stream: _Stream, text: bytes) -> None:
        """Send an event, or `overrun` if too much waits for the browser, which has to ask for everything then."""
        if stream.outlet.stalled_since is None:
            stream.unsent = 0
        stream.unsent += len(text)
        if len(text) > REPLY_MAX or stream.unsent > QUEUE_BYTES:
            stream.outlet.write(event_text(OVERRUN, {}))
            stream.outlet.finish()
        else:
            stream.outlet.write(text)

    def _keep_alive(self) -> None:
        self.end_sessions()
        for stream in list(self._streams):
            if stream.outlet.stalled_since is None:
                self._send(stream, event_text("alive", {}))


def event_text(kind: str, fields: Fields) -> bytes:
    """Encode a Server-Sent Event (HTML, section 9.2.5)."""
    data = json.dumps(fields, ensure_ascii=False).encode(errors="replace")
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
