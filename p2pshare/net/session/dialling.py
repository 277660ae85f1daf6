"""Opens sessions with other peers, and makes the drivers of accepted ones.

A `SessionDial` opens one session by several attempts, which share a race: over TCP and UDP, to several addresses, and
over any other stream, such as one through a relay. `open_session` dials one address.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime
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
    SessionLost,
)
from p2pshare.net.session.carriers import Carriers
from p2pshare.net.session.driver import SessionDriver
from p2pshare.net.session.interfaces import CarrierUser, OwnedSession, SessionOwner
from p2pshare.net.session.race import Attempt, Race
from p2pshare.net.session.stream import StreamChannel
from p2pshare.net.session.tcp import FILE_READ, TcpCarrier
from p2pshare.net.session.tls import SessionTls
from p2pshare.net.sockets import IPeerReactor, client_endpoint, connect_to
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import VERSION, Hello, Message, Purpose

if TYPE_CHECKING:  # it takes its time to import numpy, of which a session over TCP has no use
    from p2pshare.net.session.datagrams import DatagramChannel, DatagramSessions

SILENCE = 8.0  # seconds without a byte after which a session counts as lost
AGENT = f"p2pshare/{__version__}"
"""Name and version of this program, which each end tells the other."""
UNANSWERED_PART = 0.5
"""The part of the silence after which a session over UDP is lost if its packets and probes have no answer either."""
TCP_HEAD_START = 0.05  # seconds
"""The delay of the attempt over UDP: on a fast network, where TCP is the faster carrier, UDP is not even tried."""
NO_TLS_IN_OPENSSL = "wrong version number"
"""OpenSSL's reason if the answer is not TLS at all."""
NO_TLS = "it does not speak TLS"
NO_ANSWER = "no answer"
"""The reason in the log for an attempt that was given up, if the address has said nothing."""
NO_SOCKET = "no socket for UDP"
NAMED_MAX = 4  # addresses without an answer that an error names
CALL = "call"
"""The place of attempts that a call has led to: what fails elsewhere says nothing about them."""


@dataclass(frozen=True, slots=True)
class WantedSession:
    """The session that all attempts of a dial try to open."""

    name: str
    """The other peer's name, for errors."""
    expected: PublicKey
    """The key that it must have."""
    credit: int
    """Bytes of files that it may send before there is more credit."""
    early: Sequence[Message] = ()
    """Requests that reach it with the greeting, as in `SessionCore.send_early`. None of them is answered if the session
    cannot be opened."""
    silence: float = SILENCE
    """Seconds without a byte after which the session is lost."""
    timeout: float = GREETING
    """Seconds until it must be connected, and until it must have welcomed this peer."""
    own_name: str = ""
    """What the user is called, if there is no registry that says it."""
    purpose: Purpose | None = None
    """What the session is for, if there is no registry."""


@dataclass(slots=True, eq=False)
class Tried:
    """An attempt, for people who want to know why a peer is reached as it is."""

    carrier: str
    address: str
    began_s: float
    """Seconds since the dial began."""
    answered_ms: float | None = None
    """Milliseconds from the beginning of the attempt until the other end had proved its key."""
    outcome: str = ""
    """"used", "given up", or why it failed; empty while it runs."""


class SessionDial:
    """The attempts to open one session, which may join while it runs."""

    def __init__(
        self,
        reactor: IPeerReactor,
        key: SigningKey,
        wanted: WantedSession,
        tried: list[Tried] | None = None,
    ) -> None:
        """Begin a race for `wanted` with this peer's `key`; what is tried is appended to `tried`."""
        self.wanted = wanted
        self.race = Race(reactor)
        self._reactor = reactor
        self._tls = SessionTls(key)
        self._tried = [] if tried is None else tried
        self._began = reactor.seconds()
        self._unreachable: dict[
            str, None
        ] = {}  # addresses without an answer, in the order in which they failed

    def over_tcp(self, address: PeerAddress, delay: float = 0.0) -> None:
        """Connect by TCP, in `delay` seconds or as soon as another attempt fails."""

        async def connect(user: CarrierUser) -> None:
            try:
                carrier = TcpCarrier(user, FILE_READ)
                endpoint = client_endpoint(self._reactor, address, self.wanted.timeout)
                await connect_to(endpoint, carrier)
            except ConnectingCancelledError:
                raise CancelledError from None
            except ConnectError as error:
                opening.log("connection failed", str(error))
                name = self.wanted.name
                if error.osError == errno.ECONNRESET:
                    reason = "the connection was reset"
                    raise NoSessionThere(name=name, address=address, reason=reason) from error
                raise PeerUnreachable(name=name, address=address) from error

        opening, session = self._opening("tcp", address)
        self._enter_stream(opening, session, connect, delay)

    def over_stream(
        self,
        carrier: str,
        where: PeerAddress | str,
        connect: Callable[[CarrierUser], Awaitable[object]],
    ) -> None:
        """Open a session over a connection that `connect` makes, now.

        Args:
            carrier: its kind.
            where: the address of the other end, or the URL of the registry whose relay it is.
            connect: calls `connected` of the given user, and then returns; it raises a `P2pshareError` if it cannot.
        """
        place = f"{CALL} {carrier}"  # a connection back that breaks says nothing about the relay
        self._enter_stream(*self._opening(carrier, where, place), connect, 0.0)

    def over_udp(
        self,
        address: PeerAddress,
        socket: Callable[[PeerAddress], DatagramSessions | None],
        delay: float = 0.0,
        *,
        place: str = "",
    ) -> None:
        """Open a session over UDP, in `delay` seconds or as soon as another attempt fails.

        Args:
            address: the other end.
            socket: returns what opens channels to that address; None if there is no socket for it.
            delay: in seconds.
            place: as in `Attempt`; empty for the IP address.
        """
        opening, session = self._opening("udp", address, place)
        unanswered = UNANSWERED_PART * self.wanted.silence
        channel: DatagramChannel | None = None

        def has_answer() -> bool:
            return channel is not None and channel.has_answer

        async def welcomed() -> Session:
            nonlocal channel
            if delay:
                await self.race.start(delay)
            self._begin(opening)
            opening.log("begun")
            datagrams = socket(address)
            if datagrams is None:
                opening.log("connection failed", NO_SOCKET)
                raise PeerUnreachable(name=opening.name, address=address)
            channel = datagrams.open(
                address, self._tls.connect(opening.expected), session, unanswered
            )
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
                raise NoAnswerOverUdp(name=opening.name, address=address) from error

        self._enter(opening, welcomed, has_answer)

    def wait_for(self, others: Deferred[Session]) -> None:
        """Let the dial go on until `others` fails, which stands for attempts that are still to come. It is cancelled
        when the dial ends.
        """
        self.race.enter(Attempt(others, place=CALL, has_turn=lambda: False))

    async def session(self) -> Session:
        """Return the session that is welcomed first, after at least one attempt has begun. Call it once.

        Raises:
            P2pshareError: as for `open_session`.
        """
        try:
            return await self.race.winner()
        except PeerUnreachable as error:
            if len(self._unreachable) <= 1:
                raise
            named = list(self._unreachable)[:NAMED_MAX]
            more = len(self._unreachable) - len(named)
            last = f"{more} more addresses" if more else named.pop()
            where = f"{', '.join(named)} and {last}"
            raise type(error)(name=self.wanted.name, address=where) from error

    def _begin(self, opening: _Opening) -> None:
        opening.began = self._reactor.seconds()
        opening.tried.began_s = opening.began - self._began
        self._tried.append(opening.tried)

    def _opening(
        self, carrier: str, address: PeerAddress | str, place: str = ""
    ) -> tuple[_Opening, SessionDriver]:
        wanted, reactor = self.wanted, self._reactor
        opening = _Opening(reactor, wanted, address, carrier, self.race)
        opening.place = place or (address if isinstance(address, str) else address.ip)
        core = SessionCore(
            Role.OPENER,
            reactor.seconds(),
            name=wanted.name,
            hello=Hello(VERSION, AGENT, wanted.credit, wanted.own_name, wanted.purpose),
            silence=wanted.silence,
            greeting=wanted.timeout,
        )
        core.send_early(wanted.early)
        return opening, SessionDriver(reactor, core, opening)

    def _enter_stream(
        self,
        opening: _Opening,
        session: SessionDriver,
        connect: Callable[[CarrierUser], Awaitable[object]],
        delay: float,
    ) -> None:
        channel = StreamChannel(self._reactor, self._tls.connect(opening.expected), session)
        is_connected = False

        async def welcomed() -> Session:
            nonlocal is_connected
            if delay:
                await self.race.start(delay)
            self._begin(opening)
            try:
                await connect(channel)
            except CancelledError:
                opening.log("given up", NO_ANSWER)
                raise
            is_connected = True
            opening.log("connected")
            try:
                return await opening.done
            except CancelledError:
                opening.log("given up")
                session.abort()
                raise

        self._enter(opening, welcomed, lambda: is_connected)

    def _enter(
        self,
        opening: _Opening,
        welcomed: Callable[[], Coroutine[Deferred[Any], Any, Session]],
        has_answer: Callable[[], bool],
    ) -> None:
        tried = opening.tried

        async def reported() -> Session:
            try:
                session = await welcomed()
            except PeerUnreachable:
                tried.outcome = NO_ANSWER
                self._unreachable[tried.address] = None
                raise
            except P2pshareError as error:
                tried.outcome = str(error.fields.get("reason") or error)
                raise
            except CancelledError:
                tried.outcome = "given up"
                raise
            tried.outcome = "used"
            return session

        self.race.enter(
            Attempt(
                Deferred.fromCoroutine(reported()),
                has_answer,
                opening.place,
                lambda: opening.began,
                lambda: opening.has_turn,
            )
        )


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
    """Open a session with the peer at an address, over several carriers side by side.

    Args:
        reactor: connects and runs the timers.
        key: this peer's.
        name: the other peer's, as in `WantedSession`, like all that follows.
        address: where the other peer accepts sessions.
        expected: the key that it must have.
        credit: bytes of files that it may send before there is more credit.
        early: requests that reach it with the greeting.
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
    dial = SessionDial(reactor, key, WantedSession(name, expected, credit, early, silence, timeout))
    delay = 0.0
    if carriers is None or carriers.has_tcp:
        dial.over_tcp(address)
        delay = TCP_HEAD_START
    if carriers is not None and carriers.has_udp:
        dial.over_udp(address, carriers.udp_towards, delay)
    elif carriers is not None and not carriers.has_tcp:
        raise PeerUnreachable(name=name, address=address)
    return await dial.session()


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
        wanted: WantedSession,
        address: PeerAddress | str,
        carrier: str,
        race: Race,
    ) -> None:
        self.name = wanted.name
        self.address = address
        self.expected = wanted.expected
        self.carrier = carrier
        self.place = ""
        """As in an `Attempt`."""
        self.began: float | None = None
        """Seconds of the clock when the attempt began."""
        self.tried = Tried(carrier, str(address), 0.0)
        self.has_turn = False
        """Whether it may greet."""
        self.done: Deferred[Session] = Deferred()
        self._clock = clock
        self._race = race

    def secured(self, session: OwnedSession) -> None:
        """Greet, as soon as no other attempt waits for an answer to its greeting."""
        self.tried.answered_ms = 1000 * self._age
        self.log("handshake done")
        self._race.turn().addCallback(self._greet, session)

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

    @property
    def _age(self) -> float:
        return 0.0 if self.began is None else self._clock.seconds() - self.began

    def _greet(self, _: None, session: OwnedSession) -> None:
        self.has_turn = True
        session.greet()

    def log(self, event: str, why: str = "") -> None:
        """Log a step with the time since the beginning."""
        self._log.debug(
            "{event}: peer={peer} carrier={carrier} address={address} s={s:.3f}{why}",
            event=event,
            peer=self.name,
            carrier=self.carrier,
            address=self.address,
            s=self._age,
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
