"""Tests of `p2pshare.storage.identity.key_export`."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import SealedKeyUnusable, WrongUsage
from p2pshare.storage.identity.identity import Portable
from p2pshare.storage.identity.key_export import COST, NO_EXPORT, NOT_OPENED, SIZE_MAX, seal, unseal

BOB = Portable("bob", "http://127.0.0.1:8000", bytes(range(32)), 1_800_000_000_000, "re.ceipt")
PASSPHRASE = "correct horse"
CHEAP = 2**14
SEALED = seal(BOB, PASSPHRASE, random.Random(1).randbytes, cost=CHEAP)


class KeyExportTests(SynchronousTestCase):
    def refused(self, data: bytes, reason: str, passphrase: str = PASSPHRASE) -> None:
        error = self.assertRaises(SealedKeyUnusable, unseal, data, passphrase)
        self.assertEqual(error.fields, {"reason": reason})

    def changed(self, **changes: Any) -> bytes:
        return json.dumps({**json.loads(SEALED), **changes}).encode()

    def test_round_trip(self) -> None:
        """The same passphrase, however composed, opens the file."""
        self.assertEqual(unseal(SEALED, PASSPHRASE), BOB)
        bare = Portable("bob", BOB.registry, bytes(32), 0, None)
        sealed = seal(bare, "gru\N{COMBINING DIAERESIS}ne Wiese", cost=CHEAP)
        self.assertEqual(unseal(sealed, "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}ne Wiese"), bare)

    def test_cost(self) -> None:
        """By default a guess costs 128 MiB."""
        header = json.loads(seal(BOB, PASSPHRASE))
        self.assertEqual((header["n"], header["r"], header["p"]), (COST, 8, 1))

    def test_tells_nothing(self) -> None:
        """The file shows name and registry, and no secret; two exports differ."""
        other = seal(BOB, PASSPHRASE, cost=CHEAP)
        self.assertNotEqual(json.loads(other)["box"], json.loads(SEALED)["box"])
        self.assertNotIn(b"ceipt", SEALED)
        self.assertNotIn(b"1800000000000", SEALED)
        self.assertEqual(json.loads(SEALED)["name"], "bob")

    def test_wrong_passphrase(self) -> None:
        """Another passphrase is one sentence."""
        for wrong in ("correct horsf", "", "Correct horse", "correct horse "):
            self.refused(SEALED, NOT_OPENED, wrong)

    def test_weak_passphrase(self) -> None:
        """One that is too short is refused when it is chosen."""
        self.assertRaises(WrongUsage, seal, BOB, "1234567", cost=CHEAP)

    def test_cut(self) -> None:
        """A file that is cut anywhere is one sentence."""
        for size in range(0, len(SEALED) - 2, 7):
            self.refused(SEALED[:size], NO_EXPORT)

    def test_changed(self) -> None:
        """Any change, in the clear or in the box, is noticed."""
        for changes in (
            {"name": "eve"},
            {"registry": "http://evil"},
            {"n": 2 * CHEAP},
            {"more": 1},
            {"salt": "A" * 22},
            {"nonce": "A" * 16},
            {"box": "AAAA" + json.loads(SEALED)["box"][4:]},
        ):
            self.refused(self.changed(**changes), NOT_OPENED)

    def test_bounded(self) -> None:
        """A file that costs too much, or has another format, is rejected at once."""
        for changes in (
            {"n": 2**30},
            {"n": CHEAP + 1},
            {"n": True},
            {"r": 2**20},
            {"p": 1000},
            {"v": 2},
            {"kind": "other"},
            {"kdf": "none"},
            {"cipher": "none"},
            {"salt": ""},
            {"nonce": "AA"},
            {"box": 1},
            {"box": "A" * SIZE_MAX},
        ):
            self.refused(self.changed(**changes), NO_EXPORT)

    @given(st.binary())
    def test_noise(self, data: bytes) -> None:
        """Anything at all is that sentence."""
        self.refused(data, NO_EXPORT)
