"""A relay between two peers that treats what crosses it badly, in ways of which each is told by a number."""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IReactorTCP
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from p2pshare.net.sockets import IPeerReactor
from p2pshare.wire.addresses import PeerAddress

TRICKLED = 2000  # bytes that come one by one
DELAY = 0.02  # seconds
DELAYED = 5  # chunks


class End(enum.Enum):
    """A fault of a whole connection."""

    BREAK = enum.auto()
    HANG_UP = enum.auto()
    HALF_CLOSE = enum.auto()
    SILENCE = enum.auto()


Step = tuple[float, bytes | End]
"""An action, and the seconds before it."""


class Trouble:
    """A fault of one direction of a connection, from its byte `at` on. This base class changes nothing."""

    def __init__(self, rng: random.Random, at: int) -> None:
        self.rng = rng
        self._left = at
        self.struck = 0
        """Chunks that it happened to."""

    def feed(self, data: bytes) -> Iterator[Step]:
        """Yield the steps that replace a chunk."""
        head, rest = data[: self._left], data[self._left :]
        self._left -= len(head)
        if head:
            yield 0.0, head
        if rest:
            self.struck += 1
            yield from self.strike(rest, self.struck)

    def strike(self, data: bytes, nth: int) -> Iterator[Step]:
        """Yield the steps that replace the nth chunk after `at`."""
        yield 0.0, data


class Flip(Trouble):
    """One bit is another."""

    def strike(self, data: bytes, nth: int) -> Iterator[Step]:
        first = data[0] ^ (1 << self.rng.randrange(8) if nth == 1 else 0)
        yield 0.0, bytes([first]) + data[1:]


class Duplicate(Trouble):
    """A chunk comes twice."""

    def strike(self, data: bytes, nth: int) -> Iterator[Step]:
        yield 0.0, data + data if nth == 1 else data


class Reorder(Trouble):
    """Two halves of a chunk change places."""

    def strike(self, data: bytes, nth: int) -> Iterator[Step]:
        half = len(data) // 2 if nth == 1 else 0
        yield 0.0, data[half:] + data[:half]


class Lose(Trouble):
    """A piece of a chunk does not come."""

    def strike(self, data: bytes, nth: int) -> Iterator[Step]:
        yield 0.0, data[self.rng.randint(1, 100) if nth == 1 else 0 :]


class Inject(Trouble):
    """Somebody else says something between."""

    def strike(self, data: bytes, nth: int) -> Iterator[Step]:
        yield 0.0, (self.rng.randbytes(self.rng.randint(1, 100)) if nth == 1 else b"") + data


class Delays(Trouble):
    """Some chunks come late."""

    def strike(self, data: bytes, nth: int) -> Iterator[Step]:
        yield DELAY if nth <= DELAYED else 0.0, data


class Trickle(Trouble):
    """It comes byte by byte for a while."""

    def strike(self, data: bytes, nth: int) -> Iterator[Step]:
        slow = TRICKLED if nth == 1 else 0
        for byte in data[:slow]:
            yield 0.0, bytes([byte])
        yield 0.0, data[slow:]


class Break(Trouble):
    """It breaks."""

    end = End.BREAK

    def strike(self, data: bytes, nth: int) -> Iterator[Step]:
        yield 0.0, self.end


class HangUp(Break):
    """It ends."""

    end = End.HANG_UP


class HalfClose(Break):
    """It ends in this direction."""

    end = End.HALF_CLOSE


class Silence(Break):
    """Nothing comes any more."""

    end = End.SILENCE


class _Way(Protocol):
    """One side of a connection through the link: what it gets, the other side writes."""

    def __init__(self, link: BadLink, trouble: Trouble) -> None:
        self._link = link
        self.trouble = trouble
        self._steps: deque[Step] = deque()
        self._timer: IDelayedCall | None = None
        self._is_silent = False
        self.other: _Way | None = None
        self.passed = bytearray()
        """Bytes that were passed on to the other side."""
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._link.ways.append(self)
        self.end.setTcpNoDelay(True)

    @property
    def end(self) -> Connection:
        return cast("Connection", self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._steps.extend(self.trouble.feed(data))
        self._go_on()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._steps.append((0.0, End.HANG_UP))
        self._go_on()
        self.gone.callback(None)

    def _go_on(self) -> None:
        """Do what is to be done now; one thing in a turn of the reactor, but for the last chunk."""
        if self._timer is None and self._steps and self.other is not None and not self._is_silent:
            delay, step = self._steps.popleft()
            if delay or self._steps:
                self._timer = self._link.reactor.callLater(delay, self._later, step)
            else:
                self._do(step)

    def _later(self, step: bytes | End) -> None:
        self._timer = None
        self._do(step)
        self._go_on()

    def _do(self, step: bytes | End) -> None:
        assert self.other is not None
        match step:
            case bytes():
                self.passed += step
                self.other.end.write(step)
                return
            case End.BREAK:
                self.other.end.abortConnection()
                self.end.abortConnection()
            case End.HANG_UP:
                self.other.end.loseConnection()
            case End.HALF_CLOSE:
                self.other.end.loseWriteConnection()
        self._is_silent = True
        self._steps.clear()


Choose = Callable[[int], tuple[Trouble, Trouble]]
"""Return the troubles of the nth connection: of the bytes that its opener sends, and that it receives."""


class BadLink(ServerFactory):
    """A relay to `target`."""

    noisy = False

    def __init__(self, reactor: IPeerReactor, target: PeerAddress, choose: Choose) -> None:
        self.reactor = reactor
        self.ways: list[_Way] = []
        self.heard: list[_Way] = []
        """Of each connection, what its opener hears."""
        self.connections = 0
        self._target = target
        self._choose = choose
        tcp = cast("IReactorTCP", reactor)
        self._port: IListeningPort = tcp.listenTCP(0, self, interface=target.ip)
        self.address = PeerAddress(target.ip, cast("IPv4Address", self._port.getHost()).port)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        said, heard = self._choose(self.connections)
        self.connections += 1
        near, far = _Way(self, said), _Way(self, heard)
        self.heard.append(far)
        endpoint = TCP4ClientEndpoint(self.reactor, self._target.ip, self._target.port)

        def joined(_: object) -> None:
            near.other, far.other = far, near
            near._go_on()
            far._go_on()

        connectProtocol(endpoint, far).addCallbacks(joined, lambda _: near.end.abortConnection())
        return near

    async def stop(self) -> None:
        """End it, and whatever still crosses it."""
        await Deferred.fromCoroutine(_maybe(self._port.stopListening()))
        for way in self.ways:
            if not way.gone.called:
                way.end.abortConnection()
            await way.gone


async def _maybe(stopping: Deferred[None] | None) -> None:
    if stopping is not None:
        await stopping
