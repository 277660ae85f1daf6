"""STUN (RFC 8489): a registry tells peers, over UDP, from which address their datagrams come."""

# Anybody can send a datagram with a forged source address, and the answer goes to that address. So an answer is never
# longer than its request (`wire.reach.stun.answer_to`): sending the request straight to the victim costs less. There is
# no other answer, also none to an error. A network gets a bounded number of answers per second, and all networks
# together, which bounds the processor time. Nothing is kept but these two counts, so several processes share a port by
# `SO_REUSEPORT`.
#
# There are two ports, so that a peer can see whether its NAT maps it to another address for another destination.
#
# The answer must come from the address that was asked, or a NAT drops it. A socket on every address of a machine would
# send from the address that the routing table chooses. So the destination of each request is read (`IP_PKTINFO`), and
# is the source of its answer. Twisted's UDP ports cannot do that; this is why the socket is read here.

from __future__ import annotations

import ipaddress
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from p2pshare.core.rate import RateLimit
from p2pshare.errors import CannotStart
from p2pshare.net.sockets import takes_both_families
from p2pshare.storage.os_errors import plain_reason
from p2pshare.web.client_addresses import origin_of
from p2pshare.wire.addresses import PeerAddress, is_loopback, stun_place
from p2pshare.wire.reach.stun import MESSAGE_MAX, answer_to, is_stun
from p2pshare.wire.registry_answers import STUN_MAX

ANSWERS_PER_S, ANSWERS_BURST = 50.0, 200  # to one network: a /24 of IPv4, or a /56 of IPv6
ALL_ANSWERS_PER_S, ALL_ANSWERS_BURST = 5_000.0, 5_000  # of one process
NETWORKS_MAX = 4096  # networks whose answers are counted
PORTS_WANTED = 2  # at each address of the registry
TRIES = 6  # numbers, from that of the registry's port on
SOCKETS_MAX = 8
READ_MAX = 64  # datagrams that are read before others have their turn
_PKTINFO_SPACE = 64  # bytes
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # Python has the number since 3.14; 8 on Linux


class StunPlace(NamedTuple):
    """Where a socket is bound."""

    host: str
    """An IP address."""
    number: int


class StunResponder:
    """Decides which datagrams are answered."""

    def __init__(
        self,
        now: float,
        *,
        count: Callable[[str], object] = lambda _: None,
        networks_max: int = NETWORKS_MAX,
    ) -> None:
        """Answer from `now` on, in s; `count` is called with the outcome of each datagram."""
        self.count = count
        self._networks_max = networks_max
        self._all = _limit(ALL_ANSWERS_PER_S, ALL_ANSWERS_BURST, now)
        self._networks: OrderedDict[str, RateLimit] = OrderedDict()

    def __len__(self) -> int:
        """The number of networks whose answers are counted."""
        return len(self._networks)

    def answer(self, data: bytes, host: str, port: int, now: float) -> bytes | None:
        """Return the answer to a datagram from an IP address and a port; None if there is none."""
        origin = origin_of(host)
        if not (is_stun(data) and port and origin.ip):
            self.count("ignored")
            return None
        limits = (self._all, self._of_network(origin.network, now))
        if any(limit.available(now) < 1 for limit in limits):
            self.count("limited")
            return None
        answer = answer_to(data, PeerAddress(origin.ip, port))
        if answer is None:
            self.count("ignored")
            return None
        for limit in limits:
            limit.spend(1, now)
        self.count("answered")
        return answer

    def _of_network(self, network: str, now: float) -> RateLimit:
        found = self._networks.get(network)
        if found is None:
            found = self._networks[network] = _limit(ANSWERS_PER_S, ANSWERS_BURST, now)
            if len(self._networks) > self._networks_max:
                self._networks.popitem(last=False)
        else:
            self._networks.move_to_end(network)
        return found


def _limit(per_second: float, burst: int, now: float) -> RateLimit:
    return RateLimit(per_second, now, burst_time=burst / per_second, burst_min=burst)


@implementer(IReadDescriptor)
class StunPort:
    """One socket."""

    _log = Logger()

    def __init__(
        self, reactor: Any, responder: StunResponder, place: StunPlace, *, shared: bool, dual: bool
    ) -> None:
        """Bind the socket, and answer.

        Args:
            reactor: reads it.
            responder: has the answers.
            place: where to bind it.
            shared: let other processes of this user bind it as well.
            dual: take datagrams over IPv4, too, if `place` is every IPv6 address.

        Raises:
            OSError: it cannot be bound.
        """
        self._reactor = reactor
        self._responder = responder
        family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            if shared:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual))
            self._has_destination = self._ask_for_destination(family)
            self._socket.bind((place.host, place.number))
        except BaseException:
            self._socket.close()
            raise
        self.number: int = self._socket.getsockname()[1]
        reactor.addReader(self)

    def _ask_for_destination(self, family: int) -> bool:
        """Let the kernel tell where each datagram was sent to; return whether it can."""
        try:
            if family == socket.AF_INET:
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            else:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        except (OSError, AttributeError):
            return False
        return hasattr(self._socket, "recvmsg")

    def fileno(self) -> int:
        """See `IReadDescriptor`."""
        return self._socket.fileno()

    def logPrefix(self) -> str:  # noqa: N802 - the reactor calls it
        """See `IReadDescriptor`."""
        return "stun"

    def connectionLost(self, reason: Failure) -> None:
        """See `IReadDescriptor`."""
        self.close()

    def close(self) -> None:
        """Close the socket."""
        if self._socket.fileno() >= 0:
            self._reactor.removeReader(self)
            self._socket.close()

    def doRead(self) -> None:
        """Answer datagrams until nothing is left, or others must have their turn."""
        now = self._reactor.seconds()
        for _ in range(READ_MAX):
            try:
                # One byte more than a message can have: what is longer is cut, and not answered.
                if self._has_destination:
                    data, told, _, source = self._socket.recvmsg(MESSAGE_MAX + 1, _PKTINFO_SPACE)
                else:
                    (data, source), told = self._socket.recvfrom(MESSAGE_MAX + 1), []
            except BlockingIOError:
                return
            except OSError:  # such as an ICMP error that an answer has caused
                continue
            answer = self._responder.answer(data, source[0], source[1], now)
            if answer is not None:
                self._send(answer, source, told)

    def _send(self, answer: bytes, source: Any, told: list[tuple[int, int, bytes]]) -> None:
        try:
            if self._has_destination:
                self._socket.sendmsg([answer], [_from_there(each) for each in told], 0, source)
            else:
                self._socket.sendto(answer, source)
        except OSError as error:  # no route, or no room: the peer asks again
            self._log.debug("answer not sent: to={to} reason={why}", to=source[0], why=error)


def _from_there(told: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """Return the control message that makes the destination of a request the source of its answer.

    The interface is left to the routing table, since the way back may be another one.
    """
    level, kind, value = told
    if level == socket.IPPROTO_IP:  # struct in_pktinfo: the interface, our address, the destination
        return level, kind, bytes(4) + value[4:]
    return level, kind, value[:16] + bytes(len(value) - 16)  # struct in6_pktinfo


class StunPorts:
    """The STUN ports of one process of a registry."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        wanted: Sequence[str] | None = None,
        *,
        places: Sequence[StunPlace] | None = None,
        is_behind_proxy: bool = False,
    ) -> None:
        """Prepare them; none is open yet.

        Args:
            reactor: reads the sockets.
            wanted: what peers are told, `PORT` or `HOST:PORT`; by default the numbers of the registry's ports.
            places: where a worker binds the sockets, which it shares.
            is_behind_proxy: do not tell peers ports of the loopback interface: the proxy does not pass them on.
        """
        self._reactor = reactor
        self._wanted = wanted
        self._given = places
        self._is_behind_proxy = is_behind_proxy
        self._open: list[tuple[StunPlace, StunPort]] = []
        self.responder = StunResponder(reactor.seconds())

    @property
    def places(self) -> tuple[StunPlace, ...]:
        """Where the sockets are bound, for workers."""
        return tuple(place for place, _ in self._open)

    @property
    def told(self) -> tuple[str, ...]:
        """What peers are told."""
        if self._wanted is not None:
            return tuple(self._wanted)
        numbers = dict.fromkeys(
            str(place.number)
            for place, _ in self._open
            if not (self._is_behind_proxy and is_loopback(place.host))
        )
        return tuple(numbers)[:STUN_MAX]

    def open(self, ports: Iterable[IListeningPort]) -> None:
        """Bind the sockets that belong to the open TCP ports of the registry.

        Raises:
            CannotStart: a port that was wanted cannot be bound.
        """
        if self._given is not None:
            for place in self._given:
                self._bind(place, self._given, shared=True)
        elif self._wanted is not None:
            host = "::" if takes_both_families() else "0.0.0.0"
            places = [StunPlace(host, stun_place(each)[1]) for each in self._wanted]
            for place in dict.fromkeys(places):
                self._bind(place, places)
        else:
            self._open_beside(list(map(_place_of, ports)))

    def _open_beside(self, found: Sequence[StunPlace | None]) -> None:
        """Bind the number of each TCP port and the next one, or later ones if another program has them."""
        places = [place for place in found if place is not None]
        for place in places:
            bound = 0
            for number in range(place.number, min(place.number + TRIES, 65536)):
                own = place._replace(number=number)
                if bound < PORTS_WANTED and len(self._open) < SOCKETS_MAX:
                    bound += own in self.places or self._try(own, places)

    def _try(self, place: StunPlace, places: Sequence[StunPlace]) -> bool:
        try:
            self._bind(place, places)
        except CannotStart as error:
            self._log.info("stun port not open: port={n} reason={why!s}", n=place.number, why=error)
            return False
        return True

    def _bind(self, place: StunPlace, places: Sequence[StunPlace], *, shared: bool = False) -> None:
        dual = all(":" in each.host for each in places)
        try:
            port = StunPort(self._reactor, self.responder, place, shared=shared, dual=dual)
        except OSError as error:
            reason = f"it cannot listen on UDP port {place.number}: {plain_reason(error)}"
            raise CannotStart(what="The registry", reason=reason) from error
        self._open.append((StunPlace(place.host, port.number), port))

    def close(self) -> None:
        """Close the sockets."""
        ports, self._open = self._open, []
        for _, port in ports:
            port.close()


def _place_of(port: IListeningPort) -> StunPlace | None:
    """Return the address and the number of a TCP port; None for another kind."""
    end: Any = port.getHost()
    host = getattr(end, "host", "").partition("%")[0]
    try:
        return StunPlace(str(ipaddress.ip_address(host)), end.port)
    except ValueError:
        return None
