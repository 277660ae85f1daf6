"""Tests of `p2pshare.ui.verbs.connection`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    NoSuchPeer,
    RegistryUnreachable,
)
from p2pshare.peer.find.lookup import FoundPeer
from p2pshare.peer.find.target import given
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.connection import announce
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.statements import CAP_CLASSIC
from tests.ui.registries import URL, MemoryInvocation, MemoryRegistry

KEY = SigningKey(bytes([1]) * 32).public
PLACES = (PeerAddress("192.0.2.8", 50001), PeerAddress("192.0.2.7", 50000))


class ConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stderr = io.StringIO()
        output = Output(Terminal.detect(io.StringIO(), {}), Terminal.detect(self.stderr, {}))
        self.cwd = Path(self.mktemp()).absolute()
        fake = MemoryInvocation(MemoryRegistry(), output, self.cwd)
        self.invocation = cast(Invocation, fake)

    def found(self, **options: Any) -> FoundPeer:
        caps = frozenset({CAP_SESSIONS, CAP_CLASSIC})
        return FoundPeer("alice", given(PLACES), **{"key": KEY, "caps": caps, **options})

    def announced(self, **options: Any) -> str:
        announce(self.invocation, self.found(**options))
        return self.stderr.getvalue()

    def test_nothing(self) -> None:
        """A peer that is online under its known key needs no remark."""
        self.assertEqual(self.announced(), "")

    def test_new_key(self) -> None:
        """A key that replaces the known one is announced."""
        self.assertIn("new key", self.announced(has_new_key=True))

    def test_offline(self) -> None:
        """The remark about an offline peer says when it was seen."""
        self.assertIn("5 min ago", self.announced(seen="5 min ago"))

    def test_last_known(self) -> None:
        """If the registry cannot tell, the remark says why, and where the peer is tried."""
        away = RegistryUnreachable(registry=URL, reason="refused")
        for problem in (away, NoSuchPeer(name="alice")):
            told = self.announced(seen="5 min ago", problem=problem)
            for each in ("192.0.2.8:50001, 192.0.2.7:50000", "5 min ago"):
                self.assertIn(each, told)
        self.assertIn(URL, told)
