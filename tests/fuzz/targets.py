"""What is fuzzed: functions that take any bytes, and raise only if the code under test is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.frames import Ack, Frame, parse_frames, serialize, serialize_ack
from p2pshare.wire.datagrams.packets import parse_packet

Target = Callable[[bytes], None]

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
    each.__name__: each for each in (packets, frames, handshake_frames)
}
