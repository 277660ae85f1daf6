"""Who may use the peer's page.

The page listens on loopback, which every program and every web page on this machine can reach. So each request is
checked for where it comes from, and almost each needs a session:

* *Host* must be a literal of loopback. A page of another origin that rebinds its name to 127.0.0.1 still sends its own.
* *Origin* and `Sec-Fetch-Site`, if present, must be those of this page. SameSite does not distinguish ports.
* A *token* in the URL (its fragment, which no server and no Referer sees) is exchanged once, within `TOKEN_AGE`, for a
  session: a cookie that scripts cannot read.
* A request that changes something has the *CSRF token*, which only this page learns.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from p2pshare.peer.page.replies import PageError
from p2pshare.storage.identity.page_sessions import SESSIONS_MAX, KeptPage
from p2pshare.web.exchange import Query

SECRET_SIZE = 32  # random bytes of a token or of a session
TOKEN_AGE = 60.0  # seconds
TOKENS_MAX = 16  # that wait to be used; further ones replace the oldest
SESSION_AGE = 30 * 24 * 3600  # seconds since the last use
USE_STEP = 3600  # seconds after which a later use of a session is written
COOKIE_PREFIX = "p2pshare-"

SAFE_METHODS = (b"GET",)
"""Methods that change nothing, and need no CSRF token; GET stands for HEAD, too."""


class Access:
    """The tokens and the sessions of a page, and the check of each request."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        folder: Path,
        draw: Callable[[int], bytes],
    ) -> None:
        """Read the sessions of a data folder.

        Args:
            clock: for the age of tokens.
            wall: the Unix time in s, for the age of sessions.
            folder: the data folder.
            draw: returns random bytes.
        """
        self.kept = KeptPage.read(folder)
        self._clock = clock
        self._wall = wall
        self._folder = folder
        self._draw = draw
        self._tokens: dict[str, float] = {}
        self._cookie = COOKIE_PREFIX + hashlib.sha256(bytes(folder)).hexdigest()[:8]
        self.on_end: Callable[[str], object] = lambda _: None
        """Is called with the digest of a session that has ended."""

    # Checks

    async def check(self, query: Query) -> None:
        """Check where a request comes from, and its CSRF token.

        Raises:
            PageError: it must not be answered.
        """
        host = query.header(b"Host")
        if not _is_own_host(host):
            raise PageError("forbidden", "The page answers only under an address of this machine.")
        scheme = "https" if query.is_secure else "http"
        if query.header(b"Origin") not in ("", f"{scheme}://{host}"):
            raise PageError("forbidden", "The request comes from another page.")
        site = query.header(b"Sec-Fetch-Site")
        if site not in ("", "same-origin", "none") and not _is_visit(query):
            raise PageError("forbidden", "The request comes from another page.")
        if query.method not in SAFE_METHODS:
            self._check_change(query)

    def _check_change(self, query: Query) -> None:
        if query.path == b"api/v1/session" and query.method == b"POST":
            return  # there is no session yet; what it has must be the token
        given, secret = query.header(b"X-CSRF-Token"), self._secret_of(query)
        if secret and not hmac.compare_digest(given.encode(), csrf_token(secret).encode()):
            raise PageError("forbidden", "The request lacks the CSRF token of the session.")

    def session(self, query: Query) -> str:
        """Return the secret of the session that a request belongs to.

        Raises:
            PageError: there is none, or it has ended.
        """
        secret = self._secret_of(query)
        digest, now = _digest(secret), int(self._wall())
        used = self.kept.sessions.get(digest) if secret else None
        if used is None:
            raise PageError("unauthorized", methods="token")
        if now - used > SESSION_AGE:
            self._end(digest)
            raise PageError("unauthorized", methods="token")
        if not 0 <= now - used < USE_STEP:
            self.kept.sessions[digest] = now
            self.save()
        return secret

    def is_valid(self, secret: str) -> bool:
        """Whether a session has not ended."""
        return _digest(secret) in self.kept.sessions

    def _secret_of(self, query: Query) -> str:
        """Return the value of our cookie; empty if there is none."""
        for each in query.header(b"Cookie").split(";"):
            name, _, value = each.strip().partition("=")
            if name == self._cookie:
                return value
        return ""

    # Signing in and out

    def token(self) -> str:
        """Return a new token, which `exchange` takes once."""
        self._forget_old_tokens()
        while len(self._tokens) >= TOKENS_MAX:
            del self._tokens[next(iter(self._tokens))]
        token = self._drawn()
        self._tokens[_digest(token)] = self._clock.seconds()
        return token

    def exchange(self, token: str) -> str:
        """Return the secret of a new session for a token.

        Raises:
            PageError: the token is unknown, used or too old.
        """
        self._forget_old_tokens()
        if self._tokens.pop(_digest(token), None) is None:
            detail = "The link was used before, or is too old. Open the page again."
            raise PageError("unauthorized", detail, methods="token")
        return self._begin()

    def sign_out(self, query: Query) -> None:
        """End the session that a request belongs to."""
        self._end(_digest(self.session(query)))

    def cookie(self, query: Query, secret: str) -> tuple[bytes, bytes]:
        """Return the header that sets the cookie; an empty secret removes it."""
        age = SESSION_AGE if secret else 0
        text = f"{self._cookie}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict"
        return b"Set-Cookie", (text + ("; Secure" if query.is_secure else "")).encode()

    def save(self) -> None:
        """Write the port and the sessions; without them, browsers need a new link after a restart."""
        try:
            self.kept.write(self._folder)
        except OSError as error:
            self._log.warn("sessions of the page not saved: reason={error}", error=str(error))

    def _begin(self) -> str:
        secret, now = self._drawn(), int(self._wall())
        sessions = self.kept.sessions
        while len(sessions) >= SESSIONS_MAX:
            self._end(min(sessions, key=lambda each: sessions[each]))
        sessions[_digest(secret)] = now
        self.save()
        return secret

    def _end(self, digest: str) -> None:
        if self.kept.sessions.pop(digest, None) is not None:
            self.save()
            self.on_end(digest)

    def _drawn(self) -> str:
        return base64.urlsafe_b64encode(self._draw(SECRET_SIZE)).decode().rstrip("=")

    def _forget_old_tokens(self) -> None:
        now = self._clock.seconds()
        self._tokens = {each: at for each, at in self._tokens.items() if now - at < TOKEN_AGE}


def csrf_token(secret: str) -> str:
    """Return the CSRF token of a session: it reveals nothing of the secret."""
    return hmac.digest(secret.encode(), b"p2pshare page csrf", "sha256").hex()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _is_own_host(host: str) -> bool:
    """Whether a `Host` is `localhost` or a literal of loopback, with or without a port."""
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, "80"
    if not (port.isascii() and port.isdigit()):
        return False
    if name == "localhost":
        return True
    literal = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    with suppress(ValueError):
        address = ipaddress.ip_address(literal)
        return address.is_loopback and (address.version == 6) == (literal != name)
    return False


def _is_visit(query: Query) -> bool:
    """Whether a request only opens the page itself, as a link on another page does."""
    return (
        query.method == b"GET"
        and query.path == b""
        and query.header(b"Sec-Fetch-Mode") == "navigate"
        and query.header(b"Sec-Fetch-Dest") == "document"
    )
