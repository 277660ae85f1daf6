"""Connectivity checks through the kernel's own NAT."""

from __future__ import annotations

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.lab.checking import checking_lab
from tests.lab.homes import HomeKind, internet
from tests.lab.namespaces import why_not

SKEW = 0.1  # s: much more than the delay
DIRECT = (
    (HomeKind.CONE, HomeKind.CONE),
    (HomeKind.STOCK, HomeKind.STOCK),
    (HomeKind.SYMMETRIC, HomeKind.OPEN),
    (HomeKind.OPEN, HomeKind.FILTERED),
    (HomeKind.IPV6_ONLY, HomeKind.IPV6_ONLY),
)


class KernelNatTests(SynchronousTestCase):
    """The outcomes that `tests.core.reach.test_checks_through_nats` expects in memory."""

    def setUp(self) -> None:
        if (reason := why_not("nft", "conntrack")) is not None:
            raise SkipTest(reason)

    def test_pairs(self) -> None:
        """Ends reach each other through the kernel's NATs, whichever goes first."""
        with internet() as (net, add), checking_lab(net) as lab:
            pairs = [lab.pair(add(one), add(other)) for one, other in DIRECT]
            lab.run(pairs, SKEW)
            for opener, acceptor in pairs:
                where = f"{opener.home.kind} x {acceptor.home.kind}: {opener.events}"
                self.assertIsNotNone(opener.reached, where)
                self.assertIsNotNone(acceptor.reached, where)
