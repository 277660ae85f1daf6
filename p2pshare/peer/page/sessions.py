"""The ways into the peer's page: links with a token, the password, and the sessions of browsers.

A browser gets a session for a token or for the password. A *token* is in a link that a command has made. It works once,
within `TOKEN_AGE`. The *password* is for other machines, so it may be guessed: the number of wrong ones is bounded, for
each client and in all. A *session* is known by a secret, which the browser keeps as a cookie, and of which the peer
keeps only a digest.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from math import ceil
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from p2pshare.peer.page.replies import PageError
from p2pshare.storage.identity.page_sessions import SESSIONS_MAX, KeptPage

SECRET_SIZE = 32  # random bytes of a token or of a session
TOKEN_AGE = 60.0  # seconds
TOKENS_MAX = 16  # that wait to be used; a further one replaces the oldest
SESSION_AGE = 30 * 24 * 3600  # seconds since the last use
USE_STEP = 3600  # seconds after which a later use of a session is written

WRONG_PERIOD = 60.0  # seconds for which a wrong password counts
WRONG_MAX = 30  # wrong passwords within that time, of all clients
WRONG_PER_CLIENT_MAX = 5  # of one client


class Sessions:
    """The tokens, the password and the sessions of a page."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        folder: Path,
        draw: Callable[[int], bytes],
        password: str | None = None,
    ) -> None:
        """Read the sessions of a data folder.

        Args:
            clock: for the age of tokens, and for wrong passwords.
            wall: the Unix time in s, for the age of sessions.
            folder: the data folder.
            draw: returns random bytes.
            password: that signs anybody in; None for none.
        """
        self.kept = KeptPage.read(folder)
        used = self.kept.sessions
        self.kept.sessions = {
            each: used[each] for each in used if wall() - used[each] <= SESSION_AGE
        }
        self._clock = clock
        self._wall = wall
        self._folder = folder
        self._draw = draw
        self._password = None if password is None else digest_of(password)
        self._tokens: dict[str, float] = {}
        """When each was made, by its digest; the oldest first."""
        self._wrong: list[tuple[float, str]] = []
        """When and by whom a wrong password was tried."""
        self.on_end: Callable[[], object] = lambda: None
        """Is called when a session has ended."""

    @property
    def ways(self) -> str:
        """Return the ways to sign in, separated by a space."""
        return "token" if self._password is None else "token password"

    def token(self) -> str:
        """Return a new token, which `exchange` takes once."""
        self._forget_old_tokens()
        while len(self._tokens) >= TOKENS_MAX:
            del self._tokens[next(iter(self._tokens))]
        token = self._drawn()
        self._tokens[digest_of(token)] = self._clock.seconds()
        return token

    def exchange(self, token: str) -> str:
        """Return the secret of a new session for a token.

        Raises:
            PageError: the token is unknown, used or too old.
        """
        self._forget_old_tokens()
        if self._tokens.pop(digest_of(token), None) is None:
            raise self.refusal("The link was used before, or is too old. Open the page again.")
        return self._begin()

    def try_password(self, password: str, client: str) -> str:
        """Return the secret of a new session for the password.

        Args:
            password: what the user has typed.
            client: where it comes from.

        Raises:
            PageError: it is wrong, there is none, or too many wrong ones were tried.
        """
        if self._password is None:
            raise self.refusal("This page has no password.")
        now = self._clock.seconds()
        self._wrong = [each for each in self._wrong if now - each[0] < WRONG_PERIOD]
        own = [at for at, whose in self._wrong if whose == client]
        for among, most in (
            (own, WRONG_PER_CLIENT_MAX),
            ([at for at, _ in self._wrong], WRONG_MAX),
        ):
            if len(among) >= most:
                wait = ceil(among[-most] + WRONG_PERIOD - now)
                detail = f"Too many wrong passwords. Try again in {wait} s."
                raise PageError("too-many-requests", detail, retry_after=wait)
        if not hmac.compare_digest(digest_of(password), self._password):
            self._wrong.append((now, client))
            self._log.warn("wrong password for the page: client={client}", client=client)
            raise self.refusal("The password is wrong.")
        return self._begin()

    def use(self, secret: str) -> None:
        """Note that a session is used.

        Raises:
            PageError: there is no such session, or it has ended.
        """
        digest, now = digest_of(secret), int(self._wall())
        used = self.kept.sessions.get(digest) if secret else None
        if used is not None and now - used > SESSION_AGE:
            self.end(secret)
            used = None
        if used is None:
            raise self.refusal()
        if not 0 <= now - used < USE_STEP:
            self.kept.sessions[digest] = now
            self.save()

    def is_valid(self, secret: str) -> bool:
        """Whether a session has not ended."""
        used = self.kept.sessions.get(digest_of(secret))
        return used is not None and self._wall() - used <= SESSION_AGE

    def end(self, secret: str) -> None:
        """End a session."""
        self._end(digest_of(secret))

    def refusal(self, detail: str = "") -> PageError:
        """Return the error that asks a browser to sign in."""
        return PageError("unauthorized", detail, methods=self.ways)

    def save(self) -> None:
        """Write the port and the sessions; without them, browsers need a new link after a restart."""
        try:
            self.kept.write(self._folder)
        except OSError as error:
            self._log.warn("sessions of the page not saved: reason={error}", error=str(error))

    def _begin(self) -> str:
        secret, sessions = self._drawn(), self.kept.sessions
        while len(sessions) >= SESSIONS_MAX:
            self._end(min(sessions, key=lambda each: sessions[each]))
        sessions[digest_of(secret)] = int(self._wall())
        self.save()
        return secret

    def _end(self, digest: str) -> None:
        if self.kept.sessions.pop(digest, None) is not None:
            self.save()
            self.on_end()

    def _drawn(self) -> str:
        return base64.urlsafe_b64encode(self._draw(SECRET_SIZE)).decode().rstrip("=")

    def _forget_old_tokens(self) -> None:
        now = self._clock.seconds()
        self._tokens = {each: at for each, at in self._tokens.items() if now - at < TOKEN_AGE}


def csrf_token(secret: str) -> str:
    """Return the CSRF token of a session: it reveals nothing of the secret."""
    return hmac.digest(secret.encode(), b"p2pshare page csrf", "sha256").hex()


def digest_of(secret: str) -> str:
    """Return the digest by which the peer knows a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
