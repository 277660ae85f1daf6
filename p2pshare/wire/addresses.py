"""Addresses of peers, URLs of registries, and which addresses a peer may have.

One table serves registries, which accept addresses, and peers, which connect to them.

A record can name any address, and every peer that looks the record up connects there. So the table rejects each
address that is not one machine's, that another machine cannot use, or that carries an IPv4 address inside. The last
kind matters most. A translator, a relay or the reader's kernel turns such an address into the one inside, and no rule
for IPv4 has checked that one.

Loopback addresses are not in the table. They are right where the registry and all its peers are on one machine, also
in containers and behind tunnels, which a registry cannot tell. The peer that connects decides: see
`p2pshare.peer.find.candidates`. Private and documentation addresses are accepted, too.

Sources: RFC 6890 and the IANA registries of special-purpose addresses for IPv4 and IPv6, RFC 4291 (IPv4-compatible,
multicast), RFC 3879 (site-local), RFC 2765 (IPv4-translated), RFC 6052 and RFC 8215 (NAT64), RFC 4380 (Teredo),
RFC 3056 and RFC 7526 (6to4), RFC 5214 (ISATAP).
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self
from urllib.parse import urlsplit

URL_MAX = 256  # characters of a registry's URL
CACHE_SIZE = 4096  # addresses whose verdict is kept: peers send the same ones again and again

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


def _networks(*texts: str) -> _Networks:
    return tuple(map(ipaddress.ip_network, texts))


_LOOPBACK = _networks("127.0.0.0/8", "::1/128")
_UNICAST = _networks("2000::/3", "fc00::/7")
"""The IPv6 addresses of machines, global and unique local. RFC 4291, section 2.4, and RFC 4193."""
REFUSED = {
    network: kind
    for kind, networks in {
        "is unspecified": _networks("::/128"),
        "means the reader's own network": _networks("0.0.0.0/8"),
        "is link-local": _networks("169.254.0.0/16", "fe80::/10"),
        "is site-local": _networks("fec0::/10"),
        "is multicast": _networks("224.0.0.0/4", "ff00::/8"),
        "is broadcast": _networks("255.255.255.255/32"),
        "is reserved": _networks("240.0.0.0/4"),
        "is an anycast address of relays": _networks("192.88.99.0/24"),
        "carries an IPv4 address (IPv4-mapped)": _networks("::ffff:0:0/96"),
        "carries an IPv4 address (IPv4-translated)": _networks("::ffff:0:0:0/96"),
        "carries an IPv4 address (IPv4-compatible)": _networks("::/96"),
        "carries an IPv4 address (NAT64)": _networks("64:ff9b::/96", "64:ff9b:1::/48"),
        "carries an IPv4 address (Teredo)": _networks("2001::/32"),
        "is assigned to a protocol": _networks("192.0.0.0/24", "2001::/23"),
    }.items()
    for network in networks
}
"""The first network that contains an address gives the reason."""
_ISATAP = 0x5EFE
_ISATAP_UNIVERSAL_BIT = 0x0200_0000


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """An IP address, IPv4 or IPv6, with the port at which a peer can be reached."""

    ip: str
    """In canonical form, without brackets."""
    port: int
    """1 to 65535."""

    def __str__(self) -> str:
        """Return `IP:PORT`, with brackets around an IPv6 address."""
        return f"[{self.ip}]:{self.port}" if self.is_ipv6 else f"{self.ip}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        """Whether the IP address is one of IPv6."""
        return ":" in self.ip

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the canonical form, and no other, so that two texts that differ are two addresses.

        Raises:
            ValueError: it is not an address in this form.
        """
        host, _, port = text.rpartition(":")
        in_brackets = host.startswith("[") and host.endswith("]")
        ip = str(ipaddress.ip_address(host[1:-1] if in_brackets else host))
        address = cls(ip, int(port[:6]) if port.isascii() and port.isdecimal() else 0)
        if not 1 <= address.port <= 65535 or str(address) != text:
            raise ValueError(text)
        return address

    def to_json(self) -> bytes:
        """Return the body of the reply to a classic look-up."""
        return json.dumps({"ip": self.ip, "port": self.port}).encode()


@lru_cache(maxsize=CACHE_SIZE)
def endpoint_fault(text: str) -> str | None:
    """Return why a text is not the `IP:PORT` of a peer, as words that follow it; None if it is one."""
    try:
        return address_fault(PeerAddress.parse(text).ip)
    except ValueError:
        return "is not IP:PORT in canonical form"


def address_fault(ip: str) -> str | None:
    """Return why a peer cannot have this IP address, as words that follow it; None if it can.

    Raises:
        ValueError: it is not an IP address.
    """
    return _fault(ipaddress.ip_address(ip))


def is_loopback(ip: str) -> bool:
    """Whether an IP address leads to the machine that connects to it; raises `ValueError` if it is not an address."""
    return _is_in(ipaddress.ip_address(ip), _LOOPBACK)


def _fault(ip: _Address) -> str | None:
    if getattr(ip, "scope_id", None):
        return "names a zone"
    if _is_in(ip, _LOOPBACK):
        return None
    for network, kind in REFUSED.items():
        if ip in network:
            return kind
    return _ipv6_fault(ip) if isinstance(ip, ipaddress.IPv6Address) else None


def _ipv6_fault(ip: ipaddress.IPv6Address) -> str | None:
    if not _is_in(ip, _UNICAST):
        return "is neither a global nor a unique local unicast address"
    if (int(ip) >> 32) & 0xFFFF_FFFF & ~_ISATAP_UNIVERSAL_BIT == _ISATAP:
        return "carries an IPv4 address (ISATAP)"
    carried = ip.sixtofour
    if carried is not None and (_fault(carried) or not carried.is_global):
        return "carries an IPv4 address that is not public (6to4)"
    return None


def _is_in(ip: _Address, networks: _Networks) -> bool:
    return any(ip in network for network in networks)


LAN = "lan:"
"""In place of the URL of a registry: there is none, and peers find each other on the local network."""
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|[0-9a-f:.]*:[0-9a-f:.]*")
_PLACE = re.compile(
    r"(?:(?:(?P<host>[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?)|\[(?P<ipv6>[0-9a-f:.]{2,45})\]):)?"
    r"(?P<port>[1-9][0-9]{0,4})"
)
DEFAULT_PORTS = {"http": 80, "https": 443}  # of the schemes that a registry may have


def registry_or_lan(text: str) -> str:
    """Return `LAN` for that or `lan`, otherwise the canonical URL of a registry.

    Raises:
        ValueError: it is neither.
    """
    is_lan = text.strip().casefold() in (LAN, LAN.rstrip(":"))
    return LAN if is_lan else registry_url(text)


def registry_url(text: str) -> str:
    """Return the canonical URL of a registry, `http://host[:port]` or `https`.

    Args:
        text: a URL, or just `host:port`.

    Raises:
        ValueError: it is not the URL of a registry.
    """
    parts = urlsplit(text.strip() if "://" in text else f"http://{text.strip()}")
    host, port = parts.hostname or "", parts.port
    extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in DEFAULT_PORTS or extra or not _HOST.fullmatch(host) or port == 0:
        raise ValueError(text)
    shown = f"[{host}]" if ":" in host else host
    shown_port = "" if port in (None, DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{shown}{shown_port}"


def stun_place(text: str) -> tuple[str, int]:
    """Read `PORT`, which gives an empty host, or `HOST:PORT`: where a registry tells peers to ask for their address.

    Raises:
        ValueError: it is neither.
    """
    match = _PLACE.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise ValueError(text)
    host = match["host"] or ""
    if not match["ipv6"]:
        return host, int(match["port"])
    return str(ipaddress.IPv6Address(match["ipv6"])), int(match["port"])
