"""Tests for the control messages of a session: `session_messages` and `transfer_messages`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import digest_of, root_of
from p2pshare.wire.control_messages import (
    ANSWERS,
    ANY_TIME,
    GREETINGS,
    OFFERS,
    REQUESTS,
    parse_message,
)
from p2pshare.wire.frames import ControlFrame, DataPiece, FrameDecoder, control_frame, data_head
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import (
    DIGESTS_MAX,
    DONE_MAX,
    OMITTED_MAX,
    PAGE_MAX,
    RUNS_MAX,
)
from tests.wire.sessions import MESSAGES

VECTORS = json.loads((Path(__file__).parent / "session_vectors.json").read_text())

HEADER = {"m": "file", "id": 1, "size": 1, "mtime": [0, 0], "executable": False, "version": "v"}
WRONG: tuple[dict[str, Any], ...] = (
    {"m": "hello", "v": 0, "agent": "a", "credit": 1},
    {"m": "hello", "v": 1, "agent": "a", "credit": -1},
    {"m": "hello", "v": 1, "agent": "a" * 65, "credit": 1},
    {"m": "hello", "agent": "a", "credit": 1},
    {"m": "hello", "v": 1, "agent": "a", "credit": 1, "purpose": "dislike"},
    {"m": "welcome", "v": 1, "agent": "a", "name": "Alice "},
    {"m": "refused", "why": "dislike", "retry_after": 0},
    {"m": "refused", "why": "busy", "retry_after": 86401},
    {"m": "list", "id": 2**32, "path": "", "after": "", "limit": 1, "recursive": False},
    {"m": "list", "id": 1, "path": "../x", "after": "", "limit": 1, "recursive": False},
    {"m": "list", "id": 1, "path": "", "after": "/", "limit": 1, "recursive": False},
    {"m": "list", "id": 1, "path": "", "after": "", "limit": 0, "recursive": False},
    {"m": "list", "id": 1, "path": "", "after": "", "limit": PAGE_MAX + 1, "recursive": False},
    {"m": "list", "id": 1, "path": "", "after": "", "limit": 1, "recursive": 1},
    {"m": "list", "id": True, "path": "", "after": "", "limit": 1, "recursive": False},
    {"m": "listing", "id": 1, "entries": [["", "folder", 0, [1, 1]]], "more": False},
    {
        "m": "listing",
        "id": 1,
        "entries": [["a/.p2pshare-b", "file", 1, [1, 1], "v"]],
        "more": False,
    },
    {"m": "listing", "id": 1, "entries": [["a", "link", 1, [1, 1], "v"]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", -1, [1, 1], "v"]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", True, [1, 1], "v"]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", 1, [True, 1], "v"]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", 1, [1, True], "v"]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", 1, [1, 10**9], "v"]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", 1, [1, -1], "v"]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", 1, [1], "v"]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", 1, 1, "v"]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", 2**50 + 1, [1, 1], "v"]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", 1, [1, 1], ""]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", 1, [1, 1], "v" * 65]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "file", 1, [1, 1]]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "folder", 1, [1, 1]]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "folder", False, [1, 1]]], "more": False},
    {"m": "listing", "id": 1, "entries": [["a", "folder", 0, [1, 1], "v"]], "more": False},
    {"m": "listing", "id": 1, "entries": {}, "more": False},
    {"m": "listing", "id": 1, "entries": [], "more": False, "omitted": {}, "unnamed": 0},
    {"m": "listing", "id": 1, "entries": [], "more": False, "omitted": [], "unnamed": -1},
    {"m": "listing", "id": 1, "entries": [], "more": False, "omitted": [["a"]], "unnamed": 0},
    {
        "m": "listing",
        "id": 1,
        "entries": [],
        "more": False,
        "omitted": [["a", "because"]],
        "unnamed": 0,
    },
    {
        "m": "listing",
        "id": 1,
        "entries": [],
        "more": False,
        "omitted": [["..", "gone"]],
        "unnamed": 0,
    },
    {
        "m": "listing",
        "id": 1,
        "entries": [],
        "more": False,
        "omitted": [["a", "gone"]] * (OMITTED_MAX + 1),
        "unnamed": 0,
    },
    {
        "m": "listing",
        "id": 1,
        "entries": [["a", "file", 1, [1, 1], "v"]] * (PAGE_MAX + 1),
        "more": False,
    },
    {"m": "get", "id": 1, "path": "a/.p2pshare-b"},
    {"m": "get", "id": 1, "path": "a", "version": "v" * 65},
    {"m": "get", "id": 1, "path": "a", "version": ""},
    {"m": "get", "id": 1, "path": "a", "version": None},
    {"m": "get", "id": 1, "path": "a", "want": None},
    {"m": "get", "id": 1, "path": "a", "want": [[1, 1]]},
    {"m": "get", "id": 1, "path": "a", "want": [[2, 3], [1, 2]]},
    {"m": "get", "id": 1, "path": "a", "want": [[-1, 2]]},
    {"m": "get", "id": 1, "path": "a", "want": [[False, 2]]},
    {"m": "get", "id": 1, "path": "a", "want": [[2 * n, 2 * n + 1] for n in range(RUNS_MAX + 1)]},
    {"m": "get", "id": 1, "path": "a", "digests": [[1, 2], [1, 2]]},
    {**HEADER, "size": 2**50 + 1},
    {**HEADER, "size": -1},
    {**HEADER, "size": 1.5},
    {**HEADER, "mtime": 0},
    {**HEADER, "mtime": [2**53, 0]},
    {**HEADER, "mtime": [-(2**53), 0]},
    {**HEADER, "mtime": [0, 10**9]},
    {**HEADER, "mtime": [0.5, 0]},
    {**HEADER, "mtime": [0, 0, 0]},
    {**HEADER, "version": ""},
    {"m": "digests", "id": 1, "first": 2**30, "digests": "00" * 32},
    {"m": "digests", "id": 1, "first": 0, "digests": ""},
    {"m": "digests", "id": 1, "first": 0, "digests": "00" * 31},
    {"m": "digests", "id": 1, "first": 0, "digests": "AA" * 32},
    {"m": "digests", "id": 1, "first": 0, "digests": "0g" * 32},
    {"m": "digests", "id": 1, "first": 0, "digests": "00" * 32 * (DIGESTS_MAX + 1)},
    {"m": "end", "id": 1, "root": " " * 64, "sent": 0},
    {"m": "end", "id": 1, "root": "00" * 31, "sent": 0},
    {"m": "end", "id": 1, "root": "00" * 32},
    {"m": "end", "id": 1, "root": None, "sent": 0},
    {"m": "get", "id": 1, "path": "a", "root": 0},
    {"m": "end", "id": 1, "root": "00" * 32, "sent": -1},
    {"m": "failed", "id": 1, "why": "because", "sent": 0},
    {"m": "failed", "id": 1, "why": "busy"},
    {"m": "stopped", "id": 1},
    {"m": "done", "ids": []},
    {"m": "done", "ids": [1] * (DONE_MAX + 1)},
    {"m": "done", "ids": [2**32]},
    {"m": "done", "ids": ["1"]},
    {"m": "cancel", "id": 1, "why": ""},
    {"m": "job", "title": "t" * 1025, "files": 1, "bytes": 1},
    {"m": "credit", "bytes": 2.0},
    {"m": 1},
    {},
)


class MessageTests(SynchronousTestCase):
    def test_all_kinds(self) -> None:
        """There is a strategy, and so a test, for each kind that either side may say."""
        self.assertEqual(set(MESSAGES), {*GREETINGS, *ANY_TIME, *REQUESTS, *ANSWERS, *OFFERS})

    @given(st.one_of(*MESSAGES.values()))
    def test_round_trip(self, message: Message) -> None:
        """Parsing is the inverse of writing."""
        self.assertEqual(parse_message(message.to_json()), message)

    @given(st.one_of(*MESSAGES.values()))
    def test_more_members(self, message: Message) -> None:
        """Unknown members are ignored."""
        fields = {**json.loads(message.to_json()), "later": [1]}
        self.assertEqual(parse_message(json.dumps(fields).encode()), message)

    def test_unknown_kind(self) -> None:
        """A message of an unknown kind is None, and no error."""
        self.assertIsNone(parse_message(b'{"m":"later","id":"?"}'))

    def test_wrong(self) -> None:
        """Threats 7 and 28: a member that is missing, out of its bounds or of another type is an error."""
        for fields in WRONG:
            with self.assertRaises(RemoteProtocolError, msg=str(fields)[:100]):
                parse_message(json.dumps(fields).encode())

    @given(st.one_of(*MESSAGES.values()), st.data())
    def test_mangled(self, message: Message, data: st.DataObject) -> None:
        """Threat 6: any changed or missing member gives a message or a `RemoteProtocolError`."""
        fields = json.loads(message.to_json())
        key = data.draw(st.sampled_from(sorted(fields)))
        values = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())
        fields[key] = data.draw(values)
        if data.draw(st.booleans()):
            del fields[key]
        try:
            parsed = parse_message(json.dumps(fields).encode())
        except RemoteProtocolError:
            return
        self.assertIsInstance(parsed, Message | None)

    @given(st.binary(max_size=200))
    def test_anything(self, body: bytes) -> None:
        """Threat 6: any bytes are a message or an error."""
        try:
            parsed = parse_message(body)
        except RemoteProtocolError:
            return
        self.assertIsInstance(parsed, Message | None)


class VectorTests(SynchronousTestCase):
    """The bytes that the protocol's document shows."""

    def test_messages(self) -> None:
        """Each message is sent as these bytes, and read from them."""
        kinds = {each.WORD: each for each in MESSAGES}
        shown: set[str] = set()
        for vector in VECTORS["messages"]:
            (frame,) = FrameDecoder().receive_data(bytes.fromhex(vector["frame"]))
            assert isinstance(frame, ControlFrame)
            self.assertEqual(frame.body.decode(), vector["json"])
            message = parse_message(frame.body)
            assert message is not None
            self.assertIsInstance(message, kinds[vector["m"]])
            shown.add(vector["m"])
            self.assertEqual(control_frame(message.to_json()).hex(), vector["frame"])
        elsewhere = {each.WORD for each in OFFERS}
        self.assertEqual(set(kinds) - shown, elsewhere, "those without a vector")

    def test_piece(self) -> None:
        """A piece of a file is sent as these bytes."""
        vector = VECTORS["piece"]
        data = bytes.fromhex(vector["data"])
        frame = data_head(vector["transfer"], vector["offset"], len(data)) + data
        self.assertEqual(frame.hex(), vector["frame"])
        (piece,) = FrameDecoder().receive_data(frame)
        assert isinstance(piece, DataPiece)
        self.assertEqual(bytes(piece.data), data)

    def test_roots(self) -> None:
        """Files have these digests and roots."""
        for vector in VECTORS["files"]:
            content = bytes.fromhex(vector["byte"]) * vector["size"]
            blocks = [content[n : n + 2**20] for n in range(0, len(content), 2**20)]
            digests = [digest_of(each) for each in blocks]
            self.assertEqual([each.hex() for each in digests], vector["digests"])
            self.assertEqual(root_of(len(content), digests).hex(), vector["root"])
