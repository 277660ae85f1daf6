"""One connection over datagrams: the association of two peers below a session.

::

    opener               acceptor
    OPENING              -             OPEN is sent, and repeated until COOKIE comes
    SHAKING              SHAKING       TLS in HANDSHAKE packets
    OPEN                 OPEN          both keys are proved; PROTECTED packets
    FINISHING            FINISHING     the user closed; what was sent is still being acknowledged
    CLOSING              CLOSING       CLOSE was sent, and answers whatever still arrives
    GONE                 GONE          nothing is known any more

`PACKETS` and `USABLE` are the whole state machine: which packets count in which state, and in which states the calls of
the user do. Everything else is dropped or ignored. All that changes `state` is in this file.

**The parts.** `HandshakeStage` has the packets before the keys, `ProtectedPackets` those after, and each of them its
own packet numbers, ledgers, loss detection and timers. `Streams` has what the connection carries. This module decides
which part a packet belongs to, and when the connection begins and ends.

**From one stage to the next.** As soon as TLS is done, an end makes the keys of PROTECTED packets. An acceptor then
sends a PING, whether or not there is anything to say: the first PROTECTED packet that an end opens tells it that the
other end needs nothing more of the handshake, and the stage is dropped. Until then HANDSHAKE packets are acknowledged
and repeated. PROTECTED packets that arrive before the keys exist are dropped; they come again.

**The end.** CLOSE is not acknowledged. After it, an end keeps the connection for `LINGER` probe timeouts and answers
what arrives with CLOSE, the first packet and then every second, fourth, eighth: so a lost CLOSE is repeated, and two
ends that close at once do not answer each other without end. An end that receives CLOSE forgets everything at once;
what still arrives for it has an unknown connection ID, which nobody answers.

**Violations** by the other end (`RemoteProtocolError`) close the connection. Its packets were authentic, so nobody else
can cause that. HANDSHAKE packets can be forged by those who saw OPEN, so a bad one is dropped.

**Timers.** Each part names its next deadline; the smallest one counts. They are: the end of the handshake, the patience
of a close, the end of a linger, a keep-alive, an idle timeout or an end for lack of answers if the user asked for one,
and those of the parts: a probe timeout, a loss by time, an ACK that is delayed, a challenge, the pacer, a PING to a
silent end. An idle connection has no deadline.

**Bounds.** What the other end can make this one hold: the control stream beyond what was read
(`contents.control_stream.WINDOW`), ranges of packet numbers (`received_packets`), transfers that were announced
(`contents.incoming.TRANSFERS_MAX`), bytes of TLS (`protection.handshake.RECEIVED_MAX`), challenges that are not
answered yet (`paths.RESPONSES_MAX`). If the other end acknowledges nothing, this one keeps pieces of up to `held_max`
bytes, within its share of the memory of all connections (`contents.held_memory`), and the rows of a ledger for the
packets of a congestion window. The user fetches the events after each train.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from p2pshare.core.datagram.contents.streams import Streams
from p2pshare.core.datagram.events import Closed, Event, HandshakeDone, PathChanged, Writable
from p2pshare.core.datagram.handshake_stage import ConnectionIds, HandshakeStage
from p2pshare.core.datagram.paths import Paths
from p2pshare.core.datagram.protected import ProtectedPackets, Shared
from p2pshare.core.datagram.protection.handshake import Handshake, HandshakeFailed, TlsEnd
from p2pshare.core.datagram.protection.phases import KeyPhases
from p2pshare.core.datagram.rtt import RttEstimator
from p2pshare.core.datagram.trains import Address, Train
from p2pshare.core.ranges import Range
from p2pshare.errors import LocalProtocolError, P2pshareError, RemoteProtocolError, Unreachable
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.datagrams.frames import REASON_MAX, Close, CloseCode
from p2pshare.wire.datagrams.packets import Cookie, HandshakeHeader, ProtectedHeader
from p2pshare.wire.keys import PublicKey

LINGER = 3  # probe timeouts for which a closed connection still answers (RFC 9000, section 10.2)
HELD_MIN = BLOCK_SIZE  # bytes that may be handed over whatever the congestion window is


class State(Enum):
    """The states of a connection."""

    OPENING = "opening"
    SHAKING = "shaking"
    OPEN = "open"
    FINISHING = "finishing"
    CLOSING = "closing"
    GONE = "gone"


_ANY_SEALED = frozenset({HandshakeHeader, ProtectedHeader})

PACKETS: Mapping[State, frozenset[type]] = {
    State.OPENING: frozenset({Cookie}),
    State.SHAKING: frozenset({Cookie, HandshakeHeader}),
    State.OPEN: _ANY_SEALED,
    State.FINISHING: _ANY_SEALED,
    State.CLOSING: _ANY_SEALED,
    State.GONE: frozenset(),
}
"""The packets that count. An acceptor begins in SHAKING; it never gets COOKIE, which has the CID of an opener."""


USABLE = frozenset({State.OPENING, State.SHAKING, State.OPEN})
"""The states in which the user's calls count. What the user sends during the handshake goes out after it."""


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """The times and bounds of connections."""

    handshake_timeout: float = 10.0
    """Seconds from OPEN, or from the first HANDSHAKE packet, to the end of the handshake."""
    close_patience: float = 5.0
    """Seconds for which a close waits until everything is acknowledged."""
    held_max: int = 16 * 1024 * 1024
    """Bytes of files that may be handed over and not acknowledged."""
    keep_alive: float | None = None
    """Seconds without a packet to the other end after which a PING goes out; None: never."""
    idle_timeout: float | None = None
    """Seconds without a packet from the other end after which the connection is given up; None: never."""
    update_after: int = 2**22
    """Packets after which the keys change."""


class DatagramConnection:
    """One end of a connection."""

    def __init__(
        self,
        shared: Shared,
        settings: ConnectionSettings,
        ids: ConnectionIds,
        address: Address,
        tls: TlsEnd,
        now: float,
        wake: Callable[[DatagramConnection], None],
    ) -> None:
        """Begin: an opener with OPEN, an acceptor with the first HANDSHAKE packet, which follows.

        Args:
            shared: what the connections of an endpoint share.
            settings: times and bounds.
            ids: of the connection.
            address: the other end's.
            tls: this end of TLS.
            now: time in s.
            wake: called when there may be something to send, an event or another deadline.
        """
        self.ids = ids
        self.first_address = address
        """Where the other end was when the connection began."""
        self.state = State.OPENING if ids.is_opener else State.SHAKING
        self.has_answer = not ids.is_opener
        """Whether anything came from the other end."""
        self.unanswered_timeout: float | None = None
        """Seconds without any answer to packets and probes after which the connection is given up; None: never. An
        opener can set it: it may find another way to the other end. An acceptor had better wait for it to come back.
        """
        self.events = deque[Event]()
        """The events that the user has not fetched yet, the oldest first."""
        self._shared = shared
        self._settings = settings
        self._wake = wake
        self._tls = tls
        self._rtt = RttEstimator()
        self._paths = Paths(address)
        self._streams = Streams(self.events, shared.memory)
        self._handshake = Handshake(tls, is_opener=ids.is_opener)
        self._stage: HandshakeStage | None = HandshakeStage(ids, self._handshake, self._rtt, now)
        self._packets: ProtectedPackets | None = None
        self._until: float | None = now + settings.handshake_timeout
        """When the present state ends at the latest."""
        self._heard = self._said = now
        self._was_full = False
        self._close_frame: Close | None = None
        self._is_close_due = False
        self._arrived_after_close = 0

    # For the user

    @property
    def remote(self) -> Address:
        """The address of the other end."""
        return self._paths.address

    @property
    def shown_key(self) -> PublicKey | None:
        """The key that the other end showed, acceptable or not."""
        return self._handshake.shown_key

    @property
    def cipher(self) -> str:
        """The cipher suite of TLS, which also protects the packets; empty before the handshake has chosen one."""
        return self._tls.cipher

    @property
    def control_waiting(self) -> int:
        """The bytes of the control stream that are not acknowledged, sent or not."""
        return self._streams.control_waiting

    @property
    def pieces_held(self) -> int:
        """The bytes of pieces in memory that are not wholly acknowledged."""
        return self._streams.outgoing.held

    @property
    def key_phase(self) -> int:
        """How often the keys of this direction have changed."""
        return self._packets.key_phase if self._packets else 0

    @property
    def rtt(self) -> float:
        """The smoothed round-trip time in seconds."""
        return self._rtt.smoothed

    @property
    def path_mtu(self) -> int:
        """Bytes of a UDP payload that the path carries."""
        return self._packets.path_mtu if self._packets else 0

    @property
    def is_half_open(self) -> bool:
        """Whether the connection holds something, and the handshake is not done, or has failed."""
        return self._packets is None and self.state is not State.GONE

    @property
    def is_closing(self) -> bool:
        """Whether CLOSE was sent, and nothing but answers follows."""
        return self.state is State.CLOSING

    @property
    def is_gone(self) -> bool:
        """Whether nothing of the connection is left but events."""
        return self.state is State.GONE

    @property
    def is_full(self) -> bool:
        """Whether the user should wait for `Writable` before it sends more."""
        self._was_full = self._is_full
        return self._was_full

    def send_control(self, data: bytes, now: float) -> None:
        """Send bytes of the control stream; before the handshake is done, they wait."""
        if self._is_usable:
            self._streams.send_control(data)
            self._wake(self)

    def pause_control(self) -> None:
        """Stop `ControlReceived` after what has been reported; the other end stops after one window."""
        self._streams.pause_control()

    def resume_control(self) -> None:
        """Go on with `ControlReceived`."""
        if self._is_usable:
            self._streams.resume_control()
            self._wake(self)

    def begin(self, transfer: int, size: int) -> None:
        """Begin a transfer of a file with `size` bytes."""
        if self._is_usable:
            self._streams.outgoing.begin(transfer, size)
            self._wake(self)

    def send_piece(self, transfer: int, offset: int, data: memoryview, now: float) -> None:
        """Send bytes of a file, which stay unchanged until they are acknowledged. Unknown transfers are ignored."""
        if self._is_usable:
            self._streams.outgoing.send_piece(transfer, offset, data)
            self._wake(self)

    def finish(self, transfer: int) -> None:
        """Say that a transfer has no more bytes."""
        if self._is_usable:
            self._streams.outgoing.finish(transfer)
            self._wake(self)

    def drop(self, transfer: int) -> None:
        """Forget a transfer; the other end learns of it by other means."""
        self._streams.outgoing.drop(transfer)
        if self.state not in (State.CLOSING, State.GONE):
            self._look()
        self._wake(self)

    def answer_fin(self, transfer: int, missing: Sequence[Range]) -> None:
        """Answer `FinReceived` with the ranges that are missing, ascending; none: all is there."""
        if self._is_usable:
            self._streams.answer_fin(transfer, missing)
            self._wake(self)

    def close(self, code: int, reason: str, now: float) -> None:
        """End the connection as soon as the other end has all that was sent, or after `close_patience`."""
        if not self._is_usable:
            return
        self._close_frame = Close(code, reason)
        if self.state is not State.OPEN or self._streams.is_delivered:
            self._close(self._close_frame, None)
        else:
            self.state = State.FINISHING
            self._until = now + self._settings.close_patience
        self._wake(self)

    def abort(self) -> None:
        """End the connection at once, with CLOSE if that is possible."""
        if self.state not in (State.CLOSING, State.GONE):
            self._close(Close(CloseCode.DONE, ""), None)
            self._wake(self)

    def forget(self, error: P2pshareError | None = None) -> None:
        """End the connection without a packet: its place is needed."""
        self._forget(error)
        self._wake(self)

    # For the endpoint: packets that arrive

    def receive_cookie(self, packet: Cookie, address: Address, now: float) -> None:
        """Take a COOKIE packet."""
        if not self._counts(packet, address) or self._stage is None:
            return
        try:
            if self._stage.receive_cookie(packet, now):
                self.state, self.has_answer = State.SHAKING, True
        except RemoteProtocolError as error:
            self._forget(error)

    def receive_handshake(
        self, header: HandshakeHeader, segment: memoryview, address: Address, now: float
    ) -> None:
        """Take a HANDSHAKE packet."""
        stage = self._stage
        if not self._counts(header, address) or stage is None:
            return
        if self.state is State.CLOSING:
            frames = stage.receive_after_close(header, segment, now)
            self._take_after_close(bool(frames), any(isinstance(each, Close) for each in frames))
            return
        try:
            close = stage.receive(header, segment, now)
        except HandshakeFailed as error:
            refusal = Close(CloseCode.HANDSHAKE_FAILED, str(error))
            self._close(refusal, Unreachable(reason=f"the handshake failed: {error}"))
            return
        if close is not None:
            self._forget(_error_of(close))
        elif self._packets is None and self._handshake.is_done:
            self._open(now)

    def receive_protected(
        self, data: memoryview, segment: int, address: Address, now: float, ce: int
    ) -> list[int]:
        """Take a train; return the indexes of the segments that may not be PROTECTED packets of this connection."""
        packets = self._packets
        if packets is None or self.state is State.GONE:
            return list(range(-(-len(data) // segment)))
        if self.state is State.CLOSING:
            opened, has_close = packets.receive_after_close(data, segment, now)
            self._take_after_close(bool(opened.numbers), has_close)
            return opened.foreign
        before = self._paths.address
        try:
            opened, close = packets.receive(data, segment, address, now, ce)
        except RemoteProtocolError as error:
            self._close(Close(CloseCode.PROTOCOL_VIOLATION, _reason_of(error)), error)
            return []
        if opened.numbers:
            self._heard = now
            self._stage = None
        if close is not None:
            self._forget(_error_of(close))
            return opened.foreign
        if self._paths.address != before:
            self.events.append(PathChanged(self._paths.address))
        self._look()
        return opened.foreign

    def datagram_refused(self) -> None:
        """Take the hint that the newest packets were too large."""
        if self._packets is not None:
            self._packets.datagram_refused()

    # For the endpoint: packets that leave, and time

    def trains_to_send(self, now: float, budget: int) -> list[Train]:
        """Return trains that are due, about `budget` bytes at most."""
        if self.state is State.GONE:
            return []
        trains = []
        if self.state is State.CLOSING:
            trains = self._close_trains(now)
        else:
            if self._stage is not None:
                trains = self._handshake_trains(self._stage, now)
            if self._packets is not None:
                trains += self._protected_trains(self._packets, now, budget)
        if trains:
            self._said = now
        return trains

    def get_timer(self) -> float | None:
        """Return when to call `handle_timer`."""
        if self.state is State.GONE:
            return None
        times = [self._until]
        if self.state is not State.CLOSING:
            times += [each.get_timer() for each in (self._stage, self._packets) if each]
            times += [self._keep_alive_at, self._idle_at, self._unanswered_at]
        return min((each for each in times if each is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        if self.state is State.GONE:
            return
        if self._until is not None and now >= self._until:
            self._time_out(now)
            return
        if self.state is State.CLOSING:
            return
        if self._idle_at is not None and now >= self._idle_at:
            self._forget(Unreachable(reason="nothing arrived from the other end"))
            return
        if self._unanswered_at is not None and now >= self._unanswered_at:
            self._forget(Unreachable(reason=f"no answer for {now - self._heard:.0f} s"))
            return
        for part in (self._stage, self._packets):
            if part is not None:
                part.handle_timer(now)
        if (
            self._packets is not None
            and self._keep_alive_at is not None
            and now >= self._keep_alive_at
        ):
            self._packets.ping()
        self._look()

    @property
    def _is_usable(self) -> bool:
        return self.state in USABLE

    @property
    def _is_full(self) -> bool:
        window = self._packets.controller.window if self._packets else 0
        return self._streams.is_full(min(max(2 * window, HELD_MIN), self._settings.held_max))

    @property
    def _keep_alive_at(self) -> float | None:
        period, packets = self._settings.keep_alive, self._packets
        if period is None or packets is None or self.state is not State.OPEN:
            return None
        return None if packets.is_in_flight else self._said + period  # else loss recovery sends

    @property
    def _idle_at(self) -> float | None:
        timeout = self._settings.idle_timeout
        return None if timeout is None else self._heard + timeout

    @property
    def _unanswered_at(self) -> float | None:
        if self.unanswered_timeout is None or self._packets is None:
            return None
        since = self._packets.unanswered_since
        return None if since is None else max(since, self._heard) + self.unanswered_timeout

    def _counts(self, packet: Cookie | HandshakeHeader, address: Address) -> bool:
        """Whether a packet that anybody may have sent counts at all."""
        return type(packet) in PACKETS[self.state] and address == self._paths.address

    def _open(self, now: float) -> None:
        """Go on with the keys that TLS agreed on."""
        keys = self._handshake.keys(self.ids.opener_cid, self.ids.acceptor_cid)
        phases = KeyPhases(keys, self._settings.update_after)
        self._packets = ProtectedPackets(
            self._shared, self.ids, phases, self._streams, self._paths, self._rtt, now
        )
        self.state, self._until = State.OPEN, None
        if not self.ids.is_opener:
            self._packets.ping()
        key = self._handshake.shown_key
        assert key is not None
        self.events.append(HandshakeDone(key))

    def _look(self) -> None:
        """Follow from what was acknowledged."""
        if self.state is State.FINISHING and self._streams.is_delivered:
            assert self._close_frame is not None
            self._close(self._close_frame, None)
        elif self._was_full and not self._is_full:
            self._was_full = False
            self.events.append(Writable())

    def _time_out(self, now: float) -> None:
        match self.state:
            case State.CLOSING:
                self.state, self._until = State.GONE, None
            case State.FINISHING:
                assert self._close_frame is not None
                self._close(self._close_frame, None)
            case _:
                self._forget(Unreachable(reason="the handshake timed out"))

    def _close(self, frame: Close, error: P2pshareError | None) -> None:
        """Send CLOSE, and wait for packets to answer with it."""
        if self.state is State.OPENING:  # the other end knows nothing
            self._forget(error)
            return
        self.state, self._until = State.CLOSING, None
        self._close_frame, self._is_close_due = frame, True
        self._streams.outgoing.drop_all()
        self.events.append(Closed(error))

    def _forget(self, error: P2pshareError | None) -> None:
        """End without a further packet."""
        if self.state is not State.CLOSING:
            self.events.append(Closed(error))
        self._streams.outgoing.drop_all()
        self.state, self._until = State.GONE, None

    def _take_after_close(self, is_authentic: bool, has_close: bool) -> None:
        """Answer the first, second, fourth, eighth ... authentic arrival, but end with CLOSE of the other end."""
        if has_close:
            self._forget(None)
        elif is_authentic:
            self._arrived_after_close += 1
            count = self._arrived_after_close
            self._is_close_due |= count & (count - 1) == 0

    def _close_trains(self, now: float) -> list[Train]:
        """Return CLOSE in packets of each kind that the other end may be able to open."""
        if not self._is_close_due or self._close_frame is None:
            return []
        self._is_close_due = False
        if self._until is None:
            self._until = now + LINGER * self._rtt.probe_timeout
        trains = []
        if self._stage is not None:
            self._stage.close(self._close_frame)
            trains = self._handshake_trains(self._stage, now)
        if self._packets is not None:
            trains.append(self._packets.close_packet(self._close_frame))
        return trains

    def _protected_trains(self, packets: ProtectedPackets, now: float, budget: int) -> list[Train]:
        try:
            return packets.trains_to_send(now, budget)
        except LocalProtocolError:  # of `KeyPhases.reserve`; without the key there is no CLOSE, too
            self._forget(Unreachable(reason="the other end acknowledges nothing that was sent"))
            return []

    def _handshake_trains(self, stage: HandshakeStage, now: float) -> list[Train]:
        return [Train(each, len(each), self.remote) for each in stage.packets_to_send(now)]


def _error_of(close: Close) -> P2pshareError | None:
    """Return the error that a CLOSE frame of the other end means."""
    if close.code == CloseCode.DONE:
        return None
    return Unreachable(
        reason=f"the other end closed the connection with code {close.code}: {close.reason!r}"
    )


def _reason_of(error: RemoteProtocolError) -> str:
    """Return what a CLOSE frame tells of a violation."""
    return str(error.fields.get("reason", "")).encode()[:REASON_MAX].decode(errors="ignore")
