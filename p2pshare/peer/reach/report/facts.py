"""What this machine's network is like: the facts that `p2pshare path` shows, and how they are found."""

from __future__ import annotations

import secrets
from collections.abc import Mapping as Fields
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from p2pshare.core.reach.mapping import classify
from p2pshare.errors import P2pshareError
from p2pshare.net.reach.interfaces import NetworkState, read_network
from p2pshare.net.reach.stun_client import StunAnswer, StunClient
from p2pshare.net.session.carriers import Carriers
from p2pshare.net.sockets import ALL_IPV4, IPeerReactor, interfaces_for
from p2pshare.peer.fetch.link_change import reason_of
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.reach.stun_servers import stun_servers
from p2pshare.wire.addresses import LAN, PeerAddress, is_loopback
from p2pshare.wire.reach.candidates import Mapping


@dataclass(frozen=True, slots=True)
class StunTry:
    """A STUN server that was asked."""

    server: str
    answered_ms: float | None
    """None if there was no answer."""
    mapped: str | None
    """The address from which the server was asked."""


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What is known of this machine's network."""

    registry: str
    """The URL, or `LAN`."""
    registry_ms: float | None = None
    """Until its answer; None if there was none."""
    problem: str | None = None
    """Why the registry cannot be used."""
    relay: bool = False
    """Whether the registry has a relay."""
    stun: tuple[StunTry, ...] = ()
    mapping: Mapping = Mapping.UNKNOWN
    addresses: tuple[tuple[str, str], ...] = ()
    """The IP addresses for others, and the interface of each."""
    peer: Fields[str, Any] | None = None
    """The status of the user's running peer; None if none runs."""

    @property
    def is_lan(self) -> bool:
        """Whether there is no registry."""
        return self.registry == LAN

    @property
    def has_ipv4(self) -> bool:
        """Whether others may reach this machine over IPv4."""
        return any(":" not in ip for ip, _ in self.addresses)

    @property
    def has_ipv6(self) -> bool:
        """Whether others may reach this machine over IPv6."""
        return any(":" in ip for ip, _ in self.addresses)

    @property
    def seen(self) -> list[str]:
        """The IP addresses at which STUN servers see this machine."""
        mapped = [PeerAddress.parse(each.mapped).ip for each in self.stun if each.mapped]
        return list(dict.fromkeys(mapped))

    @property
    def is_udp_blocked(self) -> bool:
        """Whether no server has answered over UDP."""
        return self.mapping is Mapping.BLOCKED

    @property
    def candidates(self) -> list[str]:
        """What the running peer publishes."""
        return [str(each) for each in (self.peer or {}).get("candidates", ())]

    @property
    def port(self) -> int | None:
        """The welcome port of the running peer."""
        address = (self.peer or {}).get("address")
        return None if address is None else PeerAddress.parse(str(address)).port

    def to_fields(self) -> dict[str, object]:
        """Return the keys of the event `network`."""
        return {
            "registry": self.registry,
            "registry_ms": _rounded(self.registry_ms),
            "problem": self.problem,
            "relay": self.relay,
            "stun": [
                {
                    "server": each.server,
                    "answered_ms": _rounded(each.answered_ms),
                    "mapped": each.mapped,
                }
                for each in self.stun
            ],
            "mapping": self.mapping.value,
            "addresses": [{"ip": ip, "interface": interface} for ip, interface in self.addresses],
            "ipv6": self.has_ipv6,
            "running": self.peer is not None,
            "address": (self.peer or {}).get("address"),
            "candidates": self.candidates,
            "private": bool((self.peer or {}).get("private")),
        }


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)


async def examine(
    reactor: IPeerReactor, registry: Directory, peer: Fields[str, Any] | None
) -> NetworkFacts:
    """Ask the registry, its STUN servers and the interfaces.

    Args:
        reactor: for sockets and timers.
        registry: the registry, or the local network.
        peer: the status of the user's running peer; None if none runs.
    """
    state = read_network()
    own = [each.ip for each in state.addresses]
    addresses = tuple((each.ip, each.interface) for each in state.addresses)
    if not registry.keeps_names:
        return NetworkFacts(LAN, addresses=addresses, peer=peer)
    began = reactor.seconds()
    try:
        info = await registry.info()
    except P2pshareError as error:
        return NetworkFacts(registry.url, problem=reason_of(error), addresses=addresses, peer=peer)
    ms = 1000 * (reactor.seconds() - began)
    if info is None:
        why = "it is an original one, which knows no keys"
        return NetworkFacts(registry.url, ms, why, addresses=addresses, peer=peer)
    servers = await stun_servers(reactor, info.stun, registry.url)
    asked = await _ask(reactor, [each for each in servers if _may_reach(each, state)])
    own += [server.ip for server in asked if is_loopback(server.ip)]
    mapped = {server: None if each is None else each.mapped for server, each in asked.items()}
    tries = tuple(
        StunTry(
            str(server),
            None if each is None else 1000 * each.rtt_s,
            None if each is None else str(each.mapped),
        )
        for server, each in asked.items()
    )
    mapping = classify(mapped, own)
    return NetworkFacts(registry.url, ms, None, info.relay, tries, mapping, addresses, peer)


def _may_reach(server: PeerAddress, state: NetworkState) -> bool:
    """Whether this machine has an address of the server's family."""
    if is_loopback(server.ip):
        return True
    return any((":" in each.ip) == server.is_ipv6 for each in state.addresses)


async def _ask(
    reactor: IPeerReactor, servers: Sequence[PeerAddress]
) -> dict[PeerAddress, StunAnswer | None]:
    """Ask STUN servers from one port; None for each that does not answer."""
    carriers = Carriers(reactor)
    try:
        udp = await carriers.new_udp(*interfaces_for(ALL_IPV4))
        if udp is None or not servers:
            return {}
        client = StunClient(reactor, udp.port, secrets.token_bytes)
        asking: list[Deferred[StunAnswer | None]] = [client.ask(each) for each in servers]
        try:
            answers = await gatherResults(asking)
        finally:
            client.stop()
        await carriers.release(udp)
        return dict(zip(servers, answers, strict=True))
    finally:
        await carriers.close()
