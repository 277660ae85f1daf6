"""Whole picture transfers in virtual time, ours with ours."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.core.requester import Failure
from p2pshare.classic.core.row_sender import TransferEnd
from p2pshare.core.datagram_core import Address
from p2pshare.pictures.pixels import Pixels
from p2pshare.testing.links import Conditions
from p2pshare.testing.network import Fate
from tests import examples
from tests.classic.core.fetches import WELCOME, PictureFetch
from tests.strategies import networks, pictures, seeds


def picture(height: int, width: int = 4) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


class PerfectNetworkTests(SynchronousTestCase):
    def test_picture_arrives_exactly(self) -> None:
        """Without faults a picture arrives in one request, and the sharer has the confirmation."""
        fetch = PictureFetch(picture(300))
        fetch.run()
        self.assertTrue(fetch.exact)
        self.assertEqual(fetch.endings, [TransferEnd.COMPLETE])
        self.assertEqual(fetch.senders[0].rows_sent, 300)
        assert fetch.finished_at is not None
        self.assertLess(fetch.finished_at, 0.2)

    def test_long_path(self) -> None:
        """The window opens: a large picture over a path of 100 ms takes few round trips."""
        fetch = PictureFetch(picture(3000, 400), Conditions(delay=0.05))
        fetch.run()
        self.assertTrue(fetch.exact)
        self.assertEqual(fetch.senders[0].rows_sent, 3000)
        assert fetch.finished_at is not None
        self.assertLess(fetch.finished_at, 3.0)

    def test_nothing_is_left(self) -> None:
        """After a transfer no place is taken and no timer runs."""
        fetch = PictureFetch(picture(10))
        fetch.run()
        self.assertEqual(fetch.welcome.serving, 0)
        self.assertLess(fetch.network.now, 30.0)


class SingleFaultTests(SynchronousTestCase):
    """Each datagram of a transfer is lost, repeated or delayed, each in its own run."""

    def check_all(self, fate: Fate) -> None:
        reference = PictureFetch(picture(30))
        reference.run()
        for faulty in range(reference.network.sent):

            def rule(number: int, *_: object, faulty: int = faulty) -> Fate | None:
                return fate if number == faulty else None

            fetch = PictureFetch(picture(30), rule=rule)
            fetch.run()
            self.assertTrue(fetch.exact, f"datagram {faulty}")
            self.assertEqual(fetch.failures, [], f"datagram {faulty}")
            self.assertIn(TransferEnd.COMPLETE, fetch.endings, f"datagram {faulty}")

    def test_one_lost(self) -> None:
        """The loss of any one datagram does no harm."""
        self.check_all(Fate(()))

    def test_one_repeated(self) -> None:
        """The repetition of any one datagram does no harm, however late."""
        self.check_all(Fate((0.001, 0.7)))

    def test_one_delayed(self) -> None:
        """The delay of any one datagram behind all others does no harm."""
        self.check_all(Fate((3.0,)))

    def test_each_first_of_its_kind_lost(self) -> None:
        """The loss of the first two datagrams of each length and direction does no harm."""
        seen: dict[tuple[int, Address], int] = {}

        def rule(_: int, data: bytes, source: Address, destination: Address) -> Fate | None:
            key = len(data), source[:1] + destination[1:]
            seen[key] = seen.get(key, 0) + 1
            return Fate(()) if seen[key] <= 2 else None

        fetch = PictureFetch(picture(60), rule=rule)
        fetch.run()
        self.assertTrue(fetch.exact)


class BadNetworkTests(SynchronousTestCase):
    @settings(max_examples=examples(1000))
    @given(pictures(), networks(loss_max=0.3), seeds)
    def test_bad_networks_are_survived(
        self, pixels: Pixels, conditions: Conditions, seed: int
    ) -> None:
        """A picture arrives exactly over networks that lose up to a third, repeat, delay and reorder."""
        fetch = PictureFetch(pixels, conditions, seed=seed)
        fetch.run()
        self.assertTrue(fetch.exact, fetch.failures)

    @settings(max_examples=examples(1000))
    @given(pictures(rows_max=20), networks(loss_max=1.0), seeds)
    def test_terrible_networks_end(self, pixels: Pixels, conditions: Conditions, seed: int) -> None:
        """On any network there is one end: the exact picture, or a failure; nothing goes on after it."""
        fetch = PictureFetch(pixels, conditions, seed=seed)
        fetch.run(3600.0)
        self.assertNotEqual(fetch.exact, fetch.failures[-1:] != [] and not fetch.completed)
        self.assertEqual(fetch.welcome.serving, 0)
        self.assertLess(fetch.network.now, 3600.0)

    @settings(max_examples=examples(300))
    @given(pictures(rows_max=200), st.floats(0.0, 1.0), seeds, st.booleans())
    def test_silence_is_noticed(
        self, pixels: Pixels, when: float, seed: int, rows_only: bool
    ) -> None:
        """If nothing arrives from some moment on, both ends finish within 30 s."""
        cut = when * 0.1

        def rule(_: int, data: bytes, source: Address, destination: Address) -> Fate | None:
            return (
                Fate(()) if fetch.network.now >= cut and (not rows_only or len(data) > 9) else None
            )

        fetch = PictureFetch(
            pixels,
            Conditions(delay=0.002, reordering=1.0, reordering_delay=0.002),
            seed=seed,
            rule=rule,
        )
        fetch.run()
        self.assertTrue(fetch.exact or fetch.failures)
        if not rows_only:
            assert fetch.finished_at is not None
            self.assertLessEqual(fetch.finished_at, cut + 30.0)

    def test_no_sharer(self) -> None:
        """Without a sharer there is one failure, after the words were repeated for five seconds."""
        fetch = PictureFetch(picture(5))
        fetch.network.detach(WELCOME)
        fetch.run()
        self.assertEqual(fetch.failures, [Failure.NO_ANSWER])
        self.assertAlmostEqual(fetch.finished_at or 0.0, 5.5)


class NoiseTests(SynchronousTestCase):
    @settings(max_examples=examples(300))
    @given(pictures(rows_max=20), st.lists(st.binary(max_size=32), min_size=1), seeds)
    def test_random_bytes_to_every_port(
        self, pixels: Pixels, noise: list[bytes], seed: int
    ) -> None:
        """Random bytes from strangers to every port change nothing."""
        fetch = PictureFetch(pixels, seed=seed)
        rng = random.Random(seed)
        for data in noise:
            port = rng.choice([WELCOME, ("10.0.0.1", 6000), ("10.0.0.2", 7000)])
            fetch.network.send_at(rng.uniform(0, 0.05), data, ("10.6.6.6", 666), port)
        fetch.run()
        self.assertTrue(fetch.exact)

    @settings(max_examples=examples(300))
    @given(pictures(rows_max=20), seeds)
    def test_damaged_datagrams(self, pixels: Pixels, seed: int) -> None:
        """Truncated datagrams are dropped and counted at both ends."""
        fetch = PictureFetch(pixels, seed=seed)
        rng = random.Random(seed)

        def rule(_: int, data: bytes, source: Address, destination: Address) -> Fate | None:
            if len(data) > 4 and rng.random() < 0.3:
                damaged = data[: rng.randrange(1, len(data))]
                fetch.network.send_at(fetch.network.now, damaged, source, destination)
            return None

        fetch.network.rule = rule
        fetch.run()
        self.assertTrue(fetch.exact)
