"""Some of the fetches between homes; `python -m tests.lab` runs all of them."""

from __future__ import annotations

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.lab.homes import HomeKind
from tests.lab.matrix import matrix
from tests.lab.namespaces import why_not

PAIRS = (
    (HomeKind.OPEN, HomeKind.CONE),
    (HomeKind.CONE, HomeKind.CONE),
    (HomeKind.CONE, HomeKind.SYMMETRIC),
    (HomeKind.IPV6_ONLY, HomeKind.CONE),
    (HomeKind.UDP_BLOCKED, HomeKind.SYMMETRIC),
)


class FetchTests(SynchronousTestCase):
    """Programs as users run them, in namespaces, with the kernel's NAT."""

    def setUp(self) -> None:
        if (reason := why_not("nft", "conntrack")) is not None:
            raise SkipTest(reason)

    def test_pairs(self) -> None:
        """Each file is exact, and comes directly wherever the two networks allow it."""
        with matrix([one for one, _ in PAIRS], [other for _, other in PAIRS]) as made:
            for requester, sharer in PAIRS:
                self.assertIsNone(made.fetch(requester, sharer).fault)
