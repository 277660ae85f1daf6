"""The socket in a data folder through which verbs talk to the running peer. Only its user can open it.

Requests and replies are lines of JSON::

    {"do": "status"}
    {"ok": true, "name": "bob", ...}
    {"ok": false, "error": "NameTaken", "message": "The name ...", "exit_code": 3}

A connection carries one request at a time. A second request before the reply, a line that is too long, or none at all
for `REQUEST_TIMEOUT` ends the connection. After the request `follow` a connection carries events, until either end
closes it; `docs/control.md` describes all of that for other programs.

A follower that reads slowly must not make the peer keep events without end. Each has a queue of `QUEUE_EVENTS` events
and `QUEUE_BYTES` bytes beyond what the system holds. When it is full, it is dropped, and the last event is `overrun`:
the follower connects again, and asks for the present state.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.internet.error import CannotListenError, ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare import __version__
from p2pshare.errors import (
    ControlRefused,
    FolderUnusable,
    LocalProtocolError,
    P2pshareError,
    PeerNotAnswering,
    RemoteProtocolError,
)
from p2pshare.peer.events import EventHub
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.socket_paths import CONTROL_NAME, socket_address
from p2pshare.wire.strict_json import integer, parse_object, text

LINE_MAX = 64 * 1024  # bytes of a request
REPLY_MAX = 1024 * 1024  # bytes of a reply
PAGE_MAX = REPLY_MAX // 2  # bytes of a page of a long list, beyond its first row
CONNECTIONS_MAX = 64
FOLLOWERS_MAX = 48  # connections that follow; the others are left for requests
QUEUE_EVENTS = 1024  # events that wait for a follower which reads slowly
QUEUE_BYTES = 1024 * 1024  # bytes of these events
AHEAD_MAX = 64  # events that a client takes before its user wants them
REQUEST_TIMEOUT = 10.0  # seconds that a connection may be open without a request
ANSWER_TIMEOUT = 40.0  # seconds that a request may take, since a registry may be slow
COUNT_TIMEOUT = (
    600.0  # seconds that the action `send` may take, since it counts up to a million files
)
OVERRUN_TIMEOUT = 10.0  # seconds in which a follower that was too slow may read the rest

CONTROL_VERSION = 1
"""The version of the protocol of this socket. Fields, actions and events are added without a new version."""
VERSION, FOLLOW = "version", "follow"
"""The two actions of the socket itself."""
OVERRUN = "overrun"
"""The kind of the last event of a follower that was too slow."""
ID_TEXT_MAX = 64  # characters of an ID, or of the beginning of one, in a request
TOO_LONG = "the reply is too long"
AFTER_MAX = 255  # characters of the name or the ID after which a page of a list begins

T = TypeVar("T")


def time_for(do: str) -> float:
    """Return the seconds that an action may take."""
    return COUNT_TIMEOUT if do == "send" else ANSWER_TIMEOUT


Fields = Mapping[str, Any]
Action = Callable[[Fields], Awaitable[Fields]]
"""Does what a request asks for, and returns the fields of the reply; may raise a `P2pshareError`."""


class ControlServer(Factory):
    """Listens in a data folder while its peer runs, and performs what verbs request."""

    _log = Logger()
    noisy = False

    def __init__(
        self,
        reactor: Any,
        folder: Path,
        actions: Mapping[str, Action],
        events: EventHub | None = None,
        *,
        is_lasting: bool = True,
    ) -> None:
        """Perform `actions`, by the value of `do` in a request, and pass `events` to followers.

        `is_lasting` is told to clients: whether the peer has been started to run on, and not for one command.
        """
        self.reactor = reactor
        self.connections: set[_ServerProtocol] = set()
        self.performing: set[Deferred[Any]] = set()
        self._path = folder / CONTROL_NAME
        self._actions = {VERSION: self._version, FOLLOW: self._version, **actions}
        self._events = EventHub() if events is None else events
        self._is_lasting = is_lasting
        self._unsubscribe: Callable[[], None] = lambda: None
        self._port: Any = None
        self._short_path = ExitStack()

    def listen(self) -> None:
        """Listen. The caller holds the folder's lock, so a socket that exists was left by a killed peer.

        Raises:
            FolderUnusable: the socket cannot be made.
        """
        try:
            self._path.unlink(missing_ok=True)
            address = self._short_path.enter_context(socket_address(self._path))
            mask = os.umask(0o177)
            try:
                self._port = self.reactor.listenUNIX(
                    address, self, backlog=CONNECTIONS_MAX, mode=0o600
                )
            finally:
                os.umask(mask)
            self._unsubscribe = self._events.subscribe(
                self._published, lambda: any(each.is_following for each in self.connections)
            )
        except (OSError, CannotListenError) as error:
            self._short_path.close()
            failed = error.socketError if isinstance(error, CannotListenError) else error
            reason = f"it takes no socket: {plain_reason(failed)}"
            raise FolderUnusable(path=self._path.parent, reason=reason) from error

    async def stop(self) -> None:
        """Cancel what is being performed, close all connections, and remove the socket. May be called at any time."""
        if self._port is None:
            return
        port, self._port = self._port, None
        self._unsubscribe()
        for performing in list(self.performing):
            performing.cancel()
        for each in list(self.connections):
            each.end()
        with suppress(OSError):
            self._path.touch()  # Twisted removes the socket, and fails if somebody else has
            await port.stopListening()
        self._short_path.close()

    def buildProtocol(self, addr: IAddress | None) -> _ServerProtocol | None:
        """Accept a connection, unless there are too many."""
        return _ServerProtocol(self) if len(self.connections) < CONNECTIONS_MAX else None

    def answer(self, do: str, request: Fields) -> Deferred[Fields]:
        """Return the fields of the reply to a request in time; it is cancelled when the peer ends.

        The Deferred fails with a `P2pshareError` alone.
        """
        performing = Deferred.fromCoroutine(self.perform(do, request))
        self.performing.add(performing)

        def over(result: T) -> T:
            self.performing.discard(performing)
            return result

        performing.addTimeout(time_for(do), self.reactor)
        performing.addBoth(over)
        return performing.addErrback(self._translated)

    def _translated(self, failure: Failure) -> Failure:
        """Return the error of an action as one that a reply can have."""
        if failure.check(TimeoutError, CancelledError):
            return Failure(ControlRefused(reason="it took too long, or the peer is ending"))
        if failure.check(P2pshareError):
            return failure
        self._log.failure("request of a verb failed", failure)
        return Failure(LocalProtocolError(reason=failure.getErrorMessage()))

    async def perform(self, do: str, request: Fields) -> Fields:
        """Return the fields of the reply to a request; for an action, null is the same as no field.

        Raises:
            ControlRefused: there is no such action.
            P2pshareError: the action failed.
        """
        if do not in self._actions:
            raise ControlRefused(reason=f"it knows no {do!r}")
        if do == FOLLOW and sum(each.is_following for each in self.connections) > FOLLOWERS_MAX:
            raise ControlRefused(reason="too many programs follow it")
        given = {key: value for key, value in request.items() if value is not None}
        return {"ok": True, **await self._actions[do](given)}

    async def _version(self, _request: Fields) -> Fields:
        """Return what a client needs to know before it asks for something that is new."""
        return {
            "control": CONTROL_VERSION,
            "program": __version__,
            "lasting": self._is_lasting,
            "actions": sorted(self._actions),
        }

    def _published(self, kind: str, fields: Fields) -> None:
        """Pass an event to all followers; one that is too long becomes `overrun`, since a follower must ask then."""
        following = [each for each in self.connections if each.is_following]
        line = _line({"event": kind, **fields}) if following else b""
        for each in following:
            each.tell(line)


@implementer(IPushProducer)
class _ServerProtocol(LineOnlyReceiver, TimeoutMixin):
    """The peer's end of a connection."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = LINE_MAX

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._busy = False
        self._queue: deque[bytes] = deque()
        self._queued = 0  # bytes in it
        self._is_paused = False
        self._dropping: IDelayedCall | None = None
        self.is_following = False
        """Whether it wants events."""

    def connectionMade(self) -> None:
        self._server.connections.add(self)
        self.setTimeout(REQUEST_TIMEOUT)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection; a running action goes on."""
        self._server.connections.discard(self)
        self.is_following = False
        self._queue.clear()
        if self._dropping is not None and self._dropping.active():
            self._dropping.cancel()
        self.setTimeout(None)

    def end(self) -> None:
        """Close the connection: of a follower that reads slowly at once, else after what was sent."""
        if self._is_paused:
            self.transport.abortConnection()
        else:
            self._close()

    def tell(self, line: bytes) -> None:
        """Send an event, or keep it until the follower reads again."""
        if len(line) > REPLY_MAX:
            self._overrun()
        elif not self._is_paused:
            self.sendLine(line)
        elif len(self._queue) < QUEUE_EVENTS and self._queued + len(line) <= QUEUE_BYTES:
            self._queue.append(line)
            self._queued += len(line)
        else:
            self._overrun()

    def pauseProducing(self) -> None:
        """Keep events from now on: the follower does not read as fast as they come."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Send the events that were kept, until the follower is too slow again."""
        self._is_paused = False
        while self._queue and not self._is_paused:
            line = self._queue.popleft()
            self._queued -= len(line)
            self.sendLine(line)

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost."""

    def _overrun(self) -> None:
        """Drop the follower, which has missed events; it is told so if it reads in time."""
        self.is_following = False
        self._queue.clear()
        self.sendLine(_line({"event": OVERRUN}))
        self._close()
        self._dropping = self.callLater(OVERRUN_TIMEOUT, self.transport.abortConnection)

    def _close(self) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def callLater(self, period: float, func: Callable[[], None]) -> IDelayedCall:
        """Start a timer for `TimeoutMixin`."""
        delayed: IDelayedCall = self._server.reactor.callLater(period, func)
        return delayed

    def lineReceived(self, line: bytes) -> None:
        """Perform a request."""
        if self._busy or self.transport.disconnecting:
            self.transport.abortConnection()
            return
        try:
            request = parse_object(line)
            do = text(request, "do", 32)
        except RemoteProtocolError:
            reason = "the request is no line of JSON that it knows"
            self.sendLine(_line(_failed(ControlRefused(reason=reason))))
            self.transport.loseConnection()
            return
        self._busy = True
        self.is_following = do == FOLLOW
        self.setTimeout(None)
        performing = self._server.answer(do, request)
        performing.addCallbacks(self._reply, lambda failure: self._reply(_failed(failure.value)))

    def _reply(self, fields: Fields) -> None:
        self.is_following = self.is_following and fields["ok"]
        self._busy = self.is_following
        if self not in self._server.connections:
            return
        line = _line(fields)
        if len(line) > REPLY_MAX:
            line = _line(_failed(ControlRefused(reason=TOO_LONG)))
        self.sendLine(line)
        if self.is_following:
            self.transport.registerProducer(self, True)
        else:
            self.setTimeout(REQUEST_TIMEOUT)


class ControlClient(LineOnlyReceiver):
    """A verb's end of the connection; `close` it in the end."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = REPLY_MAX
    _log = Logger()

    def __init__(self, clock: IReactorTime, folder: Path) -> None:
        """Ask the peer that runs on `folder`, once there is a connection."""
        self._clock = clock
        self._folder = folder
        self._reply: Deferred[bytes] | None = None
        self._events: deque[bytes] = deque()
        self._awaited: Deferred[None] | None = None  # fires when there is an event, or the end
        self._is_following = False

    async def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Let the peer perform an action, and return the fields of its reply.

        Raises:
            P2pshareError: the action failed; class, sentence and exit code are those of the peer's error.
            PeerNotAnswering: the peer ended meanwhile, or takes longer than `time_for` the action.
        """
        self._log.debug(
            "asking the running peer: folder={folder} do={do}", folder=self._folder, do=do
        )
        try:
            request = json.dumps({"do": do, **fields}).encode()
            line = self._ask(request).addTimeout(time_for(do), self._clock)
            reply = parse_object(await line)
            failed = None if reply.pop("ok", False) is True else _error_of(reply)
        except TimeoutError as error:
            self.close()
            raise self._not_answering("it takes too long") from error
        except ConnectionClosed as error:
            raise self._not_answering("it ended meanwhile") from error
        except RemoteProtocolError as error:
            raise self._not_answering("its reply is not valid") from error
        if failed is not None:
            raise failed
        return reply

    async def follow(self) -> AsyncGenerator[dict[str, Any]]:
        """Return the events of the peer from now on, each with its kind as `event`.

        The connection carries nothing else afterwards. `overrun` is the last event of a follower that was too slow. The
        caller then follows again, over another connection, and asks for the present state. The iterator raises
        `PeerNotAnswering` when the peer has ended.

        Raises:
            P2pshareError: as for `ask`.
        """
        self._is_following = True
        await self.ask(FOLLOW)
        return self._followed()

    async def _followed(self) -> AsyncGenerator[dict[str, Any]]:
        try:
            while True:
                if self._events:
                    event = parse_object(self._events.popleft())
                    yield event
                    if event.get("event") == OVERRUN:
                        return
                elif not self.connected:
                    raise self._not_answering("it has ended")
                else:
                    self._awaited = Deferred()
                    self.transport.resumeProducing()
                    await self._awaited
        except RemoteProtocolError as error:
            raise self._not_answering("its event is not valid") from error
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection. May be called again."""
        if self.connected:
            self.transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:
        """Take a reply or an event; a reply that nobody has asked for is ignored."""
        reply, self._reply = self._reply, None
        if reply is not None and not reply.called:
            reply.callback(line)
        elif self._is_following:
            self._events.append(line)
            if len(self._events) >= AHEAD_MAX:
                self.transport.pauseProducing()
            self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail the request that waits for a reply."""
        self.connected = 0
        reply, self._reply = self._reply, None
        if reply is not None and not reply.called:
            reply.errback(reason)
        self._wake()

    def _wake(self) -> None:
        awaited, self._awaited = self._awaited, None
        if awaited is not None and not awaited.called:
            awaited.callback(None)

    def _ask(self, line: bytes) -> Deferred[bytes]:
        assert self._reply is None, "one request at a time"
        if not self.connected:
            return fail(ConnectionDone())
        self._reply = Deferred(lambda _: self.close())
        self.sendLine(line)
        return self._reply

    def _not_answering(self, reason: str) -> PeerNotAnswering:
        return PeerNotAnswering(path=self._folder, reason=reason)


async def running_peer(reactor: Any, folder: Path) -> ControlClient | None:
    """Connect to the peer that runs on a data folder; None if none does.

    Raises:
        PeerNotAnswering: a peer seems to run, but does not accept the connection.
    """
    client = ControlClient(reactor, folder)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        try:
            with socket_address(folder / CONTROL_NAME) as address:
                connection.connect(address)
            factory = Factory.forProtocol(lambda: client)
            factory.noisy = False
            reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, factory)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except BlockingIOError as error:
            raise PeerNotAnswering(path=folder, reason="too many are asking it") from error
        except OSError as error:
            raise PeerNotAnswering(path=folder, reason=plain_reason(error)) from error
    return client


def page(
    request: Fields, key: str, rows: Iterable[tuple[str, T]], shown: Callable[[T], Fields]
) -> Fields:
    """Return a part of a long list as a reply: `{key: [row, ...], "more": bool}`.

    The rows are ordered by their IDs. A request for the next part has the ID of the last row as `after`, which works
    whatever was added or removed meanwhile.

    Args:
        request: the request, with or without `after`.
        key: the name of the list in the reply.
        rows: the IDs, and what they belong to.
        shown: returns the fields of a row.

    Raises:
        RemoteProtocolError: `after` is not the text of an ID.
    """
    after = text({"after": "", **request}, "after", AFTER_MAX)
    told: list[Fields] = []
    size = 0
    for _, row in sorted((pair for pair in rows if pair[0] > after), key=_first):
        fields = shown(row)
        size += len(_line(fields))
        if told and size > PAGE_MAX:
            return {key: told, "more": True}
        told.append(fields)
    return {key: told, "more": False}


def _first(pair: tuple[str, Any]) -> str:
    return pair[0]


def _failed(error: P2pshareError) -> Fields:
    """Return the reply that says what failed."""
    code, name = error.exit_code, type(error).__name__
    return {"ok": False, "error": name, "message": str(error), "exit_code": code}


def _line(fields: Fields) -> bytes:
    """Return a line. A byte of a local path that is not UTF-8 becomes a question mark: no JSON has it."""
    return json.dumps(fields, ensure_ascii=False).encode(errors="replace")


def _error_of(reply: dict[str, Any]) -> P2pshareError:
    """Return the error in a reply: by its class, or if that is not known, by its exit code."""
    name, sentence = text(reply, "error", 64), text(reply, "message", LINE_MAX)
    code = integer(reply, "exit_code", 0, 255)
    kinds = _kinds(P2pshareError)
    known = next((each for each in kinds if each.__name__ == name), None)
    kind = known or next((each for each in kinds if each.exit_code == code), P2pshareError)
    return kind.retold(sentence)


def _kinds(of: type[P2pshareError]) -> list[type[P2pshareError]]:
    return [of, *(each for below in of.__subclasses__() for each in _kinds(below))]
