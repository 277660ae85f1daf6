"""Where an HTTP server listens: endpoint strings, and ports."""

from __future__ import annotations

import re
import socket
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
from p2pshare.net.sockets import takes_both_families
from p2pshare.storage.os_errors import plain_reason

EXPECTED = "a port, or an endpoint such as tcp:8000:interface=127.0.0.1"
CREDENTIALS = "an endpoint whose key and certificate can be read (%s)"

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
    what: str = "The registry"
    """The subject of an error."""

    @classmethod
    def of(
        cls,
        reactor: Any,
        description: str,
        source: str = "--listen",
        what: str = "The registry",
    ) -> Place:
        """Read an endpoint string.

        Args:
            reactor: a `ListeningReactor`.
            description: see `serverFromString`.
            source: the option with this string.
            what: listens there, as the subject of an error.

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
        return cls(description, endpoint, what)

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
            raise CannotStart(what=self.what, reason=reason) from failure.value
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
