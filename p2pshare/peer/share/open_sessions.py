"""The sessions that other peers have opened with this one, by the peers' names.

A session serves both ends. A peer that nobody can reach can still be asked over a session that it opened itself:
`OpenSessions.link` gives the requesting part of this end. It is made when it is first wanted, because most sessions
never need it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from twisted.internet.interfaces import IReactorTime

from p2pshare.core.credit import CreditControl
from p2pshare.core.rate import RateLimit
from p2pshare.core.receiver import ReceiverCore
from p2pshare.core.session_interface import Session, SessionUser
from p2pshare.core.session_parts import NoOffers, OffersPart, ServingPart, SessionParts
from p2pshare.errors import P2pshareError
from p2pshare.peer.fetch.link import Link

PATIENCE = 120.0  # seconds without any answer after which a session is ended


class OpenSessions:
    """All open sessions that were accepted."""

    def __init__(
        self,
        reactor: IReactorTime,
        credit: int,
        patience: float = PATIENCE,
        *,
        offers: Callable[[Session], OffersPart] = NoOffers,
    ) -> None:
        """Args:
        reactor: for timers.
        credit: bytes of files that openers were allowed to send by `Welcome`.
        patience: seconds without any answer to a request after which a session is ended.
        offers: returns the part of a session for offers.
        """
        self._reactor = reactor
        self._credit = credit
        self._patience = patience
        self.offers = offers
        """Returns the part of a session for offers; that of sessions that are added later."""
        self._sessions: dict[str, dict[Session, SessionParts]] = {}  # by name; the oldest first
        self._links: dict[Session, Link] = {}

    def add(self, session: Session, serving: ServingPart) -> SessionUser:
        """Add a session, and return its user, which passes requests on to `serving`."""
        parts = SessionParts(serving, self.offers(session))
        parts.on_end = partial(self._remove, session)
        self._sessions.setdefault(session.name, {})[session] = parts
        return parts

    def __iter__(self) -> Iterator[Session]:
        """Iterate over all sessions."""
        for sessions in self._sessions.values():
            yield from sessions

    def link(self, name: str) -> Link | None:
        """Return this end's requests over the newest session that the peer `name` has opened; None if there is none.

        Requests that are open when the session ends are told by `interrupted`.
        """
        sessions = self._sessions.get(name)
        if not sessions:
            return None
        session = next(reversed(sessions))
        if session not in self._links:
            self._links[session] = self._new_link(session, sessions[session])
        return self._links[session]

    def _new_link(self, session: Session, parts: SessionParts) -> Link:
        now = self._reactor.seconds()
        core = ReceiverCore(CreditControl(RateLimit(None, now), now, self._credit))
        link = Link(self._reactor, session, core, _interrupt, self._patience)
        parts.requesting = link
        link.join()
        return link

    def _remove(self, session: Session) -> None:
        sessions = self._sessions[session.name]
        del sessions[session]
        if not sessions:
            del self._sessions[session.name]
        self._links.pop(session, None)


def _interrupt(link: Link, _reason: P2pshareError | None) -> None:
    link.core.interrupt()
