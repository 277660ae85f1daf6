"""Tests of `p2pshare.peer.lan.announcement`."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.peer.fetch.remote import ACCEPT_PATIENCE
from p2pshare.peer.lan.admission import COME_AGAIN
from p2pshare.peer.lan.announcement import (
    ADDRESSES_MAX,
    CAPS_MAX,
    KEY_PART,
    SERVICE_TYPE,
    TEXT_MAX,
    Announcement,
)
from p2pshare.peer.lan.directory import FIRST_CONTACT
from p2pshare.peer.lan.services import LIFETIME, REPEAT
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.session_messages import CAP_SESSIONS
from tests.peer.lan.network import HOME, announced, key_of

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol-reach.md").read_text()
BOB = announced("bob", 7)


def text_of(announcement: Announcement) -> dict[bytes, bytes | None]:
    return {key.encode(): value.encode() for key, value in announcement.text().items()}


class AnnouncementTests(SynchronousTestCase):
    def read(self, **changed: Any) -> Announcement:
        said: dict[str, Any] = {
            "instance": BOB.instance,
            "text": text_of(BOB),
            "addresses": ["192.0.2.7"],
            "port": 50_000,
            "networks": HOME,
        }
        return Announcement.read(**{**said, **changed})

    def assert_rejected(self, **changed: Any) -> None:
        with self.assertRaises(RemoteProtocolError, msg=str(changed)):
            self.read(**changed)

    def test_round_trip(self) -> None:
        """What a peer announces is read as it was meant."""
        self.assertEqual(self.read(), BOB)
        own = Announcement.own(
            "bob", key_of(7), ["192.0.2.7:50000"], [CAP_SESSIONS, "classic", "reach/1"], 1_000
        )
        self.assertEqual(own, replace(BOB, since=1_000))
        self.assertEqual(self.read(text=text_of(own)), own)
        for since in (b"", b"-1", b"1e3", b"9" * 13, None):
            self.assertEqual(self.read(text={**text_of(BOB), b"since": since}), BOB)

    def test_names(self) -> None:
        """Threat 62: only legal names in canonical form are heard, with a part of the key that is announced."""
        part = BOB.instance.partition(" ")[2]
        for instance in (
            *("", " ", "bob", f" {part}", f"Bob {part}", f"bob\x1b[2J {part}", f"b\u043eb {part}"),
            *(f"list {part}", f"{'b' * 33} {part}", "bob ", f"bob {part[:-1]}", f"bob  {part}"),
            f"bob {str(key_of(8))[:12]}",
        ):
            self.assert_rejected(instance=instance)

    def test_texts(self) -> None:
        """Threat 63: a TXT record that is cut, foreign, huge or not ASCII is no announcement."""
        whole = text_of(BOB)
        for text in (
            {},
            {**whole, b"v": b"2"},
            {**whole, b"v": None},
            {**whole, b"key": b"\xff" * 52},
            {**whole, b"key": b"a" * 52},
            {**whole, b"key": None},
        ):
            self.assert_rejected(text=text)
        many = {**whole, b"caps": b"sessions/1," * 1000, **{b"%d" % n: b"x" for n in range(99)}}
        self.assertLessEqual(len(self.read(text=many).caps), CAPS_MAX)
        odd = {**whole, b"caps": b"sessions/1,reach/1,\xff,sessions/x"}
        self.assertEqual(self.read(text=odd).caps, (CAP_SESSIONS,))

    def test_addresses(self) -> None:
        """Threats 13 and 62: only addresses in a network of this machine are used, and none that leads elsewhere."""
        elsewhere = [
            *("203.0.113.9", "10.0.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.251", "0.0.0.0"),
            *("192.0.2.0", "192.0.2.255", "fe80::1", "::1", "ff02::fb", "::ffff:192.0.2.9"),
            *("2001:db8::1", "192.0.2.07", "x", ""),
        ]
        for each in elsewhere:
            self.assert_rejected(addresses=[each])
        found = self.read(addresses=[*elsewhere, "192.0.2.9", "fd00::9"]).addresses
        self.assertEqual(found, (PeerAddress("192.0.2.9", 50_000), PeerAddress("fd00::9", 50_000)))
        here = (ipaddress.ip_network("127.0.0.0/8"),)
        self.assert_rejected(addresses=["127.0.0.1"], networks=here)
        many = [f"192.0.2.{n}" for n in range(1, 200)]
        self.assertEqual(len(self.read(addresses=many).addresses), ADDRESSES_MAX)
        for port in (None, 0, -1, 65_536):
            self.assert_rejected(port=port)

    def test_document(self) -> None:
        """docs/protocol-reach.md describes what is announced, and has the bounds of the code."""
        words = " ".join(DOCUMENT.split())
        for part in (
            f"`{SERVICE_TYPE}`",
            f"the first {KEY_PART} characters of the key",
            "`v=1`",
            f"more than {TEXT_MAX} bytes",
            f"up to {ADDRESSES_MAX} addresses",
            f"every {REPEAT:g} s,",
            f"not heard for {LIFETIME:g} s",
            f"p2pshare: {FIRST_CONTACT:g} s",
            f"every {COME_AGAIN:g} s, for up to {ACCEPT_PATIENCE / 60:g} minutes",
        ):
            self.assertIn(part, words)

    @settings(max_examples=50)
    @given(
        st.text(max_size=70),
        st.dictionaries(st.binary(max_size=5), st.none() | st.binary(max_size=60), max_size=5),
        st.lists(st.text(max_size=20), max_size=3),
        st.none() | st.integers(0, 70_000),
    )
    def test_anything(
        self, instance: str, text: dict[bytes, bytes | None], addresses: list[str], port: int | None
    ) -> None:
        """Whatever a stranger announces, there is a result or one kind of error."""
        with contextlib.suppress(RemoteProtocolError):
            Announcement.read(instance, text, addresses, port, HOME)
