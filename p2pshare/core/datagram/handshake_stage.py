"""The beginning of a connection: OPEN, COOKIE and HANDSHAKE packets, at both ends.

::

    opener                                       acceptor
    OPEN                       ------->          keeps nothing
    keeps the cookie           <-------  COOKIE
    HANDSHAKE with token       ------->          checks the cookie, makes the connection
    learns the acceptor's CID  <-------  HANDSHAKE
    HANDSHAKE                  ------->          TLS is done
    drops this stage           <-------  PROTECTED

The stage is a packet number space of its own, with the flights of TLS in CRYPTO frames. Both ends keep it until they
have opened a PROTECTED packet. That packet proves that the other end has what it needs, so nothing of this stage is
worth a retransmission any more.

**Repetition.** OPEN has no acknowledgement but COOKIE, and is repeated after `OPEN_TIMEOUT`, which doubles up to
`OPEN_TIMEOUT_MAX`. HANDSHAKE packets are repeated by PTO, and OPEN with them until the acceptor has answered: COOKIE is
not protected, so a damaged one must not spoil the whole attempt. The back-off ends at `PROBE_TIMEOUT_MAX`, because a
handshake has seconds only, and a packet per second does no harm. There is no congestion window: TLS never has more than
a few packets in flight.

**What an attacker can do.** Everybody who sees OPEN can make HANDSHAKE packets. So a bad one is dropped as a whole, and
one from another address counts for nothing; but as with QUIC, an attacker on the path can prevent a handshake. TLS
decides about the keys.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from p2pshare.core.datagram.contents.packing import Carried, Payload
from p2pshare.core.datagram.loss import LossDetector, Outcome
from p2pshare.core.datagram.protection.handshake import Handshake
from p2pshare.core.datagram.protection.keys import KeyPair
from p2pshare.core.datagram.received_packets import ReceivedPackets
from p2pshare.core.datagram.rtt import RttEstimator
from p2pshare.core.datagram.sent_packets import SentPackets
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.frames import (
    CRYPTO_HEAD_SIZE,
    Ack,
    Close,
    Crypto,
    Frame,
    Ping,
    is_ack_eliciting,
    parse_frames,
)
from p2pshare.wire.datagrams.packets import (
    TAG_SIZE,
    UNKNOWN_CID,
    VERSION,
    Cookie,
    HandshakeHeader,
    Open,
)

PACKET_MAX = 1200  # bytes of a HANDSHAKE packet, which any path carries (RFC 9000, section 14)
OPEN_TIMEOUT = 0.4  # seconds until OPEN is repeated for the first time
OPEN_TIMEOUT_MAX = 1.0  # seconds
CRYPTO_PART_MIN = 32  # bytes of TLS that are worth a frame at the end of a packet
PROBE_TIMEOUT_MAX = 1.0  # seconds, unless the round trip is longer
PROBES = 2  # packets that go out when the probe timeout expires (RFC 9002, section 6.2.4)


@dataclass(slots=True)
class ConnectionIds:
    """What identifies a connection."""

    is_opener: bool
    """Which end this is."""
    opener_cid: bytes
    random: bytes
    """Those of OPEN."""
    acceptor_cid: bytes = UNKNOWN_CID
    """The opener learns it from the first HANDSHAKE packet."""

    @property
    def own(self) -> bytes:
        """The connection ID of this end, by which packets find it."""
        return self.opener_cid if self.is_opener else self.acceptor_cid

    @property
    def other(self) -> bytes:
        """The connection ID of the other end."""
        return self.acceptor_cid if self.is_opener else self.opener_cid


class HandshakeStage:
    """The handshake of one connection, at one end."""

    def __init__(
        self, ids: ConnectionIds, handshake: Handshake, rtt: RttEstimator, now: float
    ) -> None:
        """Begin. An opener sends OPEN at once; an acceptor has checked the cookie."""
        self.ids = ids
        self.handshake = handshake
        self._rtt = rtt
        self._keys = KeyPair.for_handshake(ids.random, ids.opener_cid, is_opener=ids.is_opener)
        self._sent = SentPackets[Carried]()
        self._received = ReceivedPackets()
        self._loss = LossDetector(self._sent, rtt)
        self._cookie: bytes | None = None
        self._open_at: float | None = now if ids.is_opener else None
        self._opens = 0
        self._open_sent_at = now
        self._probes = 0
        self._close: Close | None = None

    @property
    def has_cookie(self) -> bool:
        """Whether the opener has the cookie, or this is the acceptor."""
        return self._cookie is not None or not self.ids.is_opener

    def close(self, frame: Close) -> None:
        """Send CLOSE in the next packet."""
        self._close = frame

    def receive_cookie(self, packet: Cookie, now: float) -> bool:
        """Take the answer to OPEN; False if it is none, or comes too late.

        Raises:
            RemoteProtocolError: the acceptor does not support this version.
        """
        ids = self.ids
        if not ids.is_opener or ids.acceptor_cid != UNKNOWN_CID:
            return False
        if packet.opener_cid != ids.opener_cid or packet.random != ids.random:
            return False
        if not packet.cookie and packet.version == VERSION:  # OPEN was damaged on its way
            return False
        if not packet.cookie:
            raise RemoteProtocolError(
                reason=f"it supports only version {packet.version} of the datagrams"
            )
        if (
            self._opens == 1 and not self.has_cookie
        ):  # else it may answer another OPEN (Karn's algorithm)
            self._rtt.add_sample(self._open_sent_at, 0.0, now)
        self._cookie = packet.cookie
        self._open_at = None
        return True

    def receive(self, header: HandshakeHeader, segment: memoryview, now: float) -> Close | None:
        """Take a HANDSHAKE packet; return its CLOSE frame. An invalid packet is dropped.

        Raises:
            HandshakeFailed: TLS refuses what the other end says.
        """
        frames = self._open(header, segment)
        if frames is None:
            return None
        if self.ids.acceptor_cid == UNKNOWN_CID:
            self.ids.acceptor_cid = header.acceptor_cid
        eliciting = any(map(is_ack_eliciting, frames))
        self._received.received(
            [(header.number, header.number + 1)], now, self._rtt.smoothed,
            ack_eliciting=eliciting, at_once=eliciting,
        )  # fmt: skip
        for frame in frames:
            match frame:
                case Ack():
                    with suppress(RemoteProtocolError):  # whoever saw OPEN can forge it
                        self._apply(self._loss.acknowledge(frame, now))
                case Crypto():
                    self.handshake.receive(frame.offset, frame.data)
                case Close():
                    return frame
        return None

    def receive_after_close(
        self, header: HandshakeHeader, segment: memoryview, now: float
    ) -> tuple[Frame, ...]:
        """Take a packet, of which only CLOSE counts; return its frames, none if it is dropped."""
        frames = self._open(header, segment) or ()
        if frames:
            numbers = [(header.number, header.number + 1)]
            self._received.received(numbers, now, self._rtt.smoothed, ack_eliciting=False)
        return frames

    def packets_to_send(self, now: float) -> list[bytes]:
        """Return the packets that are due, each for a datagram of its own."""
        packets = []
        if self._open_at is not None and now >= self._open_at:
            packets.append(self._repeat_open(now))
        if not self.has_cookie:
            return packets
        while payload := self._next_payload(now):
            packets.append(self._seal(payload, now))
        return packets

    def get_timer(self) -> float | None:
        """Return when to call `handle_timer` and `packets_to_send`."""
        times = (self._open_at, self._received.ack_at, self._loss.get_timer(), self._probe_at)
        return min((each for each in times if each is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Declare losses, or send probes, if it is time."""
        is_overdue = self._probe_at is not None and now >= self._probe_at
        outcome = self._loss.handle_timer(now)
        self._apply(outcome)
        if outcome.must_probe or is_overdue:
            self._probes = PROBES
            if self.ids.acceptor_cid == UNKNOWN_CID:  # the cookie may be damaged
                self._open_at = now
            for part in self._sent.unresolved():
                self._take_back(part.train.carried)

    @property
    def _probe_at(self) -> float | None:
        """When a probe goes out whatever the back-off is."""
        if not self._sent.packets_in_flight:
            return None
        return self._sent.last_sent_at + max(PROBE_TIMEOUT_MAX, self._rtt.probe_timeout)

    def _repeat_open(self, now: float) -> bytes:
        timeout = min(OPEN_TIMEOUT * 2**self._opens, OPEN_TIMEOUT_MAX)
        self._opens += 1
        self._open_sent_at = now
        self._open_at = None if self.has_cookie else now + timeout
        return Open(self.ids.opener_cid, self.ids.random).serialize()

    def _next_payload(self, now: float) -> Payload | None:
        """Return the frames of the next packet; None if none is due."""
        payload = Payload(PACKET_MAX - len(self._header(0).serialize()) - TAG_SIZE)
        if self._received.ack_at is not None and (ack := self._received.ack(now)):
            payload.add_ack(ack)
        while payload.room >= CRYPTO_HEAD_SIZE + CRYPTO_PART_MIN:
            frame = self.handshake.next_frame(payload.room - CRYPTO_HEAD_SIZE)
            if frame is None:
                break
            payload.add(frame)
        if self._probes and not payload.is_eliciting:
            payload.add(Ping())
        if self._close is not None and payload.add(self._close):
            self._close = None
        if payload.is_eliciting:
            self._probes = max(0, self._probes - 1)
        return payload if payload.data else None

    def _header(self, number: int) -> HandshakeHeader:
        ids = self.ids
        token = (self._cookie or b"") + ids.random if ids.acceptor_cid == UNKNOWN_CID else b""
        return HandshakeHeader(ids.is_opener, ids.opener_cid, ids.acceptor_cid, number, token)

    def _seal(self, payload: Payload, now: float) -> bytes:
        number = self._sent.next_number
        header = self._header(number).serialize()
        size = len(header) + len(payload.data) + TAG_SIZE
        if payload.is_eliciting:
            self._sent.add(1, size, size, now, tuple(payload.carried))
        else:
            self._sent.take_number()
        return header + self._keys.sealing.seal(number, payload.data, header)

    def _open(self, header: HandshakeHeader, segment: memoryview) -> tuple[Frame, ...] | None:
        """Return the frames of a packet that is new, authentic and valid, or None."""
        ids = self.ids
        known = ids.acceptor_cid if ids.acceptor_cid != UNKNOWN_CID else header.acceptor_cid
        if (
            header.from_opener == ids.is_opener
            or header.opener_cid != ids.opener_cid
            or header.acceptor_cid not in ((known,) if ids.is_opener else (known, UNKNOWN_CID))
            or not self.has_cookie
            or not self._received.is_new(header.number)
        ):
            return None
        aad, sealed = segment[: header.size], segment[header.size :]
        payload = self._keys.opening.open(header.number, sealed, aad)
        if payload is None:
            return None
        try:
            return tuple(parse_frames(memoryview(payload), in_handshake=True))
        except RemoteProtocolError:
            return None

    def _apply(self, outcome: Outcome[Carried]) -> None:
        for part in (*outcome.acked, *outcome.late):
            for each in part.train.carried:
                if isinstance(each, Crypto):
                    self.handshake.on_acked(each)
                elif isinstance(each, Ack):
                    self._received.ack_acknowledged(each)
        for part in outcome.lost:
            self._take_back(part.train.carried)

    def _take_back(self, carried: Carried) -> None:
        """Send again what packets carried."""
        for each in carried:
            if isinstance(each, Crypto):
                self.handshake.on_lost(each)
