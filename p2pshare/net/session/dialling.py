"""Opens sessions with other peers, and makes the drivers of accepted ones."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from p2pshare._version import __version__
from p2pshare.core.session import GREETING, Role, SessionCore
from p2pshare.core.session_interface import Session
from p2pshare.errors import (
    LocalProtocolError,
    NoSessionThere,
    OtherKeyThere,
    P2pshareError,
    PeerUnreachable,
    SessionLost,
)
from p2pshare.net.session.driver import SessionDriver
from p2pshare.net.session.interfaces import OwnedSession, SessionOwner
from p2pshare.net.session.stream import StreamChannel
from p2pshare.net.session.tcp import FILE_READ, TcpCarrier
from p2pshare.net.session.tls import SessionTls
from p2pshare.net.sockets import IPeerReactor, client_endpoint
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import VERSION, Hello, Message

SILENCE = 15.0  # seconds without a byte after which a session counts as lost
AGENT = f"p2pshare/{__version__}"
"""Name and version of this program, which each end tells the other."""
NO_TLS_IN_OPENSSL = "wrong version number"
"""OpenSSL's reason if the answer is not TLS at all."""
NO_TLS = "it does not speak TLS"


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
) -> Session:
    """Open a session with the peer `name`.

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

    Raises:
        PeerUnreachable: nothing accepts connections there.
        NoSessionThere: what is there does not speak this protocol.
        OtherKeyThere: a peer with another key is there; it was told nothing.
        SessionRefused, SessionPostponed, VersionRefused: the peer refuses the session.
        SessionLost: the connection broke or fell silent.
    """
    opening = _Opening(reactor, name, address, expected)
    hello = Hello(VERSION, AGENT, credit)
    now = reactor.seconds()
    core = SessionCore(Role.OPENER, now, name=name, hello=hello, silence=silence, greeting=timeout)
    core.send_early(early)
    session = SessionDriver(reactor, core, opening)
    channel = StreamChannel(reactor, SessionTls(key).connect(expected), session)
    try:
        await connectProtocol(
            client_endpoint(reactor, address, timeout), TcpCarrier(channel, FILE_READ)
        )
    except ConnectingCancelledError:
        raise CancelledError from None
    except ConnectError as error:
        opening.log("connection failed", str(error))
        if error.osError == errno.ECONNRESET:
            reason = "the connection was reset"
            raise NoSessionThere(name=name, address=address, reason=reason) from error
        raise PeerUnreachable(name=name, address=address) from error
    opening.log("connected")
    try:
        return await opening.done
    except CancelledError:
        session.abort()
        raise


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
        self, clock: IReactorTime, name: str, address: PeerAddress, expected: PublicKey
    ) -> None:
        self._clock = clock
        self._name = name
        self._address = address
        self._expected = expected
        self._began = clock.seconds()
        self.done: Deferred[Session] = Deferred()

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
            "{event}: peer={peer} address={address} s={s:.3f}{why}",
            event=event,
            peer=self._name,
            address=self._address,
            s=self._clock.seconds() - self._began,
            why=f" why={why!r}" if why else "",
        )

    def _explained(self, session: OwnedSession, reason: P2pshareError | None) -> P2pshareError:
        """Return the error in the light of the key that was shown."""
        shown, name, address = session.shown_key, self._name, self._address
        if shown is not None and shown != self._expected:
            known, there = self._expected.grouped, shown.grouped
            return OtherKeyThere(name=name, address=address, known=known, there=there)
        if reason is None:
            reason = SessionLost(name=name, reason="it ended the connection")
        if not session.is_secure and isinstance(reason, SessionLost):
            why = reason.fields["reason"]
            why = NO_TLS if why == NO_TLS_IN_OPENSSL else why
            return NoSessionThere(name=name, address=address, reason=why)
        return reason
