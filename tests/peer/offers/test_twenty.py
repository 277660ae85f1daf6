"""Twenty people who all send each other something at once, and a local network without a registry."""

from __future__ import annotations

from p2pshare.errors import P2pshareError
from tests.peer.offers.case import EVERY, SOON, Offer, OffersTestCase
from tests.peer.offers.hostile import Hostile
from tests.peer.offers.test_hostile_senders import offer
from tests.peer.offers.world import Person

COUNT = 20
STEPS = 1, 5, 9  # places from a sender to each receiver
END = 900.0  # seconds until all have all


class TwentyTests(OffersTestCase):
    def test_all_at_once(self) -> None:
        """Each gets exactly what was sent to them, although a quarter of them is killed meanwhile."""
        names = [f"p{number}" for number in range(COUNT)]
        people = self.people(*names, accept_from=tuple(names))
        offers: list[tuple[Person, Offer]] = []
        for number, sender in enumerate(people):
            to = [people[(number + step) % COUNT] for step in STEPS]
            path = sender.write(f"from {sender.name}", sender.name.encode() * 1000)
            offers.append((sender, self.send(sender, *to, paths=[str(path)])))
        for victim in people[::4]:
            victim.returns_after = 20.0
            victim.crash()

        def are_done() -> bool:
            return all(each.is_ready for each in people) and all(
                set(self.states(sender, each).values()) == {"done"} for sender, each in offers
            )

        self.world.until(are_done, END, 5.0)
        for number, receiver in enumerate(people):
            senders = [people[number - step].name for step in STEPS]
            expected = {f"{name}/from {name}": name.encode() * 1000 for name in senders}
            self.assertEqual(receiver.received(), expected)
            self.assertEqual(len(self.items(receiver)), len(STEPS))


class LanTests(OffersTestCase):
    """Without a registry, nobody says whose key a name is."""

    is_lan = True

    def test_strangers(self) -> None:
        """People who have never met send each other files, and see nothing else of each other."""
        alice, bob = self.person("alice"), self.person("bob")
        secret = bob.write("secret", b"secret")
        alice.start()
        bob.start(share=(str(secret),))
        sent = self.send(alice, bob)
        item = self.item(bob)
        self.assertEqual(item["key"], alice.look("status")["key"])
        with self.assertRaises(P2pshareError):
            alice.ask("complete", peer="bob", prefix="")
        bob.ask("accept_offer", id=item["id"])
        self.await_states(alice, sent, bob="done")
        (content,) = bob.received().values()
        self.assertEqual(content, b"alice")

    def test_restarts(self) -> None:
        """Both ends may be killed between an offer and its end."""
        alice, bob = self.people("alice", "bob")
        sent = self.send(alice, bob)
        item = self.item(bob)
        alice.crash()
        bob.ask("accept_offer", id=item["id"])
        bob.crash()
        bob.start()
        alice.start()
        self.await_states(alice, sent, bob="done", within=END)
        self.assertEqual(list(bob.received().values()), [b"alice"])

    def test_third_person(self) -> None:
        """Threat 80: somebody who says the name of a receiver, and knows the ID, gets nothing of an offer."""
        alice, bob = self.people("alice", "bob")
        sent = self.send(alice, bob)
        self.item(bob)
        bob.stop()
        thief = self.world.person("bob2")
        thief.name = "bob"
        thief.begin()
        self.world.result(thief.ready)
        with self.assertRaises(P2pshareError):
            Hostile(thief, own_name="bob", purpose=True).open(alice)
        self.world.wait(SOON)
        self.assertEqual(self.states(alice, sent), {"bob": "delivered"})
        self.assertEqual(thief.look("inbox")["items"], [])

    def test_flood(self) -> None:
        """Threat 81: a stranger's offers fill the stranger's own place."""
        alice, bob, mallory = self.people("alice", "bob", "mallory")
        hostile = Hostile(mallory, own_name="mallory", purpose=True)
        session = hostile.open(bob)
        for number in range(300):
            session.say(**offer(number))
        self.world.until(lambda: session.is_over, SOON, EVERY)
        self.send(alice, bob)
        self.world.until(
            lambda: any(each["from"].startswith("alice") for each in self.items(bob)), SOON, EVERY
        )
