"""Tests of `p2pshare.peer.share.admission`, with a registry in memory."""

from __future__ import annotations

import errno
from typing import Any
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel, globalLogPublisher

from p2pshare.peer.ownership import Owner
from p2pshare.peer.share.admission import (
    PATIENCE,
    REMEMBER,
    REMEMBER_NO,
    RESOLVE_PAUSE,
    RESOLVE_PAUSE_MAX,
    RETRY_AFTER,
    Admission,
    NotAdmitted,
)
from p2pshare.storage.identity import known_file
from p2pshare.storage.identity.identity import Identity
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.storage.os_errors import plain_reason
from p2pshare.testing.network import ThreadlessReactor
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.reach.candidates import Candidate
from p2pshare.wire.registry_answers import PeerView
from p2pshare.wire.session_messages import Refusal
from tests.peer.registries import URL, RegistryTestCase

HERE = Candidate.parse("host/10.0.0.5:50000")


class AdmissionTestCase(RegistryTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.reactor: Any = ThreadlessReactor()
        self.known = KnownPeers(self.base / "alice", URL)
        self.admission = self.admission_of()
        self.bob = self.identity()
        self.key = self.bob.key.public
        self.events: list[Any] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def admission_of(self, **bounds: int) -> Admission:
        return Admission(self.reactor, self.client(), self.known, **bounds)

    def claim(self, identity: Identity) -> None:
        self.result(Owner(self.client(), identity, self.wall).claim([HERE]))

    def thief(self) -> Identity:
        """Return another owner of the name, in a registry that lost its store."""
        self.registry.lose_everything()
        thief = self.identity("thief")
        self.claim(thief)
        return thief

    def admit(self, key: PublicKey | None = None) -> str:
        """Return the name of an opener."""
        name: str = self.result(self.admission.admit(key or self.key))
        return name

    def refusal(self, key: PublicKey | None = None) -> tuple[Refusal, int]:
        """Return why an opener is refused."""
        failure = self.failureResultOf(
            self.start(self.admission.admit(key or self.key)), NotAdmitted
        )
        return failure.value.why, failure.value.retry_after

    def later(self, seconds: float) -> None:
        self.reactor.advance(seconds)

    def warnings(self) -> list[str]:
        return [
            each["log_format"].format(**each)
            for each in self.events
            if each["log_level"] >= LogLevel.warn
        ]


class AdmitTests(AdmissionTestCase):
    def test_known_from_now_on(self) -> None:
        """The owner of a name is admitted, and its key is pinned."""
        self.claim(self.bob)
        self.assertEqual(self.admit(), "bob")
        self.assertEqual(self.known.key("bob"), self.key)

    def test_stranger(self) -> None:
        """A key without a name is refused as a stranger, for a short time, since it may be about to claim one."""
        self.assertEqual(self.refusal(), (Refusal.STRANGER, 0))
        self.claim(self.bob)
        self.assertEqual(self.refusal(), (Refusal.STRANGER, 0))
        self.later(REMEMBER_NO)
        self.assertEqual(self.admit(), "bob")

    def test_wrong_clock(self) -> None:
        """A peer whose clock is far ahead still admits: the registry says which key owns a name now."""
        self.registry.ahead = -300.0 * 86400
        self.claim(self.bob)
        self.assertEqual(self.admit(), "bob")

    def test_given_up(self) -> None:
        """A former owner is a stranger, even if its key is pinned."""
        self.claim(self.bob)
        self.admit()
        self.result(Owner(self.client(), self.bob, self.wall).release())
        self.later(REMEMBER)
        self.assertEqual(self.refusal(), (Refusal.STRANGER, 0))

    def test_swapped_key(self) -> None:
        """Threat 15: another key than the pinned one is refused; the log has both keys."""
        self.claim(self.bob)
        self.admit()
        thief = self.thief().key.public
        self.assertEqual(self.refusal(thief), (Refusal.CHANGED, 0))
        (said,) = self.warnings()
        self.assertIn(self.key.grouped, said)
        self.assertIn(thief.grouped, said)
        self.assertEqual(self.known.key("bob"), self.key)

    def test_two_answers(self) -> None:
        """Threat 15: contradictory answers about the key and the name admit nobody."""
        self.claim(self.bob)
        other = self.identity("carol", "carol").key.public
        with mock.patch.object(
            self.admission._client, "look_up_key", side_effect=_answer(self.view())
        ):
            self.assertEqual(self.refusal(other), (Refusal.STRANGER, 0))
        with mock.patch.object(self.admission._client, "look_up_key", side_effect=_answer(None)):
            third = self.identity("dave", "dave").key.public
            self.assertEqual(self.refusal(third), (Refusal.STRANGER, 0))
        self.assertIsNone(self.known.key("bob"))
        self.assertIn(other.grouped, self.warnings()[0])

    def test_rotation(self) -> None:
        """A key that the pinned one has signed replaces it; the old key is a stranger's."""
        self.claim(self.bob)
        self.admit()
        self.result(Owner(self.client(), self.bob, self.wall).rotate([HERE]))
        self.assertNotEqual(self.bob.key.public, self.key)
        self.assertEqual(self.admit(self.bob.key.public), "bob")
        self.assertEqual(self.known.key("bob"), self.bob.key.public)
        self.later(REMEMBER)
        self.assertEqual(self.refusal(self.key), (Refusal.STRANGER, 0))
        self.assertEqual(self.warnings(), [])

    def test_registry_away(self) -> None:
        """While the registry is away, pinned keys are admitted, and others are asked to come later."""
        self.claim(self.bob)
        carol = self.identity("carol", "carol")
        self.claim(carol)
        self.admit()
        self.later(REMEMBER)
        self.registry.away = True
        self.assertEqual(self.admit(), "bob")
        self.assertEqual(self.refusal(carol.key.public), (Refusal.LATER, 2))
        self.registry.away, self.registry.busy = False, True
        self.later(REMEMBER_NO)
        self.assertEqual(self.admit(), "bob")
        self.assertEqual(self.refusal(carol.key.public), (Refusal.LATER, 40))
        self.registry.busy = False
        self.later(REMEMBER_NO)
        self.assertEqual(self.admit(carol.key.public), "carol")

    def test_registry_deaf(self) -> None:
        """A registry that does not answer counts as away after 4 s, before an opener gives up."""
        self.known.pin("bob", self.key, None)
        self.registry.deaf = True
        other = self.identity("carol", "carol").key.public
        asked = [self.start(self.admission.admit(each)) for each in (self.key, other)]
        self.later(PATIENCE)
        self.settle()
        self.assertEqual(self.successResultOf(asked[0]), "bob")
        refused = self.failureResultOf(asked[1], NotAdmitted).value
        self.assertEqual((refused.why, refused.retry_after), (Refusal.LATER, RETRY_AFTER))

    def test_list_unusable(self) -> None:
        """If the pins cannot be read, nobody is admitted, and the log says so."""
        self.claim(self.bob)
        self.known.path.parent.mkdir(parents=True, exist_ok=True)
        self.known.path.write_bytes(b"{")
        self.known.path.chmod(0o600)
        self.assertEqual(self.refusal(), (Refusal.LATER, RETRY_AFTER))
        self.assertIn(KnownPeers.DAMAGED, self.warnings()[0])
        self.registry.away = True
        self.later(REMEMBER_NO)
        self.assertEqual(self.refusal()[0], Refusal.LATER)

    def test_list_cannot_be_written(self) -> None:
        """On a full disk, the owner of a name is admitted without a pin, and the log says so."""
        self.claim(self.bob)
        no_room = OSError(errno.ENOSPC, "")
        with mock.patch.object(known_file, "replace_private", side_effect=no_room):
            self.assertEqual(self.admit(), "bob")
        self.assertRegex(self.warnings()[0], f": name=bob why=.*{plain_reason(no_room)}")
        self.assertIsNone(self.known.key("bob"))
        self.later(REMEMBER)
        self.assertEqual(self.admit(), "bob")
        self.assertEqual(self.known.key("bob"), self.key)

    def test_defect(self) -> None:
        """Threat 18: a defect admits nobody."""
        with mock.patch.object(self.known, "key", side_effect=ZeroDivisionError):
            self.claim(self.bob)
            self.assertEqual(self.refusal(), (Refusal.LATER, RETRY_AFTER))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_remembered(self) -> None:
        """An answer is used for a minute; of too many, the oldest are forgotten."""
        self.admission = self.admission_of(answers_max=2)
        self.claim(self.bob)
        self.registry.asked.clear()
        for _ in range(3):
            self.admit()
            self.later(REMEMBER / 4)
        self.assertEqual(len(self.registry.asked), 1)
        self.later(REMEMBER / 4)
        self.admit()
        self.assertEqual(len(self.registry.asked), 2)
        for name in ("carol", "dave"):
            self.refusal(self.identity(name, name).key.public)
        self.admit()
        self.assertEqual(len(self.registry.asked), 5)

    def test_asked_once(self) -> None:
        """Openers with one key share one question, even if the first of them gives up."""
        self.claim(self.bob)
        self.registry.asked.clear()
        let_go = self.reactor.hold_threads()
        asked = [self.start(self.admission.admit(self.key)) for _ in range(5)]
        asked[0].cancel()
        self.failureResultOf(asked[0], CancelledError)
        asked.append(self.start(self.admission.admit(self.key)))
        let_go()
        self.assertEqual([self.successResultOf(each) for each in asked[1:]], ["bob"] * 5)
        self.assertEqual(len(self.registry.asked), 1)

    def test_bound_of_pins(self) -> None:
        """Strangers cannot fill the list: when it is half full, they are admitted without a pin."""
        self.admission = self.admission_of(pins_max=1)
        self.known.pin("carol", self.key, None)
        self.claim(self.bob)
        self.assertEqual(self.admit(), "bob")
        self.assertIsNone(self.known.key("bob"))


class ResolveTests(AdmissionTestCase):
    def resolve(self, *names: str) -> Deferred[None]:
        return self.start(self.admission.resolve(names))

    def test_resolve(self) -> None:
        """The names in `--allow` are pinned to their present keys."""
        self.claim(self.bob)
        self.successResultOf(self.resolve("bob"))
        self.assertEqual(self.known.key("bob"), self.key)
        thief = self.thief().key.public
        self.successResultOf(self.resolve("bob"))
        self.assertEqual(self.known.key("bob"), self.key)
        self.assertEqual(self.refusal(thief), (Refusal.CHANGED, 0))

    def test_not_yet(self) -> None:
        """An unclaimed name is looked up, with growing delays, until it has a key; the log says so once."""
        resolving = self.resolve("bob", "carol")
        self.assertNoResult(resolving)
        self.claim(self.bob)
        self.later(RESOLVE_PAUSE)
        self.assertEqual(self.known.key("bob"), self.key)
        self.registry.asked.clear()
        for _ in range(100):
            self.later(RESOLVE_PAUSE_MAX / 10)
        self.assertLess(len(self.registry.asked), 20)
        carol = self.identity("carol", "carol")
        self.claim(carol)
        self.later(RESOLVE_PAUSE_MAX)
        self.successResultOf(resolving)
        self.assertEqual(self.known.key("carol"), carol.key.public)
        said = [each for each in self.events if "in the registry yet" in each["log_format"]]
        self.assertEqual(len(said), 1)

    def test_registry_away_then_back(self) -> None:
        """A registry that is away is retried."""
        self.claim(self.bob)
        self.registry.away = True
        resolving = self.resolve("bob")
        self.registry.away = False
        self.later(RESOLVE_PAUSE)
        self.successResultOf(resolving)
        self.assertEqual(self.known.key("bob"), self.key)

    def test_cancelled(self) -> None:
        """Resolving can be cancelled."""
        resolving = self.resolve("bob")
        resolving.cancel()
        self.failureResultOf(resolving, CancelledError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


def _answer(view: PeerView | None) -> Any:
    async def answer(_: PublicKey) -> PeerView | None:
        return view

    return answer
