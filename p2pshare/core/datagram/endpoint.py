"""All connections over one UDP socket: it finds the connection of each packet, answers OPEN, and makes connections.

**Before a valid cookie there is no state.** OPEN is answered with one COOKIE, which is shorter, and nothing is
remembered of either. A HANDSHAKE packet whose token is valid for its address and opener makes a connection: its sender
receives at that address. Anything else that belongs to no connection is dropped without an answer.

**Bounds.** `half_open_max` connections that were accepted may be in their handshake. A cookie costs an attacker only
two packets, so it could keep all these places with one address. If none is free, the IP address with the most of them
loses its oldest one to an address that has at least two fewer. Other openers are dropped, and try again.
`connections_max` bounds all. Connections that are closed here and only answer with CLOSE would fill that in a flood of
openers that are refused, so `CLOSING_MAX` of them are kept. `REPLIES_MAX` cookies wait at most; the oldest is dropped.

**Turns.** The endpoint looks only at connections that something happened to (`_awake`): a packet, a timer, a call of
the user. A connection leaves the table when it has nothing to send, and its next deadline is then kept in `_deadlines`.
Idle connections therefore cost nothing. Those that have more to send than the budget take turns.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from p2pshare.core.datagram.congestion.controller import CongestionController
from p2pshare.core.datagram.congestion.cubic import Cubic
from p2pshare.core.datagram.connection import ConnectionSettings, DatagramConnection
from p2pshare.core.datagram.contents.held_memory import HeldMemory
from p2pshare.core.datagram.deadlines import Deadlines
from p2pshare.core.datagram.events import ConnectionMade, Event
from p2pshare.core.datagram.handshake_stage import ConnectionIds
from p2pshare.core.datagram.protected import Shared
from p2pshare.core.datagram.protection.cookies import CookieJar
from p2pshare.core.datagram.protection.handshake import TlsEnd
from p2pshare.core.datagram.protection.opening import TrainOpener
from p2pshare.core.datagram.protection.sealing import TrainSealer
from p2pshare.core.datagram.trains import TRAIN_MAX, Address, Train
from p2pshare.errors import RemoteProtocolError, Unreachable
from p2pshare.wire.datagrams.packets import (
    CID_SIZE,
    RANDOM_SIZE,
    UNKNOWN_CID,
    VERSION,
    Cookie,
    HandshakeHeader,
    Open,
    PacketType,
    ProtectedHeader,
    parse_packet,
)

CLOSING_MAX = 128  # connections that are kept to repeat CLOSE, each with the memory of TLS
REPLIES_MAX = 256  # COOKIE packets that wait to be sent
TURN = TRAIN_MAX  # bytes that a connection sends before the next one has its turn


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """The bounds of an endpoint."""

    connection: ConnectionSettings = field(default_factory=ConnectionSettings)
    half_open_max: int = 512
    """Accepted connections whose handshake is not done; more than the user allows, who can choose which one goes."""
    connections_max: int = 1024
    held_max: int = 64 * 1024 * 1024
    """Bytes of files that all connections may hold until they are acknowledged; see `HeldMemory`."""
    make_controller: Callable[[int], CongestionController] = Cubic
    """Makes the congestion controller of a path, with packets of that many bytes."""
    segment_max: int = 1472
    """Bytes of the largest UDP payload that is tried: that of Ethernet with IPv4."""


class ConnectionEvent(NamedTuple):
    """Something happened to a connection."""

    connection: DatagramConnection
    event: Event


class DatagramEndpoint:
    """The connections of one UDP socket."""

    def __init__(
        self,
        settings: EndpointSettings,
        random: Callable[[int], bytes],
        accept: Callable[[Address], TlsEnd | None],
    ) -> None:
        """Begin.

        Args:
            settings: the bounds.
            random: returns that many unpredictable bytes.
            accept: returns TLS for a connection from an address; None if there is no room, which is not answered.
        """
        self._settings = settings
        self._random = random
        self._accept = accept
        self._shared = Shared(
            random,
            settings.make_controller,
            settings.segment_max,
            TrainSealer(),
            TrainOpener(),
            HeldMemory(settings.held_max),
        )
        self._cookies = CookieJar(random)
        self._by_cid: dict[bytes, DatagramConnection] = {}
        self._by_opening: dict[tuple[Address, bytes], DatagramConnection] = {}
        self._awake: dict[DatagramConnection, None] = {}
        self._talking: dict[DatagramConnection, None] = {}  # with events
        self._closing: dict[DatagramConnection, None] = {}  # the oldest first
        self._half_open: dict[
            DatagramConnection, None
        ] = {}  # accepted, oldest first; some are open
        self._deadlines = Deadlines[DatagramConnection]()
        self._replies: deque[Train] = deque(maxlen=REPLIES_MAX)
        self.dropped = 0
        """Datagrams that belonged to no connection, or were no packets."""

    @property
    def connections(self) -> int:
        """The number of connections."""
        return len(self._by_cid)

    @property
    def held(self) -> int:
        """The bytes of files that all connections hold until they are acknowledged."""
        return self._shared.memory.total

    def open(self, address: Address, tls: TlsEnd, now: float) -> DatagramConnection:
        """Open a connection to an address; its events tell how that goes."""
        ids = ConnectionIds(True, self._new_cid(), self._random(RANDOM_SIZE))
        return self._make(ids, address, tls, now)

    def receive_train(
        self, data: memoryview, segment: int, address: Address, now: float, ce: int = 0
    ) -> None:
        """Process what one system call received.

        Args:
            data: segments of equal size; only used during the call.
            segment: bytes of each segment; the last may be shorter.
            address: where they came from.
            now: time in s.
            ce: how many of them were marked "congestion experienced".
        """
        places: Iterable[int] = range(0, len(data), segment)
        if data and data[0] | 1 == PacketType.PROTECTED | 1:
            connection = self._by_cid.get(bytes(data[1 : 1 + CID_SIZE]))
            if connection is not None:
                foreign = connection.receive_protected(data, segment, address, now, ce)
                self._wake(connection)
                places = [each * segment for each in foreign]
        for at in places:
            self._receive_datagram(data[at : at + segment], address, now)

    def trains_to_send(self, now: float, budget: int) -> list[Train]:
        """Return trains that are due, about `budget` bytes at most; connections take turns."""
        trains = list(self._replies)
        self._replies.clear()
        budget -= sum(len(each.data) for each in trains)
        while self._awake and budget > 0:
            connection = next(iter(self._awake))
            del self._awake[connection]
            turn = connection.trains_to_send(now, min(budget, TURN))
            budget -= sum(len(each.data) for each in turn)
            trains += turn
            if connection.events:
                self._talking[connection] = None
            if turn:
                self._awake[connection] = None  # behind the others; it may have more
            else:
                self._settle(connection)
        return trains

    def get_timer(self) -> float | None:
        """Return when to call `handle_timer`; None while nothing is in flight and nothing is due."""
        times = [self._deadlines.first, *(each.get_timer() for each in self._awake)]
        return min((each for each in times if each is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Process the passing of time; `trains_to_send` and `next_event` have what follows from it."""
        for connection in self._deadlines.take(now):
            self._wake(connection)
        for connection in list(self._awake):
            connection.handle_timer(now)

    def next_event(self) -> ConnectionEvent | None:
        """Return the oldest event of a connection, or None."""
        while self._talking:
            connection = next(iter(self._talking))
            if connection.events:
                return ConnectionEvent(connection, connection.events.popleft())
            del self._talking[connection]
        return None

    def datagram_refused(self, address: Address, reason: str = "") -> None:
        """Take a hint: the system did not send the newest datagrams to an address, because they are too large."""
        for connection in [each for each in self._by_cid.values() if each.remote == address]:
            connection.datagram_refused()
            self._wake(connection)

    def _receive_datagram(self, segment: memoryview, address: Address, now: float) -> None:
        """Process a datagram by itself."""
        try:
            packet = parse_packet(segment)
        except RemoteProtocolError:
            self.dropped += 1
            return
        connection = self._connection_of(packet, address, now)
        if connection is None:
            self.dropped += 1
            return
        match packet:
            case Cookie():
                connection.receive_cookie(packet, address, now)
            case HandshakeHeader():
                connection.receive_handshake(packet, segment, address, now)
            case ProtectedHeader():
                connection.receive_protected(segment, len(segment), address, now, 0)
        self._wake(connection)

    def _connection_of(
        self,
        packet: Open | Cookie | HandshakeHeader | ProtectedHeader,
        address: Address,
        now: float,
    ) -> DatagramConnection | None:
        match packet:
            case Open():
                self._answer_open(packet, address, now)
            case Cookie():
                return self._by_cid.get(packet.opener_cid)
            case HandshakeHeader() if not packet.from_opener:
                return self._by_cid.get(packet.opener_cid)
            case HandshakeHeader() if packet.acceptor_cid != UNKNOWN_CID:
                return self._by_cid.get(packet.acceptor_cid)
            case HandshakeHeader():
                known = self._by_opening.get((address, packet.opener_cid))
                return known or self._accept_opener(packet, address, now)
            case ProtectedHeader():
                return self._by_cid.get(packet.cid)
        return None

    def _answer_open(self, packet: Open, address: Address, now: float) -> None:
        """Send a cookie, or nothing but the supported version."""
        cookie = b""
        if packet.version == VERSION:
            cookie = self._cookies.make(address, packet.opener_cid, packet.random, now)
        answer = Cookie(packet.opener_cid, packet.random, cookie).serialize()
        self._replies.append(Train(answer, len(answer), address))

    def _accept_opener(
        self, packet: HandshakeHeader, address: Address, now: float
    ) -> DatagramConnection | None:
        """Make a connection if the token is valid and there is room."""
        if not self._cookies.is_valid(
            packet.cookie, address, packet.opener_cid, packet.random, now
        ):
            return None
        tls = self._accept(address) if self._make_room(address[0]) else None
        if tls is None:
            return None
        ids = ConnectionIds(False, packet.opener_cid, packet.random, self._new_cid())
        connection = self._make(ids, address, tls, now)
        self._by_opening[address, packet.opener_cid] = connection
        self._half_open[connection] = None
        connection.events.append(ConnectionMade())
        return connection

    def _make_room(self, ip: str) -> bool:
        """Whether an opener at an IP address may have a connection; another handshake may have to end for it."""
        if self.connections >= self._settings.connections_max:
            return False
        self._half_open = {each: None for each in self._half_open if each.is_half_open}
        if len(self._half_open) < self._settings.half_open_max:
            return True
        held = Counter(each.first_address[0] for each in self._half_open)
        ((greediest, most),) = held.most_common(1)
        if most < held[ip] + 2:
            return False
        oldest = next(each for each in self._half_open if each.first_address[0] == greediest)
        oldest.forget(Unreachable(reason="too many handshakes are going on"))
        return True

    def _make(
        self, ids: ConnectionIds, address: Address, tls: TlsEnd, now: float
    ) -> DatagramConnection:
        connection = DatagramConnection(
            self._shared, self._settings.connection, ids, address, tls, now, self._wake
        )
        self._by_cid[ids.own] = connection
        self._wake(connection)
        return connection

    def _new_cid(self) -> bytes:
        """Return a connection ID that is not in use."""
        while (cid := self._random(CID_SIZE)) in self._by_cid or cid == UNKNOWN_CID:
            pass
        return cid

    def _wake(self, connection: DatagramConnection) -> None:
        """Look at a connection when there is something to send; and let its events be found."""
        self._awake[connection] = None
        if connection.events:
            self._talking[connection] = None

    def _settle(self, connection: DatagramConnection) -> None:
        """Note the next deadline of a connection that has nothing to send, or forget one that is over."""
        if connection.is_closing:
            self._closing[connection] = None
            if len(self._closing) > CLOSING_MAX:
                oldest = next(iter(self._closing))
                oldest.forget()
                self._settle(oldest)
        self._deadlines.set(connection, connection.get_timer())
        if connection.is_gone:
            self._closing.pop(connection, None)
            self._by_cid.pop(connection.ids.own, None)
            self._half_open.pop(connection, None)
            opening = connection.first_address, connection.ids.opener_cid
            if self._by_opening.get(opening) is connection:
                del self._by_opening[opening]
