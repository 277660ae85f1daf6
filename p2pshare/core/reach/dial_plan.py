"""The order in which an opener dials the candidates of a peer: what is likely and near first, the rest staggered.

RFC 8305 ("Happy Eyeballs") sorts addresses, alternates the families and starts an attempt every 250 ms until one
succeeds. This plan does the same, with three additions. Addresses of the opener's own network come first, with the
shortest stagger that RFC 8305 allows, since they answer within milliseconds or not at all. Each address is dialled
over TCP and, 50 ms later, over UDP: a firewall can block either one. Private addresses of a network that the opener is
not in come last: they lead to nobody, or to another machine, which then cannot prove the peer's key.

The plan is a bound, too. A record can name any machine; what it can make each opener send is `ATTEMPTS_MAX` attempts.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.candidates import Candidate

ATTEMPTS_MAX = 12  # steps of a plan
STAGGER = 0.25  # s between the first attempts at two addresses (RFC 8305, section 5)
STAGGER_NEAR = 0.1  # s, in the opener's own network (the minimum of RFC 8305, section 5)
UDP_DELAY = 0.05  # s after TCP to the same address

TCP = "tcp"
UDP = "udp"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PRIVATE = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)
"""RFC 1918 and RFC 4193."""


@dataclass(frozen=True, slots=True)
class DialStep:
    """One attempt."""

    delay_s: float
    """Since the start of the plan, in s."""
    carrier: str
    """`TCP` or `UDP`."""
    address: PeerAddress


def dial_plan(
    candidates: Iterable[Candidate],
    *,
    networks: Iterable[Network],
    seen: str | None,
    carriers: Iterable[str],
) -> tuple[DialStep, ...]:
    """Return the attempts at a peer in the order of their delays.

    Args:
        candidates: of the peer, the best first. Whether it may have these addresses is checked elsewhere.
        networks: of the opener's interfaces; addresses of a family in which there is none are left out. Without any,
            all families are tried.
        seen: the opener's own public IP address, if it is known: a peer with the same one is behind the same NAT, so
            its private addresses are likely to be near, and a packet to the public one may not come back in.
        carriers: that the opener may use: `TCP`, `UDP` or both.
    """
    own = tuple(networks)
    addresses = _with_carriers(candidates, frozenset(carriers))
    addresses = {each: kinds for each, kinds in addresses.items() if _has_family(each, own)}
    has_same_nat = seen is not None and any(each.ip == seen for each in addresses)

    def is_near(address: PeerAddress) -> bool:
        ip = ipaddress.ip_address(address.ip)
        return ip.is_loopback or any(ip in network for network in own)

    def is_private(address: PeerAddress) -> bool:
        ip = ipaddress.ip_address(address.ip)
        return any(ip in network for network in PRIVATE)

    near, others = _split(addresses, is_near)
    private, public = _split(others, is_private)
    groups = [(near, STAGGER_NEAR)]
    groups += [
        (each, STAGGER) for each in ((private, public) if has_same_nat else (public, private))
    ]
    steps: list[DialStep] = []
    start = 0.0
    for group, stagger in groups:
        for address in _alternating(group):
            for number, carrier in enumerate(addresses[address]):
                steps.append(DialStep(start + number * UDP_DELAY, carrier, address))
            start += stagger
    return tuple(steps[:ATTEMPTS_MAX])


def _with_carriers(
    candidates: Iterable[Candidate], allowed: frozenset[str]
) -> dict[PeerAddress, tuple[str, ...]]:
    """Return each address once, with the carriers to dial it over, in their order."""
    has_tcp: dict[PeerAddress, bool] = {}
    for each in candidates:
        has_tcp[each.address] = has_tcp.get(each.address, False) or each.has_tcp
    found = {}
    for address, with_tcp in has_tcp.items():
        usable = tuple(
            carrier for carrier in (TCP, UDP) if carrier in allowed and (with_tcp or carrier != TCP)
        )
        if usable:
            found[address] = usable
    return found


def _has_family(address: PeerAddress, own: tuple[Network, ...]) -> bool:
    version = 6 if address.is_ipv6 else 4
    return (
        not own
        or ipaddress.ip_address(address.ip).is_loopback
        or any(each.version == version for each in own)
    )


def _split(
    addresses: Iterable[PeerAddress], belongs: Callable[[PeerAddress], bool]
) -> tuple[list[PeerAddress], list[PeerAddress]]:
    inside: list[PeerAddress] = []
    outside: list[PeerAddress] = []
    for each in addresses:
        (inside if belongs(each) else outside).append(each)
    return inside, outside


def _alternating(addresses: list[PeerAddress]) -> Iterator[PeerAddress]:
    """Yield addresses of the two families in turn, IPv6 first (RFC 8305, section 4)."""
    families = [
        deque(each for each in addresses if each.is_ipv6),
        deque(each for each in addresses if not each.is_ipv6),
    ]
    while all(families):
        yield from (family.popleft() for family in families)
    yield from chain(*families)
