"""Tests of a change of address: a candidate is challenged within its limit, and used only after its answer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram.paths import AMPLIFICATION, RESPONSES_MAX, TRIES, Paths

OLD, NEW, OTHER = ("192.0.2.1", 1), ("192.0.2.2", 1), ("192.0.2.1", 2)
CHALLENGE = b"12345678"
SIZE = 41  # bytes of a packet with a challenge


class PathsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.paths = Paths(OLD)

    def propose(self, received: int = SIZE) -> None:
        self.paths.propose(NEW, CHALLENGE)
        self.paths.on_received(NEW, received)

    def test_moves_after_the_answer(self) -> None:
        """The address in use changes with the right answer, and not with another."""
        self.assertTrue(self.paths.is_new(NEW))
        self.propose()
        self.assertFalse(self.paths.is_new(NEW))
        self.assertTrue(self.paths.is_new(OTHER))
        self.assertIsNotNone(self.paths.next_challenge(SIZE, 0.0, 1.0))
        self.assertFalse(self.paths.on_response(b"87654321"))
        self.assertEqual(self.paths.address, OLD)
        self.assertTrue(self.paths.on_response(CHALLENGE))
        self.assertEqual(self.paths.address, NEW)
        self.assertIsNone(self.paths.get_timer())

    def test_an_answer_before_the_question(self) -> None:
        """The right answer counts only after the challenge was sent."""
        self.propose()
        self.assertFalse(self.paths.on_response(CHALLENGE))

    def test_limit(self) -> None:
        """Threat 45: at most three times the bytes that came from an unproved address go to it."""
        self.propose(received=SIZE)
        sent = 0
        for second in range(100):
            if self.paths.next_challenge(SIZE, float(second), 0.1):
                sent += SIZE
        self.assertLessEqual(sent, AMPLIFICATION * SIZE)
        self.paths.propose(OTHER, CHALLENGE)
        self.paths.on_received(OTHER, SIZE // AMPLIFICATION)
        self.assertIsNone(self.paths.next_challenge(SIZE, 200.0, 0.1))
        self.paths.on_received(OTHER, SIZE)
        self.assertIsNotNone(self.paths.next_challenge(SIZE, 200.0, 0.1))

    def test_silence(self) -> None:
        """A candidate that never answers is forgotten, and no timer stays."""
        self.propose(received=1000)
        times = []
        while (due := self.paths.get_timer()) is not None:
            if self.paths.next_challenge(SIZE, due, 1.0):
                times.append(due)
        self.assertEqual(times, [0.0, 1.0, 3.0])
        self.assertEqual(len(times), TRIES)
        self.assertEqual(self.paths.address, OLD)

    def test_answers_are_bounded(self) -> None:
        """Threat 45: challenges that wait for an answer are bounded, and a repeated one counts once."""
        for number in range(20):
            self.paths.on_challenge(NEW, bytes([number // 2]) * 8)
        self.assertEqual(len(self.paths.responses), RESPONSES_MAX)
        self.assertEqual(self.paths.responses[-1], (NEW, b"\x09" * 8))
