"""A session over one TCP connection: bytes and time go into `core.session`, and messages to who fetches or serves.

What is said goes out in the order in which it was said. Bytes of files are encrypted as soon as they are given, and
given only while there is room, so that little is ever in front of a message: one piece here, and in the kernel what
`NOT_SENT_MAX` allows. Small things of one turn of the reactor are encrypted together.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol as Interface
from typing import cast

from OpenSSL import SSL
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.session import (
    Greeted,
    MessageReceived,
    Role,
    SessionCore,
    SessionEnded,
    State,
    Welcomed,
)
from p2pshare.core.session_interface import SessionUser
from p2pshare.errors import LocalProtocolError, P2pshareError, RemoteProtocolError, SessionLost
from p2pshare.net.lazy_timer import LazyTimer
from p2pshare.net.session.intake import Intake
from p2pshare.net.session.outbox import SMALL, Outbox
from p2pshare.net.session.tls import Judge
from p2pshare.net.session.tls_pump import TlsClosed, TlsFailed, TlsPump
from p2pshare.wire.frames import DataPiece, data_head
from p2pshare.wire.keys import KEY_SIZE, PublicKey
from p2pshare.wire.message_fields import Message
from p2pshare.wire.session_messages import Hello, Refusal
from p2pshare.wire.transfer_messages import Failed, Fault

READ_SIZE = 256 * 1024  # bytes taken from the socket, and decrypted, at once, where files come
ASKED_SIZE = ROOM = 64 * 1024
"""Bytes taken at once where only messages come, of which each turn reads what `net/session/intake.py` allows; and bytes
that may wait in this process before there is no room for more data. Twisted has one number for both."""
NOT_SENT_MAX = 256 * 1024  # bytes that may wait in the kernel before it wants no more
SEND_SIZE = 512 * 1024  # bytes given to the socket at once: all that can wait
CLOSE_WAIT = 3.0  # seconds for the other side to take what was sent, and our farewell

_plaintext = memoryview(bytearray(READ_SIZE))  # of whichever session is read just now


class SessionOwner(Interface):
    """Who began a stream, or took it, and decides what becomes of it."""

    def greeted(self, stream: SessionStream, hello: Hello) -> None:
        """An opener with `stream.key` wants a session: call `welcome` or `refuse`."""

    def welcomed(self, stream: SessionStream) -> None:
        """There is a session now."""

    def ended(self, stream: SessionStream, reason: P2pshareError | None) -> None:
        """The session is over, or has not come about; None if one of the two wanted that. Called once."""


class SessionStream(Protocol):
    """One end of a session: a `core.session_interface.Session`."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        tls: tuple[SSL.Connection, Judge],
        core: SessionCore,
        owner: SessionOwner,
    ) -> None:
        """Carry `core` over the connection that this gets, once `tls` is content with its other end."""
        self._connection, self.judge = tls
        self.name = core.name
        self.key: PublicKey = self.judge.expected or PublicKey(bytes(KEY_SIZE))
        self._clock = clock
        self._pump = TlsPump(self._connection)
        self._core = core
        self._owner = owner
        self._user: SessionUser | None = None
        self._kept: list[DataPiece | MessageReceived] = []  # what came before there was a user
        self._sending_small: IDelayedCall | None = None
        self._alarm = LazyTimer(clock, self._ring)
        self._outbox = Outbox(
            self._pump,
            lambda data: self._transport.write(data),
            self._drained,
            self._stop_listening,
        )
        self._close_by: float | None = None  # when it is to be over, once that is wanted
        self._reason: P2pshareError | None = None
        self._is_secure = False
        self._is_over = False
        self._is_deaf = self._is_held = False
        self._intake: Intake | None = None

    @property
    def is_secure(self) -> bool:
        """Whether `key` is proved."""
        return self._is_secure

    @property
    def is_waiting(self) -> bool:
        """Whether an opener has greeted, and was neither welcomed nor refused."""
        return self._core.state is State.JUDGING

    def welcome(self, name: str, intake: Intake | None = None) -> None:
        """Let an opener in that has greeted, and whose name is `name`; read of it what `intake` allows."""
        if self._is_ending or self._core.state is not State.JUDGING:
            return
        self.name = name
        self._intake = intake
        self._core.welcome(name, self._clock.seconds())
        self._flush()
        self._arm()
        self._owner.welcomed(self)

    def refuse(self, why: Refusal, retry_after: int = 0) -> None:
        """Turn an opener away that has greeted; the connection ends once it has heard that."""
        if not self._is_ending:
            self._core.refuse(why, retry_after)
            self._say_farewell()

    def begin(self, user: SessionUser) -> None:
        """See `Session`; what has come already is told from the reactor, not from here."""
        assert self._user is None
        if self._kept or self._is_over:
            self._clock.callLater(0, self._begin, user)
        else:
            self._begin(user)

    def send(self, message: Message) -> None:
        """See `Session`."""
        if not self._is_ending:
            self._core.send(message, self._clock.seconds())
            if self._intake is not None and not _is_free(message):
                self._intake.answered()
            if self._outbox.add(self._core.data_to_send()):
                self._flush_soon()
            else:
                self._write()

    def send_data(self, transfer: int, offset: int, data: memoryview) -> None:
        """See `Session`; `data` may be changed as soon as this returns.

        Raises:
            LocalProtocolError: there is no room.
        """
        if self._is_ending:
            return
        if self._outbox.is_full:
            raise LocalProtocolError(reason="bytes of a file were sent without room for them")
        self._core.data_sent(self._clock.seconds())
        self._outbox.add(self._core.data_to_send(), data_head(transfer, offset, len(data)))
        if len(data) > SMALL:
            self._write(data)
        elif self._outbox.add(data):
            self._flush_soon()
        else:
            self._write()

    @property
    def has_room(self) -> bool:
        """See `Session`."""
        return not self._outbox.is_full and not self._is_ending

    @property
    def unused_for(self) -> float:
        """Seconds in which nothing was said but pings, and nothing done."""
        return self._core.unused_for(self._clock.seconds())

    def keep_alive(self) -> None:
        """See `Session`."""
        self._core.keep_alive(self._clock.seconds())

    def close(self) -> None:
        """See `Session`."""
        if not self._is_ending:
            self._core.close()
            self._say_farewell()

    def abort(self) -> None:
        """See `Session`."""
        self._break_off(None)

    def read_on(self) -> None:
        """Read what was left when the intake had no room."""
        self._read_all()
        if not self._outbox.is_full:  # else `_drained` does it
            self._listen_again()

    def connectionMade(self) -> None:
        """Begin with the handshake."""
        transport = self._transport
        with suppress(AttributeError, OSError):  # what is no socket, or not this system's
            transport.setTcpNoDelay(True)
            handle = transport.getHandle()
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_MAX)
        transport.bufferSize = READ_SIZE if self._core.role is Role.OPENER else ASKED_SIZE
        transport.SEND_LIMIT = SEND_SIZE
        transport.registerProducer(self._outbox, True)
        self._arm()
        self._shake_hands()

    def dataReceived(self, data: bytes) -> None:
        """Decrypt what has come, and tell of it."""
        if self._is_ending:
            return
        self._pump.receive_data(data)
        if not self._is_secure:
            self._shake_hands()
        self._read_all()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, wanted or not."""
        if not self._is_ending:
            self._reason = SessionLost(name=self.name, reason="it ended without a goodbye")
            self._close_by = self._clock.seconds()
        self._is_over = True
        self._alarm.cancel()
        if self._intake is not None:
            self._intake.leave(self)
        if self._sending_small is not None and self._sending_small.active():
            self._sending_small.cancel()
        if self._user is not None:
            self._guard(self._user.session_ended, self._reason)
        self._owner.ended(self, self._reason)

    @property
    def _transport(self) -> Connection:
        return cast("Connection", self.transport)

    @property
    def _is_ending(self) -> bool:
        return self._close_by is not None

    def _shake_hands(self) -> None:
        try:
            self._pump.shake_hands()
        except TlsFailed as error:
            self._outbox.send_out(self._pump.data_to_send())
            self._lose(str(error))
            return
        self._outbox.send_out(self._pump.data_to_send())
        if self._pump.is_ready:
            if not self.judge.is_content(self._connection) or self.judge.found is None:
                self._lose("it speaks another protocol")
                return
            self.key, self._is_secure = self.judge.found, True
            self._log.debug(
                "handshake done: peer={peer!r} key={key} tls={tls} cipher={cipher}",
                peer=self.name,
                key=self.key,
                tls=self._connection.get_protocol_version_name(),
                cipher=self._connection.get_cipher_name(),
            )
            self._flush()

    def _read_all(self) -> None:
        """Decrypt, and tell of it, until nothing is left, or the intake has no room."""
        self._is_held = False
        while self._is_secure and not self._is_ending:
            room = READ_SIZE if self._intake is None else self._intake.room(self)
            if not room:
                self._is_held = True
                self._stop_listening()
            if not room or not self._read(room):
                break

    def _read(self, room: int) -> bool:
        """Decrypt, and tell of it; False if nothing is left."""
        try:
            size = self._pump.read_into(_plaintext[:room])
        except TlsClosed:
            self._lose("it ended the connection")
            return False
        except TlsFailed as error:
            self._lose(str(error))
            return False
        if size:
            self._core.receive_data(_plaintext[:size], self._clock.seconds())
            self._tell()
            if self._intake is not None:
                self._intake.was_read(size, self._core.take_cost())
            self._flush()
        else:
            self._outbox.send_out(self._pump.data_to_send())  # TLS may have answers of its own
        return size > 0

    def _tell(self) -> None:
        """Pass on what has happened."""
        while not self._is_ending and (event := self._core.next_event()) is not None:
            match event:
                case DataPiece() | MessageReceived():
                    self._pass_on(event)
                case Greeted():
                    self._owner.greeted(self, event.hello)
                case Welcomed():
                    self._arm()
                    self._owner.welcomed(self)
                case SessionEnded():
                    self._ended(event.reason)

    def _ended(self, reason: P2pshareError | None) -> None:
        if isinstance(reason, RemoteProtocolError | SessionLost):
            self._break_off(reason)
        else:
            self._reason = reason
            self._say_farewell()

    def _pass_on(self, event: DataPiece | MessageReceived) -> None:
        user = self._user
        if user is None:
            if isinstance(event, DataPiece):
                event = DataPiece(event.transfer, event.offset, memoryview(bytes(event.data)))
            self._kept.append(event)
            self._stop_listening()
        elif isinstance(event, DataPiece):
            self._guard(user.data_received, event.transfer, event.offset, event.data)
        else:
            self._guard(user.message_received, event.message)

    def _begin(self, user: SessionUser) -> None:
        self._user = user
        kept, self._kept = self._kept, []
        for event in kept:
            if not self._is_ending:
                self._pass_on(event)
        if self._is_over:
            self._guard(user.session_ended, self._reason)
        else:
            self._listen_again()

    def _guard(self, work: Callable[..., object], *args: object) -> None:
        """Call the user, whose mistakes end this session and no other."""
        try:
            work(*args)
        except P2pshareError as error:
            self._break_off(error)
        except Exception as error:
            self._log.failure("the session with {name} failed", name=self.name)
            self._break_off(LocalProtocolError(reason=f"{type(error).__name__} in a session"))

    def _drained(self) -> None:
        """All has gone to the kernel, for the first time since there was no room."""
        self._listen_again()
        if self._user is not None and self.has_room:
            self._guard(self._user.room_again)

    def _flush_soon(self) -> None:
        """Send what is small at the end of this turn, with what else is said in it."""
        if self._sending_small is None:
            self._sending_small = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        if self._sending_small is not None:
            if self._sending_small.active():
                self._sending_small.cancel()
            self._sending_small = None
        if not self._is_ending:
            self._write()

    def _write(self, data: memoryview | bytes = b"") -> None:
        """Send what was said, and then `data`."""
        if not self._is_secure:
            return
        self._outbox.add(self._core.data_to_send())
        try:
            self._outbox.flush(data)
        except TlsFailed as error:
            self._lose(str(error))

    def _stop_listening(self) -> None:
        if not self._is_deaf:
            self._is_deaf = True
            self._transport.pauseProducing()

    def _listen_again(self) -> None:
        if self._is_deaf and not self._is_over and not self._kept and not self._is_held:
            self._is_deaf = False
            self._transport.resumeProducing()

    def _lose(self, reason: str) -> None:
        self._break_off(SessionLost(name=self.name, reason=reason))

    def _break_off(self, reason: P2pshareError | None) -> None:
        """End it now; `connectionLost` follows."""
        if self._is_over:
            return
        if not self._is_ending:
            self._reason = reason
        self._close_by = self._clock.seconds()
        self._transport.abortConnection()

    def _say_farewell(self) -> None:
        """End it once all was sent: the side that wanted the end waits until the other one hangs up."""
        self._write()
        if self._is_ending:  # that failed
            return
        self._close_by = self._clock.seconds() + CLOSE_WAIT
        self._kept.clear()
        self._is_held = False
        self._outbox.send_out(self._pump.close())
        self._listen_again()
        self._transport.unregisterProducer()
        if self._core.is_ended_here:
            self._transport.loseWriteConnection()  # so that both hear of the end if both wanted it
        else:
            self._transport.loseConnection()
        self._arm()

    def _arm(self) -> None:
        """Have the alarm ring when something is due, at the latest."""
        self._alarm.set(self._core.get_timer() if self._close_by is None else self._close_by)

    def _ring(self) -> None:
        if self._is_ending:
            self._transport.abortConnection()
            return
        self._core.handle_timer(self._clock.seconds())
        self._tell()
        self._flush()
        self._arm()


def _is_free(message: Message) -> bool:
    """Whether an answer costs so little that the request may cost something: it was not even tried."""
    return isinstance(message, Failed) and message.why is Fault.BUSY
