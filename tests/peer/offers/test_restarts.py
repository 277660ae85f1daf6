"""Both ends of an offer are killed at every step, and before and after every commit: all of it arrives, once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.peer.offers.case import EVERY, OffersTestCase
from tests.peer.offers.world import KilledError, Person

POINTS = (
    24  # moments of one story at which a peer is killed; more of them take longer, and find more
)
RETURN = 1.0  # seconds until a killed peer starts again
END = 900.0  # seconds until each end knows the last state: retries are up to 10 minutes apart


def some_of(count: int) -> range:
    """Return some of the numbers from 1 to `count`, evenly distributed: other ones each time."""
    stride = -(-count // POINTS)
    return range(random.randint(1, stride), count + 1, stride)


class KilledTestCase(OffersTestCase):
    """Stories that end well although their heroes die."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.people("alice", "bob")
        for each in self.world.people.values():
            each.returns_after = RETURN
        self.told = 0

    def ready(self, person: Person) -> None:
        """Wait until a peer runs."""
        self.world.until(lambda: person.is_ready)

    def persist(self, person: Person, do: str, **fields: Any) -> dict[str, Any]:
        """Ask a peer until it answers, as a user does who saw it crash."""
        while True:
            self.ready(person)
            try:
                return person.ask(do, **fields)
            except KilledError:
                continue

    def known(self, person: Person, do: str, kind: str, note: str) -> dict[str, Any] | None:
        """Return the row of an offer at one of its ends; None if there is none."""
        rows = [each for each in self.persist(person, do)[kind] if each["note"] == note]
        self.assertLessEqual(len(rows), 1, "it is kept once")
        return rows[0] if rows else None

    def sent(self, **fields: Any) -> str:
        """Let alice send bob something new, and return the note, which nothing else has."""
        self.told += 1
        note = f"story {self.told}"
        path = self.alice.write(f"{note}/file", note.encode())
        while self.known(self.alice, "offers", "offers", note) is None:
            self.ready(self.alice)
            try:
                self.alice.ask("send", paths=[str(path.parent)], to=["bob"], note=note, **fields)
            except KilledError:
                continue
        return note

    def came(self, note: str) -> dict[str, Any]:
        """Wait until bob has the offer, and return the item."""

        def item() -> dict[str, Any] | None:
            return self.known(self.bob, "inbox", "items", note)

        self.world.until(item, END, EVERY)
        found = item()
        assert found is not None
        return found

    def decided(self, note: str, do: str) -> None:
        """Let bob accept or decline."""
        while True:
            item = self.came(note)
            self.ready(self.bob)
            try:
                self.bob.ask(do, id=item["id"])
            except KilledError:
                continue
            return

    def await_end(self, note: str, sender: str, receiver: str) -> None:
        """Wait until both ends know the end."""

        def states() -> tuple[str, str]:
            offer = self.known(self.alice, "offers", "offers", note)
            item = self.known(self.bob, "inbox", "items", note)
            assert offer is not None
            return offer["to"][0]["state"], "none" if item is None else item["state"]

        self.world.until(lambda: states() == (sender, receiver), END, 1.0)

    def steps_of(self, person: Person, story: Callable[[], object]) -> int:
        """Return how many steps a person's peer takes in a story."""
        before = person.steps
        story()
        return person.steps - before

    def survives(self, person: Person, story: Callable[[], object]) -> None:
        """Tell a story again and again, in each of which the peer of a person is killed at another step."""
        for step in some_of(self.steps_of(person, story)):
            self.ready(person)
            person.crash_at(person.steps + step)
            story()
        before = person.commits
        story()
        for count in some_of(person.commits - before):
            self.ready(person)
            person.crash_after_commits(count)
            story()


class EveryStepTests(KilledTestCase):
    def accepted(self) -> None:
        """An offer is made, accepted and fetched."""
        note = self.sent()
        self.decided(note, "accept_offer")
        self.await_end(note, "done", "done")
        expected = {f"story {number}/file" for number in range(1, self.told + 1)}
        self.assertEqual(set(self.bob.received("alice")), expected, "each has come once, and whole")
        self.assertEqual(self.bob.received("alice")[f"{note}/file"], note.encode())

    def declined(self) -> None:
        """An offer is made and declined."""
        note = self.sent()
        self.decided(note, "decline_offer")
        self.await_end(note, "declined", "declined")
        self.assertEqual(self.bob.received(), {})

    def cancelled(self) -> None:
        """An offer is made and cancelled."""
        note = self.sent()
        self.came(note)
        offer = self.known(self.alice, "offers", "offers", note)
        assert offer is not None
        self.persist(self.alice, "cancel", id=offer["id"])
        self.await_end(note, "cancelled", "withdrawn")

    def test_sender_killed(self) -> None:
        """A sender that is killed anywhere loses no offer, and makes none twice."""
        self.survives(self.alice, self.accepted)

    def test_receiver_killed(self) -> None:
        """A receiver that is killed anywhere loses no offer, and fetches none twice."""
        self.survives(self.bob, self.accepted)

    def test_decliner_killed(self) -> None:
        """What is declined is declined, whoever is killed."""
        self.survives(self.bob, self.declined)
        self.survives(self.alice, self.declined)

    def test_canceller_killed(self) -> None:
        """What is cancelled is cancelled, whoever is killed."""
        self.survives(self.alice, self.cancelled)
        self.survives(self.bob, self.cancelled)
