"""The fuzzing targets, with a few changed copies of the document's vectors."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import P2pshareError
from tests import examples
from tests.fuzz.datagrams import run_without_atheris
from tests.fuzz.seeds import changed, seeds
from tests.fuzz.targets import TARGETS

RUNS = examples(600)  # of each target


class TargetTests(SynchronousTestCase):
    def test_targets(self) -> None:
        """Threat 6: no input makes a target fail."""
        for target in TARGETS.values():
            run_without_atheris(target, RUNS, random.Random(7))

    def test_failures_are_found(self) -> None:
        """A target that fails is reported with its input."""

        def broken(data: bytes) -> None:
            if len(data) % 2:
                raise P2pshareError(reason="odd")

        with self.assertRaisesRegex(AssertionError, "broken failed with [0-9a-f]+"):
            run_without_atheris(broken, 100, random.Random(7))

    def test_seeds(self) -> None:
        """The vectors are found in the document, and their copies differ."""
        found = seeds()
        self.assertGreater(len(found), 30)
        rng = random.Random(7)
        self.assertGreater(len({changed(found[0], rng) for _ in range(50)}), 25)
