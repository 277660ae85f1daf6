"""The JSON of a registry's answers."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.registry_answers import (
    ClaimBody,
    Granted,
    NameKind,
    PeerPage,
    PeerSummary,
    PeerView,
    Presence,
    Problem,
    RegistryInfo,
    ReleaseBody,
)
from tests.wire.statements import NAMES, SIGNING_KEYS

KEYS = SIGNING_KEYS.map(lambda key: key.public)
SUMMARIES = st.builds(
    PeerSummary,
    NAMES,
    st.sampled_from(NameKind),
    st.sampled_from(Presence),
    st.none() | st.integers(0, 2**40),
)
WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)


class RoundTripTests(SynchronousTestCase):
    """Parsing is the inverse of writing."""

    @given(st.lists(SUMMARIES, max_size=5).map(tuple), st.none() | NAMES)
    def test_page(self, peers: tuple[PeerSummary, ...], following: str | None) -> None:
        """A page of the list."""
        page = PeerPage(peers, following)
        self.assertEqual(PeerPage.parse(page.to_json()), page)

    @given(SUMMARIES, st.none() | KEYS, st.none() | WORDS, st.lists(WORDS, max_size=8).map(tuple))
    def test_view(
        self,
        summary: PeerSummary,
        key: PublicKey | None,
        record: str | None,
        rotations: tuple[str, ...],
    ) -> None:
        """A peer."""
        view = PeerView(summary, key, record, rotations, ("10.0.0.5:1",))
        self.assertEqual(PeerView.parse(view.to_json()), view)

    @given(WORDS, st.none() | WORDS, st.none() | WORDS, st.none() | WORDS)
    def test_claim(
        self, record: str, rotation: str | None, receipt: str | None, invitation: str | None
    ) -> None:
        """A claim and a release."""
        claim = ClaimBody(record, rotation, receipt, invitation)
        self.assertEqual(ClaimBody.parse(claim.to_json()), claim)
        self.assertEqual(ReleaseBody.parse(ReleaseBody(record).to_json()), ReleaseBody(record))

    @given(WORDS, st.binary(min_size=32, max_size=32))
    def test_granted(self, text: str, mac_key: bytes) -> None:
        """The reply to a claim."""
        granted = Granted("claimed", text, mac_key, text, "10.0.0.5")
        self.assertEqual(Granted.parse(granted.to_json()), granted)

    @given(KEYS, st.integers(0, 2**40), st.booleans())
    def test_info(self, key: PublicKey, time: int, invite_only: bool) -> None:
        """The description of a registry."""
        info = RegistryInfo("1.0", time, key, ("http://127.0.0.1:8000",), invite_only)
        self.assertEqual(RegistryInfo.parse(info.to_json()), info)

    def test_problem(self) -> None:
        """An error with its further members."""
        problem = Problem(
            409, "urn:p2pshare:problem:stale", "Conflict", "it was there before", (("seq", 7),)
        )
        self.assertEqual(Problem.parse(409, problem.to_json()), problem)
        self.assertEqual((problem.word, problem.number("seq")), ("stale", 7))
        self.assertIsNone(problem.number("time"))
        self.assertEqual(Problem.parse(502, b"<html>").word, "")


class IllegalTests(SynchronousTestCase):
    """A registry that lies, or is something else."""

    GOOD: ClassVar[dict[str, Any]] = {
        "name": "bob", "kind": "owned", "presence": "online", "since": 1,
        "key": None, "record": None, "rotations": [], "addresses": [],
    }  # fmt: skip

    def test_view(self) -> None:
        """Every member is checked."""
        self.assertEqual(PeerView.parse(json.dumps(self.GOOD).encode()).summary.name, "bob")
        for changes in (
            {"name": "<b>"}, {"name": None}, {"kind": "king"}, {"presence": "dead"}, {"key": "k"},
            {"since": "now"}, {"record": 5}, {"rotations": ["x"] * 9}, {"addresses": None},
        ):  # fmt: skip
            with self.assertRaises(RemoteProtocolError, msg=str(changes)):
                PeerView.parse(json.dumps({**self.GOOD, **changes}).encode())

    def test_page(self) -> None:
        """A page is an array of peers."""
        for body in (b"[]", b'{"peers": 1, "next": null}', b'{"peers": [1], "next": null}'):
            with self.assertRaises(RemoteProtocolError, msg=str(body)):
                PeerPage.parse(body)

    def test_which(self) -> None:
        """The error names the part that is wrong or missing."""
        for body, reason in (
            (b"{", "the body is no valid JSON in UTF-8"),
            (b"[]", "the body is no JSON object"),
            (b"{}", "the record is missing"),
            (b'{"record": null}', "the record is no text"),
        ):
            with self.assertRaisesRegex(RemoteProtocolError, reason):
                ClaimBody.parse(body)

    def test_other_service(self) -> None:
        """Another service is not accepted as a registry."""
        info = json.loads(RegistryInfo("1", 1, SigningKey(bytes(32)).public, (), False).to_json())
        with self.assertRaisesRegex(RemoteProtocolError, "another service"):
            RegistryInfo.parse(json.dumps({**info, "service": "x"}).encode())
