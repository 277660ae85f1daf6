"""Tests of `p2pshare.core.message_budget`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.message_budget import (
    BARRED,
    BATCH,
    FLOOD_MAX,
    MESSAGES_BURST,
    MESSAGES_PER_S,
    MessageBudget,
)


class MessageBudgetTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.budget = MessageBudget(0.0)

    def test_burst(self) -> None:
        """After a pause many messages may come at once, and then so many in a second."""
        self.budget.spend(MESSAGES_BURST - 1, 0.0)
        self.assertEqual(self.budget.wait(0.0), 0.0)
        self.budget.spend(1, 0.0)
        self.assertAlmostEqual(self.budget.wait(0.0), BATCH / MESSAGES_PER_S)
        self.assertEqual(self.budget.wait(BATCH / MESSAGES_PER_S), 0.0)

    def test_honest(self) -> None:
        """Requests that are answered are free: 100 000 small files in a second cost nothing."""
        for _ in range(100):
            self.budget.spend(1000 + 20, 0.0)  # `get` for each file; `done` and `credit` for many
            for _ in range(3 * 1000):  # `file`, `block` and `end`
                self.budget.earn(1, 0.0)
            self.assertEqual(self.budget.wait(0.0), 0.0)

    def test_nothing_is_hoarded(self) -> None:
        """Answers fill the bucket no higher than a pause does."""
        for _ in range(MESSAGES_BURST):
            self.budget.earn(1, 0.0)
        self.budget.spend(MESSAGES_BURST, 0.0)
        self.assertGreater(self.budget.wait(0.0), 0.0)

    def test_flood(self) -> None:
        """A key that always has more to read counts as a flood after a while, and is barred for a while."""
        self.budget.spend(MESSAGES_BURST, 0.0)
        self.budget.wait(0.0)
        self.assertFalse(self.budget.is_flood(FLOOD_MAX - 0.1))
        self.assertFalse(self.budget.is_barred(0.0))
        self.assertTrue(self.budget.is_flood(FLOOD_MAX))
        self.assertTrue(self.budget.is_barred(FLOOD_MAX + BARRED - 0.1))
        self.assertFalse(self.budget.is_barred(FLOOD_MAX + BARRED))
        self.assertFalse(self.budget.is_flood(FLOOD_MAX + BARRED))

    def test_all_read(self) -> None:
        """A key whose messages were all read is no flood, however often it exceeded the budget."""
        for now in range(100):
            self.budget.spend(MESSAGES_BURST, float(now))
            self.budget.wait(float(now))
            self.assertFalse(self.budget.is_flood(float(now)))
            self.budget.all_read()
