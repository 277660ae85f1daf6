"""The payload of one packet, and what to remember of it until it is acknowledged or lost."""

from __future__ import annotations

from p2pshare.core.datagram.contents.outgoing import Shipment
from p2pshare.wire.datagrams.frames import (
    ACK_SIZE_MAX,
    ACK_SIZE_MIN,
    Ack,
    Frame,
    is_ack_eliciting,
    serialize,
    serialize_ack,
)

Carried = tuple[Frame | Shipment, ...]
"""The contents of a row of packets. A `Shipment` is spread over all packets of its row; a row with frames has one."""


class Payload:
    """The frames of one packet, as many as fit."""

    __slots__ = ("_room", "carried", "data", "is_eliciting")

    def __init__(self, room: int) -> None:
        """Begin with `room` bytes for frames."""
        self._room = room
        self.data = bytearray()
        self.carried: list[Frame] = []
        """The frames that matter when the packet is acknowledged or lost."""
        self.is_eliciting = False
        """Whether the other end acknowledges the packet without a further reason."""

    @property
    def room(self) -> int:
        """The bytes that are left."""
        return self._room - len(self.data)

    def add(self, frame: Frame) -> bool:
        """Add a frame; False if it does not fit."""
        serialized = serialize(frame)
        if len(serialized) > self.room:
            return False
        self.data += serialized
        if is_ack_eliciting(frame):
            self.is_eliciting = True
            self.carried.append(frame)
        return True

    def add_ack(self, ack: Ack) -> None:
        """Add an ACK frame, cut to the room; nothing if there is too little."""
        if self.room >= ACK_SIZE_MIN:
            self.data += serialize_ack(ack, min(self.room, ACK_SIZE_MAX))
            self.carried.append(ack)

    def pad(self) -> None:
        """Fill the packet with PADDING."""
        self.data += bytes(self.room)
