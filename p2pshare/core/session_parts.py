"""The parts of one end of a session: a *serving* one, which answers the other end, a *requesting* one, and one for
*offers*, whichever end makes them.

Each part may be missing. An end that shares nothing answers as a share that is empty (`NothingShared`). An end that
has requested nothing ends the session if it is answered. An end that takes no offers refuses them (`NoOffers`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol

from p2pshare.core.ranges import Range
from p2pshare.core.session_interface import Session
from p2pshare.errors import P2pshareError, RemoteProtocolError
from p2pshare.wire.control_messages import OFFERS, REQUESTS
from p2pshare.wire.offers.messages import (
    InboxState,
    Offer,
    OfferFault,
    OfferState,
    Withdraw,
)
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import (
    Failed,
    Fault,
    Get,
    List,
    Listing,
)


class ServingPart(Protocol):
    """Answers requests, and sends files."""

    def message_received(self, message: Message) -> None:
        """Handle a request."""

    def room_again(self) -> None:
        """Handle that data may be sent again."""

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Handle the end of the session; see `SessionUser`."""


class RequestingPart(Protocol):
    """Receives answers, and files."""

    def message_received(self, message: Message) -> None:
        """Handle an answer."""

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Handle bytes of a file; see `SessionUser`."""

    def size_received(self, transfer: int, size: int) -> None:
        """Handle the size of a file; see `SessionUser`."""

    def fin_received(self, transfer: int) -> Sequence[Range]:
        """Return what is missing of a file; see `SessionUser`."""

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Handle the end of the session; see `SessionUser`."""


class OffersPart(Protocol):
    """Makes and takes offers, and passes on what becomes of them."""

    def message_received(self, message: Message) -> None:
        """Handle a message about an offer."""

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Handle the end of the session; see `SessionUser`."""


class SessionParts:
    """All parts as one `SessionUser`."""

    def __init__(
        self, serving: ServingPart, offers: OffersPart, requesting: RequestingPart | None = None
    ) -> None:
        self._serving = serving
        self._offers = offers
        self.requesting = requesting
        """None until this end requests something; it may come at any time, and stays."""
        self.on_end: Callable[[], object] = lambda: None
        """Called when the session is over, before its parts are told."""

    def message_received(self, message: Message) -> None:
        """Pass a message to the part that it is for."""
        if isinstance(message, REQUESTS):
            self._serving.message_received(message)
        elif isinstance(message, OFFERS):
            self._offers.message_received(message)
        else:
            self._asked().message_received(message)

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Pass bytes of a file to the requesting part."""
        self._asked().data_received(transfer, offset, data)

    def size_received(self, transfer: int, size: int) -> None:
        """Pass the size of a file to the requesting part."""
        self._asked().size_received(transfer, size)

    def fin_received(self, transfer: int) -> Sequence[Range]:
        """Ask the requesting part what is missing."""
        return self._asked().fin_received(transfer)

    def room_again(self) -> None:
        """Tell the serving part."""
        self._serving.room_again()

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Tell all parts, whatever one of them does."""
        self.on_end()
        parts = [self._serving, self._offers, *filter(None, [self.requesting])]
        with ExitStack() as ending:
            for part in reversed(parts):
                ending.callback(part.session_ended, reason)

    def _asked(self) -> RequestingPart:
        if self.requesting is None:
            raise RemoteProtocolError(reason="it answered a request that does not exist")
        return self.requesting


class NothingShared:
    """The serving part of an end that shares nothing: its top is an empty folder."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def message_received(self, message: Message) -> None:
        """Answer a request."""
        match message:
            case List(path=()):
                self._session.send(Listing(message.id, (), more=False))
            case Get(path=()):
                self._session.send(Failed(message.id, Fault.IS_FOLDER))
            case List() | Get():
                self._session.send(Failed(message.id, Fault.NOT_FOUND))

    def room_again(self) -> None:
        """Send nothing."""

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Nothing is left to end."""


class NoOffers:
    """The part for offers of an end that takes and makes none."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def message_received(self, message: Message) -> None:
        """Refuse an offer. What becomes of offers that this end does not know is ignored."""
        match message:
            case Offer(id):
                state = OfferState(id, InboxState.REFUSED, OfferFault.POLICY)
                self._session.send(state)
            case Withdraw(id):
                self._session.send(OfferState(id, InboxState.WITHDRAWN))

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Nothing is left to end."""
