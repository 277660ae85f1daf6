"""Where a peer is reached: at the address that the registry tells while it is online, if it may be connected to.

`p2pshare.wire.addresses` is the table of addresses that are rejected. Beside that, an address of this machine itself
is connected to only if the registry is on this machine, too. Programs of the user may listen there that trust every
program of this machine.

While the registry is away, or says that the peer is offline, a peer whose key is pinned is looked for where it was seen
last. The session proves the key, so an address that is out of date costs a try and nothing else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from p2pshare.errors import (
    PeerAddressRefused,
    PeerNotReachable,
    RegistryBusy,
    RegistryUnavailable,
    RegistryUnreachable,
)
from p2pshare.net.look_up import LookUpError, look_up_ipv4
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.wire.addresses import PeerAddress, address_fault, is_loopback
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.registry_answers import PeerView, Presence
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.statements import Record

AWAY = (RegistryUnreachable, RegistryUnavailable, RegistryBusy)
"""Errors of the registry that say nothing of the peer that is looked up."""


@dataclass(frozen=True, slots=True)
class LastSeen:
    """Where a peer with a pinned key was seen."""

    addresses: Sequence[PeerAddress]
    """The latest first; at least one."""
    key: PublicKey
    at: int
    """Unix time in s at which it was seen at the first of them."""


async def last_seen_at(
    reactor: IPeerReactor, known: KnownPeers, seen: Seen, name: str, registry: str
) -> LastSeen | None:
    """Return where a peer was seen last; None if its key is not pinned, or no address was seen that may be tried.

    Raises:
        KnownPeersUnusable: the list of keys cannot be used.
    """
    key = await run_in_thread(reactor, known.key, name)
    if key is None:
        return None
    places = await run_in_thread(reactor, seen.addresses, str(key))
    addresses: dict[PeerAddress, int] = {}
    for address, at in places.items():
        with suppress(PeerAddressRefused):
            await expect_elsewhere(reactor, name, address, registry)
            addresses[address] = at
    if not addresses:
        return None
    return LastSeen(tuple(addresses), key, next(iter(addresses.values())))


def is_somewhere(view: PeerView) -> bool:
    """Whether the registry tells an address of a peer, or should: it tells none of an owner that is offline."""
    return bool(view.addresses) or view.summary.presence is not Presence.OFFLINE


def remember_address(seen: Seen, view: PeerView, address: PeerAddress) -> None:
    """Remember where a peer that takes sessions is by the registry's word. Blocks for a moment."""
    if view.key is not None and CAP_SESSIONS in caps_of(view):
        seen.saw_address(str(view.key), address, view.summary.last_seen or 0)


def caps_of(view: PeerView) -> frozenset[str]:
    """Return what a peer's record says that it can do; the record was verified when it came."""
    if view.key is None or view.record is None:
        return frozenset()
    return frozenset(Record.parse(view.record).statement.caps)


async def address_of(reactor: IPeerReactor, view: PeerView, registry: str) -> PeerAddress:
    """Return the first IPv4 address of a peer that may be connected to. Those of an owned name are of its location.

    Args:
        reactor: looks the registry's address up, if it is needed.
        view: what the registry says of the peer.
        registry: the URL of that.

    Raises:
        PeerAddressRefused: there are only IPv4 addresses that may not be connected to.
        PeerNotReachable: there is no IPv4 address.
    """
    refused: PeerAddressRefused | None = None
    for text in view.addresses:
        with suppress(ValueError):
            address = PeerAddress.parse(text)
            try:
                await expect_elsewhere(reactor, view.summary.name, address, registry)
            except PeerAddressRefused as error:
                refused = refused or error
            else:
                return address
    raise refused or PeerNotReachable(name=view.summary.name)


async def expect_elsewhere(
    reactor: IPeerReactor, name: str, address: PeerAddress, registry: str
) -> None:
    """Make sure that an address leads to no place where a stranger must not make us connect: threat 13.

    Raises:
        PeerAddressRefused: it does.
    """
    fault = address_fault(address.ip)
    if fault is None and is_loopback(address.ip) and not await _is_here(reactor, registry):
        fault = "leads to this machine itself"
    if fault is not None:
        raise PeerAddressRefused(name=name, address=address, reason=fault)


async def _is_here(reactor: IPeerReactor, registry: str) -> bool:
    """Whether the registry is reached at a loopback address."""
    host = urlsplit(registry).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        try:
            ip = ipaddress.IPv4Address(await look_up_ipv4(reactor, host) or "")
        except (LookUpError, ValueError):
            return False
    return ip.is_loopback or ip.is_unspecified
