"""Tests for `p2pshare.wire.reach.person_links`, and of the vectors in docs/join-links.md."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import P2pshareError, PersonLinkUnusable
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.paths import COMPONENT_MAX, DEPTH_MAX, component_fault, is_within_bounds
from p2pshare.wire.reach.person_links import LINK_MAX, PREFIX, PersonLink
from tests import examples

DOCUMENT = Path(__file__).parents[3] / "docs" / "join-links.md"
REGISTRY = SigningKey(bytes(range(32))).public
BASE = f"{PREFIX}{REGISTRY}"
LINKS = (
    PersonLink(REGISTRY, "alice"),
    PersonLink(REGISTRY, "alice", ("photos", "München", "a b & 50%.jpg")),
)
COMPONENTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40
).filter(lambda text: component_fault(text) is None)


class PersonLinkTests(SynchronousTestCase):
    def test_vectors(self) -> None:
        """The document has these links, and they are read as they were made."""
        section = DOCUMENT.read_text().partition("## Links to people")[2]
        self.assertEqual(re.findall(r"^p2pshare://\S+$", section, re.M), list(map(str, LINKS)))
        for link in LINKS:
            self.assertEqual(PersonLink.parse(str(link)), link)

    @settings(max_examples=examples(100))
    @given(st.lists(COMPONENTS, max_size=5))
    def test_any_path(self, components: list[str]) -> None:
        """Any path that a peer can have, but for control characters, survives."""
        path = tuple(components)
        if is_within_bounds(path):
            link = PersonLink(REGISTRY, "bob", path)
            self.assertEqual(PersonLink.parse(str(link)), link)
            self.assertRegex(str(link), r"^[A-Za-z0-9:/._~%-]+$")

    def test_case(self) -> None:
        """The scheme may be in capitals; names and keys are canonical."""
        text = str(LINKS[0])
        self.assertEqual(PersonLink.parse(text.replace("p2pshare:", "P2PShare:")), LINKS[0])
        for other in (text.upper(), f"{BASE}/Alice", f"{BASE}/%41lice"):
            self.assertRaises(PersonLinkUnusable, PersonLink.parse, other)

    def test_hostile(self) -> None:
        """A link that climbs, hides, carries more than it needs or is too long is rejected (threat 130)."""
        for text in (
            *("", "p2pshare:", PREFIX, BASE, f"{BASE}/", "http://example.org/alice"),
            *(f"{PREFIX}alice", f"{PREFIX}192.0.2.1:8000/alice", f"{BASE[:-1]}/alice"),
            *(f"{PREFIX}{'a' * 52}/alice", f"{PREFIX}user@{REGISTRY}/alice", f"{BASE}:80/alice"),
            *(
                f"{BASE}/admin",
                f"{BASE}/--data",
                f"{BASE}/alice?x=1",
                f"{BASE}/alice#x",
                f"{BASE}//alice",
            ),
            *(
                f"{BASE}/alice/",
                f"{BASE}/alice//x",
                f"{BASE}/alice/../bob",
                f"{BASE}/alice/%2e%2e/x",
            ),
            *(
                f"{BASE}/alice/a%2Fb",
                f"{BASE}/alice/%00",
                f"{BASE}/alice/a%0Ab",
                f"{BASE}/alice/%1b%5b2J",
            ),
            *(f"{BASE}/alice/%ff", f"{BASE}/alice/%zz", f"{BASE}/alice/%", f"{BASE}/alice/a b"),
            *(
                f"{BASE}/alice/.p2pshare-x",
                f"{BASE}/alice/a\\b",
                f"{BASE}/alice/a\nb",
                f"{BASE}/alice/é",
            ),
            f"{BASE}/alice{'/a' * (DEPTH_MAX + 1)}",
            f"{BASE}/alice/{'a' * (COMPONENT_MAX + 1)}",
            f"{BASE}/alice/{'a' * LINK_MAX}",
        ):
            with self.subTest(text=text[:100]):
                error = self.assertRaises(PersonLinkUnusable, PersonLink.parse, text)
                self.assertEqual(error.exit_code, 2)

    @given(st.one_of(st.text(), st.text().map(lambda text: f"{BASE}/{text}")))
    def test_anything(self, text: str) -> None:
        """Any text is a link or a typed error (threat 130)."""
        try:
            PersonLink.parse(text)
        except P2pshareError as error:
            self.assertIsInstance(error, PersonLinkUnusable)
