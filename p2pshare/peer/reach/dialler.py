"""Dials peers: opens a session with a target over whatever leads to it.

Theory of operation
===================

*Direct attempts* come first. `core.reach.dial_plan` orders them, and `SessionDial` lets them race; the first session
that is welcomed is used. On one machine and in one network that takes milliseconds, and nothing else happens.

*A call* begins if no session is open after `CALL_DELAY`, or as soon as there is nothing left to try. If an attempt has
an answer by then, it gets some time more. It costs some
messages through the registry, and adds attempts to the same race: a path between two NATs, a connection back, the
relay. See `peer.reach.calling`.

*Bounds.* A plan has `ATTEMPTS_MAX` attempts. A target holds only addresses that `expect_elsewhere` accepts, whoever has
told them. TLS proves the key on every path before anything is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from p2pshare.core.reach.dial_plan import TCP, UDP, Network, dial_plan
from p2pshare.core.session import GREETING
from p2pshare.core.session_interface import Session
from p2pshare.errors import PeerNotReachable
from p2pshare.net.session.carriers import Carriers
from p2pshare.net.session.dialling import CALL, SILENCE, SessionDial, Tried, WantedSession
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.find.target import Target
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.session_messages import Message, Purpose

CALL_DELAY = 0.2  # seconds for direct attempts before the peer is called
REMEMBERED_TIMEOUT = (
    4.0  # seconds for addresses at which the peer was once: the registry is asked again after that
)
ANSWERED_DELAY = 0.8  # seconds more, if one of them has an answer: the peer is there, only far away


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of the networks of this machine, for the order of attempts."""

    networks: Iterable[Network] = ()
    """Of its interfaces."""
    seen: str | None = None
    """Its public IP address."""


class Caller(Protocol):
    """Calls peers through the registry."""

    async def call(self, dial: SessionDial, target: Target, *, may_relay: bool) -> Session:
        """Call a peer, and let the dial's race have the attempts that this leads to. Return nothing before the race is
        over, which cancels it.

        Raises:
            P2pshareError: nothing has come of the call.
        """


class Dialler:
    """Opens sessions with peers."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        key: Callable[[], SigningKey],
        carriers: Carriers,
        surroundings: Callable[[], Surroundings] = Surroundings,
        caller: Callable[[], Caller] | None = None,
        own_name: str = "",
    ) -> None:
        """Args:
        reactor: connects and runs the timers.
        key: returns the user's present key.
        carriers: that the user allows.
        surroundings: returns what is known of this machine's networks.
        caller: returns what calls peers that nobody reaches directly; asked when it is needed. None if there is no
            way to call anybody.
        own_name: what the user is called, if there is no registry that says it.
        """
        self._reactor = reactor
        self._key = key
        self._carriers = carriers
        self._surroundings = surroundings
        self._caller = caller
        self._own_name = own_name
        self.on_open: Callable[[Session], object] = lambda _: None
        """Called with each session that is opened."""
        self.report: list[Tried] = []
        """The attempts of the latest dial, in the order in which they began."""

    async def open(
        self,
        target: Target,
        *,
        credit: int,
        early: Sequence[Message] = (),
        silence: float = SILENCE,
        timeout: float = GREETING,
        purpose: Purpose | None = None,
        report: list[Tried] | None = None,
    ) -> Session:
        """Open a session with a peer; the arguments are as in `WantedSession`.

        What the session is for (`purpose`) is told only where there is no registry. The attempts are added to `report`
        in the order in which they begin.

        Raises:
            PeerNotReachable: there is nothing to try.
            P2pshareError: as for `open_session`.
        """
        if target.is_remembered:
            timeout = min(timeout, REMEMBERED_TIMEOUT)
        own_name = self._own_name
        wanted = WantedSession(
            *(target.name, target.key, credit, early, silence, timeout, own_name),
            purpose=purpose if own_name else None,
        )
        return await self._dial(target, wanted, report, may_relay=self._carriers.has_relay)

    async def open_direct(
        self,
        target: Target,
        *,
        credit: int,
        silence: float = SILENCE,
        timeout: float = GREETING,
        report: list[Tried] | None = None,
    ) -> Session:
        """Open a session that does not go through the relay; otherwise as `open`."""
        wanted = WantedSession(
            target.name, target.key, credit, (), silence, timeout, self._own_name
        )
        return await self._dial(target, wanted, report, may_relay=False)

    async def _dial(
        self,
        target: Target,
        wanted: WantedSession,
        report: list[Tried] | None,
        *,
        may_relay: bool,
    ) -> Session:
        self._log.debug(
            "dialling: peer={peer} key={key} to={to}", peer=target.name, key=target.key, to=target
        )
        carriers = self._carriers
        is_choice = len(target.candidates) > 1
        around = self._surroundings() if is_choice else Surroundings()
        kinds = [kind for kind, used in ((TCP, carriers.has_tcp), (UDP, carriers.has_udp)) if used]
        steps = dial_plan(
            target.candidates, networks=around.networks, seen=around.seen, carriers=kinds
        )
        self.report = [] if report is None else report
        dial = SessionDial(self._reactor, self._key(), wanted, self.report)
        for step in steps:
            if step.carrier == TCP:
                dial.over_tcp(step.address, step.delay_s)
            else:
                dial.over_udp(step.address, carriers.udp_towards, step.delay_s)
        has_caller = target.takes_calls and self._caller is not None and (kinds or may_relay)
        if not steps and not has_caller:
            raise PeerNotReachable(name=target.name)
        if has_caller:
            delay = CALL_DELAY if steps else 0.0
            calling = self._call(dial, target, delay, may_relay=may_relay)
            dial.wait_for(Deferred.fromCoroutine(calling))
        session = await dial.session()
        self.on_open(session)
        return session

    async def _call(
        self, dial: SessionDial, target: Target, delay: float, *, may_relay: bool
    ) -> Session:
        assert self._caller is not None
        if delay:
            await dial.race.start(delay, is_last=True)
            if dial.race.is_answered(CALL):
                await dial.race.start(ANSWERED_DELAY, is_last=True)
        return await self._caller().call(dial, target, may_relay=may_relay)
