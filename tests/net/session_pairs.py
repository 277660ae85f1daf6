"""Two ends of a session, in one process: in memory, or over the loopback interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from p2pshare.core.session import Role, SessionCore
from p2pshare.core.session_interface import Session
from p2pshare.errors import P2pshareError
from p2pshare.net.session.stream import SessionStream
from p2pshare.net.session.tls import Judge, SessionTls
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.message_fields import Message
from p2pshare.wire.session_messages import Hello

ALICE, BOB, EVE = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))
HELLO = Hello("test/1", 2**20)
ROUNDS_MAX = 1000  # of carrying bytes to and fro, until something is wrong


class MemoryTransport:
    """What a stream has instead of a TCP connection."""

    bufferSize = 65536  # noqa: N815 - Twisted's name

    def __init__(self) -> None:
        self.waiting = bytearray()
        self.producer: Any = None
        self.is_full = self.is_paused = self.is_closing = self.is_aborted = False
        self.is_half_closed = False
        self.hung_up: Failure | None = None

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if self.is_closing or self.hung_up:
            return
        self.waiting += data
        if self.producer is not None and len(self.waiting) > self.bufferSize:
            self.is_full = True
            self.producer.pauseProducing()

    def take(self, size: int | None = None) -> bytes:
        """What goes to the other end."""
        data = bytes(self.waiting[:size])
        del self.waiting[: len(data)]
        if not self.waiting and self.is_full:
            self.is_full = False
            if self.producer is not None:
                self.producer.resumeProducing()
        return data

    def registerProducer(self, producer: Any, _streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.is_paused = False

    def loseConnection(self) -> None:
        self.is_closing = True

    def loseWriteConnection(self) -> None:  # noqa: N802
        self.is_half_closed = True

    def abortConnection(self) -> None:
        self.is_aborted = True


class Listener:
    """A user that remembers all it is told, and may be told what to do."""

    def __init__(self, session: Session | None = None) -> None:
        self.session = session
        self.messages: list[Message] = []
        self.pieces: list[tuple[int, int, bytes]] = []
        self.rooms = 0
        self.ends: list[P2pshareError | None] = []
        self.on_message: Callable[[Message], object] = lambda _: None
        self.on_room: Callable[[], object] = lambda: None
        self.on_end: Callable[[], object] = lambda: None

    def message_received(self, message: Message) -> None:
        assert not self.ends
        self.messages.append(message)
        self.on_message(message)

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        assert not self.ends
        self.pieces.append((transfer, offset, bytes(data)))

    def room_again(self) -> None:
        assert not self.ends
        self.rooms += 1
        self.on_room()

    def session_ended(self, reason: P2pshareError | None) -> None:
        self.ends.append(reason)
        self.on_end()

    @property
    def received(self) -> bytes:
        """All bytes of files, in the order in which they came."""
        return b"".join(data for _, _, data in self.pieces)


class Recorder:
    """An owner of streams; it welcomes everybody as bob, unless told otherwise."""

    def __init__(self) -> None:
        self.hellos: list[Hello] = []
        self.sessions = 0
        self.ends: list[P2pshareError | None] = []
        self.on_greeted: Callable[[SessionStream], object] = lambda stream: stream.welcome("bob")

    def greeted(self, stream: SessionStream, hello: Hello) -> None:
        self.hellos.append(hello)
        self.on_greeted(stream)

    def welcomed(self, stream: SessionStream) -> None:
        self.sessions += 1

    def ended(self, stream: SessionStream, reason: P2pshareError | None) -> None:
        self.ends.append(reason)


class CountingClock(Clock):
    """It knows how many timers were set."""

    timers = 0

    def callLater(self, *args: Any, **keywords: Any) -> IDelayedCall:
        self.timers += 1
        return super().callLater(*args, **keywords)


class Pair:
    """An opener (bob) and a sharer (alice), with a wire between them."""

    def __init__(
        self,
        *,
        silence: float = 15.0,
        opener_tls: tuple[SSL.Connection, Judge] | None = None,
        sharer_tls: tuple[SSL.Connection, Judge] | None = None,
        clock: CountingClock | None = None,
    ) -> None:
        self.clock = clock or CountingClock()
        self.owners = Recorder(), Recorder()
        self.opener = SessionStream(
            self.clock,
            opener_tls or SessionTls(BOB).connect(ALICE.public),
            SessionCore(Role.OPENER, 0.0, name="alice", hello=HELLO, silence=silence),
            self.owners[0],
        )
        self.sharer = SessionStream(
            self.clock,
            sharer_tls or SessionTls(ALICE).accept(),
            SessionCore(Role.SHARER, 0.0, agent="test/2"),
            self.owners[1],
        )
        self.ends = (self.opener, MemoryTransport()), (self.sharer, MemoryTransport())
        self.carried = [b"", b""]
        """The ciphertext from either."""
        self.fetcher, self.server = Listener(self.opener), Listener(self.sharer)

    def connect(self) -> None:
        """Begin, and let both come as far as they can."""
        for stream, transport in reversed(self.ends):
            stream.makeConnection(transport)
        self.carry()

    def open(self) -> None:
        """Begin, and have a session at both ends."""
        self.connect()
        assert [each.sessions for each in self.owners] == [1, 1]
        self.opener.begin(self.fetcher)
        self.sharer.begin(self.server)
        self.carry()

    def carry(self, size: int | None = None) -> None:
        """Carry bytes to and fro, until there are none."""
        for _ in range(ROUNDS_MAX):
            self.clock.advance(0)
            moved = [self._carry(number, size) for number in (0, 1)]
            if not any(moved):
                break
        else:
            raise AssertionError("there is no end of it")

    def wait(self, seconds: float) -> None:
        """Let time pass, and carry what comes of it."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.carry()

    def hang_up(self, number: int) -> None:
        """Cut the wire."""
        stream, transport = self.ends[number]
        if transport.hung_up is None:
            transport.hung_up = Failure(ConnectionDone())
            stream.connectionLost(transport.hung_up)

    def _carry(self, number: int, size: int | None) -> bool:
        source, target = self.ends[number][1], self.ends[1 - number][1]
        if source.is_aborted and source.hung_up is None:
            source.hung_up = Failure(ConnectionAborted())
            self.ends[number][0].connectionLost(source.hung_up)
            return True
        if target.hung_up is not None:
            source.waiting.clear()
        if source.hung_up is None and not source.waiting and target.hung_up:
            self.hang_up(number)
            return True
        if target.is_paused or target.hung_up is not None:
            return False
        if data := source.take(size):
            self.carried[number] += data
            self.ends[1 - number][0].dataReceived(data)
            return True
        if source.hung_up is None and source.is_half_closed:
            self.hang_up(1 - number)
            return True
        if source.hung_up is None and not source.is_closing:
            return False
        for which in (number, 1 - number):
            if self.ends[which][1].hung_up is None:
                self.hang_up(which)
                return True
        return False
