"""Signed statements: reading returns what was signed, and rejects everything else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import SigningKey, from_base64url, to_base64url
from p2pshare.wire.offers.receipts import OfferReceipt
from p2pshare.wire.statements import (
    STATEMENT_MAX,
    Invitation,
    Location,
    Proof,
    Receipt,
    Record,
    Release,
    Rotation,
    Statement,
    digest_of,
)
from tests.wire.statements import LOCATIONS, location_of, signed

KINDS: tuple[type[Statement], ...] = (
    Record,
    Release,
    Rotation,
    Receipt,
    Invitation,
    Proof,
    OfferReceipt,
)
BOB = SigningKey(b"b" * 32)
EVE = SigningKey(b"e" * 32)
LOCATION = location_of("[2001:db8::5]:50000", "10.0.0.5:50000")
RECORD = Record(
    "bob",
    BOB.public,
    1_790_000_000_000,
    1_790_000_000,
    1_790_086_400,
    EVE.public,
    digest_of(LOCATION.to_text()),
    ("classic",),
)


def resigned(**changes: object) -> str:
    """Return Bob's record with other fields, signed by Bob; a field that is None is omitted."""
    payload = from_base64url(RECORD.sign(BOB).partition(".")[0])
    values = {**json.loads(payload), **changes}
    return sign_payload(json.dumps({k: v for k, v in values.items() if v is not None}).encode())


def located(**changes: object) -> str:
    """Return Bob's location with other fields; a field that is None is omitted."""
    values = {**json.loads(from_base64url(LOCATION.to_text())), **changes}
    return to_base64url(json.dumps({k: v for k, v in values.items() if v is not None}).encode())


def sign_payload(payload: bytes, kind: str = "record") -> str:
    message = f"p2pshare-{kind}-v1\0".encode() + payload
    return f"{to_base64url(payload)}.{to_base64url(BOB.sign(message))}"


class StatementTests(SynchronousTestCase):
    """All kinds."""

    @given(signed())
    def test_round_trip(self, drawn: tuple[Statement, SigningKey]) -> None:
        """Every statement is read as it was signed, and fits into the limit."""
        statement, key = drawn
        text = statement.sign(key)
        self.assertEqual(type(statement).read(text, key.public), statement)
        self.assertLessEqual(len(text), STATEMENT_MAX)

    @given(signed(), st.data())
    def test_any_change_is_noticed(
        self, drawn: tuple[Statement, SigningKey], data: st.DataObject
    ) -> None:
        """No statement survives another character in any place."""
        statement, key = drawn
        text = statement.sign(key)
        place = data.draw(st.integers(0, len(text) - 1))
        other = data.draw(st.characters(codec="ascii").filter(lambda each: each != text[place]))
        changed = text[:place] + other + text[place + 1 :]
        with self.assertRaises(RemoteProtocolError):
            type(statement).read(changed, key.public)

    @given(signed())
    def test_kinds_are_apart(self, drawn: tuple[Statement, SigningKey]) -> None:
        """A statement of one kind is never accepted as another kind, whoever signed it."""
        statement, key = drawn
        for kind in KINDS:
            if kind is not type(statement):
                with self.assertRaises(RemoteProtocolError):
                    kind.read(statement.sign(key), key.public)

    @given(st.sampled_from(KINDS), st.text(max_size=200))
    def test_noise(self, kind: type[Statement], text: str) -> None:
        """Anything else is refused with the one error there is."""
        with self.assertRaises(RemoteProtocolError):
            kind.read(text, BOB.public)

    def test_another_signer(self) -> None:
        """A record that names Bob's key must be signed by it."""
        forged = replace(RECORD).sign(EVE)
        self.assertRaisesRegex(RemoteProtocolError, "signature of the record", Record.read, forged)
        with self.assertRaisesRegex(RemoteProtocolError, "signature of the record"):
            Record.read(RECORD.sign(BOB), EVE.public)

    def test_exact_bytes(self) -> None:
        """The bytes that came are verified: spaces and the order of keys are the signer's business."""
        payload = from_base64url(RECORD.sign(BOB).partition(".")[0])
        spaced = json.dumps(dict(reversed(json.loads(payload).items())), indent=2).encode()
        self.assertEqual(Record.read(sign_payload(spaced)), RECORD)
        text = sign_payload(payload)
        moved = to_base64url(spaced) + "." + text.partition(".")[2]
        with self.assertRaises(RemoteProtocolError):
            Record.read(moved)


class RecordTests(SynchronousTestCase):
    """A record's fields."""

    def test_unknown_keys(self) -> None:
        """Unknown members are ignored."""
        self.assertEqual(Record.read(resigned(nat="hard")), RECORD)

    def test_illegal_fields(self) -> None:
        """A valid signature does not make an invalid field valid (threat 7)."""
        illegal: tuple[dict[str, Any], ...] = (
            {"v": 2}, {"v": None}, {"v": True},
            {"name": "Bob"}, {"name": "bob "}, {"name": "list"}, {"name": 7}, {"name": None},
            {"key": "x"}, {"key": None}, {"key": str(BOB.public).upper()},
            {"seq": 0}, {"seq": -1}, {"seq": 2**53}, {"seq": 1.5}, {"seq": "1"}, {"seq": True},
            {"iat": -1}, {"exp": "soon"}, {"exp": None},
            {"aud": "http://127.0.0.1:8000"}, {"aud": str(EVE.public).upper()}, {"aud": None},
            {"aud": "ae" + "a" * 50}, {"aud": 8000},
            {"location": None}, {"location": 1}, {"location": "s" * 42}, {"location": "!" * 43},
            {"seal": "s" * 42}, {"seal": "t" * 43}, {"seal": 1},
            {"caps": ["Classic"]}, {"caps": [""]}, {"caps": ["x"] * 17}, {"caps": None},
        )  # fmt: skip
        for changes in illegal:
            with self.assertRaises(RemoteProtocolError, msg=str(changes)):
                Record.read(resigned(**changes))
        for candidates in (
            None,
            "host/10.0.0.5:1",
            [1],
            [f"host/10.0.0.5:{port}" for port in range(1, 10)],
        ):
            with self.assertRaises(RemoteProtocolError, msg=str(candidates)):
                Location.parse(located(candidates=candidates))
        for text in (
            "",
            "x",
            "{}",
            located(v=2),
            located(salt=None),
            located(salt="s" * 15),
            located(mapping=None),
            located(mapping="easy"),
            "a" * 5000,
        ):
            with self.assertRaisesRegex(RemoteProtocolError, "the location is wrong: "):
                Location.parse(text)

    def test_which(self) -> None:
        """The error names the kind of statement and the wrong part."""
        payload, _, signature = RECORD.sign(BOB).partition(".")
        for text, reason in (
            ("x", "the record is wrong: it is not two base64url texts"),
            (f"!.{signature}", "the record is wrong: its payload is no canonical base64url"),
            (f"{payload}.!", "the record is wrong: its signature is no canonical base64url"),
            (sign_payload(b"{"), "the record is wrong: its payload is no valid JSON"),
            (resigned(seq=None), "the record is wrong: the seq is missing"),
            (resigned(key=str(BOB.public).upper()), "the key is not .* in lower case"),
            (resigned(key="ae" + "a" * 50), "the key is one that anybody can sign for"),
        ):
            self.assertRaisesRegex(RemoteProtocolError, reason, Record.read, text)
        with self.assertRaisesRegex(RemoteProtocolError, "the invitation is wrong: it is not two"):
            Invitation.read("x", BOB.public)

    def test_twice(self) -> None:
        """A duplicate member is rejected."""
        payload = from_base64url(RECORD.sign(BOB).partition(".")[0])
        twice = payload[:-1] + b',"name":"eve"}'
        with self.assertRaisesRegex(RemoteProtocolError, "JSON"):
            Record.read(sign_payload(twice))

    def test_addresses(self) -> None:
        """Each address is one that a peer may have, and stands once (threat 13)."""
        for illegal, reason in (
            (["169.254.169.254:80"], "the candidate 'host/169.254.169.254:80' is link-local"),
            (["10.0.0.5:1", "[64:ff9b::7f00:1]:1"], "carries an IPv4 address .NAT64"),
            (["[2002:7f00:1::]:1"], "carries an IPv4 address that is not public .6to4"),
            (["10.0.0.5:01"], "'host/10.0.0.5:01' is no candidate in canonical form"),
            (["10.0.0.5:1", "10.0.0.6:1", "10.0.0.5:1"], "one of the candidates stands twice"),
        ):
            with self.assertRaisesRegex(RemoteProtocolError, reason):
                Location.parse(located(candidates=[f"host/{each}" for each in illegal]))
        legal = ["10.0.0.5:1", "10.0.0.5:2", "[::1]:1", "127.0.0.1:1"]
        told = Location.parse(located(candidates=[f"host/{each}" for each in legal]))
        self.assertEqual(told.addresses, tuple(legal))

    def test_ipv4_address(self) -> None:
        """Original clients get the first IPv4 address."""
        self.assertEqual(LOCATION.ipv4_address, PeerAddress("10.0.0.5", 50000))
        self.assertIsNone(replace(LOCATION, candidates=LOCATION.candidates[:1]).ipv4_address)

    @given(LOCATIONS, LOCATIONS)
    def test_location(self, location: Location, other: Location) -> None:
        """A location is read as it was sent; its digest is that of no other, and hides the addresses by a salt."""
        text = location.to_text()
        self.assertEqual(Location.parse(text), location)
        self.assertEqual(digest_of(text) == digest_of(other.to_text()), location == other)
        salted = replace(
            location, salt=location.salt[:-1] + ("a" if location.salt[-1] != "a" else "b")
        )
        self.assertNotEqual(digest_of(salted.to_text()), digest_of(text))
