"""Tests for `p2pshare.wire.reach.join_links`, and of the vectors in docs/join-links.md."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import JoinLinkExpired, JoinLinkUnusable, P2pshareError
from p2pshare.wire.addresses import URL_MAX
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.paths import PATH_MAX
from p2pshare.wire.reach.join_links import (
    DAMAGED,
    LINK_MAX,
    NO_LINK,
    SCHEME,
    TOO_NEW,
    URLS_MAX,
    JoinLink,
    _checksum,
)
from p2pshare.wire.statements import Invitation
from tests import examples

DOCUMENT = Path(__file__).parents[3] / "docs" / "join-links.md"
REGISTRY = SigningKey(bytes(range(32)))
NOW = 1_800_000_000
INVITATION = Invitation("A" * 22, NOW - 60, NOW + 86_400).sign(REGISTRY)
URL = "http://192.0.2.1:8000"
LINKS = (
    JoinLink(REGISTRY.public, (URL,)),
    JoinLink(REGISTRY.public, ("https://share.example.org", "http://[2001:db8::1]:8000")),
    JoinLink(REGISTRY.public, (URL,), None, "alice:photos/München"),
    JoinLink(REGISTRY.public, (URL,), INVITATION, "alice", NOW + 86_400),
)
HOSTILE_URLS = (
    *(b"", b"192.0.2.1:8000/path", b"user@192.0.2.1", b"192.0.2.1:80", b"EXAMPLE.org", b"a b"),
    *(b"\xff", b"x" * URL_MAX, b"192.0.2.1:0", b"192.0.2.1:99999", b"a\r\nHost: b"),
)


def field(tag: int, value: bytes) -> bytes:
    """Return a field of a link."""
    return bytes([tag]) + len(value).to_bytes(2, "big") + value


def link_of(body: bytes) -> str:
    """Return the link with this body and a right checksum."""
    return SCHEME + base64.b32encode(body + _checksum(body)).decode().rstrip("=").lower()


KEY = field(1, REGISTRY.public.raw)
PLAIN = b"\1" + KEY + field(2, b"192.0.2.1:8000")


class JoinLinkTests(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """A link is read as it was made, in either case and with white space in it."""
        for link in LINKS:
            text = str(link)
            self.assertEqual(JoinLink.parse(text, NOW), link)
            self.assertEqual(JoinLink.parse(text.upper(), NOW), link)
            wrapped = "\r\n ".join(text[i : i + 40] for i in range(0, len(text), 40))
            self.assertEqual(JoinLink.parse(f" {wrapped}\n", NOW), link)

    def test_sizes(self) -> None:
        """A link is short: for an open registry, and with an invitation."""
        self.assertLessEqual(len(str(LINKS[0])), 107)
        self.assertLessEqual(len(str(LINKS[3])), 360)

    def test_largest(self) -> None:
        """The link with the longest URLs and the longest path can be read."""
        urls = tuple(f"https://{letter}{'x' * (URL_MAX - 9)}" for letter in "abcd"[:URLS_MAX])
        path = "/".join(["y" * 255] * 8)
        link = JoinLink(REGISTRY.public, urls, INVITATION, f"alice:{path}", NOW + 1)
        self.assertEqual(JoinLink.parse(str(link), NOW), link)
        self.assertLess(len(path), PATH_MAX)
        self.assert_unusable(f"it has more than {LINK_MAX}", SCHEME + "a" * LINK_MAX)

    @given(st.sampled_from(LINKS), st.data())
    @settings(max_examples=examples(50))
    def test_damage(self, link: JoinLink, data: st.DataObject) -> None:
        """A link that lost its end, or of which a character was changed, is noticed."""
        text = str(link)
        at = data.draw(st.integers(len(SCHEME), len(text) - 1))
        self.assert_unusable(DAMAGED, text[:at])
        other = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567019=!é"))
        if other != text[at]:
            self.assert_unusable(DAMAGED, text[:at] + other + text[at + 1 :])

    @given(st.text())
    @settings(max_examples=examples(50))
    def test_anything(self, text: str) -> None:
        """Any text is a link or raises the error of links."""
        for each in (text, SCHEME + text):
            self.assertRaises(JoinLinkUnusable, JoinLink.parse, each, NOW)

    @given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=6))
    @settings(max_examples=examples(50))
    def test_any_fields(self, fields: list[tuple[int, bytes]]) -> None:
        """A link with a right checksum and any content is read, or raises the error of links."""
        text = link_of(b"\1" + KEY + b"".join(field(*each) for each in fields))
        try:
            JoinLink.parse(text, NOW)
        except P2pshareError as error:
            self.assertIsInstance(error, JoinLinkUnusable | JoinLinkExpired)

    def test_no_link(self) -> None:
        """The error for another text says how a link begins."""
        for text in ("", URL, "p2pshare", "alice:photos", str(LINKS[0])[1:], INVITATION):
            self.assert_unusable(NO_LINK, text)

    def test_later_version(self) -> None:
        """The error for a link of a later version, or with a field that must be known, asks for an update."""
        self.assert_unusable(TOO_NEW, link_of(b"\2anything"))
        self.assert_unusable(TOO_NEW, link_of(PLAIN + field(7, b"")))

    def test_optional_field(self) -> None:
        """Unknown optional fields are skipped."""
        link = JoinLink.parse(link_of(PLAIN + field(128, b"new") + field(255, b"")), NOW)
        self.assertEqual(link, LINKS[0])

    def test_expired(self) -> None:
        """A link is of no use from the second of its expiry on."""
        link = JoinLink(REGISTRY.public, (URL,), None, None, NOW + 1)
        self.assertEqual(JoinLink.parse(str(link), NOW + 0.5), link)
        error = self.assertRaises(JoinLinkExpired, JoinLink.parse, str(link), NOW + 1)
        self.assertEqual(error.exit_code, 3)

    def test_invalid_fields(self) -> None:
        """Threat 60: a link that a stranger made cannot hold a URL, key, name, path or number that is none."""
        weak = b"\1" + bytes(31)
        other = Invitation("A" * 22, NOW, NOW + 1).sign(SigningKey(bytes(32)))
        for body in (
            *(b"\1", b"\1" + KEY, b"\1" + field(2, b"192.0.2.1:8000"), PLAIN + b"\5", PLAIN + KEY),
            *(b"\1" + KEY + field(2, each) for each in HOSTILE_URLS),
            b"\1" + field(1, weak) + field(2, b"192.0.2.1:8000"),
            b"\1" + field(1, REGISTRY.public.raw[:-1]) + field(2, b"192.0.2.1:8000"),
            b"\1" + KEY + field(2, b"192.0.2.1:8000") * 2,
            b"\1" + KEY + b"".join(field(2, b"192.0.2.1:800%d" % each) for each in range(5)),
            *(PLAIN + field(4, each) for each in (b"", b"x", bytes(64), bytes(5000))),
            PLAIN + field(4, other.encode()),
            *(PLAIN + field(5, each) for each in (b"", b"Alice", b"alice:", b"a/b", b"alice:../x")),
            *(PLAIN + field(5, each) for each in (b"alice:\xff", b"alice:.p2pshare", b"list")),
            *(PLAIN + field(6, each) for each in (b"", b"\0\1", bytes([1] * 9))),
        ):
            self.assert_unusable("it is not valid: ", link_of(body))

    def test_hostile_urls(self) -> None:
        """The reason says that it is the URL that is wrong."""
        for each in (b"u:p@192.0.2.1:80", b"192.0.2.1:0", b"192.0.2.1:99999", b"192.0.2.1/x", b""):
            text = link_of(b"\1" + KEY + field(2, each))
            self.assert_unusable("is not the URL of a registry", text)

    def assert_unusable(self, reason: str, text: str) -> None:
        error = self.assertRaises(JoinLinkUnusable, JoinLink.parse, text, NOW)
        self.assertIn(reason, str(error.fields["reason"]))


class DocumentTests(SynchronousTestCase):
    """docs/join-links.md."""

    def test_vectors(self) -> None:
        """The links of the document are those of this module."""
        found = re.findall(r"^p2pshare:[a-z2-7]+$", DOCUMENT.read_text(), re.MULTILINE)
        self.assertEqual(found, [str(each) for each in LINKS])

    def test_key(self) -> None:
        """The document has the key of the vectors and their invitation."""
        text = DOCUMENT.read_text()
        self.assertEqual(PublicKey.parse(str(REGISTRY.public)), REGISTRY.public)
        self.assertIn(f"`{REGISTRY.public}`", text)
        self.assertIn(INVITATION, text)
