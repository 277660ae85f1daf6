"""Tests of `p2pshare.peer.people.roster` and of `PresenceWatch.follow`, in virtual time."""

from __future__ import annotations

from dataclasses import replace

from p2pshare.errors import RegistryBusy, RegistryUnreachable
from p2pshare.peer.find.presence import REFUSED_RETRY, RESTART_GAP
from p2pshare.peer.people.roster import Roster
from p2pshare.wire.registry_answers import Presence
from tests.peer.find.test_presence import PresenceCase, peer


class RosterTests(PresenceCase):
    def setUp(self) -> None:
        super().setUp()
        self.changes: list[str] = []
        self.kept: set[str] = set()
        self.roster = self.make_roster()

    def make_roster(self, most: int = 100) -> Roster:
        return Roster(
            self.clock,
            lambda: 1000.0 + self.clock.seconds(),
            self.presence,
            self.changes.append,
            self.kept.__contains__,
            people_max=most,
        )

    def start(self, *online: str) -> None:
        self.streams.online = set(online)
        self.roster.start()
        self.clock.advance(RESTART_GAP)

    def state(self, name: str) -> tuple[bool | None, int | None] | None:
        found = self.roster.sighting(name)
        return None if found is None else (found.online, found.since)

    def test_changes(self) -> None:
        """The whole list comes first, then changes with their time; who gives up the name is gone."""
        self.start("bob", "carol")
        self.assertTrue(self.roster.is_complete)
        self.assertEqual((self.roster.names, self.streams.asked), ({"bob", "carol"}, [()]))
        self.assertEqual(self.state("bob"), (True, 1))
        self.streams.say(peer("bob", Presence.OFFLINE))
        self.assertEqual(self.state("bob"), (False, 1))
        self.clock.advance(10)
        self.streams.say(replace(peer("bob"), since=7))
        self.streams.say(peer("dave", Presence.UNKNOWN))
        self.assertEqual((self.state("bob"), self.state("dave")), ((True, 7), (None, 1)))
        self.kept.add("carol")
        for name in ("bob", "carol"):
            self.streams.say(peer(name, Presence.GONE))
        self.assertEqual((self.state("bob"), self.state("carol")), (None, (False, 1011)))
        self.assertEqual(self.changes[-4:], ["bob", "dave", "bob", "carol"])
        self.roster.stop()
        self.assertEqual(self.streams.open, [])

    def test_missed(self) -> None:
        """After a break the list is read again, and only what differs is told."""
        self.start("bob", "carol")
        self.changes.clear()
        self.streams.online = {"carol", "dave"}
        self.streams.reset()
        self.assertEqual(self.roster.names, {"carol", "dave"})
        self.assertEqual(sorted(self.changes), ["bob", "dave"])
        self.roster.stop()

    def test_other_watchers(self) -> None:
        """One stream serves the list and those who wait for somebody; the list's end makes it small again."""
        self.watch("bob")
        self.clock.advance(RESTART_GAP)
        self.start("bob")
        self.assertEqual(self.streams.open, [()])
        self.assertEqual(self.seen[-1], ("bob", True))
        self.streams.say(peer("bob", Presence.OFFLINE))
        self.assertEqual(self.seen[-1], ("bob", False))
        self.roster.stop()
        self.clock.advance(RESTART_GAP)
        self.assertEqual(self.streams.open, [("bob",)])

    def test_age(self) -> None:
        """While no changes arrive, the list tells why, and since when; it is up to date when it was read again."""
        why = RegistryBusy(registry="http://r", retry_after=9)
        self.start("bob")
        self.assertEqual((self.roster.is_current, self.roster.old_since), (True, None))
        self.roster.link_changed(False, None)  # a stream ends now and then
        self.clock.advance(2)
        self.roster.link_changed(False, why)
        self.assertEqual((self.roster.trouble, self.roster.old_since), (why, 1001.0))
        self.assertEqual(self.state("bob"), (True, 1))
        self.streams.errors = [why]
        self.roster.link_changed(True, None)
        self.streams.reset()
        self.assertEqual((self.roster.trouble, self.roster.is_current), (why, False))
        self.clock.advance(8)
        self.assertEqual(self.streams.listed, 2)  # as late as the registry has asked
        self.clock.advance(1)
        self.assertEqual((self.roster.trouble, self.roster.old_since), (None, None))
        self.assertTrue(self.roster.is_current)
        self.roster.stop()

    def test_bound(self) -> None:
        """Names beyond the bound are counted; one that is kept has a place in any case."""
        self.roster = self.make_roster(2)
        self.kept.add("zoe")
        self.start("alice", "bob", "carol", "dave", "zoe")
        self.assertEqual(self.roster.names, {"alice", "bob", "zoe"})
        self.assertEqual(self.roster.left_out, 2)
        self.streams.say(peer("emil"))
        self.assertIsNone(self.state("emil"))
        self.roster.stop()

    def test_marks(self) -> None:
        """On a local network, another key with a known name is not taken for the known one."""
        self.start("bob")
        self.streams.say(peer("bob", Presence.ONLINE, "another key"))
        found = self.roster.sighting("bob")
        assert found is not None
        self.assertFalse(found.is_other)
        self.streams.say(peer("eve", Presence.ONLINE, "another key"))
        found = self.roster.sighting("eve")
        assert found is not None
        self.assertTrue(found.is_other)
        self.roster.stop()

    def test_refused(self) -> None:
        """A directory that tells nothing does not keep a question waiting, and is asked again."""
        self.streams.errors = [RegistryUnreachable(registry="http://r", reason="it is away")]
        self.roster.start()
        asking = self.roster.complete(5.0)
        try:
            asking.send(None)
        except StopIteration:
            self.fail("it did not wait")
        self.clock.advance(RESTART_GAP)
        self.assertIsNotNone(self.roster.trouble)
        self.streams.online = {"bob"}
        self.clock.advance(REFUSED_RETRY)
        self.assertEqual(self.roster.names, {"bob"})
        asking.close()
        self.roster.stop()
