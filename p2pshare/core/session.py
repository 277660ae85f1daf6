"""The state machine of a session: greeting, signs of life, and the end, on any carrier.

::

    opener                                       acceptor
    GREETING  --- Hello, early requests --->     WAITING
              <---- Welcome | Refused ------     JUDGING
    OPEN      <-- requests and answers ---->     OPEN
    ENDED     <---------- Bye ------------->     ENDED

`LEGAL` is the whole state machine for messages: any message that it does not list for the role and state ends the
session. Everything that changes the state is in this file.

**The roles matter for the greeting only.** In an open session each end may request, answer and offer. The two
directions share nothing: each has its own numbers and its own credit.

**Before `Welcome` nothing counts.** The acceptor looks the opener's key up while it is in JUDGING, which may take
seconds. An opener saves a round trip if its first requests follow `Hello` at once. They are kept, unread by anybody,
until the opener is welcomed or refused. What a stranger can have kept is bounded to `EARLY_MAX` requests of
`EARLY_BYTES_MAX` bytes together; more ends the session, and so do more than a few other messages.

**Signs of life.** A carrier may break without a signal: a peer loses its power, a NAT forgets the mapping. Each side
says something at least every third of the silence that it tolerates itself. It pings if it has nothing to say, and also
if it has heard nothing. So both sides hear from each other even while bytes of files go one way only, and two of three
pings may be late. Pings that arrive together get one pong, or pongs would be a queue that a stranger fills.

**Suspended machines.** After a suspension the timer fires late, while answers of the other side may wait in the socket.
Then the silence does not count, and the other side gets one more third to be heard.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from p2pshare.errors import (
    AcceptanceAwaited,
    LocalProtocolError,
    P2pshareError,
    RemoteProtocolError,
    SessionLost,
    SessionPostponed,
    SessionRefused,
    VersionRefused,
)
from p2pshare.names import ON_NETWORK
from p2pshare.wire.control_messages import ANSWERS, ANY_TIME, OFFERS, REQUESTS, parse_message
from p2pshare.wire.frames import control_frame
from p2pshare.wire.session_messages import (
    VERSION,
    Bye,
    Hello,
    Message,
    Ping,
    Pong,
    Refusal,
    Refused,
    Welcome,
)

SILENCE = 60.0  # seconds without a byte after which a session counts as lost
IDLE = 600.0  # seconds without anything but pings after which an acceptor ends a session
GREETING = 10.0  # seconds until the greeting must be over
PINGS_IN_SILENCE = 3  # pings in the time after which a session counts as lost
BEFORE_OPEN_MAX = 16  # messages, other than early requests, before a session is open
EARLY_MAX = 16  # requests before a session is open
EARLY_BYTES_MAX = 16 * 1024  # bytes of those requests
WEIGHT = 1024  # bytes that cost as much as one message
RETRY_AFTER = 30  # seconds, for an opener that was not told how long to wait


class Role(enum.Enum):
    """The two ends of a session."""

    OPENER = "opener"
    ACCEPTOR = "acceptor"


class State(enum.Enum):
    """The states of a session."""

    GREETING = "greeting"
    """The opener waits for `Welcome`."""
    WAITING = "waiting"
    """The acceptor waits for `Hello`."""
    JUDGING = "judging"
    """The acceptor decides whether to welcome the opener."""
    OPEN = "open"
    ENDED = "ended"


LEGAL: dict[tuple[Role, State], tuple[type[Message], ...]] = {
    (Role.OPENER, State.GREETING): (Welcome, Refused, *ANY_TIME),
    (Role.OPENER, State.OPEN): (*REQUESTS, *ANSWERS, *OFFERS, *ANY_TIME),
    (Role.ACCEPTOR, State.WAITING): (Hello, Bye),
    (Role.ACCEPTOR, State.JUDGING): (*REQUESTS, *ANY_TIME),
    (Role.ACCEPTOR, State.OPEN): (*REQUESTS, *ANSWERS, *OFFERS, *ANY_TIME),
}
"""The messages that the other side may send."""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session has ended; no event follows."""

    reason: P2pshareError | None
    """None if one of the two sides wanted the end."""


Event = Message | SessionEnded
"""Events of a session. An acceptor answers `Hello` by `welcome` or `refuse`; with `Welcome` a session is open."""


class EarlyRequests:
    """Requests before a session is open, and their bound."""

    def __init__(self) -> None:
        self._kept: list[Message] = []
        self._size = 0  # bytes

    def keep(self, request: Message, size: int) -> bool:
        """Keep a request whose body has `size` bytes; False if that is too much."""
        self._size += size
        if len(self._kept) == EARLY_MAX or self._size > EARLY_BYTES_MAX:
            return False
        self._kept.append(request)
        return True

    def take(self) -> list[Message]:
        """Return all of them, and keep none."""
        kept, self._kept = self._kept, []
        return kept


class SessionCore:
    """One end of a session."""

    def __init__(
        self,
        role: Role,
        now: float,
        *,
        name: str = "somebody",
        hello: Hello | None = None,
        agent: str = "",
        silence: float = SILENCE,
        idle: float = IDLE,
        greeting: float = GREETING,
    ) -> None:
        """Begin.

        Args:
            role: which end this is.
            now: the time in s, of any clock that only goes forward.
            name: the other side's.
            hello: the opener's first message.
            agent: name and version of the acceptor's program.
            silence: seconds without a byte after which the session is lost.
            idle: seconds without anything but pings after which an acceptor ends it.
            greeting: seconds until the greeting must be over.
        """
        self.name = name
        """The other side's, for errors."""
        self.is_ended_here = False
        """Whether this side wanted the end."""
        self.state = State.GREETING if role is Role.OPENER else State.WAITING
        self.role = role
        self._agent = agent
        self._silence = silence
        self._third = silence / PINGS_IN_SILENCE
        self._idle = idle
        self._greet_by = now + greeting
        self._heard = self._said = self._used = self._pinged = now
        self._version = VERSION
        self._control = bytearray()
        self._owes_pong = False
        self._cost = 0
        self._strays = 0  # messages before the session is open, other than early requests
        self._early = EarlyRequests()
        self._events: deque[Event] = deque()
        if hello is not None:
            self._say(hello)

    def send_early(self, requests: Iterable[Message]) -> None:
        """Send requests of an opener directly behind `Hello`: at most `EARLY_MAX`, of `EARLY_BYTES_MAX` bytes together.

        Raises:
            LocalProtocolError: these are too many.
        """
        for request in requests:
            if not self._early.keep(request, len(request.to_json())):
                raise LocalProtocolError(reason="too many requests before the session is open")
            self._say(request)

    def welcome(self, name: str, credit: int, now: float) -> None:
        """Accept the opener, and its early requests.

        Args:
            name: the opener's, in the registry; with `ON_NETWORK` behind it if nobody has proven it.
            credit: bytes of files that it may send before there is more credit.
            now: in seconds.
        """
        if self.state is State.JUDGING:
            self.name = name
            named = name.removesuffix(ON_NETWORK)
            self._say(Welcome(self._version, self._agent, named, credit))
            self._said = self._heard = self._used = now
            self.state = State.OPEN
            self._events.extend(self._early.take())

    def refuse(self, why: Refusal, retry_after: int = 0) -> None:
        """Refuse the opener; `retry_after` is in seconds."""
        if self.state is State.JUDGING:
            self._say(Refused(why, retry_after))
            self.is_ended_here = True
            self._end(None)

    def send(self, message: Message, now: float) -> None:
        """Queue a message of the user."""
        if self.state is State.OPEN:
            self._said = self._used = now
            self._say(message)

    def data_sent(self, now: float) -> None:
        """Note that bytes of a file have gone out."""
        self._said = self._used = now

    def keep_alive(self, now: float) -> None:
        """Note that work for the other side goes on, so that the session is not idle."""
        self._used = now

    def unused_for(self, now: float) -> float:
        """Return the seconds without anything but pings."""
        return now - self._used

    def close(self) -> None:
        """Send `Bye`, and end the session."""
        if self.state is not State.ENDED:
            self._say(Bye())
            self.is_ended_here = True
            self._end(None)

    def lose(self, reason: str) -> None:
        """End the session: the carrier is gone."""
        self._end(SessionLost(name=self.name, reason=reason))

    def heard(self, now: float) -> None:
        """Note that bytes came, whatever they are."""
        self._heard = now

    def receive_control(self, body: bytes, now: float) -> None:
        """Take a control message; go through all events before the next call."""
        if self.state is State.ENDED:
            return
        self._heard = now
        try:
            if (event := self._control_event(body)) is not None:
                self._events.append(event)
        except RemoteProtocolError as error:
            self._end(error)

    def receive_piece(self, now: float) -> bool:
        """Note bytes of a file. False if they are not allowed in this state, which has ended the session."""
        self._heard = self._used = now
        if self.state is State.OPEN:
            return True
        self._end(RemoteProtocolError(reason="bytes of a file are not allowed in this state"))
        return False

    def next_event(self) -> Event | None:
        """Return the next event, or None."""
        return self._events.popleft() if self._events else None

    def take_cost(self) -> int:
        """Return the number of messages since the last call, including unknown ones. A long one counts as several,
        unless it is an answer, which may be long.
        """
        cost, self._cost = self._cost, 0
        return cost

    def data_to_send(self) -> bytes:
        """Return the control messages that are to go out now."""
        if self._owes_pong and self.state is not State.ENDED:
            self._owes_pong = False
            self._say(Pong())
        data = bytes(self._control)
        self._control.clear()
        return data

    def get_timer(self) -> float | None:
        """Return the time at which to call `handle_timer`, unless something happens before; an earlier call does no
        harm.
        """
        if self.state is State.ENDED:
            return None
        if self.state is not State.OPEN:
            return self._greet_by
        ping = max(min(self._heard, self._said), self._pinged) + self._third
        due = min(ping, self._heard + self._silence)
        return due if self.role is Role.OPENER else min(due, self._used + self._idle)

    def handle_timer(self, now: float) -> None:
        """Send `Ping` or end the session, if it is time for that."""
        due = self.get_timer()
        if due is None or now < due:
            return
        if self.state is not State.OPEN:
            self.lose("the greeting timed out")
        elif self.role is Role.ACCEPTOR and now >= self._used + self._idle:
            self.close()
        elif now >= self._heard + self._silence and now < due + self._third:
            self.lose(f"nothing arrived for {self._silence:g} s")
        else:
            if (
                now >= self._heard + self._silence
            ):  # this machine was suspended, and answers may wait
                self._heard = now - (self._silence - self._third)
            self._said = self._pinged = now
            self._say(Ping())

    def _say(self, message: Message) -> None:
        self._control += control_frame(message.to_json())

    def _end(self, reason: P2pshareError | None) -> None:
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self._events.append(SessionEnded(reason))

    def _control_event(self, body: bytes) -> Event | None:
        if self.state is not State.OPEN and len(body) > EARLY_BYTES_MAX:
            raise RemoteProtocolError(reason="a long message before the session is open")
        message = parse_message(body)
        self._cost += 1 if isinstance(message, ANSWERS) else 1 + len(body) // WEIGHT
        if message is not None and not isinstance(message, LEGAL[self.role, self.state]):
            raise RemoteProtocolError(reason=f"{message.WORD!r} is not allowed in this state")
        if self.state is not State.OPEN and self._is_kept(message, len(body)):
            return None
        match message:
            case Ping():
                self._owes_pong = True
                self._said = self._heard
            case Pong():
                pass
            case Bye():
                self._end(None)
            case Hello():
                self._version = min(VERSION, message.version)
                self.state = State.JUDGING
                return message
            case Welcome():
                if message.version > VERSION:
                    raise RemoteProtocolError(reason="its version was not offered")
                self._said = self._used = self._heard
                self.state = State.OPEN
                return message
            case Refused():
                self._end(refusal_error(self.name, message))
            case Message():
                self._used = self._heard
                return message
        return None

    def _is_kept(self, message: Message | None, size: int) -> bool:
        """Keep an early request; count any other message before the session is open, which is not kept."""
        if isinstance(message, REQUESTS):
            if not self._early.keep(message, size):
                raise RemoteProtocolError(reason="too many requests before the session is open")
            return True
        self._strays += 1
        if self._strays > BEFORE_OPEN_MAX:
            raise RemoteProtocolError(reason="too many messages before the session is open")
        return False


def refusal_error(name: str, refused: Refused) -> P2pshareError:
    """Return the error of a refused session for the opener's user."""
    wait = refused.retry_after or RETRY_AFTER
    match refused.why:
        case Refusal.STRANGER:
            reason = "this machine's key owns no name in its registry"
        case Refusal.CHANGED:
            reason = "it knows this machine's name under another key"
        case Refusal.BUSY:
            return SessionPostponed(name=name, reason="it has too many sessions", retry_after=wait)
        case Refusal.LATER:
            return SessionPostponed(
                name=name,
                reason="its registry is unreachable, so it cannot verify this key",
                retry_after=wait,
            )
        case Refusal.WAITING:
            return AcceptanceAwaited(
                name=name, reason="its owner has not accepted your key yet", retry_after=wait
            )
        case Refusal.VERSION:
            return VersionRefused(name=name)
    return SessionRefused(name=name, reason=reason)
