"""What a receiver does with new offers, and the budget of an accepted one."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.offers.budget import OfferBudget
from p2pshare.core.offers.incoming import (
    GateLimits,
    IncomingGate,
    Kept,
    OffersPolicy,
    Sender,
)
from p2pshare.errors import OfferChanged
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import Offer, OfferFault, OfferItem
from p2pshare.wire.transfer_messages import EntryKind

FILE, FOLDER = EntryKind.FILE, EntryKind.FOLDER
OFFER = Offer("k6xwn2q4h7yxabcd", 1, 0, 5, (OfferItem("a.txt", FILE, 5, 1),), 0, "", 60)
NONE = Kept(0, 0)


def sender(number: int = 1, *, is_known: bool = False, is_allowed: bool = False) -> Sender:
    return Sender("eve", PublicKey(number.to_bytes(32)), is_known, is_allowed)


class GateTests(SynchronousTestCase):
    def test_policies(self) -> None:
        """The policy decides by whether the sender is known, and whether the owner has named it."""
        stranger, known, allowed = sender(), sender(is_known=True), sender(is_allowed=True)
        for policy, welcome in (
            (OffersPolicy.EVERYONE, [stranger, known, allowed]),
            (OffersPolicy.KNOWN, [known, allowed]),
            (OffersPolicy.ALLOWED, [allowed]),
            (OffersPolicy.NOBODY, []),
        ):
            gate = IncomingGate(0.0)
            for each in (stranger, known, allowed):
                fault = gate.fault(policy, each, OFFER, NONE, 0.0)
                self.assertEqual(fault, None if each in welcome else OfferFault.POLICY)

    def test_kept(self) -> None:
        """Threat 81: the number of offers that are kept is bounded, of one key and in all."""
        gate = IncomingGate(0.0, GateLimits(kept=10, kept_per_key=3))
        for kept, fault in (
            (Kept(9, 2), None),
            (Kept(10, 0), OfferFault.FULL),
            (Kept(3, 3), OfferFault.FULL),
        ):
            self.assertEqual(gate.fault(OffersPolicy.EVERYONE, sender(), OFFER, kept, 0.0), fault)

    def test_strangers(self) -> None:
        """Threat 81: strangers with many keys leave places, and their rate, to those whom the owner knows."""
        gate = IncomingGate(0.0, GateLimits(kept=10, kept_of_strangers=5, total_burst=1))
        policy, known, allowed = (
            OffersPolicy.EVERYONE,
            sender(2, is_known=True),
            sender(3, is_allowed=True),
        )
        for each, kept, fault in (
            (sender(4), 5, OfferFault.FULL),
            (sender(5), 4, None),
            (sender(6), 4, OfferFault.RATE),
            (known, 9, None),
            (allowed, 9, None),
            (known, 10, OfferFault.FULL),
        ):
            self.assertEqual(gate.fault(policy, each, OFFER, Kept(kept, 0), 0.0), fault)

    def test_size(self) -> None:
        """An offer of too many files, folders or bytes is refused, however much the quota is."""
        gate = IncomingGate(0.0, GateLimits(files=10, folders=6, bytes=100))
        for offer, fault in (
            (replace(OFFER, files=4, folders=6, bytes=100), None),
            (replace(OFFER, files=5, folders=6), OfferFault.TOO_LARGE),
            (replace(OFFER, files=1, folders=7), OfferFault.TOO_LARGE),
            (replace(OFFER, bytes=101), OfferFault.TOO_LARGE),
        ):
            found = gate.fault(OffersPolicy.EVERYONE, sender(), offer, NONE, 0.0)
            self.assertEqual(found, fault)

    def test_rates(self) -> None:
        """Threat 81: new offers have a rate limit of their key, and one of all strangers; refusals cost nothing."""
        limits = GateLimits(per_key_s=1.0, per_key_burst=3, total_s=2.0, total_burst=5)
        gate = IncomingGate(0.0, limits)

        def ask(number: int, now: float) -> bool:
            return gate.fault(OffersPolicy.EVERYONE, sender(number), OFFER, NONE, now) is None

        self.assertEqual([ask(1, 0.0) for _ in range(5)], [True] * 3 + [False] * 2)
        self.assertEqual([ask(n, 0.0) for n in range(2, 6)], [True] * 2 + [False] * 2)
        self.assertEqual(
            [ask(1, 1.0), ask(1, 1.0), ask(2, 1.0), ask(3, 1.0)], [True, False, True, False]
        )

    def test_remembered_keys(self) -> None:
        """The number of keys whose rates are remembered is bounded; those of all keys together still hold."""
        gate = IncomingGate(0.0, GateLimits(keys=4, per_key_burst=1, total_burst=20))
        found = [
            gate.fault(OffersPolicy.EVERYONE, sender(number), OFFER, NONE, 0.0)
            for number in [*range(1, 16)] * 3
        ]
        self.assertEqual(len(gate._of_key), 4)
        self.assertEqual(found.count(None), 20)


class BudgetTests(SynchronousTestCase):
    def budget(self, *, more: int = 0) -> OfferBudget:
        items = OfferItem("a.txt", FILE, 5, 1), OfferItem("photos", FOLDER, 20, 2)
        return OfferBudget("eve", items, more, files=3 + more, folders=2, size=25 + more)

    def test_as_offered(self) -> None:
        """All that was offered fits."""
        budget = self.budget()
        budget.add(("a.txt",), FILE, 5)
        budget.add(("photos",), FOLDER)
        budget.add(("photos", "2024"), FOLDER)
        budget.add(("photos", "2024", "a"), FILE, 10)
        budget.add(("photos", "b"), FILE, 4)
        budget.grow(6)
        for path, kind, size in (
            (("photos", "c"), FILE, 0),
            (("photos", "d"), FOLDER, 0),
        ):
            self.assertRaises(OfferChanged, budget.add, path, kind, size)
        self.assertRaises(OfferChanged, budget.grow, 1)

    def test_names(self) -> None:
        """A name at the top that was not offered, or has become something else, is an error."""
        for path, kind in (
            (("b.txt",), FILE),
            (("b", "c"), FILE),
            (("a.txt",), FOLDER),
            (("photos",), FILE),
        ):
            self.assertRaises(OfferChanged, self.budget().add, path, kind)

    def test_more_items(self) -> None:
        """As many other names may be at the top as the offer has counted, and no more."""
        budget = self.budget(more=2)
        budget.add(("b",), FILE, 1)
        budget.add(("c",), FOLDER)
        budget.add(("c", "d"), FILE, 1)
        self.assertRaises(OfferChanged, budget.add, ("e",), FILE)

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 9))))
    def test_bounds(self, entries: list[tuple[str, int, int]]) -> None:
        """Whatever is listed, no more is let through than was offered."""
        items = OfferItem("a", FOLDER, 0, 0), OfferItem("b", FOLDER, 0, 0)
        budget = OfferBudget("eve", items, 1, files=6, folders=2, size=20)
        passed: list[int] = []
        for name, depth, size in entries:
            try:
                budget.add((name, *"xyzxyz"[: depth + 1]), FILE, size)
            except OfferChanged:
                break
            passed.append(size)
        self.assertTrue(len(passed) <= 6 and sum(passed) <= 20)
