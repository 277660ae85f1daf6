"""How a NAT's mapping is classified."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.reach.mapping import classify
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.candidates import Mapping

ONE = PeerAddress("198.51.100.1", 8000)
TWO = PeerAddress("198.51.100.1", 8001)
SIX = PeerAddress("2001:db8::1", 8000)
OWN = "192.168.1.5", "2001:db8:5::5"


def mapped(port: int, ip: str = "203.0.113.7") -> PeerAddress:
    return PeerAddress(ip, port)


class ClassifyTests(SynchronousTestCase):
    """`classify` returns what the answers prove, and no more."""

    def test_table(self) -> None:
        """Each kind of mapping, from answers of two ports."""
        for answers, expected in (
            ({ONE: mapped(5000), TWO: mapped(5000)}, Mapping.INDEPENDENT),
            ({ONE: mapped(5000), TWO: mapped(5001)}, Mapping.DEPENDENT),
            ({ONE: mapped(5000), TWO: mapped(5000, "203.0.113.8")}, Mapping.DEPENDENT),
            ({ONE: mapped(5000, "192.168.1.5"), TWO: None}, Mapping.NONE),
            ({ONE: mapped(5000), TWO: None}, Mapping.UNKNOWN),
            ({ONE: None, TWO: None}, Mapping.BLOCKED),
            ({}, Mapping.UNKNOWN),
        ):
            self.assertIs(classify(answers, OWN), expected, answers)

    def test_ipv6(self) -> None:
        """IPv4 decides if it has answered, and IPv6 if not."""
        own_six = mapped(5000, "2001:db8:5::5")
        self.assertIs(classify({ONE: None, SIX: own_six}, OWN), Mapping.NONE)
        answers = {ONE: mapped(5000), TWO: mapped(5001), SIX: own_six}
        self.assertIs(classify(answers, OWN), Mapping.DEPENDENT)
