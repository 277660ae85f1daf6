"""Tests of `p2pshare.peer.registration`, with a registry in memory."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent

from p2pshare.core.back_off import JITTER
from p2pshare.errors import (
    InvitationNeeded,
    NameReleased,
    NameTaken,
    RegistryDowngraded,
    RegistryHasNoOwners,
    RegistryUnavailable,
    RegistryUnreachable,
    Unreachable,
)
from p2pshare.peer import registration
from p2pshare.peer.ownership import CAPS, CAPS_WITH_CLASSIC, Owner
from p2pshare.peer.reach.network import OwnLocation
from p2pshare.peer.registration import (
    CHANGE_EVERY,
    HOPEFUL,
    LOCAL_ONLY,
    RELEASE_TIMEOUT,
    RETRY_MAX,
    RETRY_MAX_AT_FIRST,
    SETTLE,
    TAKE_BACKS_MAX,
    ClassicName,
    NameKeeper,
    RetryLoop,
    elsewhere_text,
)
from p2pshare.registry.client import TIMEOUT
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.reach.candidates import Candidate, CandidateKind, Mapping
from p2pshare.wire.registry_answers import (
    HEARTBEAT_FROM,
    HEARTBEAT_TO,
    PRESENCE_LEASE,
    SESSION_LIFE,
    Presence,
)
from tests.peer.registries import REGISTRY_KEY, RegistryTestCase

HERE, THERE = PeerAddress("10.0.0.5", 50000), PeerAddress("10.0.0.7", 50001)
TOKEN, OTHER_TOKEN = "t" * 16, "o" * 16


def location_at(*addresses: PeerAddress) -> OwnLocation:
    """Return the location of a peer whose interfaces have these addresses."""
    candidates = tuple(Candidate(CandidateKind.HOST, each) for each in addresses)
    return OwnLocation(candidates, Mapping.UNKNOWN, addresses[0])


async def patiently(keeper: NameKeeper) -> PeerAddress:
    return await keeper._retries.run(keeper.take, Unreachable)


class KeeperTestCase(RegistryTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.address = HERE
        self.more: tuple[PeerAddress, ...] = ()
        self.seen: list[str] = []
        self.keeper = self.keeper_of("bob", TOKEN)

    def keeper_of(
        self,
        folder: str,
        token: str = TOKEN,
        invitation: str | None = None,
        *,
        classic: bool = True,
        known: PublicKey | None = None,
    ) -> NameKeeper:
        """Return the keeper of a peer that has just started on a folder."""

        async def find_location() -> OwnLocation:
            return location_at(self.address, *self.more)

        client = self.client()
        client.known = known
        owner = Owner(
            client,
            self.identity(folder),
            self.wall,
            caps=CAPS_WITH_CLASSIC if classic else CAPS,
            invitation=invitation,
        )
        name = ClassicName(client, "bob", lambda: token) if classic else None
        rng = random.Random(1)
        retries = RetryLoop(self.clock, rng)
        return NameKeeper(
            self.clock, rng, owner, find_location, retries, name, on_seen=self.seen.append
        )

    def registered(self) -> PeerAddress | None:
        """Return the address that original clients see."""
        return self.successResultOf(self.registry.store.look_up("bob"))

    def take(self) -> None:
        self.assertEqual(self.successResultOf(self.start(self.keeper.take())), HERE)

    def keep(self) -> Deferred[None]:
        keeping: Deferred[None] = self.start(self.keeper.keep())
        self.addCleanup(self.stop, keeping)
        return keeping

    def stop(self, keeping: Deferred[None]) -> None:
        if not keeping.called:
            keeping.cancel()
            self.failureResultOf(keeping, CancelledError)
        self.settle()

    def pauses(self) -> list[float]:
        """Return the seconds between requests to the registry."""
        times = sorted({at for at, _, _ in self.registry.asked})
        return [float(each) for each in np.diff(times)]


class OwnerTests(KeeperTestCase):
    """A registry that knows owners."""

    def take_name_away(self) -> None:
        """Let the registry lose the name, and somebody else claim it."""
        self.registry.lose_everything()
        self.result(self.keeper_of("thief").take())

    def test_take(self) -> None:
        """The name belongs to the key. The peer is online for 90 s, then offline, and still owns the name."""
        self.take()
        self.assertEqual(self.owner(), self.identity().key.public)
        self.assertEqual((self.presence(), self.registered()), (Presence.ONLINE, HERE))
        self.wait(PRESENCE_LEASE - 0.25)
        self.assertEqual(self.presence(), Presence.ONLINE)
        self.wait(0.5)
        self.assertEqual((self.presence(), self.registered()), (Presence.OFFLINE, None))
        self.assertEqual(self.owner(), self.identity().key.public)
        self.failureResultOf(self.start(self.keeper_of("thief").take()), NameTaken)

    def test_killed(self) -> None:
        """A killed peer gets its name back as soon as it restarts."""
        for _ in range(3):
            self.take()
            self.keeper = self.keeper_of("bob")
        self.take()
        self.assertEqual(self.presence(), Presence.ONLINE)

    def test_taken(self) -> None:
        """A name of somebody else is an error, also for a patient peer."""
        self.take()
        other = self.keeper_of("other")
        self.failureResultOf(self.start(other.take()), NameTaken)
        self.failureResultOf(self.start(patiently(other)), NameTaken)
        self.result(other.stop())
        self.assertEqual(self.presence(), Presence.ONLINE)

    def test_registry_away(self) -> None:
        """For an impatient peer, a registry that is away is an error, at once or after a timeout."""
        self.registry.away = True
        self.failureResultOf(self.start(self.keeper.take()), RegistryUnavailable)
        self.registry.deaf = True
        taking = self.start(self.keeper.take())
        self.wait(TIMEOUT + 0.25)
        self.failureResultOf(taking, RegistryUnreachable)
        self.assertFalse(self.keeper.in_touch)

    def test_heartbeats(self) -> None:
        """Heartbeats are 30 to 45 s apart, drawn each time, and need no signature."""
        self.take()
        self.registry.asked.clear()
        keeping = self.keep()
        for _ in range(200):
            self.wait(10)
            self.assertEqual(self.presence(), Presence.ONLINE)
        self.assertNoResult(keeping)
        pauses = self.pauses()
        self.assertGreaterEqual(min(pauses), HEARTBEAT_FROM)
        self.assertLessEqual(max(pauses), HEARTBEAT_TO + 0.25)
        self.assertGreater(len(set(pauses)), 10, "peers do not come all at once")
        self.assertEqual(self.registry.count(b"PUT"), 0)

    def test_session_ends(self) -> None:
        """Before its session ends the peer claims again, and is never offline."""
        life = SESSION_LIFE // 8  # which the peer takes for its end, to save time
        self.patch(registration, "SESSION_LIFE", life)
        self.take()
        self.keep()
        self.registry.asked.clear()
        for _ in range(life // 20 + 20):
            self.clock.pump([10, 10])
            self.assertEqual(self.presence(), Presence.ONLINE)
        self.assertEqual(self.registry.count(b"PUT"), 1)
        posts = [path for _, method, path in self.registry.asked if method == b"POST"]
        self.assertGreater(len(posts), life // 60)

    def test_patience(self) -> None:
        """A registry that is away is retried with growing, bounded delays until it is back."""
        self.registry.away = True
        taking = self.start(patiently(self.keeper))
        self.wait(300)
        self.assertNoResult(taking)
        pauses = self.pauses()
        self.assertGreaterEqual(pauses[0], 2.0, "the registry said so")
        self.assertLess(pauses[0], pauses[5])
        self.assertLessEqual(max(pauses), RETRY_MAX * (1 + JITTER) + 0.25)
        self.assertGreaterEqual(min(pauses[-10:]), RETRY_MAX - 0.25)
        self.registry.away = False
        self.wait(RETRY_MAX * (1 + JITTER) + 0.25)
        self.assertEqual(self.successResultOf(taking), HERE)

    def test_asked_too_often(self) -> None:
        """A registry that names a time is not asked before."""
        self.registry.busy = True
        taking = self.start(patiently(self.keeper))
        self.wait(39)
        self.assertEqual(len(self.registry.asked), 1)
        self.registry.busy = False
        self.wait(40 * JITTER + 1.25)
        self.assertEqual(self.successResultOf(taking), HERE)

    def test_registry_away_meanwhile(self) -> None:
        """After a registry was away or silent for longer than the lease, the peer is online again."""
        self.take()
        keeping = self.keep()
        for trouble in ("away", "deaf"):
            setattr(self.registry, trouble, True)
            self.wait(300)
            self.assertEqual(self.presence(), Presence.OFFLINE)
            self.assertFalse(self.keeper.in_touch)
            setattr(self.registry, trouble, False)
            self.wait(RETRY_MAX * (1 + JITTER) + TIMEOUT + 0.25)
            self.assertEqual(self.presence(), Presence.ONLINE)
            self.assertTrue(self.keeper.in_touch)
        self.assertNoResult(keeping)

    def test_registry_lost_everything(self) -> None:
        """A registry that has lost the name gets it again at the next heartbeat."""
        self.take()
        self.keep()
        self.registry.lose_everything()
        self.wait(HEARTBEAT_TO + 0.25)
        self.assertEqual(self.presence(), Presence.ONLINE)

    def test_registry_lost_everything_and_knows(self) -> None:
        """A registry that notices the loss gives the name back to its owner, by the receipt, and to nobody else."""
        self.take()
        self.registry.store.lose()
        thief = self.keeper_of("thief")
        self.failureResultOf(self.start(thief.take()), RegistryUnavailable)
        self.keeper = self.keeper_of("bob")
        self.take()
        self.assertEqual(self.owner(), self.identity().key.public)
        self.wait(PRESENCE_LEASE)
        self.failureResultOf(self.start(thief.take()), NameTaken)

    def test_lost_to_somebody(self) -> None:
        """If somebody else has claimed the name meanwhile, the keeper fails and claims no more."""
        self.take()
        keeping = self.keep()
        self.take_name_away()
        self.wait(HEARTBEAT_TO + 0.25)
        self.failureResultOf(keeping, NameTaken)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_moved(self) -> None:
        """A peer whose address changes is registered under the new one."""
        self.take()
        self.keep()
        self.address = PeerAddress("10.0.0.99", 50000)
        self.wait(HEARTBEAT_TO + 0.25)
        self.assertEqual((self.registered(), self.keeper.registered), (self.address, self.address))

    def test_location_changed(self) -> None:
        """A change of the location is published within a second, several at once are one, and not too often."""
        self.take()
        self.keep()
        self.wait(CHANGE_EVERY)
        self.registry.asked.clear()
        self.more = (THERE,)
        for _ in range(3):
            self.keeper.location_changed()
        self.wait(SETTLE)
        view = self.view()
        assert view is not None
        self.assertEqual(view.addresses, (str(HERE), str(THERE)))
        self.assertEqual(self.registry.count(b"PUT"), 1)
        self.more = ()
        self.keeper.location_changed()
        self.wait(CHANGE_EVERY - 1)
        self.assertEqual(self.registry.count(b"PUT"), 1)
        self.wait(1.25)
        self.assertEqual(self.registry.count(b"PUT"), 2)

    def test_same_location(self) -> None:
        """A change that is undone before it is published is a heartbeat, and no claim."""
        self.take()
        self.keep()
        self.registry.asked.clear()
        self.keeper.location_changed()
        self.wait(CHANGE_EVERY + SETTLE)
        self.assertEqual(self.registry.count(b"PUT"), 0)
        self.assertEqual(self.registry.count(b"POST"), 1)

    def test_seen(self) -> None:
        """The address that the registry has seen is told after each claim."""
        self.take()
        self.assertEqual(self.seen, ["10.0.0.5"])

    def test_nudged(self) -> None:
        """A nudge renews the presence at once, so a registry that has restarted has the peer again."""
        self.take()
        self.keep()
        self.wait(5)
        self.registry.lose_everything()
        self.keeper.nudge()
        self.wait(0.25)
        self.assertEqual(self.presence(), Presence.ONLINE)

    def test_back_after_a_silent_network(self) -> None:
        """After a network was silent for longer than the lease, the peer is online again within 10 s by itself, and at
        once by a nudge, whether a request waits for an answer or a retry is due.
        """
        self.take()
        self.keep()
        for nudges in (False, True):
            for silent in (138.0, 139.625, 141.25, 142.875):
                self.registry.deaf = True
                self.wait(silent)
                self.assertEqual(self.presence(), Presence.OFFLINE)
                self.registry.deaf = False
                if nudges:
                    self.keeper.nudge(restart=True)
                    self.wait(0.25)
                else:
                    self.wait(10)
                self.assertEqual(self.presence(), Presence.ONLINE, (nudges, silent))

    def test_away_for_long(self) -> None:
        """A registry that is away for long is asked less and less often."""
        self.take()
        self.keep()
        self.registry.away = True
        self.wait(HEARTBEAT_TO + 60)
        self.registry.asked.clear()
        self.wait(60)
        self.assertLessEqual(max(self.pauses()), RETRY_MAX_AT_FIRST * (1 + JITTER) + 0.25)
        self.wait(HOPEFUL)
        self.registry.asked.clear()
        self.wait(120)
        self.assertGreaterEqual(min(self.pauses()), RETRY_MAX - 0.25)

    def test_nudged_and_stopped(self) -> None:
        """A keeper that was nudged while a request waits can be stopped, and leaves no timer."""
        self.take()
        keeping = self.start(self.keeper.keep())
        self.registry.deaf = True
        self.wait(HEARTBEAT_TO + 0.25)
        self.keeper.nudge(restart=True)
        self.keeper.location_changed()
        self.settle()
        self.assertNoResult(keeping)
        keeping.cancel()
        stopping = self.start(self.keeper.stop())
        self.wait(RELEASE_TIMEOUT)
        self.successResultOf(stopping)
        self.failureResultOf(keeping, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_loopback(self) -> None:
        """A loopback address causes a warning when it is registered, not at each heartbeat."""
        self.take()
        self.keep()
        with capturedLogs() as logs:
            self.address = PeerAddress("127.0.0.1", 50000)
            self.wait(3 * HEARTBEAT_TO)
        warned = [formatEvent(each) for each in logs if each["log_level"] is LogLevel.warn]
        self.assertEqual(warned, [f"loopback address: name=bob. {LOCAL_ONLY}"])

    def test_stopped(self) -> None:
        """Cancelling leaves no timer, whatever the keeper was waiting for."""
        for trouble, seconds in ((None, 1), ("away", 60), ("deaf", 47)):
            self.take()
            keeping = self.start(self.keeper.keep())
            if trouble:
                setattr(self.registry, trouble, True)
            self.wait(seconds)
            keeping.cancel()
            self.settle()
            self.failureResultOf(keeping, CancelledError)
            self.assertEqual(self.clock.getDelayedCalls(), [], trouble)
            if trouble:
                setattr(self.registry, trouble, False)

    def test_left(self) -> None:
        """A peer that leaves is offline at once, still owns the name, and can come back at once."""
        self.take()
        self.result(self.keeper.stop())
        self.assertEqual((self.presence(), self.registered()), (Presence.OFFLINE, None))
        self.failureResultOf(self.start(self.keeper_of("other").take()), NameTaken)
        self.keeper = self.keeper_of("bob")
        self.take()
        self.assertEqual(self.presence(), Presence.ONLINE)

    def test_left_without_a_registry(self) -> None:
        """Stopping waits at most a second for the registry, and succeeds without it."""
        self.take()
        self.registry.away = True
        self.result(self.keeper.stop())
        self.registry.deaf = True
        self.keeper = self.keeper_of("bob")
        leaving = self.start(self.keeper.stop())
        self.wait(RELEASE_TIMEOUT)
        self.successResultOf(leaving)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_to_leave(self) -> None:
        """A peer that never had the name sends nothing when it stops."""
        self.take()
        asked = len(self.registry.asked)
        self.result(self.keeper_of("other").stop())
        self.assertEqual(len(self.registry.asked), asked)
        self.assertEqual(self.presence(), Presence.ONLINE)

    def test_released(self) -> None:
        """A released name is not claimed again by its keeper; the next peer gets it."""
        self.take()
        keeping = self.keep()
        self.result(self.keeper.release())
        self.assertIsNone(self.view())
        self.wait(HEARTBEAT_TO + 0.25)
        self.failureResultOf(keeping, NameReleased)
        self.result(self.keeper_of("other").take())
        self.assertEqual(self.presence(), Presence.ONLINE)

    def test_rotated(self) -> None:
        """A rotation moves the name to the new key while the peer runs, and its heartbeats count."""
        self.take()
        keeping = self.keep()
        old = self.owner()
        self.result(self.keeper.rotate())
        self.assertNotEqual(self.owner(), old)
        self.assertEqual(self.owner(), self.identity().key.public)
        self.registry.asked.clear()
        self.wait(300)
        self.assertEqual((self.presence(), self.registry.count(b"PUT")), (Presence.ONLINE, 0))
        self.assertNoResult(keeping)

    def test_invitation(self) -> None:
        """An invitation is needed for the first claim only; without it, that fails."""
        self.registry.serve(invite_only=True)
        self.failureResultOf(self.start(self.keeper.take()), InvitationNeeded)
        self.keeper = self.keeper_of("bob", invitation=self.registry.authority.invite(60))
        self.take()
        self.keeper = self.keeper_of("bob")
        self.take()
        self.assertEqual(self.presence(), Presence.ONLINE)


class CopiedKeyTests(KeeperTestCase):
    """Two peers run on copies of one data folder."""

    TWO_BEATS = 2 * HEARTBEAT_TO + 1

    def setUp(self) -> None:
        super().setUp()
        self.take()
        self.logs = self.enterContext(capturedLogs())
        self.keeping = self.keep()
        shutil.copytree(self.base / "bob", self.base / "copy")
        self.copy = self.keeper_of_copy()

    def keeper_of_copy(self) -> NameKeeper:
        self.address = THERE
        copy = self.keeper_of("copy")
        self.address = HERE
        return copy

    def keeper_of(self, folder: str, token: str = TOKEN, *args: Any, **options: Any) -> NameKeeper:
        keeper = super().keeper_of(folder, token, *args, **options)
        address = self.address

        async def find_location() -> OwnLocation:
            return location_at(address)

        keeper._find_location = find_location
        return keeper

    def start_copy(self) -> Deferred[None]:
        self.assertEqual(self.result(self.copy.take()), THERE)
        keeping: Deferred[None] = self.start(self.copy.keep())
        self.addCleanup(self.stop, keeping)
        return keeping

    def warnings(self) -> list[str]:
        return [
            formatEvent(each)
            for each in self.logs
            if each["log_format"].startswith("key in use elsewhere: ")
        ]

    def where(self) -> tuple[str, ...]:
        view = self.view()
        assert view is not None
        return view.addresses

    def test_both_warn(self) -> None:
        """Each peer notices the other within two heartbeats, and warns in its log and status with the remedy."""
        self.start_copy()
        self.assertEqual((self.keeper.elsewhere, self.copy.elsewhere), (None, None))
        self.wait(self.TWO_BEATS)
        warned = self.warnings()[:2]
        keepers = [(self.keeper, THERE), (self.copy, HERE)]
        for (keeper, other), warning in zip(keepers, warned, strict=True):
            assert keeper.elsewhere is not None
            self.assertEqual(keeper.elsewhere.address, str(other))
            self.assertLessEqual(self.wall() - keeper.elsewhere.noticed, self.TWO_BEATS)
            for each in ("name=bob", str(other), "`p2pshare key rotate`"):
                self.assertIn(each, warning)

    def test_bounded(self) -> None:
        """They do not claim for ever: the peer that started last has the name, and the other one waits."""
        keepings = [self.keeping, self.start_copy()]
        self.wait(2 * self.TWO_BEATS)
        self.registry.asked.clear()
        for _ in range(100):
            self.wait(HEARTBEAT_TO)
            self.assertEqual(self.where(), (str(THERE),))
        self.assertEqual(self.registry.count(b"PUT"), 0)
        self.assertEqual(len(self.warnings()), 2 * TAKE_BACKS_MAX + 1)
        assert self.keeper.elsewhere is not None and self.copy.elsewhere is not None
        self.assertEqual((self.keeper.elsewhere.waits, self.copy.elsewhere.waits), (True, False))
        self.assertEqual((self.keeper.in_touch, self.keeper.registered), (False, None))
        waits, has_it = self.keeper.elsewhere, replace(self.keeper.elsewhere, waits=False)
        self.assertNotEqual(elsewhere_text(waits), elsewhere_text(has_it))
        for each in keepings:
            self.assertNoResult(each)

    def test_comes_back(self) -> None:
        """The waiting peer claims the name when the other one leaves or vanishes, and watches again."""
        keeping = self.start_copy()
        self.wait(3 * self.TWO_BEATS)
        self.assertEqual(self.where(), (str(THERE),))
        self.stop(keeping)
        self.result(self.copy.stop())
        self.wait(HEARTBEAT_TO + 1)
        self.assertEqual((self.where(), self.keeper.registered), ((str(HERE),), HERE))
        assert self.keeper.elsewhere is not None
        self.assertFalse(self.keeper.elsewhere.waits)
        for _ in range(20):
            self.wait(HEARTBEAT_TO)
        self.assertEqual(len(self.warnings()), 2 * TAKE_BACKS_MAX + 1)
        self.copy = self.keeper_of_copy()
        keeping = self.start_copy()
        self.wait(3 * self.TWO_BEATS)
        self.assertEqual(len(self.warnings()), 2 * (2 * TAKE_BACKS_MAX + 1))
        self.stop(keeping)
        self.wait(PRESENCE_LEASE + HEARTBEAT_TO)
        self.assertEqual(self.where(), (str(HERE),))

    def test_rotated(self) -> None:
        """A rotation by the waiting peer ends the conflict and the warning: the copy loses the name."""
        keeping = self.start_copy()
        self.wait(3 * self.TWO_BEATS)
        self.result(self.keeper.rotate())
        self.assertEqual(self.where(), (str(HERE),))
        self.assertIsNone(self.keeper.elsewhere)
        self.wait(HEARTBEAT_TO + 1)
        self.failureResultOf(keeping, NameTaken)
        for _ in range(5):
            self.wait(HEARTBEAT_TO)
            self.assertEqual(self.where(), (str(HERE),))

    def test_used_in_passing(self) -> None:
        """A claim from a copy without a running peer is noticed, too; the name is claimed back each time."""
        for number in range(1, 4):
            self.result(Owner(self.client(), self.copy._owner.identity, self.wall).claim_offline())
            self.wait(HEARTBEAT_TO + 1)
            self.assertEqual((len(self.warnings()), self.where()), (number, (str(HERE),)))
            assert self.keeper.elsewhere is not None
            self.assertIsNone(self.keeper.elsewhere.address)

    def test_own_restart(self) -> None:
        """A killed peer that restarts, however soon and often, is not taken for another one."""
        for _ in range(3):
            self.stop(self.keeping)
            self.keeper = self.keeper_of("bob")
            self.take()
            self.keeping = self.keep()
            self.wait(self.TWO_BEATS)
        self.assertEqual((self.warnings(), self.keeper.elsewhere), ([], None))

    def test_lost_store(self) -> None:
        """A registry that has lost its store is not taken for another use of the key."""
        self.registry.lose_everything()
        self.wait(self.TWO_BEATS)
        self.assertEqual((self.warnings(), self.where()), ([], (str(HERE),)))

    def test_registry_away(self) -> None:
        """While the registry is away, the waiting peer continues to wait."""
        self.start_copy()
        self.wait(3 * self.TWO_BEATS)
        self.registry.away = True
        self.wait(PRESENCE_LEASE - HEARTBEAT_TO - RETRY_MAX)
        self.registry.away = False
        self.wait(self.TWO_BEATS)
        self.assertEqual(self.where(), (str(THERE),))
        self.assertNoResult(self.keeping)


class OriginalRegistryTests(KeeperTestCase):
    """An original registry, which gives a name to the first peer that asks."""

    def setUp(self) -> None:
        super().setUp()
        self.registry.original = True

    def test_kept(self) -> None:
        """The name is registered, kept, and free again when the peer leaves."""
        self.take()
        self.keep()
        self.wait(300)
        self.assertEqual(self.registered(), HERE)
        self.result(self.keeper.stop())
        self.assertIsNone(self.registered())

    def test_killed(self) -> None:
        """The token gives the name back after a kill; for others it is taken."""
        self.take()
        self.failureResultOf(self.start(self.keeper_of("other", OTHER_TOKEN).take()), NameTaken)
        self.keeper = self.keeper_of("bob")
        self.take()
        self.wait(PRESENCE_LEASE + 0.25)
        self.assertIsNone(self.registered())

    def test_released(self) -> None:
        """A released name is free and is not registered again."""
        self.take()
        keeping = self.keep()
        self.result(self.keeper.release())
        self.assertIsNone(self.registered())
        self.wait(HEARTBEAT_TO + 0.25)
        self.failureResultOf(keeping, NameReleased)

    def test_learns_of_owners(self) -> None:
        """When the registry begins to know owners, the next renewal claims the name by key."""
        self.take()
        self.keep()
        self.registry.original = False
        self.wait(HEARTBEAT_TO + 0.25)
        self.assertEqual(self.owner(), self.identity().key.public)
        self.assertEqual((self.presence(), self.registered()), (Presence.ONLINE, HERE))

    def test_no_way_back(self) -> None:
        """A registry that has known our key cannot downgrade us: a start fails, a running peer waits (threat 36)."""
        self.registry.original = False
        self.take()
        keeping = self.keep()
        self.registry.original = True
        restarted = self.keeper_of("bob", known=REGISTRY_KEY)
        self.failureResultOf(self.start(restarted.take()), RegistryDowngraded)
        self.registry.lose_everything()
        self.wait(300)
        self.assertIsNone(self.registered())
        self.registry.original = False
        self.wait(RETRY_MAX * (1 + JITTER) + 0.25)
        self.assertEqual(self.presence(), Presence.ONLINE)
        self.assertNoResult(keeping)

    def test_no_owners_without_classic(self) -> None:
        """A peer without the classic protocol does not register in an original registry (threat 36)."""
        self.registry.original = True
        keeper = self.keeper_of("carol", classic=False)
        self.failureResultOf(self.start(keeper.take()), RegistryHasNoOwners)
        self.assertIsNone(self.registered())

    def test_names_for_ever(self) -> None:
        """A registry that keeps names for ever rejects renewals, which is no error."""
        self.registry.forever = {}
        self.take()
        keeping = self.keep()
        self.wait(300)
        self.assertNoResult(keeping)
        self.result(self.keeper.stop())
        self.assertEqual(list(self.registry.forever), ["bob"])
        self.address = PeerAddress("10.0.0.6", 50000)
        self.failureResultOf(self.start(self.keeper_of("other").take()), NameTaken)

    def test_owned_name(self) -> None:
        """A classic registration cannot take an owned name."""
        self.registry.original = False
        self.take()
        address = PeerAddress("10.6.6.6", 1)
        taking = self.start(self.client().register("bob", address, OTHER_TOKEN, PRESENCE_LEASE))
        self.failureResultOf(taking, NameTaken)
        self.assertEqual(self.registered(), HERE)
