"""Where a peer is reached: what the registry says, but for what leads a stranger's way to this machine itself.

An address of this machine's own is where one's other programs listen that trust whoever is here; and one that is valid
on a single link is never what a registry can know of. Whoever has the registry itself on this machine has all there.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from p2pshare.errors import PeerAddressRefused, PeerNotReachable
from p2pshare.net.look_up import LookUpError, look_up_ipv4
from p2pshare.net.sockets import IPeerReactor
from p2pshare.wire.peers import PeerView
from p2pshare.wire.registration import PeerAddress
from p2pshare.wire.statements import is_address


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
        ip, _, port = address.rpartition(":")
        if "[" not in ip and is_address(address):
            found = PeerAddress(ip, int(port))
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
