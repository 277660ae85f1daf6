"""Tests of `p2pshare.ui.verbs.peers`."""

from __future__ import annotations

import io
import json
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import IllegalName, KeyChanged, NamesProven, NotFound, WrongUsage
from p2pshare.peer.lan.admission import AcceptedPeers
from p2pshare.storage.identity.data_folder import LAN_PLACE
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import peers
from p2pshare.wire.addresses import LAN
from p2pshare.wire.keys import SigningKey
from tests.ui.registries import URL
from tests.ui.screens import real_terminal

ALICE, DAVE = (SigningKey(bytes([n]) * 32).public for n in (1, 2))


class PeersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.settings = Settings(registry=URL, name="bob", data=Path(self.mktemp()).absolute())
        assert self.settings.data is not None
        self.known = KnownPeers(self.settings.data, URL)

    def output(self, *, json: bool = False, quiet: bool = False) -> Output:
        terminals = (Terminal.detect(stream, {}) for stream in (self.stdout, self.stderr))
        return Output(*terminals, json=json, quiet=quiet)

    def peers(self, output: Output) -> int:
        return self.run_verb(peers.peers(self.invocation(output)))

    def run_verb(self, work: Coroutine[Any, Any, int]) -> int:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def invocation(self, output: Output, settings: Settings | None = None) -> Invocation:
        reactor: Any = Clock()
        settings = settings or self.settings
        return Invocation(reactor, Random(1), settings, output, Path(), lambda: 0.0)

    def test_pin(self) -> None:
        """A key that the user was told is remembered, in any groups, and takes the place of no other one."""
        groups = ALICE.grouped.upper().split()
        self.assertEqual(peers.pin(self.settings, self.output(), "Alice", groups), 0)
        self.assertEqual(self.known.all(), {"alice": ALICE})
        self.assertIn(ALICE.grouped, self.stdout.getvalue())
        for name, key, error in (
            ("alice", str(DAVE), KeyChanged),
            ("dave", str(DAVE)[:-1], WrongUsage),
            ("dave", "", WrongUsage),
        ):
            self.assertRaises(error, peers.pin, self.settings, self.output(), name, [key])
        self.assertEqual(self.known.all(), {"alice": ALICE})

    def test_forget_misspelt(self) -> None:
        """An unknown name is compared with the known ones, ignoring case."""
        self.known.pin("alice", ALICE, None)
        error = self.assertRaises(NotFound, peers.forget, self.settings, self.output(), "alcie")
        self.assertIn("Did you mean 'alice'?", str(error))
        self.assertEqual(peers.forget(self.settings, self.output(), "Alice"), 0)

    def test_pipe(self) -> None:
        """A pipe gets a line for each peer with its whole key; with `--quiet` only the names."""
        self.known.pin("dave", DAVE, None)
        self.known.pin("alice", ALICE, None)
        self.assertEqual(self.peers(self.output()), 0)
        self.assertEqual(self.stdout.getvalue(), f"alice\t{ALICE}\ndave\t{DAVE}\n")
        self.peers(self.output(quiet=True))
        self.assertTrue(self.stdout.getvalue().endswith("\nalice\ndave\n"))

    def test_json(self) -> None:
        """Programs get an event for each peer."""
        self.known.pin("alice", ALICE, None)
        self.peers(self.output(json=True))
        self.assertEqual(
            json.loads(self.stdout.getvalue()),
            {"event": "peer", "name": "alice", "key": str(ALICE), "compared": False},
        )

    def test_terminal(self) -> None:
        """People get grouped keys beside or below the names, so that no line is too long."""
        self.known.pin("alice", ALICE, None)
        for columns, lines in (
            (80, [f"alice  {ALICE.grouped}"]),
            (70, ["alice", f"  {ALICE.grouped}"]),
        ):
            with self.subTest(columns=columns), real_terminal(columns) as real:
                terminal = Terminal.detect(real.stream, {})
                self.peers(Output(terminal, terminal))
                self.assertEqual(real.show(), lines)
                self.assertFalse(real.screen.wrapped)

    def test_compared(self) -> None:
        """A key that was compared is marked everywhere."""
        self.known.pin("alice", ALICE, None)
        self.known.compared("dave", DAVE)
        self.peers(self.output())
        self.assertEqual(self.stdout.getvalue(), f"alice\t{ALICE}\ndave\t{DAVE}\tcompared\n")
        for columns, last in (
            (80, "dave  compared"),
            (100, f"dave   {DAVE.grouped}  compared"),
        ):
            with real_terminal(columns) as real:
                terminal = Terminal.detect(real.stream, {})
                self.peers(Output(terminal, terminal))
                self.assertEqual([each for each in real.show() if "dave" in each][-1], last)

    def test_nobody(self) -> None:
        """Without known peers a remark says how to find some."""
        self.assertEqual(self.peers(self.output()), 0)
        self.assertEqual(self.stderr.getvalue(), f"{peers.NOBODY.format(registry=URL)}\n")
        self.assertEqual(self.stdout.getvalue(), "")

    def test_no_name(self) -> None:
        """The verb needs the name of the user."""
        invocation = self.invocation(self.output(), Settings(registry=URL))
        self.failureResultOf(Deferred.fromCoroutine(peers.peers(invocation)), WrongUsage)

    def test_forget(self) -> None:
        """A known key is forgotten; an unknown one is an error."""
        self.known.pin("alice", ALICE, None)
        self.assertEqual(peers.forget(self.settings, self.output(), "alice"), 0)
        self.assertIn(ALICE.grouped, self.stdout.getvalue())
        self.assertEqual(self.known.all(), {})
        self.assertRaises(NotFound, peers.forget, self.settings, self.output(), "alice")
        self.assertRaises(WrongUsage, peers.forget, self.settings, self.output(), "No name")


class AcceptTests(PeersTests):
    """`peers` and `peers accept` without a registry, while no peer runs."""

    def setUp(self) -> None:
        super().setUp()
        self.settings = replace(self.settings, registry=LAN)
        assert self.settings.data is not None
        self.settings.data.mkdir()
        self.known = KnownPeers(self.settings.data, LAN_PLACE)
        self.lists = AcceptedPeers(self.settings.data)

    def accept(self, name: str, *key: str) -> Deferred[int]:
        invocation = self.invocation(self.output())
        return Deferred.fromCoroutine(peers.accept(invocation, name, key))

    def test_nobody(self) -> None:
        """Without known peers a remark says how to find some."""
        self.assertEqual(self.peers(self.output()), 0)
        self.assertEqual(self.stderr.getvalue(), f"{peers.NOBODY_HERE}\n")

    def test_accept(self) -> None:
        """A key that is known, or given in full, in any groups, is accepted; its owner then has a name."""
        self.known.pin("alice", ALICE, None)
        self.assertEqual(self.successResultOf(self.accept("Alice")), 0)
        self.assertEqual(
            self.successResultOf(self.accept("dave", *DAVE.grouped.upper().split())), 0
        )
        for name, key in (("alice", ALICE), ("dave", DAVE)):
            self.assertEqual(self.lists.name_of(key, ()), name)
            self.assertIn(key.grouped, self.stdout.getvalue())

    def test_not_accepted(self) -> None:
        """An unknown name, a short part of a key and a key in place of a known one are errors; nobody is accepted."""
        self.known.pin("alice", ALICE, None)
        for name, key, error in (
            ("dave", "", NotFound),
            ("alice", "abc", NotFound),
            ("alice", str(DAVE)[:10], NotFound),
            ("alice", str(DAVE), KeyChanged),
            ("No name", "", IllegalName),
        ):
            self.failureResultOf(self.accept(name, key), error)
        self.assertEqual(self.lists.accepted.all(), {})

    def test_forget_accepted(self) -> None:
        """A peer that is forgotten is not accepted any more."""
        self.lists.accept("alice", ALICE)
        peers.forget(self.settings, self.output(), "alice")
        self.assertIsNone(self.lists.name_of(ALICE, {"alice"}))

    def test_with_registry(self) -> None:
        """With a registry there is nobody to accept."""
        invocation = self.invocation(self.output(), replace(self.settings, registry=URL))
        accepting = Deferred.fromCoroutine(peers.accept(invocation, "alice", ()))
        self.failureResultOf(accepting, NamesProven)
