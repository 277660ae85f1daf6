"""What tests of offers between whole peers have in common."""

from __future__ import annotations

from typing import Any

from tests.peer.offers.world import Person, WorldTestCase

SOON = 30.0  # seconds within which something happens that waits for nobody
EVERY = 0.25  # seconds between two looks

Offer = dict[str, Any]
Item = dict[str, Any]


class OffersTestCase(WorldTestCase):
    """People who send each other files, by the actions of their peers."""

    def person(self, name: str, **settings: Any) -> Person:
        """Return a new person, whose peer is not started yet."""
        return self.world.person(name, **settings)

    def people(self, *names: str, **settings: Any) -> tuple[Person, ...]:
        """Start the peers of new people."""
        people = tuple(self.person(name, **settings) for name in names)
        for each in people:
            each.begin()
        for each in people:
            self.world.result(each.ready)
        return people

    def send(self, sender: Person, *to: Person, **fields: Any) -> Offer:
        """Offer files, by default one whose name and content are those of the sender."""
        if not {"paths", "text"} & set(fields):
            fields["paths"] = [str(sender.write(f"of {sender.name}", sender.name.encode()))]
        return sender.ask("send", to=[each.name for each in to], **fields)

    def offer(self, sender: Person, offer: Offer) -> Offer:
        """Return an offer as it is now."""
        (found,) = (each for each in sender.look("offers")["offers"] if each["id"] == offer["id"])
        return dict(found)

    def states(self, sender: Person, offer: Offer) -> dict[str, str]:
        """Return the state of an offer for each person."""
        return {each["name"]: each["state"] for each in self.offer(sender, offer)["to"]}

    def items(self, receiver: Person) -> list[Item]:
        """Return the inbox."""
        return list(receiver.look("inbox")["items"])

    def item(self, receiver: Person) -> Item:
        """Wait for an offer, which is the only one, and return it."""
        self.world.until(lambda: self.items(receiver), SOON, EVERY)
        (item,) = self.items(receiver)
        return item

    def await_states(
        self, sender: Person, offer: Offer, within: float = SOON, **states: str
    ) -> None:
        """Wait until the sender knows these states of people."""
        self.world.until(
            lambda: self.states(sender, offer).items() >= states.items(), within, EVERY
        )

    def await_item(self, receiver: Person, item: Item, state: str, within: float = SOON) -> Item:
        """Wait until an item of the inbox has a state, and return it."""

        def found() -> Item:
            (now,) = (each for each in self.items(receiver) if each["id"] == item["id"])
            return now

        self.world.until(lambda: found()["state"] == state, within, EVERY)
        return found()
