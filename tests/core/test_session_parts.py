"""Tests of `p2pshare.core.session_parts`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.ranges import Range
from p2pshare.core.session_parts import NoOffers, NothingShared, SessionParts
from p2pshare.errors import P2pshareError, RemoteProtocolError
from p2pshare.wire.offers.messages import (
    InboxState,
    Offer,
    OfferFault,
    OfferItem,
    OfferNoted,
    OfferState,
    Withdraw,
    Withdrawal,
)
from p2pshare.wire.session_messages import Credit, Message
from p2pshare.wire.transfer_messages import (
    Cancel,
    Cancelled,
    Done,
    End,
    EntryKind,
    Failed,
    Fault,
    Get,
    Job,
    List,
    Listing,
)


class Part:
    """Any part, which records its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def message_received(self, message: Message) -> None:
        self.calls.append(message)

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        self.calls.append((transfer, offset, bytes(data)))

    def size_received(self, transfer: int, size: int) -> None:
        self.calls.append((transfer, size))

    def fin_received(self, transfer: int) -> Sequence[Range]:
        return [(transfer, 9)]

    def room_again(self) -> None:
        self.calls.append("room")

    def session_ended(self, reason: P2pshareError | None) -> None:
        self.calls.append(("over", reason))


class FailingPart(Part):
    """A part that fails at the end."""

    def session_ended(self, reason: P2pshareError | None) -> None:
        super().session_ended(reason)
        raise ZeroDivisionError


ID = "abcdefgh23456777"
OFFER = Offer(ID, 1, 0, 5, (OfferItem("a.txt", EntryKind.FILE, 5, 1),), 0, "", 60)


class Session:
    """Records what is sent."""

    def __init__(self) -> None:
        self.said: list[Message] = []

    def send(self, message: Message) -> None:
        self.said.append(message)


class PartsTests(SynchronousTestCase):
    def test_each_has_its_own(self) -> None:
        """Each message goes to the part that it is for, bytes of files to the requesting one, and the end to all."""
        serving, offers, requesting = Part(), Part(), Part()
        parts = SessionParts(serving, offers, requesting)
        requests = [Get(1, ("x",)), List(2, ()), Credit(3), Done((1,)), Job("", 0, 0)]
        answers = [End(1, bytes(32)), Failed(2, Fault.BUSY), Listing(3, (), more=False)]
        news = [OFFER, OfferNoted(ID, InboxState.DONE), Withdraw(ID, Withdrawal.CANCELLED)]
        for message in (*requests, *answers, *news):
            parts.message_received(message)
        parts.data_received(1, 5, memoryview(b"abc"))
        parts.size_received(1, 8)
        self.assertEqual(parts.fin_received(4), [(4, 9)])
        parts.room_again()
        parts.session_ended(None)
        self.assertEqual(serving.calls, [*requests, "room", ("over", None)])
        self.assertEqual(offers.calls, [*news, ("over", None)])
        self.assertEqual(requesting.calls, [*answers, (1, 5, b"abc"), (1, 8), ("over", None)])

    def test_nothing_requested(self) -> None:
        """Threat 6: answers and bytes of files that nobody asked for are a violation of the protocol."""
        parts = SessionParts(Part(), Part())
        for call in (
            lambda: parts.message_received(End(1, bytes(32))),
            lambda: parts.data_received(1, 0, memoryview(b"x")),
            lambda: parts.size_received(1, 8),
            lambda: parts.fin_received(1),
        ):
            self.assertRaises(RemoteProtocolError, call)
        parts.session_ended(None)

    def test_one_fails(self) -> None:
        """Each part hears of the end, although the other one fails then."""
        serving, offers, requesting = FailingPart(), FailingPart(), Part()
        parts, ends = SessionParts(serving, offers, requesting), list[None]()
        parts.on_end = lambda: ends.append(None)
        self.assertRaises(ZeroDivisionError, parts.session_ended, None)
        self.assertEqual(
            (serving.calls, offers.calls, requesting.calls, len(ends)),
            ([("over", None)],) * 3 + (1,),
        )


class NothingSharedTests(SynchronousTestCase):
    def test_answers(self) -> None:
        """The top is an empty folder; nothing else exists, and nothing else is answered."""
        session: Any = Session()
        serving = NothingShared(session)
        for message in (
            List(1, ()),
            List(2, ("photos",)),
            Get(3, ()),
            Get(4, ("photos", "cat.jpg")),
            Credit(5),
            Cancel(4, Cancelled.BY_USER),
            Done((4,)),
            Job("", 1, 1),
        ):
            serving.message_received(message)
        serving.room_again()
        serving.session_ended(None)
        self.assertEqual(
            session.said,
            [
                Listing(1, (), more=False),
                Failed(2, Fault.NOT_FOUND),
                Failed(3, Fault.IS_FOLDER),
                Failed(4, Fault.NOT_FOUND),
            ],
        )


class NoOffersTests(SynchronousTestCase):
    def test_answers(self) -> None:
        """An offer is refused, a withdrawal is confirmed, and what becomes of other offers is ignored."""
        session: Any = Session()
        part = NoOffers(session)
        for message in (
            OFFER,
            Withdraw(ID, Withdrawal.EXPIRED),
            OfferState(ID, InboxState.DONE),
            OfferNoted(ID, InboxState.DONE),
        ):
            part.message_received(message)
        part.session_ended(None)
        refused = OfferState(ID, InboxState.REFUSED, OfferFault.POLICY)
        self.assertEqual(session.said, [refused, OfferState(ID, InboxState.WITHDRAWN)])
