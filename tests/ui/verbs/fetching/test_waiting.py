"""Tests of `p2pshare.ui.verbs.fetching.waiting`, through `get --wait`."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from p2pshare.errors import (
    DiskFull,
    LinkGivenUp,
    NobodyHere,
    NoSuchPeer,
    PeerUnreachable,
    RegistryUnreachable,
    RemoteNotFound,
)
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import get as verbs
from p2pshare.ui.verbs.fetching.waiting import RETRY_FIRST, RETRY_MAX
from p2pshare.wire.registry_answers import Presence
from tests.ui.registries import URL, view_of
from tests.ui.verbs.test_get import ALICE, CAROL, FakeJob, GetCase

AWAY = PeerUnreachable(name="alice", address="x")
WAIT = 3600.0  # seconds


class WaitTests(GetCase):
    def setUp(self) -> None:
        super().setUp()
        met = verbs.get(self.invocation, ["alice:a", "carol:a"], overwrite=False)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(met)), 0)
        self.show("alice", Presence.OFFLINE)
        FakeJob.ran, FakeJob.errors = [], {"alice": AWAY}

    def show(self, name: str, presence: Presence) -> None:
        """Let a peer come or go."""
        view = view_of(name, ALICE if name == "alice" else CAROL, presence, 300)
        self.registry.views[name] = view
        self.registry.on_event(view.summary)

    def start(self, *words: str, wait: float = WAIT) -> Deferred[int]:
        getting = Deferred.fromCoroutine(
            verbs.get(self.invocation, words, overwrite=False, wait=wait)
        )
        self.fake.reactor.advance(0)
        self.show("alice", self.registry.views["alice"].summary.presence)  # as a stream begins
        return getting

    @property
    def asked(self) -> list[str]:
        return [peer for peer, _ in FakeJob.ran]

    def test_comes(self) -> None:
        """A peer that is offline is waited for, whatever time passes, and tried as soon as it comes."""
        getting = self.start("alice:a")
        self.fake.reactor.pump([RETRY_MAX] * 30)
        self.assertEqual(self.asked, ["alice"])
        self.assertIn("Waiting for alice until 2027-01-15 09:00 UTC", self.stderr.getvalue())
        FakeJob.errors = {}
        self.show("alice", Presence.ONLINE)
        self.fake.reactor.advance(0)
        self.assertEqual((self.successResultOf(getting), self.asked), (0, ["alice", "alice"]))
        self.assertEqual(self.fake.reactor.getDelayedCalls(), [])

    def test_lost(self) -> None:
        """A peer that is lost in the middle is waited for again, and what failed in its job does not count."""
        self.show("alice", Presence.ONLINE)
        lost = LinkGivenUp(name="alice", reason="x", patience=120)
        FakeJob.errors = {"alice": lost}
        FakeJob.failures = {"alice": [RemoteNotFound(name="alice", path="b")]}
        getting = self.start("alice:a", "alice:b")
        self.show("alice", Presence.OFFLINE)
        FakeJob.errors, FakeJob.failures = {}, {}
        self.show("alice", Presence.ONLINE)
        self.fake.reactor.advance(0)
        self.assertEqual(self.successResultOf(getting), 0)

    def test_online_and_unreachable(self) -> None:
        """A peer that is shown online is tried with growing pauses, and people read why once."""
        self.show("alice", Presence.ONLINE)
        getting = self.start("alice:a")
        for pause in (RETRY_FIRST, 2 * RETRY_FIRST, 4 * RETRY_FIRST):
            self.fake.reactor.advance(pause - 1)
            before = len(self.asked)
            self.fake.reactor.advance(1)
            self.assertEqual(len(self.asked), before + 1)
        self.assertEqual(self.stderr.getvalue().count("Waiting for"), 1)
        getting.cancel()
        self.failureResultOf(getting, CancelledError)
        self.assertEqual(self.fake.reactor.getDelayedCalls(), [])

    def test_others_first(self) -> None:
        """Other peers of the command are not held up, and those that come later are asked in turn."""
        self.show("carol", Presence.OFFLINE)
        self.registry.views["dave"] = view_of("dave", ALICE)
        FakeJob.errors["carol"] = AWAY
        getting = self.start("alice:a", "carol:c", "dave:d")
        self.assertEqual(self.asked, ["alice", "carol", "dave"])
        self.show("carol", Presence.OFFLINE)
        FakeJob.errors = {}
        self.show("carol", Presence.ONLINE)
        self.show("alice", Presence.ONLINE)
        self.fake.reactor.advance(0)
        self.assertEqual(self.asked[3:], ["carol", "alice"])
        self.assertEqual(self.successResultOf(getting), 0)

    def test_deadline(self) -> None:
        """When the time is over, the last error counts."""
        getting = self.start("alice:a", "carol:c", wait=90)
        self.fake.reactor.advance(90)
        self.assertEqual(self.successResultOf(getting), 1)
        getting = self.start("alice:a", wait=90)
        self.fake.reactor.advance(90)
        self.assertEqual(self.successResultOf(getting), 5)
        self.assertEqual(self.fake.reactor.getDelayedCalls(), [])

    def test_not_waited_for(self) -> None:
        """A name that nobody has is not waited for, unless the registry knew it, and nothing is after a hard stop."""
        self.assertEqual(self.successResultOf(self.start("dave:a")), NoSuchPeer.exit_code)
        FakeJob.errors = {"alice": DiskFull(path="x", needed="1 GiB", free="1 MiB")}
        self.assertEqual(self.successResultOf(self.start("alice:a")), 1)
        FakeJob.errors = {"alice": AWAY}
        getting = self.start("alice:a")
        self.registry.error = lambda name: NoSuchPeer(name=name)
        self.registry.on_event(
            replace(self.registry.views["alice"].summary, presence=Presence.ONLINE)
        )
        self.fake.reactor.advance(0)
        self.assertNoResult(getting)
        getting.cancel()
        self.failureResultOf(getting, CancelledError)

    def test_nobody_to_tell(self) -> None:
        """A peer is tried again if nothing tells about it: on the local network, or without a registry."""
        (self.cwd / "data" / "seen.json").unlink(missing_ok=True)
        for error in (NobodyHere(name="alice"), RegistryUnreachable(registry=URL, reason="x")):
            FakeJob.ran, FakeJob.errors = [], {}
            self.show("alice", Presence.ONLINE)
            self.registry.error = lambda _, error=error: error
            getting = Deferred.fromCoroutine(
                verbs.get(self.invocation, ["alice:a"], overwrite=False, wait=WAIT)
            )
            self.fake.reactor.advance(0)
            self.registry.error = None
            self.fake.reactor.advance(RETRY_FIRST)
            self.assertEqual((self.successResultOf(getting), self.asked), (0, ["alice"]))

    def test_event(self) -> None:
        """Programs get an event with the reason, and the Unix time until which the peer is waited for."""
        stdout = io.StringIO()
        self.fake.output = Output(
            Terminal.detect(stdout, {}), Terminal.detect(io.StringIO(), {}), json=True
        )
        getting = self.start("alice:a")
        events: list[dict[str, Any]] = [json.loads(line) for line in stdout.getvalue().splitlines()]
        (waiting,) = [each for each in events if each["event"] == "waiting"]
        self.assertEqual((waiting["from"], waiting["until"]), ("alice", 1_800_003_600))
        self.assertIn("offline", waiting["why"])
        getting.cancel()
        self.failureResultOf(getting, CancelledError)
