"""docs/protocol-reach.md: its vectors and bounds are those of the code."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.reach.checks import CHECKS_MAX, CHECKS_S, PRIMING_TTLS, REMOTES_MAX
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey, SigningKey, to_base64url
from p2pshare.wire.reach.access import DETAIL_MAX, Access, Use, detail_of_body
from p2pshare.wire.reach.candidates import CandidateKind, Mapping
from p2pshare.wire.reach.connect_back import PREAMBLE_MAX, preamble_of, split_preamble
from p2pshare.wire.reach.signals import (
    BACK_MAX,
    SEALED_MAX,
    WHY_MAX,
    Signal,
    Step,
    seal_keys,
    seal_of,
    unseal,
)
from p2pshare.wire.reach.stun import (
    ANSWER_MAX,
    Binding,
    BindingKind,
    answer_to,
    is_authentic,
    padded_request,
    parse,
)
from p2pshare.wire.registry_answers import CLOCK_SKEW_MAX

TEXT = (Path(__file__).parents[3] / "docs" / "protocol-reach.md").read_text()
WORDS = " ".join(TEXT.split())
VECTORS = [
    dict(re.split(r": +", line, maxsplit=1) for line in block.splitlines())
    for block in re.findall(r"```vector\n(.*?)```", TEXT, re.DOTALL)
]


def vectors(kind: str) -> list[dict[str, str]]:
    return [each for each in VECTORS if each["kind"] == kind]


class ReachDocumentTests(SynchronousTestCase):
    def test_kinds(self) -> None:
        """Each vector is checked by one of these tests."""
        told = Counter(each["kind"] for each in VECTORS)
        self.assertEqual(
            told,
            {"seal": 1, "access": 3, "signal": 1, "sealed": 1, "stun": 2, "check": 1, "back": 1},
        )

    def test_statements(self) -> None:
        """Each payload, signed with the key of its seed, is the statement, and is parsed."""
        for vector in (*vectors("access"), *vectors("signal")):
            kind = Access if vector["kind"] == "access" else Signal
            key = SigningKey(bytes.fromhex(vector["seed"]))
            payload = vector["payload"].encode()
            signature = key.sign(f"p2pshare-{vector['kind']}-v1\0".encode() + payload)
            statement = f"{to_base64url(payload)}.{to_base64url(signature)}"
            self.assertEqual(statement, vector["statement"])
            self.assertEqual(kind.read(statement).sign(key), statement)
        uses = [Access.read(each["statement"]) for each in vectors("access")]
        self.assertEqual([each.use for each in uses], list(Use))
        self.assertEqual(uses[1].detail, detail_of_body(b'{"inbox":"main"}'))

    def test_sealed(self) -> None:
        """The keys are derived as the document says, and the sealed signal opens."""
        (vector,) = vectors("seal")
        key = SigningKey(bytes.fromhex(vector["seed"]))
        self.assertEqual(seal_keys(key).private_bytes_raw().hex(), vector["secret"])
        self.assertEqual(seal_of(key), vector["seal"])
        (vector,) = vectors("sealed")
        (signal,) = vectors("signal")
        found = unseal(bytes.fromhex(vector["sealed"]), key, PublicKey.parse(vector["aud"]))
        self.assertEqual(found, Signal.read(signal["statement"]))

    def test_stun(self) -> None:
        """The request is that of a peer, and its answer that of a registry."""
        for vector in vectors("stun"):
            request = bytes.fromhex(vector["request"])
            answer = answer_to(request, PeerAddress.parse(vector["source"]))
            self.assertEqual(answer, bytes.fromhex(vector["answer"]))
            self.assertEqual(request, padded_request(request[8:20]))
            self.assertEqual(len(request), ANSWER_MAX)

    def test_check(self) -> None:
        """The check and its answer are authentic, and are written like this."""
        (vector,) = vectors("check")
        request, answer = bytes.fromhex(vector["request"]), bytes.fromhex(vector["answer"])
        secret, source = bytes.fromhex(vector["secret"]), PeerAddress.parse(vector["source"])
        wanted = (
            Binding(BindingKind.REQUEST, request[8:20], vector["username"], use_candidate=True),
            Binding(BindingKind.SUCCESS, request[8:20], mapped=source),
        )
        self.assertEqual((parse(request), parse(answer)), wanted)
        self.assertEqual(tuple(each.serialize(secret) for each in wanted), (request, answer))
        self.assertTrue(is_authentic(request, secret) and is_authentic(answer, secret))

    def test_back(self) -> None:
        """The preamble names the attempt."""
        (vector,) = vectors("back")
        line = vector["preamble"].replace("\\n", "\n").encode()
        self.assertEqual(preamble_of(vector["attempt"]), line)
        self.assertEqual(split_preamble(line), (vector["attempt"], b""))

    def test_words(self) -> None:
        """The kinds, mappings, uses and steps are those of the code."""
        for kind in (CandidateKind, Mapping):
            rows = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
            self.assertLessEqual({each.value for each in kind}, rows)
        for word in (*Use, *Step):
            self.assertIn(f"`{word.value}`", TEXT)

    def test_bounds(self) -> None:
        """The numbers are those of the code."""
        for told in (
            f"{ANSWER_MAX} bytes in all",
            f"by {CLOCK_SKEW_MAX} s",
            f"by more than {CLOCK_SKEW_MAX} s",
            f"at most {DETAIL_MAX} characters",
            f"at most {BACK_MAX} different `IP:PORT`",
            f"at most {WHY_MAX} characters",
            f"A sealed signal has at most {SEALED_MAX} bytes",
            f"a line of at most {PREAMBLE_MAX} bytes",
            f"at most {REMOTES_MAX} addresses, each at most {CHECKS_MAX} times",
            f"stops after {CHECKS_S:g} s",
            "the TTLs {}, {} and {}".format(*PRIMING_TTLS),
        ):
            self.assertIn(told, WORDS)
