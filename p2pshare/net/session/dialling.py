"""Opens sessions with other peers, and makes the drivers of accepted ones."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare._version import __version__
from p2pshare.core.session import GREETING, Role, SessionCore
from p2pshare.core.session_interface import Session
from p2pshare.errors import (
    LocalProtocolError,
    NoAnswerOverUdp,
    NoSessionThere,
    OtherKeyThere,
    P2pshareError,
    PeerUnreachable,
    PortUnusable,
    SessionLost,
)
from p2pshare.net.session.driver import SessionDriver
from p2pshare.net.session.interfaces import OwnedSession, SessionOwner
from p2pshare.net.session.race import Attempt, Race
from p2pshare.net.session.stream import StreamChannel
from p2pshare.net.session.tcp import FILE_READ, TcpCarrier
from p2pshare.net.session.tls import SessionTls
from p2pshare.net.sockets import IPeerReactor, client_endpoint, interface_for
from p2pshare.storage.settings import Via
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import VERSION, Hello, Message

if TYPE_CHECKING:  # it takes its time to import numpy, of which a session over TCP has no use
    from p2pshare.net.session.datagrams import DatagramChannel, DatagramSessions

SILENCE = 15.0  # seconds without a byte after which a session counts as lost
AGENT = f"p2pshare/{__version__}"
"""Name and version of this program, which each end tells the other."""
UNANSWERED_PART = 0.25
"""The part of the silence after which a session over UDP is lost if its packets and probes have no answer either."""
TCP_HEAD_START = 0.05  # seconds
"""The delay of the attempt over UDP: on a fast network, where TCP is the faster carrier, UDP is not even tried."""
NO_TLS_IN_OPENSSL = "wrong version number"
"""OpenSSL's reason if the answer is not TLS at all."""
NO_TLS = "it does not speak TLS"
NO_ANSWER = "no answer"
"""The reason in the log for an attempt that was given up, if the address has said nothing."""
NO_SOCKET = "no socket for UDP"


class Carriers:
    """The carriers over which a user opens sessions."""

    def __init__(
        self, reactor: IPeerReactor, via: Via = Via.AUTO, datagrams: DatagramSessions | None = None
    ) -> None:
        """Use what `via` allows.

        Args:
            reactor: opens sockets.
            via: the carriers that the user wants.
            datagrams: the welcome port of the user's peer, if that runs in this process. Otherwise UDP goes over a
                socket of its own, which is opened when it is needed.
        """
        self._reactor = reactor
        self._via = via
        self._given = datagrams
        self._own: dict[str, DatagramSessions] = {}  # by the interface that they are bound to
        self._is_closed = False

    @property
    def has_tcp(self) -> bool:
        """Whether TCP is used."""
        return self._via is not Via.UDP

    @property
    def has_udp(self) -> bool:
        """Whether UDP is used."""
        return self._via is not Via.TCP

    def udp_towards(self, address: PeerAddress) -> DatagramSessions | None:
        """Return what opens channels to an address over UDP; None if there is no socket for it, or after `close`."""
        if self._is_closed:
            return None
        if self._given is not None and self._given.port.reaches(address.ip):
            return self._given
        interface = interface_for(address.ip)
        if interface not in self._own:
            from p2pshare.net.session.datagrams import DatagramSessions

            own = DatagramSessions(self._reactor, secrets.token_bytes)
            try:
                own.port.listen(0, interface)
            except PortUnusable:
                return None
            self._own[interface] = own
        return self._own[interface]

    async def close(self) -> None:
        """Close the sockets for UDP, and the sessions over them."""
        self._is_closed = True
        own, self._own = self._own, {}
        for each in own.values():
            await each.stop()


async def open_session(
    reactor: IPeerReactor,
    key: SigningKey,
    name: str,
    address: PeerAddress,
    expected: PublicKey,
    *,
    credit: int,
    early: Sequence[Message] = (),
    silence: float = SILENCE,
    timeout: float = GREETING,
    carriers: Carriers | None = None,
) -> Session:
    """Open a session with the peer `name`, over several carriers side by side.

    Args:
        reactor: connects and runs the timers.
        key: this peer's.
        name: the other peer's, for errors.
        address: where the other peer accepts sessions.
        expected: the key that it must have.
        credit: bytes of files that it may send before there is more credit.
        early: requests that reach it with the greeting, as in `SessionCore.send_early`. None of them is answered if the
            session cannot be opened.
        silence: seconds without a byte after which the session is lost.
        timeout: seconds until it must be connected, and until it must have welcomed this peer.
        carriers: what the user allows; None for TCP alone.

    Raises:
        PeerUnreachable: nothing accepts sessions there.
        NoSessionThere: what is there does not speak this protocol.
        OtherKeyThere: a peer with another key is there; it was told nothing.
        SessionRefused, SessionPostponed, VersionRefused: the peer refuses the session.
        SessionLost: the connection broke or fell silent.
    """
    hello = Hello(VERSION, AGENT, credit)
    race = Race(reactor)

    def attempt(carrier: str) -> tuple[_Opening, SessionDriver]:
        opening = _Opening(reactor, name, address, expected, carrier, race)
        core = SessionCore(
            Role.OPENER,
            reactor.seconds(),
            name=name,
            hello=hello,
            silence=silence,
            greeting=timeout,
        )
        core.send_early(early)
        return opening, SessionDriver(reactor, core, opening)

    tls = SessionTls(key)
    delay = 0.0
    if carriers is None or carriers.has_tcp:
        race.enter(_over_tcp(reactor, tls, *attempt("tcp"), timeout))
        delay = TCP_HEAD_START
    if carriers is not None and carriers.has_udp:
        unanswered = UNANSWERED_PART * silence
        race.enter(_over_udp(reactor, carriers, tls, *attempt("udp"), delay, unanswered))
    return await race.winner()


def _over_udp(
    reactor: IPeerReactor,
    carriers: Carriers,
    tls: SessionTls,
    opening: _Opening,
    session: SessionDriver,
    delay: float,
    unanswered: float,
) -> Attempt:
    """Open a session over UDP, beginning in `delay` seconds. See `DatagramConnection.unanswered_timeout`."""
    channel: DatagramChannel | None = None

    def has_answer() -> bool:
        return channel is not None and channel.has_answer

    async def welcomed() -> Session:
        nonlocal channel
        if delay:
            await deferLater(reactor, delay)
        opening.log("begun")
        datagrams = carriers.udp_towards(opening.address)
        if datagrams is None:
            opening.log("connection failed", NO_SOCKET)
            raise PeerUnreachable(name=opening.name, address=opening.address)
        end = tls.connect(opening.expected)
        channel = datagrams.open(opening.address, end, session, unanswered)
        try:
            return await opening.done
        except CancelledError:
            opening.log("given up", "" if has_answer() else NO_ANSWER)
            session.abort()
            raise
        except NoSessionThere as error:
            if has_answer():
                raise
            opening.log("connection failed", NO_ANSWER)
            raise NoAnswerOverUdp(name=opening.name, address=opening.address) from error

    return Attempt(Deferred.fromCoroutine(welcomed()), has_answer)


def _over_tcp(
    reactor: IPeerReactor,
    tls: SessionTls,
    opening: _Opening,
    session: SessionDriver,
    timeout: float,
) -> Attempt:
    """Open a session over TCP, beginning now."""
    name, address = opening.name, opening.address
    channel = StreamChannel(reactor, tls.connect(opening.expected), session)
    is_connected = False

    async def welcomed() -> Session:
        nonlocal is_connected
        try:
            carrier = TcpCarrier(channel, FILE_READ)
            await connectProtocol(client_endpoint(reactor, address, timeout), carrier)
        except ConnectingCancelledError:
            opening.log("given up", NO_ANSWER)
            raise CancelledError from None
        except ConnectError as error:
            opening.log("connection failed", str(error))
            if error.osError == errno.ECONNRESET:
                reason = "the connection was reset"
                raise NoSessionThere(name=name, address=address, reason=reason) from error
            raise PeerUnreachable(name=name, address=address) from error
        is_connected = True
        opening.log("connected")
        try:
            return await opening.done
        except CancelledError:
            opening.log("given up")
            session.abort()
            raise

    return Attempt(Deferred.fromCoroutine(welcomed()), lambda: is_connected)


def accept_session(
    clock: IReactorTime,
    owner: SessionOwner,
    *,
    silence: float,
    idle: float,
    greeting: float,
) -> SessionDriver:
    """Return the acceptor's end of a session, which waits for its channel; times in s, as `SessionCore` has them."""
    now = clock.seconds()
    core = SessionCore(
        Role.ACCEPTOR, now, agent=AGENT, silence=silence, idle=idle, greeting=greeting
    )
    return SessionDriver(clock, core, owner)


class _Opening:
    """The owner of a session that is being opened."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        address: PeerAddress,
        expected: PublicKey,
        carrier: str,
        race: Race,
    ) -> None:
        self.name = name
        self.address = address
        self.expected = expected
        self._clock = clock
        self._carrier = carrier
        self._race = race
        self._began = clock.seconds()
        self.done: Deferred[Session] = Deferred()

    def secured(self, session: OwnedSession) -> None:
        """Greet, as soon as no other attempt waits for an answer to its greeting."""
        self.log("handshake done")
        self._race.turn().addCallback(lambda _: session.greet())

    def greeted(self, session: OwnedSession, hello: Hello) -> None:
        """Cannot happen: an opener is not greeted."""
        raise LocalProtocolError(reason="an opener was greeted")

    def welcomed(self, session: OwnedSession) -> None:
        """Hand the session over."""
        self.log("session open")
        if not self.done.called:
            self.done.callback(session)

    def ended(self, session: OwnedSession, reason: P2pshareError | None) -> None:
        """Report why the session could not be opened, or only log that it is over."""
        why = f"{reason or 'closed'} (key there: {session.shown_key or 'none'})"
        self.log("session ended", why)
        if not self.done.called:
            self.done.errback(self._explained(session, reason))

    def log(self, event: str, why: str = "") -> None:
        """Log a step with the time since the beginning."""
        self._log.debug(
            "{event}: peer={peer} carrier={carrier} address={address} s={s:.3f}{why}",
            event=event,
            peer=self.name,
            carrier=self._carrier,
            address=self.address,
            s=self._clock.seconds() - self._began,
            why=f" why={why!r}" if why else "",
        )

    def _explained(self, session: OwnedSession, reason: P2pshareError | None) -> P2pshareError:
        """Return the error in the light of the key that was shown."""
        shown, name, address = session.shown_key, self.name, self.address
        if shown is not None and shown != self.expected:
            known, there = self.expected.grouped, shown.grouped
            return OtherKeyThere(name=name, address=address, known=known, there=there)
        if reason is None:
            reason = SessionLost(name=name, reason="it ended the connection")
        if not session.is_secure and isinstance(reason, SessionLost):
            why = reason.fields["reason"]
            why = NO_TLS if why == NO_TLS_IN_OPENSSL else why
            return NoSessionThere(name=name, address=address, reason=why)
        return reason
