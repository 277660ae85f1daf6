"""Tests for `p2pshare.wire.datagrams.frames`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import BLOCK_SIZE, FILE_SIZE_MAX
from p2pshare.wire.datagrams.acks import Run
from p2pshare.wire.datagrams.frames import (
    ACK_SIZE_MIN,
    CONTROL_HEAD_SIZE,
    CONTROL_STREAM_MAX,
    CRYPTO_HEAD_SIZE,
    CRYPTO_STREAM_MAX,
    DATA_HEAD_SIZE,
    DATA_OFFSET_BITS,
    DATA_TRANSFER_AT,
    MISSING_HEAD_SIZE,
    MISSING_RANGES_MAX,
    REASON_MAX,
    Ack,
    Close,
    Control,
    Credit,
    Crypto,
    Data,
    Fin,
    Frame,
    Missing,
    Ping,
    Size,
    is_ack_eliciting,
    parse_frames,
    serialize,
    serialize_ack,
)
from p2pshare.wire.datagrams.packets import OPEN_SIZE, PACKET_NUMBER_MAX, PROTECTED_OVERHEAD
from tests.wire.datagrams.values import FRAMES, IN_HANDSHAKE, acks

BEFORE_DATA = st.one_of(*(each for kind, each in FRAMES.items() if kind not in (Data, Crypto)))
PAYLOADS = st.builds(
    lambda before, last: [*before, *last],
    st.lists(BEFORE_DATA, max_size=6),
    st.lists(FRAMES[Data], max_size=1),
).filter(bool)
HANDSHAKES = st.lists(st.one_of(*(FRAMES[each] for each in IN_HANDSHAKE)), min_size=1, max_size=6)


def parsed(payload: bytes, *, in_handshake: bool = False) -> list[Frame]:
    return list(parse_frames(memoryview(payload), in_handshake=in_handshake))


class FrameTests(SynchronousTestCase):
    def refuse(self, payload: bytes, *, in_handshake: bool = False) -> None:
        with self.assertRaises(RemoteProtocolError, msg=payload.hex()):
            parsed(payload, in_handshake=in_handshake)

    @given(PAYLOADS)
    def test_round_trip(self, frames: list[Frame]) -> None:
        """The frames of a PROTECTED packet arrive as they were serialized, in order."""
        self.assertEqual(parsed(b"".join(map(serialize, frames))), frames)

    @given(HANDSHAKES, st.integers(0, 9))
    def test_handshake(self, frames: list[Frame], padding: int) -> None:
        """So do those of a HANDSHAKE packet; padding is left out."""
        payload = b"".join(map(serialize, frames)) + bytes(padding)
        self.assertEqual(parsed(payload, in_handshake=True), frames)

    @given(st.one_of(*FRAMES.values()))
    def test_truncated(self, frame: Frame) -> None:
        """Threat 6: a frame that is cut off at any byte is an error; DATA is only shorter."""
        payload = serialize(frame)
        for cut in range(DATA_HEAD_SIZE + 1 if isinstance(frame, Data) else len(payload)):
            self.refuse(payload[:cut], in_handshake=isinstance(frame, Crypto))

    @given(st.binary(max_size=80), st.booleans())
    def test_anything(self, payload: bytes, in_handshake: bool) -> None:
        """Threat 6: any bytes are frames or an error."""
        self._check(payload, in_handshake)

    @given(st.sampled_from(list(FRAMES)), st.binary(max_size=80), st.booleans())
    def test_any_body(self, kind: type[Frame], body: bytes, in_handshake: bool) -> None:
        """Threat 6: so they are behind the type of any frame."""
        self._check(bytes([kind.TYPE]) + body, in_handshake)

    @given(PAYLOADS, st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=3))
    def test_damaged(self, frames: list[Frame], damages: list[tuple[int, int]]) -> None:
        """Threat 6: so they are if bytes of a valid payload are changed."""
        payload = bytearray(b"".join(map(serialize, frames)))
        for place, value in damages:
            payload[place % len(payload)] = value
        self._check(bytes(payload), False)

    def _check(self, payload: bytes, in_handshake: bool) -> None:
        """Frames of any payload can be serialized, and are the same when they are parsed again."""
        try:
            frames = parsed(payload, in_handshake=in_handshake)
        except RemoteProtocolError:
            return
        again = b"".join(_wide(each) for each in frames)
        if again:
            self.assertEqual(parsed(again, in_handshake=in_handshake), frames)

    def test_places(self) -> None:
        """CRYPTO belongs to HANDSHAKE packets; all frames of transfers and of control belong to PROTECTED ones."""
        self.refuse(serialize(Crypto(0, b"x")))
        for frame in (Size(1, 5), Control(0, b"x"), Credit(5), Data(1, 0, b"x"), Fin(1, 5)):
            self.refuse(serialize(frame), in_handshake=True)
        for kind in {3, 4, *range(0x11, 256)}:
            self.refuse(bytes([kind]) + bytes(20))

    def test_padding(self) -> None:
        """Padding is zeros up to the end; a payload of nothing is an error."""
        self.assertEqual(parsed(serialize(Ping()) + bytes(1000)), [Ping()])
        self.assertEqual(parsed(bytes(9)), [])
        self.refuse(bytes(9) + b"\x01")
        self.refuse(b"")

    def test_files(self) -> None:
        """Threat 6: sizes, ranges and pieces lie within the largest file, and a piece within a block."""
        for frame in (
            Size(1, FILE_SIZE_MAX + 1),
            Fin(1, FILE_SIZE_MAX + 1),
            Missing(1, ()),
            Missing(1, ((5, 5),)),
            Missing(1, ((5, 7), (6, 9))),
            Missing(1, ((5, 7), (1, 3))),
            Missing(1, ((0, FILE_SIZE_MAX + 1),)),
            Missing(1, tuple((2 * at, 2 * at + 1) for at in range(MISSING_RANGES_MAX + 1))),
            Data(1, 0, b""),
            Data(1, BLOCK_SIZE - 1, b"xx"),
            Data(1, FILE_SIZE_MAX, b"x"),
        ):
            self.refuse(serialize(frame))

    def test_streams(self) -> None:
        """Threat 6: no part of a stream is empty or beyond its bound."""
        for frame in (
            Control(0, b""),
            Control(CONTROL_STREAM_MAX, b"x"),
            Credit(CONTROL_STREAM_MAX + 1),
        ):
            self.refuse(serialize(frame))
        for part in (Crypto(0, b""), Crypto(CRYPTO_STREAM_MAX, b"x")):
            self.refuse(serialize(part), in_handshake=True)

    def test_acks(self) -> None:
        """Threat 6: an ACK acknowledges at least one possible packet, in one of the two encodings."""
        one: tuple[Run, ...] = ((0, 1),)
        self.refuse(serialize(Ack(PACKET_NUMBER_MAX + 1, 0, 0, one)))
        good = bytearray(serialize(Ack(0, 0, 0, one)))
        self.assertEqual(len(parsed(bytes(good))), 1)
        good[1] = 2
        self.refuse(bytes(good))
        self.refuse(bytes([Ack.TYPE]) + bytes(19))

    @given(acks(), st.integers(ACK_SIZE_MIN, 200))
    def test_ack_budget(self, ack: Ack, room: int) -> None:
        """An ACK keeps its budget; it acknowledges only what it was told to, and always the largest packet."""
        frame = serialize_ack(ack, room)
        self.assertLessEqual(len(frame), room)
        (found,) = parsed(frame)
        assert isinstance(found, Ack)
        self.assertEqual(
            found.ranges[-1], (max(ack.ranges[-1][0], found.ranges[0][0]), ack.largest + 1)
        )
        self.assertEqual(
            (found.largest, found.delay_us, found.ce), (ack.largest, ack.delay_us, ack.ce)
        )

    def test_reason(self) -> None:
        """The reason of a CLOSE is UTF-8. A longer one is cut off between characters; one that arrives is an error."""
        longest = "x" * (REASON_MAX - 1)
        self.assertEqual(parsed(serialize(Close(1, longest + "éx"))), [Close(1, longest)])
        self.assertEqual(parsed(serialize(Close(1, longest + "xx"))), [Close(1, longest + "x")])
        self.refuse(b"\x0d\x00\x01" + bytes([REASON_MAX + 1]) + b"x" * (REASON_MAX + 1))
        self.refuse(b"\x0d\x00\x01\x01\xff")

    def test_sizes(self) -> None:
        """The sizes of heads are those of the frames, and the longest MISSING fits into the smallest packet."""
        self.assertEqual(len(serialize(Control(0, b"x"))), CONTROL_HEAD_SIZE + 1)
        self.assertEqual(len(serialize(Crypto(0, b"x"))), CRYPTO_HEAD_SIZE + 1)
        self.assertEqual(len(serialize(Ack(0, 0, 0, ((0, 1),)))), 21)
        self.assertLess(MISSING_HEAD_SIZE + 16 * MISSING_RANGES_MAX, OPEN_SIZE - PROTECTED_OVERHEAD)

    def test_data_head(self) -> None:
        """The offsets for the data path are those of a DATA frame, and the data is not copied."""
        frame = serialize(Data(7, 5 * BLOCK_SIZE, b"abc"))
        self.assertEqual(int.from_bytes(frame[:8]), Data.TYPE << DATA_OFFSET_BITS | 5 * BLOCK_SIZE)
        self.assertEqual(int.from_bytes(frame[DATA_TRANSFER_AT:DATA_HEAD_SIZE]), 7)
        (data,) = parsed(frame)
        assert isinstance(data, Data) and isinstance(data.data, memoryview)
        self.assertIs(data.data.obj, frame)

    def test_ack_eliciting(self) -> None:
        """ACK and CLOSE are not acknowledged, all others are."""
        self.assertFalse(is_ack_eliciting(Ack(0, 0, 0, ((0, 1),))))
        self.assertFalse(is_ack_eliciting(Close(0)))
        for frame in (Ping(), Size(1, 5), Control(0, b"x"), Crypto(0, b"x"), Data(1, 0, b"x")):
            self.assertTrue(is_ack_eliciting(frame))


def _wide(frame: Frame) -> bytes:
    """Return the bytes of a frame, with room for all packets of an ACK."""
    return serialize_ack(frame, 2**16) if isinstance(frame, Ack) else serialize(frame)
