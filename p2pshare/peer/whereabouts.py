"""Where a peer is reached: what the registry says, but for what leads a stranger's way to this machine itself.

An address of this machine's own is where one's other programs listen that trust whoever is here; and one that is valid
on a single link is never what a registry can know of. Whoever has the registry itself on this machine has all there.

While the registry is away, a peer whose key is pinned is looked for where it was seen last. The session proves the key,
so an address that is out of date costs a try and nothing else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
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
from p2pshare.storage.known_peers import KnownPeers
from p2pshare.storage.seen import Seen
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.peers import PeerView
from p2pshare.wire.registration import PeerAddress
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.statements import Record, is_address

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


def last_seen_at(known: KnownPeers, seen: Seen, name: str) -> LastSeen | None:
    """Return where a peer was seen last; None if its key is not pinned or no address was seen. Blocks for a moment.

    Raises:
        KnownPeersUnusable: the list of keys cannot be used.
    """
    key = known.key(name)
    addresses = {} if key is None else seen.addresses(str(key))
    if key is None or not addresses:
        return None
    return LastSeen(tuple(addresses), key, next(iter(addresses.values())))


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
    """The first IPv4 address of a peer; for an owned name they are those of its signed record.

    Args:
        reactor: looks the registry's address up, if it is needed.
        view: what the registry says of the peer.
        registry: the URL of that.

    Raises:
        PeerNotReachable: there is none; `PeerAddressRefused` among them.
    """
    for address in view.addresses:
        if "[" not in address and is_address(address):
            found = PeerAddress.parse(address)
            await expect_elsewhere(reactor, view.summary.name, found, registry)
            return found
    raise PeerNotReachable(name=view.summary.name)


async def expect_elsewhere(
    reactor: IPeerReactor, name: str, address: PeerAddress, registry: str
) -> None:
    """Make sure that an address leads to no place where a stranger must not make us connect: threat 13.

    Raises:
        PeerAddressRefused: it does.
    """
    ip = ipaddress.ip_address(address.ip)
    if ip.is_link_local or (ip.is_loopback and not await _is_here(reactor, registry)):
        raise PeerAddressRefused(name=name, address=address)


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
