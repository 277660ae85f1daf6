"""One call, on the side of the peer that is called: it opens its NAT, connects back, and meets the caller at the relay.

The caller has proved its key by the signature of its signals, and is admitted by the same rules as the opener of a
session, before anything is sent. What it can cause then is bounded: checks to the addresses that it names (see
`core.reach.checks`), `BACK_MAX` connections to ports from `PORT_MIN` on, one visit to the relay. The session that
follows, if one does, is judged by the acceptor as any other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.reach.checks import ConnectivityChecks
from p2pshare.core.reach.dial_plan import Network
from p2pshare.errors import P2pshareError
from p2pshare.net.reach.stun_client import StunPort
from p2pshare.net.session.interfaces import Carrier, CarrierUser
from p2pshare.net.session.tcp import MESSAGE_READ
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.find.candidates import allowed_candidates
from p2pshare.peer.find.target import given
from p2pshare.peer.reach.checking import CheckDriver
from p2pshare.peer.reach.connect_back import PORT_MIN, connect_back
from p2pshare.peer.reach.signalling import Correspondence, OwnEnd, Rendezvous
from p2pshare.peer.share.admission import NotAdmitted
from p2pshare.wire.keys import PublicKey, from_base64url
from p2pshare.wire.reach.candidates import Candidate, Mapping
from p2pshare.wire.reach.signals import Signal, Step
from p2pshare.wire.session_messages import Refusal

GO_WAIT = 1.0  # seconds from the answer until the checks start without the caller's word
BACK_STAGGER = 0.1  # seconds between two connections back
LIFETIME = 8.0  # seconds after which an attempt is over, whatever became of it


class OwnPlace(Protocol):
    """Where this peer is: an `OwnNetwork`."""

    @property
    def candidates(self) -> Sequence[Candidate]:
        """Where its welcome port may be reached now."""

    @property
    def mapping(self) -> Mapping:
        """How its NAT maps."""

    @property
    def networks(self) -> Sequence[Network]:
        """Those of its interfaces."""

    @property
    def is_private(self) -> bool:
        """Whether nobody may learn its addresses."""


@dataclass(frozen=True, slots=True)
class Doors:
    """How callers get in."""

    admit: Callable[[PublicKey], Awaitable[str]]
    """Returns the name of the owner of a key, or raises `NotAdmitted`."""
    accept_stream: Callable[[str], CarrierUser | None]
    """Returns the user of a carrier from a host; None to close it."""
    port: StunPort
    """The welcome port."""


class Answering:
    """The answer to one call."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        rendezvous: Rendezvous,
        own: OwnEnd,
        place: OwnPlace,
        doors: Doors,
        call: Signal,
        to: Correspondence,
    ) -> None:
        """Answer `call`, whose caller hears through `to`."""
        self.key = call.key
        """The caller's."""
        self.gives_way = False
        """Whether it is ended if there are too many others."""
        self._reactor = reactor
        self._rendezvous = rendezvous
        self._own = own
        self._place = place
        self._doors = doors
        self._call = call
        self._to = to
        self._checks: CheckDriver | None = None
        self._went: Deferred[None] = Deferred()
        self._relayed: Deferred[str] = Deferred()
        self._running: set[Deferred[Any]] = set()

    async def run(self) -> None:
        """Answer, and do what the call needs until its time is over or this is cancelled.

        Raises:
            NotAdmitted: the caller is turned away.
            P2pshareError: the answer could not be sent.
        """
        call, place = self._call, self._place
        over: Deferred[None] = Deferred()
        try:
            await self._admit()
            is_visible = not place.is_private
            if is_visible and call.candidates and call.secret:
                await self._prime()
            await self._to.send(
                Step.ANSWER,
                candidates=place.candidates if is_visible else (),
                mapping=place.mapping if is_visible else Mapping.UNKNOWN,
            )
            self._log.debug(
                "call answered: peer={peer} attempt={attempt}", peer=call.name, attempt=call.attempt
            )
            if is_visible and call.back:
                self._spawn(self._connect_back())
            if call.room and not call.candidates and not call.back:
                self.signal_received(Step.RELAY, call.room)
            self._spawn(self._meet())
            if self._checks is not None:
                await self._gone()
            await over.addTimeout(LIFETIME, self._reactor, lambda *_: None)
        finally:
            if self._checks is not None:
                self._checks.stop()
            for each in tuple(self._running):
                each.cancel()

    def signal_received(self, step: Step, room: str) -> None:
        """Take a later signal of the caller."""
        if step is Step.GO and not self._went.called:
            self._went.callback(None)
        elif step is Step.RELAY and room and room == self._call.room and not self._relayed.called:
            self._relayed.callback(room)

    async def _admit(self) -> None:
        """Let the caller in under the name that it says.

        Raises:
            NotAdmitted: it is turned away.
        """
        if await self._doors.admit(self._call.key) != self._call.name:
            raise NotAdmitted(Refusal.STRANGER)

    async def _prime(self) -> None:
        """Open the own NAT for the caller's candidates."""
        call = self._call
        allowed, _ = await allowed_candidates(
            self._reactor, call.name, call.candidates, self._rendezvous.url
        )
        checks = ConnectivityChecks(
            call.attempt,
            from_base64url(call.secret, "the secret"),
            controls=False,
            random=self._own.random,
        )
        self._checks = CheckDriver(self._reactor, self._doors.port, checks)
        for each in allowed:
            ip = ipaddress.ip_address(each.address.ip)
            is_near = ip.is_loopback or any(ip in network for network in self._place.networks)
            self._checks.add_remote((each.address.ip, each.address.port), is_near=is_near)
        self._checks.prime(self._place.mapping)

    async def _gone(self) -> None:
        """Start the checks when the caller says so, or after a while."""
        assert self._checks is not None
        await self._went.addTimeout(GO_WAIT, self._reactor, lambda *_: None)
        self._checks.go()

    async def _connect_back(self) -> None:
        """Connect to the caller where it listens."""
        call = self._call
        named = given(each for each in call.back if each.port >= PORT_MIN)
        allowed, _ = await allowed_candidates(self._reactor, call.name, named, self._rendezvous.url)
        for number, each in enumerate(allowed):
            if number:
                await deferLater(self._reactor, BACK_STAGGER)
            user = LateUser(self._doors.accept_stream, each.address.ip)
            self._spawn(connect_back(self._reactor, call.name, each.address, call.attempt, user))

    async def _meet(self) -> None:
        """Meet the caller at the relay when it asks for that."""
        room = await self._relayed
        user = LateUser(self._doors.accept_stream, self._rendezvous.url)
        await self._rendezvous.join(self._own, room, self._call.key, user, MESSAGE_READ)

    def _spawn(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """Run something until it ends or the attempt does."""
        running: Deferred[Any] = Deferred.fromCoroutine(work)
        self._running.add(running)

        def ended(result: Any) -> None:
            self._running.discard(running)
            if not isinstance(result, Failure) or result.check(CancelledError):
                return
            if not result.check(P2pshareError):
                self._log.failure("call failed: peer={peer}", result, peer=self._call.name)
            else:
                self._log.debug(
                    "no way: peer={peer} why={why}", peer=self._call.name, why=result.value
                )

        running.addBoth(ended)


class LateUser:
    """The user of a carrier, which takes a place at the acceptor only once there is a connection."""

    def __init__(self, accept: Callable[[str], CarrierUser | None], host: str) -> None:
        self._accept = accept
        self._host = host
        self._user: CarrierUser | None = None

    def connected(self, carrier: Carrier) -> None:
        """See `CarrierUser`."""
        self._user = self._accept(self._host)
        if self._user is None:
            carrier.abort()
        else:
            self._user.connected(carrier)

    def received(self, data: bytes) -> None:
        """See `CarrierUser`."""
        if self._user is not None:
            self._user.received(data)

    def writable(self) -> None:
        """See `CarrierUser`."""
        if self._user is not None:
            self._user.writable()

    def closed(self) -> None:
        """See `CarrierUser`."""
        if self._user is not None:
            self._user.closed()
