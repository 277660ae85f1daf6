"""Connectivity checks through NATs in memory: every pair of kinds, with skewed starts and loss.

The expected outcomes are those of real kernels, which the lab (`tests.lab`) shows.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import combinations_with_replacement, product

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram_core import Address, Outgoing
from p2pshare.core.reach.checks import (
    CHECKS_S,
    CheckEvent,
    ConnectivityChecks,
    GaveUp,
    PeerReflexive,
    Reached,
)
from p2pshare.testing.links import Conditions
from p2pshare.testing.nat import HOPS, Nat, NatKind, RoutedNetwork

SERVER = ("198.51.100.1", 8000)
DELAY = 0.04  # s one way, between any two public addresses
CONES = (
    NatKind.FULL_CONE,
    NatKind.ADDRESS_RESTRICTED,
    NatKind.PORT_RESTRICTED,
    NatKind.STOCK,
)


def is_punched(one: NatKind, other: NatKind) -> bool:
    """Whether two kinds of NAT let a direct path exist."""
    if NatKind.UDP_BLOCKED in (one, other):
        return False
    if NatKind.SYMMETRIC in (one, other):
        lenient = {NatKind.OPEN, NatKind.FULL_CONE, NatKind.ADDRESS_RESTRICTED}
        return bool(lenient & {one, other})
    return True


class End:
    """One end of an attempt: a datagram core around `ConnectivityChecks`, in a home of its own."""

    def __init__(
        self, network: RoutedNetwork, number: int, kind: NatKind, checks: ConnectivityChecks
    ) -> None:
        self.network = network
        self.checks = checks
        self.events: list[CheckEvent] = []
        self.sent = 0
        public = f"203.0.113.{number}"
        self.inner: Address = (public if kind is NatKind.OPEN else f"192.168.{number}.5", 50000)
        self.mapped: Address | None = self.inner
        if kind is not NatKind.OPEN:
            nat = Nat(kind, public, random.Random(number))
            network.add_home(nat, self.inner[0])
            self.mapped = nat.leave(self.inner, SERVER, 0.0)
        network.attach(self.inner, self, self.events.append)

    @property
    def candidates(self) -> set[Address]:
        return {self.inner, self.mapped or self.inner}

    def meet(self, other: Iterable[Address]) -> None:
        for address in sorted(other):
            self.checks.add_remote(address, self.network.now)

    def prime(self) -> None:
        self.checks.prime(self.network.now)
        self.network.pump(self.inner)

    def go(self) -> None:
        self.checks.go(self.network.now)
        self.network.pump(self.inner)

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        self.checks.receive(data, addr, now)

    def datagrams_to_send(self, now: float) -> Outgoing:
        full = []
        for data, address, ttl in self.checks.datagrams_to_send(now):
            self.sent += 1
            if ttl is None:
                full.append((data, address))
            else:
                self.network.send(data, self.inner, address, ttl)
        return full

    def get_timer(self) -> float | None:
        return self.checks.get_timer()

    def handle_timer(self, now: float) -> None:
        self.checks.handle_timer(now)

    def next_event(self) -> CheckEvent | None:
        return self.checks.next_event()

    @property
    def reached(self) -> Reached | None:
        return next((each for each in self.events if isinstance(each, Reached)), None)


class Attempt:
    """An opener and an acceptor, who know each other's candidates."""

    def __init__(
        self, opener: NatKind, acceptor: NatKind, *, loss: float = 0.0, hops: int = HOPS
    ) -> None:
        conditions = Conditions(loss=loss, delay=DELAY)
        self.network = RoutedNetwork(random.Random(1), conditions, hops=hops)
        rng = random.Random(2)
        self.opener, self.acceptor = (
            End(
                self.network,
                number,
                kind,
                ConnectivityChecks("a1", b"s" * 32, controls=number == 1, random=rng.randbytes),
            )
            for number, kind in ((1, opener), (2, acceptor))
        )
        self.opener.meet(self.acceptor.candidates)
        self.acceptor.meet(self.opener.candidates)

    def run(self, skew: float, *, is_primed: bool = True) -> None:
        """Let the acceptor prime; the opener goes `skew` seconds later, and the acceptor `skew` seconds after that."""
        if is_primed:
            self.network.call_at(0.0, self.acceptor.prime)
            self.network.call_at(0.0, self.opener.prime)
        self.network.call_at(skew, self.opener.go)
        self.network.call_at(2 * skew, self.acceptor.go)
        ends = self.opener, self.acceptor
        self.network.run(60.0, stop=lambda: all(each.reached for each in ends))


class MatrixTests(SynchronousTestCase):
    """All pairs of kinds."""

    def test_all_pairs(self) -> None:
        """Two ends reach each other wherever NATs allow it, at any skew and with loss, and give up elsewhere."""
        pairs = combinations_with_replacement(NatKind, 2)
        for (one, other), skew, loss in product(pairs, (0.0, 0.2, 0.7), (0.0, 0.2)):
            expected = is_punched(one, other)
            if not expected and (skew, loss) != (0.2, 0.0):
                continue
            attempt = Attempt(one, other, loss=loss)
            attempt.run(skew)
            where = f"{one} x {other}, skew {skew} s, loss {loss}: {attempt.opener.events}"
            self.assertEqual(attempt.opener.reached is not None, expected, where)
            self.assertEqual(attempt.acceptor.reached is not None, expected, where)
            if not expected:
                self.assertIsInstance(attempt.opener.events[-1], GaveUp)
                self.assertLessEqual(attempt.network.now, 0.4 + CHECKS_S + 0.01)

    def test_other_direction(self) -> None:
        """It does not matter which of the two opens."""
        for one, other in (
            (NatKind.SYMMETRIC, NatKind.OPEN),
            (NatKind.SYMMETRIC, NatKind.FULL_CONE),
            (NatKind.STOCK, NatKind.PORT_RESTRICTED),
            (NatKind.STOCK, NatKind.OPEN),
        ):
            attempt = Attempt(one, other)
            attempt.run(0.2)
            self.assertIsNotNone(attempt.opener.reached, f"{one} x {other}")

    def test_without_priming(self) -> None:
        """Two plain Linux routers need the priming if the starts differ by more than the delay, and others do not."""
        for kind, skew, expected in (
            (NatKind.STOCK, 0.01, True),
            (NatKind.STOCK, 0.2, False),
            (NatKind.PORT_RESTRICTED, 0.2, True),
        ):
            attempt = Attempt(kind, kind)
            attempt.run(skew, is_primed=False)
            self.assertIs(attempt.opener.reached is not None, expected, f"{kind}, {skew} s")

    def test_short_way(self) -> None:
        """Plain Linux routers with one router between them: no datagram that primes arrives too early."""
        attempt = Attempt(NatKind.STOCK, NatKind.STOCK, hops=3)
        ends = attempt.opener, attempt.acceptor
        attempt.network.call_at(0.0, attempt.opener.prime)
        attempt.network.call_at(0.3, attempt.acceptor.prime)
        attempt.network.call_at(0.4, attempt.opener.go)
        attempt.network.call_at(0.5, attempt.acceptor.go)
        attempt.network.run(60.0, stop=lambda: all(each.reached for each in ends))
        self.assertIsNotNone(attempt.opener.reached)

    def test_peer_reflexive(self) -> None:
        """A symmetric NAT's check comes from an address that STUN has not shown, and is accepted."""
        attempt = Attempt(NatKind.SYMMETRIC, NatKind.FULL_CONE)
        attempt.run(0.2)
        acceptor = attempt.acceptor
        found = [each for each in acceptor.events if isinstance(each, PeerReflexive)]
        self.assertNotIn(found[0].address, attempt.opener.candidates)
        assert acceptor.reached is not None
        self.assertEqual(acceptor.reached.address, found[0].address)

    def test_time(self) -> None:
        """A path is known about one round trip after the opener's start."""
        attempt = Attempt(NatKind.PORT_RESTRICTED, NatKind.PORT_RESTRICTED)
        attempt.run(0.2)
        assert attempt.opener.reached is not None and attempt.opener.reached.rtt_s is not None
        self.assertAlmostEqual(attempt.opener.reached.rtt_s, 2 * DELAY, delta=0.01)
        self.assertLess(attempt.network.now, 0.2 + 4 * DELAY + 0.02)

    def test_same_home(self) -> None:
        """Two hosts behind one NAT, which does not reflect, reach each other by their private addresses."""
        attempt = Attempt(NatKind.SYMMETRIC, NatKind.SYMMETRIC)
        nat = Nat(NatKind.SYMMETRIC, "203.0.113.9", random.Random(9))
        ends = attempt.opener, attempt.acceptor
        attempt.network.add_home(nat, *(each.inner[0] for each in ends))
        attempt.run(0.0)
        assert attempt.opener.reached is not None
        self.assertEqual(attempt.opener.reached.address, attempt.acceptor.inner)
