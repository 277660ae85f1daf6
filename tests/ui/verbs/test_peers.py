"""Tests of `p2pshare.ui.verbs.peers`."""

from __future__ import annotations

import io
import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import NotFound, WrongUsage
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.settings import Settings
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import peers
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
        self.assertEqual(peers.peers(self.settings, self.output()), 0)
        self.assertEqual(self.stdout.getvalue(), f"alice\t{ALICE}\ndave\t{DAVE}\n")
        peers.peers(self.settings, self.output(quiet=True))
        self.assertTrue(self.stdout.getvalue().endswith("\nalice\ndave\n"))

    def test_json(self) -> None:
        """Programs get an event for each peer."""
        self.known.pin("alice", ALICE, None)
        peers.peers(self.settings, self.output(json=True))
        self.assertEqual(
            json.loads(self.stdout.getvalue()),
            {"event": "peer", "name": "alice", "key": str(ALICE)},
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
                peers.peers(self.settings, Output(terminal, terminal))
                self.assertEqual(real.show(), lines)
                self.assertFalse(real.screen.wrapped)

    def test_nobody(self) -> None:
        """Without known peers a remark says how to find some."""
        self.assertEqual(peers.peers(self.settings, self.output()), 0)
        self.assertEqual(self.stderr.getvalue(), f"{peers.NOBODY.format(registry=URL)}\n")
        self.assertEqual(self.stdout.getvalue(), "")

    def test_no_name(self) -> None:
        """The verb needs the name of the user."""
        self.assertRaises(WrongUsage, peers.peers, Settings(registry=URL), self.output())

    def test_forget(self) -> None:
        """A known key is forgotten; an unknown one is an error."""
        self.known.pin("alice", ALICE, None)
        self.assertEqual(peers.forget(self.settings, self.output(), "alice"), 0)
        self.assertIn(ALICE.grouped, self.stdout.getvalue())
        self.assertEqual(self.known.all(), {})
        self.assertRaises(NotFound, peers.forget, self.settings, self.output(), "alice")
        self.assertRaises(WrongUsage, peers.forget, self.settings, self.output(), "No name")
