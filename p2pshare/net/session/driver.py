"""Drives one end of a session: the core and the timers, over any channel.

Theory of operation
===================

*Receiving.* The channel says that there is something to read. `_read_all` reads, as much as the intake allows, and
passes on what comes of it: the greeting to the owner, all else to the user. After each read the core's answers go out.

*Sending.* Messages and pieces go to the channel at once, in the order in which `send` and `send_data` are called. The
channel is told where the pieces of a transfer begin and end: a channel over datagrams must know.

*Reading stops* for two reasons, and `_resume` resumes when none is left. Events came before `begin` (`_early`). Or the
intake has no room (`_is_held`).

*Ending.* `_close_by` is None until the end is wanted, and then the time at which the channel is cut at the latest. The
end that wants it sends `bye`, half-closes, and waits for the other end to hang up. A full close would reset the
connection if bytes still arrive, and a reset destroys what the other end has not read yet. The end that receives `bye`
closes at once. A fault (`_break_off`) cuts without a farewell. In each case `closed` follows, and only `closed` tells
the user and the owner. So they hear of the end once, and never within a call of their own.

*Time.* The core names the time of its next timer whenever it is asked. `LazyTimer` runs early rather than moving with
every byte.

*Defects.* An exception of a user ends its own session, because `_guard` is the only way to call a user.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from p2pshare.core.ranges import Range
from p2pshare.core.session import (
    Role,
    SessionCore,
    SessionEnded,
    State,
)
from p2pshare.core.session_interface import SessionPath, SessionUser
from p2pshare.errors import LocalProtocolError, P2pshareError, RemoteProtocolError, SessionLost
from p2pshare.net.clocks import LazyTimer
from p2pshare.net.session.intake import Intake
from p2pshare.net.session.interfaces import Channel, SessionOwner
from p2pshare.wire.blocks import FILE_SIZE_MAX
from p2pshare.wire.keys import KEY_SIZE, PublicKey
from p2pshare.wire.offers.messages import OfferNoted, OfferState
from p2pshare.wire.session_messages import Credit, Hello, Message, Refusal, Welcome
from p2pshare.wire.transfer_messages import Cancel, End, Failed, Fault, FileHeader, Get

READ_SIZE = 256 * 1024  # bytes read at once, where no intake allows less
CLOSE_WAIT = 3.0  # seconds for the other end to take what was sent and to hang up
ANSWERS_OF_GET = 4  # messages that answer a request for a file, besides those that its bytes earn
EARNING_BYTES = 256 * 1024  # bytes of a file that earn its sender one message

_Answer = TypeVar("_Answer")


class SessionDriver:
    """One end of a session: an `OwnedSession` for its owner, and the user of its channel."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, core: SessionCore, owner: SessionOwner) -> None:
        """Drive `core` over the channel that calls `connected`."""
        self.name = core.name
        self.key = PublicKey(bytes(KEY_SIZE))
        """The other end's; zeros until the handshake has proved it."""
        self._clock = clock
        self._core = core
        self._owner = owner
        self._channel: Channel
        self._user: SessionUser | None = None
        self._early: list[Callable[[SessionUser], object]] = []  # events before `begin`
        self._has_greeted = core.role is Role.ACCEPTOR  # an opener waits for `greet`
        self._credit = 0  # bytes of files, from the greeting of the other end
        self._intake: Intake | None = None
        self._piece_bytes = 0  # of files, in this read
        self._earned_bytes = 0  # of files, which have not earned a message yet
        self._timer = LazyTimer(clock, self._timer_due)
        self._close_by: float | None = None
        self._reason: P2pshareError | None = None
        self._is_over = self._is_paused = self._is_held = False

    @property
    def path(self) -> SessionPath:
        """See `Session`."""
        return SessionPath(self._channel.carrier, self._channel.remote)

    @property
    def is_open(self) -> bool:
        """See `Session`."""
        return not self._is_ending

    @property
    def is_secure(self) -> bool:
        """See `OwnedSession`."""
        return self._channel.is_secure

    @property
    def shown_key(self) -> PublicKey | None:
        """See `OwnedSession`."""
        return self._channel.shown_key

    @property
    def is_waiting(self) -> bool:
        """See `OwnedSession`."""
        return self._core.state is State.JUDGING

    @property
    def unused_for(self) -> float:
        """See `OwnedSession`."""
        return self._core.unused_for(self._clock.seconds())

    def greet(self) -> None:
        """See `OwnedSession`."""
        self._has_greeted = True
        self._say()

    def welcome(self, name: str, credit: int, intake: Intake | None = None) -> None:
        """See `OwnedSession`."""
        if self._is_ending or not self.is_waiting:
            return
        self.name = name
        self._intake = intake
        self._core.welcome(name, credit, self._clock.seconds())
        self._say()
        self._arm()
        self._owner.welcomed(self)
        self._pass_events()  # early requests

    def refuse(self, why: Refusal, retry_after: int = 0) -> None:
        """See `OwnedSession`."""
        if not self._is_ending:
            self._core.refuse(why, retry_after)
            self._say_farewell()

    def begin(self, user: SessionUser) -> None:
        """See `Session`."""
        assert self._user is None
        self._clock.callLater(0, self._begin, user)

    def send(self, message: Message) -> None:
        """See `Session`."""
        if self._is_ending:
            return
        self._core.send(message, self._clock.seconds())
        if self._intake is not None:
            self._intake.earn(_earned(message))
        match message:
            case FileHeader():
                self._channel.begin(message.id, message.size)
            case End():
                self._channel.finish(message.id)
            case Failed():
                self._channel.drop(message.id)
        self._say()

    def send_data(self, transfer: int, offset: int, data: memoryview) -> None:
        """See `Session`.

        Raises:
            LocalProtocolError: there is no room.
        """
        if self._is_ending:
            return
        if self._channel.is_full:
            raise LocalProtocolError(reason="bytes of a file were sent without room for them")
        self._core.data_sent(self._clock.seconds())
        self._channel.send_piece(transfer, offset, data)

    @property
    def piece_max(self) -> int:
        """See `Session`."""
        return self._channel.piece_max

    @property
    def has_room(self) -> bool:
        """See `Session`."""
        return not self._is_ending and not self._channel.is_full

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
        self._resume()

    def connected(self, channel: Channel) -> None:
        """See `ChannelUser`."""
        self._channel = channel
        self._arm()

    def secured(self, key: PublicKey) -> None:
        """Let the owner decide when to greet, if this end opens the session."""
        self.key = key
        self._log.debug(
            "handshake done: peer={peer!r} key={key} carrier={carrier} address={address} by={by}",
            peer=self.name,
            key=key,
            carrier=self._channel.carrier,
            address=self._channel.remote,
            by=self._channel.description,
        )
        self._owner.secured(self)

    def readable(self) -> None:
        """Read, and pass events on."""
        self._read_all()

    def control_received(self, body: bytes) -> None:
        """See `ChannelUser`."""
        if not self._is_ending:
            self._core.receive_control(body, self._clock.seconds())
            self._pass_events()

    def piece_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """See `ChannelUser`."""
        if self._is_ending:
            return
        self._piece_bytes += len(data)
        if not self._may_receive_files():
            return
        if self._user is None:  # its bytes are valid during this call only
            kept = memoryview(bytes(data))
            self._keep(lambda user: user.data_received(transfer, offset, kept))
        else:
            self._guard(self._user.data_received, transfer, offset, data)

    def size_received(self, transfer: int, size: int) -> None:
        """See `ChannelUser`."""
        if self._is_ending or not self._may_receive_files():
            return
        if self._user is None:
            self._keep(lambda user: user.size_received(transfer, size))
        else:
            self._guard(self._user.size_received, transfer, size)

    def fin_received(self, transfer: int) -> Sequence[Range]:
        """See `ChannelUser`."""
        if self._is_ending or not self._may_receive_files():
            return ()
        if self._user is None:
            return ((0, FILE_SIZE_MAX),)  # what has come is kept, but not looked at yet
        return self._guard(self._user.fin_received, transfer) or ()

    def writable(self) -> None:
        """Go on sending."""
        if self._user is not None and self.has_room:
            self._guard(self._user.room_again)

    def closed(self, reason: str | None) -> None:
        """Tell the user and the owner of the end, wanted or not."""
        if not self._is_ending:
            why = reason or "it ended without a goodbye"
            self._reason = SessionLost(name=self.name, reason=why)
            self._close_by = self._clock.seconds()
        self._is_over = True
        self._timer.cancel()
        if self._intake is not None:
            self._intake.leave(self)
        if self._user is not None:
            self._guard(self._user.session_ended, self._reason)
        self._owner.ended(self, self._reason)

    @property
    def _is_ending(self) -> bool:
        return self._close_by is not None

    def _may_receive_files(self) -> bool:
        """Whether anything about a file may come in this state; if not, the session ends."""
        may = self._core.receive_piece(self._clock.seconds())
        if not may:
            self._pass_events()
        return may

    def _read_all(self) -> None:
        """Read until nothing is left, or the intake has no room."""
        self._is_held = False
        while not self._is_ending:
            room = READ_SIZE if self._intake is None else self._intake.room(self)
            if not room:
                self._is_held = True
                self._pause()
            if not room or not self._read(room):
                break

    def _read(self, room: int) -> bool:
        """Read up to about `room` bytes; False if nothing is left."""
        try:
            size = self._channel.read(room)
        except RemoteProtocolError as error:
            self._break_off(error)
            return False
        if size:
            self._core.heard(self._clock.seconds())
            self._account(size)
            self._say()
        return size > 0

    def _account(self, size: int) -> None:
        """Count what was read against the key's intake. Bytes of files are bounded by this end's credit instead."""
        pieces, self._piece_bytes = self._piece_bytes, 0
        if self._intake is not None:
            self._intake.was_read(max(0, size - pieces), self._core.take_cost())
            self._earned_bytes += pieces
            if earned := self._earned_bytes // EARNING_BYTES:
                self._earned_bytes -= earned * EARNING_BYTES
                self._intake.earn(earned)

    def _pass_events(self) -> None:
        while not self._is_ending and (event := self._core.next_event()) is not None:
            match event:
                case Hello():
                    self._credit = event.credit
                    self._owner.greeted(self, event)
                case Welcome():
                    self._credit = event.credit
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

    def _pass_on(self, message: Message) -> None:
        if isinstance(message, Cancel):
            self._channel.drop(message.id)
        if self._user is None:
            self._keep(lambda user: user.message_received(message))
        else:
            self._guard(self._user.message_received, message)

    def _keep(self, event: Callable[[SessionUser], object]) -> None:
        """Keep an event for the user that is to come, and read nothing more until then."""
        self._early.append(event)
        self._pause()

    def _begin(self, user: SessionUser) -> None:
        self._user = user
        early, self._early = self._early, []
        credit = Credit(self._credit)
        for event in (lambda user: user.message_received(credit), *early):
            if not self._is_ending:
                self._guard(event, user)
        if self._is_over:
            self._guard(user.session_ended, self._reason)
        else:
            self._resume()

    def _guard(self, call: Callable[..., _Answer], *args: object) -> _Answer | None:
        """Call the user; an exception ends this session and no other."""
        try:
            return call(*args)
        except P2pshareError as error:
            self._break_off(error)
        except Exception as error:
            self._log.failure("session failed: peer={peer}", peer=self.name)
            self._break_off(LocalProtocolError(reason=f"{type(error).__name__} in a session"))
        return None

    def _say(self) -> None:
        """Send what the core has to say."""
        if self._is_ending or not self._has_greeted:
            return
        if frames := self._core.data_to_send():
            self._channel.send_control(frames)

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._channel.pause()

    def _resume(self) -> None:
        if self._is_paused and not self._is_over and not self._early and not self._is_held:
            self._is_paused = False
            self._channel.resume()

    def _break_off(self, reason: P2pshareError | None) -> None:
        """Cut the channel now; `closed` follows."""
        if self._is_over:
            return
        if not self._is_ending:
            self._reason = reason
        self._close_by = self._clock.seconds()
        self._channel.abort()

    def _say_farewell(self) -> None:
        """Close once all was sent."""
        self._say()
        self._close_by = self._clock.seconds() + CLOSE_WAIT
        self._early.clear()
        self._is_held = False
        self._resume()
        if self._core.is_ended_here:
            self._channel.half_close()
        else:
            self._channel.close()
        self._arm()

    def _arm(self) -> None:
        """Run `_timer_due` when the next timer is due, or before."""
        self._timer.set(self._core.get_timer() if self._close_by is None else self._close_by)

    def _timer_due(self) -> None:
        if self._is_ending:
            self._channel.abort()
            return
        self._core.handle_timer(self._clock.seconds())
        self._pass_events()
        self._say()
        self._arm()


def _earned(message: Message) -> int:
    """Return the messages that the other end may send in return for this one, besides those of its budget."""
    match message:
        case Failed(why=Fault.BUSY):
            return 0  # the request was not even tried
        case OfferState() | OfferNoted():
            return 0  # an offer is not asked for, so its sender pays for it
        case Get():
            return ANSWERS_OF_GET
        case _:
            return 1
