"""What a peer receives: deciding, fetching, quota, expiry, restarts, and senders that break their word."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import CancelledError, Deferred

from p2pshare.errors import (
    DiskFull,
    JobNotSo,
    KnownPeersUnusable,
    LedgerUnusable,
    NoSuchOffer,
    OfferOver,
    RemoteBusy,
    RemoteNotFound,
    WrongUsage,
)
from p2pshare.peer.download_queue import RUNNING_MAX
from p2pshare.peer.fetch.job import FetchJob
from p2pshare.peer.offers import downloads, inbox
from p2pshare.peer.offers.inbox import LOOK
from p2pshare.peer.offers.outbox import Outbox
from p2pshare.storage.offers.inbox_folder import folder_size
from p2pshare.storage.offers.incoming import IncomingOffers
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.wire.blocks import digest_of, root_of
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.offers.messages import InboxState, Offer, OfferItem, Withdraw, Withdrawal
from p2pshare.wire.offers.receipts import OfferReceipt
from p2pshare.wire.transfer_messages import EntryKind
from tests.peer.offers import world
from tests.peer.offers.world import KilledError, Person, WorldTestCase
from tests.wire.offers.roots import offer_root

DAY = 86400


class InboxTestCase(WorldTestCase):
    """Alice sends to bob."""

    def begin(self, **settings: Any) -> None:
        """Start both; the settings are bob's."""
        self.alice = self.world.person("alice")
        self.bob = self.world.person("bob", **settings)
        self.alice.start()
        self.bob.start()

    def setUp(self) -> None:
        super().setUp()
        self.events: list[dict[str, Any]] = []

    def send(self, *paths: Path, **fields: Any) -> str:
        """Let alice send files, by default one cat, and return the ID of her offer."""
        named = [str(each) for each in paths or (self.alice.write("cat.jpg", b"meow"),)]
        request = {"paths": named, **fields} if "text" not in fields else fields
        return str(self.alice.ask("send", **{"to": ["bob"], **request})["id"])

    def items(self) -> list[dict[str, Any]]:
        """Return bob's inbox, without letting time pass."""
        peer: Any = self.bob.peer
        if peer is None or getattr(peer, "_offers", None) is None:
            return []
        inbox = peer._offers.inbox
        return [inbox._shown(each) for each in inbox._rows.values()]

    def bob_inbox(self) -> Any:
        """Return what keeps bob's offers."""
        peer: Any = self.bob.peer
        return peer._offers.inbox

    def item(self) -> dict[str, Any]:
        (found,) = self.items()
        return found

    def until(self, state: str, within: float = 120.0) -> dict[str, Any]:
        """Wait until the only item has a state."""
        self.world.until(lambda: [each["state"] for each in self.items()] == [state], within)
        return self.item()

    def state_of(self, offer_id: str) -> str:
        """Return what alice knows of an offer of hers at bob, without letting time pass."""
        peer: Any = self.alice.peer
        (recipient,) = peer._offers.outbox._rows[offer_id].offer.recipients
        return str(recipient.state.value)

    def until_sent(self, offer_id: str, state: str) -> None:
        """Wait until alice knows a state of one of her offers."""
        self.world.until(lambda: self.state_of(offer_id) == state)

    def to(self, person: Person | None = None) -> dict[str, Any]:
        """Return what alice knows of her only offer at bob."""
        (offer,) = (self.alice if person is None else person).ask("offers")["offers"]
        (found,) = offer["to"]
        return dict(found)

    def until_told(self, state: str, within: float = 120.0) -> None:
        """Wait until alice knows a state."""
        peer: Any = self.alice.peer

        def is_told() -> bool:
            rows = peer._offers.outbox._rows.values()
            return {each.state.value for row in rows for each in row.offer.recipients} == {state}

        self.world.until(is_told, within)


class DecisionTests(InboxTestCase):
    def test_accept(self) -> None:
        """An offer waits, is accepted, fetched into the sender's folder, and its receipt proves that."""
        self.begin()
        self.alice.write("pictures/2024/dog.jpg", b"wow")
        (self.alice.files / "pictures/empty").mkdir()
        offer_id = self.send(
            self.alice.write("cat.jpg", b"meow"), self.alice.files / "pictures", note="see\n"
        )
        item = self.until("waiting")
        shown = item["from"], item["note"], item["files"], item["folders"], item["bytes"]
        self.assertEqual(shown, ("alice", "see\n", 2, 3, 7))
        self.assertEqual((item["folder"], item["auto"], item["saved"]), (None, False, []))
        self.until_told("delivered")
        self.assertEqual(self.bob.received(), {})
        accepted = self.bob.ask("accept_offer", id=item["id"][:6])
        self.assertEqual(accepted["state"], "accepted")
        item = self.until("done")
        got = {"cat.jpg": b"meow", "pictures/2024/dog.jpg": b"wow"}
        self.assertEqual(self.bob.received("alice"), got)
        self.assertTrue((self.bob.inbox / "alice/pictures/empty").is_dir())
        tops = [str(self.bob.inbox / "alice" / name) for name in ("cat.jpg", "pictures")]
        self.assertEqual((sorted(item["saved"]), item["bytes_done"]), (tops, 7))
        self.until_told("done")
        receipt = OfferReceipt.read(self.to()["receipt"])
        self.assertEqual((receipt.offer, receipt.files, receipt.bytes), (offer_id, 2, 7))
        self.assertEqual(receipt.sender, PublicKey.parse(item["key"]))
        self.assertEqual(receipt.root.hex(), self.row().root)
        self.world.wait(10)
        self.assertTrue(self.row().is_told)
        ledger: Any = self.bob.peer
        (entry,) = ledger._offers.parts.history.page(9)
        self.assertEqual(
            (entry.title, entry.outcome, entry.root), ("cat.jpg", "done", self.row().root)
        )

    def row(self) -> Any:
        peer: Any = self.bob.peer
        (row,) = peer._offers.inbox._rows.values()
        return row

    def test_same_id(self) -> None:
        """Threat 85: both people see one ID; an offer of somebody else with that ID gets another one here."""
        self.begin()
        offer_id = self.send()
        self.assertEqual(self.until("waiting")["id"], offer_id)
        inbox = self.bob_inbox()
        eve = Viewer("eve", SigningKey(bytes(range(32))).public)
        said = Offer(offer_id, 1, 0, 9, (OfferItem("x", EntryKind.FILE, 9, 1),), 0, "", 60)
        for _ in range(2):
            state = self.world.result(inbox.offer_received(eve, said))
            self.assertEqual((state.id, state.state), (offer_id, InboxState.WAITING))
        mine, hers = self.items()
        self.assertEqual((mine["id"], mine["from"], hers["from"]), (offer_id, "alice", "eve"))
        self.assertNotEqual(hers["id"], offer_id)
        self.world.result(inbox.withdrawn(eve, Withdraw(offer_id, Withdrawal.CANCELLED)))
        self.assertEqual([each["state"] for each in self.items()], ["waiting", "withdrawn"])
        self.bob.ask("accept_offer", id=offer_id)
        self.world.until(lambda: self.items()[0]["state"] == "done")
        self.assertEqual(self.bob.received(), {"alice/cat.jpg": b"meow"})

    def test_folder(self) -> None:
        """The user may choose a folder, which is made. A file that is in its place is an error at once, and so is a
        folder of p2pshare (threat 143).
        """
        self.begin()
        self.send()
        item = self.until("waiting")
        for folder in ("relative", "/\0"):
            with self.assertRaises(WrongUsage):
                self.bob.ask("accept_offer", id=item["id"], folder=folder)
        file = self.bob.home / "file"
        file.write_bytes(b"")
        with self.assertRaisesRegex(WrongUsage, "file"):
            self.bob.ask("accept_offer", id=item["id"], folder=str(file))
        with self.assertRaisesRegex(WrongUsage, "belongs to p2pshare"):
            self.bob.ask("accept_offer", id=item["id"], folder=str(self.bob.data / "x"))
        self.assertEqual(self.item()["state"], "waiting")
        chosen = self.bob.home / "a/b"
        self.bob.ask("accept_offer", id=item["id"], folder=str(chosen))
        self.until("done")
        self.assertEqual((chosen / "cat.jpg").read_bytes(), b"meow")

    def test_decline(self) -> None:
        """A declined offer is over for both, and cannot be accepted any more."""
        self.begin()
        self.send()
        item = self.until("waiting")
        for _ in range(2):
            self.bob.ask("decline_offer", id=item["id"])
        self.until_told("declined")
        with self.assertRaises(OfferOver):
            self.bob.ask("accept_offer", id=item["id"])
        self.assertEqual(self.bob.received(), {})
        with self.assertRaises(NoSuchOffer):
            self.bob.ask("decline_offer", id="zzzz")

    def test_clear(self) -> None:
        """What is over leaves the list at once, also over a kill; senders hear of it; nothing else is touched."""
        self.begin(limit=1e6)
        names = ("done", "declined", "arriving", "waiting")
        ids = {
            name: self.send(self.alice.write(name, os.urandom(2**22 if name == "arriving" else 9)))
            for name in names
        }
        self.world.until(lambda: len(self.items()) == len(names))
        for name in ("done", "arriving"):
            self.bob.ask("accept_offer", id=ids[name])
        self.bob.ask("pause_offer", id=ids["arriving"])
        self.until_sent(ids["done"], "done")
        self.alice.cut()
        self.bob.ask("decline_offer", id=ids["declined"])
        for name in ("arriving", "waiting"):
            with self.assertRaises(JobNotSo):
                self.bob.ask("inbox_clear", id=ids[name])
        peer: Any = self.bob.peer
        peer.events.subscribe(lambda kind, row: self.events.append({**row, "kind": kind}))
        self.assertEqual(self.bob.ask("inbox_clear", id=ids["done"][:8])["count"], 1)
        self.assertIn(
            (ids["done"], True), [(each["id"], each.get("removed")) for each in self.events]
        )
        with self.assertRaises(NoSuchOffer):
            self.bob.ask("inbox_clear", id=ids["done"])
        self.bob.returns_after = 1.0
        self.bob.crash_after_commits(1)
        with contextlib.suppress(KilledError):
            self.bob.ask("inbox_clear")
        self.world.wait(5)
        self.assertEqual(len(self.bob.ask("inbox")["items"]), 2)
        self.assertEqual(self.bob.ask("inbox_clear")["count"], 0)
        self.alice.mend()
        self.until_sent(ids["declined"], "declined")
        self.bob.ask("go_on_offer", id=ids["arriving"])
        self.until_sent(ids["arriving"], "done")
        self.assertEqual(sorted(self.bob.received("alice")), ["arriving", "done"])
        self.bob.ask("inbox_clear")
        self.world.wait(5)
        self.bob.stop()
        self.bob.start()
        self.assertEqual([*self.bob_inbox()._rows], [ids["waiting"]])
        self.assertEqual(self.state_of(ids["waiting"]), "delivered")

    def test_withdrawn(self) -> None:
        """An offer that its sender cancels is gone; one that is done stays done."""
        self.begin()
        offer_id = self.send()
        self.until("waiting")
        self.alice.ask("cancel", id=offer_id)
        item = self.until("withdrawn")
        with self.assertRaises(OfferOver):
            self.bob.ask("accept_offer", id=item["id"])

    def test_hidden_names(self) -> None:
        """Threat 71: a hidden file at the top of an offer gets a name that is not hidden; others keep theirs."""
        self.begin(accept_from=("alice",))
        empty = self.alice.files / ".config"
        empty.mkdir()
        nested = self.alice.write("project/.git/head", b"h")
        self.send(self.alice.write(".profile", b"p"), empty, nested.parents[1], hidden=True)
        item = self.until("done")
        self.assertEqual(self.bob.received("alice"), {"_.profile": b"p", "project/.git/head": b"h"})
        self.assertTrue((self.bob.inbox / "alice/_.config").is_dir())
        self.assertIn(str(self.bob.inbox / "alice/_.profile"), item["saved"])

    def test_text(self) -> None:
        """A text arrives as a file, and is marked as a text."""
        self.begin(accept_from=("alice",))
        self.send(text="hello")
        item = self.until("done")
        self.assertTrue(item["text"])
        (path,) = item["saved"]
        self.assertEqual(Path(path).read_bytes(), b"hello")

    def test_events(self) -> None:
        """Each change of state is an event with the whole item."""
        self.begin(accept_from=("alice",))
        peer: Any = self.bob.peer
        seen: list[str] = []
        peer.events.subscribe(
            lambda kind, fields: seen.append(fields["state"]) if kind == "inbox" else None
        )
        self.send()
        self.until("done")
        self.world.wait(5)
        self.assertEqual(list(dict.fromkeys(seen)), ["accepted", "done"])
        json.dumps(self.bob.ask("inbox"))


class PolicyTests(InboxTestCase):
    def test_policy(self) -> None:
        """Threat 75: offers are taken only from those from whom the user takes them."""
        self.begin()
        for kept, (policy, names, state) in enumerate(
            (
                ("nobody", ("alice",), "refused"),
                ("allowed", (), "refused"),
                ("allowed", ("alice",), "done"),
                ("known", (), "delivered"),  # files of hers have been taken
            )
        ):
            self.bob.stop()
            self.bob.start(offers=policy, accept_from=names)
            offer_id = self.send()
            self.until_sent(offer_id, state)
            self.assertEqual(len(self.items()), max(0, kept - 1))

    def test_strangers(self) -> None:
        """Threat 75: a key that was first met by its own coming is not known, until the user has sent it something."""
        self.begin(offers="known")
        self.send()
        self.until_told("refused")
        self.bob.stop()
        self.bob.start(offers="known")  # her key is pinned by now
        self.until_sent(self.send(), "refused")
        self.bob.ask("send", paths=[str(self.bob.write("b", b"b"))], to=["alice"])
        offer_id = self.send()
        self.until_sent(offer_id, "delivered")

    def test_known_by_another_key(self) -> None:
        """A person from whom something was taken stays known after a rotation of the key."""
        self.begin(accept_from=("alice",))
        self.until_sent(self.send(), "done")
        self.bob.stop()
        self.bob.start(offers="known", accept_from=())
        self.alice.ask("rotate")
        self.until_sent(self.send(), "delivered")

    def test_accept_from(self) -> None:
        """What a named person sends is taken without asking, and what others send is not."""
        self.begin(accept_from=("alice",))
        (carol,) = self.world.start("carol")
        carol.ask("send", paths=[str(carol.write("c", b"c"))], to=["bob"])
        self.send()
        self.world.until(lambda: len(self.items()) == 2)
        self.world.until(lambda: "done" in [each["state"] for each in self.items()])
        states = {each["from"]: (each["state"], each["auto"]) for each in self.items()}
        self.assertEqual(states, {"alice": ("done", True), "carol": ("waiting", False)})
        self.assertEqual(self.bob.received(), {"alice/cat.jpg": b"meow"})

    def test_quota(self) -> None:
        """Threat 75: what is taken without asking has a bound; an offer beyond it waits, says why, and is taken when
        there is room.
        """
        self.begin(accept_from=("alice",), inbox_quota=100_000)
        self.bob.inbox.joinpath("old").write_bytes(bytes(80_000))
        self.send(self.alice.write("big", bytes(50_000)))
        item = self.until("waiting")
        self.assertEqual((item["why"], item["auto"]), ("full", False))
        self.until_told("delivered")
        self.bob.inbox.joinpath("old").unlink()
        item = self.until("done")
        self.assertEqual((item["why"], item["auto"]), (None, True))

    def test_quota_by_hand(self) -> None:
        """The user may accept an offer beyond the quota."""
        self.begin(accept_from=("alice",), inbox_quota=1)
        self.send()
        self.bob.ask("accept_offer", id=self.until("waiting")["id"])
        self.until("done")

    def test_senders_are_kept_apart(self) -> None:
        """Two people who send a folder of the same name do not mix."""
        self.begin(accept_from=("alice", "carol"))
        (carol,) = self.world.start("carol")
        carol.ask("send", paths=[str(carol.write("x/c", b"c").parent)], to=["bob"])
        self.send(self.alice.write("x/a", b"a").parent)
        self.world.until(lambda: [each["state"] for each in self.items()] == ["done"] * 2)
        self.assertEqual(self.bob.received(), {"alice/x/a": b"a", "carol/x/c": b"c"})

    def test_not_shared(self) -> None:
        """Threat 76: what arrives is shared with nobody, although a folder around it is."""
        self.bob = self.world.person("bob", accept_from=("alice",))
        self.alice = self.world.person("alice")
        self.alice.start()
        self.bob.start(share=(f"home={self.bob.home}",))
        self.send()
        self.until("done")
        found = self.alice.ask("complete", peer="bob", path="home", prefix="")["entries"]
        self.assertEqual(found, ["files/"])
        self.bob.stop()
        for folder in (self.bob.inbox, self.bob.inbox / "alice"):
            with self.assertRaisesRegex(WrongUsage, "what others sent you"):
                self.bob.start(share=(f"x={folder}",))
            self.bob.peer = None

    def test_expired(self) -> None:
        """An offer that nobody decides about ends, whether its sender can say so or not."""
        self.begin()
        self.send(expires_s=100)
        self.until("waiting")
        self.assertEqual(self.until("withdrawn", 400)["why"], "expired")
        self.send(expires_s=100)
        self.world.until(lambda: len(self.items()) == 2)
        self.alice.crash()
        self.world.until(lambda: self.items()[-1]["state"] == "failed", 400)
        self.assertEqual(self.items()[-1]["why"], "expired")


class TroubleTests(InboxTestCase):
    def test_offline(self) -> None:
        """What was accepted is fetched when the sender comes back, without asking again."""
        self.begin()
        self.send()
        item = self.until("waiting")
        self.alice.crash()
        self.bob.ask("accept_offer", id=item["id"])
        self.world.wait(200)
        item = self.item()
        self.assertEqual(item["state"], "accepted")
        self.assertIsNotNone(item["trouble"])
        self.alice.start()
        self.until("done")
        self.until_told("done")

    def test_restart(self) -> None:
        """A receiver that restarts goes on with what was accepted, and tells what it has not told."""
        self.begin()
        self.send(self.alice.write("large", os.urandom(3 * 2**20)))
        item = self.until("waiting")
        self.alice.cut()
        self.bob.ask("accept_offer", id=item["id"])
        self.bob.crash()
        self.alice.mend()
        self.bob.start()
        self.until("done")
        self.until_told("done")

    def test_killed_while_fetching(self) -> None:
        """A receiver that is killed at any step of the download has every file once in the end."""
        self.begin(accept_from=("alice",))
        large = os.urandom(2 * 2**20 + 5)
        for round_number in range(8):
            path = self.alice.write(f"{round_number}/large", large)
            self.send(path, self.alice.write(f"{round_number}/small", b"s"))
            self.bob.crash_at(self.bob.steps + 40 + 37 * round_number)
            self.world.until(lambda: self.bob.peer is None or self.all_done(), 400)
            if self.bob.peer is not None:
                self.bob.crash()
            self.bob.start()
            self.world.until(self.all_done, 1000)
        found = self.bob.received("alice")
        self.world.wait(5)
        named = {name: data for name, data in found.items() if not name.startswith(".")}
        self.assertEqual(
            named, {"large": large, "small": b"s"}
        )  # the same content is not saved twice

    def all_done(self) -> bool:
        states = {each["state"] for each in self.items()}
        return states == {"done"}

    def test_changed(self) -> None:
        """Threat 83: an offer that has more or other files after it was accepted is given up."""
        self.begin()
        for change in (
            lambda: self.alice.write("0/b", b"b"),
            lambda: self.alice.write("1/a", b"aa" * 600_000),
            lambda: self.alice.files.joinpath("2/d").mkdir(),
            lambda: self.alice.write("3", b"a longer one"),
        ):
            number = len(self.items())
            path = self.alice.write("3" if number == 3 else f"{number}/a", b"a")
            offer_id = self.send(path if number == 3 else path.parent)
            self.until_sent(offer_id, "delivered")
            change()
            self.bob.ask("accept_offer", id=self.items()[-1]["id"])
            self.until_sent(offer_id, "failed")
            self.assertEqual(self.items()[-1]["why"], "changed")
        self.assertNotIn("3", self.bob.received("alice"))

    def test_folders_gone(self) -> None:
        """An offer of folders alone is not done if they are not there any more."""
        self.begin()
        folder = self.alice.files / "empty"
        folder.mkdir(parents=True)
        self.send(folder)
        item = self.until("waiting")
        folder.rmdir()
        self.bob.ask("accept_offer", id=item["id"])
        self.assertEqual(self.until("failed")["why"], "gone")

    def test_gone(self) -> None:
        """An offer whose files are not there any more fails after some tries."""
        self.begin()
        path = self.alice.write("x/a", b"a")
        self.alice.write("x/b", b"b")
        self.send(path.parent)
        item = self.until("waiting")
        path.unlink()
        self.bob.ask("accept_offer", id=item["id"])
        item = self.until("failed")
        self.assertEqual(item["why"], "changed")
        self.assertEqual(self.bob.received("alice"), {"x/b": b"b"})

    def test_trouble_names(self) -> None:
        """Why nothing arrives is told with the names that the user has seen, without those of the protocol."""
        self.begin()
        path = self.alice.write("cat.jpg", b"meow")
        self.send(path)
        item = self.until("waiting")
        path.unlink()
        self.bob.ask("accept_offer", id=item["id"])
        self.world.until(lambda: self.item()["trouble"] is not None)
        self.assertIn("'cat.jpg'", self.item()["trouble"])

    def test_no_folder(self) -> None:
        """A folder that cannot be written keeps the offer accepted, says why, and another folder repairs it."""
        self.begin()
        self.send()
        item = self.until("waiting")
        blocked = self.bob.home / "blocked"
        blocked.write_bytes(b"")
        self.bob.ask("accept_offer", id=item["id"], folder=str(blocked / "below"))
        self.world.wait(60)
        item = self.item()
        self.assertEqual((item["state"], item["why"]), ("accepted", "disk"))
        self.assertIn("blocked", item["trouble"])
        self.bob.ask("accept_offer", id=item["id"], folder=str(self.bob.home / "free"))
        self.until("done")

    def test_decline_while_fetching(self) -> None:
        """An offer that is being fetched can be declined."""
        self.begin(limit=1e6)
        self.send(self.alice.write("large", os.urandom(8 * 2**20)))
        item = self.until("waiting")
        self.bob.ask("accept_offer", id=item["id"])
        self.world.until(lambda: self.item()["bytes_done"] > 0)
        self.bob.ask("decline_offer", id=item["id"])
        self.until_told("declined")
        self.world.wait(30)
        self.assertEqual(self.bob.received("alice"), {})  # nor a part of it

    def test_killed_after_decline(self) -> None:
        """A peer that is killed before it has removed the incomplete files of a declined offer does so later."""
        self.begin(limit=1e6)
        self.send(self.alice.write("large", bytes(8 * 2**20)))
        item = self.until("waiting")
        self.bob.ask("accept_offer", id=item["id"])
        self.world.until(lambda: self.item()["bytes_done"] > 2**20)
        self.bob.returns_after = 1.0
        self.bob.crash_after_commits(1)
        with contextlib.suppress(KilledError):
            self.bob.ask("decline_offer", id=item["id"])
        self.world.wait(30)
        self.assertEqual(self.item()["state"], "declined")
        self.assertEqual([*self.bob.received("alice")], [])

    def test_damaged_ledger(self) -> None:
        """A peer whose ledger is damaged does not start, and leaves it as it is; without it, it starts."""
        self.begin()
        self.bob.crash()
        path = self.bob.data / "offers.sqlite"
        damaged = b"no database" * 1000
        for each in self.bob.data.glob("offers.sqlite*"):
            each.unlink()
        path.write_bytes(damaged)
        with self.assertRaisesRegex(LedgerUnusable, "damaged.*Move it away"):
            self.bob.start()
        self.assertEqual(path.read_bytes(), damaged)
        self.bob.stop()
        path.unlink()
        self.bob.start()
        self.send()
        self.until("waiting")

    def test_ledger_cannot_be_written(self) -> None:
        """An offer that cannot be kept is not answered, and comes again; nothing is told before it is kept."""
        self.begin()
        genuine = IncomingOffers.add

        def fail(*_: object) -> None:
            raise LedgerUnusable(path="x", reason="the disk is full")

        with patch.object(IncomingOffers, "add", fail):
            self.send()
            self.world.wait(30)
            self.assertEqual(self.items(), [])
        self.assertIs(IncomingOffers.add, genuine)
        self.until("waiting", 900)

    def test_done_cannot_be_written(self) -> None:
        """If the end cannot be kept, it is found again later, and nothing is fetched twice."""
        self.begin()
        self.send()
        item = self.until("waiting")
        self.bob.ask("accept_offer", id=item["id"])
        genuine, failures = IncomingOffers.update, [0]

        def fail(store: Any, offer: Any) -> None:
            if offer.receipt and failures[0] < 2:
                failures[0] += 1
                raise LedgerUnusable(path="x", reason="the disk is full")
            genuine(store, offer)

        with patch.object(IncomingOffers, "update", fail):
            self.until("done", 400)
        self.assertEqual(failures, [2])
        self.assertEqual(self.bob.received("alice"), {"cat.jpg": b"meow"})

    def test_decision_while_the_end_cannot_be_written(self) -> None:
        """An offer whose end could not be written, and that was declined meanwhile, is not fetched again."""
        self.begin()
        self.send()
        item = self.until("waiting")

        def fail(store: Any, offer: Any) -> None:
            if offer.receipt:
                raise LedgerUnusable(path="x", reason="the disk is full")
            genuine(store, offer)

        genuine = IncomingOffers.update
        with patch.object(IncomingOffers, "update", fail):
            self.bob.ask("accept_offer", id=item["id"])
            self.world.until(self.bob.received)
            self.world.wait(1)
            self.bob.ask("decline_offer", id=item["id"])
        with patch.object(FetchJob, "run") as run:
            self.world.wait(2 * LOOK)
        run.assert_not_called()
        self.assertEqual(self.item()["state"], "declined")

    def test_decision_takes_too_long(self) -> None:
        """A decision that takes so long that its verb gives up is not forgotten: it was written."""
        self.begin()
        self.send()
        item = self.until("waiting")
        writing: list[tuple[Any, ...]] = []

        def later(reactor: Any, *work: Any) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            writing.append((done, *work))
            return done

        with patch.object(inbox, "run_in_thread", later):
            deciding = self.bob.asked("decline_offer", id=item["id"])
            deciding.addErrback(lambda failure: failure.trap(CancelledError))
            deciding.cancel()
        (done, work, *arguments) = writing[0]
        done.callback(work(*arguments))
        self.assertEqual(self.item()["state"], "declined")
        self.until_told("declined")

    def test_untold(self) -> None:
        """What a sender has not heard is kept longer than what is only listed: the sender may offer it again."""
        self.begin()
        self.send(expires_s=90 * DAY)
        item = self.until("waiting")
        self.alice.crash()
        self.bob.ask("decline_offer", id=item["id"])
        self.patch(world, "START", world.START + 60 * DAY)
        self.bob.stop()
        self.bob.start()
        self.assertEqual([each["state"] for each in self.items()], ["declined"])
        self.alice.start()
        self.until_told("declined")
        self.world.wait(1)
        self.bob.stop()
        self.bob.start()
        self.assertEqual(self.items(), [])

    def test_slow_looks(self) -> None:
        """A look at the inbox folder that takes longer than the pause between two is the only one."""
        self.begin(accept_from=("alice",), inbox_quota=1)
        self.send()
        self.until_told("delivered")
        self.world.wait(1)
        looks: list[Deferred[None]] = []

        def never(_reactor: Any, work: Any, *_: Any) -> Deferred[None]:
            self.assertIs(work, folder_size)
            looks.append(Deferred())
            return looks[-1]

        with patch.object(inbox, "run_in_thread", never):
            self.world.wait(5 * LOOK)
        peer: Any = self.bob.peer
        self.assertEqual((len(looks), peer._offers.inbox._unasked.waiting), (1, []))
        looks[0].callback(None)

    def test_faults(self) -> None:
        """Only what the sender does not have ends an offer: being busy does not, and no trouble of this machine."""
        of_sender = {"name": "alice", "path": "@x/cat.jpg"}
        for error, fault in (
            (RemoteNotFound(**of_sender), "gone"),
            (RemoteBusy(**of_sender), None),
            (KnownPeersUnusable(path="known", reason="full"), None),
            (DiskFull(path="x", needed="2 B", free="1 B"), None),
        ):
            found = downloads._fault_of(error)
            self.assertEqual(found and found.value, fault, error)

    def test_slots(self) -> None:
        """Only some offers are fetched at once; the others follow."""
        self.begin(accept_from=("alice",))
        for number in range(RUNNING_MAX + 3):
            self.send(self.alice.write(f"f{number}", bytes([number])))
        self.world.until(self.all_done, 300)
        self.assertEqual(len(self.bob.received("alice")), RUNNING_MAX + 3)


class RotationTests(InboxTestCase):
    def test_sender(self) -> None:
        """The receipt is for the key that the sender has when the files arrive."""
        self.begin()
        self.send()
        item = self.until("waiting")
        self.alice.ask("rotate")
        self.bob.ask("accept_offer", id=item["id"])
        self.until_told("done")
        alice: Any = self.alice.peer
        self.assertEqual(OfferReceipt.read(self.to()["receipt"]).sender, alice.key.public)
        self.assertEqual(self.item()["key"], str(alice.key.public))

    def test_receiver(self) -> None:
        """A receipt counts that was signed by the key which the receiver had until it was told."""
        self.begin()
        self.send()
        item = self.until("waiting")
        bob: Any = self.bob.peer
        signer = bob.key.public
        self.bob.ask("accept_offer", id=item["id"])
        self.until_told("accepted")
        with patch.object(
            Outbox, "state_received", side_effect=LedgerUnusable(path="x", reason="y")
        ):
            self.until("done")
            self.bob.ask("rotate")
            self.bob.stop()
        self.bob.start()
        self.until_told("done", 900)
        self.assertEqual(OfferReceipt.read(self.to()["receipt"]).key, signer)
        (entry,) = self.alice.ask("history")["entries"]
        self.assertEqual(entry["key"], str(signer), "the key with which the receipt is verified")


class RootTests(InboxTestCase):
    def test_root(self) -> None:
        """The root in the receipt is that of the files' content and paths."""
        self.begin(accept_from=("alice",))
        self.send()
        self.until("done")
        self.until_told("done")
        receipt = OfferReceipt.read(self.to()["receipt"])
        expected = offer_root([(("cat.jpg",), 4, root_of(4, (digest_of(b"meow"),)))])
        self.assertEqual(receipt.root, expected)
