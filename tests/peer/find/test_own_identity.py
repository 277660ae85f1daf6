"""Tests of `p2pshare.peer.find.own_identity`."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    AlreadyRunning,
    ClassicOnly,
    InvitationNeeded,
    KeyChanged,
    NameTaken,
    NoSuchPeer,
    P2pshareError,
    Refused,
    RegistryUnreachable,
    WrongUsage,
)
from p2pshare.peer.find.own_identity import PAUSE, RENEW_AFTER, TRIES_MAX, OwnIdentity, OwnName
from p2pshare.peer.ownership import Owner
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity import key_file
from p2pshare.storage.identity.data_folder import DataFolder, PeerPlace
from p2pshare.storage.identity.identity import KEY_NAME, Identity
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.settings import Settings
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.connection import finder_of, introduce
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import PeerView
from tests.ui.registries import NOW, REGISTRY_KEY, URL, MemoryInvocation, MemoryRegistry, view_of

OTHER = SigningKey(bytes([7]) * 32).public


class CountingRegistry(MemoryRegistry):
    asked = 0

    async def look_up_peer(self, name: str) -> PeerView:
        self.asked += 1
        return await super().look_up_peer(name)


class IdentityTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stderr = io.StringIO()
        output = Output(Terminal.detect(io.StringIO(), {}), Terminal.detect(self.stderr, {}))
        self.registry = CountingRegistry()
        self.fake = MemoryInvocation(self.registry, output, Path(self.mktemp()).absolute())
        self.folder = self.fake.cwd / "data"
        self.claims: list[tuple[tuple[str, ...], str | None]] = []
        self.claim_error: P2pshareError | None = None
        self.patch(Owner, "claim_offline", lambda owner: self.claim(owner))

    async def claim(self, owner: Owner) -> None:
        self.claims.append((tuple(owner._caps), owner._invitation))
        if self.claim_error is not None:
            raise self.claim_error
        self.registry.views["bob"] = view_of("bob", owner.identity.key.public)

    def make_key(self) -> SigningKey:
        with closing(DataFolder.open(self.folder, "bob")) as data:
            return Identity.open(data, URL, "bob").key

    def find(self, *, needs_registry: bool = True) -> Deferred[OwnIdentity]:
        registry, settings = cast(RegistryClient, self.registry), self.fake.settings
        place = PeerPlace.of(settings, "bob")
        reactor: Any = self.fake.reactor
        own = OwnName(reactor, registry, place, self.fake.wall, settings.invitation)
        return Deferred.fromCoroutine(own.identity(needs_registry=needs_registry))


class IdentityTests(IdentityTestCase):
    def test_known(self) -> None:
        """If the registry has the name under our key, that is one request, and nothing is claimed."""
        key = self.make_key()
        self.registry.views = {"bob": view_of("bob", key.public)}
        found = self.successResultOf(self.find())
        self.assertEqual((found.name, found.key.public), ("bob", key.public))
        self.assertEqual((self.registry.asked, self.claims), (1, []))
        self.assertFalse(found.is_new)

    def test_registry_away(self) -> None:
        """While the registry is away, or where it is not needed, a key will do; without one there is the error."""
        away = RegistryUnreachable(registry=URL, reason="refused")
        self.registry.error = lambda _: away
        self.claim_error = away
        self.failureResultOf(self.find(), RegistryUnreachable)
        key = self.make_key()
        self.assertEqual(self.successResultOf(self.find()).key.public, key.public)
        self.registry.error = AssertionError
        found = self.successResultOf(self.find(needs_registry=False))
        self.assertEqual((found.name, found.key.public), ("bob", key.public))

    def test_first_use(self) -> None:
        """At first use the key is made, and the name claimed."""
        found = self.successResultOf(self.find())
        self.assertEqual(self.claims, [((), None)])
        self.assertTrue(found.is_new)
        kept = key_file.load(self.folder / KEY_NAME)
        assert kept is not None
        self.assertEqual(found.key.public, kept.public)
        self.assertEqual(self.successResultOf(self.find()).key.public, kept.public)
        self.assertEqual(len(self.claims), 1)

    def test_invitation(self) -> None:
        """The invitation is a setting."""
        self.fake.settings = Settings(registry=URL, name="bob", data=self.folder, invitation="a.b")
        self.successResultOf(self.find())
        self.assertEqual(self.claims, [((), "a.b")])

    def test_lost(self) -> None:
        """A name that is nobody's any more is claimed again, with the same key."""
        key = self.make_key()
        self.assertEqual(self.successResultOf(self.find()).key.public, key.public)
        self.assertEqual(len(self.claims), 1)

    def test_taken(self) -> None:
        """A name of another key is not ours, and so nobody is asked for anything in its name."""
        self.make_key()
        self.registry.views = {"bob": view_of("bob", OTHER)}
        self.claim_error = NameTaken(name="bob", registry=URL)
        error = self.failureResultOf(self.find(), NameTaken).value
        self.assertEqual(error.exit_code, 3)

    def test_invitation_needed(self) -> None:
        """What the registry asks for is said."""
        self.claim_error = InvitationNeeded(registry=URL)
        self.failureResultOf(self.find(), InvitationNeeded)

    def test_running(self) -> None:
        """While the peer of the name runs, its key is read, and its folder stays its own."""
        key = self.make_key()
        self.registry.views = {"bob": view_of("bob", key.public)}
        with closing(DataFolder.open(self.folder, "bob")):
            self.assertEqual(self.successResultOf(self.find()).key.public, key.public)
        self.assertEqual(self.claims, [])

    def test_running_but_unknown(self) -> None:
        """A peer that is about to claim the name is waited for, for some seconds."""
        key = self.make_key()
        with closing(DataFolder.open(self.folder, "bob")):
            finding = self.find()
            self.fake.reactor.advance(PAUSE)
            self.assertNoResult(finding)
            self.registry.views = {"bob": view_of("bob", key.public)}
            self.fake.reactor.advance(PAUSE)
            self.assertEqual(self.successResultOf(finding).key.public, key.public)
            for views, expected in (({}, Refused), ({"bob": view_of("bob", OTHER)}, NameTaken)):
                self.registry.views = views
                finding = self.find()
                self.fake.reactor.pump([PAUSE] * TRIES_MAX)
                self.failureResultOf(finding, expected)
        self.assertEqual(self.claims, [])

    def test_renewed(self) -> None:
        """A claim that is old is renewed with what the record says; who cannot do that now does it later."""
        key = self.make_key()
        old = view_of("bob", key.public, signed=NOW - RENEW_AFTER - 1)
        self.registry.views = {"bob": old}
        self.assertFalse(self.successResultOf(self.find()).is_new)
        (caps, _), *_ = self.claims
        self.assertIn("classic", caps)
        self.registry.views = {"bob": old}
        self.claim_error = RegistryUnreachable(registry=URL, reason="x")
        self.successResultOf(self.find())
        with closing(DataFolder.open(self.folder, "bob")):
            self.successResultOf(self.find())


class IntroduceTests(IdentityTestCase):
    def introduce(self) -> Deferred[Any]:
        invocation = cast(Invocation, self.fake)
        registry = cast(RegistryClient, self.registry)
        finder = finder_of(invocation, registry, "bob")
        return Deferred.fromCoroutine(introduce(invocation, registry, finder, "alice"))

    def test_both(self) -> None:
        """Who asks and who is asked are known together."""
        self.registry.views = {"alice": view_of("alice", OTHER)}
        me, meeting = self.successResultOf(self.introduce())
        self.assertEqual((me.name, self.successResultOf(meeting).name), ("bob", "alice"))

    def test_peer_missing(self) -> None:
        """A peer that is not there is told by the meeting, for there may be others."""
        _, meeting = self.successResultOf(self.introduce())
        self.failureResultOf(meeting, NoSuchPeer)

    def test_own_error(self) -> None:
        """If the name is not ours, nothing else matters; nothing of the meeting is left behind."""
        self.registry.views = {"alice": view_of("alice", OTHER)}
        self.claim_error = NameTaken(name="bob", registry=URL)
        self.failureResultOf(self.introduce(), NameTaken)

    def test_other_reason(self) -> None:
        """That the peer is to blame goes first: it takes no sessions, or has another key (threat 15)."""
        self.claim_error = RegistryUnreachable(registry=URL, reason="it answered HTTP 404")
        self.registry.views = {"alice": view_of("alice", None)}
        self.failureResultOf(self.introduce(), ClassicOnly)
        KnownPeers(self.folder, str(REGISTRY_KEY)).pin("alice", SigningKey(bytes(32)).public, None)
        self.registry.views = {"alice": view_of("alice", OTHER)}
        self.failureResultOf(self.introduce(), KeyChanged)

    def test_nameless(self) -> None:
        """Without a name there is nobody who could ask."""
        self.fake.settings = Settings(registry=URL)
        self.failureResultOf(self.introduce(), WrongUsage)

    def test_already_running(self) -> None:
        """An error that is no trouble of the peer's is the one that is told."""
        with closing(DataFolder.open(self.folder, "bob")):
            introducing = self.introduce()
            self.fake.reactor.pump([PAUSE] * TRIES_MAX)
            error = self.failureResultOf(introducing, Refused).value
        self.assertNotIsInstance(error, AlreadyRunning)
        self.assertIn("wait until it does", str(error))
