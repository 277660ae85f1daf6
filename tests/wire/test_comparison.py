"""Tests of `p2pshare.wire.comparison`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.wire.comparison import (
    DOMAIN,
    GROUP_DIGITS,
    GROUPS,
    SCRYPT_N,
    SCRYPT_P,
    SCRYPT_R,
    comparison_code,
    comparison_text,
)
from p2pshare.wire.keys import PublicKey, SigningKey

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol-sessions.md"
ONE, OTHER = SigningKey(b"a" * 32).public, SigningKey(b"b" * 32).public


class CodeTests(SynchronousTestCase):
    def test_both_sides(self) -> None:
        """Both sides see the same code: 6 groups of 5 digits, at least 99 bits."""
        code = comparison_code(ONE, OTHER)
        self.assertEqual(code, comparison_code(OTHER, ONE))
        self.assertTrue(re.fullmatch(r"\d{5}( \d{5}){5}", code), code)
        self.assertGreaterEqual(10 ** (GROUPS * GROUP_DIGITS), 2**99)

    def test_other_keys(self) -> None:
        """Threat 100: another key on either side gives another code; a key is not compared with itself."""
        third = SigningKey(b"c" * 32).public
        codes = {comparison_code(*pair) for pair in ((ONE, OTHER), (ONE, third), (OTHER, third))}
        self.assertEqual(len(codes), 3)
        self.assertRaises(ValueError, comparison_code, ONE, ONE)

    def test_cost(self) -> None:
        """Threat 100: a code costs at least 16 MiB of memory, so that lists of codes are out of reach."""
        self.assertGreaterEqual(128 * SCRYPT_N * SCRYPT_R, 16 * 2**20)

    def test_document(self) -> None:
        """The vectors of the document are those of the code, and of its formula."""
        text = DOCUMENT.read_text().partition("## Comparison codes")[2].partition("\n## ")[0]
        rows = re.findall(
            r"^\| `([a-z2-7]{52})` \| `([a-z2-7]{52})` \| `([\d ]{35})` \|$", text, re.M
        )
        self.assertEqual(len(rows), 2)
        for one, other, code in rows:
            keys = PublicKey.parse(one), PublicKey.parse(other)
            self.assertEqual(comparison_code(*keys), code)
            digest = hashlib.scrypt(
                b"".join(sorted(each.raw for each in keys)),
                salt=b"p2pshare comparison code 1",
                n=16384, r=8, p=1, dklen=48, maxmem=2**26,
            )  # fmt: skip
            groups = [digest[at : at + 8] for at in range(0, 48, 8)]
            self.assertEqual(
                code, " ".join(f"{int.from_bytes(each, 'big') % 100_000:05}" for each in groups)
            )
        for said in (DOMAIN.decode(), f"N = {SCRYPT_N}", f"r = {SCRYPT_R}", f"p = {SCRYPT_P}"):
            self.assertIn(said, text)

    def test_text(self) -> None:
        """The text of the QR code is the same on both sides."""
        texts = {comparison_text(pair, "1") for pair in (("bob", "alice"), ("alice", "bob"))}
        self.assertEqual(texts, {"p2pshare: alice + bob\n1"})
