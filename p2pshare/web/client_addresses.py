"""The address of a client, also behind trusted proxies, and the network that it belongs to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from p2pshare.web.exchange import Query

HOPS_MAX = 16  # entries of an X-Forwarded-For that are read, from the right

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from."""

    ip: str
    """The client's IP address; empty for a Unix socket."""
    host: str
    """One client, for limits: an IPv4 address, or a /64 of IPv6."""
    network: str
    """One network, for limits: a /24 of IPv4, or a /56 of IPv6."""
    is_here: bool
    """Whether the client is a process of this machine that came without a proxy: it comes from loopback, or both ends
    of the connection have the same address. Nothing is remembered for that, so the machine's addresses may change."""


class Origins:
    """Finds out where requests come from."""

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        """Trust `X-Forwarded-For` and `X-Forwarded-Proto` of these IP addresses and networks.

        Raises:
            ValueError: one is malformed.
        """
        self._trusted = tuple(ipaddress.ip_network(each, strict=False) for each in trusted_proxies)

    def of(self, query: Query) -> Origin:
        """Return the origin of a query: the rightmost address on its way that is not a trusted proxy's."""
        forwarded = query.header(b"X-Forwarded-For")
        if forwarded and self._trusted and self._trusts(query.source):
            return self._forwarded(query.source, forwarded)
        is_own = query.local is not None and query.local[0] == query.source
        # An untrusted proxy on this machine speaks for others, too.
        return _origin(query.source, through_proxy=bool(forwarded), is_own=is_own)

    def is_secure(self, query: Query) -> bool:
        """Whether a query came over TLS: to this process, or to a trusted proxy by its `X-Forwarded-Proto`."""
        if query.is_secure or not self._trusted or not self._trusts(query.source):
            return query.is_secure
        return query.header(b"X-Forwarded-Proto").rpartition(",")[2].strip().lower() == "https"

    def _forwarded(self, source: str, forwarded: str) -> Origin:
        client = source
        for entry in reversed(forwarded.rsplit(",", HOPS_MAX)[-HOPS_MAX:]):
            address = _parsed(_without_port(entry.strip()))
            if address is None:
                break  # no proxy writes this: the last address that is known counts as the client
            client = str(address)
            if not self._trusts(client):
                break
        return _origin(client, through_proxy=True)

    def _trusts(self, source: str) -> bool:
        # Only processes of this machine reach a Unix socket.
        return not source or _is_in(source, self._trusted)


def plain_ip(text: str) -> str:
    """Return an IPv4 address instead of one of IPv6 that stands for it (`::ffff:192.0.2.7`); any other text as it is.

    A port for both families sees clients over IPv4 that way.
    """
    if not text.lower().startswith("::ffff:"):
        return text
    address = _parsed(text)
    return text if address is None else str(address)


def origin_of(source: str) -> Origin:
    """Return the origin for the address of a connection."""
    return _origin(source, through_proxy=False)


@lru_cache(maxsize=8192)
def _origin(source: str, through_proxy: bool, is_own: bool = False) -> Origin:
    address = _parsed(source)
    if address is None:
        return Origin("", "local", "local", not through_proxy)
    ip, is_here = str(address), (is_own or address.is_loopback) and not through_proxy
    if isinstance(address, ipaddress.IPv4Address):
        return Origin(ip, ip, _network(ip, 24), is_here)
    return Origin(ip, _network(ip, 64), _network(ip, 56), is_here)


@lru_cache(maxsize=1024)
def _is_in(source: str, networks: tuple[_Network, ...]) -> bool:
    address = _parsed(source)
    return address is not None and any(address in network for network in networks)


def _network(ip: str, bits: int) -> str:
    return str(ipaddress.ip_network(f"{ip}/{bits}", strict=False))


def _parsed(text: str) -> _Address | None:
    """Return the address without a zone; an IPv4 address in IPv6 notation becomes one of IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _without_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
