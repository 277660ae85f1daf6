"""Tests of `p2pshare.peer.lan.admission`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import KeyChanged, NotFound
from p2pshare.names import ON_NETWORK
from p2pshare.peer.lan.admission import (
    COME_AGAIN,
    QUESTIONS_MAX,
    QUESTIONS_TIME,
    STALE,
    WAITING_LIFE,
    AcceptedPeers,
    LanAdmission,
)
from p2pshare.peer.share.admission import NotAdmitted
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.session_messages import Purpose, Refusal
from tests.peer.browse.test_completion import ThreadClock
from tests.peer.lan.network import key_of

BOB, EVE = key_of(7), key_of(66)


class AdmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = ThreadClock()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.lists = AcceptedPeers(self.folder)
        self.questions: list[tuple[str, PublicKey]] = []
        self.admission = self.admission_of()

    def admission_of(self, *allowed: str, **bounds: Any) -> LanAdmission:
        reactor: Any = self.clock
        return LanAdmission(
            reactor,
            self.folder,
            "alice",
            allowed,
            on_question=lambda *question: self.questions.append(question),
            **bounds,
        )

    def admit(
        self, key: PublicKey = BOB, said: str = "bob", purpose: Purpose | None = None
    ) -> str | Refusal:
        admitting = Deferred.fromCoroutine(self.admission.admit(key, said, purpose))
        result: list[Any] = []
        admitting.addBoth(result.append)
        if isinstance(result[0], str):
            return result[0]
        error = result[0].value
        assert isinstance(error, NotAdmitted)
        self.assertEqual(
            error.retry_after, COME_AGAIN if error.why is Refusal.WAITING else error.retry_after
        )
        return error.why

    def accept(self, name: str = "bob", part: str = "") -> PublicKey:
        return self.successResultOf(Deferred.fromCoroutine(self.admission.accept(name, part)))

    def test_accepted_once(self) -> None:
        """A new key waits, the owner is asked once, and after the acceptance it has its name, whatever it says."""
        for _ in range(3):
            self.assertIs(self.admit(), Refusal.WAITING)
            self.clock.advance(COME_AGAIN)
        self.assertEqual(self.questions, [("bob", BOB)])
        self.assertEqual(self.admission.waiting(), [{"name": "bob", "key": str(BOB)}])
        self.assertEqual(self.accept(), BOB)
        self.assertEqual(self.admission.waiting(), [])
        self.assertEqual([self.admit(), self.admit(said="carol"), self.admit(said="")], ["bob"] * 3)
        self.assertEqual(self.admission_of()._peers.name_of(BOB, ()), "bob")

    def test_accepted_elsewhere(self) -> None:
        """An acceptance by another process counts at once."""
        self.admit()
        self.lists.accept("bob", BOB)
        self.assertEqual(self.admit(), "bob")
        self.assertEqual(self.admission.waiting(), [])

    def test_pinned_is_not_accepted(self) -> None:
        """A key that was met when files were fetched from it is admitted only if `--allow` has its name."""
        self.lists.pins.pin("bob", BOB, None)
        self.assertIs(self.admit(said="bobby"), Refusal.WAITING)
        self.admission = self.admission_of("bob")
        self.assertEqual(self.admit(), "bob")
        self.assertIs(self.admit(EVE, "carol"), Refusal.WAITING)

    def test_impersonation(self) -> None:
        """Threat 62: nobody is admitted by a name that it says, neither a known one nor the owner's own."""
        self.lists.accept("bob", BOB)
        self.admission = self.admission_of("bob", "carol", ON_NETWORK)
        self.assertIs(self.admit(EVE, "bob"), Refusal.CHANGED)
        self.assertIs(self.admit(EVE, "alice"), Refusal.CHANGED)
        self.assertIs(self.admit(EVE, ""), Refusal.STRANGER)
        self.assertEqual(self.admit(EVE, "carol"), f"carol{ON_NETWORK}")
        accepting = Deferred.fromCoroutine(self.admission.accept("bob", str(EVE)))
        self.failureResultOf(accepting, KeyChanged)
        self.assertEqual(self.lists.accepted.all(), {"bob": BOB})

    def test_whole_network(self) -> None:
        """With a share for the whole network strangers are admitted under a mark, and nobody is asked."""
        self.admission = self.admission_of(ON_NETWORK)
        self.lists.accept("bob", BOB)
        self.assertEqual([self.admit(), self.admit(EVE, "eve")], ["bob", f"eve{ON_NETWORK}"])
        self.assertEqual(self.questions, [])

    def test_offering(self) -> None:
        """A stranger that offers files is admitted under a mark if the owner takes that; nobody is asked about it."""
        self.assertIs(self.admit(purpose=Purpose.OFFER), Refusal.STRANGER)
        self.admission.takes_offers = lambda pinned: True
        self.assertEqual(self.admit(purpose=Purpose.OFFER), f"bob{ON_NETWORK}")
        self.admission.takes_offers = lambda pinned: "bob" in pinned
        self.assertIs(self.admit(purpose=Purpose.OFFER), Refusal.STRANGER)
        self.lists.pins.pin("bob", BOB, None)
        self.assertEqual(self.admit(purpose=Purpose.OFFER), f"bob{ON_NETWORK}")
        self.assertIs(self.admit(EVE, "bob", Purpose.OFFER), Refusal.CHANGED)
        self.assertEqual(self.questions, [])
        self.assertIs(self.admit(), Refusal.WAITING)

    def test_offered(self) -> None:
        """Somebody to whom the owner has offered something may come for it, under a mark; nobody else may."""
        self.lists.pins.pin("bob", BOB, None)
        self.admission.has_offered = lambda key: key == BOB
        self.assertEqual(self.admit(), f"bob{ON_NETWORK}")
        self.assertIs(self.admit(EVE, "bob"), Refusal.CHANGED)
        self.assertIs(self.admit(EVE, "carol"), Refusal.WAITING)

    def test_which_key(self) -> None:
        """If several keys wait with one name, the owner says which one; a part of a key must be long enough."""
        self.admit(BOB)
        self.admit(EVE)
        for part in ("", str(EVE)[:4], "zzzzzzzz"):
            accepting = Deferred.fromCoroutine(self.admission.accept("bob", part))
            self.failureResultOf(accepting, NotFound)
        self.assertEqual(self.accept("bob", f"{EVE.grouped[:9].upper()}"), EVE)
        self.assertIs(self.admit(BOB), Refusal.CHANGED)
        self.assertEqual(self.admit(EVE), "bob")

    def test_flood(self) -> None:
        """Threat 63: keys that wait are bounded, those that come again keep their places, and questions have a rate."""
        self.admission = self.admission_of(waiting_max=8, per_name_max=2)
        self.admit()
        for number in range(100, 140):
            self.admit(key_of(number), f"n{number}")
            self.admit(key_of(number + 100), "bob")
        waiting = self.admission.waiting()
        self.assertEqual(len(waiting), 8)
        self.assertEqual(sum(each["name"] == "bob" for each in waiting), 2)
        self.assertIs(self.admit(EVE, "eve"), Refusal.LATER)
        for _ in range(int(STALE // COME_AGAIN) + 1):
            self.clock.advance(COME_AGAIN)
            self.admit()
        self.assertIs(self.admit(EVE, "eve"), Refusal.WAITING)
        names = [each["name"] for each in self.admission.waiting()]
        self.assertEqual((len(names), "bob" in names, "eve" in names), (8, True, True))
        for number in range(200, 250):
            self.clock.advance(STALE)
            self.admit(key_of(number), f"m{number}")
        self.assertLessEqual(len(self.questions), QUESTIONS_MAX * (2 + 50 * STALE / QUESTIONS_TIME))
        self.clock.advance(WAITING_LIFE)
        self.assertEqual(self.admission.waiting(), [])

    def test_damaged_list(self) -> None:
        """Nobody is admitted while the list of known keys cannot be read."""
        self.lists.accept("bob", BOB)
        self.lists.pins.path.write_text("{")
        self.assertIs(self.admit(), Refusal.LATER)
        self.successResultOf(Deferred.fromCoroutine(self.admission.resolve(["bob"])))

    def test_names_in_allow(self) -> None:
        """Names in `--allow` are not looked up: nobody could say whose they are."""
        self.lists.pins.pin("bob", BOB, None)
        self.admission = self.admission_of("bob", "carol", ON_NETWORK)
        self.successResultOf(
            Deferred.fromCoroutine(self.admission.resolve(["bob", "carol", ON_NETWORK]))
        )
        self.assertEqual(self.lists.pins.all(), {"bob": BOB})
