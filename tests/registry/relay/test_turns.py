"""The turns of the flows through the relay, in virtual time."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.registry.relay.turns import TURN_MAX, TURN_MIN, Flow, Turns
from tests import examples

RATE = 10e6  # bytes per second


class Source:
    """The sender of a flow that has as much to send as a test says."""

    def __init__(self, flow: Flow, read: int) -> None:
        self.flow = flow
        self.read = read
        self.size = 0
        self.may_read = True


class Relay:
    """Reads its flows in turn, as a reactor does, in virtual time."""

    def __init__(self, rate: float | None = RATE, rate_per_key: float | None = None) -> None:
        self.now = 0.0
        self.turns = Turns(rate, rate_per_key, self.now)
        self.sources: list[Source] = []

    def open(self, *keys: str, read: int | None = None) -> Source:
        size = self.turns.turn if read is None else read
        self.sources.append(Source(self.turns.open(keys, self.now), size))
        return self.sources[-1]

    def close(self, source: Source) -> None:
        self.turns.close(source.flow, self.now)
        self.sources.remove(source)

    def run(self, seconds: float) -> None:
        """Let every source send all that it may."""
        end = self.now + seconds
        while self.now < end:
            readers = [each for each in self.sources if each.may_read and each.read]
            for each in readers:
                each.size += each.read
                each.may_read = self.turns.received(each.flow, each.read, self.now)
            due = self.turns.get_timer()
            if not any(each.may_read and each.read for each in self.sources):
                self.now = end if due is None else min(end, due)
                self.turns.handle_timer(self.now)
                while (flow := self.turns.next_turn()) is not None:
                    (turn,) = (each for each in self.sources if each.flow is flow)
                    turn.may_read = True
            else:
                self.now += 0.0001


class TurnTests(SynchronousTestCase):
    """Rates and fairness."""

    def test_total(self) -> None:
        """All flows together keep the total rate, and get equal shares of it (round robin)."""
        relay = Relay()
        sources = [relay.open(f"a{n}", f"b{n}") for n in range(100)]
        relay.run(10)
        sizes = [each.size for each in sources]
        self.assertLess(abs(sum(sizes) / (10.25 * RATE) - 1), 0.1)
        self.assertLessEqual(max(sizes) - min(sizes), 2 * TURN_MAX)

    def test_small_reads(self) -> None:
        """A flow that sends little keeps its rate beside greedy ones."""
        relay = Relay()
        modest = relay.open("a", "b", read=500)
        for n in range(20):
            relay.open(f"c{n}", f"d{n}")
        relay.run(1)
        before, waits = modest.size, 0.0
        for _ in range(100):
            relay.run(0.1)
            waits += not modest.may_read
        self.assertGreater(modest.size - before, 10 * 500)
        self.assertGreaterEqual(relay.sources[1].size, 10 * RATE / 25)

    def test_key(self) -> None:
        """The flows of one key share its rate; others do not notice."""
        relay = Relay(rate=None, rate_per_key=RATE)
        own = [relay.open("a", f"b{n}") for n in range(5)]
        relay.run(10)
        other = relay.open("c", "d")
        relay.run(10)
        self.assertLess(abs(sum(each.size for each in own) / (20.25 * RATE) - 1), 0.05)
        self.assertLess(abs(other.size / (10.25 * RATE) - 1), 0.05)

    def test_greedy_key(self) -> None:
        """Threat 14: a key with many pairs gets no more than its rate, and pairs of other keys are served meanwhile."""
        relay = Relay(rate=RATE, rate_per_key=RATE / 4)
        greedy = [relay.open("eve", f"b{n}") for n in range(32)]
        honest = relay.open("carol", "dave")
        relay.run(10)
        self.assertLess(sum(each.size for each in greedy), 2.9 * RATE)
        self.assertGreater(honest.size, 2.3 * RATE)

    def test_without_limit(self) -> None:
        """Without limits every flow reads on."""
        relay = Relay(rate=None)
        source = relay.open("a", "b")
        relay.run(0.01)
        self.assertTrue(source.may_read)
        self.assertIsNone(relay.turns.get_timer())

    def test_quiet(self) -> None:
        """A flow that was quiet reads at once, though others use up the total rate."""
        relay = Relay()
        for n in range(20):
            relay.open(f"c{n}", f"d{n}")
        quiet = relay.open("a", "b", read=0)
        relay.run(5)
        self.assertTrue(quiet.may_read)
        self.assertFalse(relay.sources[0].may_read)

    def test_reopened(self) -> None:
        """Threat 14: a key that closes its pair and opens another one has the same bucket; only so many are kept."""
        relay = Relay(rate=None, rate_per_key=RATE)
        relay.turns._idle_max = 3
        total = 0
        for _ in range(100):
            source = relay.open("a", "b")
            relay.run(0.1)
            total += source.size
            relay.close(source)
        self.assertLess(total / (10.25 * RATE), 1.1)
        for n in range(10):
            relay.close(relay.open(f"c{n}", f"d{n}"))
        self.assertEqual((len(relay.turns._idle), relay.turns._of_key), (3, {}))

    @settings(max_examples=examples(20), deadline=None)
    @given(st.integers(0, 2**32))
    def test_any_order(self, seed: int) -> None:
        """Whatever opens, closes and sends: each flow is served in the end, and nothing is left when all are closed."""
        rng = random.Random(seed)
        relay = Relay(rate=RATE, rate_per_key=RATE / 3)
        for _ in range(25):
            if relay.sources and rng.random() < 0.3:
                relay.close(rng.choice(relay.sources))
            else:
                relay.open(
                    *rng.sample("abcdef", 2), read=rng.choice((0, 5000, TURN_MIN, 2 * TURN_MAX))
                )
            relay.run(0.05)
        before = [(each, each.size) for each in relay.sources if each.read]
        relay.run(3)
        for each, size in before:
            self.assertGreater(each.size, size)
        for each in list(relay.sources):
            relay.close(each)
        turns = relay.turns
        self.assertEqual((turns._busy, turns._of_key, len(turns._total.waiting)), ({}, {}, 0))

    def test_length(self) -> None:
        """A low rate has short turns, so that many greedy pairs do not make the others wait for long."""
        for rate, per_key, turn in (
            (None, None, TURN_MAX),
            (500e6, 250e6, TURN_MAX),
            (10e6, None, 100_000),
            (10e6, 5e6, 50_000),
            (None, 10e3, TURN_MIN),
        ):
            self.assertEqual(Turns(rate, per_key, 0.0).turn, turn)
        relay = Relay(rate=1e6)
        for n in range(100):
            relay.open(f"a{n}", f"b{n}")
        relay.run(10)
        before = [each.size for each in relay.sources]
        relay.run(4)
        moved = [each.size - size for each, size in zip(relay.sources, before, strict=True)]
        self.assertGreater(min(moved), 0)
