"""Connectivity checks over real sockets in the homes of the lab: many ends in one process, in real time."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from p2pshare.core.datagram_core import Address
from p2pshare.core.reach.checks import CheckEvent, ConnectivityChecks, Reached
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach import stun
from tests.lab.homes import REGISTRY_IPV4, REGISTRY_IPV6, Home, HomeKind, Internet

SIZE_MAX = 2048  # bytes of a datagram
STUN_PORTS = 8000, 8001
STUN_TIMEOUT = 0.5  # s
TIMEOUT = 20.0  # s of all attempts
SECRET = b"s" * 32

OnDatagram = Callable[[bytes, Address], None]


@dataclass(eq=False)
class End:
    """One end of an attempt, with a UDP socket in its home."""

    home: Home
    socket: socket.socket
    checks: ConnectivityChecks
    mapped: list[Address] = field(default_factory=list)
    """By the answers of the registry's ports, as far as they came."""
    events: list[CheckEvent] = field(default_factory=list)

    @property
    def candidates(self) -> list[Address]:
        """Its own address, and the mapped ones."""
        port = self.socket.getsockname()[1]
        return list(dict.fromkeys([(self.home.host_ip, port), *self.mapped[:1]]))

    @property
    def reached(self) -> Reached | None:
        """The pair that works."""
        return next((each for each in self.events if isinstance(each, Reached)), None)

    def send(self, data: bytes, address: Address, ttl: int | None = None) -> None:
        """Send a datagram; an address without a route is ignored."""
        is_ipv6 = self.socket.family == socket.AF_INET6
        level, option = (
            (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
            if is_ipv6
            else (socket.IPPROTO_IP, socket.IP_TTL)
        )
        self.socket.setsockopt(level, option, 64 if ttl is None else ttl)
        if is_ipv6 == (":" in address[0]):
            with contextlib.suppress(OSError):
                self.socket.sendto(data, address)


class CheckingLab:
    """Ends in homes, a STUN server in the registry's namespace, and the loop that runs them."""

    def __init__(self, net: Internet, stack: contextlib.ExitStack) -> None:
        """Start the STUN server; `stack` closes all sockets."""
        self._stack = stack
        self._selector = stack.enter_context(selectors.DefaultSelector())
        for ip in REGISTRY_IPV4, REGISTRY_IPV6:
            for port in STUN_PORTS:
                with net.registry.entered():
                    server = self._bound(ip, port)
                self._listen(server, _answering(server))

    def pair(self, opener: Home, acceptor: Home) -> tuple[End, End]:
        """Make the two ends of an attempt, which know each other's candidates."""
        attempt = os.urandom(8).hex()
        ends = []
        for home in opener, acceptor:
            with home.host.entered():
                made = self._bound("::" if home.kind is HomeKind.IPV6_ONLY else "0.0.0.0", 0)
            checks = ConnectivityChecks(attempt, SECRET, controls=home is opener, random=os.urandom)
            ends.append(end := End(home, made, checks))
            self._listen(made, self._on_stun(end))
            for port in STUN_PORTS:
                request = stun.padded_request(os.urandom(stun.TRANSACTION_SIZE))
                end.send(request, (home.registry_ip, port))
        return ends[0], ends[1]

    def run(self, pairs: Iterable[tuple[End, End]], skew: float, *, is_primed: bool = True) -> None:
        """Run the attempts side by side: the openers go `skew` seconds after priming, the acceptors as much later."""
        pairs = list(pairs)
        self._turn(
            time.monotonic() + STUN_TIMEOUT,
            lambda: all(len(end.mapped) == len(STUN_PORTS) for pair in pairs for end in pair),
        )
        now = time.monotonic()
        ends = [end for pair in pairs for end in pair]
        for opener, acceptor in pairs:
            for one, other in ((opener, acceptor), (acceptor, opener)):
                self._selector.modify(one.socket, selectors.EVENT_READ, self._on_check(one))
                for address in other.candidates:
                    one.checks.add_remote(address, now)
                if is_primed:
                    one.checks.prime(now)
        starts = [(now + skew, pair[0]) for pair in pairs]
        starts += [(now + 2 * skew, pair[1]) for pair in pairs]

        def is_done() -> bool:
            now = time.monotonic()
            for start in [each for each in starts if each[0] <= now]:
                starts.remove(start)
                start[1].checks.go(now)
            for end in ends:
                self._work(end, now)
            return all(end.checks.is_over or end.reached for end in ends)

        self._turn(now + TIMEOUT, is_done)

    def _work(self, end: End, now: float) -> None:
        end.checks.handle_timer(now)
        for data, address, ttl in end.checks.datagrams_to_send(now):
            end.send(data, address, ttl)
        end.events += iter(end.checks.next_event, None)

    def _turn(self, until: float, is_done: Callable[[], bool]) -> None:
        while not is_done() and time.monotonic() < until:
            for key, _ in self._selector.select(0.005):
                data, source = key.fileobj.recvfrom(SIZE_MAX)  # type: ignore[union-attr]
                key.data(data, source[:2])

    def _bound(self, ip: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        made = self._stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        made.bind((ip, port))
        return made

    def _listen(self, made: socket.socket, on_datagram: OnDatagram) -> None:
        self._selector.register(made, selectors.EVENT_READ, on_datagram)

    @staticmethod
    def _on_stun(end: End) -> OnDatagram:
        def take(data: bytes, _: Address) -> None:
            answer = stun.parse(data)
            if answer is not None and answer.mapped is not None:
                end.mapped.append((answer.mapped.ip, answer.mapped.port))

        return take

    @staticmethod
    def _on_check(end: End) -> OnDatagram:
        def take(data: bytes, source: Address) -> None:
            end.checks.receive(data, source, time.monotonic())

        return take


def _answering(server: socket.socket) -> OnDatagram:
    def answer(data: bytes, source: Address) -> None:
        if (reply := stun.answer_to(data, PeerAddress(*source))) is not None:
            server.sendto(reply, source)

    return answer


@contextlib.contextmanager
def checking_lab(net: Internet) -> Iterator[CheckingLab]:
    """Make a lab for connectivity checks on an internet of homes."""
    with contextlib.ExitStack() as stack:
        yield CheckingLab(net, stack)
