"""What a connection carries: the control stream, and transfers in both directions.

This module joins them behind one interface for packets: `fill` puts frames that are due into a packet, `next_cargo`
gives bytes of files for a train, `on_acked` and `on_lost` take the fate of packets, and `receive` takes frames.

**Order.** Control goes before data, and answers before the control stream: they are small, and the other end waits for
them. Of an answer or a credit only the newest value goes out, also when an older one was lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from p2pshare.core.datagram.contents.control_stream import ControlReceiver, ControlSender
from p2pshare.core.datagram.contents.held_memory import HeldMemory
from p2pshare.core.datagram.contents.incoming import Incoming
from p2pshare.core.datagram.contents.outgoing import Cargo, CargoSizes, Outgoing, Shipment
from p2pshare.core.datagram.contents.packing import Carried, Payload
from p2pshare.core.datagram.events import (
    ControlReceived,
    Event,
    FinReceived,
    PieceReceived,
    SizeReceived,
)
from p2pshare.core.ranges import Range
from p2pshare.wire.datagrams.frames import (
    CONTROL_HEAD_SIZE,
    DATA_HEAD_SIZE,
    AckSize,
    Complete,
    Control,
    Credit,
    Data,
    Fin,
    Frame,
    Missing,
    Size,
    serialize,
)
from p2pshare.wire.datagrams.packets import PROTECTED_OVERHEAD

SIZE_FRAME = len(serialize(Size(0, 0)))  # bytes
CONTROL_PART_MIN = 32  # bytes of the control stream that are worth a frame at the end of a packet
CONTROL_WAITING_MAX = (
    256 * 1024
)  # bytes of the control stream that wait before the connection counts as full
SIZES = CargoSizes(
    bare=PROTECTED_OVERHEAD + DATA_HEAD_SIZE,
    with_size=PROTECTED_OVERHEAD + SIZE_FRAME + DATA_HEAD_SIZE,
)


class Streams:
    """The control stream and the transfers of one connection."""

    def __init__(self, events: deque[Event], memory: HeldMemory) -> None:
        """Append what arrives to `events`. The bytes on their way out are held in `memory`."""
        self._memory = memory
        self.outgoing = Outgoing(memory)
        self.incoming = Incoming()
        self._events = events
        self._control_out = ControlSender()
        self._control_in = ControlReceiver()
        self._is_paused = False
        self._is_credit_due = False
        self._receivers: Mapping[type[Frame], Callable[[Any, int], None]] = {
            Control: self._on_control,
            Credit: self._on_credit,
            Size: self._on_size,
            AckSize: self._on_ack_size,
            Data: self._on_data_frame,
            Fin: self._on_fin,
            Missing: self._on_missing,
            Complete: self._on_complete,
        }

    # For the user

    def send_control(self, data: bytes) -> None:
        """Queue bytes of the control stream."""
        self._control_out.write(data)

    def pause_control(self) -> None:
        """Stop `ControlReceived`; the credit stops the other end in time."""
        self._is_paused = True

    def resume_control(self) -> None:
        """Go on with `ControlReceived`."""
        self._is_paused = False
        self._read_control()

    def answer_fin(self, transfer: int, missing: Iterable[Range]) -> None:
        """Answer `FinReceived`: the ranges that are missing, or none."""
        self.incoming.answer_fin(transfer, tuple(missing))

    @property
    def control_waiting(self) -> int:
        """The bytes of the control stream that are not acknowledged, sent or not."""
        return self._control_out.waiting

    @property
    def is_delivered(self) -> bool:
        """Whether the other end has acknowledged everything that was handed over."""
        return not self._control_out.waiting and not self.outgoing.unacked

    def is_full(self, bound: int) -> bool:
        """Whether more than `bound` bytes of files, or too many of the control stream, are not acknowledged, or the
        connection has its share of the memory of all.
        """
        return (
            self.outgoing.unacked >= bound
            or self.outgoing.held >= min(2 * bound, self._memory.share)
            or self._control_out.waiting >= CONTROL_WAITING_MAX
        )

    # For packets that leave

    @property
    def has_frames(self) -> bool:
        """Whether frames, without the bytes of files, are to go out."""
        return (
            self.incoming.is_due
            or self._is_credit_due
            or self._control_out.is_due
            or any(True for _ in self.outgoing.frames_due())
        )

    def fill(self, payload: Payload) -> None:
        """Put frames that are due into a packet, as many as fit."""
        for answer in self.incoming.answers_due():
            if not payload.add(answer):
                return
            self.incoming.on_sent(answer)
        if self._is_credit_due and payload.add(Credit(self._control_in.take_credit())):
            self._is_credit_due = False
        for frame in self.outgoing.frames_due():
            if not payload.add(frame):
                return
            self.outgoing.on_frame_sent(frame)
        while payload.room >= CONTROL_HEAD_SIZE + CONTROL_PART_MIN:
            part = self._control_out.next_frame(payload.room - CONTROL_HEAD_SIZE)
            if part is None:
                return
            payload.add(part)

    def next_cargo(self, segment: int, packets: int) -> Cargo | None:
        """Return bytes of files for a train of packets with `segment` bytes; None if none are due."""
        return self.outgoing.next_cargo(segment, packets, SIZES)

    def on_acked(self, carried: Carried, runs: Iterable[Range]) -> None:
        """Take the acknowledgement of packets: what their row carried, and their positions in it."""
        for each in carried:
            match each:
                case Shipment():
                    for first, end in runs:
                        self.outgoing.on_acked(each, first, end)
                case Control():
                    self._control_out.on_acked(each.offset, each.offset + len(each.data))

    def on_lost(self, carried: Carried, runs: Iterable[Range]) -> None:
        """Take the loss of packets, likewise."""
        for each in carried:
            match each:
                case Shipment():
                    for first, end in runs:
                        self.outgoing.on_lost(each, first, end)
                case Control():
                    self._control_out.on_lost(each.offset, each.offset + len(each.data))
                case Size() | Fin():
                    self.outgoing.on_frame_lost(each)
                case AckSize() | Missing() | Complete():
                    self.incoming.on_lost(each)
                case Credit():
                    self._is_credit_due = True

    # For packets that arrive

    def receive(self, frame: Frame, number: int) -> None:
        """Take a frame of packet `number` that is not about the connection itself.

        Raises:
            RemoteProtocolError: it contradicts what the other end sent before.
        """
        self._receivers[type(frame)](frame, number)

    def receive_piece(self, transfer: int, offset: int, data: memoryview) -> None:
        """Take bytes of a file. Those of transfers that are not known, or no longer, are ignored.

        Raises:
            RemoteProtocolError: they lie beyond the size of the file.
        """
        if self.incoming.check(transfer, offset + len(data)):
            self._events.append(PieceReceived(transfer, offset, data))

    def _on_data_frame(self, frame: Data, _number: int) -> None:
        self.receive_piece(frame.transfer, frame.offset, memoryview(frame.data))

    def _on_control(self, frame: Control, _number: int) -> None:
        self._control_in.receive(frame.offset, frame.data)
        self._read_control()

    def _read_control(self) -> None:
        if not self._is_paused and (data := self._control_in.read()):
            self._events.append(ControlReceived(data))
            self._is_credit_due |= self._control_in.is_credit_due

    def _on_credit(self, frame: Credit, number: int) -> None:
        self._control_out.grant(frame.limit, number)

    def _on_size(self, frame: Size, _number: int) -> None:
        if self.incoming.on_size(frame.transfer, frame.size):
            self._events.append(SizeReceived(frame.transfer, frame.size))

    def _on_ack_size(self, frame: AckSize, _number: int) -> None:
        self.outgoing.on_size_acked(frame.transfer)

    def _on_fin(self, frame: Fin, _number: int) -> None:
        if self.incoming.check(frame.transfer, frame.sent):
            self._events.append(FinReceived(frame.transfer))

    def _on_missing(self, frame: Missing, _number: int) -> None:
        self.outgoing.on_missing(frame.transfer, frame.ranges)

    def _on_complete(self, frame: Complete, _number: int) -> None:
        self.outgoing.on_complete(frame.transfer)
