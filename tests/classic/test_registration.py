"""Tests of `p2pshare.classic.registration`, and of the addresses of registries."""

from __future__ import annotations

import json
from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.registration import (
    Registration,
    parse_address,
    parse_names,
    parse_registration,
)
from p2pshare.errors import RemoteProtocolError
from p2pshare.names import is_name
from p2pshare.wire.addresses import PeerAddress, registry_url
from p2pshare.wire.registry_answers import CLASSIC_LEASE_MAX

ADDRESSES = st.builds(PeerAddress, st.ip_addresses(v=4).map(str), st.integers(1, 65535))
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?", fullmatch=True).filter(is_name)
TOKENS = st.text([chr(each) for each in range(0x21, 0x7F)], min_size=16, max_size=128)
REGISTRATIONS = st.builds(
    Registration,
    NAMES,
    ADDRESSES,
    st.none() | TOKENS,
    st.none() | st.integers(0, CLASSIC_LEASE_MAX),
)
GOOD = {"name": "bob", "ip": "10.0.0.5", "port": 50000}


def body(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


class RoundTripTests(SynchronousTestCase):
    """Values survive serializing and parsing."""

    @given(REGISTRATIONS)
    def test_registration(self, registration: Registration) -> None:
        """Every legal registration survives."""
        self.assertEqual(parse_registration(registration.to_json()), registration)

    @given(ADDRESSES)
    def test_address(self, address: PeerAddress) -> None:
        """Every legal address survives."""
        self.assertEqual(parse_address(address.to_json()), address)

    @given(st.lists(NAMES))
    def test_names(self, names: list[str]) -> None:
        """Every list of legal names survives."""
        self.assertEqual(parse_names(json.dumps(names).encode()), names)

    def test_original(self) -> None:
        """The exact bytes of an original's request are parsed."""
        self.assertEqual(
            parse_registration(b'{"name": "bob", "ip": "10.0.0.5", "port": 50000}'),
            Registration("bob", PeerAddress("10.0.0.5", 50000)),
        )

    def test_unknown_keys(self) -> None:
        """Unknown keys are ignored."""
        self.assertEqual(parse_registration(body(colour="red")).name, "bob")


class StrictnessTests(SynchronousTestCase):
    """Everything else is a `RemoteProtocolError`."""

    def test_wrong_values(self) -> None:
        """Types and ranges are checked."""
        wrong: dict[str, tuple[object, ...]] = {
            "name": (None, 5, "", "Bob", "list", "a" * 33, "b\u00f6b", "a\n", "\ud800"),
            "ip": (None, 1, "", "::1", "1.2.3", "1.2.3.04", "1.2.3.4 ", "\u0661.2.3.4"),
            "port": (None, True, 0, -1, 65536, 80.0, "80", [80], 10**400),
            "token": (5, "", "short", "x" * 129, "a b" * 9, "\u00e9" * 20, "x" * 16 + "\n"),
            "lease": (-1, True, 1.5, "90", CLASSIC_LEASE_MAX + 1),
        }
        for key, values in wrong.items():
            for value in values:
                with self.assertRaises(RemoteProtocolError, msg=f"{key}: {value!r:.50}"):
                    parse_registration(body(**{key: value}))

    def test_missing(self) -> None:
        """Name, ip and port are required."""
        for key in GOOD:
            with self.assertRaises(RemoteProtocolError):
                parse_registration(json.dumps({k: v for k, v in GOOD.items() if k != key}).encode())

    def test_wrong_json(self) -> None:
        """Invalid, repeated, deep and long JSON is rejected."""
        for wrong in (
            b"",
            b"{",
            b"null",
            b"[]",
            b'"bob"',
            b"\xff\xfe",
            body().decode().encode("utf-16"),
            b"\xef\xbb\xbf" + body(),
            body()[:-1] + b', "port": 50001}',
            body()[:-1] + b', "x": NaN}',
            body()[:-1] + b', "x": -Infinity}',
            b"[" * 16_000,
            b'{"a":' * 3_000,
            body()[:-1] + b', "x": ' + b"9" * 10_000 + b"}",
        ):
            for parse in (parse_registration, parse_address):
                with self.assertRaises(RemoteProtocolError, msg=repr(wrong[:40])):
                    parse(wrong)

    def test_wrong_names(self) -> None:
        """A list holds legal names only."""
        for wrong in (b"", b"{}", b'["bob", 5]', b'["\\u001b[2J"]', b'["list"]', b"[" * 16_000):
            with self.assertRaises(RemoteProtocolError, msg=repr(wrong[:40])):
                parse_names(wrong)

    @given(st.binary() | st.text().map(str.encode))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes give a value or that one error."""
        for parse, kind in (
            (parse_registration, Registration),
            (parse_address, PeerAddress),
            (parse_names, list),
        ):
            try:
                self.assertIsInstance(parse(data), kind)
            except RemoteProtocolError:
                continue

    @given(
        st.dictionaries(
            st.sampled_from(["name", "ip", "port", "token", "lease"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                lambda inner: st.lists(inner, max_size=3),
            ),
        )
    )
    def test_any_fields(self, fields: dict[str, object]) -> None:
        """Any JSON object gives a value or that one error."""
        try:
            registration = parse_registration(json.dumps(fields).encode())
        except RemoteProtocolError:
            return
        self.assertEqual(registration.name, fields["name"])


class RegistryUrlTests(SynchronousTestCase):
    """URLs of registries as people type them."""

    right: ClassVar = {
        "http://127.0.0.1:8000": "http://127.0.0.1:8000",
        "http://127.0.0.1:8000/": "http://127.0.0.1:8000",
        "127.0.0.1:8000": "http://127.0.0.1:8000",
        " localhost:8000 ": "http://localhost:8000",
        "Registry.Example.org": "http://registry.example.org",
        "http://h:80": "http://h",
        "https://h:443/": "https://h",
        "https://h:80": "https://h:80",
        "http://[::1]:8000": "http://[::1]:8000",
    }
    wrong = (
        "", "ftp://h", "http://", "http://h/path", "http://h?q", "http://h#f", "http://u:p@h",
        "http://h:0", "http://h:65536", "http://h:x", "http://[::1", "h h", "h\x00", "-h", "bob@",
    )  # fmt: skip

    def test_right(self) -> None:
        """Each URL has one canonical form, which stays unchanged."""
        for text, url in self.right.items():
            self.assertEqual(registry_url(text), url)
            self.assertEqual(registry_url(url), url)

    def test_wrong(self) -> None:
        """Other URLs are rejected with a reason."""
        for text in self.wrong:
            with self.assertRaises(ValueError, msg=text):
                registry_url(text)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is a URL or that one error."""
        try:
            url = registry_url(text)
        except ValueError:
            return
        self.assertEqual(registry_url(url), url)
