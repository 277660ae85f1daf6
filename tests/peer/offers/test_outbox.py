"""What a peer offers: telling people, presence, restarts, and what becomes of offers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import CancelledError

from p2pshare.core.offers.states import after_withdrawal
from p2pshare.core.sharer_transfers import Outcome, Transfer
from p2pshare.errors import (
    JobNotSo,
    KeyChanged,
    LedgerUnusable,
    NoSuchOffer,
    NoSuchPeer,
    NotFound,
    OfferOver,
    SendingToOneself,
    WrongUsage,
)
from p2pshare.peer.offers.correspondence import Correspondence
from p2pshare.peer.offers.outbox import EXPIRY_AGAIN, Outbox
from p2pshare.peer.offers.progress import Progress
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.offers.outgoing import OutgoingOffers
from p2pshare.storage.offers.spool import Spool
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.offers.messages import (
    EXPIRY_MAX,
    InboxState,
    Offer,
    OfferFault,
    OfferNoted,
    OfferState,
    Withdraw,
)
from p2pshare.wire.offers.receipts import OfferReceipt
from p2pshare.wire.transfer_messages import FileHeader, Get
from tests.peer.offers import world
from tests.peer.offers.world import Person, WorldTestCase


@dataclass
class Desk:
    """A receiver that a test decides for. It keeps what it is told, whatever happens to its peer."""

    person: Person
    offers: dict[str, Offer] = field(default_factory=dict)
    states: dict[str, InboxState] = field(default_factory=dict)
    all_noted: list[OfferNoted] = field(default_factory=list)
    told: int = 0
    """Offers that came, repetitions included."""
    refuses: OfferFault | None = None
    is_broken: bool = False
    viewers: list[Viewer] = field(default_factory=list)

    def sit_down(self) -> None:
        """Take the place of the inbox of the peer that runs."""
        self.correspondence.receiver = self

    @property
    def correspondence(self) -> Correspondence:
        peer: Any = self.person.peer
        found: Correspondence = peer._offers._correspondence
        return found

    async def offer_received(self, viewer: Viewer, offer: Offer) -> OfferState:
        self.told += 1
        self.viewers.append(viewer)
        if self.is_broken:
            raise LedgerUnusable(path="x", reason="the disk is full")
        if self.refuses is not None:
            return OfferState(offer.id, InboxState.REFUSED, self.refuses)
        self.offers[offer.id] = offer
        self.states.setdefault(offer.id, InboxState.WAITING)
        return OfferState(offer.id, self.states[offer.id])

    async def withdrawn(self, viewer: Viewer, withdraw: Withdraw) -> OfferState:
        state = after_withdrawal(self.states.get(withdraw.id))
        if withdraw.id in self.states:
            self.states[withdraw.id] = state
        return OfferState(withdraw.id, state)

    async def noted(self, viewer: Viewer, noted: OfferNoted) -> None:
        self.all_noted.append(noted)

    def tell(self, offer_id: str, state: InboxState, receipt: str = "") -> Any:
        """Decide, and tell the sender; return what it answers."""
        self.states[offer_id] = state
        message = OfferState(offer_id, state, receipt=receipt)
        world = self.person.world
        return world.result(self.correspondence.exchange("alice", None, message)).message


class OutboxTestCase(WorldTestCase):
    """Alice sends, bob receives by the hand of the test."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.world.start("alice", "bob")
        self.desk = Desk(self.bob)
        self.desk.sit_down()

    def send(self, *to: str, **fields: Any) -> str:
        """Send a file, and return the id of the offer."""
        path = self.alice.write("cat.jpg", b"meow")
        request = {"paths": [str(path)], "to": list(to or ("bob",)), **fields}
        return str(self.alice.ask("send", **request)["id"])

    def row(self, offer_id: str) -> dict[str, Any]:
        """Return an offer as alice's peer shows it."""
        (found,) = (each for each in self.alice.ask("offers")["offers"] if each["id"] == offer_id)
        return dict(found)

    def state(self, offer_id: str, name: str = "bob") -> str:
        """Return the state at one person."""
        (found,) = (each for each in self.row(offer_id)["to"] if each["name"] == name)
        return str(found["state"])

    def until(self, offer_id: str, state: str, name: str = "bob") -> None:
        """Wait until the offer has a state."""
        self.world.until(lambda: self.state_now(offer_id, name) == state)

    def state_now(self, offer_id: str, name: str) -> str | None:
        """Return the state without letting time pass."""
        peer: Any = self.alice.peer
        row = peer._offers.outbox._rows.get(offer_id)
        return next((each.state.value for each in row.offer.recipients if each.name == name), None)


class SendTests(OutboxTestCase):
    def test_delivered(self) -> None:
        """A person who is online is told at once: what, how much, until when, and a note."""
        offer_id = self.send(note="as promised", expires_s=3600)
        self.until(offer_id, "delivered")
        offer = self.desk.offers[offer_id]
        self.assertEqual((offer.files, offer.folders, offer.bytes), (1, 0, 4))
        self.assertEqual([each.name for each in offer.items], ["cat.jpg"])
        self.assertEqual((offer.note, offer.is_text), ("as promised", False))
        self.assertTrue(3590 <= offer.expires_in <= 3600)
        self.assertEqual(self.desk.viewers[0].name, "alice")
        self.world.wait(1000)
        self.assertEqual(self.desk.told, 1, "nobody is told twice")

    def test_states(self) -> None:
        """The sender learns what becomes of an offer, each state is noted, and only the receiver fetches meanwhile."""
        offer_id = self.send()
        self.until(offer_id, "delivered")
        for state in (InboxState.ACCEPTED, InboxState.DONE):
            answer = self.desk.tell(offer_id, state)
            self.assertEqual(answer, OfferNoted(offer_id, state))
            self.assertEqual(self.state(offer_id), state.value)
        self.assertEqual(self.desk.tell(offer_id, InboxState.DECLINED).state, InboxState.DECLINED)
        self.assertEqual(self.state(offer_id), "done", "a final state stays")

    def test_visible(self) -> None:
        """An offer is visible to its recipient alone, in no list, until it is over."""
        (carol,) = self.world.start("carol")
        offer_id = self.send()
        self.until(offer_id, "delivered")

        def seen_by(person: Person, path: str) -> list[str]:
            return list(person.ask("complete", peer="alice", path=path, prefix="")["entries"])

        self.assertEqual(seen_by(self.bob, ""), [])
        self.assertEqual(seen_by(self.bob, f"@{offer_id}"), ["cat.jpg"])
        with self.assertRaisesRegex(NotFound, "shares no"):
            seen_by(carol, f"@{offer_id}")
        self.desk.tell(offer_id, InboxState.DECLINED)
        self.world.wait(10)  # answers to completion are kept for some seconds
        with self.assertRaisesRegex(NotFound, "shares no"):
            seen_by(self.bob, f"@{offer_id}")

    def test_wrong(self) -> None:
        """What cannot be sent, and nobody to whom it could be, is an error, and nothing is kept."""
        for error, fields in (
            (WrongUsage, {"paths": [str(self.alice.files / "none")], "to": ["bob"]}),
            (WrongUsage, {"paths": ["cat.jpg"], "to": ["bob"]}),
            (WrongUsage, {"paths": [], "to": ["bob"]}),
            (WrongUsage, {"text": "hello", "spooled": "x", "to": ["bob"]}),
            (WrongUsage, {"text": "", "to": ["bob"]}),
            (WrongUsage, {"text": "hello", "to": []}),
            (SendingToOneself, {"text": "hello", "to": ["alice"]}),
            (NoSuchPeer, {"text": "hello", "to": ["bob", "nobody"]}),
        ):
            with self.assertRaises(error, msg=str(fields)):
                self.alice.ask("send", **fields)
        self.assertEqual(self.alice.ask("offers")["offers"], [])
        self.assertEqual([*self.alice.data.rglob("outgoing/*")], [])

    def test_check(self) -> None:
        """A check counts, tells what is left out, and keeps nothing."""
        self.alice.write("photos/.hidden", b"x")
        self.alice.write("photos/cat.jpg", b"meow")
        shown = self.alice.ask(
            "send", paths=[str(self.alice.files / "photos")], to=["bob"], check=True
        )
        self.assertEqual((shown["id"], shown["files"], shown["folders"]), ("", 1, 1))
        self.assertEqual(shown["left_out"]["hidden"], 1)
        self.assertEqual(self.alice.ask("offers")["offers"], [])
        self.world.wait(10)
        self.assertEqual(self.desk.told, 0)

    def test_text(self) -> None:
        """A text is sent from the spool, which is empty again when the offer is over."""
        offer_id = self.alice.ask("send", text="hello \u202e", to=["bob"])["id"]
        self.until(offer_id, "delivered")
        self.assertTrue(self.desk.offers[offer_id].is_text)
        self.assertEqual(len([*self.alice.data.rglob("outgoing/*/text.txt")]), 1)
        self.desk.tell(offer_id, InboxState.DONE)
        self.world.wait(1)
        self.assertEqual([*self.alice.data.rglob("outgoing/*")], [])

    def test_spooled(self) -> None:
        """A file that another process has spooled is sent once, under its name or another one."""
        spool = Spool(self.alice.peer._offers.parts.folder)  # type: ignore[union-attr]
        spooled = spool.add("a.tar", b"x" * 1000)
        fields = {"spooled": spooled, "to": ["bob"], "as_name": "b.tar"}
        offer_id = self.alice.ask("send", **fields)["id"]
        with self.assertRaises(WrongUsage):
            self.alice.ask("send", **fields)
        self.until(offer_id, "delivered")
        self.assertEqual([each.name for each in self.desk.offers[offer_id].items], ["b.tar"])
        self.assertEqual(spool.find(spooled).name, "a.tar")
        self.alice.ask("cancel", id=offer_id)
        self.world.wait(1)
        with self.assertRaises(WrongUsage):
            spool.find(spooled)

    def test_prefix(self) -> None:
        """An offer is named by the beginning of its id, if that is long enough and no other one begins so."""
        offer_id = self.send()
        self.until(offer_id, "delivered")
        for text in ("abc", offer_id[:3], "zzzzzz"):
            with self.assertRaises(NoSuchOffer):
                self.alice.ask("cancel", id=text)
        self.assertEqual(self.alice.ask("cancel", id=offer_id[:6].upper())["id"], offer_id)
        with self.assertRaises(OfferOver):
            self.alice.ask("cancel", id=offer_id)


class TellingTests(OutboxTestCase):
    def test_offline(self) -> None:
        """Somebody who is away is told when presence shows them, and not asked for meanwhile."""
        self.bob.stop()
        self.world.wait(5)
        offer_id = self.send()
        self.world.wait(3600)
        self.assertEqual(
            (self.state(offer_id), self.row(offer_id)["to"][0]["online"]), ("waiting", False)
        )
        self.bob.start()
        self.desk.sit_down()
        self.until(offer_id, "delivered")
        self.assertEqual(self.desk.told, 1)

    def test_presence_is_shown(self) -> None:
        """The user sees whether those are online to whom an offer is open, and hears when that changes."""
        offer_id = self.send()
        self.until(offer_id, "delivered")
        self.world.until(lambda: self.row(offer_id)["to"][0]["online"] is True)
        heard: list[bool | None] = []
        peer: Any = self.alice.peer
        peer.events.subscribe(lambda _, fields: heard.append(fields["to"][0]["online"]))
        self.bob.stop()
        self.world.until(lambda: False in heard)
        self.alice.ask("cancel", id=offer_id)
        self.assertEqual(peer._offers.outbox._watched, {})

    def test_sender_restarts(self) -> None:
        """After a kill of the sender, at any time, the offer is delivered once the sender is back."""
        self.bob.stop()
        offer_id = self.send(note="kept")
        self.alice.crash()
        self.bob.start()
        self.desk.sit_down()
        self.alice.start()
        self.until(offer_id, "delivered")
        self.assertEqual(self.desk.offers[offer_id].note, "kept")

    def test_starting(self) -> None:
        """Nothing is answered before the ledger is read: the receiver would hear that there is no such offer."""
        offer_id = self.send()
        self.until(offer_id, "delivered")
        self.alice.crash()
        load, early = Outbox.load, OfferState(offer_id, InboxState.ACCEPTED)
        answers: list[object] = []
        asked: list[Any] = []

        async def slow(outbox: Outbox) -> None:
            viewer = Viewer("bob", self.bob.peer.key.public)  # type: ignore[union-attr]
            answers.append(await outbox._parts.correspondence.handle(viewer, early))
            asked.append(self.alice.asked("offers"))
            await load(outbox)

        self.patch(Outbox, "load", slow)
        self.alice.start()
        self.assertEqual(answers, [None])
        self.assertEqual(len(self.successResultOf(asked[0])["offers"]), 1, "verbs wait for it")
        self.assertIsInstance(self.desk.tell(offer_id, InboxState.ACCEPTED), OfferNoted)

    def test_answer_lost(self) -> None:
        """A sender that never heard the answer tells the offer again, and it is still one."""
        offer_id = self.send()
        self.world.until(lambda: self.desk.told)
        self.alice.crash()
        self.alice.start()
        self.until(offer_id, "delivered")
        self.assertEqual([*self.desk.offers], [offer_id])

    def test_unreachable(self) -> None:
        """While somebody is online but unreachable, or cannot write, tries go on, with longer and longer pauses."""
        self.desk.is_broken = True
        offer_id = self.send()
        self.world.wait(300)
        self.assertEqual(self.state(offer_id), "waiting")
        self.assertTrue(3 <= self.desk.told <= 8, self.desk.told)
        self.desk.is_broken = False
        self.world.wait(600)
        self.assertEqual(self.state(offer_id), "delivered")

    def test_no_room(self) -> None:
        """A receiver without room is asked again later; one that refuses for good is not."""
        self.desk.refuses = OfferFault.FULL
        offer_id = self.send()
        self.world.wait(100)
        shown = self.row(offer_id)["to"][0]
        self.assertEqual((shown["state"], shown["why"]), ("waiting", "full"))
        self.desk.refuses = None
        self.until(offer_id, "delivered")
        self.desk.refuses = OfferFault.POLICY
        other = self.send()
        self.until(other, "refused")
        self.assertEqual(self.row(other)["to"][0]["why"], "policy")

    def test_cancel(self) -> None:
        """A cancelled offer is withdrawn from those who have it, now or when they are back, and can not be fetched."""
        offer_id = self.send()
        self.until(offer_id, "delivered")
        self.bob.stop()
        self.assertEqual(self.alice.ask("cancel", id=offer_id)["to"][0]["state"], "cancelled")
        self.alice.crash()
        self.alice.start()
        self.bob.start()
        self.desk.sit_down()
        self.world.until(lambda: self.desk.states[offer_id] is InboxState.WITHDRAWN)
        self.world.wait(5)
        self.assertEqual(self.state(offer_id), "cancelled")

    def test_clear(self) -> None:
        """What is over for everybody leaves the list; somebody who has the offer hears that it was withdrawn."""
        offer_id, other = self.send(), self.send()
        self.until(offer_id, "delivered")
        self.bob.stop()
        with self.assertRaises(JobNotSo):
            self.alice.ask("offers_clear", id=offer_id)
        self.alice.ask("cancel", id=offer_id)
        self.assertEqual(self.alice.ask("offers_clear")["count"], 1)
        for action in ("cancel", "offers_clear"):
            with self.assertRaises(NoSuchOffer):
                self.alice.ask(action, id=offer_id)
        self.alice.crash()
        self.alice.start()
        self.assertEqual([each["id"] for each in self.alice.ask("offers")["offers"]], [other])
        self.bob.start()
        self.desk.sit_down()
        self.world.until(lambda: self.desk.states[offer_id] is InboxState.WITHDRAWN)
        self.world.wait(5)
        self.alice.stop()
        self.alice.start()
        peer: Any = self.alice.peer
        self.assertEqual([*peer._offers.outbox._rows], [other])

    def test_cancel_and_done(self) -> None:
        """An offer that is complete at its receiver when it is cancelled is done for both."""
        offer_id = self.send()
        self.until(offer_id, "delivered")
        self.desk.states[offer_id] = InboxState.DONE
        self.alice.ask("cancel", id=offer_id)
        self.until(offer_id, "done")

    def test_expiry(self) -> None:
        """An offer ends when its time is over, at both sides."""
        offer_id = self.send(expires_s=600)
        self.until(offer_id, "delivered")
        self.world.wait(700)
        self.assertEqual(self.state(offer_id), "expired")
        self.assertIs(self.desk.states[offer_id], InboxState.WITHDRAWN)

    def test_expiry_cannot_be_written(self) -> None:
        """Nobody sees an offer after its time, even if its end cannot be written; that is tried again."""
        offer_id = self.send(expires_s=600)
        self.until(offer_id, "delivered")
        self.desk.tell(offer_id, InboxState.ACCEPTED)
        peer: Any = self.alice.peer
        mount = (f"@{offer_id}",)
        viewer = Viewer("bob", self.bob.peer.key.public)  # type: ignore[union-attr]
        self.assertTrue(peer._sessions.tree.is_shared(viewer, mount))

        def fail(*_: object) -> None:
            raise LedgerUnusable(path="x", reason="the disk is full")

        with patch.object(OutgoingOffers, "update", fail):
            self.world.wait(700)
            self.assertEqual(self.state(offer_id), "accepted")
            self.assertFalse(peer._sessions.tree.is_shared(viewer, mount))
        self.world.wait(EXPIRY_AGAIN + 1)
        self.assertEqual(self.state(offer_id), "expired")

    def test_clock_is_set_back(self) -> None:
        """An offer is told although the clock of its sender is years behind by then."""
        self.bob.stop()
        offer_id = self.send()
        self.patch(world, "START", world.START - 10 * EXPIRY_MAX)
        self.bob.start()
        self.desk.sit_down()
        self.until(offer_id, "delivered")
        self.assertEqual(self.desk.offers[offer_id].expires_in, EXPIRY_MAX)

    def test_cancelled_try(self) -> None:
        """A person is told again after a try that was cancelled by another part, such as a look-up."""
        with patch.object(Correspondence, "exchange", side_effect=CancelledError) as exchange:
            offer_id = self.send()
            self.world.until(lambda: exchange.called)
        self.until(offer_id, "delivered")

    def test_unknown(self) -> None:
        """A state of an offer that the sender does not have any more is answered by its withdrawal."""
        unknown = "a" * 16
        answer = self.desk.tell(unknown, InboxState.ACCEPTED)
        self.assertIsInstance(answer, Withdraw)
        self.assertEqual(self.desk.tell(unknown, InboxState.DECLINED).state, InboxState.DECLINED)

    def test_somebody_else(self) -> None:
        """A state from somebody to whom the offer was not made changes nothing."""
        (eve,) = self.world.start("eve")
        offer_id = self.send()
        self.until(offer_id, "delivered")
        desk = Desk(eve)
        self.assertIsInstance(desk.tell(offer_id, InboxState.ACCEPTED), Withdraw)
        self.assertEqual(self.state(offer_id), "delivered")

    def test_receipts(self) -> None:
        """A receipt counts if the receiver has signed it, for this offer; the history has it."""
        bob: Any = self.bob.peer
        alice: Any = self.alice.peer
        key, sender = bob.key, alice.key.public
        for signer, files, is_valid in (
            (key, 1, True),
            (key, 2, False),
            (SigningKey(b"e" * 32), 1, False),
        ):
            offer_id = self.send()
            self.until(offer_id, "delivered")
            receipt = OfferReceipt(offer_id, sender, signer.public, files, 4, bytes(32), 1)
            self.desk.tell(offer_id, InboxState.DONE, receipt.sign(signer))
            shown = self.row(offer_id)["to"][0]
            self.assertEqual(shown["state"], "done")
            self.assertEqual(shown["receipt"], receipt.sign(key) if is_valid else None)
            (entry, *_) = alice._offers.parts.history.page(1)
            self.assertEqual(
                (entry.offer, entry.outcome, bool(entry.receipt)), (offer_id, "done", is_valid)
            )

    def test_another_key(self) -> None:
        """Threat 62: a person whose key has changed without a word gets nothing, and sending anew is an error."""
        self.bob.stop()
        offer_id = self.send()
        alice: Any = self.alice.peer
        known: KnownPeers = alice._offers.parts.known
        known.pin("bob", SigningKey(b"e" * 32).public, known.key("bob"))  # as if it had been eve's
        self.bob.start()
        self.desk.sit_down()
        self.world.wait(60)
        self.assertEqual((self.state(offer_id), self.desk.told), ("waiting", 0))
        self.assertIn("key", self.row(offer_id)["to"][0]["why"])
        with self.assertRaises(KeyChanged):
            self.send()

    def test_progress(self) -> None:
        """Bytes count as they go out, with those that were there before, and a file once when it is confirmed."""
        progress = Progress(20, 0.0)

        def transfer(path: str, sent: int, to_send: int) -> Transfer:
            header = FileHeader(1, 6, 0, False, "v")
            return Transfer(Get(1, ("@x", path)), header, sent=sent, to_send=to_send)

        first = transfer("a", 4, 6)
        progress.sent(first, 4, 1.0)
        self.assertEqual((progress.bytes_done, progress.rate(1.5) > 0), (4, True))
        first.outcome = Outcome.CONFIRMED
        for _ in range(3):
            progress.ended(first)
        self.assertEqual(progress.bytes_done, 6)
        other = transfer("b", 5, 6)
        progress.sent(other, 5, 2.0)
        other.outcome = Outcome.INTERRUPTED
        progress.ended(other)
        self.assertEqual(progress.bytes_done, 11, "what has arrived stays there")
        again = transfer("b", 1, 2)
        progress.sent(again, 1, 3.0)
        self.assertEqual(progress.bytes_done, 11, "what was there is not sent again")
        again.outcome = Outcome.CANCELLED
        progress.ended(again)
        self.assertEqual(progress.bytes_done, 6)
        for path in "cdef":
            progress.sent(transfer(path, 6, 6), 6, 4.0)
        self.assertEqual(progress.bytes_done, 20, "never more than there is")

    def test_events(self) -> None:
        """Followers hear of each new state."""
        heard: list[tuple[str, str]] = []
        peer: Any = self.alice.peer
        peer.events.subscribe(lambda kind, fields: heard.append((kind, fields["to"][0]["state"])))
        offer_id = self.send()
        self.until(offer_id, "delivered")
        self.desk.tell(offer_id, InboxState.DECLINED)
        states = list(dict.fromkeys(state for kind, state in heard if kind == "offer"))
        self.assertEqual(states, ["waiting", "delivered", "declined"])
