"""Messages about offers: over which session they go, who handles them, and what answers them.

Theory of operation
===================

*Sessions.* Every session of the peer has a part for offers (`attach`), whoever has opened it and for what. A message
goes over a session that is open with the person, if there is one. Otherwise one is opened, and closed when it has not
been used for `LINGER`. The key that a session has proven is what counts, never the name that somebody says. A session
that somebody else has opened may come from a command, such as a `get`, which takes no offers. So it is used once the
other end has said something about offers there. One that has brought no answer in time may be dead, such as after a
router has forgotten its connections. It is used again only once something comes over it.

*Exchanges.* A message waits for its answer, and for no longer than `ANSWER_TIMEOUT`: an `offer_state` for `offer` and
`withdraw`, an `offer_noted` or `withdraw` for `offer_state`. Whoever wants something told tries again after any
failure. The handlers see all messages alike, whether this end has waited for them or not. So an answer that comes too
late counts, too.

*Before and after.* While the peer starts or ends, messages get no answer, so the other side comes again. A refusal, or
the withdrawal of an offer that is not read from the ledger yet, would be final.

*Bounds.* A session may bring `PER_S` messages each second and `QUEUE_MAX` that wait to be handled; more ends it. They
are handled one after the other, in their order. This end sends at a quarter of that rate. At most `DIALS_MAX` sessions
are opened at once.

*Pins.* A first contact is remembered only for a person to whom this user sends. To tell a state to a sender pins
nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.core.rate import RateLimit
from p2pshare.core.session_interface import Session
from p2pshare.core.session_parts import NothingShared, OffersPart, SessionParts
from p2pshare.errors import KeyChanged, P2pshareError, RemoteProtocolError, SessionLost
from p2pshare.names import ON_NETWORK
from p2pshare.peer.find.target import Target
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import InboxState, Offer, OfferNoted, OfferState, Withdraw
from p2pshare.wire.session_messages import Message, Purpose

ANSWER_TIMEOUT = 20.0  # seconds until an answer must be here
LINGER = 60.0  # seconds after its last use until a session that was opened for offers is closed
DIALS_MAX = 8  # sessions that are opened at once
PER_S = 20.0  # messages about offers that a session may bring each second
BURST = 200  # messages about offers that a session may bring at once
QUEUE_MAX = 16  # messages of a session that wait to be handled
SENDING_PART = 4  # of the rate and the burst: one part is what this end sends


class Sending(Protocol):
    """The sender's side: knows what this peer offers."""

    async def state_received(self, viewer: Viewer, state: OfferState) -> OfferNoted | Withdraw:
        """Note what became of an offer at a person, durably, and return the answer."""
        ...


class Receiving(Protocol):
    """The receiver's side: keeps the inbox."""

    async def offer_received(self, viewer: Viewer, offer: Offer) -> OfferState:
        """Keep an offer durably, or refuse it, and return its state."""
        ...

    async def withdrawn(self, viewer: Viewer, withdraw: Withdraw) -> OfferState:
        """Drop an offer, and return its state."""
        ...

    async def noted(self, viewer: Viewer, noted: OfferNoted) -> None:
        """Note that the sender knows a state."""
        ...


Find = Callable[[str], Awaitable[Target]]
"""Returns how to reach the peer of a name, and the key that it must have; raises `P2pshareError`."""


class Opener(Protocol):
    """Opens sessions: a `Dialler`."""

    async def open(self, target: Target, *, credit: int, purpose: Purpose | None = None) -> Session:
        """Open a session."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a message."""

    message: Message
    key: PublicKey
    """That the other side has proven."""


@dataclass(frozen=True, slots=True)
class CorrespondenceLimits:
    """The bounds on messages about offers."""

    answer: float = ANSWER_TIMEOUT
    """Seconds until an answer must be here."""
    linger: float = LINGER
    """Seconds after its last use until a session that was opened for offers is closed."""
    dials: int = DIALS_MAX
    """Sessions that are opened at once."""
    per_s: float = PER_S
    """Messages that a session may bring each second."""
    burst: int = BURST
    """Messages that a session may bring at once."""
    queue: int = QUEUE_MAX
    """Messages of a session that wait to be handled."""


class Correspondence:
    """All messages about offers of one peer."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        find: Find,
        meet: Find,
        opener: Opener,
        limits: CorrespondenceLimits = CorrespondenceLimits(),
    ) -> None:
        """Exchange messages as soon as there is a `sender` and a `receiver`.

        Args:
            reactor: for timers.
            find: finds a peer, and pins no new key.
            meet: finds a peer, and pins its key at first contact.
            opener: opens sessions.
            limits: the bounds.
        """
        self.sender: Sending | None = None
        """Handles what others tell of the offers of this peer. Without it they get no answer."""
        self.receiver: Receiving | None = None
        """Handles the offers of others. Without it they get no answer, too."""
        self._reactor = reactor
        self._find = find
        self._meet = meet
        self._opener = opener
        self._limits = limits
        self._parts: dict[Session, _Part] = {}  # the newest at the end
        self._dialling = DeferredSemaphore(limits.dials)
        self._has_stopped = False

    def attach(self, session: Session, *, is_accepted: bool = False) -> OffersPart:
        """Return the part for offers of a session that this peer has opened, or accepted."""
        part = self._parts[session] = _Part(self, session, self._reactor, self._limits)
        part.takes_offers = not is_accepted
        return part

    async def exchange(self, name: str, key: PublicKey | None, message: Message) -> Answer:
        """Send an `Offer`, a `Withdraw` or an `OfferState` to a person, and return the answer.

        Args:
            name: the person's; with `ON_NETWORK` behind it if nobody has proven it.
            key: the one that the person is known by; None at first contact.
            message: to be sent.

        Raises:
            KeyChanged: the person has another key now, and nothing explains that.
            P2pshareError: the person was not found or reached, or has not answered.
        """
        if self._has_stopped:
            raise SessionLost(name=name, reason="this peer is ending")
        part = self._open_part(name, key)
        if part is None:
            part = await self._dialled(name, key, message)
        return Answer(await part.exchange(message), part.viewer.key)

    async def stop(self) -> None:
        """Close the sessions that were opened for offers; no message is handled any more."""
        self._has_stopped = True
        for part in list(self._parts.values()):
            part.stop()

    def drop(self, session: Session) -> None:
        """Forget a session that is over."""
        self._parts.pop(session, None)

    async def handle(self, viewer: Viewer, message: Message) -> Message | None:
        """Let a message be handled, and return the answer to it."""
        sender, receiver = self.sender, self.receiver
        if self._has_stopped:
            return None
        match message:
            case OfferState() if sender is not None:
                return await sender.state_received(viewer, message)
            case Offer() if receiver is not None:
                return await receiver.offer_received(viewer, message)
            case Withdraw() if receiver is not None:
                return await receiver.withdrawn(viewer, message)
            case OfferNoted() if receiver is not None:
                await receiver.noted(viewer, message)
        return None

    def _open_part(self, name: str, key: PublicKey | None) -> _Part | None:
        """Return the newest open session with a person."""
        for part in reversed(self._parts.values()):
            viewer = part.viewer
            if not part.takes_offers:
                continue
            if viewer.key == key or (viewer.is_proven and viewer.name == name):
                return part
        return None

    async def _dialled(self, name: str, key: PublicKey | None, message: Message) -> _Part:
        await self._dialling.acquire()
        try:
            if (part := self._open_part(name, key)) is not None:  # opened meanwhile
                return part
            find = self._meet if isinstance(message, Offer) else self._find
            target = await find(name.removesuffix(ON_NETWORK))
            if key is not None and name.endswith(ON_NETWORK) and target.key != key:
                raise KeyChanged(name=name, known=key.grouped, now=target.key.grouped)
            session = await self._opener.open(target, credit=0, purpose=Purpose.OFFER)
        finally:
            self._dialling.release()
        if self._has_stopped:
            session.close()
            raise SessionLost(name=name, reason="this peer is ending")
        part = self._parts[session] = _Part(self, session, self._reactor, self._limits, is_own=True)
        session.begin(SessionParts(NothingShared(session), part))
        return part


class _Part:
    """The part for offers of one session."""

    _log = Logger()

    def __init__(
        self,
        owner: Correspondence,
        session: Session,
        reactor: IReactorTime,
        limits: CorrespondenceLimits,
        *,
        is_own: bool = False,
    ) -> None:
        """Begin; a session that `is_own` was opened for offers alone, and ends when it is not used."""
        self.viewer = Viewer(session.name, session.key)
        """Who the other side is."""
        self.takes_offers = True
        """Whether the other end is known to be a peer that takes and makes offers and no command, and answers."""
        self._owner = owner
        self._session = session
        self._reactor = reactor
        self._limits = limits
        self._is_own = is_own
        now = reactor.seconds()
        self._incoming = RateLimit(limits.per_s, now, burst_time=0.0, burst_min=limits.burst)
        self._outgoing = RateLimit(
            limits.per_s / SENDING_PART,
            now,
            burst_time=0.0,
            burst_min=max(1, limits.burst // SENDING_PART),
        )
        self._queue: deque[Message] = deque()
        self._handling: Deferred[None] | None = None
        self._waiting: dict[tuple[str, str], list[Deferred[Message]]] = {}
        self._idle: IDelayedCall | None = None
        self._is_over = False
        self._used()

    async def exchange(self, message: Message) -> Message:
        """Send a message, and return its answer."""
        now = self._reactor.seconds()
        at = self._outgoing.when(1, now)
        self._outgoing.spend(1, now)
        if at > now:
            await deferLater(self._reactor, at - now)
        if self._is_over:
            raise SessionLost(name=self._session.name, reason="it has ended")
        answer: Deferred[Message] = Deferred()
        waiting = self._waiting.setdefault(_awaited(message), [])
        waiting.append(answer)
        self._used()
        self._session.send(message)
        try:
            return await answer.addTimeout(self._limits.answer, self._reactor)
        except TimeoutError as error:
            self.takes_offers = False
            if self._is_own:
                self._session.close()
            reason = f"it has not answered for {self._limits.answer:g} s"
            raise SessionLost(name=self._session.name, reason=reason) from error
        finally:
            if answer in waiting:
                waiting.remove(answer)
            if not waiting and self._waiting.get(_awaited(message)) is waiting:
                del self._waiting[_awaited(message)]

    def message_received(self, message: Message) -> None:
        """Handle a message after those before it."""
        now = self._reactor.seconds()
        if not self._incoming.available(now) or len(self._queue) >= self._limits.queue:
            raise RemoteProtocolError(reason="it has sent too many messages about offers")
        self._incoming.spend(1, now)
        self.takes_offers = True
        self._used()
        self._queue.append(message)
        if self._handling is None:
            handling = Deferred.fromCoroutine(self._handle_all())
            self._handling = None if handling.called else handling

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Fail all that wait for an answer. What was received before the end is still handled."""
        self._is_over = True
        self._owner.drop(self._session)
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        error = reason or SessionLost(name=self._session.name, reason="it has ended")
        waiting, self._waiting = self._waiting, {}
        for each in [answer for answers in waiting.values() for answer in answers]:
            if not each.called:
                each.errback(error)

    def stop(self) -> None:
        """Handle nothing more, and close the session if it is only for offers."""
        self._queue.clear()
        if self._handling is not None:
            self._handling.cancel()
        if self._is_own and not self._is_over:
            self._session.close()

    async def _handle_all(self) -> None:
        try:
            while self._queue:
                await self._handle(self._queue.popleft())
        except CancelledError:
            pass
        except Exception:
            self._log.failure("offer not handled: peer={peer}", peer=self._session.name)
            self._session.abort()
        finally:
            self._handling = None

    async def _handle(self, message: Message) -> None:
        try:
            answer = await self._owner.handle(self.viewer, message)
        except (
            P2pshareError
        ) as error:  # such as a full disk: without an answer the other side comes again
            self._log.error(
                "offer not handled: peer={peer} message={word} why={why}",
                peer=self._session.name,
                word=message.WORD,
                why=error,
            )
            return
        if answer is not None and not self._is_over:
            self._session.send(answer)
        for answered in _answered(message):
            for each in self._waiting.pop(answered, []):
                if not each.called:
                    each.callback(message)

    def _used(self) -> None:
        """Keep a session that was opened for offers for a while."""
        if not self._is_own or self._is_over:
            return
        if self._idle is not None and self._idle.active():
            self._idle.reset(self._limits.linger)
        else:
            self._idle = self._reactor.callLater(self._limits.linger, self._session.close)


def _awaited(message: Message) -> tuple[str, str]:
    """Return a key of the answer that a message has: its kind, and the id of its offer."""
    match message:
        case Offer(id) | Withdraw(id):
            return "state", id
        case OfferState(id, state):
            return state.value, id
    raise AssertionError(f"{message.WORD} has no answer")


def _answered(message: Message) -> Sequence[tuple[str, str]]:
    """Return the keys of the answers that a message is. A withdrawal answers states that are not final."""
    match message:
        case OfferState(id):
            return [("state", id)]
        case OfferNoted(id, state):
            return [(state.value, id)]
        case Withdraw(id):
            return [(state.value, id) for state in InboxState if not state.is_final]
    return []
