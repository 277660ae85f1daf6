"""Candidates: the addresses at which a peer may be reached, and which of them may be connected to.

A candidate comes from the signed location of a peer, from a signal of that peer, or from the memory of where it was
seen. For all of them, `expect_elsewhere` decides whether this machine connects there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from p2pshare.errors import PeerAddressRefused, PeerNotReachable
from p2pshare.net.dns import LookUpError, look_up
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.find.target import given
from p2pshare.storage.identity.last_seen import Addresses, Seen
from p2pshare.wire.addresses import PeerAddress, address_fault, is_loopback
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.reach.candidates import CANDIDATES_MAX, Candidate
from p2pshare.wire.registry_answers import PeerView
from p2pshare.wire.statements import Location


async def told_candidates(
    reactor: IPeerReactor, view: PeerView, registry: str
) -> tuple[Candidate, ...]:
    """Return the candidates in an answer of the registry that may be connected to, in order: 1 to `CANDIDATES_MAX`.

    Args:
        reactor: looks up the registry's address if that matters.
        view: the answer of the registry. The addresses of an owned name are those that its owner has signed.
        registry: the URL of the registry.

    Raises:
        PeerAddressRefused: there are addresses, but none that may be connected to.
        PeerNotReachable: there is no address.
    """
    name = view.summary.name
    allowed, refused = await allowed_candidates(reactor, name, _told(view), registry)
    if not allowed:
        raise refused or PeerNotReachable(name=name)
    return allowed


async def allowed_candidates(
    reactor: IPeerReactor, name: str, candidates: Iterable[Candidate], registry: str
) -> tuple[tuple[Candidate, ...], PeerAddressRefused | None]:
    """Return those of a peer's candidates that may be connected to, and why the first of the others may not."""
    allowed: list[Candidate] = []
    first: PeerAddressRefused | None = None
    for each in candidates:
        try:
            await expect_elsewhere(reactor, name, each.address, registry)
            allowed.append(each)
        except PeerAddressRefused as refused:
            first = first or refused
    return tuple(allowed[:CANDIDATES_MAX]), first


def _told(view: PeerView) -> tuple[Candidate, ...]:
    if view.location is not None:  # which the registry client has compared with the signed record
        return Location.parse(view.location).candidates
    addresses = []
    for text in view.addresses:
        with suppress(ValueError):
            addresses.append(PeerAddress.parse(text))
    return given(addresses)


async def remembered_candidates(
    reactor: IPeerReactor, seen: Seen, name: str, key: PublicKey, registry: str
) -> Addresses:
    """Return the addresses at which the owner of a key was seen and which may be connected to, the latest first."""
    allowed: Addresses = {}
    for address, at in (await run_in_thread(reactor, seen.addresses, str(key))).items():
        with suppress(PeerAddressRefused):
            await expect_elsewhere(reactor, name, address, registry)
            allowed[address] = at
    return allowed


async def expect_elsewhere(
    reactor: IPeerReactor, name: str, address: PeerAddress, registry: str
) -> None:
    """Reject an address to which nobody else may make this machine connect: threat 13.

    `p2pshare.wire.addresses` has the table of addresses that are always rejected. A loopback address is accepted only
    if the registry is on this machine, too. Otherwise a peer could make this machine connect to programs of its user
    that trust every local connection.

    Raises:
        PeerAddressRefused: the address is rejected.
    """
    fault = address_fault(address.ip)
    if fault is None and is_loopback(address.ip) and not await _is_here(reactor, registry):
        fault = "leads to this machine itself"
    if fault is not None:
        raise PeerAddressRefused(name=name, address=address, reason=fault)


async def _is_here(reactor: IPeerReactor, registry: str) -> bool:
    """Whether the registry is reached at loopback addresses only."""
    host = urlsplit(registry).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    found: Sequence[str] = (host,)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            found = await look_up(reactor, host)
        except LookUpError:
            return False
    ips = map(ipaddress.ip_address, found)
    return all(ip.is_loopback or ip.is_unspecified for ip in ips)
