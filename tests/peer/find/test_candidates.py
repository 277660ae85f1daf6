"""Tests of `p2pshare.peer.find.candidates`."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import PeerAddressRefused, PeerNotReachable
from p2pshare.net.dns import LOOK_UP_MAX
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.find.candidates import told_candidates
from p2pshare.testing.network import ThreadlessReactor
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.reach.candidates import CANDIDATES_MAX, Candidate
from p2pshare.wire.registry_answers import NameKind, PeerSummary, PeerView, Presence
from tests.net.test_dns import install_dns

REGISTRY = "http://registry.example:8000"


class AddressTests(SynchronousTestCase):
    """Threat 13: the addresses that may be connected to."""

    def setUp(self) -> None:
        self.reactor = ThreadlessReactor()
        self.dns = install_dns(self.reactor)

    def found(self, *addresses: str, registry: str = REGISTRY) -> Deferred[tuple[Candidate, ...]]:
        summary = PeerSummary("alice", NameKind.OWNED, Presence.ONLINE, None)
        view = PeerView(summary, SigningKey(bytes(32)).public, None, (), addresses)
        reactor = cast("IPeerReactor", self.reactor)
        return Deferred.fromCoroutine(told_candidates(reactor, view, registry))

    def assert_refused(self, address: str, **options: Any) -> PeerAddressRefused:
        error = self.failureResultOf(self.found(address, **options), PeerAddressRefused).value
        self.assertEqual(str(error.fields["address"]), address)
        return cast("PeerAddressRefused", error)

    def test_first(self) -> None:
        """Candidates are all addresses that may be connected to, without a DNS look-up (threat 13)."""
        for addresses in (
            ("10.0.0.5:50000", "10.0.0.6:50000"),
            ("[fe80::5]:50000", "10.0.0.5:50000"),
            ("x", "224.0.0.1:1", "10.0.0.5:50000"),
            ("0.0.0.0:6379", "169.254.169.254:80", "10.0.0.5:50000"),
        ):
            found = self.successResultOf(self.found(*addresses))
            self.assertEqual(found[0].address, PeerAddress("10.0.0.5", 50000))
        many = ["[2001:db8::5]:1", *(f"10.0.0.{number}:1" for number in range(1, 9))]
        told = self.successResultOf(self.found("x", *many))
        self.assertEqual([str(each.address) for each in told], many[:CANDIDATES_MAX])
        self.failureResultOf(self.found(), PeerNotReachable)
        self.assertEqual(self.dns.asked, [])
        self.failureResultOf(self.found("[::1]:50000", "nonsense"), PeerAddressRefused)

    def test_link_local(self) -> None:
        """Threat 13: link-local addresses, at which clouds serve secrets, are rejected."""
        for registry in (REGISTRY, "http://127.0.0.1:8000", "http://169.254.1.1:8000"):
            self.assert_refused("169.254.169.254:80", registry=registry)

    def test_table(self) -> None:
        """Threat 13: every address of the table is rejected, wherever the registry is; the error says which and why."""
        for address, reason in (
            ("0.0.0.0:6379", "means the reader's own network"),
            ("224.0.0.1:1", "is multicast"),
            ("255.255.255.255:1", "is broadcast"),
            ("192.0.0.1:1", "is assigned to a protocol"),
        ):
            for registry in (REGISTRY, "http://127.0.0.1:8000"):
                error = self.assert_refused(address, registry=registry)
                self.assertIn(reason, error.fields["reason"])
        self.assertEqual(self.dns.asked, [])

    def test_loopback(self) -> None:
        """Threat 13: with a registry elsewhere, no peer can make us connect to this machine."""
        for registry in (REGISTRY, "http://192.0.2.1:8000", "https://[2001:db8::1]"):
            self.assert_refused("127.0.0.1:6379", registry=registry)
            self.assert_refused("127.8.8.8:6379", registry=registry)
            found = self.found("127.0.0.1:6379", "10.0.0.5:50000", registry=registry)
            self.assertEqual(
                [each.address.ip for each in self.successResultOf(found)], ["10.0.0.5"]
            )

    def test_all_here(self) -> None:
        """If the registry is on this machine, peers may be, too."""
        for host in ("127.0.0.1", "[::1]", "localhost", "registry.localhost", "127.0.1.1"):
            found = self.found("127.0.0.1:50000", registry=f"http://{host}:8000")
            self.assertEqual(self.successResultOf(found)[0].address.ip, "127.0.0.1")
        self.assertEqual(self.dns.asked, [])

    def test_name_of_this_machine(self) -> None:
        """The same applies if the name of the registry leads here; a name without an address counts as elsewhere."""
        install_dns(self.reactor, registry="127.0.1.1")
        self.successResultOf(self.found("127.0.0.1:50000"))
        install_dns(self.reactor, registry="::1")
        self.successResultOf(self.found("127.0.0.1:50000"))
        install_dns(self.reactor, registry="2001:db8::1")
        self.assert_refused("127.0.0.1:50000")
        install_dns(self.reactor, registry="192.0.2.1")
        self.assert_refused("127.0.0.1:50000")
        self.reactor.hold_threads()
        install_dns(self.reactor)
        waiting = self.found("127.0.0.1:50000")
        self.assertNoResult(waiting)
        self.reactor.advance(LOOK_UP_MAX)
        self.failureResultOf(waiting, PeerAddressRefused)
