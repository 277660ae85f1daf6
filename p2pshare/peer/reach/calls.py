"""Takes calls: follows the inbox of a running peer, and answers those who may call it.

What strangers can cause
========================

The registry passes on signals of owners of names only, of those names that the shares allow, and limits their rate.
The peer trusts it with none of that. A signal costs an HPKE decryption and a signature check, so at most
`CallLimits.signals_per_s` are opened. An attempt is answered once: `CallLimits.remembered` of them are remembered,
longer than a signal is valid. One key has at most `CallLimits.per_key` attempts at a time, all keys together
`CallLimits.total`. A call that is one too many is refused. A session of a caller lets its oldest attempt give way to
new ones, so that many short commands of one user are no flood. That attempt goes on until then, since the session may
have come in another way. At most `CallLimits.refusals_per_s` callers are told that they are refused: the registry
limits what this peer may send, and honest callers need their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.rate import RateLimit
from p2pshare.errors import P2pshareError, RemoteProtocolError, SignalOutOfTime, Unreachable
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.reach.answering import Answering, Doors, OwnPlace
from p2pshare.peer.reach.signalling import (
    Correspondence,
    Follower,
    OtherEnd,
    OwnEnd,
    Rendezvous,
)
from p2pshare.peer.share.admission import NotAdmitted
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.reach.rendezvous import ACCEPT_MAX
from p2pshare.wire.reach.signals import MAIN_INBOX, Signal, Step
from p2pshare.wire.registry_answers import CLOCK_SKEW_MAX
from p2pshare.wire.session_messages import Refusal

RETRY = 5.0  # seconds after which a registry is asked again that does not prove its key
REFUSED_RETRY = (
    60.0  # seconds, if it refuses: it may be another one, or a portal of the present network
)
CLOCK_AGAIN = 60.0  # seconds between two questions for the registry's time


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds on the calls that a peer takes."""

    total: int = 64
    """Attempts at once."""
    per_key: int = 8
    """Those of one key."""
    remembered: int = 4096
    """Attempts that are not answered again."""
    signals_per_s: float = 50.0
    """Signals that are opened in a second, of all senders."""
    burst: int = 100
    """Signals that are opened at once after a pause."""
    refusals_per_s: float = 2.0
    """Refusals that are sent in a second, to all callers."""
    refusals_burst: int = 20
    """Refusals that are sent at once after a pause."""


class CallListener:
    """Follows the inbox `main`, and answers calls."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        rendezvous: Rendezvous,
        place: OwnPlace,
        doors: Doors,
        accept: Callable[[], Sequence[str] | None] = lambda: None,
        on_link: Callable[[bool], object] = lambda _: None,
        limits: CallLimits = CallLimits(),
    ) -> None:
        """Listen after `start`.

        Args:
            reactor: for timers.
            rendezvous: of the registry.
            place: where this peer is.
            doors: how callers get in.
            accept: returns the names that may call; None for all, () for nobody.
            on_link: called with whether calls can come.
            limits: bounds.
        """
        self._reactor = reactor
        self._rendezvous = rendezvous
        self._place = place
        self._doors = doors
        self._accept = accept
        self._on_link = on_link
        self._limits = limits
        self._rate = RateLimit(
            limits.signals_per_s, reactor.seconds(), burst_time=0.0, burst_min=limits.burst
        )
        self._refusals = RateLimit(
            limits.refusals_per_s,
            reactor.seconds(),
            burst_time=0.0,
            burst_min=limits.refusals_burst,
        )
        self._answering: dict[str, tuple[Answering, Deferred[None]]] = {}  # by attempt
        self._seen: dict[str, float] = {}  # attempts, and when they came; the oldest first
        self._own: OwnEnd | None = None
        self._clock_checked: float | None = None  # in seconds of the reactor's clock
        self._follower: Follower | None = None
        self._following: Deferred[None] | None = None
        self.is_listening = False
        """Whether calls can come now."""
        self.ignored = 0
        """Signals that were not valid, or too many."""

    @property
    def attempts(self) -> int:
        """The number of calls that are being answered."""
        return len(self._answering)

    def start(self) -> None:
        """Follow the inbox. If the listener has started before, it uses the present key from now on."""
        self._end_following()
        self._following = Deferred.fromCoroutine(self._follow())
        self._following.addErrback(self._failed)

    def accept_others(self) -> None:
        """Tell the registry who may call now, if the listener has started."""
        if self._following is not None:
            self.start()

    def nudge(self) -> None:
        """Connect to the registry at once: the network has changed."""
        if self._follower is not None:
            self._follower.nudge()
        elif self._following is not None:
            self.start()

    def stop(self) -> None:
        """Take no more calls, and end those that are being answered."""
        self._end_following()
        for _, running in tuple(self._answering.values()):
            running.cancel()

    def session_opened(self, key: PublicKey) -> None:
        """Let the oldest attempt of a caller give way to new ones: it has probably led to this session."""
        for answering, _ in self._answering.values():
            if answering.key == key and not answering.gives_way:
                answering.gives_way = True
                return

    def _end_following(self) -> None:
        following, self._following = self._following, None
        self._follower = None
        if following is not None:
            following.cancel()

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_inbox()
                return
            except Unreachable as error:
                self._log.debug("no calls yet: why={why}", why=error)
                pause = RETRY
            except P2pshareError as error:
                self._log.warn("no calls are taken: {why}", why=error)
                pause = REFUSED_RETRY
            self._follower = None
            await deferLater(self._reactor, pause)

    async def _follow_inbox(self) -> None:
        """Follow until cancelled, or return at once if nobody may call.

        Raises:
            P2pshareError: the registry does not prove its key, or refuses.
        """
        own = self._own = await self._rendezvous.own()
        accept = self._accept()
        if accept == ():
            return
        if accept is not None and len(accept) > ACCEPT_MAX:
            accept = None  # the peer decides itself, in `admit` and in what it shows
        self._follower = self._rendezvous.follow(
            own, MAIN_INBOX, accept, self._received, self._link_changed
        )
        await self._follower.run()

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("no calls are taken", failure)

    def _link_changed(self, is_up: bool) -> None:
        if is_up != self.is_listening:
            self.is_listening = is_up
            self._on_link(is_up)

    def _received(self, sealed: bytes) -> None:
        """Take a signal."""
        now = self._reactor.seconds()
        if self._own is None or not self._rate.available(now):
            self.ignored += 1
            return
        self._rate.spend(1, now)
        try:
            signal = self._own.read(sealed)
        except RemoteProtocolError as error:
            self.ignored += 1
            self._log.debug("signal ignored: why={why}", why=error)
            if isinstance(error, SignalOutOfTime):
                self._check_clock()
            return
        if signal.step is Step.CALL:
            self._called(self._own, signal)
        elif (found := self._answering.get(signal.attempt)) is not None:
            answering, _ = found
            if answering.key == signal.key:
                answering.signal_received(signal.step, signal.room)

    def _check_clock(self) -> None:
        """Ask for the registry's time, but not often: the clock of this machine may have been set since it was asked.
        The caller repeats its call.
        """
        now = self._reactor.seconds()
        if self._clock_checked is None or now - self._clock_checked >= CLOCK_AGAIN:
            self._clock_checked = now
            asking = Deferred.fromCoroutine(self._rendezvous.learn_time())
            asking.addErrback(lambda failure: failure.trap(P2pshareError))

    def _called(self, own: OwnEnd, call: Signal) -> None:
        now, limits = self._reactor.seconds(), self._limits
        if call.attempt in self._seen:
            self.ignored += 1
            return
        old = [each for each, at in self._seen.items() if now - at > 2 * CLOCK_SKEW_MAX]
        for each in old:
            del self._seen[each]
        while len(self._seen) >= limits.remembered:
            del self._seen[next(iter(self._seen))]
        self._seen[call.attempt] = now
        other = OtherEnd(call.name, call.key, call.seal, call.inbox)
        to = Correspondence(self._rendezvous, own, other, call.attempt, MAIN_INBOX)
        if not (self._has_room(limits.per_key, call.key) and self._has_room(limits.total)):
            self.ignored += 1
            self._refuse(to, call, Refusal.BUSY)
            return
        answering = Answering(
            self._reactor, self._rendezvous, own, self._place, self._doors, call, to
        )
        running = Deferred.fromCoroutine(answering.run())
        running.addErrback(self._turned_away, to, call)
        if running.called:
            running.addErrback(self._not_answered)
            return
        self._answering[call.attempt] = answering, running
        running.addBoth(self._ended, call.attempt).addErrback(self._not_answered)

    def _has_room(self, most: int, key: PublicKey | None = None) -> bool:
        """Whether there can be one more attempt, of a key or of all; an attempt that gives way is ended for it."""
        found = [each for each in self._answering.values() if key in (None, each[0].key)]
        if len(found) < most:
            return True
        idle = next((running for answering, running in found if answering.gives_way), None)
        if idle is not None:
            idle.cancel()
        return idle is not None

    def _refuse(self, to: Correspondence, call: Signal, why: Refusal) -> None:
        """Refuse a call, and tell the caller why unless many were told just now."""
        self._log.debug(
            "call refused: peer={peer!r} key={key} why={why}",
            peer=call.name,
            key=call.key,
            why=why.value,
        )
        now = self._reactor.seconds()
        if self._refusals.available(now):
            self._refusals.spend(1, now)
            refusing = Deferred.fromCoroutine(to.send(Step.REFUSED, why=why.value))
            refusing.addErrback(self._not_answered)

    def _turned_away(self, failure: Failure, to: Correspondence, call: Signal) -> None:
        error = failure.value
        if not isinstance(error, NotAdmitted):
            failure.raiseException()
        self._refuse(to, call, error.why)

    def _ended(self, result: Any, attempt: str) -> Any:
        self._answering.pop(attempt, None)
        return result

    def _not_answered(self, failure: Failure) -> None:
        if failure.check(P2pshareError):
            self._log.debug("call not answered: why={why}", why=failure.value)
        elif not failure.check(CancelledError):
            self._log.failure("call not answered", failure)
