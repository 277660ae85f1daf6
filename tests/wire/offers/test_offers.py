"""Messages about offers, and receipts: their bounds, and the page that describes them."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.control_messages import OFFERS, parse_message
from p2pshare.wire.frames import control_frame
from p2pshare.wire.keys import SigningKey, from_base64url
from p2pshare.wire.offers.messages import (
    EXPIRY_MAX,
    ITEMS_MAX,
    NOTE_MAX,
    OFFER_BYTES_MAX,
    SNIPPET_MAX,
    InboxState,
    Offer,
    OfferFault,
    OfferItem,
    OfferState,
    Withdrawal,
    mount_of,
)
from p2pshare.wire.offers.receipts import OfferReceipt
from p2pshare.wire.paths import parse_path
from p2pshare.wire.session_messages import Purpose
from p2pshare.wire.transfer_messages import EntryKind
from tests.wire.offers.roots import offer_root


def _member(line: str) -> tuple[str, str]:
    key, value = re.split(r": +", line, maxsplit=1)
    return key, value


TEXT = (Path(__file__).parents[3] / "docs" / "protocol-offers.md").read_text()
WORDS = " ".join(TEXT.split())
VECTORS = [
    [_member(line) for line in block.splitlines()]
    for block in re.findall(r"```vector\n(.*?)```", TEXT, re.DOTALL)
]
ID = "k6xwn2q4h7yxabcd"
ITEM = ["a.txt", "file", 5, 1]
OFFER: dict[str, Any] = {
    **{"m": "offer", "id": ID, "files": 1, "folders": 0, "bytes": 5, "items": [ITEM]},
    **{"more_items": 0, "note": "", "expires_in": 60},
}
FOLDER = ["photos", "folder", 5, 1]
STATE = {"m": "offer_state", "id": ID, "state": "done"}

WRONG: tuple[dict[str, Any], ...] = (
    *({**OFFER, "id": each} for each in ("", ID[1:], f"{ID}a", ID.upper(), "../abcdefghijklm", 7)),
    {**OFFER, "items": []},
    {**OFFER, "items": {}},
    {**OFFER, "items": [[]]},
    {**OFFER, "items": [ITEM] * (ITEMS_MAX + 1)},
    *(
        {**OFFER, "items": [[name, "file", 1, 1]]}
        for name in (
            "",
            ".",
            "..",
            "a/b",
            "a\0",
            "x" * 256,
            "." + "é" * 128,
            ".x.P2PShare.part",
            None,
            5,
        )
    ),
    *(
        {**OFFER, "items": [["a", *rest]]}
        for rest in (
            ("file", 1, 2),
            ("file", -1, 1),
            ("file", True, 1),
            ("file", 1, True),
            ("folder", 1, -1),
            ("link", 1, 1),
            ("file", 2**53, 1),
            ("file", 1),
            ("file", 1, 1, 1),
        )
    ),
    {**OFFER, "files": 2, "bytes": 10, "items": [ITEM, ITEM]},
    {**OFFER, "bytes": 4},
    {**OFFER, "files": 0},
    {**OFFER, "items": [FOLDER]},
    {**OFFER, "files": -1},
    {**OFFER, "more_items": -1},
    {**OFFER, "note": "x" * (NOTE_MAX + 1)},
    {**OFFER, "note": None},
    {**OFFER, "expires_in": 0},
    {**OFFER, "expires_in": EXPIRY_MAX + 1},
    {**OFFER, "expires_in": 1.5},
    {**OFFER, "text": 1},
    {**OFFER, "text": True, "files": 2},
    {**OFFER, "text": True, "more_items": 1},
    {**OFFER, "text": True, "items": [FOLDER], "folders": 1},
    {**OFFER, "text": True, "items": [["a", "file", SNIPPET_MAX + 1, 1]], "bytes": SNIPPET_MAX + 1},
    {**STATE, "state": "cancelled"},
    {**STATE, "why": "because"},
    {**STATE, "why": None},
    {**STATE, "receipt": 5},
    {**STATE, "receipt": "x" * 4097},
    {"m": "offer_noted", "id": ID},
    {"m": "withdraw", "id": ID, "why": "done"},
)


class OfferMessageTests(SynchronousTestCase):
    def test_wrong(self) -> None:
        """Threat 7: a member that is missing, out of its bounds or against another one is an error."""
        parse_message(json.dumps(OFFER).encode())
        for fields in WRONG:
            with self.assertRaises(RemoteProtocolError, msg=str(fields)[:100]):
                parse_message(json.dumps(fields).encode())

    def test_hidden_names(self) -> None:
        """An item may have a name that begins with a dot; what is fetched under it is decided elsewhere."""
        for name in (".bashrc", "...", ".x"):
            fields = {**OFFER, "items": [[name, "file", 5, 1]]}
            offer = parse_message(json.dumps(fields).encode())
            assert isinstance(offer, Offer)
            self.assertEqual(offer.items, (OfferItem(name, EntryKind.FILE, 5, 1),))

    def test_long(self) -> None:
        """Threat 7: a message about offers is bounded as a whole, though other members are ignored."""
        for fields in (OFFER, STATE):
            body = json.dumps({**fields, "x": "x" * OFFER_BYTES_MAX}).encode()
            self.assertRaisesRegex(RemoteProtocolError, "longer than", parse_message, body)

    @given(
        st.lists(
            st.text(
                st.characters(exclude_categories=["Cs"], exclude_characters="/\0").filter(
                    lambda each: each != "."
                ),
                min_size=50,
                max_size=60,
            ),
            min_size=1,
            max_size=60,
            unique=True,
        )
    )
    def test_fitting(self, names: list[str]) -> None:
        """An offer with many long items names as many as fit, and counts the others."""
        items = tuple(OfferItem(each, EntryKind.FILE, 1, 1) for each in names)
        note = "\x01" * NOTE_MAX
        offer = Offer(ID, len(items), 0, len(items), items, 3, note, 60).fitting()
        self.assertLessEqual(len(offer.to_json()), OFFER_BYTES_MAX)
        self.assertEqual(offer.more_items + len(offer.items), 3 + len(items))
        self.assertTrue(0 < len(offer.items) <= ITEMS_MAX)

    def test_fitting_worst(self) -> None:
        """One item always fits, whatever the note and the name are."""
        item = OfferItem("\x01" * 255, EntryKind.FILE, 2**53 - 1, 1)
        offer = Offer(ID, 2**53 - 1, 2**53 - 1, 2**53 - 1, (item,), 2**53 - 1, "\x01" * NOTE_MAX, 1)
        self.assertEqual(offer.fitting(), offer)
        self.assertEqual(parse_message(offer.to_json()), offer)


class ReceiptTests(SynchronousTestCase):
    def test_root(self) -> None:
        """The root depends on every path, size and root, and not on the order in which files came."""
        files = [(("a",), 1, b"1" * 32), (("a", "b"), 2, b"2" * 32), (("a-b",), 3, b"3" * 32)]
        root = offer_root(files)
        self.assertEqual(offer_root(reversed(files)), root)
        others = [
            files[:2],
            [*files[:2], (("a-c",), 3, b"3" * 32)],
            [*files[:2], (("a-b",), 4, b"3" * 32)],
            [*files[:2], (("a-b",), 3, b"4" * 32)],
            [(("a", "b"), 1, b"1" * 32), *files[1:]],
        ]
        self.assertEqual(len({root, *map(offer_root, others)}), 1 + len(others))

    def test_signature(self) -> None:
        """A receipt is read with the receiver's signature only."""
        alice, bob = SigningKey(b"\2" * 32), SigningKey(b"\1" * 32)
        receipt = OfferReceipt(ID, alice.public, bob.public, 3, 10, bytes(32), 1)
        self.assertEqual(OfferReceipt.read(receipt.sign(bob), bob.public), receipt)
        for forged in (receipt.sign(alice), replace(receipt, files=4).unsigned()):
            self.assertRaises(RemoteProtocolError, OfferReceipt.read, forged)


class OfferDocumentTests(SynchronousTestCase):
    """docs/protocol-offers.md."""

    def test_vectors(self) -> None:
        """Each vector is what the code makes, and reads."""
        told = Counter(block[0][1] for block in VECTORS)
        self.assertEqual(told, {"message": 7, "root": 1, "receipt": 1})
        shown = set()
        for block in VECTORS:
            fields = dict(block)
            match fields["kind"]:
                case "message":
                    message = parse_message(fields["json"].encode())
                    assert message is not None
                    self.assertEqual(message.to_json().decode(), fields["json"])
                    self.assertEqual(control_frame(message.to_json()).hex(), fields["frame"])
                    shown.add(type(message))
                case "root":
                    rows = [value.rsplit(" ", 2) for key, value in block if key == "file"]
                    files = [
                        (parse_path(p), int(size), bytes.fromhex(root)) for p, size, root in rows
                    ]
                    self.assertEqual(offer_root(files).hex(), fields["root"])
                case _:
                    key = SigningKey(bytes.fromhex(fields["seed"]))
                    receipt = OfferReceipt.read(fields["receipt"], key.public)
                    self.assertEqual(receipt.sign(key), fields["receipt"])
                    payload = from_base64url(fields["receipt"].partition(".")[0])
                    self.assertEqual(payload.decode(), fields["payload"])
        self.assertEqual(shown, set(OFFERS))

    def test_receipt_in_message(self) -> None:
        """The receipt of the vectors is that of the message."""
        found = [dict(block) for block in VECTORS]
        (receipt,) = (each["receipt"] for each in found if "receipt" in each)
        messages = [parse_message(each["json"].encode()) for each in found if "json" in each]
        self.assertIn(OfferState(ID, InboxState.DONE, receipt=receipt), messages)

    def test_words(self) -> None:
        """The page names all messages, states and reasons."""
        told = set(re.findall(r"`([a-z_]+)`", TEXT))
        self.assertLessEqual({each.WORD for each in OFFERS}, told)
        for kind in (InboxState, OfferFault, Withdrawal, Purpose):
            self.assertLessEqual({each.value for each in kind}, told)

    def test_bounds(self) -> None:
        """The numbers in the text are those of the code."""
        for sentence in (
            f"`{mount_of(ID)}`",
            f"have at most {OFFER_BYTES_MAX:_} bytes".replace("_", " "),
            f"1 to {ITEMS_MAX} files and folders",
            f"up to {NOTE_MAX} characters",
            f"1 to {EXPIRY_MAX:_} seconds".replace("_", " "),
            f"one file of at most {SNIPPET_MAX:_} bytes".replace("_", " "),
        ):
            self.assertIn(sentence, WORDS)
