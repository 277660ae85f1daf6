"""People who send each other files while all peers are killed at random: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any

from p2pshare.errors import P2pshareError
from tests import IS_THOROUGH, examples
from tests.peer.offers.case import OffersTestCase
from tests.peer.offers.world import KilledError, Person

KILLS_EVERY = 4.0  # seconds between two kills on average
RATE = 200_000.0  # bytes per second that each peer sends at most
SIZES = 0, 9, 70_000, 1_500_000  # bytes of a file
CUT_MAX = 100.0  # seconds for which somebody has no network
MOVES = 80  # actions of people in one story
PAUSE = 3.0  # seconds between two actions at most
END = 3600.0  # seconds after which everybody must know everything
OPEN = ("waiting", "accepted")
DECISIONS = ("accept_offer", "accept_offer", "decline_offer")


@dataclass
class Told:
    """What a person wants of one offer."""

    sender: Person
    to: tuple[Person, ...]
    note: str
    content: bytes
    is_kept: bool = False
    """Whether the sender's peer has said so."""
    is_cancelled: bool = False


class StoryTestCase(OffersTestCase):
    """Anything may happen at any time."""

    lifetimes: tuple[int, ...] = (86_400,)
    """Seconds until offers expire."""
    accepted: tuple[str, ...] = ()
    """People whose offers everybody takes without asking."""

    def start_story(self, seed: int, *names: str) -> None:
        self.rng = random.Random(seed)
        self.everybody = self.people(*names, limit=RATE, accept_from=self.accepted)
        self.told: list[Told] = []
        self.decided: dict[tuple[str, str], str] = {}
        for each in self.everybody:
            each.returns_after = self.rng.choice((0.5, 5.0, 100.0))
        self.kill_soon()

    def kill_soon(self) -> None:
        """Kill somebody at some time, and so on."""
        delay = self.rng.expovariate(1 / KILLS_EVERY)
        self.killing = self.world.clock.callLater(delay, self.kill)

    def kill(self) -> None:
        victim = self.rng.choice(self.everybody)
        if victim.peer is not None:
            victim.crash(is_noticed=self.rng.random() < 0.8)
        self.kill_soon()

    def ask(self, person: Person, do: str, **fields: Any) -> dict[str, Any] | None:
        """Ask a peer, if it is there; None if it is not, or is killed meanwhile, or does not want to."""
        if not person.is_ready:
            return None
        try:
            return person.ask(do, **fields)
        except (KilledError, P2pshareError):
            return None

    def send_something(self) -> None:
        sender, *others = self.rng.sample(self.everybody, self.rng.randint(2, len(self.everybody)))
        note = f"{sender.name} {len(self.told)}"
        told = Told(sender, tuple(others), note, self.rng.randbytes(self.rng.choice(SIZES)))
        path = sender.write(f"{note}/content", told.content).parent
        to = [each.name for each in others]
        expires = self.rng.choice(self.lifetimes)
        kept = self.ask(sender, "send", paths=[str(path)], to=to, note=note, expires_s=expires)
        told.is_kept = kept is not None
        self.told.append(told)

    def decide_something(self) -> None:
        receiver = self.rng.choice(self.everybody)
        reply = self.ask(receiver, "inbox")
        items = [each for each in reply["items"] if each["state"] in OPEN] if reply else []
        if items:
            item, do = self.rng.choice(items), self.rng.choice(DECISIONS)
            if self.ask(receiver, do, id=item["id"]) is not None:
                self.decided[receiver.name, item["note"]] = do

    def cut_something(self) -> None:
        person = self.rng.choice(self.everybody)
        if not person.is_cut:
            person.cut()
            self.world.clock.callLater(self.rng.uniform(0, CUT_MAX), person.mend)

    def cancel_something(self) -> None:
        if self.told and self.rng.random() < 0.5:
            told = self.rng.choice(self.told)
            reply = self.ask(told.sender, "offers")
            for each in reply["offers"] if reply else ():
                if each["note"] == told.note and self.ask(told.sender, "cancel", id=each["id"]):
                    told.is_cancelled = True

    def tell(self, seed: int, *names: str) -> None:
        """Let a story happen, let everybody come to rest, and look at what is there."""
        self.start_story(seed, *names)
        moves = (
            self.send_something,
            self.decide_something,
            self.decide_something,
            self.cancel_something,
            self.cut_something,
        )
        for _ in range(MOVES):
            self.rng.choice(moves)()
            self.world.wait(self.rng.uniform(0, PAUSE))
        self.killing.cancel()
        self.world.until(lambda: all(each.is_ready for each in self.everybody), 200, 1.0)
        self.world.until(self.is_settled, END, 10.0)
        self.assertGreater(sum(each.deaths for each in self.everybody), 0)
        sent = {note for each in self.everybody for note in self.rows(each)}
        self.assertLessEqual({each.note for each in self.told if each.is_kept}, sent)
        for receiver in self.everybody:
            self.check(receiver)

    def rows(self, receiver: Person) -> dict[str, tuple[str, str | None]]:
        """Return the states of all offers to a person at both ends, by their notes."""
        found: dict[str, tuple[str, str | None]] = {}
        items = {each["note"]: each["state"] for each in self.items(receiver)}
        self.assertEqual(len(items), len(self.items(receiver)), "nothing is kept twice")
        for sender in self.everybody:
            for offer in sender.look("offers")["offers"]:
                self.assertNotIn(offer["note"], found, "nothing is sent twice")
                for each in offer["to"]:
                    if each["name"] == receiver.name:
                        found[offer["note"]] = each["state"], items.pop(offer["note"], None)
        self.assertEqual(items, {}, "nothing comes that was not sent to this person")
        return found

    def is_settled(self) -> bool:
        """Whether both ends of each offer agree, and nothing is going on."""
        agreed = {
            ("delivered", "waiting"),
            ("declined", "declined"),
            ("done", "done"),
            ("cancelled", "withdrawn"),
            ("cancelled", "declined"),  # both at once
            ("cancelled", "failed"),
            ("cancelled", None),
            ("expired", "withdrawn"),
            ("expired", "declined"),
            ("expired", "failed"),
            ("expired", None),
        }
        pairs = {pair for each in self.everybody for pair in self.rows(each).values()}
        return pairs <= agreed

    def check(self, receiver: Person) -> None:
        """Assert that exactly what was accepted is there, whole, and that no decision was lost."""
        contents = {told.note: told.content for told in self.told}
        states = {note: state for note, (state, _) in self.rows(receiver).items()}
        done = {note for note, state in states.items() if state == "done"}
        expected = {f"{note.split()[0]}/{note}/content": contents[note] for note in done}
        came = {
            name.replace("@lan/", "/"): content  # so it is called until its key is met
            for name, content in receiver.received().items()
            if not name.rpartition("/")[2].startswith(".")  # the beginning of what was cancelled
        }
        self.assertEqual(came, expected)
        for (name, note), do in self.decided.items():
            if name == receiver.name:
                final = "done" if do == "accept_offer" else "declined"
                told = next(each for each in self.told if each.note == note)
                allowed = {final, "cancelled"} if told.is_cancelled else {final}
                if len(self.lifetimes) > 1:
                    allowed.add("expired")
                self.assertIn(states[note], allowed)


def _test(number: int, *names: str) -> Any:
    def test(self: StoryTestCase) -> None:
        """All is well in the end."""
        drawn = random.randrange(2**32) if IS_THOROUGH else number  # `make check` tells new stories
        seed = int(os.environ.get("SEED") or drawn)
        try:
            self.tell(seed, *names)
        except AssertionError as error:
            raise AssertionError(f"with the seed {seed}: {error}") from error

    return test


class RandomTests(StoryTestCase):
    """Peers with a registry."""


for _number in range(examples(16)):
    setattr(RandomTests, f"test_two_{_number}", _test(_number, "alice", "bob"))
    setattr(RandomTests, f"test_three_{_number}", _test(_number, "alice", "bob", "carol"))


class HastyTests(StoryTestCase):
    """Offers that expire soon, and people who take some without asking."""

    lifetimes = (5, 20, 60, 86_400)
    accepted = ("alice",)


for _number in range(examples(16)):
    setattr(HastyTests, f"test_three_{_number}", _test(_number, "alice", "bob", "carol"))


class LanTests(StoryTestCase):
    """The same without a registry."""

    is_lan = True


for _number in range(examples(8)):
    setattr(LanTests, f"test_two_{_number}", _test(_number, "alice", "bob"))
