"""Tests of `p2pshare.storage.shares.kept`."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import SharesUnusable
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.kept import BYTES_MAX, KeptShare, KeptShares
from p2pshare.storage.shares.rules import Rules
from p2pshare.wire.keys import SigningKey

KEY = SigningKey(b"a" * 32).public
SHARES = (
    KeptShare(SharedPath("photos", Path("/p/h"))),
    KeptShare(
        SharedPath("é", Path("/x y"), frozenset(["bob"]), rules=Rules(("*.tmp", "!a"), True)),
        expires=1_900_000_000,
        count=3,
        downloads=2,
        downloading=(KEY,),
    ),
)


class KeptSharesTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.kept = KeptShares(folder)

    def test_round_trip(self) -> None:
        """What is written is read, and only the user may read it."""
        self.assertEqual(self.kept.read(), ())
        self.kept.write(SHARES)
        self.assertEqual(self.kept.read(), SHARES)
        self.assertEqual(self.kept.path.stat().st_mode & 0o777, 0o600)
        self.kept.write(())
        self.assertEqual(self.kept.read(), ())

    def test_damaged(self) -> None:
        """A damaged file is an error that says what to do, and is left as it is."""
        self.kept.write(SHARES)
        good = json.loads(self.kept.path.read_text())
        row = good["shares"][0]
        wrong: list[object] = [
            {**row, **each}
            for each in (
                {"name": "../x"},
                {"name": "@x"},
                {"path": "relative"},
                {"allow": ["No Name"]},
                {"exclude": ["["]},
                {"hidden": 1},
                {"expires": -1},
                {"count": 0},
                {"downloads": None},
                {"downloading": ["x"]},
            )
        ]
        contents = [json.dumps({**good, "shares": [each]}) for each in [*wrong, None]]
        contents += [json.dumps({**good, "shares": [row, row]}), json.dumps({**good, "v": 2})]
        contents += ["", "{", "[]", " " * (BYTES_MAX + 1)]
        for content in contents:
            self.kept.path.write_text(content)
            error = self.assertRaises(SharesUnusable, self.kept.read)
            self.assertIn("it is damaged. Restore it, or delete it", str(error))
            self.assertEqual(self.kept.path.read_text(), content)

    def test_unusable(self) -> None:
        """A file that others may write, and a folder that is not there, are errors."""
        self.kept.write(SHARES)
        self.kept.path.chmod(0o666)
        self.assertRaises(SharesUnusable, self.kept.read)
        nowhere = KeptShares(Path("nowhere"))
        self.assertRaises(SharesUnusable, nowhere.write, SHARES)
