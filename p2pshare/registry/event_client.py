"""The client of an event stream: Server-Sent Events (WHATWG HTML, section 9.2), followed through every break."""

# A listener may miss a change only if it is told so. The follower remembers the last id of the stream, and sends it in
# `Last-Event-ID` when it reconnects; the registry then sends exactly the changes since. Without an id, at the very
# beginning, and after the registry's `reset`, it calls `on_reset`: the listener has to look everything up again.
# An id counts when its block is complete, also without data: the registry sends such blocks so that a quiet listener
# can resume. Silence of `SILENCE_MAX` counts as a break, since a network that drops packets closes no connection.

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.core.back_off import BackOff
from p2pshare.errors import P2pshareError, RemoteProtocolError, Unreachable
from p2pshare.web.client import HttpClient, Reply
from p2pshare.wire.registry_answers import PeerSummary
from p2pshare.wire.strict_json import parse_object

EVENT_MAX = 16 * 1024  # bytes of an event
ID_MAX = 64  # characters
SILENCE_MAX = 90.0  # seconds without a byte after which a stream counts as broken
RETRY_FIRST, RETRY_MAX = 0.5, 15.0  # seconds until the client reconnects
STEADY = 10.0  # seconds of a stream after which the delays start again with the first

OnLink = Callable[[bool, P2pshareError | None], object]
"""Called with whether changes arrive, and with why they do not, unless a stream has only ended as it should."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream."""

    kind: str
    id: str
    data: str


class EventParser:
    """Cuts a stream into events."""

    def __init__(self) -> None:
        self.last_id = ""
        """The id of the last complete block that had one."""
        self._rest = b""
        self._kind, self._data, self._id = "", list[str](), ""
        self._size = 0

    def receive(self, data: bytes) -> list[Event]:
        """Return the events that `data` completes.

        Raises:
            RemoteProtocolError: one is longer than `EVENT_MAX`, or is not valid UTF-8.
        """
        found = []
        *lines, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            self._size += len(line)
            self._check_size(self._size)
            if line:
                self._receive_line(line)
            else:
                found += self._end_block()
        self._check_size(self._size + len(self._rest))
        return found

    def _check_size(self, size: int) -> None:
        if size > EVENT_MAX:
            raise RemoteProtocolError(reason=f"an event is longer than {EVENT_MAX} bytes")

    def _receive_line(self, line: bytes) -> None:
        try:
            field, _, value = line.decode().partition(":")
        except UnicodeDecodeError:
            raise RemoteProtocolError(reason="an event is not valid UTF-8") from None
        value = value.removeprefix(" ")
        if field == "event":
            self._kind = value
        elif field == "data":
            self._data.append(value)
        elif field == "id" and len(value) <= ID_MAX and value.isascii() and value.isprintable():
            self._id = value
        elif not field:
            self._size = 0  # a comment, which keeps the connection alive

    def _end_block(self) -> list[Event]:
        event = Event(self._kind or "message", self._id, "\n".join(self._data))
        is_event = bool(self._data) or event.kind != "message"
        self.last_id = self._id
        self._kind, self._data, self._size = "", [], 0
        return [event] if is_event else []


class EventFollower:
    """Follows the presence of peers through every break of the connection."""

    _log = Logger()

    def __init__(
        self,
        http: HttpClient,
        path: str,
        rng: random.Random,
        on_event: Callable[[PeerSummary], object],
        on_reset: Callable[[], object],
        on_link: OnLink,
    ) -> None:
        """Follow the stream at `path`; `rng` draws the jitter. See `RegistryClient.watch` for the callbacks."""
        self._http = http
        self._path = path
        self._rng = rng
        self._on_event = on_event
        self._on_reset = on_reset
        self._on_link = on_link
        self._last_id = ""

    async def run(self, refusal: Callable[[Reply], P2pshareError]) -> None:
        """Follow until cancelled; `refusal` turns a reply with another status than 200 into an error.

        Raises:
            P2pshareError: the registry refuses for good.
        """
        back_off = BackOff(RETRY_FIRST, RETRY_MAX, self._rng)
        while True:
            started = self._http.clock.seconds()
            error = await self._follow_once(refusal)
            self._on_link(False, error)
            if self._http.clock.seconds() - started >= STEADY:
                back_off.reset()
            retry_after = error.fields.get("retry_after") if error else None
            delay = back_off.next_delay(retry_after if isinstance(retry_after, int) else 0.0)
            why = None if error is None else str(error)
            self._log.debug("events broke off: retry_in_s={s:.1f} why={why!r}", s=delay, why=why)
            await deferLater(self._http.clock, delay)

    async def _follow_once(self, refusal: Callable[[Reply], P2pshareError]) -> Unreachable | None:
        """Follow one connection; return why it failed, or None if it ended regularly."""
        parser = EventParser()

        def begun() -> None:
            self._on_link(True, None)
            if not self._last_id:
                self._on_reset()

        def received(data: bytes) -> None:
            for event in parser.receive(data):
                if event.kind == "presence":
                    self._on_event(PeerSummary.from_fields(parse_object(event.data.encode())))
                elif event.kind == "reset":
                    self._on_reset()
            self._last_id = parser.last_id or self._last_id

        headers = {"Accept": "text/event-stream"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        try:
            reply = await self._http.stream(self._path, begun, received, SILENCE_MAX, headers)
        except Unreachable as error:
            return error
        except RemoteProtocolError as error:
            return self._http.unreachable(str(error))
        if reply is None:
            return None
        refused = refusal(reply)
        if isinstance(refused, Unreachable) and (reply.status in (408, 429) or reply.status >= 500):
            return refused
        raise refused
