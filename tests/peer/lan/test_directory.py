"""Tests of `p2pshare.peer.lan.directory`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import LanUnusable, NameAmbiguous, NobodyHere, NoRegistry
from p2pshare.peer.find.directory import Directory
from p2pshare.peer.find.lookup import caps_of
from p2pshare.peer.lan.directory import (
    FIRST_CONTACT,
    GATHER,
    LAN_KEY,
    LATE,
    LOOK_UP,
    TELL_EVERY,
    LanDirectory,
)
from p2pshare.peer.lan.services import LIFETIME, REPEAT
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.data_folder import LAN_PLACE, PeerPlace
from p2pshare.storage.identity.identity import KEY_NAME
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.wire.addresses import LAN, PeerAddress
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.reach.candidates import Candidate, CandidateKind
from p2pshare.wire.registry_answers import ClaimBody, PeerSummary, PeerView, Presence
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.statements import Location, Record, digest_of
from tests.peer.browse.test_completion import ThreadClock
from tests.peer.lan.network import Network, announced, key_of

NOW = 1_800_000_000


class LanCase(SynchronousTestCase):
    """A machine on a network in memory, whose user is alice."""

    def setUp(self) -> None:
        self.clock = ThreadClock()
        self.network = Network()
        self.folder = Path(self.mktemp())
        self.notices: list[str] = []
        self.machine = self.network.machine()
        place = PeerPlace(LAN, "alice", self.folder)
        reactor: Any = self.clock
        self.directory = LanDirectory(
            reactor,
            self.machine,
            place,
            lambda: NOW + self.clock.seconds(),
            on_notice=self.notices.append,
        )
        self.addCleanup(self.close)

    def close(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.directory.close()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def pin(self, name: str, key: PublicKey) -> None:
        self.folder.mkdir(exist_ok=True)
        KnownPeers(self.folder, LAN_PLACE).pin(name, key, None)

    def asked(self, name: str = "bob") -> Deferred[PeerView]:
        return Deferred.fromCoroutine(self.directory.look_up_peer(name))

    def listed(self, prefix: str = "") -> list[PeerSummary]:
        async def collect() -> list[PeerSummary]:
            return [each async for each in self.directory.peers(prefix)]

        listing = Deferred.fromCoroutine(collect())
        self.clock.advance(GATHER)
        return self.successResultOf(listing)

    def claim(self, key: SigningKey, *addresses: str) -> None:
        hosts = [Candidate(CandidateKind.HOST, PeerAddress.parse(each)) for each in addresses]
        location = Location("s" * 16, tuple(hosts)).to_text() if addresses else None
        digest = digest_of(location) if location else ""
        caps = (CAP_SESSIONS, "classic")
        record = Record("alice", key.public, 1, NOW, NOW + 9, LAN_KEY, digest, caps)
        body = ClaimBody(record.sign(key), location)
        self.successResultOf(Deferred.fromCoroutine(self.directory.claim("alice", body)))


class LookUpTests(LanCase):
    def test_first_contact(self) -> None:
        """A peer that nobody knows is found once all others have had the time to answer, with its key and addresses."""
        asked = self.asked()
        self.network.say(announced("bob", 7))
        self.assertNoResult(asked)
        self.clock.advance(FIRST_CONTACT)
        view = self.successResultOf(asked)
        self.assertEqual((view.key, view.addresses), (key_of(7), ("192.0.2.7:50000",)))
        self.assertEqual(caps_of(view), {CAP_SESSIONS})
        assert view.location is not None and view.record is not None
        self.assertEqual(Record.parse(view.record).statement.location, digest_of(view.location))
        self.assertFalse(Record.parse(view.record).is_signed_by(key_of(7)))
        self.assertEqual(self.successResultOf(self.asked()).key, key_of(7))

    def test_known(self) -> None:
        """A peer whose key is known is found as soon as it is heard."""
        self.pin("bob", key_of(7))
        asked = self.asked()
        self.assertNoResult(asked)
        self.network.say(announced("carol", 3))
        self.network.say(announced("bob", 7))
        self.assertEqual(self.successResultOf(asked).key, key_of(7))

    def test_nobody(self) -> None:
        """A look-up ends when everybody has had the time to answer; later ones wait a short time only."""
        asked = self.asked()
        self.clock.advance(LOOK_UP)
        self.assertIn("Nobody on this network", str(self.failureResultOf(asked, NobodyHere)))
        asked = self.asked()
        self.clock.advance(LATE / 2)
        self.network.say(announced("bob", 7))
        self.assertEqual(self.successResultOf(asked).key, key_of(7))

    def test_impersonation(self) -> None:
        """Threat 62: with a known key, another one is neither found in its place nor able to hide it."""
        self.pin("bob", key_of(7))
        asked = self.asked()
        self.network.say(announced("bob", 66))
        self.clock.advance(FIRST_CONTACT)
        self.assertNoResult(asked)
        self.network.say(announced("bob", 7))
        self.assertEqual(self.successResultOf(asked).key, key_of(7))
        names = [each.label for each in self.listed()]
        self.assertEqual(names[0] if "other" not in names[0] else names[1], "bob")
        self.network.leave(announced("bob", 7).instance)
        asked = self.asked()  # the view goes to the pin check, which refuses it
        self.clock.advance(LOOK_UP)
        self.assertEqual(self.successResultOf(asked).key, key_of(66))

    def test_conflict(self) -> None:
        """Threat 62: a first contact is refused if two keys announce the name, whoever was faster; both are marked."""
        asked = self.asked()
        self.network.say(announced("bob", 66))
        self.clock.advance(FIRST_CONTACT / 2)
        self.network.say(announced("bob", 7))
        self.clock.advance(FIRST_CONTACT / 2)
        error = self.failureResultOf(asked, NameAmbiguous).value
        for number in (7, 66):
            self.assertIn(key_of(number).grouped, str(error))
        marks = {each.label for each in self.listed()}
        self.assertEqual(marks, {f"bob (another key: {key_of(n).grouped[:9]}...)" for n in (7, 66)})

    def test_name_changes_its_key(self) -> None:
        """Threat 62: a name whose key changes is shown as another one's from then on."""
        self.pin("bob", key_of(7))
        self.network.say(announced("bob", 7))
        self.assertEqual([each.label for each in self.listed()], [])  # it was not heard before
        self.network.say(announced("bob", 8))
        self.assertIn("another key", self.listed()[0].label)

    def test_no_network(self) -> None:
        """Without a network there is an error, and the next try succeeds once there is one."""
        self.machine.is_unplugged = True
        self.failureResultOf(self.asked(), LanUnusable)
        self.machine.is_unplugged = False
        asked = self.asked()
        self.network.say(announced("bob", 7))
        self.clock.advance(FIRST_CONTACT)
        self.successResultOf(asked)

    def test_key(self) -> None:
        """A key is found by whoever announces it."""
        self.listed()
        self.network.say(announced("bob", 7))
        for number, name in ((7, "bob"), (8, None)):
            view = self.successResultOf(
                Deferred.fromCoroutine(self.directory.look_up_key(key_of(number)))
            )
            self.assertEqual(view and view.summary.name, name)


class ListTests(LanCase):
    def test_peers(self) -> None:
        """The list has the peers that are there, by name."""
        listing = self.listed()
        self.assertEqual(listing, [])
        self.network.say(announced("carol", 3), announced("bob", 7))
        self.assertEqual([each.label for each in self.listed()], ["bob", "carol"])
        self.assertEqual([each.name for each in self.listed("c")], ["carol"])
        self.assertEqual(
            self.successResultOf(Deferred.fromCoroutine(self.directory.list_names())),
            ["bob", "carol"],
        )

    def test_since(self) -> None:
        """Since when a peer is here is what it says, but never a time to come; it may say nothing."""
        self.listed()
        for number, since in enumerate((NOW - 60, NOW + 9_000, None)):
            self.network.say(replace(announced(f"n{number}", 7 + number), since=since))
        now = int(NOW + self.clock.seconds())
        self.assertEqual([each.since for each in self.listed()], [NOW - 60, now, None])

    def test_watch(self) -> None:
        """A watcher hears who comes, leaves and falls silent."""
        events: list[tuple[str, Presence]] = []
        links: list[bool] = []
        watching = Deferred.fromCoroutine(
            self.directory.watch(
                ("bob",),
                lambda peer: events.append((peer.name, peer.presence)),
                on_link=lambda is_up, _: links.append(is_up),
            )
        )
        self.network.say(announced("bob", 7), announced("carol", 3))
        self.network.leave(announced("bob", 7).instance)
        self.network.say(announced("bob", 7))
        for _ in range(int(LIFETIME // REPEAT) + 1):
            self.clock.advance(REPEAT)
        self.assertEqual([each for _, each in events], 2 * [Presence.ONLINE, Presence.GONE])
        self.assertEqual((links, {name for name, _ in events}), ([True], {"bob"}))
        watching.cancel()
        self.failureResultOf(watching, CancelledError)
        self.network.say(announced("bob", 7))
        self.assertEqual(len(events), 4)


class OwnTests(LanCase):
    def test_announced(self) -> None:
        """A peer that claims its name is announced until it leaves, and the announcement is repeated."""
        key = SigningKey(b"a" * 32)
        self.claim(key)
        self.assertIsNone(self.machine.announced)
        self.claim(key, "192.0.2.100:5000")
        assert self.machine.announced is not None
        self.assertEqual(
            (self.machine.announced.name, self.machine.announced.caps), ("alice", (CAP_SESSIONS,))
        )
        self.assertEqual(self.machine.announced.since, NOW)
        self.clock.advance(60)
        self.claim(key, "192.0.2.101:5000")
        self.assertEqual(self.machine.announced.since, NOW)
        repeats = self.machine.repeats
        self.clock.advance(REPEAT)
        self.assertEqual(self.machine.repeats, repeats + 1)
        for online in (True, False):
            beat = Heartbeat("alice", "s", 1, online)
            self.assertTrue(
                self.successResultOf(Deferred.fromCoroutine(self.directory.beat(beat, b"")))
            )
        self.assertIsNone(self.machine.announced)

    def test_own_name_taken(self) -> None:
        """Threat 62: the user hears once that another key announces the own name, and the name stays the user's."""
        key = SigningKey(b"a" * 32)
        self.folder.mkdir()
        key_file.make(self.folder / KEY_NAME, key)
        self.claim(key, "192.0.2.100:5000")
        self.assertIsNone(self.directory.trouble)
        for _ in range(2):
            self.network.say(announced("alice", 66))
            self.network.say(announced("alice", 67))
        (notice,) = self.notices
        self.assertIn(key_of(66).grouped, notice)
        self.assertEqual(str(self.directory.trouble), notice)
        self.assertEqual([each.label for each in self.listed()].count("alice"), 1)
        self.network.leave(announced("alice", 66).instance, announced("alice", 67).instance)
        self.assertIsNone(self.directory.trouble)
        for _ in range(3):
            self.network.say(announced("alice", 66))
            self.network.leave(announced("alice", 66).instance)
        self.assertEqual(len(self.notices), 1)
        self.clock.advance(TELL_EVERY)
        self.network.say(announced("alice", 66))
        self.assertEqual(len(self.notices), 2)

    def test_interface(self) -> None:
        """It is a directory; names cannot be given up, since they belong to nobody."""
        directory: Directory = self.directory
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(directory.prove())), LAN_KEY)
        info = self.successResultOf(Deferred.fromCoroutine(directory.info()))
        self.assertEqual(info and (info.key, info.time), (LAN_KEY, NOW))
        releasing = Deferred.fromCoroutine(self.directory.release("alice", Any))  # type: ignore[arg-type]
        self.failureResultOf(releasing, NoRegistry)
