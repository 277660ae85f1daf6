"""Tests of the deadlines of connections."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.deadlines import SPARE, Deadlines

KEYS = st.integers(0, 5)
TIMES = st.integers(0, 20).map(float)


class DeadlinesTests(SynchronousTestCase):
    @given(st.lists(st.tuples(KEYS, st.none() | TIMES) | TIMES))
    def test_model(self, steps: list[tuple[int, float | None] | float]) -> None:
        """The earliest deadline is always known, and all that are due are taken, whatever was set before."""
        deadlines, model = Deadlines[int](), dict[int, float]()
        for step in steps:
            if isinstance(step, tuple):
                key, due = step
                deadlines.set(key, due)
                model.pop(key, None)
                if due is not None:
                    model[key] = due
            else:
                taken = deadlines.take(step)
                self.assertEqual(
                    sorted(taken), sorted(k for k, due in model.items() if due <= step)
                )
                self.assertEqual([model[k] for k in taken], sorted(model[k] for k in taken))
                model = {k: due for k, due in model.items() if due > step}
            self.assertEqual(deadlines.first, min(model.values(), default=None))
            self.assertEqual(len(deadlines), len(model))

    def test_bound(self) -> None:
        """Deadlines that move on cost no memory."""
        deadlines = Deadlines[str]()
        for time in range(10_000):
            deadlines.set("a", float(time))
        self.assertLessEqual(len(deadlines._heap), SPARE + 2)
        self.assertEqual(len(deadlines), 1)
