"""One end of an attempt: what it sends and when, what it believes, and its bounds."""

from __future__ import annotations

import random
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.datagram_core import Address
from p2pshare.core.reach.checks import (
    ANSWERS_MAX,
    CHECKS_MAX,
    CHECKS_S,
    EXTRA_CHECKS,
    FAST_CHECKS,
    INTERVAL,
    PRIMING_TTLS,
    REMOTES_MAX,
    CheckEvent,
    ConnectivityChecks,
    GaveUp,
    OutgoingCheck,
    PeerReflexive,
    Reached,
)
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach import stun
from p2pshare.wire.reach.stun import Binding, BindingKind

ATTEMPT = "Zm9vYmFyYmF6cXV4MTIzNA"  # as long as a drawn one
SECRET = b"s" * 32
ALICE = ("203.0.113.1", 50001)
BOB = ("203.0.113.2", 50002)
LATE = 1000.0


def make(*remotes: Address, controls: bool = True) -> ConnectivityChecks:
    checks = ConnectivityChecks(
        ATTEMPT, SECRET, controls=controls, random=random.Random(int(controls)).randbytes
    )
    for each in remotes:
        checks.add_remote(each, 0.0)
    return checks


def run(checks: ConnectivityChecks, until: float) -> list[tuple[float, OutgoingCheck]]:
    """Call a core at its timers, and return what it has sent and when."""
    now, sent = 0.0, []
    while True:
        sent += [(now, each) for each in checks.datagrams_to_send(now)]
        timer = checks.get_timer()
        if timer is None or timer > until:
            return sent
        now = max(now, timer)
        checks.handle_timer(now)


def events(checks: ConnectivityChecks) -> list[CheckEvent]:
    return list(iter(checks.next_event, None))


def check(
    attempt: str = ATTEMPT, role: str = "opener", secret: bytes = SECRET, nominates: bool = False
) -> bytes:
    """Return a check of the other end, or one that is wrong."""
    return Binding(
        BindingKind.REQUEST, b"t" * 12, username=f"{attempt}:{role}", use_candidate=nominates
    ).serialize(secret)


class ScheduleTests(SynchronousTestCase):
    """What is sent when."""

    def test_nothing_before_the_start(self) -> None:
        """An attempt that has not started sends nothing and wants no timer."""
        checks = make(BOB)
        self.assertEqual(checks.datagrams_to_send(LATE), [])
        self.assertIsNone(checks.get_timer())

    def test_prime(self) -> None:
        """Priming sends with rising low TTLs, an interval apart, and a second call adds nothing."""
        checks = make(BOB, controls=False)
        checks.prime(0.0)
        checks.prime(0.0)
        sent = run(checks, 1.0)
        self.assertEqual([ttl for _, (_, _, ttl) in sent], list(PRIMING_TTLS))
        self.assertEqual(
            [round(when, 3) for when, _ in sent], [0.0, round(INTERVAL, 3), round(2 * INTERVAL, 3)]
        )

    def test_opener_primes_carefully(self) -> None:
        """The opener primes before the other end has, so it sends nothing that could arrive there."""
        checks = make(BOB)
        checks.prime(0.0)
        self.assertEqual([ttl for _, (_, _, ttl) in run(checks, 1.0)], [min(PRIMING_TTLS)])

    def test_no_nat(self) -> None:
        """An end without a NAT does not prime, but it checks remotes that are near, and all of them later."""
        checks = make(BOB, controls=False)
        checks.add_remote(ALICE, 0.0, is_near=True)
        checks.prime(0.0, has_nat=False)
        self.assertEqual([each[1:] for each in checks.datagrams_to_send(0.0)], [(ALICE, None)])
        checks.go(0.01)
        self.assertEqual([each[1:] for each in checks.datagrams_to_send(0.01)], [(BOB, None)])

    def test_near(self) -> None:
        """A remote in the same network is checked with the full TTL at once."""
        checks = make()
        checks.add_remote(BOB, 0.0, is_near=True)
        checks.prime(0.0)
        ((_, address, ttl),) = checks.datagrams_to_send(0.0)
        self.assertEqual((address, ttl), (BOB, None))

    def test_late_remotes(self) -> None:
        """A remote that is added after the start is primed or checked at once."""
        checks = make()
        checks.prime(0.0)
        checks.add_remote(BOB, 0.1)
        self.assertEqual(checks.datagrams_to_send(0.1)[0][2], PRIMING_TTLS[0])
        checks.go(0.2)
        checks.add_remote(ALICE, 0.2)
        self.assertEqual(
            {(address, ttl) for _, address, ttl in checks.datagrams_to_send(0.2)},
            {(ALICE, None), (BOB, None)},
        )

    def test_go(self) -> None:
        """Checks begin at once, go on ever more slowly, and end after some seconds; the end is an event."""
        checks = make(BOB)
        checks.prime(0.0)
        checks.datagrams_to_send(0.0)
        checks.go(0.0)
        checks.go(0.0)
        times = [when for when, _ in run(checks, LATE)]
        gaps = [round(after - before, 6) for before, after in pairwise(times)]
        self.assertEqual(times[0], 0.0)
        self.assertEqual(gaps, sorted(gaps))
        self.assertAlmostEqual(gaps[FAST_CHECKS - 2], INTERVAL)
        self.assertGreater(times[-1], CHECKS_S - 1)
        self.assertLess(times[-1], CHECKS_S)
        self.assertEqual(events(checks), [GaveUp()])
        self.assertTrue(checks.is_over)
        self.assertIsNone(checks.get_timer())
        self.assertFalse(checks.receive(check(role="acceptor"), BOB, LATE))

    def test_never_told_to_go(self) -> None:
        """An attempt that was only primed ends, too."""
        checks = make(BOB)
        checks.prime(0.0)
        run(checks, LATE)
        self.assertEqual(events(checks), [GaveUp()])


class AgreementTests(SynchronousTestCase):
    """Two ends find that a pair works."""

    def exchange(self, opener: ConnectivityChecks, acceptor: ConnectivityChecks) -> int:
        """Pass datagrams on until there are none, and return their number."""
        count = 0
        while True:
            to_bob = [data for data, to, _ in opener.datagrams_to_send(0.01) if to == BOB]
            to_alice = [data for data, _, _ in acceptor.datagrams_to_send(0.01)]
            if not to_bob and not to_alice:
                return count
            count += len(to_bob) + len(to_alice)
            for data in to_bob:
                self.assertTrue(acceptor.receive(data, ALICE, 0.01))
            for data in to_alice:
                self.assertTrue(opener.receive(data, BOB, 0.01))

    def test_reached(self) -> None:
        """The opener's check is answered: both ends know the pair, and the other remotes are dropped."""
        opener, acceptor = make(BOB, ("192.0.2.1", 1)), make(controls=False)
        opener.go(0.01)
        self.exchange(opener, acceptor)
        self.assertEqual(events(opener), [Reached(BOB, 0.0)])
        self.assertEqual(events(acceptor), [PeerReflexive(ALICE), Reached(ALICE, 0.0)])
        self.assertEqual({address for _, (_, address, _) in run(opener, LATE)}, {BOB})
        self.assertTrue(opener.is_over)
        self.assertEqual(events(opener), [])

    def test_extra_checks(self) -> None:
        """The opener nominates with some more checks, from which the other end learns the pair if its own were lost."""
        opener, acceptor = make(BOB), make(ALICE, controls=False)
        opener.go(0.0)
        ((first, _, _),) = opener.datagrams_to_send(0.0)
        acceptor.receive(first, ALICE, 0.0)
        answer = acceptor.datagrams_to_send(0.0)[0][0]
        opener.receive(answer, BOB, 0.0)
        sent = [data for _, (data, _, _) in run(opener, LATE)]
        self.assertEqual(len(sent), EXTRA_CHECKS)
        for each in sent:
            binding = stun.parse(each)
            assert binding is not None
            self.assertTrue(binding.use_candidate)
        acceptor.receive(sent[0], ALICE, 0.1)
        self.assertEqual(events(acceptor), [Reached(ALICE, None)])

    def test_check_before_go(self) -> None:
        """A check that arrives before the start is answered and checked back: the other side is open."""
        acceptor = make(ALICE, controls=False)
        self.assertTrue(acceptor.receive(check(), ALICE, 0.0))
        kinds = [stun.parse(data) for data, _, _ in acceptor.datagrams_to_send(0.0)]
        self.assertEqual(
            [each and each.kind for each in kinds], [BindingKind.SUCCESS, BindingKind.REQUEST]
        )
        run(acceptor, LATE)
        self.assertEqual(events(acceptor), [GaveUp()])

    def test_only_the_opener_nominates(self) -> None:
        """The acceptor cannot choose the pair for the opener."""
        opener = make(BOB)
        opener.receive(check(role="acceptor", nominates=True), BOB, 0.0)
        self.assertEqual(events(opener), [])


class HostileTests(SynchronousTestCase):
    """What strangers and a lying other end can cause."""

    def test_strangers(self) -> None:
        """Threat 35: without the secret nothing is answered, learnt or ended."""
        checks = make(BOB, controls=False)
        checks.go(0.0)
        ((own, _, _),) = checks.datagrams_to_send(0.0)
        request = stun.parse(own)
        assert request is not None
        forged = Binding(BindingKind.SUCCESS, request.transaction, mapped=PeerAddress(*ALICE))
        for data, source in (
            (b"", BOB),
            (b"\x00\x01", BOB),
            (random.Random(1).randbytes(100), BOB),
            (check(secret=b"x" * 32), BOB),
            (check(attempt="other"), BOB),
            (check(role="acceptor"), BOB),
            (own, BOB),  # its own check, which comes back
            (forged.serialize(), BOB),
            (forged.serialize(b"x" * 32), BOB),
            (forged.serialize(SECRET), ALICE),  # not from where it was asked
            (Binding(BindingKind.SUCCESS, b"n" * 12, mapped=forged.mapped).serialize(SECRET), BOB),
        ):
            self.assertFalse(checks.receive(data, source, 0.01), data)
        self.assertEqual(checks.datagrams_to_send(0.01), [])
        self.assertEqual(events(checks), [])

    def test_error(self) -> None:
        """An authentic error answers the check, and nothing works by it."""
        checks = make(BOB)
        checks.go(0.0)
        request = stun.parse(checks.datagrams_to_send(0.0)[0][0])
        assert request is not None
        error = Binding(BindingKind.ERROR, request.transaction, error=400).serialize(SECRET)
        self.assertTrue(checks.receive(error, BOB, 0.01))
        self.assertFalse(checks.receive(error, BOB, 0.01))
        self.assertEqual(events(checks), [])

    def test_no_amplification(self) -> None:
        """Threat 12: an answer is no longer than its check, also with an IPv6 address, and goes to its source only."""
        checks = make(controls=False)
        source = ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 65535)
        checks.receive(check(), source, 0.0)
        answer, address, _ = checks.datagrams_to_send(0.0)[0]
        self.assertEqual(address, source)
        self.assertLessEqual(len(answer), len(check()))

    def test_scan(self) -> None:
        """Threat 13: an end that names addresses of others makes this one send little, to few of them, for seconds."""
        checks = make(*((f"192.0.2.{number}", 22) for number in range(1, 200)))
        checks.go(0.0)
        sent = run(checks, LATE)
        per_remote: dict[Address, int] = {}
        for _, (data, address, _) in sent:
            per_remote[address] = per_remote.get(address, 0) + 1
            self.assertLess(len(data), 128)
        self.assertEqual(len(per_remote), REMOTES_MAX)
        self.assertLessEqual(max(per_remote.values()), CHECKS_MAX)
        self.assertLess(sent[-1][0], CHECKS_S)

    def test_many_sources(self) -> None:
        """Threat 13: checks from many sources are answered, but only some of them become remotes."""
        checks = make(*((f"192.0.2.{number}", 1) for number in range(8)), controls=False)
        for number in range(100):
            checks.receive(check(), (f"198.51.100.{number}", 1), 0.0)
        self.assertEqual(len(events(checks)), REMOTES_MAX)
        sent = checks.datagrams_to_send(0.0)
        self.assertEqual(len(sent), ANSWERS_MAX + REMOTES_MAX)

    def test_found_remote_has_a_place(self) -> None:
        """A remote that is heard takes the place of one that only was named."""
        checks = make(*((f"192.0.2.{number}", 1) for number in range(REMOTES_MAX)), controls=False)
        checks.receive(check(), ALICE, 0.0)
        self.assertEqual(events(checks), [PeerReflexive(ALICE)])
        self.assertIn(ALICE, {address for _, address, _ in checks.datagrams_to_send(0.0)[1:]})

    def test_interval(self) -> None:
        """However often the other end checks, its address is checked once per interval at most."""
        checks = make(controls=False)
        times = []
        for tick in range(2000):
            now = tick / 1000
            checks.receive(check(), ALICE, now)
            checks.handle_timer(now)
            for data, _, _ in checks.datagrams_to_send(now):
                binding = stun.parse(data)
                if binding is not None and binding.kind is BindingKind.REQUEST:
                    times.append(now)
        gaps = [round(after - before, 6) for before, after in pairwise(times)]
        self.assertGreaterEqual(min(gaps), INTERVAL - 1e-9)
