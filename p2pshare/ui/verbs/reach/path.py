"""The verb `path`: how a peer is reached, and why not directly; without a peer, what this machine's network is like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from colorama import Fore
from twisted.internet.defer import CancelledError, Deferred

from p2pshare.core.credit import CREDIT_WINDOW
from p2pshare.core.session_interface import Session, SessionPath
from p2pshare.errors import P2pshareError, Unreachable, WrongUsage
from p2pshare.names import read_name
from p2pshare.net.session.dialling import Tried
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.lookup import FoundPeer
from p2pshare.peer.find.own_identity import OwnIdentity
from p2pshare.peer.find.target import Target
from p2pshare.peer.reach.dialler import Dialler
from p2pshare.storage.settings import Via
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.verbs.connection import announce, carriers_of, dialler_of, finder_of, introduce
from p2pshare.ui.verbs.key import name_of
from p2pshare.ui.verbs.reach.advice import (
    OtherEnd,
    about_network,
    about_path,
    mapping_text,
    nat_text,
)
from p2pshare.ui.verbs.reach.network_facts import NetworkFacts, examine
from p2pshare.ui.verbs.whoami import show_facts

RELAY = "relay"
DIRECT_WAIT = 5.0  # seconds for a direct path after the relay has led to the peer
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
    _show(invocation, facts, found, outcome)
    if outcome.error is not None:
        raise found.explained(outcome.error)
    return 0


async def _examine(invocation: Invocation) -> int:
    output = invocation.output
    async with invocation.registry() as registry:
        facts = await examine(invocation, registry)
    advice = list(about_network(facts))
    output.event("network", **facts.to_fields(), advice=advice)
    show_facts(output, network_facts(facts), LABEL_WIDTH)
    _show_advice(output, advice)
    return 0 if facts.is_lan or facts.registry_ms is not None else Unreachable.exit_code


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has come of dialling."""

    tried: tuple[Tried, ...]
    again: tuple[Tried, ...] = ()
    """The direct paths that were tried after the relay had led to the peer."""
    path: SessionPath | None = None
    """The path in use; None if there is none."""
    began_at: SessionPath | None = None
    """The path before, if the session has moved from the relay to a direct path."""
    ms: float | None = None
    """From the beginning until the peer had welcomed this one."""
    error: P2pshareError | None = None
    """Why there is no path."""


async def _dial(
    invocation: Invocation, registry: Directory, me: OwnIdentity, target: Target
) -> tuple[Outcome, NetworkFacts]:
    """Open a session, and another one that is direct if the first one goes through the relay; examine the network.

    The network is examined after the first session is open, so that nothing else runs while that is timed.
    """
    # Else they are imported when they are needed, and that would be timed, too.
    from p2pshare.net.session import datagrams  # noqa: F401
    from p2pshare.peer.reach import calling, rendezvous  # noqa: F401

    reactor, settings = invocation.reactor, invocation.settings
    carriers = carriers_of(invocation)
    dialler = dialler_of(invocation, registry, me, carriers)
    sessions: list[Session] = []
    error: P2pshareError | None = None
    ms: float | None = None
    began = reactor.seconds()
    try:
        try:
            opened = await dialler.open(target, credit=CREDIT_WINDOW, silence=settings.timeout)
            sessions.append(opened)
            ms = 1000 * (reactor.seconds() - began)
        except P2pshareError as failed:
            error = failed
        tried, again = tuple(dialler.report), tuple[Tried, ...]()
        examining = Deferred.fromCoroutine(examine(invocation, registry))
        try:
            if sessions and sessions[0].path.carrier == RELAY and settings.via is not Via.RELAY:
                text = f"The relay leads to {target.name}. Direct paths are tried for up to {DIRECT_WAIT:.0f} s."
                invocation.output.remark(text)
                sessions += await _direct(invocation, dialler, target)
                again = tuple(dialler.report)
            facts = await examining
        finally:
            examining.addErrback(lambda _: None)
            examining.cancel()
        paths = [each.path for each in sessions]
        used = paths[-1] if paths else None
        before = paths[0] if len(paths) > 1 else None
        return Outcome(tried, again, used, before, ms, error), facts
    finally:
        for session in sessions:
            session.close()
        await carriers.close()


async def _direct(invocation: Invocation, dialler: Dialler, target: Target) -> Sequence[Session]:
    """Return the session over a direct path, if there is one."""
    opening = Deferred.fromCoroutine(
        dialler.open_direct(
            target, credit=CREDIT_WINDOW, silence=invocation.settings.timeout, timeout=DIRECT_WAIT
        )
    )
    with suppress(P2pshareError, CancelledError):
        return [await opening.addTimeout(DIRECT_WAIT, invocation.reactor, _expired)]
    return []


def _expired(_result: object, _timeout: float) -> Session:
    raise CancelledError


def _show(invocation: Invocation, facts: NetworkFacts, found: FoundPeer, outcome: Outcome) -> None:
    """Write all that is known about the way to a peer."""
    output, used = invocation.output, outcome.path
    takes_calls, is_remembered = found.target.takes_calls, found.problem is not None
    is_offline = found.seen is not None and not is_remembered
    other = OtherEnd(
        found.name, found.candidates, found.mapping, takes_calls, is_remembered, is_offline
    )
    carrier = None if used is None else used.carrier
    settings = invocation.settings
    via = Via.RELAY if settings.private else settings.via
    advice = list(about_path(facts, other, carrier, via))
    output.event("network", **facts.to_fields(), advice=list(about_network(facts)))
    output.event(
        "path",
        peer=found.name,
        key=str(found.key),
        via=carrier,
        address=None if used is None else str(used.address),
        direct=carrier is not None and carrier != RELAY,
        began_on_relay=outcome.began_at is not None,
        ms=None if outcome.ms is None else round(outcome.ms, 1),
        candidates=[str(each) for each in other.candidates],
        mapping=other.mapping.value,
        takes_calls=other.takes_calls,
        tried=[
            {
                "via": each.carrier,
                "address": each.address,
                "began_ms": round(1000 * each.began_s, 1),
                "answered_ms": None if each.answered_ms is None else round(each.answered_ms, 1),
                "outcome": each.outcome,
                "again": is_again,
            }
            for is_again, attempts in ((False, outcome.tried), (True, outcome.again))
            for each in attempts
        ],
        advice=advice,
    )
    output.result(path_text(found.name, outcome))
    about_peer = peer_facts(other, outcome, has_registry=not facts.is_lan)
    show_facts(output, [*about_peer, *network_facts(facts)], LABEL_WIDTH)
    _show_advice(output, advice)


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
