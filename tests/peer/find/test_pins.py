"""Tests of `p2pshare.peer.find.pins`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.find.pins import follow
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.statements import Rotation

KEYS = [SigningKey(bytes([n]) * 32) for n in range(5)]
REGISTRY, ELSEWHERE = (SigningKey(each * 32).public for each in (b"r", b"e"))


def step(old: int, new: int, name: str = "bob", aud: PublicKey = REGISTRY) -> str:
    """Return the rotation from one of `KEYS` to another."""
    return Rotation(name, KEYS[old].public, KEYS[new].public, 1, aud).sign(KEYS[old])


def leads(start: int, rotations: list[str], end: int) -> bool:
    return follow(KEYS[start].public, rotations, KEYS[end].public, "bob", REGISTRY)


class FollowTests(SynchronousTestCase):
    def test_same(self) -> None:
        """A key follows from itself, whatever rotations there are."""
        self.assertTrue(leads(0, [], 0))
        self.assertTrue(leads(1, [step(0, 1)], 1))
        self.assertTrue(leads(0, [step(0, 1)], 0))

    def test_chain(self) -> None:
        """Every key of a chain leads to its end, and none leads back."""
        chain = [step(0, 1), step(1, 2), step(2, 3)]
        for start in range(4):
            self.assertTrue(leads(start, chain, 3))
        self.assertFalse(leads(3, chain, 0))
        self.assertFalse(leads(0, [chain[0], chain[2]], 3))

    def test_old_key(self) -> None:
        """A stolen old key cannot name a second successor."""
        self.assertFalse(leads(0, [step(0, 1), step(0, 4)], 4))
        self.assertFalse(leads(1, [step(0, 1), step(0, 4)], 4))

    def test_not_meant(self) -> None:
        """A rotation of another name or registry is ignored."""
        self.assertFalse(leads(0, [step(0, 1, name="eve")], 1))
        self.assertFalse(leads(0, [step(0, 1, aud=ELSEWHERE)], 1))
        self.assertTrue(leads(0, [step(0, 1)], 1))

    def test_not_signed(self) -> None:
        """A rotation that the old key has not signed is ignored."""
        forged = Rotation("bob", KEYS[0].public, KEYS[4].public, 1, REGISTRY).sign(KEYS[4])
        self.assertFalse(leads(0, [forged], 4))
        self.assertTrue(leads(0, [forged, step(0, 1)], 1))

    @given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)) | st.text(), max_size=8))
    def test_anything(self, said: list[tuple[int, int] | str]) -> None:
        """Only keys on a path of signed rotations are accepted, for any input."""
        rotations = [step(*each) if isinstance(each, tuple) else each for each in said]
        visited, reached = {0}, 0
        for each in said:
            if isinstance(each, tuple) and each[0] == reached:
                reached = each[1]
                visited.add(reached)
        for end in range(5):
            self.assertEqual(leads(0, rotations, end), end in visited)
