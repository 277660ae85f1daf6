"""Signals and access statements: each is for one recipient, registry and use."""

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
from p2pshare.wire.reach.access import Access, Use, detail_of_body, detail_of_room
from p2pshare.wire.reach.candidates import Candidate, CandidateKind, Mapping
from p2pshare.wire.reach.connect_back import PREAMBLE_MAX, preamble_of, split_preamble
from p2pshare.wire.reach.signals import SEALED_MAX, Signal, Step, seal, seal_of, unseal
from tests.wire.reach.strategies import accesses, signals

ALICE, BOB, EVE = (SigningKey(letter * 32) for letter in (b"a", b"b", b"e"))
REGISTRY, OTHER = SigningKey(b"r" * 32).public, SigningKey(b"o" * 32).public
ATTEMPT = "a" * 22
CALL = Signal(
    attempt=ATTEMPT,
    step=Step.CALL,
    name="alice",
    key=ALICE.public,
    to=BOB.public,
    aud=REGISTRY,
    iat=1_790_000_000,
    inbox="i" * 22,
    seal=seal_of(ALICE),
    candidates=(Candidate.parse("mapped/192.0.2.6:61234"),),
    mapping=Mapping.INDEPENDENT,
    secret=to_base64url(b"s" * 32),
    room="r" * 22,
    back=(PeerAddress("10.0.0.6", 40000),),
    why="",
)
ACCESS = Access(
    "alice", ALICE.public, REGISTRY, 1_790_000_000, "n" * 22, Use.SIGNAL, detail_of_body(b"x")
)


def sealed(statement: str, to: SigningKey = BOB) -> bytes:
    """Return a statement, sealed for a recipient."""
    return seal(statement, seal_of(to), to.public, REGISTRY)


def resigned(**changes: object) -> bytes:
    """Return Alice's call with other members, signed and sealed again; one that is None is omitted."""
    values = {**json.loads(from_base64url(CALL.sign(ALICE).partition(".")[0])), **changes}
    payload = json.dumps({k: v for k, v in values.items() if v is not None}).encode()
    signature = ALICE.sign(b"p2pshare-signal-v1\0" + payload)
    return sealed(f"{to_base64url(payload)}.{to_base64url(signature)}")


class SignalTests(SynchronousTestCase):
    """Sealed signals."""

    def refuse(self, data: bytes, reason: str, key: SigningKey = BOB) -> None:
        with self.assertRaisesRegex(RemoteProtocolError, reason):
            unseal(data, key, REGISTRY)

    @given(signals(ALICE, BOB.public, REGISTRY))
    def test_round_trip(self, signal: Signal) -> None:
        """A signal is opened as it was sealed, and is never longer than the bound."""
        data = sealed(signal.sign(ALICE))
        self.assertLessEqual(len(data), SEALED_MAX)
        self.assertEqual(unseal(data, BOB, REGISTRY), signal)

    def test_longest(self) -> None:
        """The longest signal fits into the bound."""
        drawn = "x" * 64
        addresses = [
            PeerAddress(f"2001:db8:1234:5678:9abc:def0:1234:567{number}", 65535)
            for number in range(8)
        ]
        longest = replace(
            CALL,
            attempt=drawn,
            step=Step.REFUSED,
            name="n" * 32,
            iat=2**53 - 1,
            inbox=drawn,
            candidates=tuple(Candidate(CandidateKind.FORWARDED, each) for each in addresses),
            room=drawn,
            back=tuple(addresses[:4]),
            why="\N{GRINNING FACE}" * 64,
        )
        data = sealed(longest.sign(ALICE))
        self.assertLessEqual(len(data), SEALED_MAX)
        self.assertEqual(unseal(data, BOB, REGISTRY), longest)

    @given(st.binary(max_size=200))
    def test_noise(self, noise: bytes) -> None:
        """Threat 6: any bytes are an error, also those that are sealed rightly."""
        self.refuse(noise, "does not open")
        with self.assertRaises(RemoteProtocolError):
            unseal(sealed(noise.decode("latin-1")), BOB, REGISTRY)

    def test_too_long(self) -> None:
        """A signal that is too long is not opened."""
        self.refuse(bytes(SEALED_MAX + 1), "more than 3072 bytes")

    def test_changed(self) -> None:
        """Threat 48: a signal of which any byte is changed or missing does not open."""
        data = sealed(CALL.sign(ALICE))
        for place in (0, 31, 32, len(data) // 2, len(data) - 1):
            self.refuse(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], "open")
            self.refuse(data[:place], "open")

    def test_not_readable(self) -> None:
        """Threat 48: the registry can read nothing of a signal; the same signal is never sealed alike."""
        text = CALL.sign(ALICE)
        self.assertNotEqual(sealed(text), sealed(text))
        for part in (b"192.0.2.6", b"alice", text.encode()[:20], text.encode()[-20:]):
            self.assertNotIn(part, sealed(text))

    def test_another_recipient(self) -> None:
        """Threat 48: a signal for Bob does not open for Eve or another registry; a signature passed on is rejected."""
        text = CALL.sign(ALICE)
        self.refuse(sealed(text), "does not open", EVE)
        with self.assertRaisesRegex(RemoteProtocolError, "does not open"):
            unseal(sealed(text), BOB, OTHER)
        self.refuse(sealed(text, EVE), "another peer or registry", EVE)
        elsewhere = replace(CALL, aud=OTHER).sign(ALICE)
        self.refuse(sealed(elsewhere), "another peer or registry")

    def test_another_sender(self) -> None:
        """Threat 48: anybody can seal, but only the key that the signal names can sign it."""
        self.refuse(sealed(CALL.sign(EVE)), "the signature of the signal is wrong")
        self.refuse(sealed(ACCESS.sign(ALICE)), "the signal is wrong")

    def test_illegal_members(self) -> None:
        """Threat 7: a valid signature does not make an invalid member valid."""
        illegal: tuple[dict[str, Any], ...] = (
            {"attempt": "short"}, {"attempt": "x" * 65}, {"attempt": "a b" * 8}, {"attempt": None},
            {"step": "CALL"}, {"step": None}, {"name": "Alice"}, {"to": "x"}, {"iat": -1},
            {"inbox": ""}, {"inbox": "mainly"}, {"seal": "s" * 42}, {"seal": 1}, {"seal": None},
            {"candidates": ["host/10.0.0.5"]}, {"candidates": None}, {"mapping": "hard"},
            {"candidates": [f"host/10.0.0.5:{port}" for port in range(1, 10)]},
            {"candidates": ["host/169.254.169.254:80"]}, {"secret": "x"}, {"secret": None},
            {"room": "x"}, {"room": None}, {"back": ["10.0.0.5"]}, {"back": ["[fe80::1]:1"]},
            {"back": [f"10.0.0.5:{port}" for port in range(1, 6)]}, {"back": None},
            {"why": "x" * 65}, {"why": None}, {"v": 2},
        )  # fmt: skip
        for changes in illegal:
            with self.assertRaises(RemoteProtocolError, msg=str(changes)):
                unseal(resigned(**changes), BOB, REGISTRY)
        self.assertEqual(unseal(resigned(later=1), BOB, REGISTRY), CALL)

    def test_wrong_seals(self) -> None:
        """A seal in a record or signal that is no key, or a weak one, is an error."""
        for text in (
            "",
            "x",
            to_base64url(bytes(31)),
            to_base64url(bytes(32)),
            to_base64url(b"\1" + bytes(31)),
        ):
            with self.assertRaises(RemoteProtocolError, msg=text):
                seal(CALL.sign(ALICE), text, BOB.public, REGISTRY)


class AccessTests(SynchronousTestCase):
    """Access statements."""

    @given(accesses(ALICE))
    def test_round_trip(self, access: Access) -> None:
        """An access statement is read from its header as it was signed."""
        unverified = Access.parse_header(access.to_header(ALICE))
        self.assertEqual(unverified.statement, access)
        self.assertTrue(unverified.is_signed_by(ALICE.public))
        self.assertFalse(unverified.is_signed_by(BOB.public))

    @given(st.text(max_size=100))
    def test_noise(self, text: str) -> None:
        """Threat 6: any header is an error."""
        for value in (text, f"P2pshare {text}"):
            with self.assertRaises(RemoteProtocolError):
                Access.parse_header(value)

    def test_schemes(self) -> None:
        """Another scheme is rejected; case does not matter in it, as in any scheme of HTTP."""
        header = ACCESS.to_header(ALICE)
        with self.assertRaisesRegex(RemoteProtocolError, "scheme"):
            Access.parse_header(header.replace("P2pshare", "Bearer"))
        self.assertEqual(Access.parse_header(header.lower()[:9] + header[9:]).statement, ACCESS)

    def test_details(self) -> None:
        """The details of two bodies, rooms or peers differ."""
        self.assertNotEqual(detail_of_body(b"x"), detail_of_body(b"y"))
        self.assertEqual(detail_of_room("room", BOB.public), f"room {BOB.public}")


class PreambleTests(SynchronousTestCase):
    """The line before a session over a connection back."""

    def test_pieces(self) -> None:
        """The line may come in any pieces, with the session's first bytes behind it."""
        line = preamble_of(ATTEMPT)
        for size in range(len(line)):
            self.assertIsNone(split_preamble(line[:size]))
        for rest in (b"", b"\x16\x03\x01\n"):
            self.assertEqual(split_preamble(line + rest), (ATTEMPT, rest))
        self.assertLessEqual(len(preamble_of("x" * 64)), PREAMBLE_MAX)

    @given(st.binary(min_size=1, max_size=200))
    def test_noise(self, noise: bytes) -> None:
        """Threat 6: anything else is an error, as soon as it shows, and never waits for more than the bound."""
        for data in (noise, preamble_of(ATTEMPT)[:-1] + noise):
            try:
                found = split_preamble(data)
            except RemoteProtocolError:
                continue
            if found is None:
                self.assertLess(len(data), PREAMBLE_MAX)
                self.assertNotIn(b"\n", data)

    def test_wrong(self) -> None:
        """A connection of another protocol ends with its first wrong byte."""
        for data in (
            b"G",
            b"\x16\x03",
            b"p2pshare-back/2",
            b"p2pshare-back/1 short\n",
            b"p2pshare-back/1 " + b"x" * 80,
        ):
            with self.assertRaisesRegex(RemoteProtocolError, "no connection back"):
                split_preamble(data)
