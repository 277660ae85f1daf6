"""Where an opener stands in the network, as a call tells it: the addresses of one UDP port, and the NAT before it.

A running peer keeps that for its welcome port. A call uses a port of its own, whose addresses are looked for when the
call begins, while the registry is still being asked for other things.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from p2pshare.core.reach.dial_plan import Network
from p2pshare.core.reach.mapping import classify
from p2pshare.net.reach.interfaces import NetworkState
from p2pshare.net.reach.stun_client import StunClient, StunPort
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.candidates import CANDIDATES_MAX, Candidate, CandidateKind, Mapping

STUN_WAIT = 0.5  # seconds for the answers of STUN servers: without one, the call begins without a mapped address


@dataclass(frozen=True, slots=True)
class Vantage:
    """The addresses of a UDP port."""

    candidates: tuple[Candidate, ...]
    mapping: Mapping
    networks: tuple[Network, ...]
    """Those of the machine's interfaces."""


async def look_around(
    clock: IReactorTime,
    port: StunPort,
    number: int,
    servers: Sequence[PeerAddress],
    state: NetworkState,
    random: Callable[[int], bytes],
) -> Vantage:
    """Return what STUN servers and the interfaces say about a port.

    Args:
        clock: for the wait.
        port: the port.
        number: its number.
        servers: that are asked.
        state: the interfaces.
        random: returns that many unpredictable bytes.
    """
    client = StunClient(clock, port, random)
    asked = {server: client.ask(server) for server in servers}
    too_late = clock.callLater(STUN_WAIT, client.stop)
    answers: dict[PeerAddress, PeerAddress | None] = {}
    try:
        for server, asking in asked.items():
            answer = await asking
            answers[server] = None if answer is None else answer.mapped
    finally:
        if too_late.active():
            too_late.cancel()
        client.stop()
    own = [each.ip for each in state.addresses]
    hosts = [Candidate(CandidateKind.HOST, PeerAddress(ip, number)) for ip in own]
    mapped = {
        answer.is_ipv6: Candidate(CandidateKind.MAPPED, answer)
        for answer in answers.values()
        if answer is not None and answer.ip not in own
    }
    return Vantage(
        (*mapped.values(), *hosts)[:CANDIDATES_MAX],
        classify(answers, own),
        tuple(each.network for each in state.addresses),
    )
