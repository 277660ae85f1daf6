"""Where a registry listens: its ports, and their URLs."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from p2pshare.net.sockets import IPAddress, addresses_of_this_machine
from p2pshare.registry.stun import StunPorts
from p2pshare.web.listening import Place

URLS_MAX = 8  # that are shown at the start

Listen = tuple[tuple[str, int], ...]
"""Endpoint strings, and for each the number that port 0 stands for in it."""

_TLS = re.compile(r"(?:haproxy:)*(?:tls|ssl):")


def shown_urls(
    places: Sequence[tuple[Place, IListeningPort]],
    addresses: Callable[[], Sequence[IPAddress]] = addresses_of_this_machine,
) -> str:
    """Return the URLs of ports for people, joined by commas: at most `URLS_MAX`, and how many more there are.

    A port that listens on every address has a URL for each current address of this machine; if it has none that other
    machines can use, the loopback address.
    """
    urls: dict[str, None] = {}
    for place, port in places:
        for url in _urls(place, port, addresses):
            urls[url] = None
    shown = list(urls)[:URLS_MAX]
    if len(urls) > URLS_MAX:
        shown.append(f"{len(urls) - URLS_MAX} more")
    return ", ".join(shown)


def _urls(
    place: Place, port: IListeningPort, addresses: Callable[[], Sequence[IPAddress]]
) -> Iterator[str]:
    end: Any = port.getHost()
    if not hasattr(end, "host"):
        name = getattr(end, "name", None)
        yield f"unix:{name.decode(errors='replace')}" if isinstance(name, bytes) else str(end)
        return
    scheme = "https" if _TLS.match(place.description) else "http"
    bound = ipaddress.ip_address(end.host.partition("%")[0])
    hosts: Sequence[IPAddress] = [bound]
    if bound.is_unspecified:
        versions = (4, 6) if bound.version == 6 and _takes_ipv4(port) else (bound.version,)
        hosts = [each for each in addresses() if each.version in versions]
        hosts = hosts or [ipaddress.ip_address("127.0.0.1" if 4 in versions else "::1")]
    for host in hosts:
        shown = f"[{host}]" if host.version == 6 else str(host)
        yield f"{scheme}://{shown}:{end.port}"


def _takes_ipv4(port: Any) -> bool:
    """Return whether a port on every IPv6 address accepts connections over IPv4 as well."""
    only = getattr(socket, "IPV6_V6ONLY", None)
    return only is None or not port.socket.getsockopt(socket.IPPROTO_IPV6, only)


class Ports:
    """The ports of a registry: those for clients, those with the metrics only, and those for STUN."""

    def __init__(self, places: Sequence[Place], metrics: Sequence[Place], stun: StunPorts) -> None:
        """Prepare them; none is open yet."""
        self._places = places
        self._metrics = metrics
        self.stun = stun
        self._open: list[IListeningPort] = []

    def open(self, site: IProtocolFactory, metrics_site: IProtocolFactory) -> None:
        """Begin to listen on all of them.

        Raises:
            CannotStart: that fails for one of them; others may be open.
        """
        for place in self._places:
            self._open.append(place.listen(site))
        for place in self._metrics:
            self._open.append(place.listen(metrics_site))
        self.stun.open(self._open[: len(self._places)])

    async def close(self) -> None:
        """Stop listening."""
        self.stun.close()
        ports, self._open = self._open, []
        await gatherResults([maybeDeferred(port.stopListening) for port in ports])

    def urls(self) -> str:
        """Return the URLs for clients, as people read them."""
        return shown_urls(list(zip(self._places, self._open, strict=False)))

    def numbered(self) -> tuple[Listen, Listen]:
        """Return the endpoints of both kinds, with the numbers of their open ports."""
        places = [*self._places, *self._metrics]
        listen = tuple(
            (place.description, port_number(port))
            for place, port in zip(places, self._open, strict=True)
        )
        return listen[: len(self._places)], listen[len(self._places) :]


def port_number(port: IListeningPort) -> int:
    """Return the number of a port; 0 if it has none."""
    return int(getattr(port.getHost(), "port", 0))
