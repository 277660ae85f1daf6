"""Calls, on the side of the opener: what leads to a session if nobody answers at the addresses of a peer.

Theory of operation
===================

    opener                                registry                                the peer
    stream of its own inbox, STUN            |
    CALL: addresses, secret, room  --------->|---------------------->  admits the opener, opens its NAT, dials back
                                             |<----------------------  ANSWER: addresses
    GO  ------------------------------------>|---------------------->  starts its checks
    checks  <------------------------------- directly ------------------------------->  checks
    RELAY  --------------------------------->|---------------------->  joins the room

*The socket.* A call has a UDP socket of its own, for STUN, the checks and the session that may follow. Direct attempts
have used another one: a NAT that has seen a datagram in vain remembers that for half a minute, and the checks would
suffer from it.

A router may have remembered an early packet on the socket of the call, too. If the checks fail although the NATs should
let them through, and there is no relay, the call is made once more, with a fresh socket.

*The relay* starts while checks still run, so that a path that does not exist costs little time: `RELAY_DELAY` after the
answer, at most `RELAY_LATEST` after the call, and at once if the NATs leave no hope. A path that is found delays it by
`RELAY_GRACE`. Whichever session is welcomed first ends the race, and with it the call.

*What the peer can do* with its answers is bounded: one answer counts, its addresses pass `expect_elsewhere`, the checks
have their own bounds, and each session proves the peer's key. If it is silent, the call ends after `ANSWER_WAIT`.

*Privacy.* An opener that uses the relay alone names no address, and the peer then joins the room at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.datagram_core import Address
from p2pshare.core.reach.checks import CheckEvent, ConnectivityChecks, GaveUp, Reached
from p2pshare.core.reach.dial_plan import PRIVATE
from p2pshare.core.session import refusal_error
from p2pshare.core.session_interface import Session
from p2pshare.errors import CallFailed, P2pshareError, RemoteProtocolError, Unreachable
from p2pshare.net.reach.interfaces import NetworkState, read_network
from p2pshare.net.session.carriers import Carriers
from p2pshare.net.session.datagrams import DatagramSessions
from p2pshare.net.session.dialling import CALL, SessionDial
from p2pshare.net.session.interfaces import CarrierUser
from p2pshare.net.session.tcp import FILE_READ
from p2pshare.net.sockets import IPeerReactor, interfaces_for
from p2pshare.peer.find.candidates import allowed_candidates
from p2pshare.peer.find.target import Target
from p2pshare.peer.reach import connect_back
from p2pshare.peer.reach.checking import CheckDriver
from p2pshare.peer.reach.connect_back import BackListener
from p2pshare.peer.reach.signalling import (
    SECRET_SIZE,
    Correspondence,
    OtherEnd,
    OwnEnd,
    Rendezvous,
)
from p2pshare.peer.reach.vantage import Vantage, look_around
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import from_base64url
from p2pshare.wire.reach.candidates import Candidate, Mapping
from p2pshare.wire.reach.signals import BACK_MAX, MAIN_INBOX, Signal, Step
from p2pshare.wire.session_messages import Refusal, Refused

INBOX_WAIT = 5.0  # seconds until the own stream of signals must be open
SERVERS_WAIT = 2.0  # seconds until the registry has told its STUN servers, and DNS where they are
ANSWER_WAIT = 8.0  # seconds for the answer to a call
REPEAT = 1.5  # seconds after which a call without an answer is repeated
CALL_AGAIN = 0.25, 0.75, 1.5, 2.0, 2.0, 2.0  # seconds after which a call is repeated
ALONE_MAX = 2  # repetitions if nothing else is tried
RELAY_DELAY = 0.4  # seconds from the answer until the relay is used
RELAY_LATEST = 1.0  # seconds from the call until then, answered or not
RELAY_GRACE = 1.0  # seconds that a path which was found gets first
PATHS_WAIT = 6.0  # seconds from the answer until no path is expected any more
SIGNALS_MAX = 16  # signals that are looked at during one call

_ANY = "192.0.2.1"  # an address elsewhere: calls use all interfaces


class PeerCaller:
    """Calls peers; a `Caller`."""

    def __init__(
        self,
        reactor: IPeerReactor,
        rendezvous: Rendezvous,
        carriers: Carriers,
        *,
        network: Callable[[], NetworkState] = read_network,
    ) -> None:
        """Args:
        reactor: for timers and sockets.
        rendezvous: of the registry.
        carriers: that the user allows.
        network: returns how this machine is connected.
        """
        self.reactor = reactor
        self.rendezvous = rendezvous
        self.carriers = carriers
        self.network = network

    async def call(self, dial: SessionDial, target: Target, *, may_relay: bool) -> Session:
        """See `Caller`."""
        may_relay = may_relay and self.rendezvous.has_relay
        for is_last in (may_relay, True):  # with a relay, a second try is not urgent
            call = _Call(self, dial, target, may_relay=may_relay)
            try:
                return await call.run()
            except CallFailed:
                if is_last or not call.is_worth_repeating:
                    raise
            finally:
                call.stop()
        raise AssertionError("the last try returns or raises")


class _Call:
    """One call."""

    _log = Logger()

    def __init__(
        self, caller: PeerCaller, dial: SessionDial, target: Target, *, may_relay: bool
    ) -> None:
        self._caller = caller
        self._reactor = caller.reactor
        self._rendezvous = caller.rendezvous
        self._dial = dial
        self._target = target
        self._may_relay = may_relay
        self._own: OwnEnd
        self._attempt = self._secret = self._room = ""
        self._to: Correspondence
        self._vantage = Vantage((), Mapping.BLOCKED, ())
        self._datagrams: DatagramSessions | None = None
        self._checks: CheckDriver | None = None
        self._listener: BackListener | None = None
        self._back: tuple[PeerAddress, ...] = ()
        self._running: set[Deferred[Any]] = set()
        self._relay_timer: IDelayedCall | None = None
        self._has_relay = False  # it was begun
        self.is_worth_repeating = False
        """Whether the checks of a fresh port may succeed, although those of this one have failed."""
        self._has_hope = False  # for a direct path
        self._signals = 0
        self._is_open: Deferred[None] = Deferred()
        self._answered: Deferred[Signal] = Deferred()
        self._no_path: Deferred[None] = Deferred()
        self._is_stopped = False

    async def run(self) -> Session:
        """Call, and add attempts to the dial until there is nothing more to add.

        Raises:
            CallFailed: this was to no avail.
            P2pshareError: the registry or the peer refuses the call.
        """
        rendezvous, target = self._rendezvous, self._target
        own = self._own = await rendezvous.own()
        self._attempt, inbox = own.draw(), own.draw()
        self._secret, self._room = own.draw(SECRET_SIZE), own.draw() if self._may_relay else ""
        other = OtherEnd(target.name, target.key, target.seal, MAIN_INBOX)
        self._to = Correspondence(rendezvous, own, other, self._attempt, inbox)
        looking = self._spawn(self._look())
        follower = rendezvous.follow(own, inbox, (target.name,), self._received, self._link_changed)
        self._spawn(follower.run()).addErrback(self._inbox_failed)
        await self._within(self._is_open, INBOX_WAIT, "the registry passes no signals on")
        await looking
        await self._send_call()
        self._prime()  # before the peer's datagrams can be here
        self._plan_relay(self._relay_delay(target.mapping, target.candidates, RELAY_LATEST))
        self._spawn(self._repeat()).addErrback(self._not_sent)
        answer = await self._within(self._answered, ANSWER_WAIT, "it does not answer calls")
        await self._connect(answer)
        await self._within(self._no_path, PATHS_WAIT, "no path between the two networks was found")
        raise self._failed("no path between the two networks was found")

    def stop(self) -> None:
        """End what runs, but not the attempts of the dial."""
        self._is_stopped = True
        if self._relay_timer is not None and self._relay_timer.active():
            self._relay_timer.cancel()
        if self._checks is not None:
            self._checks.stop()
        running, self._running = self._running, set()
        for each in running:
            each.addErrback(lambda _: None)
            each.cancel()
        self._answered.addErrback(lambda _: None)  # a refusal that nobody has waited for yet
        if self._listener is not None:
            _let_end(self._listener.stop())
        if self._datagrams is not None:
            _let_end(self._caller.carriers.release(self._datagrams))

    async def _look(self) -> None:
        """Open the sockets of the call, and find their addresses."""
        carriers, interfaces = self._caller.carriers, interfaces_for(_ANY)
        if not carriers.has_tcp and not carriers.has_udp:
            return
        state = self._caller.network()
        if carriers.has_tcp:
            self._listener = BackListener(self._reactor, self._attempt)
            number = await self._listener.listen(interfaces)
            if number is not None:
                hosts = [PeerAddress(each.ip, number) for each in state.addresses]
                self._back = tuple(hosts[:BACK_MAX])
        asking = Deferred.fromCoroutine(self._rendezvous.stun_servers())
        servers = await asking.addTimeout(SERVERS_WAIT, self._reactor, lambda *_: ())
        if carriers.has_udp:
            self._datagrams = await carriers.new_udp(*interfaces)
        if self._datagrams is None:
            return
        port = self._datagrams.port
        self._vantage = await look_around(
            self._reactor, port, port.number or 0, servers, state, self._own.random
        )
        checks = ConnectivityChecks(
            self._attempt,
            from_base64url(self._secret, "the secret"),
            controls=True,
            random=self._own.random,
        )
        self._checks = CheckDriver(self._reactor, port, checks, self._on_check)

    def _relay_delay(
        self, mapping: Mapping, candidates: Sequence[Candidate], otherwise: float
    ) -> float:
        """Return the seconds until the relay is used; 0 if there is little hope for a direct path.

        There is little if UDP is blocked on one side, or if one NAT maps by destination and the other side has a NAT,
        too: few NATs let in what such a mapping sends. There is none without a common address family.
        """
        mappings = {self._vantage.mapping, mapping}
        own, other = (
            {each.address.is_ipv6 for each in of} for of in (self._vantage.candidates, candidates)
        )
        is_apart = bool(own and other) and not own & other
        is_blocked = Mapping.BLOCKED in mappings
        is_hard = Mapping.DEPENDENT in mappings and Mapping.NONE not in mappings
        little_hope = is_apart or ((is_blocked or is_hard) and not self._is_public)
        return 0.0 if little_hope else otherwise

    @property
    def _is_public(self) -> bool:
        """Whether the peer may be able to connect back from anywhere."""
        return any(
            not any(ipaddress.ip_address(each.ip) in network for network in PRIVATE)
            for each in self._back
        )

    def _prime(self) -> None:
        """Open the own NAT for the candidates in the peer's record."""
        if self._checks is not None:
            for each in self._target.candidates:
                self._add_remote(each.address)
            self._checks.prime(self._vantage.mapping)

    def _add_remote(self, address: PeerAddress) -> None:
        assert self._checks is not None
        ip = ipaddress.ip_address(address.ip)
        is_near = ip.is_loopback or any(ip in each for each in self._vantage.networks)
        self._checks.add_remote((address.ip, address.port), is_near=is_near)

    async def _send_call(self) -> None:
        """Send the call. A peer or registry that is away may be back within seconds, as after a change of the network.
        So the call is repeated, the longer if direct attempts still run.

        Raises:
            P2pshareError: the registry or the peer refuses, or neither comes back.
        """
        for number, pause in enumerate((*CALL_AGAIN, None)):
            try:
                await self._send_once()
                self._log.debug(
                    "called: peer={peer} attempt={attempt} candidates={candidates} mapping={mapping}",
                    peer=self._target.name,
                    attempt=self._attempt,
                    candidates=",".join(map(str, self._vantage.candidates)),
                    mapping=self._vantage.mapping,
                )
            except Unreachable:
                is_alone = self._dial.race.running <= 1
                if pause is None or (is_alone and number >= ALONE_MAX):
                    raise
                await deferLater(self._reactor, pause)
            else:
                return

    async def _send_once(self) -> None:
        await self._to.send(
            Step.CALL,
            candidates=self._vantage.candidates,
            mapping=self._vantage.mapping,
            secret=self._secret,
            room=self._room,
            back=self._back,
        )

    async def _repeat(self) -> None:
        """Repeat the call until it is answered: the registry may have sent it into a connection that is dead, or may
        be starting again. A peer that got it before ignores the repetition.
        """
        while not self._answered.called:
            await deferLater(self._reactor, REPEAT)
            if not self._answered.called:
                with suppress(Unreachable):
                    await self._send_once()

    def _link_changed(self, is_up: bool) -> None:
        if is_up and not self._is_open.called:
            self._is_open.callback(None)

    def _inbox_failed(self, failure: Failure) -> None:
        if not self._is_open.called and not failure.check(CancelledError):
            self._is_open.errback(failure)

    def _received(self, sealed: bytes) -> None:
        """Take the peer's answer; anything else is ignored."""
        self._signals += 1
        if self._signals > SIGNALS_MAX or self._answered.called:
            return
        try:
            signal = self._own.read(sealed)
        except RemoteProtocolError as error:
            self._log.debug(
                "signal ignored: peer={peer} why={why}", peer=self._target.name, why=error
            )
            return
        if (signal.attempt, signal.key) != (self._attempt, self._target.key):
            return
        if signal.step is Step.ANSWER:
            self._answered.callback(signal)
        elif signal.step is Step.REFUSED:
            self._answered.errback(self._refusal(signal.why))

    def _refusal(self, why: str) -> P2pshareError:
        name = self._target.name
        try:
            return refusal_error(name, Refused(Refusal(why)))
        except ValueError:
            return self._failed("it refuses the call")

    async def _connect(self, answer: Signal) -> None:
        """Begin with what the answer makes possible."""
        target = self._target
        candidates, _ = await allowed_candidates(
            self._reactor, target.name, answer.candidates, self._rendezvous.url
        )
        self._log.debug(
            "call answered: peer={peer} attempt={attempt} candidates={candidates} mapping={mapping}",
            peer=target.name,
            attempt=self._attempt,
            candidates=",".join(map(str, candidates)),
            mapping=answer.mapping,
        )
        if self._checks is not None:
            for each in candidates:
                self._add_remote(each.address)
            self._spawn(self._to.send(Step.GO)).addErrback(self._not_sent)
            self._checks.go()
        if self._back:
            self._spawn(self._take_back()).addErrback(lambda _: None)
        self._has_hope = self._relay_delay(answer.mapping, candidates, RELAY_DELAY) > 0.0
        if self._has_relay:  # the peer may have missed it
            self._ask_to_relay()
        self._plan_relay(self._relay_delay(answer.mapping, candidates, RELAY_DELAY))

    async def _take_back(self) -> None:
        """Let connections back take part in the race, one for each address that the peer was told."""
        assert self._listener is not None
        for _ in self._back:
            connection = await self._listener.connection()

            async def carry(user: Any, connection: Any = connection) -> None:
                connection.carry(user)

            self._dial.over_stream(connect_back.CARRIER, connection.remote, carry)

    def _on_check(self, event: CheckEvent) -> None:
        match event:
            case Reached(address):
                self._reached(address)
            case GaveUp() if self._answered.called:
                self.is_worth_repeating = self._has_hope
                if not self._no_path.called:
                    self._no_path.callback(None)

    def _reached(self, address: Address) -> None:
        """Open the session over the path that was found."""
        datagrams = self._datagrams
        self._log.debug(
            "path found: peer={peer} address={address}", peer=self._target.name, address=address
        )
        self._plan_relay(RELAY_GRACE, again=True)
        self._dial.over_udp(PeerAddress(*address), lambda _: datagrams, place=CALL)

    def _plan_relay(self, delay: float, *, again: bool = False) -> None:
        """Use the relay in `delay` seconds, or at the time that was planned if that is before, unless `again`."""
        if not self._may_relay or self._has_relay or self._is_stopped:
            return
        timer, due = self._relay_timer, self._reactor.seconds() + delay
        if timer is not None and timer.active():
            if timer.getTime() <= due and not again:
                return
            timer.cancel()
        self._relay_timer = self._reactor.callLater(delay, self._begin_relay)

    def _begin_relay(self) -> None:
        self._has_relay = True
        self._ask_to_relay()
        self._dial.over_stream("relay", self._rendezvous.url, self._join)

    async def _join(self, user: CarrierUser) -> None:
        """Meet the peer at the relay. If that fails, the peer's answer may lead to another try."""
        try:
            await self._rendezvous.join(self._own, self._room, self._target.key, user, FILE_READ)
        except P2pshareError:
            self._has_relay = False
            raise

    def _ask_to_relay(self) -> None:
        if self._vantage.candidates or self._back:  # otherwise the peer joins without being asked
            self._spawn(self._to.send(Step.RELAY, room=self._room)).addErrback(self._not_sent)

    def _not_sent(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            failure.trap(P2pshareError)
            self._log.debug(
                "signal not sent: peer={peer} why={why}", peer=self._target.name, why=failure.value
            )

    async def _within(self, waiting: Deferred[Any], seconds: float, why: str) -> Any:
        """Wait for something, for so long."""
        try:
            return await waiting.addTimeout(seconds, self._reactor)
        except TimeoutError:
            raise self._failed(why) from None

    def _failed(self, reason: str) -> CallFailed:
        return CallFailed(name=self._target.name, reason=reason)

    def _spawn(self, work: Coroutine[Deferred[Any], Any, Any] | Any) -> Deferred[Any]:
        """Run something until it ends or the call does."""
        running: Deferred[Any] = Deferred.fromCoroutine(work)
        self._running.add(running)

        def ended(result: Any) -> Any:
            self._running.discard(running)
            return result

        return running.addBoth(ended)


def _let_end(work: Coroutine[Deferred[Any], Any, None]) -> None:
    """Let something end by itself."""
    Deferred.fromCoroutine(work).addErrback(lambda failure: failure.trap(P2pshareError))
