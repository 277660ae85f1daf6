"""Tests for `p2pshare.ui.meeting`."""

from __future__ import annotations

import io
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar, cast
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.datagrams import Kind
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
from p2pshare.registry.client import RegistryClient
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.meeting import Meetings, Met
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import classic_get as watching
from p2pshare.ui.verbs.classic_items import Wanted
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.registry_answers import PeerView, Presence
from p2pshare.wire.session_messages import CAP_SESSIONS
from p2pshare.wire.statements import CAP_CLASSIC, Rotation
from tests.ui.registries import REGISTRY_KEY, URL, MemoryInvocation, MemoryRegistry, view_of

T = TypeVar("T")

OLD, NEW, EVIL = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))


def rotation(aud: PublicKey = REGISTRY_KEY, signer: SigningKey = OLD) -> str:
    return Rotation("alice", OLD.public, NEW.public, 1, aud).sign(signer)


class MeetingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stderr = io.StringIO()
        output = Output(Terminal.detect(io.StringIO(), {}), Terminal.detect(self.stderr, {}))
        self.cwd = Path(self.mktemp()).absolute()
        self.registry = MemoryRegistry()
        self.fake = MemoryInvocation(self.registry, output, self.cwd)
        self.known = KnownPeers(self.cwd / "data", str(REGISTRY_KEY))

    def meetings(self, own_name: str | None = "bob") -> Meetings:
        return Meetings(cast(Invocation, self.fake), cast(RegistryClient, self.registry), own_name)

    def meeting(
        self, view: PeerView | None, own_name: str | None = "bob", peer: str = "alice"
    ) -> Deferred[Met]:
        self.registry.views = {} if view is None else {peer: view}
        return Deferred.fromCoroutine(self.meetings(own_name).meet(peer))

    def meet(self, view: PeerView | None) -> Met:
        return self.successResultOf(self.meeting(view))

    def refused(self, view: PeerView | None, kind: type[P2pshareError]) -> P2pshareError:
        error = self.failureResultOf(self.meeting(view), kind).value
        assert isinstance(error, P2pshareError)
        return error


class MeetTests(MeetingTestCase):
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
        """A rotation for another registry is not followed."""
        self.meet(view_of("alice", OLD.public))
        rotated = view_of("alice", NEW.public, rotations=(rotation(EVIL.public),))
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

    def test_misspelt(self) -> None:
        """A name that nobody has is compared with those that were met or listed before."""
        self.assertEqual(self.refused(None, NoSuchPeer).fields["hint"], "")
        self.successResultOf(self.meeting(view_of("alcie", OLD.public), peer="alcie"))
        Seen(self.cwd / "data").saw_names(["zoe"])
        for name, hint in (("alice", "alcie"), ("zoey", "zoe")):
            error = self.failureResultOf(self.meeting(None, peer=name), NoSuchPeer).value
            self.assertIn(repr(hint), error.fields["hint"])

    def test_nowhere(self) -> None:
        """Nobody, and somebody without an IPv4 address, are told apart."""
        self.refused(None, NoSuchPeer)
        self.refused(view_of("alice", OLD.public, addresses=("[::1]:1",)), PeerNotReachable)

    def test_leads_here(self) -> None:
        """Threat 13: no registry elsewhere, nor an original one, has us connect to this machine's own programs."""
        view = view_of("alice", OLD.public, addresses=("127.0.0.1:6379",))
        self.assertEqual(self.refused(view, PeerAddressRefused).exit_code, 5)
        self.registry.infos = None
        for address in ("127.0.0.1:6379", "0.0.0.0:6379", "169.254.169.254:80"):
            view = view_of("carol", None, addresses=(address,))
            self.failureResultOf(self.meeting(view, peer="carol"), PeerAddressRefused)

    def test_offline(self) -> None:
        """Who is offline is tried where it was seen; if that fails, the error says when."""
        self.meet(view_of("alice", OLD.public))
        met = self.meet(view_of("alice", OLD.public, Presence.OFFLINE, 300))
        self.assertEqual(met.addresses, (PeerAddress("192.0.2.7", 50000),))
        wanted = Wanted("alice", Kind.TEXT, self.cwd, "alice.txt")
        silent = PeerUnreachable(name="alice", address=met.address)
        with mock.patch.object(watching, "fetch_watched", side_effect=silent):
            error = self.failureResultOf(
                Deferred.fromCoroutine(met.fetch(wanted)), PeerOffline
            ).value
        self.assertIn("last seen 5 min ago", str(error))
        self.assertEqual(error.exit_code, 5)
        self.assertIn("and did not answer at 192.0.2.7:50000", str(error))
        met.remark()
        self.assertIn("last seen 5 min ago: trying it", self.stderr.getvalue())

    def test_offline_and_never_met(self) -> None:
        """Who is offline and was never met online is nowhere: the registry tells no address."""
        for own_name in ("bob", None):
            view = view_of("alice", OLD.public, Presence.OFFLINE, 300)
            error = self.failureResultOf(self.meeting(view, own_name), PeerOffline).value
            self.assertEqual(
                str(error),
                "'alice' is offline, last seen 5 min ago: `p2pshare users` shows who is there.",
            )

    def test_offline_here(self) -> None:
        """Threat 13: a remembered address of this machine is not tried where the registry is elsewhere."""
        self.known.pin("alice", OLD.public, None)
        self.cwd.joinpath("data").mkdir(exist_ok=True)
        Seen(self.cwd / "data").saw_address(str(OLD.public), PeerAddress("127.0.0.1", 6379), 300)
        self.refused(view_of("alice", OLD.public, Presence.OFFLINE), PeerOffline)


class CapabilityTests(MeetingTestCase):
    def test_sessions(self) -> None:
        """By default there is a session, with the key that was met."""
        met = self.meet(view_of("alice", OLD.public, caps=(CAP_SESSIONS,)))
        self.assertEqual(met.expect_sessions(), OLD.public)
        self.assertRaises(NotClassic, met.expect_classic)

    def test_never_in_the_clear(self) -> None:
        """Who takes no sessions is not asked in the classic protocol instead, unless the user says so (threat 36)."""
        met = self.meet(view_of("alice", OLD.public, caps=(CAP_CLASSIC,)))
        error = self.assertRaises(ClassicOnly, met.expect_sessions)
        self.assertIn("add --classic if you accept that", str(error))
        self.assertEqual(error.exit_code, 3)
        met.expect_classic()
        for infos in (self.registry.infos, None):
            self.registry.infos = infos
            met = self.successResultOf(self.meeting(view_of("carol", None), peer="carol"))
            self.assertRaises(ClassicOnly, met.expect_sessions)
            met.expect_classic()

    def test_newer(self) -> None:
        """Of who speaks only what came up later it is said so, and not that it is the classic protocol."""
        for caps in ("sessions/2",), ("sessions/2", CAP_CLASSIC), ("later",):
            met = self.meet(view_of("alice", OLD.public, caps=caps))
            error = self.assertRaises(NewerOnly, met.expect_sessions)
            self.assertIn("update p2pshare", str(error))
            self.assertEqual(error.exit_code, 3)
        self.assertRaises(NotClassic, met.expect_classic)

    def test_stripped(self) -> None:
        """A registry that says of a name with a known key that it is a classic one is not believed (threat 36)."""
        self.meet(view_of("alice", OLD.public))
        self.refused(view_of("alice", None), KeyGone)

    def test_shares_nothing(self) -> None:
        """Who only fetches can be asked for nothing."""
        for presence in (Presence.OFFLINE, Presence.ONLINE):
            view = view_of("alice", OLD.public, presence, caps=(), addresses=())
            self.refused(view, PeerSharesNothing)
        met = self.meet(view_of("alice", OLD.public, caps=()))
        self.assertRaises(PeerSharesNothing, met.expect_sessions)
        self.assertRaises(PeerSharesNothing, met.expect_classic)

    def test_not_classic(self) -> None:
        """Who has not switched the classic protocol on is not asked in it."""
        met = self.meet(view_of("alice", OLD.public, caps=(CAP_SESSIONS,)))
        wanted = Wanted("alice", Kind.TEXT, self.cwd, "alice.txt")
        with mock.patch.object(watching, "fetch_watched", side_effect=AssertionError):
            error = self.failureResultOf(
                Deferred.fromCoroutine(met.fetch(wanted)), NotClassic
            ).value
        self.assertIn("leave --classic away", str(error))

    def test_finder(self) -> None:
        """At first it is as it was met; later the registry is asked anew, and while it is away nothing has changed."""
        meetings = self.meetings()
        self.registry.views = {"alice": view_of("alice", OLD.public)}
        met = self.successResultOf(Deferred.fromCoroutine(meetings.meet("alice")))
        find = meetings.finder(met)
        moved = view_of("alice", OLD.public, addresses=("192.0.2.8:50001",))
        self.registry.views = {"alice": moved}

        def found() -> tuple[PeerAddress, PublicKey]:
            addresses, key = self.successResultOf(Deferred.fromCoroutine(_awaited(find())))
            return addresses[0], key

        self.assertEqual(found(), (PeerAddress("192.0.2.7", 50000), OLD.public))
        self.assertEqual(found(), (PeerAddress("192.0.2.8", 50001), OLD.public))
        self.registry.error = lambda _: RegistryUnreachable(registry=URL, reason="x")
        self.assertEqual(found(), (PeerAddress("192.0.2.8", 50001), OLD.public))
        self.registry.error = None
        self.registry.views = {"alice": view_of("alice", NEW.public)}
        changed = Deferred.fromCoroutine(_awaited(find()))
        self.failureResultOf(changed, KeyChanged)

    def away(self) -> None:
        self.registry.error = lambda _: RegistryUnreachable(registry=URL, reason="refused")

    def meet_again(self, at: PeerAddress | None = None, peer: str = "alice") -> Deferred[Met]:
        """Meet a peer in another run of the program."""
        registry = cast(RegistryClient, self.registry)
        meetings = Meetings(cast(Invocation, self.fake), registry, "bob", at)
        return Deferred.fromCoroutine(meetings.meet(peer))

    def test_last_seen(self) -> None:
        """While the registry is away, a peer that was met is where it was seen last, under the key that is pinned."""
        for address in ("192.0.2.7:50000", "192.0.2.8:50001"):
            self.meet(view_of("alice", OLD.public, ago=300, addresses=(address,)))
        self.away()
        met = self.successResultOf(self.meet_again())
        self.assertEqual(
            met.addresses, (PeerAddress("192.0.2.8", 50001), PeerAddress("192.0.2.7", 50000))
        )
        self.assertEqual((met.expect_sessions(), met.seen), (OLD.public, "5 min ago"))
        met.remark()
        said = self.stderr.getvalue()
        self.assertIn(URL, said)
        self.assertIn("Trying alice at 192.0.2.8:50001, 192.0.2.7:50000, last seen 5 min", said)
        silent = PeerUnreachable(name="alice", address=met.address)
        error = met.retold(silent)
        self.assertIsInstance(error, PeerNotFound)
        self.assertEqual(error.exit_code, 5)
        self.assertRaises(RegistryUnreachable, met.expect_classic)

    def test_last_seen_where_nobody_is(self) -> None:
        """An address that nobody may have is not tried, although a file remembers it (threat 13)."""
        self.meet(view_of("alice", OLD.public, addresses=("192.0.2.7:50000",)))
        seen = Seen(self.cwd / "data")
        seen.saw_address(str(OLD.public), PeerAddress("169.254.169.254", 80), 300)
        self.away()
        met = self.successResultOf(self.meet_again())
        self.assertEqual(met.addresses, (PeerAddress("192.0.2.7", 50000),))

    def test_not_met(self) -> None:
        """Nobody else is believed to be anywhere: who was not met, was forgotten, or takes no sessions."""
        self.meet(view_of("alice", OLD.public))
        fetches_only = view_of("carol", NEW.public, caps=())
        self.successResultOf(self.meeting(fetches_only, peer="carol"))
        self.away()
        self.failureResultOf(self.meet_again(peer="dora"), RegistryUnreachable)
        self.failureResultOf(self.meet_again(peer="carol"), RegistryUnreachable)
        self.known.forget("alice")
        self.failureResultOf(self.meet_again(), RegistryUnreachable)

    def test_at(self) -> None:
        """At an address that the user names, the known key counts; else the registry's word for the key."""
        at = PeerAddress("127.0.0.1", 9000)
        self.away()
        error = self.failureResultOf(self.meet_again(at), KeyUnknown).value
        self.assertEqual(error.exit_code, 5)
        self.registry.error = None
        self.failureResultOf(self.meet_again(at), NoSuchPeer)
        self.registry.views = {"alice": view_of("alice", OLD.public, Presence.OFFLINE)}
        for _ in range(2):
            met = self.successResultOf(self.meet_again(at))
            self.assertEqual((met.addresses, met.expect_sessions()), ((at,), OLD.public))
            self.assertEqual(self.known.key("alice"), OLD.public)
            self.registry.error = AssertionError

    def test_registry_away(self) -> None:
        """If both questions that are asked at once fail, one error is told."""
        self.registry.error = lambda _: RegistryUnreachable(registry=URL, reason="x")
        self.failureResultOf(self.meeting(None), RegistryUnreachable)


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
