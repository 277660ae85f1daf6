"""The checks of where a request to the peer's page comes from.

The page listens on loopback, which every user, every program and every web page on this machine can reach. So each
request is checked before it is answered, and almost each needs a session besides (`sessions`):

* *User*: on Linux, the other end of a connection within this machine must belong to the same user, or to root. Others
  are refused when they connect, so they take no place either. Cookies are not bound to a port: another service on this
  machine that the user visits sees ours, but cannot use it.
* *Host* must be a literal of loopback, or a name that the certificate proves. A page of another origin that rebinds its
  own name to 127.0.0.1 sends that name. Without TLS, `localhost` only leads to the literal: it has an address of IPv6,
  too, at which another user can serve the same port, and would then be of our origin.
* *Origin* and `Sec-Fetch-Site`, if present, must be those of this page. The attribute SameSite of the cookie is not
  enough: all ports of a host are one site.
* A request that changes something has the *CSRF token*, which only this page learns.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from p2pshare.net.socket_owner import End
from p2pshare.peer.page.replies import PageError, PageMoved
from p2pshare.peer.page.sessions import SESSION_AGE, Sessions, csrf_token
from p2pshare.web.client_addresses import Origins
from p2pshare.web.exchange import Query

LOCALHOST = "localhost"
COOKIE_PREFIX = "p2pshare-"
COOKIES_MAX = 8  # of our name that are looked at
SESSION_PATH = b"api/v1/session"
SAFE_METHODS = (b"GET",)
"""Methods that change nothing, and need no CSRF token; GET stands for HEAD, too."""

OwnerOf = Callable[[End, End], int]
"""Tells who has the other end of a connection, as `net.socket_owner.owner_of`."""


@dataclass(frozen=True, slots=True)
class OwnHosts:
    """The hosts under which the page answers."""

    names: tuple[str, ...] = ()
    """In lower case; one may begin with `*.`, which stands for one label."""
    any_address: bool = False
    """Whether every IP address is one of them, and not only those of loopback."""
    literal: str = ""
    """The address, as it stands in a URL, to which `localhost` leads if that is none of the names."""

    def place_of_page(self, host: str) -> str:
        """Return the URL of the page for a `Host` that only leads there; empty if it is another one."""
        name, port = _split(host)
        return (
            f"http://{self.literal}:{port}/" if self.literal and port and name == LOCALHOST else ""
        )

    def has(self, host: str) -> bool:
        """Whether a `Host` is one of them, with or without a port."""
        name, port = _split(host)
        if not port:
            return False
        if name in self.names or f"*.{name.partition('.')[2]}" in self.names:
            return True
        literal = name[1:-1] if name.startswith("[") and name.endswith("]") else name
        with suppress(ValueError):
            address = ipaddress.ip_address(literal)
            is_allowed = self.any_address or address.is_loopback
            return is_allowed and (address.version == 6) == (literal != name)
        return False


class Access:
    """Checks each request, and finds the session that it belongs to."""

    def __init__(self, sessions: Sessions, folder: Path, owner_of: OwnerOf | None) -> None:
        """Check by these rules.

        Args:
            sessions: who is signed in.
            folder: the data folder, which gives the cookie its name: peers of one host share their cookies.
            owner_of: tells who has the other end of a connection; None for a system that does not tell.
        """
        self.sessions = sessions
        self.hosts = OwnHosts()
        """The names of this page."""
        self._owner_of = owner_of
        self._origins = Origins()
        self._cookie = COOKIE_PREFIX + hashlib.sha256(bytes(folder)).hexdigest()[:8]

    def check(self, query: Query) -> None:
        """Check where a request comes from, and its CSRF token.

        Raises:
            PageError: it must not be answered.
        """
        host = query.header(b"Host")
        if not self.hosts.has(host):
            place = self.hosts.place_of_page(host)
            if place and query.method == b"GET" and query.path == b"":
                raise PageMoved(place)
            raise PageError("forbidden", "The page answers only under an address of its own.")
        scheme = "https" if query.is_secure else "http"
        if query.header(b"Origin").lower() not in ("", f"{scheme}://{host.lower()}"):
            raise PageError("forbidden", "The request comes from another page.")
        site = query.header(b"Sec-Fetch-Site")
        if site not in ("", "same-origin", "none") and not _is_visit(query):
            raise PageError("forbidden", "The request comes from another page.")
        if query.method not in SAFE_METHODS and query.path != SESSION_PATH:
            self._check_csrf(query)
        if query.path == SESSION_PATH and query.method == b"DELETE":
            self._check_csrf(query)

    def check_user(self, query: Query) -> None:
        """Check that the other end of the connection is of this user, and on this machine.

        Raises:
            PageError: it is not.
        """
        if not self._origins.of(query).is_here or query.local is None:
            raise PageError("forbidden", "The request comes from another machine.")
        if not self.is_own((query.source, query.source_port), query.local):
            raise PageError("forbidden", "The request comes from another user of this machine.")

    def is_own(self, end: End, other: End) -> bool:
        """Whether a socket at `end` of this machine, connected to `other`, is of this user or root, as far as it is
        known.
        """
        return self._owner_of is None or self._owner_of(end, other) in (os.geteuid(), 0)

    def _check_csrf(self, query: Query) -> None:
        given, secret = query.header(b"X-CSRF-Token"), self._secret_of(query)
        if not secret:
            raise self.sessions.refusal()
        if not hmac.compare_digest(given.encode(), csrf_token(secret).encode()):
            raise PageError("forbidden", "The request lacks the CSRF token of the session.")

    def session(self, query: Query) -> str:
        """Return the secret of the session that a request belongs to.

        Raises:
            PageError: there is none, or it has ended.
        """
        secret = self._secret_of(query)
        self.sessions.use(secret)
        return secret

    def cookie(self, query: Query, secret: str) -> tuple[bytes, bytes]:
        """Return the header that sets the cookie; an empty secret removes it."""
        age = SESSION_AGE if secret else 0
        text = f"{self._cookie}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict"
        return b"Set-Cookie", (text + ("; Secure" if query.is_secure else "")).encode()

    def client(self, query: Query) -> str:
        """Return where a request comes from, for limits."""
        return self._origins.of(query).host

    def _secret_of(self, query: Query) -> str:
        """Return the value of our cookie; empty if there is none.

        Another service of this host can set a cookie of the same name for some paths, which then comes first. It must
        not hide ours.
        """
        cookies = (each.strip().partition("=") for each in query.header(b"Cookie").split(";"))
        values = [value for name, _, value in cookies if name == self._cookie]
        valid = (value for value in values[:COOKIES_MAX] if self.sessions.is_valid(value))
        return next(valid, values[0] if values else "")


def _split(host: str) -> tuple[str, str]:
    """Return the name in a `Host`, in lower case, and the digits of its port; empty if the port is malformed."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host.lower(), "80"
    return name, port if port.isascii() and port.isdigit() else ""


def _is_visit(query: Query) -> bool:
    """Whether a request only opens the page itself, as a link on another page does."""
    return (
        query.method == b"GET"
        and query.path == b""
        and query.header(b"Sec-Fetch-Mode") == "navigate"
        and query.header(b"Sec-Fetch-Dest") == "document"
    )
