"""Pairs of connections whose bytes the relay forwards to each other."""

# Bytes are forwarded as they come: what is read from one end is given to the kernel for the other at once, as Twisted
# would do one turn of the reactor later. That halves the work, and a pair whose ends are fast keeps nothing in memory.
# What the kernel does not take waits in the end's transport; while more than a turn waits there (`turns.TURN_MAX`), the
# other end is not read. So a direction costs at most two turns of memory (and what TLS decrypts at once, if the
# registry's endpoint has TLS), and a slow end slows down its partner only.
#
# An end that finishes sending (a FIN) finishes the other direction of its partner, after everything that it has sent.
# The partner may still send, as over one TCP connection: to close it at once would reset it, and a reset destroys what
# it has not read yet. TLS knows no such half. There the end is told to close, and is read until it has done so.
#
# A pair in which nothing moves for `idle` seconds is cut. That holds for every state: an end that does not read, an
# end that never finishes, and one whose partner is gone.

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare.net.session.tcp import tune
from p2pshare.registry.relay.turns import Flow


class Forwarder(typing.Protocol):
    """The relay, as its pairs see it."""

    turn: int
    """Bytes that are read from an end at once, and that wait for it until its partner is not read."""

    def forwarded(self, end: RelayEnd, size: int) -> bool:
        """Count bytes that an end has sent; return whether it may be read on. If not, `take_turn` follows."""

    def lost(self, pair: Pair) -> None:
        """Note that an end is lost; when both are, the pair is over."""


class Pair:
    """Two ends, the time of their last byte, and the sum of their bytes."""

    def __init__(self, relay: Forwarder, number: int, keys: tuple[str, str], now: float) -> None:
        """Join ends that `relay` has admitted; both connections follow."""
        self.number = number
        self.keys = keys
        self.began = self.active_at = now
        self.size = 0
        """Bytes that were forwarded."""
        self.is_counted = True
        """Whether the metrics have it."""
        self.ends = first, second = RelayEnd(self, relay), RelayEnd(self, relay)
        first.other, second.other = second, first
        self.is_open = False
        """Whether both ends have been connected."""

    @property
    def is_over(self) -> bool:
        """Whether no connection is left."""
        return all(end.is_lost for end in self.ends)

    def open(self) -> None:
        """Forward what the ends have sent already, and go on."""
        self.is_open = True
        for end in self.ends:
            end.begin()

    def abort(self) -> None:
        """Close both connections at once."""
        for end in self.ends:
            end.abort()


@implementer(IPushProducer, IHalfCloseableProtocol)
class RelayEnd(Protocol):
    """The connection of one end; as a producer, it stands for the bytes that come to its transport."""

    transport: Any
    other: RelayEnd
    flow: Flow
    """Of the bytes that this end sends."""

    def __init__(self, pair: Pair, relay: Forwarder) -> None:
        self.pair = pair
        self._relay = relay
        self._early: list[bytes] = []
        self._awaits_turn = self._is_aborted = self._sends_at_once = False
        self.is_connected = self.is_lost = False
        self.is_full = False
        """Whether enough bytes wait to be sent to this end."""
        self.has_finished = False
        """Whether this end sends nothing more."""
        self.on_lost: Callable[[], object] = lambda: None
        """Called when the connection is lost."""
        self.is_told = False
        """Whether this end was told that its partner sends nothing more."""

    def connectionMade(self) -> None:
        """Wait for the other end, or begin."""
        if self.is_lost:  # the pair was given up before
            self.transport.abortConnection()
            return
        self.is_connected = True
        tune(self.transport, self._relay.turn)
        self._sends_at_once = isinstance(self.transport, Connection)
        self.transport.registerProducer(self, True)
        if self.other.is_connected or self.other.is_lost:
            self.pair.open()
        else:
            self.transport.pauseProducing()

    def begin(self) -> None:
        """Forward what came early, and read on."""
        early, self._early = self._early, []
        for data in early:
            self.dataReceived(data)
        if self.has_finished:
            self.other.tell()
        self.read_on()

    def dataReceived(self, data: bytes) -> None:
        """Forward bytes."""
        other = self.other
        if not self.pair.is_open:
            self._early.append(data)
        elif not (other.is_lost or other.is_told):
            other.write(data)
            if not self._relay.forwarded(self, len(data)):
                self._awaits_turn = True
                self.transport.pauseProducing()

    def write(self, data: bytes) -> None:
        """Send bytes of the other end: to the kernel at once, as far as it takes them."""
        self.transport.write(data)
        if self._sends_at_once and not self.is_full:
            self.transport.doWrite()  # an error comes back when the reactor does the same

    def take_turn(self) -> None:
        """Read again."""
        self._awaits_turn = False
        self.read_on()

    def read_on(self) -> None:
        """Read, unless something speaks against it."""
        is_stopped = (self._awaits_turn or self.other.is_full) and not self.other.is_lost
        if self.is_connected and not (self.has_finished or self._is_aborted or is_stopped):
            self.transport.resumeProducing()

    def pauseProducing(self) -> None:
        """Do not read from the other end: enough bytes wait for this one."""
        self.is_full = True
        if self.other.is_connected:
            self.other.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read from the other end again: this one has taken everything."""
        self.is_full = False
        self.other.read_on()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` follows."""

    def readConnectionLost(self) -> None:  # noqa: N802 - IHalfCloseableProtocol
        """Tell the other end that nothing follows."""
        self._finish()
        if self.other.has_finished:
            for end in (self, self.other):
                if end.is_connected:
                    end.transport.loseConnection()

    def writeConnectionLost(self) -> None:  # noqa: N802 - IHalfCloseableProtocol
        """Do nothing: this end was told so."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Let the other end take what was sent, and close."""
        if self.is_lost:
            return
        self.is_connected, self.is_lost = False, True
        self.on_lost()
        self._finish()
        self.other.read_on()  # to notice its end
        self._relay.lost(self.pair)

    def tell(self) -> None:
        """Tell this end, after all that waits for it, that its partner sends nothing more."""
        if not self.is_connected or self.is_told:
            return
        self.is_told = True
        self.is_full = False
        self.transport.unregisterProducer()  # Twisted closes only after its producer is done
        if ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def abort(self) -> None:
        """Close the connection at once; an end that is not connected yet counts as lost."""
        if self.is_connected:
            self._is_aborted = True
            self.transport.abortConnection()
        else:
            self.connectionLost()

    def _finish(self) -> None:
        self.has_finished = True
        if self.pair.is_open:
            self.other.tell()
