"""What is fuzzed: functions that take any bytes, and raise only if the code under test is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from p2pshare.core.datagram.protection.keys import AES_128_GCM, KeyPair
from p2pshare.core.datagram.protection.opening import Opening, TrainOpener
from p2pshare.core.datagram.protection.phases import KeyPhases
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.control_messages import parse_message
from p2pshare.wire.datagrams.frames import Ack, Frame, parse_frames, serialize, serialize_ack
from p2pshare.wire.datagrams.packets import parse_packet
from tests.fuzz.hostile_ends import anybody, hostile_peer
from tests.fuzz.reach import REACH_TARGETS

Target = Callable[[bytes], None]

SECRET, CID = bytes(range(32, 64)), bytes.fromhex("a0a1a2a3a4a5a6")  # of the vectors
ROOM = 2**19  # bytes for an ACK, more than any has


def packets(data: bytes) -> None:
    """Any bytes are a packet that serializes to them, or an error."""
    try:
        packet = parse_packet(memoryview(data))
    except RemoteProtocolError:
        return
    head = packet.serialize()
    assert parse_packet(memoryview(head + data[len(head) :])) == packet


def frames(data: bytes) -> None:
    """Any bytes are the frames of a PROTECTED packet, or an error."""
    _frames(data, in_handshake=False)


def handshake_frames(data: bytes) -> None:
    """Any bytes are the frames of a HANDSHAKE packet, or an error."""
    _frames(data, in_handshake=True)


def trains(data: bytes) -> None:
    """Any bytes, alone or as a train, are opened or counted; what was opened counts as a run or as a payload."""
    rows = [data[:15] + bytes([number]) + data[16:] for number in range(6)] if data else []
    for train in (data, b"".join(rows), b"".join(rows) + data[:-1]):
        phases = KeyPhases(KeyPair.for_session(SECRET, AES_128_GCM, is_opener=False))
        opening = Opening(phases, CID, lambda first, _end: first % 4 != 3, now=0.0, pto=1.0)
        opened = TrainOpener().open(memoryview(train), max(1, len(data)), opening)
        packets = sum(end - first for first, end in opened.numbers)
        assert packets >= len(opened.contents)
        skipped = len(opened.foreign) + opened.repeated + opened.rejected
        assert packets + skipped == -(-len(train) // max(1, len(data)))


def messages(data: bytes) -> None:
    """Any bytes are a control message that is read again, or an error."""
    try:
        message = parse_message(data)
    except RemoteProtocolError:
        return
    assert message is None or parse_message(message.to_json()) == message


def _frames(data: bytes, *, in_handshake: bool) -> None:
    try:
        found = list(parse_frames(memoryview(data), in_handshake=in_handshake))
    except RemoteProtocolError:
        return
    again = b"".join(_serialized(frame) for frame in found)
    if again:
        assert list(parse_frames(memoryview(again), in_handshake=in_handshake)) == found


def _serialized(frame: Frame) -> bytes:
    return serialize_ack(frame, ROOM) if isinstance(frame, Ack) else serialize(frame)


TARGETS: Mapping[str, Target] = {
    each.__name__: each
    for each in (
        packets,
        frames,
        handshake_frames,
        trains,
        messages,
        anybody,
        hostile_peer,
        *REACH_TARGETS,
    )
}
