"""The world of peers in memory behaves as processes on machines do."""

from __future__ import annotations

import sqlite3

from p2pshare.errors import P2pshareError
from tests.peer.offers.hostile import Hostile
from tests.peer.offers.world import WorldTestCase

LEASE = 90.0  # seconds for which a killed peer counts as online


class WorldTests(WorldTestCase):
    """People who share a folder."""

    def shares_of_alice(self) -> list[str]:
        """Return what bob sees of alice."""
        bob = self.world.people["bob"]
        return list(bob.ask("complete", peer="alice", prefix="")["entries"])

    def test_stopped(self) -> None:
        """A peer sees what another one shares, after a stop and a start, too."""
        alice, _bob = self.world.start("alice", "bob")
        self.assertEqual(self.shares_of_alice(), [])
        key = alice.ask("status")["key"]
        alice.stop()
        alice.start(share=(f"stuff={alice.files}",))
        self.world.wait(10)
        self.assertEqual(self.shares_of_alice(), ["stuff/"])
        self.assertEqual(alice.ask("status")["key"], key)

    def test_killed(self) -> None:
        """A killed peer has the same key again, and its sessions have ended; connections to others go on."""
        alice, _bob, carol = self.world.start("alice", "bob", "carol")
        self.shares_of_alice()
        self.assertEqual(alice.ask("status")["sessions"], 1)
        key = alice.ask("status")["key"]
        alice.crash()
        self.world.wait(10)
        with self.assertRaises(P2pshareError):
            self.shares_of_alice()
        alice.start(share=(f"stuff={alice.files}",))
        self.world.wait(10)
        self.assertEqual(self.shares_of_alice(), ["stuff/"])
        self.assertEqual(alice.ask("status")["key"], key)
        self.assertTrue(carol.ask("status")["online"])

    def test_killed_at_every_step(self) -> None:
        """A peer that is killed anywhere in its start starts again."""
        (alice,) = self.world.start("alice")
        steps = alice.steps
        alice.crash()
        for number in range(1, steps):
            alice.begin()
            alice.crash_at(number)
            self.world.until(lambda: alice.peer is None)
        alice.start()
        self.assertGreater(steps, 10)

    def test_cut(self) -> None:
        """Nobody reaches a peer whose cable is cut."""
        alice, _bob = self.world.start("alice", "bob")
        alice.cut()
        with self.assertRaises(P2pshareError):
            self.shares_of_alice()
        self.world.wait(10)
        alice.mend()
        self.world.wait(60)
        self.assertEqual(self.shares_of_alice(), [])
        self.assertTrue(alice.ask("status")["online"])

    def test_databases(self) -> None:
        """A database has after a crash what was committed before, and what the dead peer still writes is lost."""
        (alice,) = self.world.start("alice")
        path = alice.data / "some.sqlite"
        database = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(database.close)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE things (number INTEGER)")
        database.execute("INSERT INTO things VALUES (1)")
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO things VALUES (2)")
        alice.crash()
        database.execute("COMMIT")
        alice.start()
        again = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(again.close)
        again.execute("INSERT INTO things VALUES (3)")
        self.assertEqual(again.execute("SELECT number FROM things").fetchall(), [(1,), (3,)])

    def test_twenty(self) -> None:
        """Twenty peers are cheap."""
        self.world.start(*(f"peer-{number}" for number in range(20)))
        self.world.wait(LEASE)
        self.assertEqual(
            {each.ask("status")["online"] for each in self.world.people.values()}, {True}
        )

    def test_hostile(self) -> None:
        """A hostile peer says what it likes in the sessions that it opens, and in those of others."""
        alice, mallory = self.world.start("alice", "mallory")
        hostile = Hostile(mallory)
        session = hostile.open(alice)
        session.say(m="list", id=1, path="", after="", limit=10, recursive=False)
        self.world.until(lambda: session.of_kind("listing"))
        session.say_bytes(b"{")
        self.world.until(lambda: session.is_over)
        hostile.answer = lambda session, said: (
            session.say(m="failed", id=said["id"], why="busy") if said["m"] == "list" else None
        )
        with self.assertRaises(P2pshareError):
            alice.ask("complete", peer="mallory", prefix="")
        (asked,) = hostile.accepted[0].of_kind("list")
        self.assertEqual(asked["path"], "")


class LanTests(WorldTestCase):
    """The same without a registry."""

    is_lan = True

    def test_accepted(self) -> None:
        """Somebody who is accepted sees what is shared."""
        alice, bob = self.world.start("alice", "bob")
        with self.assertRaises(P2pshareError):
            bob.ask("complete", peer="alice", prefix="")
        alice.ask("accept", name="bob")
        self.world.wait(10)
        self.assertEqual(bob.ask("complete", peer="alice", prefix="")["entries"], [])
        alice.crash()
        alice.start(share=(f"stuff={alice.files}",))
        self.world.wait(70)
        self.assertEqual(bob.ask("complete", peer="alice", prefix="")["entries"], ["stuff/"])
