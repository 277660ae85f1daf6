"""Tests of `p2pshare.peer.find.lookup`."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar, cast
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import (
    ClassicOnly,
    KeyChanged,
    KeyGone,
    KeyUnknown,
    NewerOnly,
    NoSuchPeer,
    NotClassic,
    P2pshareError,
    PeerAddressRefused,
    PeerNotFound,
    PeerNotReachable,
    PeerOffline,
    PeerSharesNothing,
    PeerUnreachable,
    RegistryUnreachable,
)
from p2pshare.peer.find.lookup import FoundPeer, PeerFinder
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.data_folder import PeerPlace
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.registry_answers import PeerView, Presence
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.statements import CAP_CLASSIC, CAP_REACH, Rotation
from tests.ui.registries import (
    NOW,
    REGISTRY_KEY,
    URL,
    MemoryRegistry,
    ThreadlessClock,
    view_of,
)

T = TypeVar("T")

OLD, NEW, EVIL = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))


def rotation(aud: PublicKey = REGISTRY_KEY, signer: SigningKey = OLD) -> str:
    return Rotation("alice", OLD.public, NEW.public, 1, aud).sign(signer)


class LookUpTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.data = Path(self.mktemp()).absolute()
        self.registry = MemoryRegistry()
        self.known = KnownPeers(self.data, str(REGISTRY_KEY))
        self.now = float(NOW)
        self.place: PeerPlace | None = PeerPlace(URL, "bob", self.data)

    def finder(self, at: PeerAddress | None = None, *, pins_new_keys: bool = True) -> PeerFinder:
        """Return the finder of another run of the program."""
        reactor: Any = ThreadlessClock()
        self.registry.key = None
        registry = cast(RegistryClient, self.registry)
        return PeerFinder(
            reactor,
            registry,
            lambda: self.now,
            self.place,
            at=at,
            pins_new_keys=pins_new_keys,
        )

    def finding(self, view: PeerView | None, peer: str = "alice") -> Deferred[FoundPeer]:
        self.registry.views = {} if view is None else {peer: view}
        return self.find_again(peer=peer)

    def find_again(self, at: PeerAddress | None = None, peer: str = "alice") -> Deferred[FoundPeer]:
        return Deferred.fromCoroutine(self.finder(at).find(peer))

    def find(self, view: PeerView | None) -> FoundPeer:
        return self.successResultOf(self.finding(view))

    def refused(self, view: PeerView | None, kind: type[P2pshareError]) -> P2pshareError:
        error = self.failureResultOf(self.finding(view), kind).value
        assert isinstance(error, P2pshareError)
        return error


class LookUpTests(LookUpTestCase):
    def test_first_contact(self) -> None:
        """The first key is pinned."""
        found = self.find(view_of("alice", OLD.public, addresses=("[::1]:1", "192.0.2.7:50000")))
        self.assertEqual((found.addresses[0], found.seen), (PeerAddress("192.0.2.7", 50000), None))
        self.assertEqual(self.known.key("alice"), OLD.public)
        self.find(view_of("alice", OLD.public))

    def test_changed(self) -> None:
        """Another key than the pinned one is refused; the error has both (threat 15)."""
        self.find(view_of("alice", OLD.public))
        for rotations in ((), (rotation(signer=EVIL),)):
            error = self.refused(view_of("alice", NEW.public, rotations=rotations), KeyChanged)
            self.assertEqual(error.exit_code, 3)
            self.assertEqual(error.fields["known"], OLD.public.grouped)
            self.assertEqual(error.fields["now"], NEW.public.grouped)
        self.assertEqual(self.known.key("alice"), OLD.public)

    def test_follows(self) -> None:
        """A key that the pinned one has signed is accepted, reported and pinned."""
        self.find(view_of("alice", OLD.public))
        self.assertFalse(self.find(view_of("alice", OLD.public)).has_new_key)
        self.assertTrue(
            self.find(view_of("alice", NEW.public, rotations=(rotation(),))).has_new_key
        )
        self.assertEqual(self.known.key("alice"), NEW.public)
        self.refused(view_of("alice", OLD.public, rotations=(rotation(),)), KeyChanged)

    def test_elsewhere(self) -> None:
        """A rotation for another registry is ignored."""
        self.find(view_of("alice", OLD.public))
        rotated = view_of("alice", NEW.public, rotations=(rotation(EVIL.public),))
        self.refused(rotated, KeyChanged)

    def test_gone(self) -> None:
        """A name with a pinned key is refused without a key, also by an original registry (threat 36)."""
        self.find(view_of("alice", OLD.public))
        error = self.refused(view_of("alice", None), KeyGone)
        self.assertEqual(error.fields["known"], OLD.public.grouped)
        self.registry.infos = None
        self.refused(view_of("alice", None), KeyGone)

    def test_classic(self) -> None:
        """Nothing is pinned for a classic peer, wherever it is registered."""
        self.find(view_of("alice", None))
        self.registry.infos = None
        self.find(view_of("alice", None))
        self.assertIsNone(self.known.key("alice"))

    def test_race(self) -> None:
        """Of two processes that meet different keys at first contact, one is refused."""
        with mock.patch.object(KnownPeers, "key", return_value=None):
            self.find(view_of("alice", OLD.public))
            self.refused(view_of("alice", NEW.public), KeyChanged)

    def test_nobody_to_remember(self) -> None:
        """A user without a name and a data folder keeps nothing."""
        self.place = None
        for key in (OLD, NEW):
            self.find(view_of("alice", key.public))
        self.assertFalse(self.data.exists())

    def test_nothing_pinned(self) -> None:
        """A look-up that pins nothing, for completion, still rejects another key than the pinned one (threat 15)."""
        self.registry.views = {"alice": view_of("alice", OLD.public)}
        finder = self.finder(pins_new_keys=False)
        found = self.successResultOf(Deferred.fromCoroutine(finder.find("alice")))
        self.assertEqual(found.key, OLD.public)
        self.assertIsNone(self.known.key("alice"))
        self.known.pin("alice", NEW.public, None)
        self.failureResultOf(Deferred.fromCoroutine(finder.find("alice")), KeyChanged)

    def test_misspelt(self) -> None:
        """The error about an unknown name suggests a similar name that was met or listed before."""
        self.assertEqual(self.refused(None, NoSuchPeer).fields["hint"], "")
        self.successResultOf(self.finding(view_of("alcie", OLD.public), peer="alcie"))
        Seen(self.data).saw_names(["zoe"])
        for name, hint in (("alice", "alcie"), ("zoey", "zoe")):
            error = self.failureResultOf(self.finding(None, peer=name), NoSuchPeer).value
            self.assertIn(repr(hint), error.fields["hint"])

    def test_nowhere(self) -> None:
        """An unknown name and a peer that has no address to connect to are different errors."""
        self.refused(None, NoSuchPeer)
        self.refused(view_of("alice", OLD.public, addresses=("[::1]:1",)), PeerNotReachable)

    def test_leads_here(self) -> None:
        """Threat 13: no registry elsewhere, original or not, can make us connect to this machine."""
        view = view_of("alice", OLD.public, addresses=("127.0.0.1:6379",))
        self.assertEqual(self.refused(view, PeerAddressRefused).exit_code, 5)
        self.registry.infos = None
        for address in ("127.0.0.1:6379", "0.0.0.0:6379", "169.254.169.254:80"):
            view = view_of("carol", None, addresses=(address,))
            self.failureResultOf(self.finding(view, peer="carol"), PeerAddressRefused)

    def test_offline(self) -> None:
        """A peer that is offline is tried where it was seen; if that fails, the error says when."""
        self.find(view_of("alice", OLD.public))
        found = self.find(view_of("alice", OLD.public, Presence.OFFLINE, 300))
        self.assertEqual(found.addresses, (PeerAddress("192.0.2.7", 50000),))
        error = found.explained(PeerUnreachable(name="alice", address=found.where))
        assert isinstance(error, PeerOffline)
        self.assertEqual((error.exit_code, error.fields["seen"]), (5, "5 min ago"))
        self.assertIn(found.where, str(error.fields["tried"]))

    def test_offline_and_never_met(self) -> None:
        """A peer that is offline and was never met has no address: the registry tells none."""
        for place in (self.place, None):
            self.place = place
            error = self.refused(view_of("alice", OLD.public, Presence.OFFLINE, 300), PeerOffline)
            self.assertEqual((error.fields["seen"], error.fields["tried"]), ("5 min ago", ""))

    def test_offline_with_another_key(self) -> None:
        """Addresses seen belong to the pinned key. A look-up that pins nothing does not use them for its successor."""
        self.find(view_of("alice", OLD.public))
        rotated = view_of("alice", NEW.public, Presence.OFFLINE, rotations=(rotation(),))
        self.registry.views = {"alice": rotated}
        finder = self.finder(pins_new_keys=False)
        self.failureResultOf(Deferred.fromCoroutine(finder.find("alice")), PeerOffline)

    def test_offline_here(self) -> None:
        """Threat 13: a remembered address of this machine is not tried if the registry is elsewhere."""
        self.known.pin("alice", OLD.public, None)
        Seen(self.data).saw_address(str(OLD.public), PeerAddress("127.0.0.1", 6379), 300)
        self.refused(view_of("alice", OLD.public, Presence.OFFLINE), PeerOffline)


class CapabilityTests(LookUpTestCase):
    def test_sessions(self) -> None:
        """A session expects the key that was found."""
        found = self.find(view_of("alice", OLD.public, caps=(CAP_SESSIONS,)))
        self.assertEqual(found.expect_sessions(), OLD.public)
        self.assertRaises(NotClassic, found.expect_classic)

    def test_never_in_the_clear(self) -> None:
        """A peer without sessions is not asked in the classic protocol instead (threat 36)."""
        found = self.find(view_of("alice", OLD.public, caps=(CAP_CLASSIC,)))
        error = self.assertRaises(ClassicOnly, found.expect_sessions)
        self.assertEqual(error.exit_code, 3)
        found.expect_classic()
        for infos in (self.registry.infos, None):
            self.registry.infos = infos
            found = self.successResultOf(self.finding(view_of("carol", None), "carol"))
            self.assertRaises(ClassicOnly, found.expect_sessions)
            found.expect_classic()

    def test_newer(self) -> None:
        """A peer that speaks only a later version is reported as such, not as a classic one."""
        for caps in ("sessions/2",), ("sessions/2", CAP_CLASSIC), ("later",):
            found = self.find(view_of("alice", OLD.public, caps=caps))
            error = self.assertRaises(NewerOnly, found.expect_sessions)
            self.assertEqual(error.exit_code, 3)
        self.assertRaises(NotClassic, found.expect_classic)

    def test_stripped(self) -> None:
        """A registry that presents a name with a pinned key as a classic one is refused (threat 36)."""
        self.find(view_of("alice", OLD.public))
        self.refused(view_of("alice", None), KeyGone)

    def test_shares_nothing(self) -> None:
        """A user without a running peer can be asked for nothing."""
        for presence in (Presence.OFFLINE, Presence.ONLINE):
            view = view_of("alice", OLD.public, presence, caps=(), addresses=())
            self.refused(view, PeerSharesNothing)
        found = self.find(view_of("alice", OLD.public, caps=()))
        self.assertRaises(PeerSharesNothing, found.expect_sessions)
        self.assertRaises(PeerSharesNothing, found.expect_classic)

    def test_only_called(self) -> None:
        """A peer that tells no address, or none that may be connected to, can be called while it is online."""
        caps, seal = (CAP_SESSIONS, CAP_REACH), "A" * 43
        for addresses in ((), ("127.0.0.1:6379",)):
            view = view_of("alice", OLD.public, addresses=addresses, caps=caps, seal=seal)
            target = self.find(view).target
            self.assertFalse(target.is_remembered)
            self.assertEqual((target.candidates, target.takes_calls), ((), True))
            self.assertEqual(target.seal, seal)
        unsealed = view_of("alice", OLD.public, caps=caps)
        self.assertFalse(self.find(unsealed).target.takes_calls)
        offline = view_of("alice", OLD.public, Presence.OFFLINE, caps=caps, seal=seal)
        self.assertFalse(self.find(offline).target.takes_calls)
        self.refused(view_of("alice", OLD.public, addresses=()), PeerNotReachable)

    def test_target(self) -> None:
        """The first session uses the peer that was found; for later ones it is looked up again."""
        finder = self.finder()
        self.registry.views = {"alice": view_of("alice", OLD.public)}
        found = self.successResultOf(Deferred.fromCoroutine(finder.find("alice")))
        target = finder.target("alice", found)
        moved = view_of("alice", OLD.public, addresses=("192.0.2.8:50001",))
        self.registry.views = {"alice": moved}

        def ask() -> tuple[PeerAddress, PublicKey]:
            found = self.successResultOf(Deferred.fromCoroutine(_awaited(target())))
            return found.candidates[0].address, found.key

        self.assertEqual(ask(), (PeerAddress("192.0.2.7", 50000), OLD.public))
        self.assertEqual(ask(), (PeerAddress("192.0.2.8", 50001), OLD.public))
        self.away()
        self.assertEqual(ask(), (PeerAddress("192.0.2.8", 50001), OLD.public))
        self.registry.error = None
        self.registry.views = {"alice": view_of("alice", NEW.public)}
        self.failureResultOf(Deferred.fromCoroutine(_awaited(target())), KeyChanged)

    def away(self) -> None:
        self.registry.error = lambda _: RegistryUnreachable(registry=URL, reason="refused")

    def test_last_seen(self) -> None:
        """While the registry is away, the addresses seen last are used with the pinned key."""
        for address in ("192.0.2.7:50000", "192.0.2.8:50001"):
            self.find(view_of("alice", OLD.public, ago=9_000, addresses=(address,)))
        self.now += 300
        self.away()
        found = self.successResultOf(self.find_again())
        self.assertEqual(
            found.addresses, (PeerAddress("192.0.2.8", 50001), PeerAddress("192.0.2.7", 50000))
        )
        self.assertEqual((found.expect_sessions(), found.seen), (OLD.public, "5 min ago"))
        silent = PeerUnreachable(name="alice", address=found.where)
        error = found.explained(silent)
        self.assertIsInstance(error, PeerNotFound)
        self.assertEqual(error.exit_code, 5)
        self.assertRaises(RegistryUnreachable, found.expect_classic)

    def test_registry_recovers(self) -> None:
        """A registry that lost its store may not know a name yet: its peer is tried where it was seen."""
        self.find(view_of("alice", OLD.public))
        found = self.find(None)
        self.assertEqual(found.addresses, (PeerAddress("192.0.2.7", 50000),))
        self.assertEqual(found.expect_sessions(), OLD.public)
        self.assertTrue(found.target.is_remembered)
        silent = PeerUnreachable(name="alice", address=found.where)
        self.assertIsInstance(found.explained(silent), NoSuchPeer)
        self.assertRaises(NoSuchPeer, found.expect_classic)

    def test_last_seen_where_nobody_is(self) -> None:
        """A rejected address is not tried although a file remembers it (threat 13)."""
        self.find(view_of("alice", OLD.public, addresses=("192.0.2.7:50000",)))
        seen = Seen(self.data)
        seen.saw_address(str(OLD.public), PeerAddress("169.254.169.254", 80), 300)
        self.away()
        found = self.successResultOf(self.find_again())
        self.assertEqual(found.addresses, (PeerAddress("192.0.2.7", 50000),))

    def test_not_met(self) -> None:
        """Peers that were never met, were forgotten or take no sessions are not found without the registry."""
        self.find(view_of("alice", OLD.public))
        fetches_only = view_of("carol", NEW.public, caps=())
        self.successResultOf(self.finding(fetches_only, peer="carol"))
        self.away()
        self.failureResultOf(self.find_again(peer="dora"), RegistryUnreachable)
        self.failureResultOf(self.find_again(peer="carol"), RegistryUnreachable)
        self.known.forget("alice")
        self.failureResultOf(self.find_again(), RegistryUnreachable)

    def test_at(self) -> None:
        """With an address from the user, the pinned key is expected; without a pin, the key from the registry."""
        at = PeerAddress("127.0.0.1", 9000)
        self.away()
        error = self.failureResultOf(self.find_again(at), KeyUnknown).value
        self.assertEqual(error.exit_code, 5)
        self.registry.error = None
        self.failureResultOf(self.find_again(at), NoSuchPeer)
        self.registry.views = {"alice": view_of("alice", OLD.public, Presence.OFFLINE)}
        for _ in range(2):
            found = self.successResultOf(self.find_again(at))
            self.assertEqual((found.addresses, found.expect_sessions()), ((at,), OLD.public))
            self.assertEqual(self.known.key("alice"), OLD.public)
            self.registry.error = AssertionError

    def test_registry_away(self) -> None:
        """If both parallel requests fail, one error is raised."""
        self.registry.error = lambda _: RegistryUnreachable(registry=URL, reason="x")
        self.failureResultOf(self.finding(None), RegistryUnreachable)


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
