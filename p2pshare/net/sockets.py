"""Opens the ports of a peer, connects to others, and finds the addresses of this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
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
    IReactorSocket,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUDP,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, ServerFactory

from p2pshare.errors import PortUnusable
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.addresses import PeerAddress, is_loopback
from p2pshare.wire.datagrams import DATAGRAM_MAX

RECEIVE_BUFFER = 4 * 1024 * 1024  # bytes asked for; the system may give less
SEND_BUFFER = 1024 * 1024  # bytes asked for
READ_AT_ONCE = 32 * 1024  # bytes read from a socket before timers and signals get their turn
WELCOME_PORTS = range(49152, 65536)  # the dynamic ports (RFC 6335, section 6)
PORT_TRIES = 50
PROBES_MAX = 4  # keep-alive probes without an answer until the system gives a connection up
BACKLOG = 50  # connections that wait to be accepted, as Twisted has it
ALL_IPV4, ALL_IPV6 = "0.0.0.0", "::"
"""What to listen on for all addresses of a family."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class IPeerReactor(
    IReactorCore,
    IReactorTime,
    IReactorTCP,
    IReactorUDP,
    IReactorSocket,
    IReactorThreads,
    IReactorPluggableNameResolver,
):
    """The parts of a reactor that a peer needs."""


def listen_udp(
    reactor: IReactorUDP, port: int, protocol: DatagramProtocol, interface: str
) -> IListeningPort:
    """Bind a UDP socket that takes datagrams of any size, with room for many.

    Raises:
        PortUnusable: the port is in use, or reserved.
    """
    try:
        if port:  # Twisted leaves a socket that it cannot bind to the garbage collector
            _expect_bindable(socket.SOCK_DGRAM, port, interface)
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
    """Listen for connections. On all IPv6 addresses, the port has no connections over IPv4.

    Raises:
        PortUnusable: the port is in use, or reserved.
    """
    if interface == ALL_IPV6:
        return _listen_ipv6_only(reactor, port, factory)
    kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    try:
        listening: IListeningPort = await kind(reactor, port, interface=interface).listen(factory)
        return listening
    except CannotListenError as error:
        raise PortUnusable(port=port, reason=plain_reason(error.socketError)) from error


def _listen_ipv6_only(reactor: IReactorTCP, port: int, factory: ServerFactory) -> IListeningPort:
    """Listen on all IPv6 addresses, and leave the IPv4 port of the number alone, which Twisted's own port takes, too.

    Raises:
        PortUnusable: the port is in use, or reserved.
    """
    with contextlib.ExitStack() as stack:
        try:
            bound = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
            bound.setblocking(False)
            _bind(bound, ALL_IPV6, port)
            bound.listen(BACKLOG)
        except OSError as error:
            raise PortUnusable(port=port, reason=plain_reason(error)) from error
        adopting = cast("IReactorSocket", reactor)  # it duplicates the descriptor
        return adopting.adoptStreamPort(bound.fileno(), socket.AF_INET6, factory)


def client_endpoint(
    reactor: IReactorTCP, address: PeerAddress, timeout: float
) -> IStreamClientEndpoint:
    """Return an endpoint that connects to an address within `timeout` seconds."""
    kind = TCP6ClientEndpoint if address.is_ipv6 else TCP4ClientEndpoint
    return kind(reactor, address.ip, address.port, timeout)


def connect_to(endpoint: IStreamClientEndpoint, protocol: Protocol) -> Deferred[Any]:
    """Connect a protocol, as `connectProtocol` does, which logs each connection."""
    factory = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    return cast("Deferred[Any]", endpoint.connect(factory))


def tcp_socket(transport: Any) -> socket.socket | None:
    """Return the socket below a transport, such as one of TLS or HTTP; None if it is in memory."""
    while transport is not None and not hasattr(transport, "socket"):
        transport = getattr(transport, "transport", None)
    return None if transport is None else cast(socket.socket, transport.socket)


def keep_alive(transport: Any, seconds: int) -> None:
    """Let the system probe a TCP connection that was idle for so long, and again as often.

    A router that has forgotten the connection, since it was restarted or has another address, learns it again from a
    probe, or the other end answers the probe with a reset. An end that only receives would notice nothing.
    """
    connection = tcp_socket(transport)
    if connection is None:
        return
    with contextlib.suppress(OSError):  # a Unix socket
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        options = {"TCP_KEEPIDLE": seconds, "TCP_KEEPINTVL": seconds, "TCP_KEEPCNT": PROBES_MAX}
        for name, value in options.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def expect_free(port: int, *interfaces: str) -> None:
    """Check that both the TCP and the UDP port of a number can be listened on, on each of the interfaces.

    Raises:
        PortUnusable: one of them is in use, or reserved.
    """
    try:
        for interface in interfaces:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                _expect_bindable(kind, port, interface)
    except OSError as error:
        raise PortUnusable(port=port, reason=plain_reason(error)) from error


def _expect_bindable(kind: socket.SocketKind, port: int, interface: str) -> None:
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    with socket.socket(family, kind) as probe:
        _bind(probe, interface, port)


def _bind(bound: socket.socket, interface: str, port: int) -> None:
    """Bind a socket as the ports of this module are bound."""
    if bound.type is socket.SOCK_STREAM:  # as Twisted does
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if bound.family is socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.bind((interface, port))


async def listen_welcome(
    port: int, rng: random.Random, listen: Callable[[int], Awaitable[int]]
) -> int:
    """Listen on a welcome port: on `port`, or on a random one of the dynamic ports if that is 0.

    Args:
        port: from 0 on.
        rng: draws numbers.
        listen: opens what belongs to a number and returns the number, or opens nothing and raises `PortUnusable`.

    Raises:
        PortUnusable: the port, or every port that was tried, is in use.
    """
    for _ in range(0 if port else PORT_TRIES - 1):
        with contextlib.suppress(PortUnusable):
            return await listen(rng.choice(WELCOME_PORTS))
    return await listen(port or rng.choice(WELCOME_PORTS))


def port_of(listening: IListeningPort) -> int:
    """Return the number of a port."""
    return int(cast("IPv4Address", listening.getHost()).port)


def local_address_towards(ip: str, port: int) -> str:
    """Return the address of this machine from which `ip` is reached, by the routing table; nothing is sent.

    Raises:
        OSError: there is no route.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((ip, port))
        return str(probe.getsockname()[0])


def addresses_of_this_machine() -> list[IPAddress]:
    """Return the addresses, IPv4 and IPv6, at which other machines may reach this one.

    Linux lists them in /proc. Elsewhere they are those of the default routes and of the host name.
    """
    try:
        texts = _listed_by_linux()
    except OSError:
        texts = _of_routes_and_name()
    addresses = [ipaddress.ip_address(each.partition("%")[0]) for each in texts]
    return [
        each
        for each in dict.fromkeys(addresses)
        if not (each.is_loopback or each.is_link_local or each.is_unspecified)
    ]


def _listed_by_linux() -> list[str]:
    found, leaf = [], ""
    with open("/proc/net/fib_trie", encoding="ascii") as table:  # routes of IPv4
        for line in table:
            if "|--" in line:
                leaf = line.split()[-1]
            elif "/32 host LOCAL" in line:
                found.append(leaf)
    with (
        contextlib.suppress(FileNotFoundError),  # a kernel without IPv6
        open("/proc/net/if_inet6", encoding="ascii") as table,
    ):
        found += [str(ipaddress.IPv6Address(int(line.split()[0], 16))) for line in table]
    return found


def _of_routes_and_name() -> list[str]:
    found = []
    for outside in ("192.0.2.1", "2001:db8::1"):  # addresses of documentation: nothing is sent
        with contextlib.suppress(OSError):
            found.append(local_address_towards(outside, 9))
    with contextlib.suppress(OSError):
        found += [str(each[-1][0]) for each in socket.getaddrinfo(socket.gethostname(), None)]
    return found


def takes_both_families() -> bool:
    """Whether a socket on every IPv6 address takes IPv4 as well, as on Linux; False without IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            only_ipv6 = probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            probe.bind(("::", 0))
    except (OSError, AttributeError):
        return False
    return not only_ipv6


def interface_for(ip: str) -> str:
    """Return the address to bind a socket to that exchanges data with `ip`: a loopback address, or all of its family.

    A peer that is known under a loopback address serves this machine alone. Any other address may be a router's, or
    change, and cannot be bound.
    """
    if is_loopback(ip):
        return ip
    return ALL_IPV6 if ":" in ip else ALL_IPV4


def interfaces_for(ip: str) -> tuple[str, ...]:
    """Return the addresses to listen on so as to be reached at `ip` and elsewhere.

    For a loopback address that is this address alone; otherwise all addresses of both families, or of the one that this
    machine has.
    """
    if is_loopback(ip):
        return (ip,)
    return tuple(filter(_has_family_of, (ALL_IPV4, ALL_IPV6))) or (interface_for(ip),)


def _has_family_of(interface: str) -> bool:
    try:
        _expect_bindable(socket.SOCK_DGRAM, 0, interface)
        return True
    except OSError:
        return False
