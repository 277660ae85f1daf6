"""Sockets for a welcome port and its sessions, and the local address that leads to another machine."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar, cast

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorCore,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUDP,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import DatagramProtocol, ServerFactory

from p2pshare.errors import PortUnusable
from p2pshare.storage.reasons import plain_reason
from p2pshare.wire.addresses import PeerAddress, is_loopback
from p2pshare.wire.udp import DATAGRAM_MAX

RECEIVE_BUFFER = 4 * 1024 * 1024  # bytes asked for; the system may give less
SEND_BUFFER = 1024 * 1024  # bytes asked for
READ_AT_ONCE = 32 * 1024  # bytes taken from a socket before timers and signals have their turn
WELCOME_PORTS = range(49152, 65536)  # the dynamic ports (RFC 6335, section 6)
PORT_TRIES = 50

T = TypeVar("T")
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class IPeerReactor(
    IReactorCore,
    IReactorTime,
    IReactorTCP,
    IReactorUDP,
    IReactorThreads,
    IReactorPluggableNameResolver,
):
    """All that a peer needs of a reactor."""


def listen_udp(
    reactor: IReactorUDP, port: int, protocol: DatagramProtocol, interface: str
) -> IListeningPort:
    """Bind a UDP socket that takes datagrams of any size, with room for many.

    Raises:
        PortUnusable: the port is in use, or not ours to use.
    """
    try:
        if port:  # Twisted leaves a socket that it cannot bind to the garbage collector
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((interface, port))
        listening = reactor.listenUDP(port, protocol, interface, maxPacketSize=DATAGRAM_MAX + 1)
    except (OSError, CannotListenError) as error:
        failed = error.socketError if isinstance(error, CannotListenError) else error
        raise PortUnusable(port=port, reason=plain_reason(failed)) from error
    listening.maxThroughput = READ_AT_ONCE  # type: ignore[attr-defined]
    bound = cast("socket.socket", listening.getHandle())  # type: ignore[attr-defined]
    with contextlib.suppress(OSError):
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return listening


async def listen_tcp(
    reactor: IReactorTCP, port: int, factory: ServerFactory, interface: str
) -> IListeningPort:
    """Listen for connections.

    Raises:
        PortUnusable: the port is in use, or not ours to use.
    """
    kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    try:
        listening: IListeningPort = await kind(reactor, port, interface=interface).listen(factory)
        return listening
    except CannotListenError as error:
        raise PortUnusable(port=port, reason=plain_reason(error.socketError)) from error


def client_endpoint(
    reactor: IReactorTCP, address: PeerAddress, timeout: float
) -> IStreamClientEndpoint:
    """Return an endpoint that connects to an address within `timeout` seconds."""
    kind = TCP6ClientEndpoint if address.is_ipv6 else TCP4ClientEndpoint
    return kind(reactor, address.ip, address.port, timeout)


def expect_free(port: int, interface: str) -> None:
    """Try whether both the TCP and the UDP port of a number could be listened on just now.

    Raises:
        PortUnusable: one of them is in use, or not ours to use.
    """
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as probe:
                if kind is socket.SOCK_STREAM:  # as Twisted does
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((interface, port))
    except OSError as error:
        raise PortUnusable(port=port, reason=plain_reason(error)) from error


async def listen_welcome(port: int, rng: random.Random, listen: Callable[[int], Awaitable[T]]) -> T:
    """Listen on the number of a welcome port: `port`, or one of the dynamic ports at random if it is 0.

    Args:
        port: from 0 on.
        rng: draws numbers.
        listen: takes whatever is to be taken of a number, or nothing and raises `PortUnusable`.

    Returns:
        What `listen` returned.

    Raises:
        PortUnusable: the port, or every port that was tried, is in use.
    """
    for _ in range(0 if port else PORT_TRIES - 1):
        with contextlib.suppress(PortUnusable):
            return await listen(rng.choice(WELCOME_PORTS))
    return await listen(port or rng.choice(WELCOME_PORTS))


def port_of(listening: IListeningPort) -> int:
    """The number of a port."""
    return int(cast("IPv4Address", listening.getHost()).port)


def local_address_towards(ip: str, port: int) -> str:
    """The address of this machine from which `ip` is reached, by the routing table: nothing is sent.

    Raises:
        OSError: there is no route.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((ip, port))
        return str(probe.getsockname()[0])


def addresses_of_this_machine() -> list[IPAddress]:
    """The addresses at which others may reach this machine: of IPv4 and IPv6, without loopback and link-local ones.

    Linux lists them in /proc. Elsewhere they are those of the default routes, and those that the host name has.
    """
    found: dict[IPAddress, None] = {}
    try:
        texts = [*_linux_ipv4(), *_linux_ipv6()]
    except OSError:
        texts = [*_default_routes(), *_of_host_name()]
    for each in texts:
        address = ipaddress.ip_address(each.partition("%")[0])
        if not (address.is_loopback or address.is_link_local or address.is_unspecified):
            found[address] = None
    return list(found)


def _linux_ipv4() -> Iterator[str]:
    """The leaves of the kernel's routes that are addresses of its own."""
    leaf = ""
    with open("/proc/net/fib_trie", encoding="ascii") as table:
        for line in table:
            if "|--" in line:
                leaf = line.split()[-1]
            elif "/32 host LOCAL" in line:
                yield leaf


def _linux_ipv6() -> Iterator[str]:
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            for line in table:
                yield str(ipaddress.IPv6Address(int(line.split()[0], 16)))
    except FileNotFoundError:  # a kernel without IPv6
        return


def _default_routes() -> Iterator[str]:
    for outside in ("192.0.2.1", "2001:db8::1"):  # addresses of documentation: nothing is sent
        with contextlib.suppress(OSError):
            yield local_address_towards(outside, 9)


def _of_host_name() -> Iterator[str]:
    with contextlib.suppress(OSError):
        for *_, address in socket.getaddrinfo(socket.gethostname(), None):
            yield str(address[0])


def interface_for(ip: str) -> str:
    """Return the address to listen on so as to be reached at `ip`: a loopback address, or all of its family.

    A peer that is known under a loopback address serves this machine alone. Any other address may be a router's, or
    change, and cannot be bound.
    """
    if is_loopback(ip):
        return ip
    return "::" if ":" in ip else "0.0.0.0"
