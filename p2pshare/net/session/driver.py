"""Drives one end of a session: the core, TLS and the timers, over any carrier.

Theory of operation
===================

*Receiving.* `received` gives the carrier's bytes to the pump. `_read_all` takes plaintext out, as much as the intake
allows, and passes the core's events on: those of the greeting to the owner, all others to the user. After each read
`_flush` sends the core's answers.

*Sending.* Bytes leave in the order in which `send` and `send_data` are called. A piece of a file is encrypted and given
to the carrier at once, so its buffer is free again. Small things wait in `_small` until the end of the reactor's turn,
or until a piece follows, and share a record. `has_room` is false while the carrier is full. So a message waits behind
at most one piece here, and behind the bytes that the kernel accepts. Encrypting ahead would break the order, and the
promise that control messages never wait behind data.

*Reading stops* for three reasons, and `_resume` resumes when none is left. Events came before `begin` (`_early`). The
intake has no room (`_is_held`). Or the other end reads nothing, and more than `UNREAD_MAX` bytes wait for it: an opener
that asks and never reads could otherwise fill the memory with answers.

*Ending.* `_close_by` is None until the end is wanted, and then the time at which the carrier is cut at the latest. The
end that wants it sends `bye`, half-closes, and waits for the other end to hang up. A full close would reset the
connection if bytes still arrive, and a reset destroys what the other end has not read yet. The end that receives `bye`
closes at once. A fault (`_break_off`) cuts without a farewell. In each case `closed` follows, and only `closed` tells
the user and the owner. So they hear of the end once, and never within a call of their own.

*Time.* The core names the time of its next timer whenever it is asked. `LazyTimer` runs early rather than moving with
every byte.

*Defects.* An exception of a user ends its own session, because `_guard` is the only way to call a user.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from p2pshare.core.session import (
    SessionCore,
    SessionEnded,
    State,
)
from p2pshare.core.session_interface import SessionUser
from p2pshare.errors import LocalProtocolError, P2pshareError, RemoteProtocolError, SessionLost
from p2pshare.net.clocks import LazyTimer
from p2pshare.net.session.intake import Intake
from p2pshare.net.session.interfaces import Carrier, SessionOwner
from p2pshare.net.session.tls import TlsClosed, TlsFailed, TlsPump
from p2pshare.wire.frames import DataPiece, data_head
from p2pshare.wire.keys import KEY_SIZE, PublicKey
from p2pshare.wire.session_messages import Hello, Message, Refusal, Welcome
from p2pshare.wire.transfer_messages import Failed, Fault

READ_SIZE = 256 * 1024  # bytes decrypted at once, where no intake allows less
SMALL = 16 * 1024  # bytes up to which what is sent is gathered, to be encrypted together
UNREAD_MAX = 1024 * 1024  # bytes that may wait in a full carrier until nothing more is read
CLOSE_WAIT = 3.0  # seconds for the other end to take what was sent and to hang up

_plaintext = memoryview(bytearray(READ_SIZE))  # of whichever session is read just now


class SessionDriver:
    """One end of a session: an `OwnedSession` for its owner, and the user of its carrier."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, pump: TlsPump, core: SessionCore, owner: SessionOwner
    ) -> None:
        """Drive `core` over the carrier that calls `connected`."""
        self.name = core.name
        self.key = PublicKey(bytes(KEY_SIZE))
        """The other end's; zeros until the handshake has proved it."""
        self._clock = clock
        self._pump = pump
        self._core = core
        self._owner = owner
        self._carrier: Carrier
        self._user: SessionUser | None = None
        self._early: list[DataPiece | Message] = []  # events before `begin`
        self._intake: Intake | None = None
        self._small = bytearray()  # plaintext for the next record
        self._turn_end = LazyTimer(clock, self._flush)
        self._unread = 0  # bytes sent since the carrier was full
        self._timer = LazyTimer(clock, self._timer_due)
        self._close_by: float | None = None
        self._reason: P2pshareError | None = None
        self._is_over = self._is_paused = self._is_held = False

    @property
    def is_secure(self) -> bool:
        """See `OwnedSession`."""
        return self._pump.is_ready

    @property
    def shown_key(self) -> PublicKey | None:
        """See `OwnedSession`."""
        return self._pump.shown_key

    @property
    def is_waiting(self) -> bool:
        """See `OwnedSession`."""
        return self._core.state is State.JUDGING

    @property
    def unused_for(self) -> float:
        """See `OwnedSession`."""
        return self._core.unused_for(self._clock.seconds())

    def welcome(self, name: str, intake: Intake | None = None) -> None:
        """See `OwnedSession`."""
        if self._is_ending or not self.is_waiting:
            return
        self.name = name
        self._intake = intake
        self._core.welcome(name, self._clock.seconds())
        self._flush()
        self._arm()
        self._owner.welcomed(self)

    def refuse(self, why: Refusal, retry_after: int = 0) -> None:
        """See `OwnedSession`."""
        if not self._is_ending:
            self._core.refuse(why, retry_after)
            self._say_farewell()

    def begin(self, user: SessionUser) -> None:
        """See `Session`; early events are passed on from the reactor, and not within this call."""
        assert self._user is None
        if self._early or self._is_over:
            self._clock.callLater(0, self._begin, user)
        else:
            self._begin(user)

    def send(self, message: Message) -> None:
        """See `Session`."""
        if not self._is_ending:
            self._core.send(message, self._clock.seconds())
            if self._intake is not None and not _is_free(message):
                self._intake.answered()
            self._gather(self._core.data_to_send())

    def send_data(self, transfer: int, offset: int, data: memoryview) -> None:
        """See `Session`.

        Raises:
            LocalProtocolError: there is no room.
        """
        if self._is_ending:
            return
        if self._carrier.is_full:
            raise LocalProtocolError(reason="bytes of a file were sent without room for them")
        self._core.data_sent(self._clock.seconds())
        self._small += self._core.data_to_send() + data_head(transfer, offset, len(data))
        if len(data) > SMALL:
            self._write(data)
        else:
            self._gather(data)

    @property
    def has_room(self) -> bool:
        """See `Session`."""
        return not self._carrier.is_full and not self._is_ending

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
        if not self._carrier.is_full:  # otherwise `writable` resumes
            self._resume()

    def connected(self, carrier: Carrier) -> None:
        """Begin with the handshake."""
        self._carrier = carrier
        self._arm()
        self._shake_hands()

    def received(self, data: bytes) -> None:
        """Take bytes from the carrier, and pass events on."""
        if self._is_ending:
            return
        self._pump.receive_data(data)
        if not self.is_secure:
            self._shake_hands()
        self._read_all()

    def writable(self) -> None:
        """Go on reading and sending."""
        self._unread = 0
        self._resume()
        if self._user is not None and self.has_room:
            self._guard(self._user.room_again)

    def closed(self) -> None:
        """Tell the user and the owner of the end, wanted or not."""
        if not self._is_ending:
            self._reason = SessionLost(name=self.name, reason="it ended without a goodbye")
            self._close_by = self._clock.seconds()
        self._is_over = True
        self._timer.cancel()
        self._turn_end.cancel()
        if self._intake is not None:
            self._intake.leave(self)
        if self._user is not None:
            self._guard(self._user.session_ended, self._reason)
        self._owner.ended(self, self._reason)

    @property
    def _is_ending(self) -> bool:
        return self._close_by is not None

    def _shake_hands(self) -> None:
        try:
            self._pump.shake_hands()
        except TlsFailed as error:
            self._lose(str(error))
            return
        self._send_out(self._pump.data_to_send())
        if self.is_secure and (key := self.shown_key) is not None:
            self.key = key
            self._log.debug(
                "handshake done: peer={peer!r} key={key} address={address} tls={tls}",
                peer=self.name,
                key=key,
                address=self._carrier.remote,
                tls=self._pump.description,
            )
            self._flush()

    def _read_all(self) -> None:
        """Read until nothing is left, or the intake has no room."""
        self._is_held = False
        while self.is_secure and not self._is_ending:
            room = READ_SIZE if self._intake is None else self._intake.room(self)
            if not room:
                self._is_held = True
                self._pause()
            if not room or not self._read(room):
                break

    def _read(self, room: int) -> bool:
        """Read up to `room` bytes; False if nothing is left."""
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
            self._pass_events()
            if self._intake is not None:
                self._intake.was_read(size, self._core.take_cost())
            self._flush()
        else:
            self._send_out(self._pump.data_to_send())  # such as answers to new keys
        return size > 0

    def _pass_events(self) -> None:
        while not self._is_ending and (event := self._core.next_event()) is not None:
            match event:
                case Hello():
                    self._owner.greeted(self, event)
                case Welcome():
                    self._arm()
                    self._owner.welcomed(self)
                case SessionEnded(reason):
                    if isinstance(reason, RemoteProtocolError | SessionLost):
                        self._break_off(reason)
                    else:
                        self._reason = reason
                        self._say_farewell()
                case _:
                    self._pass_on(event)

    def _pass_on(self, event: DataPiece | Message) -> None:
        user = self._user
        if user is None:
            if isinstance(event, DataPiece):  # its bytes are valid during this call only
                event = DataPiece(event.transfer, event.offset, memoryview(bytes(event.data)))
            self._early.append(event)
            self._pause()
        elif isinstance(event, DataPiece):
            self._guard(user.data_received, event.transfer, event.offset, event.data)
        else:
            self._guard(user.message_received, event)

    def _begin(self, user: SessionUser) -> None:
        self._user = user
        early, self._early = self._early, []
        for event in early:
            if not self._is_ending:
                self._pass_on(event)
        if self._is_over:
            self._guard(user.session_ended, self._reason)
        else:
            self._resume()

    def _guard(self, call: Callable[..., object], *args: object) -> None:
        """Call the user; an exception ends this session and no other."""
        try:
            call(*args)
        except P2pshareError as error:
            self._break_off(error)
        except Exception as error:
            self._log.failure("session failed: peer={peer}", peer=self.name)
            self._break_off(LocalProtocolError(reason=f"{type(error).__name__} in a session"))

    def _gather(self, small: bytes | memoryview) -> None:
        """Send something small at the end of this turn, together with everything else in it."""
        self._small += small
        if len(self._small) > SMALL:
            self._write()
        else:
            self._turn_end.set(0.0)

    def _flush(self) -> None:
        self._turn_end.cancel()
        if not self._is_ending:
            self._write()

    def _write(self, data: memoryview | bytes = b"") -> None:
        """Send what was gathered, and then `data`."""
        if not self.is_secure:
            return
        self._small += self._core.data_to_send()
        small, self._small = self._small, bytearray()
        try:
            if plaintext := [each for each in (small, data) if each]:
                self._send_out(self._pump.write(*plaintext))
        except TlsFailed as error:
            self._lose(str(error))

    def _send_out(self, protected: bytes) -> None:
        if not protected:
            return
        if self._carrier.is_full:
            self._unread += len(protected)
            if self._unread > UNREAD_MAX:
                self._pause()
        self._carrier.send(protected)

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._carrier.pause()

    def _resume(self) -> None:
        if self._is_paused and not self._is_over and not self._early and not self._is_held:
            self._is_paused = False
            self._carrier.resume()

    def _lose(self, reason: str) -> None:
        self._break_off(SessionLost(name=self.name, reason=reason))

    def _break_off(self, reason: P2pshareError | None) -> None:
        """Cut the carrier now; `closed` follows."""
        if self._is_over:
            return
        if not self._is_ending:
            self._reason = reason
        self._close_by = self._clock.seconds()
        self._carrier.abort()

    def _say_farewell(self) -> None:
        """Close once all was sent."""
        self._write()
        if self._is_ending:  # that failed
            return
        self._close_by = self._clock.seconds() + CLOSE_WAIT
        self._early.clear()
        self._is_held = False
        self._send_out(self._pump.close())
        self._resume()
        if self._core.is_ended_here:
            self._carrier.half_close()
        else:
            self._carrier.close()
        self._arm()

    def _arm(self) -> None:
        """Run `_timer_due` when the next timer is due, or before."""
        self._timer.set(self._core.get_timer() if self._close_by is None else self._close_by)

    def _timer_due(self) -> None:
        if self._is_ending:
            self._carrier.abort()
            return
        self._core.handle_timer(self._clock.seconds())
        self._pass_events()
        self._flush()
        self._arm()


def _is_free(message: Message) -> bool:
    """Whether an answer earns the opener no budget: the request was not even tried."""
    return isinstance(message, Failed) and message.why is Fault.BUSY
