"""Where the peer's page listens: on loopback; elsewhere only with TLS and a password."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cryptography.x509 import DNSName, ExtensionNotFound, SubjectAlternativeName
from twisted.internet.error import CannotListenError

from p2pshare.errors import WrongUsage
from p2pshare.peer.page.access import LOCALHOST, OwnHosts
from p2pshare.web.listening import ListeningReactor, Place

LOOPBACK = "127.0.0.1"
DEFAULT = f"tcp:0:interface={LOOPBACK}"
"""The endpoint of a page that a command opens."""
KINDS = ("tcp", "tcp4", "tcp6", "ssl")
"""Kinds of endpoints that the page can have; of others it is not known here who reaches them, and over what."""

_OPEN = (
    "the page would be open to other machines. Add :interface=127.0.0.1 to the endpoint; or give it TLS"
    " (ssl:PORT:privateKey=FILE:certKey=FILE) and --page-password-file, and others can sign in"
)


class PageReactor(ListeningReactor):
    """A reactor for the endpoint of a page. After it has listened, `hosts` and `is_secure` describe the port."""

    def __init__(self, reactor: Any, number: int, *, has_password: bool) -> None:
        """Listen on `reactor`; `number` replaces port 0 if it is free. Other machines need TLS and a password."""
        super().__init__(reactor)
        self._number = number
        self._has_password = has_password
        self.hosts = OwnHosts()
        """The names of the page."""
        self.is_secure = False
        """Whether it has TLS."""
        self.interface = LOOPBACK
        """The address that it listens on; empty for all."""

    def listenTCP(  # noqa: N802 - IReactorTCP
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """See `IReactorTCP`."""
        if not _is_loopback(interface):
            raise WrongUsage(reason=f"--page is refused: {_OPEN}.")
        self.interface = interface
        self.hosts = OwnHosts(literal=self._literal)
        listen = self._reactor.listenTCP
        return self._listen(port, lambda number: listen(number, factory, backlog, interface))

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
        is_here = _is_loopback(interface)
        if not is_here and not self._has_password:
            raise WrongUsage(reason=f"--page is refused: {_OPEN}.")
        self.is_secure, self.interface = True, interface or self._every_address
        names = _names(contextFactory.certificate)
        self.hosts = OwnHosts((*names, LOCALHOST), any_address=not is_here)
        listen, where = self._reactor.listenSSL, self.interface
        return self._listen(
            port, lambda number: listen(number, factory, contextFactory, backlog, where)
        )

    def _listen(self, port: int, listen: Callable[[int], Any]) -> Any:
        """Listen on a port; for 0 on the one that the page had before, or on any if another program has that now."""
        if not port and self._number:
            with suppress(CannotListenError):
                return listen(self._number)
        return listen(port)

    def url(self, number: int) -> str:
        """Return the URL of the page for a browser on this machine, without a path; `number` is that of its port."""
        if not self.is_secure:
            return f"http://{self._literal}:{number}"
        name = next((each for each in self.hosts.names if not each.startswith("*.")), LOOPBACK)
        return f"https://{name}:{number}"

    @property
    def _literal(self) -> str:
        """Return the address that it listens on, as in a URL."""
        name = LOOPBACK if self.interface == LOCALHOST else self.interface
        return f"[{name}]" if ":" in name else name


def place_of(reactor: PageReactor, description: str) -> Place:
    """Return an endpoint for the page.

    Raises:
        BadSetting: the description is malformed, or names files that cannot be read.
        WrongUsage: the page cannot listen on an endpoint of this kind.
    """
    place = Place.of(reactor, description, "--page", "The page")
    if description.partition(":")[0] not in KINDS:
        reason = f"--page is refused: it must begin with {', '.join(KINDS[:-1])} or {KINDS[-1]}."
        raise WrongUsage(reason=reason)
    return place


def _is_loopback(interface: str) -> bool:
    if interface == LOCALHOST:
        return True
    try:
        return ipaddress.ip_address(interface).is_loopback
    except ValueError:
        return False


def _names(certificate: Any) -> tuple[str, ...]:
    """Return the DNS names of a certificate, in lower case."""
    try:
        extensions = certificate.to_cryptography().extensions
        names = extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in names.get_values_for_type(DNSName))
