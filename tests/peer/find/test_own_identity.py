"""Tests of `p2pshare.peer.find.own_identity`."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
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

    async def look_up_peer(self, name: str, *, by_registry_clock: bool = False) -> PeerView:
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
        """If the registry has the name under our key, one request is enough, and nothing is claimed."""
        key = self.make_key()
        self.registry.views = {"bob": view_of("bob", key.public)}
        found = self.successResultOf(self.find())
        self.assertEqual((found.name, found.key.public), ("bob", key.public))
        self.assertEqual((self.registry.asked, self.claims), (1, []))
        self.assertFalse(found.is_new)

    def test_registry_away(self) -> None:
        """An existing key is enough while the registry is away or not needed; without a key it is an error."""
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
        """At first use, the key is made and the name is claimed."""
        found = self.successResultOf(self.find())
        self.assertEqual(self.claims, [((), None)])
        self.assertTrue(found.is_new)
        kept = key_file.load(self.folder / KEY_NAME)
        assert kept is not None
        self.assertEqual(found.key.public, kept.public)
        self.assertEqual(self.successResultOf(self.find()).key.public, kept.public)
        self.assertEqual(len(self.claims), 1)

    def test_invitation(self) -> None:
        """The claim uses the invitation of the settings."""
        self.fake.settings = Settings(registry=URL, name="bob", data=self.folder, invitation="a.b")
        self.successResultOf(self.find())
        self.assertEqual(self.claims, [((), "a.b")])

    def test_lost(self) -> None:
        """An expired name is claimed again with the same key."""
        key = self.make_key()
        self.assertEqual(self.successResultOf(self.find()).key.public, key.public)
        self.assertEqual(len(self.claims), 1)

    def test_taken(self) -> None:
        """A name that belongs to another key is an error."""
        self.make_key()
        self.registry.views = {"bob": view_of("bob", OTHER)}
        self.claim_error = NameTaken(name="bob", registry=URL)
        error = self.failureResultOf(self.find(), NameTaken).value
        self.assertEqual(error.exit_code, 3)

    def test_invitation_needed(self) -> None:
        """A missing invitation is an error."""
        self.claim_error = InvitationNeeded(registry=URL)
        self.failureResultOf(self.find(), InvitationNeeded)

    def test_running(self) -> None:
        """While the user's peer runs, its key is read and nothing is claimed."""
        key = self.make_key()
        self.registry.views = {"bob": view_of("bob", key.public)}
        with closing(DataFolder.open(self.folder, "bob")):
            self.assertEqual(self.successResultOf(self.find()).key.public, key.public)
        self.assertEqual(self.claims, [])

    def test_running_but_unknown(self) -> None:
        """A running peer that has not claimed the name yet gets some seconds to do so."""
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
        """An old claim is renewed with the capabilities of its record. If that fails, a later run does it."""
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
        """The user's identity and the peer are looked up together."""
        self.registry.views = {"alice": view_of("alice", OTHER)}
        me, meeting = self.successResultOf(self.introduce())
        self.assertEqual((me.name, self.successResultOf(meeting).name), ("bob", "alice"))

    def test_peer_missing(self) -> None:
        """A peer that does not exist fails its own look-up only, since there may be others."""
        _, meeting = self.successResultOf(self.introduce())
        self.failureResultOf(meeting, NoSuchPeer)

    def test_own_error(self) -> None:
        """If the name is not ours, that is the error, and the look-up of the peer leaves nothing behind."""
        self.registry.views = {"alice": view_of("alice", OTHER)}
        self.claim_error = NameTaken(name="bob", registry=URL)
        self.failureResultOf(self.introduce(), NameTaken)

    def test_other_reason(self) -> None:
        """If the peer takes no sessions or has another key, that is the error (threat 15)."""
        self.claim_error = RegistryUnreachable(registry=URL, reason="it answered HTTP 404")
        self.registry.views = {"alice": view_of("alice", None)}
        self.failureResultOf(self.introduce(), ClassicOnly)
        KnownPeers(self.folder, str(REGISTRY_KEY)).pin("alice", SigningKey(bytes(32)).public, None)
        self.registry.views = {"alice": view_of("alice", OTHER)}
        self.failureResultOf(self.introduce(), KeyChanged)

    def test_nameless(self) -> None:
        """Without a name, nobody can be asked."""
        self.fake.settings = Settings(registry=URL)
        self.failureResultOf(self.introduce(), WrongUsage)

    def test_already_running(self) -> None:
        """If the peer is not the reason, the error of the user's identity is raised."""
        with closing(DataFolder.open(self.folder, "bob")):
            introducing = self.introduce()
            self.fake.reactor.pump([PAUSE] * TRIES_MAX)
            error = self.failureResultOf(introducing, Refused).value
        self.assertIs(type(error), Refused)
