"""Tests of `p2pshare.peer.reach.report.advice`, and of the words of `p2pshare path`."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.reach.report.advice import OtherEnd, about_network, about_path
from p2pshare.peer.reach.report.facts import NetworkFacts, StunTry
from p2pshare.storage.settings import Via
from p2pshare.ui.verbs.reach.path import mapping_text, nat_text
from p2pshare.wire.reach.candidates import Candidate, Mapping

URL = "http://192.0.2.1:8000"
ANSWER = StunTry("192.0.2.1:8000", 12.0, "203.0.113.7:50000")
HERE = NetworkFacts(
    URL, 12.0, None, True, (ANSWER,), Mapping.INDEPENDENT, (("192.168.1.5", "eth0"),)
)
THERE = OtherEnd(
    "alice", (Candidate.parse("host/192.168.2.7:50000"),), Mapping.INDEPENDENT, takes_calls=True
)
IPV6 = (Candidate.parse("host/[2001:db8::7]:50000"),)


def blocked(facts: NetworkFacts) -> NetworkFacts:
    silent = replace(ANSWER, answered_ms=None, mapped=None)
    return replace(facts, mapping=Mapping.BLOCKED, stun=(silent,))


class NetworkAdviceTests(SynchronousTestCase):
    """What is said of this machine's network."""

    def said(self, facts: NetworkFacts) -> str:
        return "\n".join(map(str, about_network(facts)))

    def test_nat(self) -> None:
        """Each kind of NAT has its words, and says what helps."""
        self.assertIn("203.0.113.7", nat_text(HERE))
        for mapping, text, advice in (
            (Mapping.NONE, "none", "firewall allows TCP or UDP to the port of --listen"),
            (Mapping.INDEPENDENT, "the same for every destination", "--port-mapping"),
            (Mapping.DEPENDENT, "symmetric", "--port-mapping"),
        ):
            facts = replace(HERE, mapping=mapping)
            self.assertIn(text, nat_text(facts))
            self.assertIn(advice, self.said(facts))
        self.assertIn("unknown", nat_text(blocked(HERE)))
        self.assertIn("UDP to 192.0.2.1:8000", self.said(blocked(HERE)))
        self.assertIn("one STUN server", nat_text(replace(HERE, mapping=Mapping.UNKNOWN)))
        for mapping in Mapping:
            self.assertTrue(mapping_text(mapping))

    def test_peer_runs(self) -> None:
        """If the peer runs, its port is named."""
        facts = replace(HERE, peer={"name": "bob", "address": "192.168.1.5:50123"})
        self.assertIn("port 50123", self.said(facts))
        self.assertIn("port 50123", self.said(replace(facts, mapping=Mapping.NONE)))

    def test_lacking(self) -> None:
        """What is missing is said: the registry, its STUN servers, its relay, IPv6, and any network."""
        self.assertIn("IPv6", self.said(HERE))
        both = (*HERE.addresses, ("2001:db8::5", "eth0"))
        self.assertNotIn("IPv6", self.said(replace(HERE, addresses=both)))
        self.assertIn("no relay", self.said(replace(HERE, relay=False)))
        none = replace(HERE, stun=(), mapping=Mapping.UNKNOWN)
        self.assertIn("no STUN", self.said(none))
        self.assertIn(URL, self.said(replace(none, registry_ms=None, problem="refused")))
        self.assertIn("connect it", self.said(replace(HERE, addresses=())))

    def test_no_registry(self) -> None:
        """Without a registry nothing is said of it."""
        facts = NetworkFacts("lan:", addresses=HERE.addresses)
        self.assertIn("same network", self.said(facts))
        self.assertEqual(len(self.said(facts).splitlines()), 1)


class PathAdviceTests(SynchronousTestCase):
    """What would make a path direct."""

    def said(
        self,
        facts: NetworkFacts = HERE,
        other: OtherEnd = THERE,
        carrier: str | None = "relay",
        via: Via = Via.AUTO,
    ) -> str:
        return "\n".join(map(str, about_path(facts, other, carrier, via)))

    def test_direct(self) -> None:
        """Nothing is said of a path that is direct."""
        for carrier in ("tcp", "udp", "back"):
            self.assertEqual(self.said(carrier=carrier), "")

    def test_open_port(self) -> None:
        """An open port at either end is the remedy that always works."""
        self.assertIn("forward TCP and UDP", self.said())
        self.assertIn("alice's end", self.said())
        opened = replace(THERE, candidates=(Candidate.parse("given/203.0.113.9:50000"),))
        self.assertIn("check the forwarding", self.said(other=opened))

    def test_no_nat(self) -> None:
        """A machine with an address of its own has no router that forwards; only a firewall is in the way."""
        for peer in (None, {"name": "bob", "address": "203.0.113.7:50123"}):
            said = self.said(replace(HERE, mapping=Mapping.NONE, peer=peer))
            self.assertIn("firewall", said)
            self.assertNotIn("router", said)

    def test_same_nat(self) -> None:
        """Two networks behind one address, such as that of a provider's NAT, are told so: no port of theirs helps."""
        there = replace(THERE, candidates=(Candidate.parse("seen/203.0.113.7:50001"),))
        self.assertIn("behind the NAT of 203.0.113.7", self.said(other=there))
        self.assertNotIn("port", self.said(other=there))
        self.assertIn("IPv6 at both ends makes", self.said(other=there))

    def test_nats(self) -> None:
        """The end with the hard NAT is named."""
        hard = replace(HERE, mapping=Mapping.DEPENDENT)
        there = replace(THERE, mapping=Mapping.DEPENDENT)
        self.assertIn("The NAT here varies", self.said(hard))
        self.assertIn("The NAT at alice's end varies", self.said(other=there))
        self.assertIn("The NAT here and at alice's end varies", self.said(hard, there))
        self.assertNotIn("varies", self.said())

    def test_blocked(self) -> None:
        """The end at which UDP is blocked is named."""
        self.assertIn("blocked at this end", self.said(blocked(HERE)))
        there = replace(THERE, mapping=Mapping.BLOCKED)
        self.assertIn("blocked at alice's end", self.said(other=there))

    def test_families(self) -> None:
        """Two ends without a common family are told so; IPv6 is proposed where it is missing."""
        there = replace(THERE, candidates=IPV6)
        self.assertIn("IPv4 only, and alice tells addresses of IPv6 only", self.said(other=there))
        self.assertIn("IPv6 here would", self.said(other=there))
        self.assertNotIn("router", self.said(other=there))
        self.assertIn("missing here and at alice's end.", self.said())
        here = replace(HERE, addresses=(("2001:db8::5", "eth0"),))
        self.assertIn("IPv6 only, and alice tells addresses of IPv4 only", self.said(here))

    def test_no_calls(self) -> None:
        """A peer that tells nothing, or cannot be called, is the reason itself."""
        private = replace(THERE, candidates=())
        self.assertIn("--private", self.said(other=private))
        self.assertNotIn("port", self.said(other=private), "no port helps")
        earlier = replace(THERE, takes_calls=False)
        self.assertIn("cannot be called", self.said(other=earlier, carrier=None))
        self.assertIn("no relay", self.said(replace(HERE, relay=False), carrier=None))

    def test_registry_away(self) -> None:
        """If the registry did not answer, that is the reason, and nothing else is guessed."""
        (said,) = self.said(other=replace(THERE, is_remembered=True), carrier=None).splitlines()
        self.assertIn("did not say where alice is", said)

    def test_offline(self) -> None:
        """No port is opened for a peer that does not run."""
        (said,) = self.said(other=replace(THERE, is_offline=True), carrier=None).splitlines()
        self.assertIn("alice is offline", said)

    def test_relay_wanted(self) -> None:
        """If the user allows the relay only, that is why the path is not direct."""
        said = self.said(via=Via.RELAY)
        self.assertIn("--via relay", said)
        self.assertNotIn("router", said)
        earlier = replace(THERE, takes_calls=False)
        said = self.said(other=earlier, carrier=None, via=Via.RELAY)
        self.assertIn("cannot be called", said)
        self.assertNotIn("router", said)

    def test_no_registry(self) -> None:
        """Without a registry only the own network counts."""
        said = self.said(NetworkFacts("lan:", addresses=HERE.addresses), carrier=None)
        self.assertIn("same network", said)
        self.assertEqual(len(said.splitlines()), 1)
