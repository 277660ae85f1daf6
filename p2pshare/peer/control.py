"""The socket in a data folder through which verbs talk to the running peer. Only its user can open it.

Requests and replies are lines of JSON::

    {"do": "status"}
    {"ok": true, "name": "bob", ...}
    {"ok": false, "error": "NameTaken", "message": "The name ...", "exit_code": 3}

A connection carries one request at a time. A second request before the reply, a line that is too long, or none at all
for `REQUEST_TIMEOUT` ends the connection.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.internet.error import CannotListenError, ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from p2pshare.errors import (
    ControlRefused,
    FolderUnusable,
    LocalProtocolError,
    P2pshareError,
    PeerNotAnswering,
    RemoteProtocolError,
)
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.socket_paths import CONTROL_NAME, socket_address
from p2pshare.wire.strict_json import integer, parse_object, text

LINE_MAX = 64 * 1024  # bytes of a request
REPLY_MAX = 1024 * 1024  # bytes of a reply
CONNECTIONS_MAX = 16
REQUEST_TIMEOUT = 10.0  # seconds that a connection may be open without a request
ANSWER_TIMEOUT = 40.0  # seconds that a request may take, since a registry may be slow

Fields = Mapping[str, Any]
Action = Callable[[Fields], Awaitable[Fields]]
"""Does what a request asks for, and returns the fields of the reply; may raise a `P2pshareError`."""


class ControlServer(Factory):
    """Listens in a data folder while its peer runs, and performs what verbs request."""

    noisy = False

    def __init__(self, reactor: Any, folder: Path, actions: Mapping[str, Action]) -> None:
        """Perform `actions`, by the value of `do` in a request."""
        self.reactor = reactor
        self.connections: set[_ServerProtocol] = set()
        self.performing: set[Deferred[Any]] = set()
        self._path = folder / CONTROL_NAME
        self._actions = actions
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
        for performing in list(self.performing):
            performing.cancel()
        for each in list(self.connections):
            each.transport.loseConnection()
        with suppress(OSError):
            self._path.touch()  # Twisted removes the socket, and fails if somebody else has
            await port.stopListening()
        self._short_path.close()

    def buildProtocol(self, addr: IAddress | None) -> _ServerProtocol | None:
        """Accept a connection, unless there are too many."""
        return _ServerProtocol(self) if len(self.connections) < CONNECTIONS_MAX else None

    async def perform(self, do: str, request: Fields) -> Fields:
        """Return the fields of the reply to a request.

        Raises:
            ControlRefused: there is no such action.
            P2pshareError: the action failed.
        """
        if do not in self._actions:
            raise ControlRefused(reason=f"it knows no {do!r}")
        return {"ok": True, **await self._actions[do](request)}


class _ServerProtocol(LineOnlyReceiver, TimeoutMixin):
    """The peer's end of a connection."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = LINE_MAX
    _log = Logger()

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._busy = False

    def connectionMade(self) -> None:
        self._server.connections.add(self)
        self.setTimeout(REQUEST_TIMEOUT)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection; a running action goes on."""
        self._server.connections.discard(self)
        self.setTimeout(None)

    def callLater(self, period: float, func: Callable[[], None]) -> IDelayedCall:
        """Start a timer for `TimeoutMixin`."""
        delayed: IDelayedCall = self._server.reactor.callLater(period, func)
        return delayed

    def lineReceived(self, line: bytes) -> None:
        """Perform a request."""
        if self._busy:
            self.transport.abortConnection()
            return
        try:
            request = parse_object(line)
            do = text(request, "do", 32)
        except RemoteProtocolError:
            reason = "the request is no line of JSON that it knows"
            self.sendLine(_line(self._failed(Failure(ControlRefused(reason=reason)))))
            self.transport.loseConnection()
            return
        self._busy = True
        self.setTimeout(None)
        performing = Deferred.fromCoroutine(self._server.perform(do, request))
        self._server.performing.add(performing)
        performing.addTimeout(ANSWER_TIMEOUT, self._server.reactor)
        performing.addErrback(self._failed).addCallback(self._reply, performing)

    def _failed(self, failure: Failure) -> Fields:
        """Return the reply that says what failed."""
        error = failure.value
        if failure.check(TimeoutError, CancelledError):
            error = ControlRefused(reason="it took too long, or the peer is ending")
        elif not isinstance(error, P2pshareError):
            self._log.failure("request of a verb failed", failure)
            error = LocalProtocolError(reason=failure.getErrorMessage())
        code, name = error.exit_code, type(error).__name__
        return {"ok": False, "error": name, "message": str(error), "exit_code": code}

    def _reply(self, fields: Fields, performing: Deferred[Fields]) -> None:
        self._server.performing.discard(performing)
        self._busy = False
        if self in self._server.connections:
            self.setTimeout(REQUEST_TIMEOUT)
            line = _line(fields)
            if len(line) > REPLY_MAX:
                line = _line(self._failed(Failure(ControlRefused(reason="the reply is too long"))))
            self.sendLine(line)


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

    async def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Let the peer perform an action, and return the fields of its reply.

        Raises:
            P2pshareError: the action failed; class, sentence and exit code are those of the peer's error.
            PeerNotAnswering: the peer ended meanwhile, or takes longer than `ANSWER_TIMEOUT`.
        """
        self._log.debug(
            "asking the running peer: folder={folder} do={do}", folder=self._folder, do=do
        )
        try:
            line = self._ask(_line({"do": do, **fields})).addTimeout(ANSWER_TIMEOUT, self._clock)
            reply = parse_object(await line)
            if reply.get("ok") is True:
                del reply["ok"]
                return reply
            raise _error_of(reply)
        except TimeoutError as error:
            self.close()
            raise self._not_answering("it takes too long") from error
        except ConnectionClosed as error:
            raise self._not_answering("it ended meanwhile") from error
        except RemoteProtocolError as error:
            raise self._not_answering("its reply is not valid") from error

    def close(self) -> None:
        """Close the connection. May be called again."""
        if self.connected:
            self.transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:
        """Take a reply; one that nobody has asked for is ignored."""
        reply, self._reply = self._reply, None
        if reply is not None and not reply.called:
            reply.callback(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail the request that waits for a reply."""
        self.connected = 0
        reply, self._reply = self._reply, None
        if reply is not None and not reply.called:
            reply.errback(reason)

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


def _line(fields: Fields) -> bytes:
    return json.dumps(fields).encode()


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
