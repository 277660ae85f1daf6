"""How verbs talk to the running peer: a socket in its data folder, which its user alone can open.

Requests and replies are lines of JSON::

    {"do": "status"}
    {"ok": true, "name": "bob", ...}
    {"ok": false, "error": "NameTaken", "message": "The name ...", "exit_code": 3}
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
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from p2pshare.errors import (
    ControlRefused,
    FolderUnusable,
    LocalProtocolError,
    P2pshareError,
    PeerNotAnswering,
    RemoteProtocolError,
)
from p2pshare.storage.identity.control_socket import SOCKET_NAME, reachable
from p2pshare.storage.reasons import plain_reason
from p2pshare.wire.strict_json import integer, parse_object, text

LINE_MAX = 64 * 1024  # bytes of a request
REPLY_MAX = 1024 * 1024  # bytes of a reply
CONNECTIONS_MAX = 16
REQUEST_TIMEOUT = 10.0  # seconds that a connection may stay without a request
ANSWER_TIMEOUT = 40.0  # seconds that a request may take: it may have to ask a registry that is slow

Fields = Mapping[str, Any]
Deed = Callable[[Fields], Awaitable[Fields]]
"""Does what a request wants, and returns the fields of the reply; it may raise a `P2pshareError`."""


class ControlServer:
    """Listens in a data folder for as long as its peer runs, and does what verbs ask for."""

    def __init__(self, reactor: Any, folder: Path, deeds: Mapping[str, Deed]) -> None:
        """Serve `deeds`, by what a request calls them in `do`."""
        self._reactor = reactor
        self._path = folder / SOCKET_NAME
        self._factory = _ServerFactory(reactor, deeds)
        self._port: Any = None
        self._way = ExitStack()

    def listen(self) -> None:
        """Begin to listen. The caller holds the folder's lock, so a socket that is there is a killed peer's.

        Raises:
            FolderUnusable: no socket can be made there.
        """
        try:
            self._path.unlink(missing_ok=True)
            address = self._way.enter_context(reachable(self._path))
            mask = os.umask(0o177)
            try:
                self._port = self._reactor.listenUNIX(
                    address, self._factory, backlog=CONNECTIONS_MAX, mode=0o600
                )
            finally:
                os.umask(mask)
        except (OSError, CannotListenError) as error:
            self._way.close()
            failed = error.socketError if isinstance(error, CannotListenError) else error
            reason = f"it takes no socket: {plain_reason(failed)}"
            raise FolderUnusable(path=self._path.parent, reason=reason) from error

    async def stop(self) -> None:
        """Stop listening, end all connections, and remove the socket. May be called again, or without `listen`."""
        if self._port is None:
            return
        port, self._port = self._port, None
        self._factory.end_all()
        with suppress(OSError):
            self._path.touch()  # Twisted removes it, and fails if somebody else has
            await port.stopListening()
        self._way.close()


class ControlClient:
    """A verb's end of the socket; `close` it in the end."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, folder: Path, protocol: _ClientProtocol) -> None:
        self._clock = clock
        self._folder = folder
        self._protocol = protocol

    async def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Have the peer do something, and return what it replies.

        Raises:
            P2pshareError: the peer could not; the class, the sentence and the exit code are those of its own error.
            PeerNotAnswering: it ended meanwhile, or takes longer than `ANSWER_TIMEOUT`.
        """
        self._log.debug(
            "asking the running peer: folder={folder} do={do}", folder=self._folder, do=do
        )
        try:
            asked = self._protocol.ask(_line({"do": do, **fields}))
            reply = parse_object(await asked.addTimeout(ANSWER_TIMEOUT, self._clock))
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
            raise self._not_answering("it says what no peer would") from error

    def close(self) -> None:
        """End the connection. May be called again."""
        self._protocol.close()

    def _not_answering(self, reason: str) -> PeerNotAnswering:
        return PeerNotAnswering(path=self._folder, reason=reason)


async def running_peer(reactor: Any, folder: Path) -> ControlClient | None:
    """The peer that runs on a data folder; None if none does.

    Raises:
        PeerNotAnswering: one seems to run, but cannot be connected to.
    """
    protocol = _ClientProtocol()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        try:
            with reachable(folder / SOCKET_NAME) as address:
                connection.connect(address)
            factory = Factory.forProtocol(lambda: protocol)
            factory.noisy = False
            reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, factory)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except BlockingIOError as error:
            raise PeerNotAnswering(path=folder, reason="too many are asking it") from error
        except OSError as error:
            raise PeerNotAnswering(path=folder, reason=plain_reason(error)) from error
    return ControlClient(reactor, folder, protocol)


class _ServerFactory(Factory):
    noisy = False

    def __init__(self, clock: IReactorTime, deeds: Mapping[str, Deed]) -> None:
        self.clock = clock
        self.deeds = deeds
        self.connections: set[_ServerProtocol] = set()
        self.doing: set[Deferred[Any]] = set()

    def buildProtocol(self, addr: IAddress | None) -> _ServerProtocol | None:
        """One more connection, or none if there are too many."""
        return _ServerProtocol(self) if len(self.connections) < CONNECTIONS_MAX else None

    def end_all(self) -> None:
        """End every connection, but let what was replied go out, and all that is being done."""
        for doing in list(self.doing):
            doing.cancel()
        for each in list(self.connections):
            each.end()


class _ServerProtocol(LineOnlyReceiver):
    """Takes one request after the other."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = LINE_MAX
    _log = Logger()

    def __init__(self, factory: _ServerFactory) -> None:
        self._owner = factory
        self._busy = False
        self._is_nonsense = False  # what it says: it is answered once
        self._patience = factory.clock.callLater(REQUEST_TIMEOUT, self.end)

    def connectionMade(self) -> None:
        """Somebody is there."""
        self._owner.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Somebody left; what is being done for them is done."""
        self._owner.connections.discard(self)
        if self._patience.active():
            self._patience.cancel()

    def lineReceived(self, line: bytes) -> None:
        """Do what a request wants; a second one before the reply to the first is not waited for."""
        if self._busy or not self._patience.active():
            self.transport.abortConnection()
            return
        self._patience.cancel()
        self._busy = True
        doing: Deferred[Fields] = Deferred.fromCoroutine(self._do(line))
        self._owner.doing.add(doing)
        doing.addTimeout(ANSWER_TIMEOUT, self._owner.clock)
        doing.addCallbacks(lambda fields: {"ok": True, **fields}, self._reply_of)
        doing.addCallback(self._reply, doing)

    def end(self) -> None:
        """Hang up."""
        self.transport.loseConnection()

    async def _do(self, line: bytes) -> Fields:
        try:
            request = parse_object(line)
            do = text(request, "do", 32)
        except RemoteProtocolError as error:
            self._is_nonsense = True
            raise ControlRefused(reason="the request is no line of JSON that it knows") from error
        deed = self._owner.deeds.get(do)
        if deed is None:
            raise ControlRefused(reason=f"it knows no {do!r}")
        return await deed(request)

    def _reply_of(self, failure: Failure) -> Fields:
        error = failure.value
        if failure.check(TimeoutError, CancelledError):
            error = ControlRefused(reason="it took too long, or the peer is ending")
        elif not isinstance(error, P2pshareError):
            self._log.failure("a request of a verb failed", failure)
            error = LocalProtocolError(reason=failure.getErrorMessage())
        return {
            "ok": False,
            "error": type(error).__name__,
            "message": str(error),
            "exit_code": error.exit_code,
        }

    def _reply(self, fields: Fields, doing: Deferred[Fields]) -> None:
        self._owner.doing.discard(doing)
        self._busy = False
        if self in self._owner.connections:
            self._patience = self._owner.clock.callLater(REQUEST_TIMEOUT, self.end)
            line = _line(fields)
            if len(line) > REPLY_MAX:
                refused = ControlRefused(reason="the reply is too long")
                line = _line(self._reply_of(Failure(refused)))
            self.sendLine(line)
            if self._is_nonsense:
                self.end()


class _ClientProtocol(LineOnlyReceiver):
    """Waits for the reply to one request at a time."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = REPLY_MAX

    def __init__(self) -> None:
        self._reply: Deferred[bytes] | None = None

    def ask(self, line: bytes) -> Deferred[bytes]:
        """Send a request; gives the reply."""
        assert self._reply is None, "one request at a time"
        if not self.connected:
            return fail(ConnectionDone())
        self._reply = Deferred(lambda _: self.close())
        self.sendLine(line)
        return self._reply

    def close(self) -> None:
        """Hang up."""
        if self.connected:
            self.transport.abortConnection()

    def lineReceived(self, line: bytes) -> None:
        """Hand the reply on."""
        reply, self._reply = self._reply, None
        if reply is not None and not reply.called:
            reply.callback(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There will be no reply."""
        self.connected = 0
        reply, self._reply = self._reply, None
        if reply is not None and not reply.called:
            reply.errback(reason)


def _line(fields: Fields) -> bytes:
    return json.dumps(fields).encode()


def _error_of(reply: dict[str, Any]) -> P2pshareError:
    """The error that a reply tells of."""
    name, sentence = text(reply, "error", 64), text(reply, "message", LINE_MAX)
    code = integer(reply, "exit_code", 0, 255)
    kinds = _kinds(P2pshareError)
    known = next((each for each in kinds if each.__name__ == name), None)
    kind = known or next((each for each in kinds if each.exit_code == code), P2pshareError)
    return kind.retold(sentence)


def _kinds(of: type[P2pshareError]) -> list[type[P2pshareError]]:
    return [of, *(each for below in of.__subclasses__() for each in _kinds(below))]
