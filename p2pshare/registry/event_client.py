"""A stream of presence changes, as Server-Sent Events (WHATWG HTML, section 9.2), followed for as long as one likes."""

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
RETRY_FIRST, RETRY_MAX = 0.5, 15.0  # seconds until the stream is asked for again
STEADY = 10.0  # seconds of a stream after which its end counts as the first trouble


@dataclass(frozen=True, slots=True)
class Event:
    """What a stream says."""

    kind: str
    id: str
    data: str


class EventParser:
    """Cuts a stream into events."""

    def __init__(self) -> None:
        self._rest = b""
        self._kind, self._data = "", list[str]()
        self._size = 0
        self.last_id = ""
        """Of the last whole event that had one."""
        self._id = ""

    def receive(self, data: bytes) -> list[Event]:
        """The events that are whole with `data`.

        Raises:
            RemoteProtocolError: one is longer than `EVENT_MAX`, or no UTF-8.
        """
        found = []
        *lines, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            self._size += len(line)
            self._check_size(self._size)
            if not line:
                found += self._whole()
            else:
                self._take(line)
        self._check_size(self._size + len(self._rest))
        return found

    def _check_size(self, size: int) -> None:
        if size > EVENT_MAX:
            raise RemoteProtocolError(reason=f"an event is longer than {EVENT_MAX} bytes")

    def _take(self, line: bytes) -> None:
        try:
            field, _, value = line.decode().partition(":")
        except UnicodeDecodeError:
            raise RemoteProtocolError(reason="an event is no UTF-8") from None
        value = value.removeprefix(" ")
        if field == "event":
            self._kind = value
        elif field == "data":
            self._data.append(value)
        elif field == "id" and len(value) <= ID_MAX and value.isascii() and value.isprintable():
            self._id = value
        elif not field:
            self._size = 0  # a comment, which keeps the connection alive

    def _whole(self) -> list[Event]:
        event = Event(self._kind or "message", self._id, "\n".join(self._data))
        had_data = bool(self._data)
        self.last_id = self._id
        self._kind, self._data, self._size = "", [], 0
        return [event] if had_data or event.kind != "message" else []


class EventFollower:
    """Follows the changes of some peers' presence, through every break of the connection."""

    _log = Logger()

    def __init__(
        self,
        http: HttpClient,
        path: str,
        rng: random.Random,
        on_event: Callable[[PeerSummary], object],
        on_reset: Callable[[], object],
        on_link: Callable[[bool], object] = lambda _: None,
    ) -> None:
        """See `RegistryClient.watch`; `path` is that of the stream, and `rng` draws the jitter."""
        self._http = http
        self._path = path
        self._rng = rng
        self._on_event = on_event
        self._on_reset = on_reset
        self._on_link = on_link
        self._last_id = ""

    async def run(self, refusal: Callable[[Reply], P2pshareError]) -> None:
        """Follow until cancelled.

        Args:
            refusal: the error that a status other than 200 is.

        Raises:
            P2pshareError: the registry refuses, for good.
        """
        back_off = BackOff(RETRY_FIRST, RETRY_MAX, self._rng)
        while True:
            started = self._http.clock.seconds()
            trouble = await self._follow_once(refusal)
            self._on_link(False)
            if self._http.clock.seconds() - started >= STEADY:
                back_off.reset()
            told = trouble.fields.get("retry_after") if trouble else None
            pause = back_off.next_delay(float(told) if isinstance(told, int) else 0.0)
            why = None if trouble is None else str(trouble)
            self._log.debug(
                "events broke off: retry_in_s={pause:.1f} why={why!r}", pause=pause, why=why
            )
            await deferLater(self._http.clock, pause, lambda: None)

    async def _follow_once(self, refusal: Callable[[Reply], P2pshareError]) -> Unreachable | None:
        parser = EventParser()

        def begun() -> None:
            self._on_link(True)
            if not self._last_id:
                self._on_reset()

        def received(data: bytes) -> None:
            for event in parser.receive(data):
                self._take(event)
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

    def _take(self, event: Event) -> None:
        if event.kind == "presence":
            self._on_event(PeerSummary.from_fields(parse_object(event.data.encode())))
        elif event.kind == "reset":
            self._on_reset()
