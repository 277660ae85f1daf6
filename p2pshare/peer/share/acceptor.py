"""Where a peer takes sessions, from whom it does not know before they have proved their key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from p2pshare.core.message_budget import BARRED, FLOOD_MAX
from p2pshare.core.session import IDLE, SILENCE
from p2pshare.core.session_interface import Session, SessionUser
from p2pshare.errors import P2pshareError, RemoteProtocolError
from p2pshare.net.session.dialling import accept_session
from p2pshare.net.session.intake import Intake
from p2pshare.net.session.interfaces import CarrierUser, OwnedSession
from p2pshare.net.session.tcp import TcpCarriers
from p2pshare.net.session.tls import SessionTls
from p2pshare.net.sockets import IPeerReactor, listen_tcp, port_of
from p2pshare.peer.share.admission import NotAdmitted
from p2pshare.storage.open_files import share_of_files
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.session_messages import Credit, Hello, Refusal

INTAKES_MAX = (
    1024  # keys whose budgets are kept: more than there are sessions, of which none is forgotten
)
TOTAL_PART = 4  # of the open files that the limit leaves: one part for sessions
HALF_OPEN_PART = 8  # likewise: one part for connections that are no sessions yet
BUSY_WAIT = 30  # seconds after which one that was turned away for want of room may come again


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds on the sessions that a peer takes."""

    half_open: int = 64
    """Connections that are not welcomed yet; one that has come to little gives way to a new one."""
    half_open_per_host: int = 16
    """Those of one address."""
    total: int = 500
    """Sessions. Who is new then takes the place of one that rests, of the key that has most."""
    rest: float = 30.0
    """Seconds without use after which a session can be so displaced."""
    per_key: int = 16
    """Sessions of one key."""
    handshake: float = 10.0
    """Seconds from the connection until `Welcome` at the latest."""
    idle: float = IDLE
    """Seconds without a message other than pings, and without bytes of files."""
    silence: float = SILENCE
    """Seconds without a byte."""

    def within_open_files(self) -> SessionLimits:
        """Return these, with fewer sessions and connections under a low limit on open files."""
        return replace(
            self,
            total=share_of_files(self.total, TOTAL_PART),
            half_open=share_of_files(self.half_open, HALF_OPEN_PART),
        )


DEFAULT_LIMITS = SessionLimits()


@dataclass(slots=True)
class _Entry:
    """What is known of a connection."""

    host: str
    over: Deferred[None]
    judging: Deferred[None] | None = None
    is_open: bool = False
    gives_way: bool = False


class SessionServer:
    """Takes sessions on a TCP port."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        key: Callable[[], SigningKey],
        admit: Callable[[PublicKey], Awaitable[str]],
        serve: Callable[[Session], SessionUser],
        limits: SessionLimits = DEFAULT_LIMITS,
    ) -> None:
        """Take sessions, once `listen` was called.

        Args:
            reactor: what it runs on.
            key: who we are, now.
            admit: returns the name of an opener with this key; raises `NotAdmitted`.
            serve: makes the user of a session that was welcomed.
            limits: bounds.
        """
        self._reactor = reactor
        self._key = key
        self._admit = admit
        self._serve = serve
        self._limits = limits
        self._tls: SessionTls | None = None
        self._port: IListeningPort | None = None
        self._streams: dict[OwnedSession, _Entry] = {}  # the oldest first
        self._per_key: Counter[PublicKey] = Counter()
        self._intakes: dict[PublicKey, Intake] = {}
        self._is_stopping = False

    @property
    def sessions(self) -> int:
        """How many there are."""
        return self._per_key.total()

    @property
    def half_open(self) -> int:
        """Connections that are no sessions yet."""
        return len(self._streams) - self.sessions

    @property
    def port(self) -> int:
        """Its number, after `listen`."""
        assert self._port is not None
        return port_of(self._port)

    async def listen(self, port: int, interface: str) -> None:
        """Open the TCP port of this number; 0 for any.

        Raises:
            PortUnusable: it is in use, or not ours to use.
        """
        self._port = await listen_tcp(self._reactor, port, TcpCarriers(self.take), interface)

    def stop_listening(self) -> None:
        """Close the port again, which `listen` has opened just now."""
        if self._port is not None:
            self._port.stopListening()
            self._port = None

    async def stop(self) -> None:
        """Close the port, say `Bye` to all, and wait until they have heard it, or had the time to."""
        self._is_stopping = True
        if self._port is not None:
            port, self._port = self._port, None
            closing: Deferred[None] | None = port.stopListening()
            if closing is not None:
                await closing
        for stream, entry in list(self._streams.items()):
            if entry.is_open:
                stream.close()
            else:
                stream.abort()
        try:
            over = [entry.over for entry in self._streams.values()]
            await DeferredList(over, consumeErrors=True)
        finally:  # if nobody wants to wait that long
            for stream in list(self._streams):
                stream.abort()

    def take(self, host: str) -> CarrierUser | None:
        """The protocol for a connection from `host`; None if there can be none."""
        if self._is_stopping:
            return None
        self._make_room(host)
        limits = self._limits
        session = accept_session(
            self._reactor,
            self._current_tls(),
            self,
            silence=limits.silence,
            idle=limits.idle,
            greeting=limits.handshake,
        )
        self._streams[session] = _Entry(host, Deferred())
        return session

    def greeted(self, stream: OwnedSession, hello: Hello) -> None:
        """Somebody with a proved key wants a session."""
        if self._is_full(stream.key):
            stream.refuse(Refusal.BUSY, BUSY_WAIT)
            return
        entry = self._streams[stream]
        entry.judging = Deferred.fromCoroutine(self._judge(stream, hello))

    def welcomed(self, stream: OwnedSession) -> None:
        """There is a session now."""
        self._streams[stream].is_open = True
        self._per_key[stream.key] += 1

    def ended(self, stream: OwnedSession, reason: P2pshareError | None) -> None:
        """A connection is over."""
        entry = self._streams.pop(stream)
        if entry.judging is not None:
            entry.judging.cancel()
        if entry.is_open:
            self._per_key[stream.key] -= 1
            if not self._per_key[stream.key]:
                del self._per_key[stream.key]
            if isinstance(reason, RemoteProtocolError):
                self._log.warn(
                    "the session with {name} was ended: {why}", name=stream.name, why=str(reason)
                )
        elif reason is not None:
            self._log.debug("no session with {host}: {why}", host=entry.host, why=str(reason))
        entry.over.callback(None)

    async def _judge(self, stream: OwnedSession, hello: Hello) -> None:
        """Ask who it is, and welcome it or turn it away."""
        try:
            name = await self._admit(stream.key)
        except NotAdmitted as error:
            self._log.debug(
                "session refused: key={key} agent={agent!r} why={why}",
                key=stream.key,
                agent=hello.agent,
                why=error.why.value,
            )
            stream.refuse(error.why, error.retry_after)
            return
        except CancelledError:  # nobody waits for the answer any more
            return
        except Exception:
            self._log.failure("nobody can say who opens a session")
            stream.refuse(Refusal.LATER, BUSY_WAIT)
            return
        if self._is_full(stream.key):  # others were faster
            stream.refuse(Refusal.BUSY, BUSY_WAIT)
            return
        if self._has_all_sessions() and (resting := self._resting(stream.key)) is not None:
            self._streams[resting].gives_way = True
            resting.close()
        stream.welcome(name, self._intake_of(stream.key, name))
        if not self._streams[stream].is_open:
            return
        try:
            user = self._serve(stream)
            stream.begin(user)  # who hears of the end from now on; what has come comes later
            user.message_received(Credit(hello.credit))
        except Exception:
            self._log.failure("the session with {name} cannot be served", name=name)
            stream.close()

    def _is_full(self, key: PublicKey) -> bool:
        """Whether there is no place for one more session of `key`, not even one that another one can give up."""
        if self._per_key[key] >= self._limits.per_key:
            return True
        if key in self._intakes and self._intakes[key].budget.is_barred(self._reactor.seconds()):
            return True
        return self._has_all_sessions() and self._resting(key) is None

    def _intake_of(self, key: PublicKey, name: str) -> Intake:
        """What the sessions of a key share, so that many of them may not say more than one."""
        if key not in self._intakes:
            if len(self._intakes) >= INTAKES_MAX:
                del self._intakes[next(each for each in self._intakes if each not in self._per_key)]
            self._intakes[key] = Intake(self._reactor, lambda: self._end_flood(key, name))
        return self._intakes[key]

    def _end_flood(self, key: PublicKey, name: str) -> None:
        flooding = [
            stream for stream, each in self._streams.items() if each.is_open and stream.key == key
        ]
        self._log.warn(
            "{sessions} session(s) with {name} ended: it sent more messages than are allowed for {seconds:g} s; it is"
            " let in again after {barred:g} s",
            sessions=len(flooding),
            name=name,
            seconds=FLOOD_MAX,
            barred=BARRED,
        )
        for stream in flooding:
            stream.abort()

    def _has_all_sessions(self) -> bool:
        standing = sum(each.is_open and not each.gives_way for each in self._streams.values())
        return standing >= self._limits.total

    def _resting(self, key: PublicKey) -> OwnedSession | None:
        """The session that rests longest, of the key that has most of them, if it has more than `key` then will."""
        most, count = max(self._per_key.items(), key=lambda each: each[1])
        resting = [
            stream
            for stream, entry in self._streams.items()
            if entry.is_open
            and stream.key == most
            and not entry.gives_way
            and stream.unused_for >= self._limits.rest
        ]
        if count <= self._per_key[key] + 1 or not resting:
            return None
        return max(resting, key=lambda stream: stream.unused_for)

    def _make_room(self, host: str) -> None:
        """Let connections give way that have not come to anything: who is honest needs no time for it."""
        waiting = [
            each
            for each, entry in self._streams.items()
            if not entry.is_open and not entry.gives_way
        ]
        of_host = [each for each in waiting if self._streams[each].host == host]
        for those, most in (
            (of_host, self._limits.half_open_per_host),
            (waiting, self._limits.half_open),
        ):
            if len(those) >= most:
                first = min(those, key=self._claim)
                self._streams[first].gives_way = True
                first.abort()
                return

    def _claim(self, stream: OwnedSession) -> int:
        """How much there is to be said for a connection that is no session: one that was greeted is about to be."""
        if self._streams[stream].judging is not None:
            return 2 if stream.is_waiting else 0  # who was refused has only to hang up
        return 0 if stream.is_secure else 1  # honest ones greet as soon as they can

    def _current_tls(self) -> SessionTls:
        key = self._key()
        if self._tls is None or self._tls.key.public != key.public:
            self._tls = SessionTls(key)
        return self._tls
