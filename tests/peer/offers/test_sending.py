"""Offers between whole peers: who gets what, and what both ends know of it."""

from __future__ import annotations

import os
import random

from p2pshare.errors import P2pshareError
from tests.peer.offers.case import EVERY, SOON, OffersTestCase

LARGE = random.Random(1).randbytes(3_000_000)
DAY = 86_400


class SendTests(OffersTestCase):
    """A sender, and people who decide."""

    def test_accepted(self) -> None:
        """What is accepted arrives whole, with empty folders, and both ends know that it has."""
        alice, bob = self.people("alice", "bob")
        photos = alice.write("photos/2024/cat.jpg", LARGE).parent.parent
        (photos / "empty").mkdir()
        notes = alice.write("notes.txt", b"notes")
        offer = self.send(alice, bob, paths=[str(photos), str(notes)], note="as promised")
        size = len(LARGE) + 5
        self.assertEqual((offer["files"], offer["folders"], offer["bytes"]), (2, 3, size))
        item = self.item(bob)
        self.assertEqual(
            (item["from"], item["note"], item["files"], item["bytes"], item["state"]),
            ("alice", "as promised", 2, size, "waiting"),
        )
        self.assertEqual(item["key"], alice.look("status")["key"])
        self.assertEqual([each["name"] for each in item["items"]], ["notes.txt", "photos"])
        self.await_states(alice, offer, bob="delivered")
        self.assertEqual(bob.received(), {})
        bob.ask("accept_offer", id=item["id"])
        self.await_states(alice, offer, bob="done")
        self.await_item(bob, item, "done")
        self.assertEqual(
            bob.received("alice"), {"photos/2024/cat.jpg": LARGE, "notes.txt": b"notes"}
        )
        self.assertTrue((bob.inbox / "alice" / "photos" / "empty").is_dir())
        (to,) = self.offer(alice, offer)["to"]
        self.assertTrue(to["receipt"])
        self.assertEqual(to["bytes_done"], size)

    def test_repeated(self) -> None:
        """A request that is repeated with the ID that it has drawn makes no second offer."""
        alice, bob = self.people("alice", "bob")
        drawn = "a2" * 8
        wanted = {"paths": [str(alice.write("notes.txt", b"notes"))], "to": ["bob"], "id": drawn}
        self.assertEqual(alice.ask("send", **wanted)["id"], drawn)
        self.await_states(alice, alice.ask("send", **wanted), bob="delivered")
        self.assertEqual(len(alice.ask("offers")["offers"]), 1)
        self.assertEqual([each["id"] for each in bob.ask("inbox")["items"]], [drawn])
        with self.assertRaises(P2pshareError):
            alice.ask("send", **{**wanted, "id": "../x"})

    def test_elsewhere(self) -> None:
        """The receiver may name another folder."""
        alice, bob = self.people("alice", "bob")
        offer = self.send(alice, bob)
        bob.ask("accept_offer", id=self.item(bob)["id"], folder=str(bob.home / "elsewhere"))
        self.await_states(alice, offer, bob="done")
        self.assertEqual(bob.received(), {})
        self.assertEqual((bob.home / "elsewhere" / "of alice").read_bytes(), b"alice")

    def test_declined(self) -> None:
        """The sender learns that an offer is not wanted, and nothing is fetched."""
        alice, bob = self.people("alice", "bob")
        offer = self.send(alice, bob)
        item = self.item(bob)
        bob.ask("decline_offer", id=item["id"][:6])
        self.await_states(alice, offer, bob="declined")
        with self.assertRaises(P2pshareError):
            bob.ask("accept_offer", id=item["id"])
        self.assertEqual(bob.received(), {})

    def test_text(self) -> None:
        """A text arrives as a file, however it was sent, and can be read where it was saved."""
        alice, bob = self.people("alice", "bob")
        offer = self.send(alice, bob, text="see you at \u2615\n")
        item = self.item(bob)
        self.assertTrue(item["text"])
        with self.assertRaisesRegex(P2pshareError, "no text that has arrived"):
            bob.ask("offer_text", id=item["id"])
        bob.ask("accept_offer", id=item["id"])
        self.await_states(alice, offer, bob="done")
        (content,) = bob.received().values()
        self.assertEqual(content.decode(), "see you at \u2615\n")
        text = bob.ask("offer_text", id=item["id"])["text"]
        self.assertEqual(text, "see you at \u2615\n")
        (saved,) = self.await_item(bob, item, "done")["saved"]
        os.unlink(saved)
        with self.assertRaisesRegex(P2pshareError, "no such file"):
            bob.ask("offer_text", id=item["id"])

    def test_names(self) -> None:
        """Threats 1 and 71: names that hide, reverse text or break lines arrive as harmless ones, and all files do."""
        alice, bob = self.people("alice", "bob")
        names = (
            ".bashrc",
            "\u202egpj.exe",
            "a\nb",
            "-rf",
            "x" * 255,
            "é" * 100,
            ".p2pshare-x.part",
        )
        paths = [str(alice.write(name, name.encode())) for name in names]
        with self.assertRaises(P2pshareError):
            self.send(alice, bob, paths=paths)
        paths.pop()  # the names of unfinished files are reserved
        offer = self.send(alice, bob, paths=paths)
        bob.ask("accept_offer", id=self.item(bob)["id"])
        self.await_states(alice, offer, bob="done")
        came = bob.received("alice")
        self.assertEqual(sorted(came.values()), sorted(name.encode() for name in names[:-1]))
        for name in came:
            self.assertTrue(name.isprintable() and not name.startswith("."), name)

    def test_several(self) -> None:
        """Each of several people decides alone, and nobody learns of the others."""
        alice, bob, carol, dave = self.people("alice", "bob", "carol", "dave")
        dave.stop()
        offer = self.send(alice, bob, carol, dave)
        bob.ask("accept_offer", id=self.item(bob)["id"])
        carol.ask("decline_offer", id=self.item(carol)["id"])
        self.await_states(alice, offer, bob="done", carol="declined", dave="waiting")
        dave.start()
        item = self.item(dave)
        self.assertNotIn("bob", str(item))
        dave.ask("accept_offer", id=item["id"])
        self.await_states(alice, offer, dave="done")
        self.assertEqual((bob.received("alice"), carol.received()), ({"of alice": b"alice"}, {}))
        self.assertEqual(dave.received("alice"), {"of alice": b"alice"})

    def test_automatic(self) -> None:
        """What certain people send is taken without a question, and what others send is not."""
        alice, bob, carol = self.people("alice", "bob", "carol")
        bob.stop()
        bob.start(accept_from=("alice",))
        offer, other = self.send(alice, bob), self.send(carol, bob)
        self.await_states(alice, offer, bob="done")
        self.await_states(carol, other, bob="delivered")
        self.assertEqual(bob.received("alice"), {"of alice": b"alice"})
        self.assertEqual(
            {each["from"]: each["auto"] for each in self.items(bob)},
            {"alice": True, "carol": False},
        )

    def test_nobody_of_this_name(self) -> None:
        """An offer to a name that nobody has is an error at once; nothing is kept."""
        (alice,) = self.people("alice")
        with self.assertRaises(P2pshareError):
            alice.ask("send", paths=[str(alice.write("a"))], to=["nobody-here"])
        self.assertEqual(alice.look("offers")["offers"], [])

    def test_checked(self) -> None:
        """What an offer leaves out is counted before anything is kept or told."""
        alice, bob = self.people("alice", "bob")
        folder = alice.write("stuff/.hidden", b"h").parent
        alice.write("stuff/seen", b"s")
        (folder / "link").symlink_to("/etc/passwd")
        checked = self.send(alice, bob, paths=[str(folder)], check=True)
        self.assertEqual((checked["files"], checked["left_out"]["hidden"]), (1, 1))
        self.assertEqual(sum(checked["left_out"]["omitted"].values()), 1)
        self.assertEqual(alice.look("offers")["offers"], [])
        self.world.wait(SOON)
        self.assertEqual(self.items(bob), [])


class KeyTests(OffersTestCase):
    """Keys that are replaced between an offer and its end."""

    def test_sender_rotates(self) -> None:
        """An offer that was made with the key before is fetched, and its end noted."""
        alice, bob = self.people("alice", "bob")
        offer = self.send(alice, bob)
        item = self.item(bob)
        alice.ask("rotate")
        self.world.wait(70)
        bob.ask("accept_offer", id=item["id"])
        self.await_states(alice, offer, bob="done", within=900)
        self.await_item(bob, item, "done")

    def test_receiver_rotates(self) -> None:
        """An offer is for a person, also under the key that follows the one which was known."""
        alice, bob = self.people("alice", "bob")
        offer = self.send(alice, bob)
        item = self.item(bob)
        bob.ask("rotate")
        self.world.wait(70)
        bob.ask("accept_offer", id=item["id"])
        self.await_states(alice, offer, bob="done", within=900)
        (to,) = self.offer(alice, offer)["to"]
        self.assertTrue(to["receipt"])

    def test_rotated_while_away(self) -> None:
        """What waits for somebody who is away is delivered under the new key."""
        alice, bob, carol = self.people("alice", "bob", "carol")
        first = self.send(alice, bob)
        self.item(bob)
        bob.ask("rotate")
        bob.stop()
        second = self.send(alice, bob)
        third = self.send(carol, bob)
        self.world.wait(200)
        bob.start()
        self.await_states(alice, second, bob="delivered", within=900)
        self.await_states(carol, third, bob="delivered", within=900)
        for each in self.items(bob):
            bob.ask("accept_offer", id=each["id"])
        self.await_states(alice, first, bob="done", within=900)
        self.await_states(alice, second, bob="done", within=900)


class TimeTests(OffersTestCase):
    """Offers that wait, and offers that end."""

    def test_offline(self) -> None:
        """An offer to somebody who is away waits, is not looked for, and is told within seconds of their return."""
        alice, bob = self.people("alice", "bob")
        bob.stop()
        offer = self.send(alice, bob)
        self.world.wait(1000)
        self.assertEqual(self.states(alice, offer), {"bob": "waiting"})
        bob.start()
        came = self.world.clock.seconds()
        self.item(bob)
        self.assertLess(self.world.clock.seconds() - came, 5)

    def test_sender_away(self) -> None:
        """What was accepted while its sender is away comes when the sender is back."""
        alice, bob = self.people("alice", "bob")
        offer = self.send(alice, bob)
        item = self.item(bob)
        alice.stop()
        bob.ask("accept_offer", id=item["id"])
        self.world.wait(1000)
        self.assertEqual(bob.received(), {})
        alice.start()
        self.await_states(alice, offer, bob="done", within=60)
        self.assertEqual(bob.received("alice"), {"of alice": b"alice"})

    def test_decided_while_away(self) -> None:
        """A sender that was away learns a decision when it is back."""
        alice, bob = self.people("alice", "bob")
        offer = self.send(alice, bob)
        item = self.item(bob)
        alice.stop()
        bob.ask("decline_offer", id=item["id"])
        self.world.wait(1000)
        alice.start()
        self.await_states(alice, offer, bob="declined", within=60)

    def test_expires(self) -> None:
        """An offer that nobody has decided on ends by time at both ends, whether they see each other or not."""
        alice, bob, carol = self.people("alice", "bob", "carol")
        carol.stop()
        offer = self.send(alice, bob, carol, expires_s=600)
        item = self.item(bob)
        alice.cut()
        self.world.wait(700)
        self.assertEqual(self.states(alice, offer), {"bob": "expired", "carol": "expired"})
        self.assertNotIn("waiting", [each["state"] for each in self.items(bob)])
        with self.assertRaises(P2pshareError):
            bob.ask("accept_offer", id=item["id"])
        alice.mend()
        carol.start()
        self.world.wait(700)
        self.assertEqual(self.items(carol), [])
        self.assertEqual(bob.received(), {})

    def test_cancelled_before_it_was_told(self) -> None:
        """Nobody hears of an offer that was cancelled before."""
        alice, bob = self.people("alice", "bob")
        bob.stop()
        offer = self.send(alice, bob)
        alice.ask("cancel", id=offer["id"])
        bob.start()
        self.world.wait(700)
        self.assertEqual(self.items(bob), [])
        self.assertEqual(self.states(alice, offer), {"bob": "cancelled"})

    def test_cancelled(self) -> None:
        """An offer that is cancelled disappears at the receiver, also if one of both was away."""
        alice, bob, carol = self.people("alice", "bob", "carol")
        offer = self.send(alice, bob, carol)
        items = {each.name: self.item(each) for each in (bob, carol)}
        carol.stop()
        alice.ask("cancel", id=offer["id"])
        self.await_item(bob, items["bob"], "withdrawn")
        carol.start()
        self.await_item(carol, items["carol"], "withdrawn", within=60)
        with self.assertRaises(P2pshareError):
            carol.ask("accept_offer", id=items["carol"]["id"])
        self.assertEqual(self.states(alice, offer), {"bob": "cancelled", "carol": "cancelled"})

    def test_cancelled_while_it_is_fetched(self) -> None:
        """A transfer of what is cancelled stops, and what is done stays done."""
        alice, bob, carol = self.people("alice", "bob", "carol", limit=100_000)
        large = alice.write("large", LARGE)
        offer = self.send(alice, bob, carol, paths=[str(large)])
        item = self.item(bob)
        bob.ask("accept_offer", id=item["id"])
        self.world.until(lambda: self.offer(alice, offer)["to"][0]["bytes_done"] > 0, SOON, EVERY)
        alice.ask("cancel", id=offer["id"])
        self.await_item(bob, item, "withdrawn")
        self.world.wait(60)
        self.assertNotIn("large", bob.received("alice"))
        self.assertEqual(self.states(alice, offer), {"bob": "cancelled", "carol": "cancelled"})
