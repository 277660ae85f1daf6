"""Where a registry listens: endpoint strings, ports that several processes share, and their URLs."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from OpenSSL.crypto import Error as CryptoError
from OpenSSL.SSL import Error as TLSError
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import StandardIOEndpoint, serverFromString
from twisted.internet.error import CannotListenError, VerifyError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.tcp import makeBinding
from twisted.python.failure import Failure

from p2pshare.errors import BadSetting, CannotStart
from p2pshare.net.sockets import IPAddress, addresses_of_this_machine, takes_both_families
from p2pshare.registry.stun import StunPorts
from p2pshare.storage.os_errors import plain_reason

EXPECTED = "a port, or an endpoint such as tcp:8000:interface=127.0.0.1"
CREDENTIALS = "an endpoint whose key and certificate can be read (%s)"

URLS_MAX = 8  # that are shown at the start

Listen = tuple[tuple[str, int], ...]
"""Endpoint strings, and for each the number that port 0 stands for in it."""

_TLS = re.compile(r"(?:haproxy:)*(?:tls|ssl):")
_TLS_FOLDER = re.compile(r"(?:haproxy:)*tls:([^:=\\]+)")


class CannotShareError(Exception):
    """Several processes cannot share an endpoint of this kind."""


class ListeningReactor:
    """A reactor for endpoints that checks a certificate before it listens; Twisted would do so at the first connection.

    Args:
        reactor: the real one.
        sharable: refuse endpoints that several processes could not share.
        every_address: the interface of a port for which none is given; by default both families, or IPv4 on a machine
            where one socket does not take both.
        shared_port: share TCP ports with other processes of this user (`SO_REUSEPORT`): the kernel spreads the
            connections over them. The number replaces port 0, for which each process would get another one.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        sharable: bool = False,
        shared_port: int | None = None,
        every_address: str | None = None,
    ) -> None:
        self._reactor = reactor
        self._sharable = sharable
        self._shared_port = shared_port
        if every_address is None:
            every_address = "::" if takes_both_families() else ""
        self._every_address = every_address

    def __getattr__(self, name: str) -> Any:
        """Return what the real reactor has."""
        if self._sharable and name in ("listenUNIX", "adoptStreamPort"):
            raise CannotShareError
        return getattr(self._reactor, name)

    def listenTCP(  # noqa: N802 - IReactorTCP
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """See `IReactorTCP`."""
        interface = interface or self._every_address
        return self._reactor.listenTCP(self._where(port, interface), factory, backlog, interface)

    def listenSSL(  # noqa: N802 - IReactorSSL
        self,
        port: int,
        factory: Any,
        contextFactory: Any,  # noqa: N803 - IReactorSSL
        backlog: int = 50,
        interface: str = "",
    ) -> Any:
        """See `IReactorSSL`."""
        contextFactory.getContext()
        interface = interface or self._every_address
        where = self._where(port, interface)
        return self._reactor.listenSSL(where, factory, contextFactory, backlog, interface)

    def _where(self, port: int, interface: str) -> Any:
        if self._shared_port is None:
            return port
        return makeBinding(interface, port or self._shared_port, reuseAddress=True, reusePort=True)


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint, and its description by the user."""

    description: str
    endpoint: IStreamServerEndpoint

    @classmethod
    def of(cls, reactor: Any, description: str, source: str = "--listen") -> Place:
        """Read an endpoint string.

        Args:
            reactor: a `ListeningReactor`.
            description: see `serverFromString`.
            source: the option with this string.

        Raises:
            BadSetting: it is malformed, or names files that cannot be read.
        """
        try:
            endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
            folder = _TLS_FOLDER.match(description)
            if isinstance(endpoint, StandardIOEndpoint):
                raise ValueError
            if folder and not any(Path(folder[1]).glob("*.pem")):
                raise ValueError("no PEM files")
        except OSError as error:
            reason = f"{error.filename}: {plain_reason(error)}"
            raise _bad(description, CREDENTIALS % reason, source) from error
        except (CryptoError, TLSError, VerifyError) as error:
            reason = "they do not match, or are no PEM"
            raise _bad(description, CREDENTIALS % reason, source) from error
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            expected = EXPECTED
            if "PEM" in str(error):
                expected = CREDENTIALS % "there is no PEM"
            raise _bad(description, expected, source) from error
        return cls(description, endpoint)

    def listen(self, factory: IProtocolFactory) -> IListeningPort:
        """Begin to listen.

        Raises:
            CannotStart: it cannot.
        """
        listening: Deferred[IListeningPort] = maybeDeferred(self.endpoint.listen, factory)
        results: list[IListeningPort] = []
        failures: list[Failure] = []
        listening.addCallbacks(results.append, failures.append)
        for failure in failures:
            reason = f"it cannot listen on {self.description}: {_reason(failure)}"
            raise CannotStart(what="The registry", reason=reason) from failure.value
        (port,) = results
        return port


def _bad(description: str, expected: str, source: str) -> BadSetting:
    return BadSetting(source=source, setting="the endpoint", value=description, expected=expected)


def _reason(failure: Failure) -> str:
    """Return why it cannot listen; raise any other failure."""
    error = failure.value
    if isinstance(error, CannotListenError):
        if isinstance(error.socketError, socket.gaierror):
            return "this machine has no such interface"
        if isinstance(error.socketError, OSError):
            return plain_reason(error.socketError)
        return "another process uses it"  # the lock of a Unix socket
    if isinstance(error, OSError):
        return plain_reason(error)
    if isinstance(error, OverflowError):
        return "a port is a number up to 65535"
    if isinstance(error, TLSError | CryptoError):
        return "the key and the certificate do not match"
    if isinstance(error, CannotShareError):
        return (
            "several workers cannot share an endpoint of this kind. Use tcp:, tcp6:, ssl: or tls:,"
            " or --workers 1"
        )
    failure.raiseException()
    raise AssertionError("it has raised") from error


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
