"""Where a registry listens: endpoint strings, and ports that several processes share."""

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
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import StandardIOEndpoint, serverFromString
from twisted.internet.error import CannotListenError, VerifyError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.tcp import makeBinding
from twisted.python.failure import Failure

from p2pshare.errors import BadSetting, CannotStart
from p2pshare.net.sockets import IPAddress, addresses_of_this_machine
from p2pshare.storage.reasons import plain_reason

EXPECTED = "a port, or an endpoint such as tcp:8000:interface=127.0.0.1"
CREDENTIALS = "an endpoint whose key and certificate can be read (%s)"

URLS_MAX = 8  # shown at the start

_TLS = re.compile(r"(?:haproxy:)*(?:tls|ssl):")
_TLS_FOLDER = re.compile(r"(?:haproxy:)*tls:([^:=\\]+)")


class CannotShareError(Exception):
    """Several processes cannot listen on an endpoint of this kind."""


class CheckedPorts:
    """A reactor that looks at a certificate before it listens: Twisted would do so at the first connection."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        """All the rest is the real one's."""
        return getattr(self._reactor, name)

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
        where = self._binding(port, interface)
        return self._reactor.listenSSL(where, factory, contextFactory, backlog, interface)

    def _binding(self, port: int, interface: str) -> Any:
        return port


class SharablePorts(CheckedPorts):
    """A reactor that listens alone, but only where `SharedPorts` could share."""

    def __getattr__(self, name: str) -> Any:
        """All the rest is the real one's."""
        if name in ("listenUNIX", "adoptStreamPort"):
            raise CannotShareError
        return super().__getattr__(name)


class SharedPorts(CheckedPorts):
    """A reactor on whose TCP ports other processes of this user can listen too (`SO_REUSEPORT`).

    The kernel spreads the connections over all that listen.

    Args:
        reactor: the real one.
        port: what port 0 stands for: each process would get another one.
    """

    def __init__(self, reactor: Any, port: int) -> None:
        super().__init__(reactor)
        self._port = port

    def listenTCP(  # noqa: N802 - IReactorTCP
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """See `IReactorTCP`."""
        where = self._binding(port, interface)
        return self._reactor.listenTCP(where, factory, backlog, interface)

    def _binding(self, port: int, interface: str) -> Any:
        return makeBinding(interface, port or self._port, reuseAddress=True, reusePort=True)


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint, and how the user wrote it."""

    description: str
    endpoint: IStreamServerEndpoint

    @classmethod
    def of(cls, reactor: Any, description: str, source: str = "--listen") -> Place:
        """Read an endpoint string.

        Args:
            reactor: what listens: `CheckedPorts`, or a subclass.
            description: see `serverFromString`.
            source: the option that it comes from.

        Raises:
            BadSetting: it means nothing, or names files that cannot be read.
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
            reason = "they do not fit together, or are no PEM"
            raise _bad(description, CREDENTIALS % reason, source) from error
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            expected = EXPECTED
            if "PEM" in str(error):
                expected = CREDENTIALS % "there is no PEM"
            raise _bad(description, expected, source) from error
        return cls(description, endpoint)

    def listen(self, factory: IProtocolFactory) -> IListeningPort:
        """Listen, at once.

        Raises:
            CannotStart: that is not possible.
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
    """Why a port could not be had; what is none of the reasons for that is raised."""
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
        return "the key and the certificate do not fit together"
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
    """The URLs at which ports serve, for people and joined by commas: those that others can use, if there are any.

    A port that listens on every address has a URL for each address of this machine, now. `URLS_MAX` are shown.
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
    """Whether a port on every IPv6 address takes connections over IPv4, too."""
    only = getattr(socket, "IPV6_V6ONLY", None)
    return only is None or not port.socket.getsockopt(socket.IPPROTO_IPV6, only)


def port_number(port: IListeningPort) -> int:
    """Its number; 0 where there are none."""
    return int(getattr(port.getHost(), "port", 0))
