"""The verb `path`: how a peer is reached, and why not directly; without a peer, what this machine's network is like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from colorama import Fore

from p2pshare.errors import Unreachable, WrongUsage
from p2pshare.names import read_name
from p2pshare.net.session.dialling import Tried
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.own_identity import OwnIdentity
from p2pshare.peer.find.target import Target
from p2pshare.peer.reach.report.advice import OtherEnd, about_network
from p2pshare.peer.reach.report.facts import NetworkFacts, examine
from p2pshare.peer.reach.report.path import (
    DIRECT_WAIT,
    RELAY,
    Outcome,
    PathReport,
    report_on,
    try_paths,
)
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.verbs.connection import announce, carriers_of, dialler_of, finder_of, introduce
from p2pshare.ui.verbs.key import name_of
from p2pshare.ui.verbs.whoami import data_folder, running, show_facts
from p2pshare.wire.reach.candidates import Mapping as NatMapping

LABEL_WIDTH = 12  # columns
YOURSELF = "That is you: `p2pshare path` without a name examines this machine."

Fact = tuple[str, str]
"""A label and what is said of it."""


async def path(invocation: Invocation, peer: str | None) -> int:
    """Show how a peer is reached, or examine this machine's network; return the exit code.

    Raises:
        WrongUsage: the settings have no name, or it is that of the peer.
        Unreachable: there is no path to the peer, or the registry does not answer.
        P2pshareError: the peer refuses the session, or cannot be looked up.
    """
    if peer is None:
        return await _examine(invocation)
    peer = read_name(peer)
    if peer == name_of(invocation.settings):
        raise WrongUsage(reason=YOURSELF)
    async with invocation.registry() as registry:
        finder = finder_of(invocation, registry, invocation.settings.name)
        me, looking_up = await introduce(invocation, registry, finder, peer)
        found = await looking_up
        found.expect_sessions()
        announce(invocation, found)
        outcome, facts = await _dial(invocation, registry, me, found.target)
    _show(invocation, report_on(found, facts, outcome, invocation.settings))
    if outcome.error is not None:
        raise found.explained(outcome.error)
    return 0


async def _examine(invocation: Invocation) -> int:
    output = invocation.output
    async with invocation.registry() as registry:
        facts = await _examined(invocation, registry)
    advice = list(map(str, about_network(facts)))
    output.event("network", **facts.to_fields(), advice=advice)
    show_facts(output, network_facts(facts), LABEL_WIDTH)
    _show_advice(output, advice)
    return 0 if facts.is_lan or facts.registry_ms is not None else Unreachable.exit_code


async def _dial(
    invocation: Invocation, registry: Directory, me: OwnIdentity, target: Target
) -> tuple[Outcome, NetworkFacts]:
    """Try the paths to a peer, and examine the network."""
    carriers = carriers_of(invocation)

    def told_relay() -> None:
        text = f"The relay leads to {target.name}. Direct paths are tried for up to {DIRECT_WAIT:.0f} s."
        invocation.output.remark(text)

    try:
        return await try_paths(
            invocation.reactor,
            dialler_of(invocation, registry, me, carriers),
            target,
            invocation.settings,
            lambda: _examined(invocation, registry),
            on_relay=told_relay,
        )
    finally:
        await carriers.close()


async def _examined(invocation: Invocation, registry: Directory) -> NetworkFacts:
    """Examine this machine's network.

    Raises:
        PeerNotAnswering: a peer runs, but does not answer.
    """
    return await examine(invocation.reactor, registry, await _status(invocation))


async def _status(invocation: Invocation) -> Mapping[str, Any] | None:
    """Return the status of the user's running peer."""
    settings = invocation.settings
    if settings.name is None and settings.data is None:
        return None
    folder = await data_folder(invocation, settings.name or "")
    async with running(invocation, folder) as peer:
        return None if peer is None else await peer.ask("status")


def _show(invocation: Invocation, report: PathReport) -> None:
    """Write all that is known about the way to a peer."""
    output, facts = invocation.output, report.facts
    advice = list(map(str, report.advice))
    output.event("network", **facts.to_fields(), advice=list(map(str, about_network(facts))))
    output.event("path", **report.to_fields(), advice=advice)
    output.result(path_text(report.other.name, report.outcome))
    about_peer = peer_facts(report.other, report.outcome, has_registry=not facts.is_lan)
    show_facts(output, [*about_peer, *network_facts(facts)], LABEL_WIDTH)
    _show_advice(output, advice)


def nat_text(facts: NetworkFacts) -> str:
    """Return what is known of the NAT in front of this machine."""
    seen = ", ".join(facts.seen)
    match facts.mapping:
        case NatMapping.NONE:
            return "none: others see this machine's own address"
        case NatMapping.INDEPENDENT:
            return f"others see {seen}; the mapping is the same for every destination"
        case NatMapping.DEPENDENT:
            return f"others see {seen}; the mapping varies by destination (symmetric)"
        case NatMapping.BLOCKED:
            return "unknown, since nothing answers over UDP"
        case NatMapping.UNKNOWN:
            if seen:
                return f"others see {seen}; one STUN server alone does not tell the mapping"
            return "unknown: no STUN server was asked"


def mapping_text(mapping: NatMapping) -> str:
    """Return the kind of the other peer's NAT."""
    return {
        NatMapping.NONE: "no NAT",
        NatMapping.INDEPENDENT: "a NAT whose mapping is the same for every destination",
        NatMapping.DEPENDENT: "a NAT whose mapping varies by destination (symmetric)",
        NatMapping.BLOCKED: "no UDP",
        NatMapping.UNKNOWN: "it does not say",
    }[mapping]


def path_text(name: str, outcome: Outcome) -> str:
    """Return a sentence about the path in use."""
    used, ms = outcome.path, outcome.ms
    if used is None:
        return f"There is no path to {name}."
    after = "" if ms is None else f", after {ms:.0f} ms"
    if used.carrier == RELAY:
        return f"{name} is reached through the relay, {used.address}{after}."
    text = f"{name} is reached directly, by {used.carrier.upper()}, at {used.address}"
    return f"{text}; the relay was first{after}." if outcome.began_at else f"{text}{after}."


def peer_facts(other: OtherEnd, outcome: Outcome, *, has_registry: bool) -> Iterator[Fact]:
    """Yield what is known of the other end, and what was tried."""
    for first, attempts in (("tried", outcome.tried), ("tried again", outcome.again)):
        for number, each in enumerate(attempts):
            yield "" if number else first, f"{each.carrier} {each.address}: {_result(each)}"
    candidates = ", ".join(map(str, other.candidates)) or "none"
    yield other.name[: LABEL_WIDTH - 1], f"candidates: {candidates}"
    if has_registry:
        yield "", f"NAT: {mapping_text(other.mapping)}"
        calls = "yes" if other.takes_calls else "no"
        yield "", f"can be called through the registry: {calls}"


def _result(tried: Tried) -> str:
    began = f"after {1000 * tried.began_s:.0f} ms"
    answered = "" if tried.answered_ms is None else f"answered in {tried.answered_ms:.0f} ms, "
    return f"{answered}{tried.outcome or 'still running'} (begun {began})"


def network_facts(facts: NetworkFacts) -> Iterator[Fact]:
    """Yield what is known of this machine's network."""
    if facts.is_lan:
        yield "registry", "none: peers are found on the local network"
    elif facts.registry_ms is None:
        yield "registry", f"{facts.registry} does not answer: {facts.problem}"
    else:
        relay = facts.problem or ("it has a relay" if facts.relay else "it has no relay")
        yield "registry", f"{facts.registry} answered in {facts.registry_ms:.0f} ms; {relay}"
    ipv4 = [f"{ip} ({interface})" for ip, interface in facts.addresses if ":" not in ip]
    ipv6 = [f"{ip} ({interface})" for ip, interface in facts.addresses if ":" in ip]
    yield "IPv4", ", ".join(ipv4) or "none"
    yield "IPv6", ", ".join(ipv6) or "none"
    if not facts.is_lan:
        yield "UDP", _udp(facts)
        yield "NAT", nat_text(facts)
    if facts.peer is None:
        yield "peer", "none of yours runs here"
        return
    name, address = facts.peer.get("name"), facts.peer.get("address")
    where = "not registered yet" if address is None else f"reached at {address}"
    yield "peer", f"{name} runs here, {where}"
    private = "none: it is private" if facts.peer.get("private") else "none"
    yield "candidates", ", ".join(facts.candidates) or private


def _udp(facts: NetworkFacts) -> str:
    if not facts.stun:
        return "unknown: no STUN server was asked"
    answered = [
        f"{each.server} answered in {each.answered_ms:.0f} ms"
        for each in facts.stun
        if each.answered_ms is not None
    ]
    silent = [each.server for each in facts.stun if each.answered_ms is None]
    if not answered:
        return f"blocked: no answer from {', '.join(silent)}"
    return ", ".join(answered) + (f"; no answer from {', '.join(silent)}" if silent else "")


def _show_advice(output: Output, advice: Sequence[str]) -> None:
    for each in advice:
        output.line(each, Fore.YELLOW)
