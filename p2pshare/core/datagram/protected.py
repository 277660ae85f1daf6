"""The PROTECTED packets of a connection: which of them leave and when, and what follows from those that arrive.

**What goes into the next packets**, in this order:

1. Answers to challenges, and challenges, to the addresses they are about.
2. Frames: an ACK if there is something to acknowledge, then what `Streams.fill` gives. An ACK that is due goes alone if
   there is no frame or no room in the congestion window.
3. Trains of DATA, one transfer after the other, as long as the congestion window and the pacer allow.
4. A probe of the path MTU, while a file is sent. The congestion window does not count it.

After a probe timeout up to `PROBES` packets go out whatever the window says. They carry what is due, else what the
oldest packet in flight carried, else PING.

**Trains.** A train of bare DATA is one row in the ledger, one call of the sealer, one buffer. While the other end does
not know the size of a file, the packets also carry SIZE and are sealed one by one.

**A new path.** When the other end has moved, estimates of the old path are worthless: the round trip, the window and
the MTU begin anew. Packets that were sent before are still acknowledged or lost, but the new controller does not hear
of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from p2pshare.core.datagram.congestion.controller import CongestionController, report
from p2pshare.core.datagram.contents.held_memory import HeldMemory
from p2pshare.core.datagram.contents.outgoing import Cargo
from p2pshare.core.datagram.contents.packing import Carried, Payload
from p2pshare.core.datagram.contents.streams import Streams
from p2pshare.core.datagram.handshake_stage import PROBES, ConnectionIds
from p2pshare.core.datagram.loss import LossDetector, Outcome
from p2pshare.core.datagram.pacer import Pacer
from p2pshare.core.datagram.path_mtu import PathMtu
from p2pshare.core.datagram.paths import Paths
from p2pshare.core.datagram.protection.opening import DataRun, OpenedTrain, Opening, TrainOpener
from p2pshare.core.datagram.protection.phases import KeyPhases
from p2pshare.core.datagram.protection.sealing import TrainSealer, seal_packet
from p2pshare.core.datagram.received_packets import ReceivedPackets
from p2pshare.core.datagram.rtt import RttEstimator
from p2pshare.core.datagram.sent_packets import TRAIN_PACKETS_MAX, SentPackets, TrainPart
from p2pshare.core.datagram.silence import SilenceTimer
from p2pshare.core.datagram.trains import Address, Train
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.frames import (
    CHALLENGE_SIZE,
    Ack,
    Challenge,
    Close,
    Data,
    Fin,
    Frame,
    Ping,
    Response,
    is_ack_eliciting,
    parse_frames,
    serialize,
)
from p2pshare.wire.datagrams.packets import PROTECTED_OVERHEAD

PATH_PACKET_SIZE = PROTECTED_OVERHEAD + len(serialize(Challenge(bytes(CHALLENGE_SIZE))))
"""Bytes of a packet with CHALLENGE or RESPONSE."""
AT_ONCE = (Fin, Ping, Challenge)  # frames whose sender waits for the ACK


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections of an endpoint share."""

    random: Callable[[int], bytes]
    """Returns that many unpredictable bytes."""
    make_controller: Callable[[int], CongestionController]
    """Makes the congestion controller of a path, with packets of that many bytes."""
    segment_max: int
    """Bytes of the largest UDP payload that is tried."""
    sealer: TrainSealer
    opener: TrainOpener
    memory: HeldMemory


class ProtectedPackets:
    """The PROTECTED packets of one connection, in both directions."""

    def __init__(
        self,
        shared: Shared,
        ids: ConnectionIds,
        phases: KeyPhases,
        streams: Streams,
        paths: Paths,
        rtt: RttEstimator,
        now: float,
    ) -> None:
        self.rtt = rtt
        self._shared = shared
        self._is_refused = False  # whether the system refused a packet as too large
        self._ids = ids
        self._phases = phases
        self._streams = streams
        self._paths = paths
        self._sent = SentPackets[Carried]()
        self._received = ReceivedPackets()
        self._loss = LossDetector(self._sent, rtt)
        self._silence = SilenceTimer(now)
        self._probes = 0
        self._paced_until: float | None = None  # when the pacer lets the next train go
        self._begin_path(now)
        self._is_ping_due = False

    @property
    def path_mtu(self) -> int:
        """Bytes of the UDP payloads that the path carries."""
        return self._mtu.size

    @property
    def is_in_flight(self) -> bool:
        """Whether the other end has yet to acknowledge something."""
        return self._sent.packets_in_flight > 0

    @property
    def key_phase(self) -> int:
        """How often the keys have changed by which packets are sealed."""
        return self._phases.sealing_phase

    @property
    def unanswered_since(self) -> float | None:
        """See `LossDetector`."""
        return self._loss.unanswered_since

    # Packets that arrive

    def receive(
        self, data: memoryview, segment: int, address: Address, now: float, ce: int
    ) -> tuple[OpenedTrain, Close | None]:
        """Take a train; return what was opened, and its CLOSE frame.

        Raises:
            RemoteProtocolError: the other end violates the protocol.
        """
        opened = self._open(data, segment, now)
        if not opened.numbers:
            return opened, None
        self._note_address(opened, len(data), address)
        is_eliciting = at_once = has_own = False
        try:
            for content in opened.contents:
                if isinstance(content, DataRun):
                    is_eliciting = has_own = True
                    self._streams.receive_piece(content.transfer, content.offset, content.data)
                    continue
                for frame in parse_frames(content.data):
                    is_eliciting |= is_ack_eliciting(frame)
                    has_own |= is_ack_eliciting(frame) and not isinstance(frame, Ping)
                    at_once |= isinstance(frame, AT_ONCE)
                    if isinstance(frame, Close):
                        return opened, frame
                    self._receive_frame(frame, content.number, address, now)
        finally:
            if has_own:  # two ends that wait must not keep each other awake by PINGs
                self._silence.heard(now)
            self._received.received(
                opened.numbers, now, self.rtt.smoothed,
                ack_eliciting=is_eliciting, at_once=at_once, ce=ce,
            )  # fmt: skip
        return opened, None

    def receive_after_close(
        self, data: memoryview, segment: int, now: float
    ) -> tuple[OpenedTrain, bool]:
        """Open a train, of which only CLOSE counts; return it, and whether it has one."""
        opened = self._open(data, segment, now)
        self._received.received(opened.numbers, now, self.rtt.smoothed, ack_eliciting=False)
        payloads = [each.data for each in opened.contents if not isinstance(each, DataRun)]
        with suppress(RemoteProtocolError):
            frames = (frame for data in payloads for frame in parse_frames(data))
            return opened, any(isinstance(frame, Close) for frame in frames)
        return opened, False

    def _open(self, data: memoryview, segment: int, now: float) -> OpenedTrain:
        opening = Opening(
            self._phases, self._ids.own, self._received.is_new, now, self.rtt.probe_timeout
        )
        return self._shared.opener.open(data, segment, opening)

    def _note_address(self, opened: OpenedTrain, size: int, address: Address) -> None:
        """Count bytes for a path, and challenge a new address if it sent the newest packet."""
        newest = max(end for _, end in opened.numbers) - 1
        if newest > self._received.largest and self._paths.is_new(address):
            self._paths.propose(address, self._shared.random(CHALLENGE_SIZE))
        self._paths.on_received(address, size)

    def _receive_frame(self, frame: Frame, number: int, address: Address, now: float) -> None:
        match frame:
            case Ack():
                self._on_ack(frame, now)
            case Challenge():
                self._paths.on_challenge(address, frame.data)
            case Response():
                if self._paths.on_response(frame.data):
                    self.rtt.restart()
                    self._begin_path(now)
            case Ping():
                pass
            case _:
                self._streams.receive(frame, number)

    def _on_ack(self, ack: Ack, now: float) -> None:
        outcome = self._loss.acknowledge(ack, now)
        self._phases.acknowledged(ack.largest)
        self._apply(outcome, now)

    def _apply(self, outcome: Outcome[Carried], now: float) -> None:
        """Take what an ACK or a timer has told: acknowledgements first, so that nothing is repeated that arrived."""
        for part in (*outcome.acked, *outcome.late):
            self._on_acked(part)
        for part in outcome.lost:
            self._on_lost(part)
        outcome = self._of_this_path(outcome)
        report(outcome, self.controller, self.rtt, now)
        self._learn_mtu(outcome, now)
        self._pace(now)

    def _on_acked(self, part: TrainPart[Carried]) -> None:
        train = part.train
        self._streams.on_acked(train.carried, list(part.runs))
        for each in train.carried:
            if isinstance(each, Ack):
                self._received.ack_acknowledged(each)

    def _on_lost(self, part: TrainPart[Carried]) -> None:
        self._streams.on_lost(part.train.carried, list(part.runs))

    def _of_this_path(self, outcome: Outcome[Carried]) -> Outcome[Carried]:
        """Return what the controller may hear of: packets of the old path say nothing about the present one."""
        if not self._path_start:
            return outcome
        acked, late, lost = (
            [each for each in parts if each.train.first >= self._path_start]
            for parts in (outcome.acked, outcome.late, outcome.lost)
        )
        return replace(outcome, acked=acked, late=late, lost=lost)

    def _begin_path(self, now: float) -> None:
        """Begin with the estimates of a path of which nothing is known."""
        self._mtu = PathMtu(self._shared.segment_max)
        self.controller = self._shared.make_controller(self.path_mtu)
        rate = self.controller.pacing_rate(self.rtt.smoothed)
        self._pacer = Pacer(rate, self.path_mtu, now)
        self._path_start = self._sent.next_number

    def _learn_mtu(self, outcome: Outcome[Carried], now: float) -> None:
        """Tell the path MTU discovery which packets and probes have arrived and were lost."""
        acked, lost = (
            [each for each in parts if each.train.in_flight]
            for parts in ((*outcome.acked, *outcome.late), outcome.lost)
        )
        if any(not each.train.in_flight for each in outcome.acked):
            self._mtu.probe_acked(now)
        if any(not each.train.in_flight for each in outcome.lost):
            self._mtu.probe_lost(now)
        if acked:
            self._mtu.on_acked(acked)
        if lost:
            self._mtu.on_lost(lost, now)
        if outcome.must_probe:
            self._mtu.on_probe_timeout(now)

    def _pace(self, now: float) -> None:
        """Follow the rate of the controller, and the size of packets."""
        self.controller.segment = self.path_mtu
        self._pacer.change(self.controller.pacing_rate(self.rtt.smoothed), self.path_mtu, now)

    # Packets that leave

    def ping(self) -> None:
        """Send something that the other end acknowledges."""
        self._is_ping_due = True

    def trains_to_send(self, now: float, budget: int) -> list[Train]:
        """Return trains that are due, about `budget` bytes at most."""
        if self._is_refused:
            self._is_refused = False
            self._mtu.probe_refused(now)
        trains = [
            self._send_once(Response(data), address)
            for address, data in self._paths.take_responses(PATH_PACKET_SIZE)
        ]
        if (challenge := self._challenge(now)) is not None:
            trains.append(challenge)
        while (train := self._next_train(now, budget)) is not None:
            trains.append(train)
            budget -= len(train.data)
            if budget < self.path_mtu:  # the rest would be a train of few packets
                break
        if trains and len(self._streams.outgoing) and (size := self._mtu.probe(now)) is not None:
            trains.append(self._mtu_probe(size, now))
        return trains

    def close_packet(self, frame: Close) -> Train:
        """Return a packet with CLOSE."""
        return self._send_once(frame, self._paths.address)

    def get_timer(self) -> float | None:
        """Return when to call `handle_timer` and `trains_to_send`."""
        times = (
            *(self._received.ack_at, self._loss.get_timer(), self._paths.get_timer()),
            *(self._paced_until, self._silent_at),
        )
        return min((each for each in times if each is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Declare losses, send probes, or ask a silent end, if it is time."""
        outcome = self._loss.handle_timer(now)
        self._apply(outcome, now)
        if outcome.must_probe:
            self._probes = PROBES
            self._repeat_oldest()
        if self._silent_at is not None and now >= self._silent_at:
            self._silence.pinged()
            self.ping()

    @property
    def _silent_at(self) -> float | None:
        streams = self._streams
        is_waiting = streams.incoming.is_incomplete or len(streams.outgoing) > 0
        return self._silence.due if is_waiting else None

    def _repeat_oldest(self) -> None:
        """Queue what the oldest packets in flight carried, for the probes."""
        left = PROBES
        for part in self._sent.unresolved():
            for first, end in part.runs:
                end = min(end, first + left)
                self._streams.on_lost(part.train.carried, [(first, end)])
                left -= end - first
                if not left:
                    return

    def datagram_refused(self) -> None:
        """Take the hint that the newest packets were too large."""
        self._is_refused = True

    def _challenge(self, now: float) -> Train | None:
        candidate = self._paths.next_challenge(PATH_PACKET_SIZE, now, self.rtt.probe_timeout)
        if candidate is None:
            return None
        return self._send_once(Challenge(candidate.challenge), candidate.address)

    def _send_once(self, frame: Frame, address: Address) -> Train:
        """Seal a packet with a frame that loss recovery does not repeat, so the ledger does not keep it.

        CHALLENGE and RESPONSE travel over other paths than the rest, so their fate means nothing for the round trip
        and the congestion window. And the other end causes RESPONSE: rows for it would grow without bound if that end
        acknowledged nothing.
        """
        payload = serialize(frame)
        data = seal_packet(self._phases, self._ids.other, self._sent.take_number(), payload)
        return Train(data, len(data), address)

    def _mtu_probe(self, size: int, now: float) -> Train:
        """Return a packet of `size` bytes whose loss is no sign of congestion."""
        payload = Payload(size - PROTECTED_OVERHEAD)
        payload.add(Ping())
        payload.pad()
        number = self._sent.add(1, size, size, now, (), in_flight=False).first
        self._mtu.probe_sent(size)
        data = seal_packet(self._phases, self._ids.other, number, payload.data)
        return Train(data, size, self._paths.address)

    def _next_train(self, now: float, budget: int) -> Train | None:
        segment = self.path_mtu
        self._paced_until = None
        if self._probes:
            return self._probe(segment, now)
        room = self.controller.window - self._sent.bytes_in_flight
        is_open = room >= segment or not self._sent.bytes_in_flight
        if is_open and (self._is_ping_due or self._streams.has_frames):
            return self._send(self._frames(segment, now), self._paths.address, now)
        if self._received.ack_at is not None and now >= self._received.ack_at:
            payload = Payload(segment - PROTECTED_OVERHEAD)
            self._add_ack(payload, now)
            return self._send(payload, self._paths.address, now)
        return self._next_cargo(min(room, budget), segment, now) if is_open else None

    def _next_cargo(self, room: int, segment: int, now: float) -> Train | None:
        """Return a train of about `room` bytes at most, if the pacer allows one now."""
        if not self._streams.outgoing.is_due:
            return None
        paced = self._pacer.budget(now)
        if not paced:
            self._paced_until = self._pacer.next_at(now)
            return None
        packets = max(1, min(room, paced) // segment)
        most = min(TRAIN_PACKETS_MAX, self._shared.sealer.segments_max(segment))
        cargo = self._streams.next_cargo(segment, min(packets, most))
        return self._send_cargo(cargo, segment, now) if cargo else None

    def _frames(self, segment: int, now: float) -> Payload:
        """Return the frames of the next packet."""
        payload = Payload(segment - PROTECTED_OVERHEAD)
        self._add_ack(payload, now)
        self._streams.fill(payload)
        if self._is_ping_due and not payload.is_eliciting:
            payload.add(Ping())
        if payload.is_eliciting:
            self._is_ping_due = False
        return payload

    def _add_ack(self, payload: Payload, now: float) -> None:
        if self._received.ack_at is not None and (ack := self._received.ack(now)):
            payload.add_ack(ack)

    def _probe(self, segment: int, now: float) -> Train:
        """Return a packet that makes the other end answer, with something useful if there is anything."""
        self._probes -= 1
        if not self._streams.has_frames and (cargo := self._streams.next_cargo(segment, 1)):
            return self._send_cargo(cargo, segment, now)
        self._is_ping_due = True
        return self._send(self._frames(segment, now), self._paths.address, now)

    def _send(self, payload: Payload, address: Address, now: float) -> Train:
        """Seal the packet of a payload, and enter it into the ledger."""
        size = PROTECTED_OVERHEAD + len(payload.data)
        if payload.is_eliciting:
            number = self._enter(1, size, size, tuple(payload.carried), now)
        else:
            number = self._sent.take_number()
        data = seal_packet(self._phases, self._ids.other, number, payload.data)
        return Train(data, size, address)

    def _send_cargo(self, cargo: Cargo, segment: int, now: float) -> Train:
        """Seal the packets with bytes of a file, and enter them into the ledger."""
        count, total = cargo.packets, sum(len(data) for _, data in cargo.runs)
        last = total - (count - 1) * cargo.payload + segment - cargo.payload
        first_size = segment if count > 1 else last
        number = self._enter(count, first_size, last, (cargo.shipment(),), now)
        if cargo.size is None:
            data = self._shared.sealer.seal(
                self._phases, self._ids.other, number, cargo.transfer, cargo.runs, segment
            )
        else:
            data = self._seal_with_size(cargo, serialize(cargo.size), number)
        return Train(data, segment, self._paths.address)

    def _seal_with_size(self, cargo: Cargo, size: bytes, number: int) -> bytes:
        """Return the packets of a train whose receiver may not know the size yet."""
        packets = list[bytes]()
        for offset, data in cargo.runs:
            for at in range(0, len(data), cargo.payload):
                part = serialize(Data(cargo.transfer, offset + at, data[at : at + cargo.payload]))
                packets.append(
                    seal_packet(self._phases, self._ids.other, number + len(packets), size + part)
                )
        return b"".join(packets)

    def _enter(self, count: int, segment: int, last: int, carried: Carried, now: float) -> int:
        """Enter packets into the ledger, and return the number of the first."""
        row = self._sent.add(count, segment, last, now, carried)
        size = segment * (count - 1) + last
        self.controller.on_sent(size, self._sent.bytes_in_flight, now)
        self._pacer.spend(size, now)
        return row.first
