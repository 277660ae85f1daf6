"""Tests for `p2pshare.storage.identity.last_seen`."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.storage.identity.last_seen import (
    ADDRESSES_MAX,
    BYTES_MAX,
    ENTRIES_MAX,
    FOLDERS_MAX,
    KEYS_MAX,
    LOOK_STEP,
    NAMES_MAX,
    SEEN_STEP,
    Seen,
    _Known,
)
from p2pshare.wire.addresses import PeerAddress

KEY = "a" * 52
HERE = PeerAddress("192.0.2.7", 50000)


class SeenTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.seen = Seen(self.folder)

    def test_remembered(self) -> None:
        """The next process finds names and entries, and they are private."""
        self.seen.saw_names(["bob", "alice"])
        self.seen.saw_entries("carol", ("a",), {"x y": False, "sub": True})
        again = Seen(self.folder)
        self.assertEqual(again.names(), ("bob", "alice", "carol"))
        self.assertEqual(again.entries("carol", ("a",)), {"x y": False, "sub": True})
        self.assertEqual(again.entries("carol", ()), {})
        self.assertEqual(stat.S_IMODE(self.seen.path.stat().st_mode), 0o600)

    def test_added(self) -> None:
        """A part of a folder is added to its known entries; all of it replaces them."""
        self.seen.saw_entries("bob", (), {"a": False})
        self.seen.saw_entries("bob", (), {"b": True})
        self.assertEqual(self.seen.entries("bob", ()), {"a": False, "b": True})
        self.seen.saw_entries("bob", (), {"c": False}, whole=True)
        self.assertEqual(self.seen.entries("bob", ()), {"c": False})

    def test_bounded(self) -> None:
        """The file stays small, and has what was seen last: threat 31."""
        self.seen.saw_names(f"n{n}" for n in range(NAMES_MAX + 5))
        self.assertEqual(len(self.seen.names()), NAMES_MAX)
        self.seen.saw_entries("bob", (), {f"{n}": False for n in range(ENTRIES_MAX + 5)})
        self.assertEqual(len(self.seen.entries("bob", ())), ENTRIES_MAX)
        for n in range(12):
            self.seen.saw_entries("bob", (f"{n}",), {f"{e:0200}": False for e in range(400)})
        self.assertLessEqual(self.seen.path.stat().st_size, BYTES_MAX)
        self.assertEqual(len(self.seen.entries("bob", ("11",))), 400)
        self.seen.path.unlink()
        for n in range(FOLDERS_MAX + 3):
            self.seen.saw_entries("bob", (f"{n}",), {})
        self.assertEqual(self.seen.path.read_text().count("bob:"), FOLDERS_MAX)

    def test_looks(self) -> None:
        """Of the shares of a peer the time of the look is kept, to the hour if they are the same; both go together."""
        for peer, path, at in (("bob", (), 9_000), ("carol", (), 8_000), ("carol", ("a",), 9_999)):
            self.seen.saw_entries(peer, path, {"a": True}, whole=True, at=at)
        self.seen.saw_entries("dora", (), {"a": True})
        self.seen.saw_entries("bob", (), {"b": False}, whole=True, at=9_001)
        again = Seen(self.folder)
        looks = [("carol", ({"a": True}, 8_000)), ("bob", ({"b": False}, 9_001))]
        again.saw_entries("bob", (), {"b": False}, whole=True, at=9_002)
        self.assertEqual(list(again.looks().items()), looks)
        again.saw_entries("bob", (), {"b": False}, at=9_001 + LOOK_STEP)
        again.forget("carol")
        self.assertEqual(again.looks(), {"bob": ({"b": False}, 9_001 + LOOK_STEP)})
        self.assertEqual(again.entries("carol", ("a",)), {})
        fields = json.loads(self.seen.path.read_text())
        damaged: tuple[Any, ...] = ({"bob": -1}, {"bob": True}, {"bob": "x"}, [])
        for looked in damaged:
            self.seen.path.write_text(json.dumps({**fields, "looked": looked}))
            self.assertEqual(self.seen.looks(), {}, looked)

    def test_addresses(self) -> None:
        """Some addresses of a key are kept, the latest first, of a bounded number of keys."""
        places = [PeerAddress("192.0.2.7", 50000 + n) for n in range(ADDRESSES_MAX + 2)]
        for at, place in enumerate(places):
            self.seen.saw_address(KEY, place, at)
        self.seen.saw_address(KEY, places[-2], 100)
        latest = [places[-2], places[-1], *places[-3::-1]][:ADDRESSES_MAX]
        self.assertEqual(list(Seen(self.folder).addresses(KEY)), latest)
        self.assertEqual(self.seen.addresses(KEY)[places[-2]], 100)
        self.assertEqual(self.seen.addresses("b" * 52), {})
        known = _Known()
        for number in range(KEYS_MAX + 1):
            known.add_address(f"{number:052}", places[0], 1)
        self.assertEqual(len(known.addresses), KEYS_MAX)
        self.assertNotIn(f"{0:052}", known.addresses)

    def test_address_again(self) -> None:
        """Where a peer stays, the file is not written for each sign of life."""
        for at, kept in ((1000, 1000), (999 + SEEN_STEP, 1000), (1000 + SEEN_STEP,) * 2):
            self.seen.saw_address(KEY, HERE, at)
            self.assertEqual(self.seen.addresses(KEY), {HERE: kept})

    def test_illegal_addresses(self) -> None:
        """A file with something else in the place of an address is damaged."""
        for place in (["::1:9", 1], ["192.0.2.7:0", 1], ["192.0.2.7:9", -1], ["192.0.2.7:9"], 1):
            fields = {"v": 1, "names": ["bob"], "folders": {}, "addresses": {KEY: [place]}}
            self.seen.path.write_text(json.dumps(fields))
            self.seen.path.chmod(0o600)
            self.assertEqual((self.seen.addresses(KEY), self.seen.names()), ({}, ()), place)

    def test_illegal(self) -> None:
        """Names that no entry can have are not remembered: threat 1."""
        self.seen.saw_entries("bob", (), {"..": True, "a/b": False, "": False, "ok": False})
        self.assertEqual(self.seen.entries("bob", ()), {"ok": False})

    def test_no_folder(self) -> None:
        """A missing data folder is not made."""
        seen = Seen(self.folder / "none")
        seen.saw_names(["bob"])
        self.assertEqual((seen.names(), (self.folder / "none").exists()), ((), False))

    @given(st.binary(max_size=80) | st.sampled_from([b'{"v":1,"names":["..","a"],"folders":{}}']))
    def test_damaged(self, content: bytes) -> None:
        """A damaged file counts as missing, and is replaced."""
        self.seen.path.write_bytes(content)
        self.seen.path.chmod(0o600)
        self.assertEqual(self.seen.names(), ())
        self.seen.saw_names(["bob"])
        self.assertEqual(self.seen.names(), ("bob",))

    def test_open_to_others(self) -> None:
        """A file that others may have written is not read: threat 39."""
        self.seen.saw_names(["bob"])
        self.seen.path.chmod(0o644)
        self.assertEqual(self.seen.names(), ())
