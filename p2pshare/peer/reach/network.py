"""How a running peer knows where it can be reached, and what it publishes of that.

`OwnNetwork.location` returns the candidates of the peer and the kind of its NAT, which `NameKeeper` publishes. It is
asked before each claim and each heartbeat. When the location changes in between, `on_change` is called.

*Candidates*, the best first: the addresses that the user has given; those that the router forwards; those of the
interfaces; those from which the registry is asked, by its own word or by STUN, with the number of the welcome port; and
the mapped addresses of the UDP port, unless the NAT maps differently for each destination, when they are of no use.

*This machine only.* If the registry is reached at a loopback address, it is on this machine, and only peers on this
machine are meant. Then the loopback address is the only candidate. So it is if the user has given only such addresses.

*STUN.* While the peer is behind a NAT, the registry is asked every `REFRESH` seconds, which also keeps the mapping
alive. A single unanswered round changes nothing, since datagrams are lost. After a change of the network everything
that was learned is forgotten and asked again.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from p2pshare.core.reach.mapping import classify
from p2pshare.errors import LanUnusable, OwnAddressUnknown, RegistryNotLookedUp
from p2pshare.net.datagrams.welcome_port import WelcomePort
from p2pshare.net.dns import LookUpError, forget_names, look_up
from p2pshare.net.reach.interfaces import InterfaceAddress, IPNetwork, NetworkWatch
from p2pshare.net.reach.stun_client import StunAnswer, StunClient
from p2pshare.net.sockets import IPeerReactor, interfaces_for, local_address_towards
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.reach.stun_servers import stun_servers
from p2pshare.storage.os_errors import plain_reason
from p2pshare.storage.settings import Settings
from p2pshare.wire.addresses import LAN, PeerAddress, address_fault, is_loopback
from p2pshare.wire.reach.candidates import CANDIDATES_MAX, Candidate, CandidateKind, Mapping

REFRESH = 25.0  # seconds between two rounds of STUN behind a NAT: many forget a mapping after 30
REFRESH_OPEN = 300.0  # seconds without a NAT
REFRESH_BLOCKED = 60.0  # seconds if nothing answers
AGAIN = 2.0  # seconds after a round that nothing has answered, if something did before
MISSES_MAX = 2  # rounds without an answer after which what was known is forgotten
FIRST_WAIT = 0.5  # seconds that a location waits for a round of STUN
JITTER = 0.2  # by which a pause may be shorter, so that peers do not ask all at once


@dataclass(frozen=True, slots=True)
class OwnLocation:
    """What a peer tells others about where it is."""

    candidates: tuple[Candidate, ...]
    """None if the peer is private."""
    mapping: Mapping
    address: PeerAddress = field(compare=False)
    """The best address, to be shown to the user."""

    @property
    def ipv4_address(self) -> PeerAddress | None:
        """The best IPv4 address that may have TCP, for the classic protocol."""
        found = (each.address for each in self.candidates if each.has_tcp)
        return next((each for each in found if not each.is_ipv6), None)


class OwnNetwork:
    """The addresses of a running peer, as they are now."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        settings: Settings,
        client: Directory,
        on_change: Callable[[bool], object],
        *,
        watch: Callable[[Any, Callable[[bool], object]], NetworkWatch] = NetworkWatch,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Know the addresses after `start`.

        Args:
            reactor: for look-ups, timers and notifications.
            rng: draws the jitter of pauses.
            settings: of the peer.
            client: the registry, whose description has the STUN servers.
            on_change: called when the location may have changed; with True if connections may be broken, too.
            watch: makes the watch over this machine's addresses.
            random_bytes: draws transactions of STUN.
        """
        self._reactor = reactor
        self._rng = rng
        self._settings = settings
        self._client = client
        self._on_change = on_change
        self._random_bytes = random_bytes
        self._watch = watch(reactor, self._network_changed)
        self._state = self._watch.state  # that was acted upon
        self._number = 0  # of the welcome port, when it is open
        self._stun: StunClient | None = None
        self._round: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []  # for the end of the round
        self._timer: IDelayedCall | None = None
        self._answers: dict[PeerAddress, PeerAddress] = {}  # server -> mapped address
        self._misses = 0  # rounds in a row without any answer
        self._was_asked = False
        self._servers: tuple[PeerAddress, ...] = ()
        self._seen: dict[bool, str] = {}  # whether it is IPv6 -> the registry's word
        self._seen_before: dict[bool, str] = {}  # the same, before the last change of the network
        self._forwarded: tuple[PeerAddress, ...] = ()
        self._towards: str | None = None  # the own address towards the registry
        self._told: OwnLocation | None = None

    def start(self) -> None:
        """Read the addresses, and watch them."""
        self._watch.start()
        self._state = self._watch.state

    def opened(self, number: int, port: WelcomePort) -> None:
        """Use the welcome port of this number, which is open now."""
        self._number = number
        self._stun = StunClient(self._reactor, port, self._random_bytes)

    def stop(self) -> None:
        """Stop asking and watching."""
        self._watch.stop()
        self._cancel_round()
        if self._stun is not None:
            self._stun.stop()

    @property
    def is_private(self) -> bool:
        """Whether the peer publishes no candidates."""
        return self._settings.private

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates as they are known now, also those of a private peer; none before the ports are open."""
        return self._candidates() if self._number else ()

    @property
    def mapping(self) -> Mapping:
        """How the NAT in front of this machine maps."""
        if self.is_local:
            return Mapping.NONE
        if not self._answers:
            return Mapping.BLOCKED if self._was_asked and self._misses else Mapping.UNKNOWN
        return classify(self._answers, self._own())

    @property
    def interface_addresses(self) -> tuple[InterfaceAddress, ...]:
        """The addresses of this machine for others."""
        return tuple(self._watch.state.addresses)

    @property
    def servers(self) -> tuple[PeerAddress, ...]:
        """The STUN servers that were asked last."""
        return self._servers

    @property
    def mapped(self) -> dict[PeerAddress, PeerAddress]:
        """The addresses from which they were asked, by server; without those that did not answer."""
        return dict(self._answers)

    @property
    def networks(self) -> tuple[IPNetwork, ...]:
        """The networks that are reached without a router."""
        return tuple(each.network for each in self._watch.state.addresses)

    @property
    def seen(self) -> str | None:
        """The IP address from which the registry was asked, IPv4 if both are known; None before it was."""
        return self._seen.get(False) or self._seen.get(True)

    async def interfaces(self) -> tuple[str, ...]:
        """Return the addresses to listen on.

        Raises:
            P2pshareError: as for `location`.
        """
        await self._find_own_address()
        given = self._settings.address
        if self.is_local:
            return tuple(given) or interfaces_for(self._towards or "")
        return interfaces_for(next((each for each in given if not is_loopback(each)), "0.0.0.0"))

    async def location(self) -> OwnLocation:
        """Return where the peer can be reached.

        Raises:
            RegistryNotLookedUp: the name of the registry cannot be looked up.
            OwnAddressUnknown: there is no route to the registry, or no address at which the peer could be reached.
        """
        await self._find_own_address()
        await self._round_done()
        candidates = self._candidates()
        if not candidates and not self.is_private:
            reason = f"the address towards the registry is {self._towards}, which {self._fault()}"
            raise OwnAddressUnknown(reason=reason)
        best = [each.address for each in sorted(candidates, key=lambda each: not each.has_tcp)]
        address = best[0] if best else PeerAddress(self._towards or "", self._number)
        if self.is_private:
            self._told = OwnLocation((), Mapping.UNKNOWN, address)
        else:
            self._told = OwnLocation(candidates, self.mapping, address)
        return self._told

    def seen_at(self, ip: str) -> None:
        """Take the registry's word for the IP address from which it was asked."""
        try:
            is_wrong = is_loopback(ip) or address_fault(ip) is not None
        except ValueError:
            return
        if not is_wrong:
            self._seen[":" in ip], self._seen_before = ip, {}
            self._tell_change()

    def forwarded_at(self, addresses: Sequence[PeerAddress]) -> None:
        """Publish addresses that the router forwards to the welcome port, and no other ones."""
        self._forwarded = tuple(addresses)
        self._tell_change()

    def status(self) -> dict[str, Any]:
        """Return the members of the peer's status that concern its addresses."""
        return {
            "candidates": [] if self.is_private else [str(each) for each in self.candidates],
            "mapping": self.mapping.value,
            "private": self.is_private,
        }

    @property
    def is_local(self) -> bool:
        """Whether only peers on this machine are meant."""
        given = self._settings.address
        if given:
            return all(map(is_loopback, given))
        return self._towards is not None and is_loopback(self._towards)

    def _own(self) -> list[str]:
        """Return the IP addresses of the interfaces, also one that is only known by the route to the registry."""
        own = [each.ip for each in self._watch.state.addresses]
        towards = self._towards
        if towards is not None and towards not in own and self._fault() is None:
            own.insert(0, towards)
        return own

    def _fault(self) -> str | None:
        """Return why others cannot reach the address towards the registry."""
        return "is unknown" if self._towards is None else address_fault(self._towards)

    def _candidates(self) -> tuple[Candidate, ...]:
        given = self._at_port(self._settings.address)
        if self.is_local:
            if given:
                return _distinct((CandidateKind.GIVEN, given))
            return _distinct((CandidateKind.HOST, self._at_port([self._towards or ""])))
        mapped = list(dict.fromkeys(self._answers.values()))
        seen = self._at_port(
            ip
            for family in (False, True)
            for ip in (
                self._seen.get(family)
                or _first_of(mapped, family)
                or self._seen_before.get(family),
            )
            if ip is not None
        )
        if self.mapping is Mapping.DEPENDENT:
            mapped = []
        few = _distinct(
            (CandidateKind.GIVEN, given),
            (CandidateKind.FORWARDED, self._forwarded),
            (CandidateKind.SEEN, seen),
            (CandidateKind.MAPPED, mapped),
        )
        hosts = self._at_port(self._own())
        taken = {each.address for each in few if each.address not in hosts}
        room = max(1, CANDIDATES_MAX - len(taken))
        return _distinct(
            (CandidateKind.GIVEN, given),
            (CandidateKind.FORWARDED, self._forwarded),
            (CandidateKind.HOST, hosts[:room]),
            (CandidateKind.SEEN, seen),
            (CandidateKind.MAPPED, mapped),
        )

    def _at_port(self, ips: Iterable[str]) -> list[PeerAddress]:
        return [PeerAddress(ip, self._number) for ip in ips]

    async def _find_own_address(self) -> None:
        """Find the address from which the registry is reached; a user who has given addresses may do without.

        Raises:
            P2pshareError: as for `location`.
        """
        try:
            self._towards = await self._address_towards_registry()
        except (RegistryNotLookedUp, OwnAddressUnknown, LanUnusable):
            if not self._settings.address:
                raise

    async def _address_towards_registry(self) -> str:
        registry = self._client.url
        if registry == LAN:
            own = sorted(
                (each.ip for each in self._watch.state.addresses), key=lambda ip: ":" in ip
            )
            if not own:
                raise LanUnusable(registry=LAN, reason="this machine has no address in a network")
            return own[0]
        url = urlsplit(registry)
        try:
            answer = await look_up(self._reactor, url.hostname or "")
        except LookUpError as error:
            raise RegistryNotLookedUp(registry=registry, reason=error.reason) from error
        reasons = []
        for host in sorted(answer, key=lambda ip: ":" in ip)[:CANDIDATES_MAX]:
            try:
                return local_address_towards(host, url.port or 80)
            except OSError as error:
                reasons.append(f"{host} ({plain_reason(error)})")
        reason = f"there is no route to the registry's address {reasons[0]}"
        raise OwnAddressUnknown(reason=reason)

    def _network_changed(self, is_resumed: bool) -> None:
        """Take a change of the addresses.

        A change that the way to the registry does not notice, such as that of a virtual network, is only published.
        After any other one, what was learned is forgotten and asked again, and connections may be broken.
        """
        before, self._state = self._state, self._watch.state
        kept = {each.ip for each in before.addresses} & {each.ip for each in self._state.addresses}
        has_same_way = before.sources == self._state.sources and self._towards in kept
        if has_same_way and not is_resumed:
            self._tell_change()
            return
        forget_names(self._reactor)
        self._cancel_round()
        self._seen_before, self._seen = {**self._seen_before, **self._seen}, {}
        self._answers, self._misses = {}, 0
        self._on_change(True)

    def _tell_change(self) -> None:
        """Tell if the location is not the one that was told last."""
        told = self._told
        if told is None or self.is_private or not self._number:
            return
        if (told.candidates, told.mapping) != (self._candidates(), self.mapping):
            self._on_change(False)

    async def _round_done(self) -> None:
        """Begin a round of STUN if none has begun yet, and wait for the one that runs, but not for long."""
        if self._round is None and self._timer is None:
            self._begin_round()
        if self._round is not None:
            done: Deferred[None] = Deferred()
            self._waiting.append(done)
            await done.addTimeout(FIRST_WAIT, self._reactor, lambda *_: None)

    def _begin_round(self) -> None:
        self._timer = None
        description = self._client.description
        if self._stun is None or self.is_local or self.is_private or description is None:
            return
        self._round = Deferred.fromCoroutine(self._ask(self._stun, description.stun))
        self._round.addErrback(self._round_failed).addBoth(lambda _: self._round_over())

    def _round_failed(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self._log.failure("STUN failed", failure)

    def _round_over(self) -> None:
        self._round = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(None)

    def _cancel_round(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._round is not None:
            self._round.cancel()

    async def _ask(self, client: StunClient, stun: Sequence[str]) -> None:
        """Ask all servers once, and plan the next round."""
        servers = await stun_servers(self._reactor, stun, self._client.url)
        servers = tuple(each for each in servers if _has_route(each))
        before = self.mapping
        asking = [client.ask(each) for each in servers]
        try:
            found: list[StunAnswer | None] = [await each for each in asking]
        finally:  # if this round is cancelled
            for each in asking:
                each.addErrback(lambda _: None).cancel()
        answers = {each.server: each.mapped for each in found if each is not None}
        self._was_asked, self._servers = bool(servers), servers
        self._misses = 0 if answers or not servers else self._misses + 1
        if answers:
            kept = {server: self._answers[server] for server in servers if server in self._answers}
            self._answers = {**kept, **answers}
        elif self._misses >= MISSES_MAX or not servers:
            self._answers = {}
        if self.mapping is not before:
            self._log.info("NAT examined: mapping={mapping}", mapping=self.mapping.value)
        self._timer = self._reactor.callLater(self._pause(bool(answers)), self._begin_round)
        self._tell_change()

    def _pause(self, is_answered: bool) -> float:
        """Return the seconds until the next round."""
        if self._answers and not is_answered:
            return AGAIN
        pause = REFRESH
        if self.mapping is Mapping.NONE:
            pause = REFRESH_OPEN
        elif not self._answers:
            pause = REFRESH_BLOCKED
        return pause * self._rng.uniform(1 - JITTER, 1)


def _distinct(*groups: tuple[CandidateKind, Iterable[PeerAddress]]) -> tuple[Candidate, ...]:
    """Return candidates in the order of their groups, each address once, as far as there is room."""
    found: dict[PeerAddress, Candidate] = {}
    for kind, addresses in groups:
        for address in addresses:
            found.setdefault(address, Candidate(kind, address))
    return tuple(found.values())[:CANDIDATES_MAX]


def _first_of(addresses: Iterable[PeerAddress], is_ipv6: bool) -> str | None:
    return next((each.ip for each in addresses if each.is_ipv6 == is_ipv6), None)


def _has_route(server: PeerAddress) -> bool:
    try:
        local_address_towards(server.ip, server.port)
    except OSError:
        return False
    return True
