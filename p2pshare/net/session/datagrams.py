"""A session's channel over a connection of the datagram transport.

The connection proves the keys, protects packets and repeats what is lost. This module hands its events to the user of a
channel, in the order in which they came. Control messages are cut out of the control stream here.

Events wait in `_waiting` while the user reads nothing. The bytes of a piece belong to the received train and are
overwritten by the next one, so a piece that has to wait is copied. That is rare. The credit of the control stream and
that of the session bound what an honest peer sends meanwhile. But nobody compares pieces with the credit before they
are read, so the channel has a bound of its own, and breaks off when a peer exceeds it.

Bytes of files may overtake control messages. For an opener with early requests they may even overtake `welcome`, and
nothing counts before that. So what an opener gets of files waits in `_ahead` until the first control message is here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol

from p2pshare.core.credit import CREDIT_WINDOW
from p2pshare.core.datagram.connection import DatagramConnection
from p2pshare.core.datagram.endpoint import ConnectionEvent, DatagramEndpoint, EndpointSettings
from p2pshare.core.datagram.events import (
    Closed,
    ConnectionMade,
    ControlReceived,
    Event,
    FinReceived,
    HandshakeDone,
    PieceReceived,
    SizeReceived,
    Writable,
)
from p2pshare.core.datagram.protection.handshake import TlsEnd
from p2pshare.core.datagram_core import Address
from p2pshare.errors import RemoteProtocolError
from p2pshare.net.clocks import LazyTimer
from p2pshare.net.datagrams.welcome_port import WelcomePort
from p2pshare.net.session.interfaces import ChannelUser
from p2pshare.net.session.stream import UNREAD_MAX
from p2pshare.net.session.tls import SessionTls
from p2pshare.net.sockets import IPeerReactor
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.datagrams.frames import CloseCode
from p2pshare.wire.frames import ControlFrame, FrameDecoder
from p2pshare.wire.keys import PublicKey

SEGMENT_MAX = 16_332
"""Bytes of the largest UDP payload that is tried. Loopback interfaces carry it, and the kernel cuts four of them in one
call. Other interfaces refuse it without delay, and the search for the path MTU goes on below."""

WAITING_MAX = 2 * CREDIT_WINDOW  # bytes of events that wait; pieces may arrive more than once
EVENT_SIZE = 256  # bytes of memory that an event takes, besides those of a piece


class DatagramChannel:
    """A `Channel` over a connection of a `WelcomePort`, which passes the connection's events to `happened`."""

    carrier = "udp"
    """See `Channel`."""
    piece_max = BLOCK_SIZE
    """See `Channel`. Control messages pass the bytes of files, so nothing waits for a piece."""

    def __init__(
        self,
        clock: IReactorTime,
        port: WelcomePort,
        connection: DatagramConnection,
        user: ChannelUser,
        *,
        is_opener: bool,
    ) -> None:
        """Begin to tell `user` what happens."""
        self._clock = clock
        self._port = port
        self._connection = connection
        self._user = user
        self._decoder = FrameDecoder()
        self._waiting: deque[Event] = deque()
        self._ahead: list[Event] | None = [] if is_opener else None
        self._waiting_size = 0  # bytes, of both
        self._closed: Closed | None = None  # the last event, while others wait to be read
        self._next_turn = LazyTimer(clock, self._offer)
        self._is_paused = self._is_closing = False
        self.is_secure = False
        """See `Channel`."""
        user.connected(self)

    @property
    def local(self) -> PeerAddress:
        """See `Channel`."""
        return PeerAddress(*self._port.local_towards(self._connection.remote[0]))

    @property
    def remote(self) -> PeerAddress:
        """See `Channel`."""
        return PeerAddress(*self._connection.remote)

    @property
    def shown_key(self) -> PublicKey | None:
        """See `Channel`."""
        return self._connection.shown_key

    @property
    def description(self) -> str:
        """See `Channel`."""
        return f"datagrams {self._connection.cipher}"

    @property
    def has_answer(self) -> bool:
        """Whether anything came from the other end."""
        return self._connection.has_answer

    @property
    def is_full(self) -> bool:
        """See `Channel`."""
        return self._connection.is_full

    def send_control(self, frames: bytes) -> None:
        """See `Channel`."""
        if not self._is_closing:
            self._connection.send_control(frames, self._clock.seconds())
            self._port.pump_soon()

    def begin(self, transfer: int, size: int) -> None:
        """See `Channel`."""
        if not self._is_closing:
            self._connection.begin(transfer, size)

    def send_piece(self, transfer: int, offset: int, data: memoryview) -> None:
        """See `Channel`."""
        if not self._is_closing:
            self._connection.send_piece(transfer, offset, data, self._clock.seconds())
            self._port.pump_soon()

    def finish(self, transfer: int) -> None:
        """See `Channel`."""
        if not self._is_closing:
            self._connection.finish(transfer)
            self._port.pump_soon()

    def drop(self, transfer: int) -> None:
        """See `Channel`."""
        if not self._is_closing:
            self._connection.drop(transfer)
            self._port.pump_soon()

    def read(self, room: int) -> int:
        """See `Channel`."""
        size = 0
        while size < room and self._waiting and not self._is_closing:
            if self._is_paused and isinstance(self._waiting[0], FinReceived):
                break  # the user has yet to look at the bytes before it
            event = self._waiting.popleft()
            self._waiting_size -= _size_of(event)
            match event:
                case ControlReceived(data):
                    now, later = data[: room - size], data[room - size :]
                    if later:
                        self._waiting.appendleft(rest := ControlReceived(later))
                        self._waiting_size += _size_of(rest)
                    size += len(now)
                    self._read_control(now)
                case PieceReceived():
                    size += len(event.data)
                    self._user.piece_received(event.transfer, event.offset, event.data)
                case SizeReceived():
                    self._user.size_received(event.transfer, event.size)
                case FinReceived():
                    missing = self._user.fin_received(event.transfer)
                    self._connection.answer_fin(event.transfer, missing)
                    self._port.pump_soon()
        if self._closed is not None and not self._waiting and not self._is_closing:
            self._close_over(self._closed)
        return size

    def pause(self) -> None:
        """See `Channel`."""
        self._is_paused = True
        self._connection.pause_control()

    def resume(self) -> None:
        """See `Channel`."""
        self._is_paused = False
        if not self._is_closing:
            self._connection.resume_control()
            self._port.pump_soon()
            self._next_turn.set(0.0)

    def half_close(self) -> None:
        """See `Channel`."""
        self._say_farewell()

    def close(self) -> None:
        """See `Channel`."""
        self._say_farewell()

    def abort(self) -> None:
        """See `Channel`."""
        self._read_nothing_more()
        self._connection.abort()
        self._port.pump_soon()

    def happened(self, event: Event) -> None:
        """Take an event of the connection."""
        match event:
            case HandshakeDone(key):
                self.is_secure = True
                self._user.secured(key)
            case Writable():
                self._offer()
                self._user.writable()
            case Closed() if self._is_closing or not self._waiting:
                self._close_over(event)
            case Closed():
                self._closed = event
            case ControlReceived() | PieceReceived() | SizeReceived() | FinReceived():
                self._wait(event)

    def _wait(self, event: Event) -> None:
        if self._is_closing:
            return
        queue: deque[Event] | list[Event] = self._waiting
        if self._ahead is not None and not isinstance(event, ControlReceived):
            queue = self._ahead
        queue.append(event)
        self._waiting_size += _size_of(event)
        self._offer()
        if self._waiting_size > WAITING_MAX:
            self.abort()
            return
        if queue and queue[-1] is event and isinstance(event, PieceReceived):
            queue[-1] = replace(event, data=memoryview(bytes(event.data)))

    def _offer(self) -> None:
        """Tell the user what waits, unless it does not want to hear of it."""
        if self._is_closing and self._closed is not None:
            self._close_over(self._closed)
        if not self._waiting or self._is_paused or self._is_closing:
            return
        if self._connection.control_waiting > UNREAD_MAX and self.is_full:  # `Writable` follows
            return
        self._user.readable()

    def _read_control(self, data: bytes) -> None:
        for frame in self._decoder.receive_data(data):
            if self._is_closing:
                break
            if not isinstance(frame, ControlFrame):
                raise RemoteProtocolError(reason="the control stream has bytes of a file")
            self._user.control_received(frame.body)
            if self._ahead is not None:
                self._waiting.extend(self._ahead)
                self._ahead = None

    def _say_farewell(self) -> None:
        """Close once all that was sent has arrived; `closed` follows."""
        if not self._is_closing:
            self._read_nothing_more()
            self._connection.close(CloseCode.DONE, "", self._clock.seconds())
            self._port.pump_soon()

    def _read_nothing_more(self) -> None:
        """Drop what waits. If the connection is over already, `closed` follows in the next turn."""
        self._is_closing = True
        self._ahead = None
        self._waiting.clear()
        if self._closed is not None:
            self._next_turn.set(0.0)

    def _close_over(self, closed: Closed) -> None:
        self._is_closing = True
        self._closed = self._ahead = None
        self._waiting.clear()
        self._next_turn.cancel()
        reason = None
        if closed.error is not None:
            reason = str(closed.error.fields.get("reason") or closed.error)
        self._user.closed(reason)


class DatagramSessions:
    """The channels over one UDP socket: those that this end opens, and those that it accepts."""

    def __init__(
        self,
        reactor: IPeerReactor,
        random: Callable[[int], bytes],
        acceptor: Acceptor | None = None,
        classic: DatagramProtocol | None = None,
    ) -> None:
        """Make the port; `port.listen` opens it.

        Args:
            reactor: for the socket and the timer.
            random: returns that many unpredictable bytes.
            acceptor: decides about connections that others open; None: they get no answer.
            classic: the classic protocol, if it is enabled.
        """
        self._reactor = reactor
        self._acceptor = acceptor
        self._channels: dict[DatagramConnection, DatagramChannel] = {}
        self._endpoint = DatagramEndpoint(
            EndpointSettings(segment_max=SEGMENT_MAX), random, self._tls_for
        )
        self.port = WelcomePort(reactor, self._endpoint, self._happened, classic)

    @property
    def connections(self) -> int:
        """The number of connections, opened and accepted."""
        return self._endpoint.connections

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight and no deadline of the endpoint is due."""
        return self._endpoint.get_timer() is None

    @property
    def held(self) -> int:
        """The bytes of files in memory that other ends have not acknowledged."""
        return self._endpoint.held

    def open(
        self,
        address: PeerAddress,
        tls: TlsEnd,
        user: ChannelUser,
        unanswered_timeout: float | None = None,
    ) -> DatagramChannel:
        """Open a channel to an address; `user` is told how that goes. See `DatagramConnection` for the timeout."""
        connection = self._endpoint.open((address.ip, address.port), tls, self._reactor.seconds())
        connection.unanswered_timeout = unanswered_timeout
        return self._make(connection, user, is_opener=True)

    async def stop(self) -> None:
        """End all connections, and close the port."""
        for channel in tuple(self._channels.values()):
            channel.abort()
        self.port.pump()
        await self.port.stop()

    def _make(
        self, connection: DatagramConnection, user: ChannelUser, *, is_opener: bool
    ) -> DatagramChannel:
        channel = DatagramChannel(self._reactor, self.port, connection, user, is_opener=is_opener)
        self._channels[connection] = channel
        self.port.pump_soon()
        return channel

    def _tls_for(self, _address: Address) -> TlsEnd | None:
        return None if self._acceptor is None else self._acceptor.tls.accept()

    def _happened(self, happened: ConnectionEvent) -> None:
        connection, event = happened
        if isinstance(event, ConnectionMade):
            host = connection.remote[0]
            user = None if self._acceptor is None else self._acceptor.accept(host)
            if user is None:
                connection.abort()
            else:
                self._make(connection, user, is_opener=False)
        elif (channel := self._channels.get(connection)) is not None:
            if isinstance(event, Closed):
                del self._channels[connection]
            channel.happened(event)


class Acceptor(Protocol):
    """The code that accepts sessions."""

    @property
    def tls(self) -> SessionTls:
        """Makes the ends of TLS with the present key."""

    def accept(self, host: str) -> ChannelUser | None:
        """Return the user of a channel that was opened from an IP address; None: there is no room."""


def _size_of(event: Event) -> int:
    """Return about how many bytes of memory an event takes."""
    if isinstance(event, PieceReceived | ControlReceived):
        return EVENT_SIZE + len(event.data)
    return EVENT_SIZE
