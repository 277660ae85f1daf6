"""How a session with another peer is opened."""

from __future__ import annotations

import errno

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConnector, IReactorTCP, IReactorTime
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

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
from p2pshare.net.session.stream import SessionStream
from p2pshare.net.session.tls import SessionTls
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import Hello

SILENCE = 15.0  # seconds without a byte after which a session counts as lost
AGENT = f"p2pshare/{__version__}"
"""What this program calls itself."""
NO_TLS_IN_OPENSSL = "wrong version number"
"""What OpenSSL says of an answer that is no TLS at all."""
NO_TLS = "it is no TLS"


class ISessionReactor(IReactorTCP, IReactorTime):
    """What it takes to open a session."""


async def open_session(
    reactor: ISessionReactor,
    key: SigningKey,
    name: str,
    address: PeerAddress,
    expected: PublicKey,
    *,
    credit: int,
    silence: float = SILENCE,
    timeout: float = GREETING,
) -> Session:
    """Open a session with the peer `name`.

    Args:
        reactor: what it runs on.
        key: who we are.
        name: the other side's, for errors.
        address: where it is.
        expected: the key that it must have.
        credit: bytes of files that it may send before there is more credit.
        silence: seconds without a byte after which the session is lost.
        timeout: seconds until it must have welcomed us, and before that until it must be connected.

    Raises:
        PeerUnreachable: nobody is there.
        NoSessionThere: somebody is there, who does not speak this protocol.
        OtherKeyThere: somebody else is there; nothing was said to them.
        SessionRefused, SessionPostponed, VersionRefused: it does not want the session.
        SessionLost: the connection broke, or fell silent.
    """
    core = SessionCore(
        Role.OPENER,
        reactor.seconds(),
        name=name,
        hello=Hello(AGENT, credit),
        silence=silence,
        greeting=timeout,
    )
    opening = _Opening(reactor, SessionTls(key), core, name, address, expected, timeout)
    connector = reactor.connectTCP(address.ip, address.port, opening, timeout)
    opening.connector = connector
    return await opening.done


class _Opening(ClientFactory):
    """A session that is being opened: its owner until it is there, or has failed."""

    noisy = False
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        tls: SessionTls,
        core: SessionCore,
        name: str,
        address: PeerAddress,
        expected: PublicKey,
        timeout: float,
    ) -> None:
        self._clock = clock
        self._tls = tls
        self._core = core
        self._name = name
        self._address = address
        self._expected = expected
        self._began = clock.seconds()
        self.connector: IConnector | None = None
        self.done: Deferred[Session] = Deferred(lambda _: self._cancel())

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """The connection is there."""
        self._note("connected")
        return SessionStream(self._clock, self._tls.connect(self._expected), self._core, self)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:  # noqa: N802
        """There is none, or it broke before we heard of it."""
        self._note("connection failed", reason.getErrorMessage())
        error: P2pshareError = PeerUnreachable(name=self._name, address=self._address)
        if getattr(reason.value, "osError", None) == errno.ECONNRESET:
            error = NoSessionThere(
                name=self._name, address=self._address, reason="the connection broke"
            )
        self._fail(error)

    def greeted(self, stream: SessionStream, hello: Hello) -> None:
        """Nobody greets who opens a session."""
        raise LocalProtocolError(reason="an opener was greeted")

    def welcomed(self, stream: SessionStream) -> None:
        """The session is there."""
        self._note("session open")
        if not self.done.called:
            self.done.callback(stream)

    def ended(self, stream: SessionStream, reason: P2pshareError | None) -> None:
        """The session has not come about, or is over."""
        found = "none" if stream.judge.found is None else stream.judge.found
        self._note(
            "session ended", f"{reason or 'one of the two wanted that'} (key there: {found})"
        )
        self._fail(self._explained(stream, reason))

    def _explained(self, stream: SessionStream, reason: P2pshareError | None) -> P2pshareError:
        """Why there is none, in the light of the key that was found."""
        found = stream.judge.found
        if found is not None and found != self._expected:
            return OtherKeyThere(
                name=self._name,
                address=self._address,
                known=self._expected.grouped,
                there=found.grouped,
            )
        if reason is None:
            reason = SessionLost(name=self._name, reason="it ended the connection")
        if not stream.is_secure and isinstance(reason, SessionLost):
            why = reason.fields["reason"]
            why = NO_TLS if why == NO_TLS_IN_OPENSSL else why
            return NoSessionThere(name=self._name, address=self._address, reason=why)
        return reason

    def _note(self, event: str, why: str = "") -> None:
        self._log.debug(
            "{event}: peer={peer} address={address} s={s:.3f}{why}",
            event=event,
            peer=self._name,
            address=self._address,
            s=self._clock.seconds() - self._began,
            why=f" why={why!r}" if why else "",
        )

    def _fail(self, error: P2pshareError) -> None:
        if not self.done.called:
            self.done.errback(error)

    def _cancel(self) -> None:
        """Nobody waits for it any more."""
        if self.connector is not None:
            self.connector.disconnect()
