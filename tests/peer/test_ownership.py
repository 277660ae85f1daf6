"""Tests of `p2pshare.peer.ownership`, with a registry in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from p2pshare.errors import (
    ClockWrong,
    NameTaken,
    NoSuchPeer,
    NotOwner,
    RegistryHasNoOwners,
    RegistryRefused,
    RegistryUnavailable,
    RegistryUnreachable,
    StaleRecord,
)
from p2pshare.peer.find.lookup import caps_of
from p2pshare.peer.ownership import (
    AGE_MAX,
    AHEAD_MAX,
    CAPS,
    FIRST_RELEASE,
    NUMBER_AHEAD_MAX,
    TRIES_MAX,
    Owner,
    is_believable,
)
from p2pshare.storage.identity.identity import Identity
from p2pshare.web.problems import problem
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.candidates import Candidate
from p2pshare.wire.registry_answers import ClaimBody, Granted, Presence
from p2pshare.wire.statements import Location, Record, Release, Rotation, digest_of
from p2pshare.wire.strict_json import INTEGER_MAX
from tests.peer.registries import REGISTRY_KEY, START, RegistryTestCase

HERE = Candidate.parse("host/10.0.0.5:50000")


class OwnershipTestCase(RegistryTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.bob = self.identity()

    def owner_of(self, identity: Identity) -> Owner:
        return Owner(self.client(), identity, self.wall)

    def claim(self, identity: Identity | None = None) -> Granted:
        granted: Granted = self.result(self.owner_of(identity or self.bob).claim([HERE]))
        return granted

    def rotate(self, candidates: list[Candidate] | None = None) -> Any:
        return self.owner_of(self.bob).rotate(candidates)

    def release(self, identity: Identity | None = None) -> Any:
        return self.owner_of(identity or self.bob).release()

    def refuse(self, word: str, **extra: Any) -> None:
        """Let the registry answer every statement with a problem; `refused` has the bodies."""
        real = type(self.registry).render
        self.refused: list[bytes] = []

        def render(request: Any) -> Any:
            if request.method not in (b"PUT", b"DELETE"):
                return real(self.registry, request)
            self.refused.append(request.content.read())
            reply = problem(word, **extra)
            request.setResponseCode(reply.status)
            return b"".join(reply.body)

        self.patch(self.registry, "render", render)

    def restart(self) -> None:
        """Kill the owner, and start it again."""
        self.bob = self.identity()


class ClaimTests(OwnershipTestCase):
    def test_record(self) -> None:
        """A record is for this registry, and numbered by the time; the receipt is kept."""
        granted = self.claim()
        view = self.view()
        assert view is not None and view.record is not None
        record = Record.read(view.record, self.bob.key.public)
        self.assertEqual((record.name, record.aud), ("bob", REGISTRY_KEY))
        assert view.location is not None
        self.assertEqual(record.location, digest_of(view.location))
        location = Location.parse(view.location)
        self.assertEqual((location.addresses, len(location.salt)), ((str(HERE.address),), 22))
        self.claim()
        again = self.view()
        assert again is not None and again.location is not None
        self.assertNotEqual(Location.parse(again.location).salt, location.salt)
        self.assertEqual(record.seq, int(1000 * self.wall()))
        self.assertEqual(self.identity().receipt, granted.receipt)

    def test_clock(self) -> None:
        """A wrong clock costs one more request, once. The numbers still follow the clock here."""
        for ahead in (FIRST_RELEASE - START, -5000, 5000, AHEAD_MAX):
            self.registry.lose_everything()
            self.registry.ahead = float(ahead)
            identity = self.identity(f"ahead {ahead}")
            owner = self.owner_of(identity)
            self.registry.asked.clear()
            for requests in (3, 4):  # the first of which is for the registry's key
                self.result(owner.claim([HERE]))
                self.assertEqual(len(self.registry.asked), requests)
            self.assertLess(identity.seq, 1000 * self.wall() + 10)

    def test_clock_that_was_never_set(self) -> None:
        """A clock that is decades behind, as without a battery, is corrected."""
        for now in (0, 946_684_800, FIRST_RELEASE - 1):
            self.registry.lose_everything()
            owner = Owner(self.client(), self.identity(f"at {now}"), lambda now=now: now)  # type: ignore[misc]
            self.result(owner.claim([HERE]))
            view = self.view()
            assert view is not None and view.record is not None
            self.assertEqual(Record.read(view.record).iat, START)

    def test_time_that_cannot_be(self) -> None:
        """A time far ahead of the clock here, or before the first release, is not signed and changes nothing."""
        for time in (0, FIRST_RELEASE - 1, START + AHEAD_MAX + 1, 2**40, INTEGER_MAX):
            self.refuse("wrong-time", time=time)
            self.failureResultOf(self.start(self.owner_of(self.bob).claim([HERE])), ClockWrong)
            self.failureResultOf(self.start(self.release()), ClockWrong)
            self.assertEqual(len(self.refused), 2, "it is not tried again")
            for body in self.refused:
                texts = json.loads(body)
                statement = (
                    Release.read(texts["release"])
                    if b"release" in body
                    else Record.read(texts["record"])
                )
                self.assertEqual(statement.iat, START)
        self.assertLess(self.identity().seq, 1000 * START + 100)
        self.assertFalse(is_believable(FIRST_RELEASE + AGE_MAX + 1, 0.0))

    def test_number_that_cannot_be(self) -> None:
        """A number far ahead of the time is rejected and changes nothing; a possible one is followed."""
        latest = 1000 * START + NUMBER_AHEAD_MAX
        for seq in (latest + 1, 2**52 - 2, INTEGER_MAX):
            self.refuse("stale", seq=seq)
            self.failureResultOf(self.start(self.owner_of(self.bob).claim([HERE])), RegistryRefused)
            self.assertLess(self.identity().seq, 1000 * START + 100)
        self.refuse("stale", seq=latest)
        self.failureResultOf(self.start(self.owner_of(self.bob).claim([HERE])), StaleRecord)
        self.assertEqual(self.identity().seq, latest + TRIES_MAX - 1)

    def test_clock_that_cannot_be_right(self) -> None:
        """A registry that rejects every time is an error after `TRIES_MAX` tries."""
        self.patch(self.registry, "wall", lambda: self.wall() + 1000 * len(self.registry.asked))
        self.registry.serve()
        self.failureResultOf(self.start(self.owner_of(self.bob).claim([HERE])), ClockWrong)
        self.assertEqual(self.registry.count(b"PUT"), TRIES_MAX)

    def test_numbers_lost(self) -> None:
        """An owner with too small a number, from a copy of the folder or an old export, catches up."""
        self.bob.raise_seq(int(1000 * self.wall()) + 1_000_000)
        self.claim()
        portable = self.bob.portable()
        (self.base / "bob" / "identity").unlink()
        self.restart()
        self.assertEqual(self.bob.seq, 0)
        self.claim()
        self.assertGreater(self.bob.seq, portable.seq)

    def test_numbers_that_stay_small(self) -> None:
        """An owner that does not catch up fails after `TRIES_MAX` tries."""
        self.bob.raise_seq(int(1000 * self.wall()) + 1_000_000)
        self.claim()
        (self.base / "bob" / "identity").unlink()
        self.restart()
        self.patch(type(self.bob), "raise_seq", lambda *_: None)
        self.registry.asked.clear()
        self.failureResultOf(self.start(self.owner_of(self.bob).claim([HERE])), StaleRecord)
        self.assertEqual(self.registry.count(b"PUT"), TRIES_MAX)

    def test_taken(self) -> None:
        """A name of another owner is claimed once."""
        self.claim()
        self.registry.asked.clear()
        other = self.owner_of(self.identity("other"))
        self.failureResultOf(self.start(other.claim([HERE])), NameTaken)
        self.assertEqual(self.registry.count(b"PUT"), 1)


class RotationTests(OwnershipTestCase):
    def test_alone(self) -> None:
        """Without a running peer, a rotation keeps the capabilities, and the name is offline."""
        self.claim()
        old = self.bob.key.public
        self.result(self.rotate())
        view = self.view()
        assert view is not None
        self.assertEqual(view.key, self.bob.key.public)
        self.assertEqual((view.addresses, view.summary.presence), ((), Presence.OFFLINE))
        self.assertEqual(caps_of(view), set(CAPS))
        rotation = Rotation.read(view.rotations[-1], old)
        self.assertEqual((rotation.key, rotation.new), (old, self.bob.key.public))
        self.restart()
        self.claim()
        self.assertEqual(self.owner(), self.bob.key.public)

    def test_of_a_running_peer(self) -> None:
        """With a running peer, a rotation keeps it online at its present address."""
        self.claim()
        self.result(self.rotate([Candidate.parse("host/10.0.0.6:1")]))
        view = self.view()
        assert view is not None
        self.assertEqual(view.addresses, ("10.0.0.6:1",))
        self.assertEqual(view.summary.presence, Presence.ONLINE)

    def test_chain(self) -> None:
        """Each key signs the next, also within one second."""
        self.claim()
        keys = [self.bob.key.public]
        for _ in range(3):
            self.clock.advance(0.001)
            self.result(self.rotate())
            keys.append(self.bob.key.public)
        view = self.view()
        assert view is not None
        chain = [Rotation.read(each) for each in view.rotations]
        self.assertEqual([each.key for each in chain], keys[:-1])
        self.assertEqual([each.new for each in chain], keys[1:])

    def test_last_rotation_of_no_sensible_time(self) -> None:
        """A registry cannot make the owner sign for a time far from now."""
        self.claim()
        self.result(self.rotate())
        owner = self.owner_of(self.bob)
        view = self.view()
        assert view is not None
        far = Rotation("bob", self.bob.key.public, self.bob.key.public, 2**52, REGISTRY_KEY)
        owner.follow(replace(view, rotations=(far.sign(self.bob.key),)))
        self.clock.advance(1)
        following = self.bob.begin_rotation()
        self.result(owner.claim([HERE], successor=following))
        view = self.view()
        assert view is not None
        self.assertEqual(Rotation.read(view.rotations[-1]).iat, int(self.wall()))

    def test_wrong_clock(self) -> None:
        """A rotation corrects a wrong clock, too."""
        self.claim()
        self.registry.ahead = -10_000_000.0
        self.result(self.rotate())
        self.assertEqual(self.owner(), self.bob.key.public)

    def test_nothing_to_rotate(self) -> None:
        """An unclaimed name, another's name and a registry without owners are errors; the key stays."""
        key = self.bob.key.public
        self.failureResultOf(self.start(self.rotate()), NoSuchPeer)
        self.claim(self.identity("other"))
        self.failureResultOf(self.start(self.rotate()), NameTaken)
        self.registry.original = True
        self.failureResultOf(self.start(self.rotate()), RegistryHasNoOwners)
        self.registry.away = True
        self.failureResultOf(self.start(self.rotate()), RegistryUnavailable)
        self.restart()
        self.assertEqual(self.bob.key.public, key)

    def test_classic_name(self) -> None:
        """A classic name has no key to rotate."""
        self.result(self.client().register("bob", PeerAddress("10.6.6.6", 1)))
        self.failureResultOf(self.start(self.rotate()), NameTaken)
        self.assertIsNone(self.bob.next_key)

    def test_registry_goes_away(self) -> None:
        """A registry that goes away after it has accepted the new key is no failure."""
        self.claim()
        real = self.registry.render

        def render(request: Any) -> Any:
            self.registry.away = request.method == b"POST"
            return real(request)

        self.patch(self.registry, "render", render)
        self.result(self.rotate())
        self.assertEqual(self.owner(), self.bob.key.public)
        self.assertEqual(self.presence(), Presence.ONLINE, "for the rest of the lease")

    def test_given_to_somebody_else(self) -> None:
        """An owner whose name somebody else has claimed during an interrupted rotation gets an error."""
        self.claim()
        self.bob.begin_rotation()
        self.registry.lose_everything()
        self.claim(self.identity("other"))
        self.failureResultOf(self.start(self.owner_of(self.bob).claim([HERE])), NameTaken)
        self.assertIsNotNone(self.bob.next_key)

    def test_killed_before_the_registry_knew(self) -> None:
        """Killed with the new key on the disk, the owner continues with the old one, and can rotate again."""
        self.claim()
        key = self.bob.key.public
        following = self.bob.begin_rotation().public
        self.restart()
        self.claim()
        self.assertEqual(self.owner(), key)
        self.result(self.rotate())
        self.assertEqual(self.owner(), following)

    def lose_the_reply(self) -> None:
        """Let the registry accept the new key, and kill the owner before the reply."""
        self.claim()
        self.registry.loses_replies = False
        real = self.registry.render

        def render(request: Any) -> Any:
            self.registry.loses_replies = request.method == b"PUT"
            return real(request)

        patch = self.patch(self.registry, "render", render)
        rotating = self.start(self.rotate())
        self.wait(6)
        self.failureResultOf(rotating, RegistryUnreachable)
        patch.restore()
        self.registry.loses_replies = False
        self.assertNotEqual(self.owner(), self.bob.key.public)

    def test_killed_after_the_registry_knew(self) -> None:
        """Killed after the registry has accepted the new key, the owner continues with that."""
        self.lose_the_reply()
        self.restart()
        self.claim()
        self.assertEqual(self.owner(), self.bob.key.public)
        self.assertIsNone(self.bob.next_key)

    def test_asked_again_after_the_registry_knew(self) -> None:
        """To rotate again then finishes the rotation and begins no second one."""
        self.lose_the_reply()
        self.restart()
        self.result(self.rotate())
        self.assertEqual(self.owner(), self.bob.key.public)
        view = self.view()
        assert view is not None
        self.assertEqual(len(view.rotations), 1)

    def test_released_after_the_registry_knew(self) -> None:
        """The name can be released then, too."""
        self.lose_the_reply()
        self.restart()
        self.result(self.release())
        self.assertIsNone(self.view())

    def test_registry_set_back(self) -> None:
        """A registry that has lost a rotation gets it again, signed by the old key."""
        self.claim()
        record = self.bob
        self.result(self.rotate())
        old = record.old_key
        assert old is not None
        self.registry.lose_everything()
        before = self.identity("before")
        before.key = old
        self.claim(before)
        self.assertEqual(self.owner(), old.public)
        self.clock.advance(1)
        self.restart()
        self.claim()
        view = self.view()
        assert view is not None
        self.assertEqual((view.key, len(view.rotations)), (self.bob.key.public, 1))

    def test_empty_store(self) -> None:
        """After a loss of the store, the receipt for the new key brings the name back."""
        self.claim()
        self.result(self.rotate())
        self.registry.store.lose()
        self.restart()
        self.claim()
        self.assertEqual(self.owner(), self.bob.key.public)


class ReleaseTests(OwnershipTestCase):
    def test_released(self) -> None:
        """A released name is free, and its replayed record cannot claim it."""
        self.claim()
        view = self.view()
        assert view is not None and view.record is not None
        self.result(self.release())
        self.assertEqual((self.view(), self.identity().receipt), (None, None))
        replayed = self.client().claim("bob", ClaimBody(view.record))
        self.failureResultOf(self.start(replayed), StaleRecord)
        self.claim(self.identity("other"))

    def test_twice(self) -> None:
        """To release an unclaimed name is no error."""
        self.claim()
        for _ in range(2):
            self.result(self.release())
        self.assertIsNone(self.view())

    def test_another_key(self) -> None:
        """Another key cannot release the name."""
        self.claim()
        other = self.identity("other")
        self.failureResultOf(self.start(self.release(other)), NotOwner)
        self.assertEqual(self.owner(), self.bob.key.public)

    def test_wrong_clock(self) -> None:
        """A release corrects a wrong clock."""
        self.claim()
        self.registry.ahead = 10_000.0
        self.result(self.release())
        self.assertIsNone(self.view())

    def test_registry_without_owners(self) -> None:
        """An original registry has no owners, so nothing is released."""
        self.registry.original = True
        self.failureResultOf(self.start(self.release()), RegistryHasNoOwners)
        self.assertEqual(self.registry.count(b"DELETE"), 0)
