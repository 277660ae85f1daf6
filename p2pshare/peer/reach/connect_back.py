"""Connections back: the called peer dials the opener over TCP, and the opener uses that connection for its session.

The roles of the session stay as they are: the end that has listened is the TLS client and greets, the end that has
dialled accepts. The first line of the connection (`wire.reach.connect_back`) names the attempt.

The opener listens only for the time of a call. A stranger who finds the port in that time can occupy one of
`CONNECTIONS_MAX` places for `PREAMBLE_S`, learns nothing, and has to prove the peer's key to get further.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from p2pshare.errors import PeerUnreachable, PortUnusable, RemoteProtocolError
from p2pshare.net.session.interfaces import CarrierUser
from p2pshare.net.session.tcp import FILE_READ, MESSAGE_READ, TcpCarrier
from p2pshare.net.sockets import IPeerReactor, client_endpoint, connect_to, listen_tcp, port_of
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.connect_back import preamble_of, split_preamble

CARRIER = "back"
"""The name of these attempts in reports; sessions over them say "tcp"."""
CONNECTIONS_MAX = 8  # that have not said their first line
PREAMBLE_S = 3.0  # seconds until it must be here
PORT_MIN = 1024  # ports below are those of well-known services, at which no opener listens
CONNECT_S = 3.0  # seconds until a connection back must be there


class BackListener(ServerFactory):
    """Listens for the connections back of one attempt."""

    noisy = False

    def __init__(self, reactor: IPeerReactor, attempt: str) -> None:
        self.reactor = reactor
        self.attempt = attempt
        self.waiting: set[BackProtocol] = set()
        """Connections that have not said their first line."""
        self._came: Deferred[None] | None = None
        self._ready: list[BackProtocol] = []
        self._ports: list[IListeningPort] = []

    async def listen(self, interfaces: Sequence[str]) -> int | None:
        """Listen on a port that is the same on all interfaces, and return its number; None if that is impossible."""
        number = 0
        for interface in interfaces:
            try:
                port = await listen_tcp(self.reactor, number, self, interface)
            except PortUnusable:
                continue
            self._ports.append(port)
            number = port_of(port)
        return number or None

    async def connection(self) -> BackProtocol:
        """Return the next connection that names the attempt. One call waits at a time."""
        while not self._ready:
            self._came = Deferred()
            await self._came
        return self._ready.pop(0)

    async def stop(self) -> None:
        """Close the port, and the connections that were not handed out."""
        ports, self._ports = self._ports, []
        for each in (*self.waiting, *self._ready):
            each.abort()
        self._ready.clear()
        for port in ports:
            await maybeDeferred(port.stopListening)

    def buildProtocol(self, addr: IAddress | None) -> BackProtocol | None:
        """Take a connection, if there are not too many."""
        return BackProtocol(self) if len(self.waiting) < CONNECTIONS_MAX else None

    def came(self, protocol: BackProtocol) -> None:
        """Hand a connection out."""
        if len(self._ready) >= CONNECTIONS_MAX:
            protocol.abort()
            return
        self._ready.append(protocol)
        came, self._came = self._came, None
        if came is not None:
            came.callback(None)


class BackProtocol(Protocol):
    """Reads the first line of a connection, and then belongs to a carrier."""

    transport: Connection

    def __init__(self, listener: BackListener) -> None:
        self._listener = listener
        self._timer: IDelayedCall | None = None
        self._carrier: TcpCarrier | None = None
        self.rest = b""
        """What has come, without the line once that is complete."""

    @property
    def remote(self) -> PeerAddress:
        """The address of the other end."""
        peer = self.transport.getPeer()
        return PeerAddress(peer.host, peer.port)

    def carry(self, user: CarrierUser) -> None:
        """Let the connection be the carrier of `user` from now on."""
        carrier = self._carrier = TcpCarrier(user, FILE_READ)
        self.transport.protocol = carrier
        carrier.makeConnection(self.transport)
        if self.rest:
            carrier.dataReceived(self.rest)
        self.transport.resumeProducing()

    def abort(self) -> None:
        """Cut the connection."""
        self.transport.abortConnection()

    def connectionMade(self) -> None:
        """Wait for the line, and not for ever."""
        self._listener.waiting.add(self)
        self._timer = self._listener.reactor.callLater(PREAMBLE_S, self.abort)

    def dataReceived(self, data: bytes) -> None:
        """Read the line, and keep what follows."""
        if self._carrier is not None:
            self._carrier.dataReceived(data)
            return
        self.rest += data
        if self not in self._listener.waiting:  # the line was read
            return
        try:
            found = split_preamble(self.rest)
            if found is None:
                return
            attempt, self.rest = found
            if attempt != self._listener.attempt:
                raise RemoteProtocolError(reason="it is no connection of this attempt")
        except RemoteProtocolError:
            self.abort()
            return
        self._settle()
        self.transport.pauseProducing()  # until a carrier takes over: more is not read
        self._listener.came(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection, or tell its carrier."""
        self._settle()
        if self._carrier is not None:
            self._carrier.connectionLost(reason)

    def _settle(self) -> None:
        self._listener.waiting.discard(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


async def connect_back(
    reactor: IPeerReactor, name: str, address: PeerAddress, attempt: str, user: CarrierUser
) -> None:
    """Connect to an opener, say which attempt this is, and let the connection be the carrier of `user`.

    Raises:
        PeerUnreachable: nothing accepts a connection there.
    """
    try:
        carrier = _BackCarrier(user, attempt)
        await connect_to(client_endpoint(reactor, address, CONNECT_S), carrier)
    except ConnectingCancelledError:
        raise CancelledError from None
    except ConnectError as error:
        raise PeerUnreachable(name=name, address=address) from error


class _BackCarrier(TcpCarrier):
    """A carrier whose connection begins with the line."""

    def __init__(self, user: CarrierUser, attempt: str) -> None:
        super().__init__(user, MESSAGE_READ)
        self._attempt = attempt

    def connectionMade(self) -> None:
        """Say which attempt this is, and begin."""
        self.transport.write(preamble_of(self._attempt))
        super().connectionMade()
