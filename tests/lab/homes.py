"""Homes behind routers of several kinds, and the internet between them, in network namespaces.

The internet is one router, to which each home and the registry have a cable of their own. So the way between two homes
is as short as it can be, which is the hard case for datagrams that must die on the way. All homes with a NAT use the
same private addresses, as real ones do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.lab.delay import DelayedCables
from tests.lab.namespaces import Namespace

REGISTRY_IPV4 = "198.51.100.2"
REGISTRY_IPV6 = "2001:db8:ffff::2"
LAN = "192.168.1"


class HomeKind(StrEnum):
    """What is between a host and the internet."""

    OPEN = "open"
    """Nothing. The host has public addresses, IPv4 and IPv6."""
    CONE = "cone"
    """A NAT that keeps ports, and a filter that drops what comes from outside: port-restricted. IPv4 only."""
    FILTERED = "filtered cone"
    """A plain Linux NAT (`masquerade`, INPUT open) behind a router that filters by state. IPv4 only."""
    STOCK = "stock masquerade"
    """A plain Linux NAT (`masquerade`, INPUT open), as with virtual machines and containers. IPv4 only."""
    CARRIER = "carrier-grade"
    """A NAT as that of a cone, twice in a row: the home's and its provider's. IPv4 only."""
    SYMMETRIC = "symmetric"
    """A NAT that draws a port for each connection, and a filter as that of a cone. IPv4 only."""
    UDP_BLOCKED = "UDP blocked"
    """As a cone, and no UDP leaves."""
    IPV6_ONLY = "IPv6 only"
    """A public IPv6 address, behind a router that filters by state, as those of most homes do. No IPv4."""


_STATEFUL = """
    iifname "wan" ct state established,related accept
    iifname "wan" meta l4proto ipv6-icmp accept
    iifname "wan" drop
"""

_FILTER = """
table inet filter {{
    chain incoming {{
        type filter hook input priority filter
        {incoming}
    }}
    chain passing {{
        type filter hook forward priority filter
        {passing}
    }}
}}
"""

_NAT = """
table ip nat {{
    chain leaving {{
        type nat hook postrouting priority srcnat
        oifname "wan" masquerade {flags}
    }}
}}
"""


def _rules(incoming: str = "", passing: str = "", nat: str | None = None) -> str:
    rules = _FILTER.format(incoming=incoming, passing=passing)
    return rules if nat is None else rules + _NAT.format(flags=nat)


_ROUTERS = {
    HomeKind.CONE: _rules(_STATEFUL, _STATEFUL, ""),
    HomeKind.FILTERED: _rules("", "", ""),
    HomeKind.STOCK: _rules("", "", ""),
    HomeKind.CARRIER: _rules(_STATEFUL, _STATEFUL, ""),
    HomeKind.SYMMETRIC: _rules(_STATEFUL, _STATEFUL, "random"),
    HomeKind.UDP_BLOCKED: _rules(_STATEFUL, 'iifname "lan" meta l4proto udp drop' + _STATEFUL, ""),
    HomeKind.IPV6_ONLY: _rules(_STATEFUL, _STATEFUL),
}
"""The rules of nftables in the router of a home, where there is one."""


@dataclass(frozen=True)
class Home:
    """A host, and the routers before it."""

    kind: HomeKind
    host: Namespace
    routers: tuple[Namespace, ...]
    """The one next to the host first."""
    host_ip: str
    """The host's own address."""

    @property
    def registry_ip(self) -> str:
        """The address at which it reaches the registry."""
        return REGISTRY_IPV6 if self.kind is HomeKind.IPV6_ONLY else REGISTRY_IPV4

    def forget_flows(self) -> None:
        """Let its NAT forget all mappings, as a router that restarts."""
        for each in self.routers:
            each.run("sh", "-c", "conntrack --flush 2>&1")  # it says so on the standard error


@dataclass(frozen=True)
class _Cable:
    """The addresses at the cable of a home."""

    number: int

    @property
    def device(self) -> str:
        return f"home{self.number}"

    @property
    def prefix(self) -> str:
        return f"2001:db8:{self.number:x}"

    @property
    def inside(self) -> str:
        """The internet's end."""
        return f"203.0.113.{4 * self.number + 1}"

    @property
    def outside(self) -> str:
        """The home's end."""
        return f"203.0.113.{4 * self.number + 2}"

    @property
    def behind(self) -> str:
        """The public address of a second router."""
        return f"192.0.2.{self.number}"


class Internet:
    """The router between all homes, and the registry's namespace."""

    def __init__(self, stack: contextlib.ExitStack, delay_s: float = 0.0) -> None:
        """Make both, until `stack` is closed; a packet takes `delay_s` between a home and the internet."""
        self._stack = stack
        self._cables: DelayedCables | None = None
        if delay_s:
            self._cables = DelayedCables(delay_s)
            stack.callback(self._cables.close)
        self._homes = 0
        self.router = self._namespace(forwards=True)
        self.registry = self._namespace()
        self.router.join("registry", self.registry, "wan")
        _configure(self.router, "registry", "198.51.100.1/30", "2001:db8:ffff::1/64")
        _configure(self.registry, "wan", f"{REGISTRY_IPV4}/30", f"{REGISTRY_IPV6}/64")
        _route(self.registry, "198.51.100.1", "2001:db8:ffff::1")
        self.registry.configure()

    def add(self, kind: HomeKind) -> Home:
        """Make a home with its own cable to the internet."""
        self._homes += 1
        cable = _Cable(self._homes)
        host = self._namespace()
        routers: tuple[Namespace, ...] = ()
        if kind is HomeKind.OPEN:
            self._connect(host, cable)
            host_ip = cable.outside
        elif kind is HomeKind.IPV6_ONLY:
            routers = (self._ipv6_router(host, cable),)
            host_ip = f"{cable.prefix}:1::5"
        else:
            routers = self._routers(kind, host, cable)
            host_ip = f"{LAN}.5"
        for each in (self.router, host, *routers):
            each.configure()
        if routers:
            routers[0].run("nft", "-f", "-", input=_ROUTERS[kind])
        return Home(kind, host, routers, host_ip)

    def add_neighbour(self, home: Home) -> Home:
        """Add a second host to a home that has a NAT, and return the home as it is for that host."""
        host = self._namespace()
        _join_lan(home.routers[0], host, 6)
        for each in (home.routers[0], host):
            each.configure()
        return replace(home, host=host, host_ip=f"{LAN}.6")

    def cut_direct(self) -> None:
        """Drop all that goes from one home to another from now on; the registry stays within reach."""
        rule = """
table inet cut {
    chain passing {
        type filter hook forward priority filter
        oifname "home*" iifname "home*" drop
    }
}
"""
        self.router.run("nft", "-f", "-", input=rule)

    def mend(self) -> None:
        """Take back `cut_direct`."""
        self.router.run("nft", "delete table inet cut")

    def count_direct(self) -> None:
        """Count the packets that go from one home to another from now on."""
        rule = """
table inet count {
    chain passing {
        type filter hook forward priority filter
        oifname "home*" iifname "home*" counter
    }
}
"""
        self.router.run("nft", "-f", "-", input=rule)

    def direct_packets(self) -> int:
        """Return how many there were since `count_direct`."""
        told = self.router.run("nft", "list", "table", "inet", "count")
        return int(told.split(" packets ")[1].split()[0])

    def _connect(self, namespace: Namespace, cable: _Cable, *, has_ipv6: bool = True) -> None:
        """Lay a cable to a namespace, which gets the public addresses."""
        self._lay(cable, namespace)
        inside, outside, gateways = [f"{cable.inside}/30"], [f"{cable.outside}/30"], [cable.inside]
        if has_ipv6:
            inside.append(f"{cable.prefix}::1/64")
            outside.append(f"{cable.prefix}::2/64")
            gateways.append(f"{cable.prefix}::1")
        _configure(self.router, cable.device, *inside)
        _configure(namespace, "wan", *outside)
        _route(namespace, *gateways)

    def _lay(self, cable: _Cable, namespace: Namespace) -> None:
        """Lay the cable of a home to the internet."""
        if self._cables is None:
            self.router.join(cable.device, namespace, "wan")
        else:
            self._cables.join(self.router, cable.device, namespace, "wan")

    def _ipv6_router(self, host: Namespace, cable: _Cable) -> Namespace:
        """Make the router of a home without IPv4, which delegates a network to it."""
        router = self._namespace(forwards=True)
        self._lay(cable, router)
        router.join("lan", host, "eth")
        _configure(self.router, cable.device, f"{cable.prefix}::1/64")
        _configure(router, "wan", f"{cable.prefix}::2/64")
        _configure(router, "lan", f"{cable.prefix}:1::1/64")
        _configure(host, "eth", f"{cable.prefix}:1::5/64")
        _route(router, f"{cable.prefix}::1")
        _route(host, f"{cable.prefix}:1::1")
        self.router.later(f"route add {cable.prefix}:1::/64 via {cable.prefix}::2")
        return router

    def _routers(self, kind: HomeKind, host: Namespace, cable: _Cable) -> tuple[Namespace, ...]:
        """Make the routers of a home with a NAT."""
        routers = [self._namespace(forwards=True)]
        routers[0].later("link add lan type bridge")
        routers[0].later("link set lan up")
        _configure(routers[0], "lan", f"{LAN}.1/24")
        _join_lan(routers[0], host, 5)
        if kind not in (HomeKind.FILTERED, HomeKind.CARRIER):
            self._connect(routers[0], cable, has_ipv6=False)
            return tuple(routers)
        provider = self._namespace(forwards=True)
        routers.append(provider)
        self._connect(provider, cable, has_ipv6=False)
        provider.join("lan", routers[0], "wan")
        _configure(provider, "lan", "100.64.0.1/32")
        routers[0].later("route add 100.64.0.1 dev wan")
        if kind is HomeKind.FILTERED:
            own_ip, rules = cable.behind, _rules(_STATEFUL, _STATEFUL)
            self.router.later(f"route add {own_ip} via {cable.outside}")
        else:
            own_ip, rules = "100.64.0.2", _ROUTERS[kind]
        _configure(routers[0], "wan", f"{own_ip}/32")
        _route(routers[0], "100.64.0.1")
        provider.later(f"route add {own_ip} dev lan")
        provider.run("nft", "-f", "-", input=rules)
        return tuple(routers)

    def _namespace(self, *, forwards: bool = False) -> Namespace:
        namespace = Namespace(forwards=forwards)
        self._stack.callback(namespace.close)
        return namespace


@contextlib.contextmanager
def internet(delay_s: float = 0.0) -> Iterator[tuple[Internet, Callable[[HomeKind], Home]]]:
    """Make an internet without homes, and return it with the function that adds one."""
    with contextlib.ExitStack() as stack:
        made = Internet(stack, delay_s)
        yield made, made.add


def _join_lan(router: Namespace, host: Namespace, number: int) -> None:
    """Lay a cable from a host to the switch of its home."""
    router.join(f"lan{number}", host, "eth")
    router.later(f"link set lan{number} master lan")
    _configure(host, "eth", f"{LAN}.{number}/24")
    _route(host, f"{LAN}.1")


def _configure(namespace: Namespace, device: str, *addresses: str) -> None:
    for address in addresses:
        namespace.later(f"addr add {address} dev {device}")


def _route(namespace: Namespace, *gateways: str) -> None:
    for gateway in gateways:
        namespace.later(f"route add default via {gateway}")
