"""Bounds of `p2pshare.peer.people`: ten thousand people, floods of changes, and keys that have changed."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred

from p2pshare.peer.events import EventHub
from p2pshare.peer.find.presence import PresenceWatch
from p2pshare.peer.people.looks import NAME_SHOWN, Looks
from p2pshare.peer.people.service import CHANGES_MAX, COLLECT, ROWS_MAX, People
from p2pshare.peer.people.trust import Trust
from p2pshare.peer.running import RunningPeer
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import Presence
from p2pshare.wire.transfer_messages import Entry, EntryKind, Listing
from tests.peer.browse.test_completion import ThreadClock
from tests.peer.find.test_presence import PresenceCase, peer

KEY = SigningKey(b"k" * 32)
PATIENCE = 0.05  # seconds for which the event loop may be held


class BoundTests(PresenceCase):
    def setUp(self) -> None:
        super().setUp()
        self.events = EventHub()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.clock = ThreadClock()
        self.presence = PresenceWatch(self.clock, self.presence._rng, cast(Any, self.streams))
        folder = Path(self.mktemp())
        folder.mkdir()
        parts = SimpleNamespace(
            reactor=self.clock,
            place=SimpleNamespace(name="alice", slot="registry", is_lan=False),
            key=lambda: KEY,
            standing=lambda: {"online": True, "since": 1},
            trouble=lambda: None,
            directory=self.streams,
            events=self.events,
            folder=folder,
            wall=lambda: 1000.0,
            sessions=SimpleNamespace(admission=SimpleNamespace(waiting=list), open_sessions=()),
            network=SimpleNamespace(networks=()),
            dialler=SimpleNamespace(),
            browsing=SimpleNamespace(listings=SimpleNamespace()),
            offers=SimpleNamespace(presence=self.presence),
        )
        self.people = People(cast(RunningPeer, parts))

    def tearDown(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.people.stop()))
        super().tearDown()

    def ask(self, **fields: object) -> dict[str, Any]:
        people = cast(Any, self.people.actions["people"])
        asking: Deferred[dict[str, Any]] = Deferred.fromCoroutine(people(fields))
        self.clock.advance(0)
        found: dict[str, Any] = self.successResultOf(asking)
        return found

    def test_ten_thousand(self) -> None:
        """All names come in pages, none of which holds the event loop; a question for few is as fast."""
        self.streams.online = {f"n{number:05}" for number in range(10_000)}
        rows: list[dict[str, Any]] = self.ask()["people"]
        while True:
            began = time.process_time()
            page = self.ask(after=rows[-1]["name"])
            json.dumps(page)
            self.assertLess(time.process_time() - began, PATIENCE)
            self.assertLessEqual(len(page["people"]), ROWS_MAX)
            rows += page["people"]
            if not page["more"]:
                break
        self.assertEqual(len({row["name"] for row in rows}), 10_001)  # and the user
        self.streams.clock_ahead_s = 99.6  # the rows have the time of this machine
        self.assertEqual(self.ask(search="n09999")["people"][0]["since"], 101)
        self.streams.say(replace(peer("n09999"), since=2**53 - 1))
        self.assertEqual(self.ask(search="n09999")["people"][0]["since"], 1000)
        began = time.process_time()
        self.assertEqual([row["name"] for row in self.ask(search="n09999")["people"]], ["n09999"])
        self.assertLess(time.process_time() - began, PATIENCE)

    def test_flood(self) -> None:
        """Changes of a moment are told one by one up to a bound; more of them are one event."""
        self.events.subscribe(lambda kind, fields: self.told.append((kind, fields)))
        self.streams.online = {f"n{number:03}" for number in range(CHANGES_MAX + 1)}
        self.ask()
        self.clock.advance(COLLECT)
        self.told.clear()
        for number in range(CHANGES_MAX):
            self.streams.say(peer(f"n{number:03}", Presence.OFFLINE))
        self.clock.advance(COLLECT)
        self.assertEqual([kind for kind, _ in self.told], ["person"] * CHANGES_MAX)
        self.told.clear()
        for number in range(CHANGES_MAX + 1):
            self.streams.say(peer(f"n{number:03}", Presence.GONE))
        self.clock.advance(COLLECT)
        self.assertEqual([kind for kind, _ in self.told], ["people"])

    def test_looks(self) -> None:
        """What somebody shares is remembered of a bounded number of people, and costs a row of the list little."""
        told: list[str] = []
        seen = Seen(Path(self.mktemp()))
        looks = Looks(cast(Any, self.clock), seen, lambda: 1000.0, told.append, looks_max=2)
        entries = tuple(Entry((letter * 255,), EntryKind.FOLDER, 0, 0) for letter in "wxyz")
        for name in ("a", "b", "c"):
            page = Listing(1, entries, False)
            self.successResultOf(Deferred.fromCoroutine(looks.saw(name, page)))
        self.assertEqual((looks.of("a"), told), (None, ["a", "b", "c"]))
        names = [letter * NAME_SHOWN + "\u2026" for letter in "wxy"]
        self.assertEqual(looks.of("c"), {"names": names, "more": True, "at": 1000})

    def test_changed_keys(self) -> None:
        """Names whose key has changed are remembered up to a bound."""
        known = KnownPeers(Path(self.mktemp()), "registry")
        trust = Trust(cast(Any, self.clock), known, False, list, lambda _: None, changed_max=2)
        for name in ("a", "b", "c"):
            known.pin(name, KEY.public, None)
        self.successResultOf(Deferred.fromCoroutine(trust.refresh()))
        for name in ("a", "b", "c"):
            trust.show_changed(name, SigningKey(b"x" * 32).public)
        self.assertEqual([trust.state(name) for name in "abc"], ["known", "changed", "changed"])
