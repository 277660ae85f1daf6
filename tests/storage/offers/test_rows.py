"""The rows of offers and of the history, and their bounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from p2pshare.core.offers.states import DeliveryState
from p2pshare.errors import TooManyOffers
from p2pshare.names import ON_NETWORK
from p2pshare.storage.offers.history import Direction, History
from p2pshare.storage.offers.incoming import IncomingOffers
from p2pshare.storage.offers.ledger import Ledger
from p2pshare.storage.offers.outgoing import OutgoingOffers, Recipient
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.wire.offers.messages import InboxState, OfferFault
from tests.storage.offers.ledger_case import (
    CANCELLED,
    DONE,
    OVER,
    LedgerTestCase,
    id_of,
    incoming,
    key_of,
    line,
    outgoing,
)


class PlaceTests(LedgerTestCase):
    def test_registries(self) -> None:
        """Threat 34: in another registry a name is somebody else's, so the offers of this one do not exist there."""
        sent, got = outgoing(1, spool=id_of(3)), incoming(1)
        self.outgoing.add(sent)
        self.incoming.add(got)
        elsewhere = Ledger(self.path, "another registry", wait=0.0)
        elsewhere.open()
        self.addCleanup(elsewhere.close)
        others, theirs = OutgoingOffers(elsewhere), IncomingOffers(elsewhere)
        self.assertEqual((others.all(), theirs.all()), ((), ()))
        self.assertEqual(others.spooled_elsewhere(), {id_of(3)})
        self.assertEqual(self.outgoing.spooled_elsewhere(), frozenset())
        theirs.add(replace(got, note="theirs"))
        theirs.remove(got.id)
        self.assertEqual((self.outgoing.all(), self.incoming.all()), ((sent,), (got,)))


class OutgoingTests(LedgerTestCase):
    def test_round_trip(self) -> None:
        """An offer is the same after a restart, with its recipients in order."""
        told = Recipient(
            "carol", key_of("carol"), DeliveryState.FAILED, OfferFault.DISK, 7, "r", is_told=False
        )
        offer = outgoing(
            1, recipients=(told, Recipient("bob")), spool=id_of(3), left_out={"hidden": 1}
        )
        self.outgoing.add(outgoing(2))
        self.outgoing.add(offer)
        self.again()
        self.assertEqual(self.outgoing.all(), (offer, outgoing(2)))

    def test_update_and_remove(self) -> None:
        """Only the recipient of that name changes; an offer goes with its recipients."""
        offer = outgoing(1, "bob", "carol")
        self.outgoing.add(offer)
        bob = Recipient("bob", key_of("bob"), DONE, None, 5, "receipt")
        self.outgoing.update(offer.id, bob)
        self.assertEqual(self.outgoing.all(), (offer.with_recipient(bob),))
        self.outgoing.remove(offer.id)
        self.outgoing.add(offer)
        self.assertEqual(self.outgoing.all(), (offer,))

    def test_bound(self) -> None:
        """What is over makes room, the oldest first; what stands does not."""
        self.outgoing = OutgoingOffers(self.ledger, most=3)
        over = replace(outgoing(1), recipients=(Recipient("bob", state=DONE),))
        self.assertEqual(self.outgoing.add(outgoing(0)), ())
        self.outgoing.add(over)
        self.outgoing.add(outgoing(2))
        self.assertEqual(self.outgoing.add(outgoing(3)), (over,))
        self.assertRaises(TooManyOffers, self.outgoing.add, outgoing(4))
        self.assertEqual([each.id for each in self.outgoing.all()], [id_of(0), id_of(2), id_of(3)])

    def test_untold(self) -> None:
        """An offer whose recipients have yet to hear that it is over goes last."""
        self.outgoing = OutgoingOffers(self.ledger, most=2)
        untold, told = (
            replace(outgoing(number), recipients=(Recipient("bob", state=state, is_told=is_told),))
            for number, state, is_told in ((0, CANCELLED, False), (1, DONE, True))
        )
        self.outgoing.add(untold)
        self.outgoing.add(told)
        self.assertEqual(self.outgoing.add(outgoing(2)), (told,))
        self.assertEqual(self.outgoing.add(outgoing(3)), (untold,))

    def test_recipients(self) -> None:
        """Threat 34: an offer is for the pinned key or the proven name, while it stands for that person."""
        pinned = Recipient("bob", key_of("bob"))
        offer = outgoing(recipients=(pinned, Recipient("carol"), Recipient("dan", state=CANCELLED)))
        for name, key, sees in (
            ("bob", "bob", True),
            (f"bob{ON_NETWORK}", "bob", True),
            (f"bob{ON_NETWORK}", "eve", False),
            ("eve", "bob", True),  # bob's key under another name
            ("carol", "carol", True),
            (f"carol{ON_NETWORK}", "carol", False),
            ("eve", "eve", False),
            ("dan", "dan", False),
        ):
            self.assertEqual(offer.is_for(Viewer(name, key_of(key))), sees, (name, key))
        self.assertEqual(offer.recipient(Viewer("bob", key_of("bob"))), pinned)
        self.assertIsNone(offer.recipient(Viewer("eve", key_of("eve"))))

    def test_shared(self) -> None:
        """Its files are mounted without private folders, except what is spooled, which lies in such a folder."""
        data = Path("/data")
        self.assertEqual([each.private for each in outgoing().shared([data])], [(data,)] * 2)
        spooled = data / "outgoing" / id_of(1) / "a"
        elsewhere = data / "outgoing" / id_of(2) / "b"
        offer = outgoing(spool=id_of(1), roots=(("a", spooled), ("b", elsewhere)))
        self.assertEqual([each.private for each in offer.shared([data])], [(), (data,)])


class IncomingTests(LedgerTestCase):
    def test_round_trip(self) -> None:
        """An offer is the same after a restart, in any state."""
        done = incoming(
            1,
            state=InboxState.DONE,
            why=OfferFault.DISK,
            folder=Path("/x/\udcff"),
            is_auto=True,
            told=InboxState.ACCEPTED,
            updated=9,
            saved=("/x/a (1)",),
            root="ab",
            receipt="r",
        )
        self.incoming.add(done)
        self.incoming.add(incoming(2))
        self.again()
        self.assertEqual(self.incoming.all(), (done, incoming(2)))
        self.assertFalse(done.is_told)
        told = replace(done, told=InboxState.DONE)
        self.incoming.update(told)
        self.incoming.remove(id_of(2))
        self.assertEqual((self.incoming.all(), told.is_told), ((told,), True))

    def test_one_row(self) -> None:
        """An offer of one sender stands once, whatever local IDs it would get."""
        self.incoming.add(incoming(1))
        self.incoming.update(replace(incoming(2), offer_id=incoming(1).offer_id))
        self.assertEqual([each.id for each in self.incoming.all()], [id_of(2)])

    def test_bound(self) -> None:
        """What is over makes room, first of what its sender knows; what waits does not."""
        self.incoming = IncomingOffers(self.ledger, most=3)
        self.incoming.add(incoming(0, state=OVER))
        self.incoming.add(incoming(1, state=OVER, told=OVER))
        self.incoming.add(incoming(2))
        self.assertEqual(self.incoming.add(incoming(3)), (id_of(1),))
        self.assertEqual(self.incoming.add(incoming(4)), (id_of(0),))
        self.assertRaises(TooManyOffers, self.incoming.add, incoming(5))
        self.assertEqual(len(self.incoming.all()), 3)


class HistoryTests(LedgerTestCase):
    def test_pages(self) -> None:
        """The latest lines come first, page by page, as they were written."""
        for number in range(5):
            self.history.add(line(number))
        self.again()
        first = self.history.page(2)
        rest = self.history.page(9, first[-1].number)
        self.assertEqual([each.at for each in (*first, *rest)], [4, 3, 2, 1, 0])
        self.assertEqual(replace(first[0], number=0), line(4))

    def test_some(self) -> None:
        """The lines of one person, or of offers whose ID begins so, are found; the text is no pattern."""
        for number, (peer, offer) in enumerate((("bob", "ab"), ("carol", "ac"), ("bob", "b%"))):
            self.history.add(replace(line(number), peer=peer, offer=offer))
        for options, found in (
            ({"peer": "bob"}, [2, 0]),
            ({"offer": "a"}, [1, 0]),
            ({"offer": "%"}, []),
            ({"peer": "bob", "offer": "a"}, [0]),
        ):
            page = self.history.page(9, None, **options)
            self.assertEqual([each.at for each in page], found)

    def test_done_after_all(self) -> None:
        """An offer that was sent has one line for each person, the last one; those of received ones stay."""
        for direction in Direction:
            for number, (peer, outcome) in enumerate(
                (("bob", "cancelled"), ("carol", "cancelled"), ("bob", "done"))
            ):
                entry = replace(line(number), peer=peer, outcome=outcome, offer="ab")
                self.history.add(replace(entry, direction=direction))
        self.assertEqual(
            [(each.direction, each.at) for each in self.history.page(9)],
            [(Direction.RECEIVED, at) for at in (2, 1, 0)]
            + [(Direction.SENT, at) for at in (2, 1)],
        )

    def test_bound(self) -> None:
        """The oldest lines are dropped."""
        self.history = History(self.ledger, most=3)
        for number in range(5):
            self.history.add(line(number))
        self.assertEqual([each.at for each in self.history.page(9)], [4, 3, 2])
