"""What the facts about networks mean, and what would make a path direct.

An `Advice` has a code with values, for programs with words of their own, and the sentence that `p2pshare path` shows.

The functions are pure. Each rule names what it needs, so that it can be read against `core/reach` and RFC 4787.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from p2pshare.peer.reach.report.facts import NetworkFacts
from p2pshare.storage.settings import Via
from p2pshare.wire.reach.candidates import Candidate, CandidateKind, Mapping

OPENED = (CandidateKind.GIVEN, CandidateKind.FORWARDED)


@dataclass(frozen=True, slots=True)
class Advice:
    """Something that the user should know or could do."""

    code: str
    text: str
    """The sentence."""
    values: dict[str, Any] = field(default_factory=dict)
    """What the sentence names, as JSON."""

    def __str__(self) -> str:
        """Return the sentence."""
        return self.text

    def to_fields(self) -> dict[str, Any]:
        """Return the code and its values as a JSON object."""
        return {"code": self.code, **self.values}


@dataclass(frozen=True, slots=True)
class OtherEnd:
    """What is known of the other peer."""

    name: str
    candidates: tuple[Candidate, ...]
    """That this machine may connect to."""
    mapping: Mapping
    takes_calls: bool
    is_remembered: bool = False
    """Whether the registry did not tell that, and the candidates are addresses at which it was seen before."""
    is_offline: bool = False
    """Whether it is offline according to the registry; the candidates are such addresses, too."""

    @property
    def has_ipv4(self) -> bool:
        """Whether it tells an IPv4 address."""
        return any(not each.address.is_ipv6 for each in self.candidates)

    @property
    def has_ipv6(self) -> bool:
        """Whether it tells an IPv6 address."""
        return any(each.address.is_ipv6 for each in self.candidates)

    @property
    def seen(self) -> frozenset[str]:
        """The IP addresses from which the registry sees it."""
        behind = (CandidateKind.SEEN, CandidateKind.MAPPED)
        return frozenset(each.address.ip for each in self.candidates if each.kind in behind)

    @property
    def has_opened(self) -> bool:
        """Whether its owner has named an address, or its router forwards a port."""
        return any(each.kind in OPENED for each in self.candidates)


def about_network(facts: NetworkFacts) -> Iterator[Advice]:
    """Yield what helps others to reach this machine."""
    if not facts.is_lan and facts.registry_ms is None:
        yield Advice(
            "registry_away",
            f"Without the registry nobody finds this machine: check that {facts.registry} runs and can be reached from"
            " this network.",
            {"registry": facts.registry},
        )
        return
    if not facts.addresses:
        yield Advice(
            "no_address", "This machine has no address for others: connect it to a network."
        )
        return
    if facts.is_lan:
        yield Advice(
            "lan_only",
            "Without a registry, peers in the same network reach each other, and nobody else.",
        )
        return
    match facts.mapping:
        case Mapping.BLOCKED:
            yield Advice(
                "udp_blocked",
                "Nothing answers over UDP. This network blocks it, or the registry's STUN ports are closed: allow UDP"
                f" to {_servers(facts)}.",
                {"servers": _server_list(facts)},
            )
        case Mapping.DEPENDENT:
            yield Advice(
                "symmetric_nat",
                "Through this NAT, a direct path needs an open port at one of the two ends. "
                f"{_open_port(facts)}",
                {"port": facts.port},
            )
        case Mapping.INDEPENDENT:
            yield Advice(
                "independent_nat",
                "Most peers are reached through this NAT by hole punching. For those behind a symmetric NAT or"
                f" without UDP: {_decapitalised(_open_port(facts))}",
                {"port": facts.port},
            )
        case Mapping.NONE:
            port = "the port of --listen" if facts.port is None else f"port {facts.port}"
            yield Advice(
                "no_nat",
                f"Others reach this machine directly if its firewall allows TCP or UDP to {port}.",
                {"port": facts.port},
            )
        case Mapping.UNKNOWN:
            if facts.registry_ms is not None and not facts.problem and not facts.stun:
                yield Advice(
                    "no_stun",
                    "The registry offers no STUN, so the NAT cannot be examined and holes are not punched.",
                )
    if facts.registry_ms is not None and not facts.problem and not facts.relay:
        yield Advice(
            "no_relay",
            "The registry has no relay: peers that have no direct path to this machine cannot reach it.",
        )
    if not facts.has_ipv6 and facts.mapping is not Mapping.NONE:
        yield Advice("ipv6", "With IPv6 at both ends, no NAT is in the way.")


def about_path(
    facts: NetworkFacts, other: OtherEnd, carrier: str | None, via: Via = Via.AUTO
) -> Iterator[Advice]:
    """Yield why the path to another peer is not direct, and what would make it so.

    Args:
        facts: this end.
        other: the other end.
        carrier: of the path in use; None if there is none.
        via: the carriers that the user allows.
    """
    name = other.name
    if carrier not in (None, "relay"):
        return
    if facts.is_lan:
        yield Advice(
            "path_lan_only",
            f"Without a registry, only peers in the same network reach each other. Check that {name} is in this one,"
            " and that the firewall at its end allows TCP or UDP to its port.",
            {"name": name},
        )
        return
    if other.is_offline:
        if carrier is None:
            yield Advice(
                "path_offline",
                f"{name} is offline: nothing at this end helps before its owner starts its peer.",
                {"name": name},
            )
        return
    if other.is_remembered:
        yield Advice(
            "path_remembered",
            f"The registry did not say where {name} is. So only addresses where it was seen before are tried, and"
            " neither hole punching nor the relay is possible.",
            {"name": name},
        )
        return
    if via is Via.RELAY:
        yield Advice(
            "path_relay_only",
            "Direct paths are not tried: --via relay and --private allow the relay only.",
        )
        if carrier is not None:
            return
    if not other.candidates:
        yield Advice(
            "path_no_candidates",
            f"{name} tells no address: its peer was started with --private, or it has none that this machine may"
            " connect to. A private peer is reached through the relay only.",
            {"name": name},
        )
        if other.takes_calls and carrier is not None:
            return
    elif not _have_common_family(facts, other):
        has, lacks = ("IPv6", "IPv4") if facts.has_ipv6 else ("IPv4", "IPv6")
        where = f"at {name}'s end" if facts.has_ipv6 else "here"
        yield Advice(
            "path_no_common_family",
            f"There is no direct path: this machine has {has} only, and {name} tells addresses of {lacks} only. IPv6"
            f" {where} would make one possible.",
            {"name": name, "has": has, "lacks": lacks, "there": facts.has_ipv6},
        )
        return
    if not other.takes_calls:
        yield Advice(
            "path_no_calls",
            f"{name} cannot be called through the registry: its peer has no contact to the registry, or is of an"
            " earlier version. So no hole is punched, and the relay is not used.",
            {"name": name},
        )
    elif carrier is None and not facts.relay:
        yield Advice("path_no_relay", "The registry has no relay, which would be the last resort.")
    if via is Via.RELAY:
        return
    if facts.is_udp_blocked:
        yield Advice(
            "path_udp_blocked_here",
            f"UDP is blocked at this end: allow UDP to {_servers(facts)}, or use another network.",
            {"servers": _server_list(facts)},
        )
    if other.mapping is Mapping.BLOCKED:
        yield Advice(
            "path_udp_blocked_there",
            f"UDP is blocked at {name}'s end: its owner can allow UDP, or use another network.",
            {"name": name},
        )
    if facts.mapping is Mapping.DEPENDENT or other.mapping is Mapping.DEPENDENT:
        where = f"here and at {name}'s end"
        if facts.mapping is not Mapping.DEPENDENT:
            where = f"at {name}'s end"
        elif other.mapping is not Mapping.DEPENDENT:
            where = "here"
        yield Advice(
            "path_symmetric_nat",
            f"The NAT {where} varies its mapping by destination, so hole punching fails or is unlikely to work.",
            {
                "name": name,
                "here": facts.mapping is Mapping.DEPENDENT,
                "there": other.mapping is Mapping.DEPENDENT,
            },
        )
    yield from _opening(facts, other)


def _opening(facts: NetworkFacts, other: OtherEnd) -> Iterator[Advice]:
    """Yield the remedy that works with every NAT: an open port at one end."""
    if other.has_opened:
        yield Advice(
            "path_opened_silent",
            f"{other.name} has set an address or a forwarded port, but it does not answer: its owner can check the"
            " forwarding and the firewall, TCP and UDP.",
            {"name": other.name},
        )
    common = [each for each in facts.seen if each in other.seen]
    if common:
        yield Advice(
            "path_common_nat",
            f"Both ends are behind the NAT of {common[0]}, perhaps the provider's, which does not lead from one to the"
            " other.",
            {"ip": common[0]},
        )
    else:
        ours = _decapitalised(_open_port(facts))
        yield Advice(
            "path_open_port",
            f"An open port at one end makes the path direct. Here: {ours} Or one at {other.name}'s end.",
            {"name": other.name, "port": facts.port, "nat": facts.mapping is not Mapping.NONE},
        )
    if not (facts.has_ipv6 and other.has_ipv6):
        lacking = [
            end
            for end, has in (("here", facts.has_ipv6), (f"at {other.name}'s end", other.has_ipv6))
            if not has
        ]
        does = "makes the path direct" if common else "does so, too"
        yield Advice(
            "path_ipv6",
            f"IPv6 at both ends {does}; it is missing {' and '.join(lacking)}.",
            {"name": other.name, "here": not facts.has_ipv6, "there": not other.has_ipv6},
        )


def _have_common_family(facts: NetworkFacts, other: OtherEnd) -> bool:
    return (facts.has_ipv4 and other.has_ipv4) or (facts.has_ipv6 and other.has_ipv6)


def _open_port(facts: NetworkFacts) -> str:
    """Return how a port of this machine is opened."""
    if facts.mapping is Mapping.NONE:
        port = "a fixed port, --listen PORT," if facts.port is None else f"port {facts.port}"
        return f"Let the firewalls of this machine and its network pass TCP and UDP to {port} of your peer."
    if facts.port is None:
        return (
            "Run your peer with a fixed --listen PORT, and forward TCP and UDP of that number in your router, or add"
            " --port-mapping, which some routers support."
        )
    return (
        f"Forward port {facts.port}, TCP and UDP, in your router, and keep it with --listen {facts.port}; or add"
        " --port-mapping, which some routers support."
    )


def _servers(facts: NetworkFacts) -> str:
    return " and ".join(_server_list(facts)) or "the registry"


def _server_list(facts: NetworkFacts) -> list[str]:
    return [each.server for each in facts.stun]


def _decapitalised(text: str) -> str:
    return text[0].lower() + text[1:]
