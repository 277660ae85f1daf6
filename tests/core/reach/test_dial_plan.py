"""The order in which candidates are dialled."""

from __future__ import annotations

import ipaddress

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.reach.dial_plan import (
    ATTEMPTS_MAX,
    STAGGER,
    STAGGER_NEAR,
    TCP,
    UDP,
    UDP_DELAY,
    DialStep,
    dial_plan,
)
from p2pshare.wire.reach.candidates import Candidate

BOTH = TCP, UDP
HOME = [ipaddress.ip_network("192.168.1.0/24"), ipaddress.ip_network("2001:db8:1::/64")]


def plan(
    *texts: str, seen: str | None = None, carriers: tuple[str, ...] = BOTH, own: bool = True
) -> list[tuple[float, str, str]]:
    steps = dial_plan(
        map(Candidate.parse, texts), networks=HOME if own else [], seen=seen, carriers=carriers
    )
    return [(round(each.delay_s, 3), each.carrier, str(each.address)) for each in steps]


def order(steps: list[tuple[float, str, str]]) -> list[str]:
    return list(dict.fromkeys(address for _, _, address in steps))


class DialPlanTests(SynchronousTestCase):
    """`dial_plan`."""

    def test_one(self) -> None:
        """An address is dialled over TCP first, and shortly after over UDP."""
        self.assertEqual(
            plan("given/198.51.100.1:50000"),
            [
                (0.0, "tcp", "198.51.100.1:50000"),
                (UDP_DELAY, "udp", "198.51.100.1:50000"),
            ],
        )

    def test_near_first(self) -> None:
        """Addresses of the own network come first, close together, and private ones of other networks last."""
        steps = plan(
            "host/10.9.9.9:50000",
            "seen/198.51.100.1:50000",
            "host/192.168.1.7:50000",
            "host/[2001:db8:1::7]:50000",
        )
        self.assertEqual(
            [step for step in steps if step[1] == TCP],
            [
                (0.0, "tcp", "[2001:db8:1::7]:50000"),
                (STAGGER_NEAR, "tcp", "192.168.1.7:50000"),
                (2 * STAGGER_NEAR, "tcp", "198.51.100.1:50000"),
                (2 * STAGGER_NEAR + STAGGER, "tcp", "10.9.9.9:50000"),
            ],
        )

    def test_loopback(self) -> None:
        """An address of this machine is near."""
        steps = plan("host/198.51.100.1:50000", "host/127.0.0.1:50000")
        self.assertEqual(order(steps), ["127.0.0.1:50000", "198.51.100.1:50000"])

    def test_same_nat(self) -> None:
        """Private addresses come before the public one if that is the opener's own, too."""
        texts = "seen/198.51.100.1:50000", "host/10.9.9.9:50000"
        behind = ["10.9.9.9:50000", "198.51.100.1:50000"]
        self.assertEqual(order(plan(*texts, seen="198.51.100.1")), behind)
        self.assertEqual(order(plan(*texts, seen="198.51.100.2")), behind[::-1])

    def test_families(self) -> None:
        """The families alternate, IPv6 first; one that this machine does not have is left out."""
        texts = (
            "given/198.51.100.1:1",
            "given/198.51.100.2:2",
            "given/198.51.100.3:3",
            "given/[2001:db8:9::1]:4",
        )
        self.assertEqual(
            order(plan(*texts)),
            ["[2001:db8:9::1]:4", "198.51.100.1:1", "198.51.100.2:2", "198.51.100.3:3"],
        )
        for networks, expected in ((HOME[:1], False), (HOME, True), ([], True)):
            steps = dial_plan(
                map(Candidate.parse, texts), networks=networks, seen=None, carriers=BOTH
            )
            self.assertIs(any(each.address.is_ipv6 for each in steps), expected)

    def test_carriers(self) -> None:
        """A mapped address is for UDP; the same address of another kind is for both; others can be forbidden."""
        mapped = "mapped/198.51.100.1:50000"
        self.assertEqual([step[1] for step in plan(mapped)], [UDP])
        self.assertEqual([step[1] for step in plan(mapped, "seen/198.51.100.1:50000")], [TCP, UDP])
        self.assertEqual(plan(mapped, carriers=(TCP,)), [])
        self.assertEqual(
            plan("given/198.51.100.1:50000", carriers=(UDP,)), [(0.0, UDP, "198.51.100.1:50000")]
        )

    def test_bound(self) -> None:
        """However many candidates there are, the attempts are bounded, in order, and each is there once."""
        texts = [f"given/198.51.100.{number}:50000" for number in range(1, 41)]
        steps = plan(*texts, *texts[:3], own=False)
        self.assertEqual(len(steps), ATTEMPTS_MAX)
        self.assertEqual(steps, sorted(steps))
        self.assertEqual(len(set(steps)), ATTEMPTS_MAX)
        self.assertIsInstance(
            dial_plan([Candidate.parse(texts[0])], networks=[], seen=None, carriers=BOTH)[0],
            DialStep,
        )
