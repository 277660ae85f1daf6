"""Tests for `p2pshare.ui.meeting`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import cast
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    KeyChanged,
    KeyGone,
    NoSuchPeer,
    P2pshareError,
    PeerNotReachable,
    PeerOffline,
    PeerUnreachable,
)
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.known_peers import KnownPeers
from p2pshare.ui import watching
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.meeting import Meetings, Met
from p2pshare.ui.output import Output
from p2pshare.ui.terminal import Terminal
from p2pshare.ui.wanted import Wanted
from p2pshare.wire.classic import Kind
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.peers import PeerView, Presence
from p2pshare.wire.registration import PeerAddress
from p2pshare.wire.statements import Rotation
from tests.ui.registries import URL, MemoryInvocation, MemoryRegistry, view_of

OLD, NEW, EVIL = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))


def rotation(aud: str = URL, signer: SigningKey = OLD) -> str:
    return Rotation("alice", OLD.public, NEW.public, 1, aud).sign(signer)


class MeetTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stderr = io.StringIO()
        output = Output(Terminal.detect(io.StringIO(), {}), Terminal.detect(self.stderr, {}))
        self.cwd = Path(self.mktemp()).absolute()
        self.registry = MemoryRegistry()
        self.fake = MemoryInvocation(self.registry, output, self.cwd)
        self.known = KnownPeers(self.cwd / "data", URL)

    def meeting(self, view: PeerView | None, own_name: str | None = "bob") -> Deferred[Met]:
        self.registry.views = {} if view is None else {"alice": view}
        meetings = Meetings(
            cast(Invocation, self.fake), cast(RegistryClient, self.registry), own_name
        )
        return Deferred.fromCoroutine(meetings.meet("alice"))

    def meet(self, view: PeerView | None) -> Met:
        return self.successResultOf(self.meeting(view))

    def refused(self, view: PeerView | None, kind: type[P2pshareError]) -> P2pshareError:
        error = self.failureResultOf(self.meeting(view), kind).value
        assert isinstance(error, P2pshareError)
        return error

    def test_first_contact(self) -> None:
        """The first key is the one, from then on."""
        met = self.meet(view_of("alice", OLD.public, addresses=("[::1]:1", "192.0.2.7:50000")))
        self.assertEqual((met.address, met.seen), (PeerAddress("192.0.2.7", 50000), None))
        self.assertEqual(self.known.key("alice"), OLD.public)
        self.meet(view_of("alice", OLD.public))

    def test_changed(self) -> None:
        """Another key is refused, and both are named, in groups (threat 15)."""
        self.meet(view_of("alice", OLD.public))
        for rotations in ((), (rotation(signer=EVIL),)):
            error = self.refused(view_of("alice", NEW.public, rotations=rotations), KeyChanged)
            self.assertEqual(error.exit_code, 3)
            self.assertIn(OLD.public.grouped, str(error))
            self.assertIn(NEW.public.grouped, str(error))
            self.assertIn("p2pshare peers forget alice", str(error))
        self.assertEqual(self.known.key("alice"), OLD.public)

    def test_follows(self) -> None:
        """A key that the old one has signed is followed, said, and known from then on."""
        self.meet(view_of("alice", OLD.public))
        self.meet(view_of("alice", NEW.public, rotations=(rotation(),)))
        self.assertIn("alice has a new key", self.stderr.getvalue())
        self.assertEqual(self.known.key("alice"), NEW.public)
        self.refused(view_of("alice", OLD.public, rotations=(rotation(),)), KeyChanged)

    def test_elsewhere(self) -> None:
        """A rotation for another registry is not followed, if this one says what it is called."""
        self.meet(view_of("alice", OLD.public))
        info = self.registry.infos
        assert info is not None
        self.registry.infos = mock.Mock(wraps=info, time=info.time, urls=(URL,))
        rotated = view_of("alice", NEW.public, rotations=(rotation("http://elsewhere:8000"),))
        self.refused(rotated, KeyChanged)

    def test_gone(self) -> None:
        """A name that had a key is not believed without one, nor from a registry that knows of none (threat 36)."""
        self.meet(view_of("alice", OLD.public))
        error = self.refused(view_of("alice", None), KeyGone)
        self.assertIn(OLD.public.grouped, str(error))
        self.registry.infos = None
        self.refused(view_of("alice", None), KeyGone)

    def test_classic(self) -> None:
        """Of a classic peer there is nothing to remember, wherever it is registered."""
        self.meet(view_of("alice", None))
        self.registry.infos = None
        self.meet(view_of("alice", None))
        self.assertIsNone(self.known.key("alice"))

    def test_race(self) -> None:
        """Of two verbs that meet different keys for the first time, one is refused."""
        with mock.patch.object(KnownPeers, "key", return_value=None):
            self.meet(view_of("alice", OLD.public))
            self.refused(view_of("alice", NEW.public), KeyChanged)

    def test_nobody_to_remember(self) -> None:
        """Who has no name and no data folder keeps nothing."""
        self.fake.settings = type(self.fake.settings)(registry=URL)
        for key in (OLD, NEW):
            self.successResultOf(self.meeting(view_of("alice", key.public), None))
        self.assertFalse(self.cwd.exists())

    def test_nowhere(self) -> None:
        """Nobody, and somebody without an IPv4 address, are told apart."""
        self.refused(None, NoSuchPeer)
        self.refused(view_of("alice", OLD.public, addresses=("[::1]:1",)), PeerNotReachable)

    def test_offline(self) -> None:
        """Who is offline is tried all the same; if that fails, the error says when they were seen."""
        met = self.meet(view_of("alice", OLD.public, Presence.OFFLINE, 300))
        wanted = Wanted("alice", Kind.TEXT, self.cwd, "alice.txt")
        silent = PeerUnreachable(name="alice", address=met.address)
        with mock.patch.object(watching, "fetch_watched", side_effect=silent):
            error = self.failureResultOf(
                Deferred.fromCoroutine(met.fetch(wanted)), PeerOffline
            ).value
        self.assertIn("last seen 5 min ago", str(error))
        self.assertEqual(error.exit_code, 5)
        self.assertIn("last seen 5 min ago: trying it", self.stderr.getvalue())
