"""Meetings of ends at different worker processes, by Unix sockets in the data folder."""

# The kernel spreads connections over the workers, so the two ends of a room usually come to different ones. The store
# knows the *home* of each room: the worker to which an end came first. Any other worker connects to the home's socket,
# enters the room there for its end, and then forwards between that link and its end. For both workers the link is an
# end like any other, with the same buffers and rates.
#
# The home of a room expires with the waiting time. After a meeting it is kept as long as the home remembers that the
# room was used. If the home is dead, nobody listens on its socket: the next end takes its place, so a worker that dies
# takes only those with it that were connected to it.
#
# A link carries one line of JSON, [ROOM, KEY, OTHER]; the answer is a line with `ok` or the word of a problem. After
# `ok` follow the bytes of the ends. Both sides are processes of one user: the key in the line was proven to the sender.

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure

from p2pshare.errors import FolderUnusable
from p2pshare.registry.relay.pairs import RelayEnd
from p2pshare.registry.relay.relay import RETRY_AFTER, Relay
from p2pshare.registry.relay.rooms import MEMORY, WAIT, Rooms, spot_of
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.socket_paths import SocketPath
from p2pshare.web.problems import PROBLEMS, RequestError

ANSWER_MAX = WAIT + 2.0  # seconds for its answer
HOME_LIFE = WAIT + 2.0  # seconds for which the home of a room is known
LINE_MAX = 1024  # bytes of a request or an answer
LINKS_MAX = 4096  # links that a worker accepts; each takes a place at the relay that made it
OK = b"ok"
BUSY = {"too-many-requests", "relay-full"}  # problems with a time to try again


class RoomHomes(Protocol):
    """Knows the homes of rooms: `registry.redis.store.RedisNameStore`."""

    def room_home(self, room: str, home: str, life: float, instead_of: str = "") -> Awaitable[str]:
        """Return the home of a room; `home` if it had none, or only `instead_of`. It is kept for `life` seconds."""


class WorkerLinks(Factory):
    """The links of one worker to the others."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        number: int,
        folder: Path,
        homes: RoomHomes,
        relay: Relay,
        rooms: Rooms,
    ) -> None:
        """Link the worker `number`, whose `relay` has these `rooms`, to others of the same data `folder`."""
        self._reactor = reactor
        self._home = str(number)
        self._file = folder / _socket_name(self._home)
        self._path = SocketPath(self._file)
        self._homes = homes
        self._relay = relay
        self._rooms = rooms
        self._port: Any = None
        self.links: set[_AcceptedLink] = set()
        """Those whose ends wait."""

    def listen(self) -> None:
        """Listen; a socket that exists was left by a killed worker of this number.

        Raises:
            FolderUnusable: the socket cannot be made.
        """
        try:
            self._path.make()
            self._file.unlink(missing_ok=True)
            self._file.touch()  # Twisted leaves a socket open that it cannot bind
            self._file.unlink()
            mask = os.umask(0o177)
            try:
                self._port = self._reactor.listenUNIX(self._path.address, self, mode=0o600)
            finally:
                os.umask(mask)
        except (OSError, CannotListenError) as error:
            self._path.remove()
            failed = error.socketError if isinstance(error, CannotListenError) else error
            reason = f"it takes no socket: {plain_reason(failed)}"
            raise FolderUnusable(path=self._file.parent, reason=reason) from error

    async def stop(self) -> None:
        """Close what waits, and remove the socket. May be called at any time."""
        if self._port is None:
            return
        port, self._port = self._port, None
        for link in list(self.links):
            link.transport.abortConnection()
        with suppress(OSError):
            self._file.touch()  # Twisted removes the socket, and fails if somebody else has
            await port.stopListening()
        self._path.remove()

    def buildProtocol(self, addr: IAddress | None) -> _AcceptedLink | None:
        """Accept a link of another worker."""
        return _AcceptedLink(self) if len(self.links) < LINKS_MAX else None

    def enter(self, room: str, key: str, other: str) -> Deferred[RelayEnd]:
        """As `Rooms.enter`, for an end at this worker, wherever the other one comes."""
        return Deferred.fromCoroutine(self._enter(room, key, other))

    def enter_here(
        self, room: str, key: str, other: str, *, is_link: bool = False
    ) -> Deferred[RelayEnd]:
        """Enter a room whose home is this worker, and keep that home as long as the room is remembered."""
        entering = self._rooms.enter(room, key, other, is_link=is_link)
        if entering.called:  # they have met
            keeping = Deferred.fromCoroutine(self._keep_home(room, key, other))
            keeping.addErrback(lambda _: None)  # the store is away: then nobody else finds the home
        return entering

    async def _enter(self, room: str, key: str, other: str) -> RelayEnd:
        digest = _digest(room, key, other)
        home = await self._homes.room_home(digest, self._home, HOME_LIFE)
        if home != self._home:
            try:
                return await self._enter_at(home, room, key, other)
            except OSError:
                home = await self._homes.room_home(digest, self._home, HOME_LIFE, instead_of=home)
        if home != self._home:
            raise RequestError(
                "nobody-came"
            )  # it has moved to a worker that cannot be reached either
        return await self.enter_here(room, key, other)

    async def _enter_at(self, home: str, room: str, key: str, other: str) -> RelayEnd:
        """Enter a room at another worker.

        Raises:
            OSError: that worker is gone.
            RequestError: it refuses.
        """
        place = self._relay.take_place(key)
        link = _Link(json.dumps([room, key, other]).encode())
        try:
            self._connect(home, link)
            word = await link.answer.addTimeout(ANSWER_MAX, self._reactor)
            if word != OK.decode():
                known = word if word in PROBLEMS else "nobody-came"
                raise RequestError(known, retry_after=RETRY_AFTER if known in BUSY else 0)
        except BaseException as error:
            place()
            link.abort()
            if isinstance(error, TimeoutError):
                raise RequestError("nobody-came") from error
            raise
        pair = self._relay.join((key, other), (place, _nothing), is_counted=False)
        link.hand_over(pair.ends[1])
        return pair.ends[0]

    def _connect(self, home: str, link: _Link) -> None:
        """Connect to another worker. Twisted's own client leaves a socket open if nobody listens.

        Raises:
            OSError: it is gone, or too many are connecting to it.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            connection.connect(str(Path(self._path.address).with_name(_socket_name(home))))
            factory = Factory.forProtocol(lambda: link)
            factory.noisy = False
            self._reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, factory)

    async def _keep_home(self, room: str, key: str, other: str) -> None:
        await self._homes.room_home(_digest(room, key, other), self._home, MEMORY)


class _Line(TwistedProtocol):
    """A link until its first line has come; then it can be handed over."""

    transport: Any

    def __init__(self) -> None:
        self._buffer = b""

    def dataReceived(self, data: bytes) -> None:
        """Collect a line."""
        self._buffer += data
        line, end, rest = self._buffer.partition(b"\n")
        if end:
            self._buffer = rest
            self.line_received(line)
        elif len(line) > LINE_MAX:
            self.transport.abortConnection()

    def line_received(self, line: bytes) -> None:
        """Handle the line."""
        raise NotImplementedError

    def hand_over(self, end: RelayEnd) -> None:
        """Let the connection be one end of a pair."""
        self.transport.protocol = end
        end.makeConnection(self.transport)
        if self._buffer:
            end.dataReceived(self._buffer)


class _Link(_Line):
    """The link of an end to the home of its room."""

    def __init__(self, request: bytes) -> None:
        super().__init__()
        self.answer: Deferred[str] = Deferred()
        self._request = request

    def connectionMade(self) -> None:
        """Ask."""
        self.transport.write(self._request + b"\n")

    def line_received(self, line: bytes) -> None:
        """Pass on the answer."""
        if not self.answer.called:
            self.answer.callback(line.decode("ascii", "replace"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Count a lost link as one that nobody has joined."""
        if not self.answer.called:
            self.answer.callback("nobody-came")

    def abort(self) -> None:
        """Close the link, if there is one."""
        if self.transport is not None:
            self.transport.abortConnection()


class _AcceptedLink(_Line):
    """The link of an end at another worker to a room here."""

    def __init__(self, links: WorkerLinks) -> None:
        super().__init__()
        self._links = links
        self._entering: Deferred[Any] | None = None

    def connectionMade(self) -> None:
        """Wait for the request."""
        self._links.links.add(self)

    def line_received(self, line: bytes) -> None:
        """Enter the room."""
        try:
            room, key, other = json.loads(line)
            self._entering = self._links.enter_here(room, key, other, is_link=True)
        except RequestError as error:
            self._say(error.word)
        else:
            self._entering.addCallbacks(self._met, self._failed)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave the room."""
        self._links.links.discard(self)
        if self._entering is not None:
            self._entering.cancel()

    def _met(self, end: RelayEnd) -> None:
        self._links.links.discard(self)
        self.transport.write(OK + b"\n")
        self.hand_over(end)

    def _failed(self, failure: Failure) -> None:
        failure.trap(RequestError, CancelledError)
        if isinstance(failure.value, RequestError):
            self._say(failure.value.word)

    def _say(self, word: str) -> None:
        self.transport.write(word.encode() + b"\n")
        self.transport.loseConnection()


def _digest(room: str, key: str, other: str) -> str:
    """Return the name of a room in the store, which does not show the room."""
    return sha256("\0".join(spot_of(room, key, other)).encode()).hexdigest()


def _socket_name(home: str) -> str:
    return f"relay-{home}.sock"


def _nothing() -> None:
    """Give no place back."""
