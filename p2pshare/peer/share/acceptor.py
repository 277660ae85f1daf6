"""Accepts sessions, from openers that are strangers until they have proved a key.

Theory of operation
===================

*Connections that are not sessions yet* cost a socket and a handshake, and anyone can open them. A new one is always
accepted; if there are too many, another one gives way. Refusing the new one instead would lock honest openers out for
as long as a stranger holds all places, which costs nothing. An honest opener needs a place for some round trips only.
So the connection with the least progress gives way (`_progress`), and of those the oldest. From the first victim on:

1. It has shown a key and does not greet, although honest openers greet as they finish the handshake. Or it was refused
   and does not hang up.
2. Its handshake is not done.
3. It has greeted, and waits for the registry's answer about its key.

The limit for one host comes first, so a single host displaces only itself as long as the total is not reached.

*Sessions* are known by their keys, each of which owns a name. If all places are taken, the key with the most sessions
loses the one that is idle the longest. It does so only if it then still has at least as many as the new session's key.
A displaced session does not count any more (`gives_way`) while it says its farewell.

*Checked twice.* `_expect_place` runs when an opener greets, to spare the registry a question, and again after the
answer, because many openers can wait for answers at the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from p2pshare.core.credit import CREDIT_WINDOW
from p2pshare.core.message_budget import BARRED, FLOOD_MAX
from p2pshare.core.session import IDLE, SILENCE
from p2pshare.core.session_interface import Session, SessionUser
from p2pshare.errors import P2pshareError, PortUnusable, RemoteProtocolError
from p2pshare.net.session.dialling import accept_session
from p2pshare.net.session.intake import Intake
from p2pshare.net.session.interfaces import CarrierUser, ChannelUser, OwnedSession
from p2pshare.net.session.stream import StreamChannel
from p2pshare.net.session.tcp import TcpCarriers
from p2pshare.net.session.tls import SessionTls
from p2pshare.net.sockets import IPeerReactor, listen_tcp, port_of
from p2pshare.peer.share.admission import NotAdmitted
from p2pshare.storage.open_file_limit import share_of_files
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import Hello, Purpose, Refusal

INTAKES_MAX = 1024  # keys whose message budgets are kept: more than there are sessions
TOTAL_PART = 4  # of the open files that the limit leaves: one part for sessions
HALF_OPEN_PART = 8  # likewise: one part for connections that are not sessions yet
BUSY_WAIT = 30  # seconds after which an opener may come again that was refused for lack of room


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds on the sessions that a peer accepts."""

    half_open: int = 256
    """Connections that are not sessions yet."""
    half_open_per_host: int = 128
    """Those of one IP address."""
    total: int = 500
    """Sessions."""
    rest: float = 30.0
    """Seconds without use after which a session can give way."""
    per_key: int = 16
    """Sessions of one key."""
    handshake: float = 10.0
    """Seconds from the connection until `Welcome` at the latest."""
    idle: float = IDLE
    """Seconds without a message other than pings, and without bytes of files."""
    silence: float = SILENCE
    """Seconds without a byte."""
    credit: int = CREDIT_WINDOW
    """Bytes of files that an opener may send at first, if it is asked for any."""

    def within_open_files(self) -> SessionLimits:
        """Return these limits, with fewer sessions and connections under a low limit on open files."""
        return replace(
            self,
            total=share_of_files(self.total, TOTAL_PART),
            half_open=share_of_files(self.half_open, HALF_OPEN_PART),
        )


DEFAULT_LIMITS = SessionLimits()


@dataclass(slots=True)
class _Entry:
    """The state of one connection."""

    host: str
    over: Deferred[None]
    admission: Deferred[None] | None = None
    is_open: bool = False
    gives_way: bool = False


class SessionAcceptor:
    """Accepts sessions on a TCP port, on one or more interfaces."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        key: Callable[[], SigningKey],
        admit: Callable[[PublicKey, str, Purpose | None], Awaitable[str]],
        serve: Callable[[Session], SessionUser],
        limits: SessionLimits = DEFAULT_LIMITS,
    ) -> None:
        """Accept sessions after `listen`.

        `key` returns this peer's current key. `admit` returns the name of an opener, from its key, what
        it calls itself and what it wants, or raises `NotAdmitted`. `serve`
        makes the user of a session that was welcomed.
        """
        self._reactor = reactor
        self._key = key
        self._admit = admit
        self._serve = serve
        self._limits = limits
        self._tls: SessionTls | None = None
        self._ports: list[IListeningPort] = []  # of one number
        self._entries: dict[OwnedSession, _Entry] = {}  # the oldest first
        self._per_key: Counter[PublicKey] = Counter()  # sessions
        self._intakes: dict[PublicKey, Intake] = {}
        self._is_stopping = False
        self.on_welcome: Callable[[PublicKey], object] = lambda _key: None
        """Called with the key of each opener that is let in."""

    @property
    def sessions(self) -> int:
        """The number of sessions."""
        return self._per_key.total()

    @property
    def half_open(self) -> int:
        """The number of connections that are not sessions yet."""
        return len(self._entries) - self.sessions

    @property
    def port(self) -> int:
        """The number of the port, after `listen`."""
        return port_of(self._ports[0])

    async def listen(self, port: int, *interfaces: str) -> None:
        """Open the TCP port of this number on all of the interfaces, or on none; 0 for any, on one interface.

        Raises:
            PortUnusable: the port is in use, or reserved.
        """
        carriers = TcpCarriers(self.accept_stream)
        try:
            for interface in interfaces:
                self._ports.append(await listen_tcp(self._reactor, port, carriers, interface))
        except PortUnusable:
            await self.stop_listening()
            raise

    async def stop_listening(self) -> None:
        """Close the port."""
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)

    async def stop(self) -> None:
        """Close the port and all sessions, and wait for their farewells until that is cancelled."""
        self._is_stopping = True
        await self.stop_listening()
        for session, entry in list(self._entries.items()):
            (session.close if entry.is_open else session.abort)()
        try:
            over = [entry.over for entry in self._entries.values()]
            await DeferredList(over, consumeErrors=True)
        finally:
            for session in list(self._entries):
                session.abort()

    @property
    def tls(self) -> SessionTls:
        """Makes the acceptor's end of a TLS connection with this peer's current key."""
        key = self._key()
        if self._tls is None or self._tls.key.public != key.public:
            self._tls = SessionTls(key)
        return self._tls

    def accept_stream(self, host: str) -> CarrierUser | None:
        """Return the user of a carrier of bytes from the IP address `host`; None to close it."""
        user = self.accept(host)
        return None if user is None else StreamChannel(self._reactor, self.tls.accept(), user)

    def accept(self, host: str) -> ChannelUser | None:
        """Return the user of a channel from the IP address `host`; None to close it."""
        if self._is_stopping:
            return None
        self._make_room(host)
        limits = self._limits
        session = accept_session(
            self._reactor,
            self,
            silence=limits.silence,
            idle=limits.idle,
            greeting=limits.handshake,
        )
        self._entries[session] = _Entry(host, Deferred())
        return session

    def secured(self, session: OwnedSession) -> None:
        """Wait for the greeting; see `SessionOwner`."""

    def greeted(self, session: OwnedSession, hello: Hello) -> None:
        """Ask who the opener is; see `SessionOwner`."""
        admission = Deferred.fromCoroutine(self._decide(session, hello))
        self._entries[session].admission = admission

    def welcomed(self, session: OwnedSession) -> None:
        """Count the session; see `SessionOwner`."""
        self._entries[session].is_open = True
        self._per_key[session.key] += 1
        self.on_welcome(session.key)

    def ended(self, session: OwnedSession, reason: P2pshareError | None) -> None:
        """Forget the connection; see `SessionOwner`."""
        entry = self._entries.pop(session)
        if entry.admission is not None:
            entry.admission.cancel()
        if entry.is_open:
            self._per_key[session.key] -= 1
            self._per_key += Counter()  # drops the keys without a session
            if isinstance(reason, RemoteProtocolError):
                self._log.warn(
                    "session broken: peer={peer} why={why}", peer=session.name, why=str(reason)
                )
        elif reason is not None:
            self._log.debug("no session: host={host} why={why}", host=entry.host, why=str(reason))
        entry.over.callback(None)

    async def _decide(self, session: OwnedSession, hello: Hello) -> None:
        """Find out who the opener is, and welcome or refuse it."""
        key = session.key
        try:
            self._expect_place(key)
            name = await self._admit(key, hello.name, hello.purpose)
            self._expect_place(key)
        except NotAdmitted as error:
            self._log.debug(
                "session refused: key={key} agent={agent!r} why={why}",
                key=key,
                agent=hello.agent,
                why=error.why.value,
            )
            session.refuse(error.why, error.retry_after)
            return
        except CancelledError:  # the connection is closed
            return
        except Exception:
            self._log.failure("admission failed: key={key}", key=key)
            session.refuse(Refusal.LATER, BUSY_WAIT)
            return
        if self._has_all_sessions() and (idle := self._idle_session(key)) is not None:
            self._entries[idle].gives_way = True
            idle.close()
        session.welcome(name, self._limits.credit, self._intake_of(key, name))
        if not self._entries[session].is_open:
            return
        try:
            session.begin(self._serve(session))
        except Exception:
            self._log.failure("session not served: peer={peer}", peer=name)
            session.close()

    def _expect_place(self, key: PublicKey) -> None:
        """Raise `NotAdmitted` if there is no place for one more session of `key`, not even an idle session's."""
        is_barred = key in self._intakes and self._intakes[key].budget.is_barred(
            self._reactor.seconds()
        )
        is_full = self._has_all_sessions() and self._idle_session(key) is None
        if self._per_key[key] >= self._limits.per_key or is_barred or is_full:
            raise NotAdmitted(Refusal.BUSY, BUSY_WAIT)

    def _intake_of(self, key: PublicKey, name: str) -> Intake:
        """Return what the sessions of a key share, so that many of them may not send more than one."""
        if key not in self._intakes:
            if len(self._intakes) >= INTAKES_MAX:
                del self._intakes[next(each for each in self._intakes if each not in self._per_key)]
            self._intakes[key] = Intake(self._reactor, lambda: self._end_flood(key, name))
        return self._intakes[key]

    def _end_flood(self, key: PublicKey, name: str) -> None:
        flooding = [
            each for each, entry in self._entries.items() if entry.is_open and each.key == key
        ]
        self._log.warn(
            "message flood: peer={peer} sessions={sessions} s={seconds:g} barred_s={barred:g}",
            peer=name,
            sessions=len(flooding),
            seconds=FLOOD_MAX,
            barred=BARRED,
        )
        for each in flooding:
            each.abort()

    def _has_all_sessions(self) -> bool:
        standing = sum(each.is_open and not each.gives_way for each in self._entries.values())
        return standing >= self._limits.total

    def _idle_session(self, key: PublicKey) -> OwnedSession | None:
        """Return the session that gives way to a new one of `key`, if there is one."""
        most, count = max(self._per_key.items(), key=lambda each: each[1])
        idle = [
            session
            for session, entry in self._entries.items()
            if entry.is_open
            and session.key == most
            and not entry.gives_way
            and session.unused_for >= self._limits.rest
        ]
        if count <= self._per_key[key] + 1 or not idle:
            return None
        return max(idle, key=lambda session: session.unused_for)

    def _make_room(self, host: str) -> None:
        """Abort one connection that is not a session yet, if there are too many."""
        waiting = [
            each
            for each, entry in self._entries.items()
            if not entry.is_open and not entry.gives_way
        ]
        of_host = [each for each in waiting if self._entries[each].host == host]
        for those, most in (
            (of_host, self._limits.half_open_per_host),
            (waiting, self._limits.half_open),
        ):
            if len(those) >= most:
                first = min(those, key=self._progress)
                self._entries[first].gives_way = True
                first.abort()
                return

    def _progress(self, session: OwnedSession) -> int:
        """Rank a connection that is not a session; the lowest gives way."""
        if self._entries[session].admission is not None:
            return 2 if session.is_waiting else 0
        return 0 if session.is_secure else 1
