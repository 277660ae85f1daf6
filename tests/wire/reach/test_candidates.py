"""Candidates: one canonical text each, and only addresses that a peer may have."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.reach.candidates import (
    CANDIDATES,
    TEXT_MAX,
    Candidate,
    CandidateKind,
    endpoints,
    tcp_addresses,
)
from tests.wire import statements


class CandidateTests(SynchronousTestCase):
    @given(statements.CANDIDATES)
    def test_round_trip(self, candidates: tuple[Candidate, ...]) -> None:
        """Candidates are read as they were written, within the bound of their length."""
        assert CANDIDATES.write is not None
        written = CANDIDATES.write(candidates)
        self.assertEqual(CANDIDATES.read({"candidates": written}, "candidates"), candidates)
        self.assertTrue(all(len(str(each)) <= TEXT_MAX for each in candidates))

    def test_text(self) -> None:
        """The text has the kind, and brackets around an IPv6 address."""
        address = PeerAddress("2001:db8::5", 50000)
        candidate = Candidate(CandidateKind.SEEN, address)
        self.assertEqual(str(candidate), "seen/[2001:db8::5]:50000")
        self.assertEqual(Candidate.parse("seen/[2001:db8::5]:50000"), candidate)

    @given(st.text(max_size=40))
    def test_noise(self, text: str) -> None:
        """Any text is a candidate that is written like it, or a `ValueError`."""
        with contextlib.suppress(ValueError):
            self.assertEqual(str(Candidate.parse(text)), text)

    def test_no_second_form(self) -> None:
        """Other forms of a candidate are rejected, not corrected."""
        for text in (
            "10.0.0.5:1", "/10.0.0.5:1", "HOST/10.0.0.5:1", "relay/10.0.0.5:1", "host/10.0.0.5",
            "host/10.0.0.5:0", "host/10.0.0.5:65536", "host/10.0.0.5:01", "host/010.0.0.5:1",
            "host//10.0.0.5:1", "host/2001:db8::5:1", "host/[2001:DB8::5]:1", " host/10.0.0.5:1",
        ):  # fmt: skip
            with self.assertRaises(ValueError, msg=text):
                Candidate.parse(text)

    def test_hostile_addresses(self) -> None:
        """Threat 13: an address that no peer may have is rejected, in candidates and for connections back."""
        for address in (
            "0.0.0.0:1", "169.254.169.254:80", "224.0.0.1:1", "255.255.255.255:1", "[fe80::1]:1",
            "[ff02::1]:1", "[::ffff:127.0.0.1]:1", "[64:ff9b::7f00:1]:1", "[2002:7f00:1::]:1",
        ):  # fmt: skip
            for codec, text in ((CANDIDATES, f"mapped/{address}"), (endpoints(4), address)):
                with self.assertRaises(RemoteProtocolError, msg=text):
                    codec.read({"x": [text]}, "x")

    def test_bounds(self) -> None:
        """There are at most as many as the codec says, each once."""
        many = [f"10.0.0.5:{port}" for port in range(1, 10)]
        for codec, most, before in ((CANDIDATES, 8, "host/"), (endpoints(4), 4, "")):
            texts = [before + each for each in many]
            self.assertEqual(len(codec.read({"x": texts[:most]}, "x")), most)
            for wrong in (texts[: most + 1], texts[:1] * 2, texts[0], [1], None, ["x" * 65]):
                with self.assertRaises(RemoteProtocolError, msg=str(wrong)):
                    codec.read({"x": wrong}, "x")

    def test_tcp(self) -> None:
        """An address that STUN has found is for UDP only; an address of two kinds is dialled once."""
        texts = "mapped/192.0.2.1:5", "host/10.0.0.5:1", "seen/10.0.0.5:1", "given/192.0.2.1:5"
        found = tcp_addresses(map(Candidate.parse, texts))
        self.assertEqual(found, ("10.0.0.5:1", "192.0.2.1:5"))
