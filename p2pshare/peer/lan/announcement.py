"""An announcement: what a peer says of itself on the local network, as a DNS-SD service.

    instance    NAME KEY12          the name, a space, and the first 12 characters of the key
    SRV         port                the welcome port
    A, AAAA     addresses           of the machine
    TXT         v=1 key=KEY caps=sessions/1 since=TIME, the Unix time in s at which the peer came, by its own clock

The instance has a part of the key, since a name is not unique here. Two peers with one name then have different
instances, so that neither can keep the other from announcing itself. Names have no spaces.

Anybody can send anything. `read` accepts the exact form alone, and only addresses of a network that this machine is
on: a false announcement must not make this machine connect elsewhere (threat 13).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from p2pshare.errors import RemoteProtocolError
from p2pshare.names import is_name
from p2pshare.net.sockets import IPAddress
from p2pshare.wire.addresses import PeerAddress, address_fault
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.session_messages import SESSIONS

SERVICE_TYPE = "_p2pshare._udp.local."
VERSION = "1"
KEY_PART = 12  # characters of the key in the instance
TEXT_MAX = 512  # bytes of a TXT record
ADDRESSES_MAX = 8  # addresses that are used
CAPS_MAX = 4  # capabilities that are used

_TIME = re.compile("[0-9]{1,12}")
_CAP = re.compile(rf"{SESSIONS}[0-9]{{1,3}}")

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a peer announces; nothing of it is proven."""

    name: str
    key: PublicKey
    addresses: tuple[PeerAddress, ...]
    caps: tuple[str, ...]
    """Capabilities, of which only those about sessions count here."""
    since: int | None = None
    """The Unix time in s since which it is online, by its own clock; None if it does not tell."""

    @property
    def instance(self) -> str:
        """Return the name of the service."""
        return f"{self.name} {str(self.key)[:KEY_PART]}"

    def text(self) -> dict[str, str]:
        """Return the content of the TXT record."""
        since = {} if self.since is None else {"since": str(self.since)}
        return {"v": VERSION, "key": str(self.key), "caps": ",".join(self.caps), **since}

    @classmethod
    def own(
        cls, name: str, key: PublicKey, addresses: Iterable[str], caps: Iterable[str], since: int
    ) -> Self:
        """Return what a peer of this machine announces, from the statements with which it would claim its name."""
        parsed = tuple(map(PeerAddress.parse, addresses))
        return cls(name, key, parsed, tuple(filter(_is_used, caps)), since)

    @classmethod
    def read(
        cls,
        instance: str,
        text: Mapping[bytes, bytes | None],
        addresses: Iterable[str],
        port: int | None,
        networks: Sequence[IPNetwork],
    ) -> Self:
        """Read what a stranger announces.

        Args:
            instance: the name of the service.
            text: the content of the TXT record.
            addresses: the addresses of the service.
            port: its port.
            networks: those of this machine; other addresses are left out.

        Raises:
            RemoteProtocolError: it is not an announcement of a peer that can be reached.
        """
        name, space, part = instance.partition(" ")
        if not is_name(name) or not space:
            raise RemoteProtocolError(reason="the instance has no legal name")
        if _member(text, b"v") != VERSION:
            raise RemoteProtocolError(reason="it is of another version")
        key = PublicKey.parse(_member(text, b"key"))
        if not part or part != str(key)[:KEY_PART]:
            raise RemoteProtocolError(reason="the instance is of another key")
        caps = tuple(filter(_is_used, _member(text, b"caps").split(",", CAPS_MAX)))
        if not 1 <= (port or 0) <= 65535:
            raise RemoteProtocolError(reason="there is no port")
        near = [ip for ip in dict.fromkeys(addresses) if _is_near(ip, networks)]
        found = [PeerAddress(ip, port or 0) for ip in near[:ADDRESSES_MAX]]
        if not found:
            raise RemoteProtocolError(reason="it has no address in a network of this machine")
        since = _member(text, b"since")
        return cls(name, key, tuple(found), caps, int(since) if _TIME.fullmatch(since) else None)


def _member(text: Mapping[bytes, bytes | None], member: bytes) -> str:
    return (text.get(member) or b"").decode("ascii", "replace")


def _is_used(cap: str) -> bool:
    return _CAP.fullmatch(cap) is not None


def _is_near(ip: str, networks: Sequence[IPNetwork]) -> bool:
    """Whether an address may be a peer's, and is in one of the networks."""
    try:
        address: IPAddress = ipaddress.ip_address(ip)
    except ValueError:
        return False
    is_near = any(
        address in network and (network.num_addresses <= 2 or address not in _ends(network))
        for network in networks
    )
    return is_near and str(address) == ip and address_fault(ip) is None and not address.is_loopback


def _ends(network: IPNetwork) -> tuple[IPAddress, ...]:
    """Return the addresses of a network that are no machine's: its own, and the broadcast address of IPv4."""
    return network.network_address, network.broadcast_address
