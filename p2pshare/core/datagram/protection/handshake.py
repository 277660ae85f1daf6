"""The TLS handshake in CRYPTO frames: an ordered stream of bytes in each direction, over packets that may be lost.

TLS expects the bytes of its flights in order and without gaps. CRYPTO frames carry ranges of them (RFC 9001,
section 4.1.3), which arrive repeated, overlapping, in any order, or not at all:

    TlsEnd  -- data_to_send -->  sent bytes, kept   -- next_frame -->  CRYPTO frames, again if they were lost
    TlsEnd  <- receive_data ---  received bytes     <--- receive ----  CRYPTO frames, first bytes win

Lost bytes have lower offsets than new ones, and are sent first. The caller's ledger knows which packets were lost.

The handshake is not confirmed by either end alone. The opener is done when it has sent its last flight, and may then
send PROTECTED packets. The acceptor is done when it has that flight and accepts the key in it. Bytes are kept until
they are acknowledged, also when TLS is done. If TLS fails, its alert is the last thing that is sent.

The ends of a handshake are states; `TRANSITIONS` has all of them.
"""

from __future__ import annotations

from enum import Enum
from typing import NoReturn, Protocol

from p2pshare.core.datagram.protection.keys import AEADS, EXPORTER_LABEL, SECRET_SIZE, KeyPair
from p2pshare.core.ranges import RangeSet
from p2pshare.wire.datagrams.frames import CRYPTO_STREAM_MAX, Crypto
from p2pshare.wire.keys import PublicKey

PARTS_MAX = 64  # parts of the received bytes with gaps between; twice those of the longest stream


class HandshakeFailed(Exception):  # noqa: N818 - named after the event
    """TLS rejects what the other end has sent; says why."""


class TlsEnd(Protocol):
    """One end of a TLS connection: `p2pshare.net.session.tls.TlsPump`."""

    @property
    def is_ready(self) -> bool:
        """Whether the handshake is done and the other end has proved an acceptable key."""

    @property
    def shown_key(self) -> PublicKey | None:
        """The key that the other end showed, acceptable or not; None if it showed none."""

    @property
    def cipher(self) -> str:
        """The name of the cipher suite (RFC 8446, appendix B.4), when the handshake is done."""

    def receive_data(self, protected: bytes) -> None:
        """Take bytes of the other end, in order."""

    def shake_hands(self) -> None:
        """Continue as far as the received bytes allow; raises `HandshakeFailed`."""

    def data_to_send(self) -> bytes:
        """Return the bytes for the other end that were not returned before."""

    def export(self, label: bytes, size: int, context: bytes) -> bytes:
        """Return a secret that only both ends know (RFC 8446, section 7.5), when the handshake is done."""


class State(Enum):
    """How far the handshake is, at this end."""

    SHAKING = "shaking"
    DONE = "done"
    FAILED = "failed"


class Step(Enum):
    """The result of giving bytes to TLS."""

    WANTS_MORE = "wants more"
    FINISHED = "finished"
    REJECTED = "rejected"


TRANSITIONS: dict[State, dict[Step, State]] = {
    State.SHAKING: {
        Step.WANTS_MORE: State.SHAKING,
        Step.FINISHED: State.DONE,
        Step.REJECTED: State.FAILED,
    },
    State.DONE: {},  # TLS has nothing more to say: no tickets, no key updates
    State.FAILED: {},
}
"""In a state without a row for a step, bytes of TLS are ignored."""


class Handshake:
    """One end of the handshake of one connection."""

    def __init__(self, tls: TlsEnd, *, is_opener: bool) -> None:
        """Begin; the opener has bytes to send at once."""
        self._tls = tls
        self._is_opener = is_opener
        self.state = State.SHAKING
        self._sent = bytearray()  # all bytes of this end's TLS
        self._to_send = RangeSet()  # offsets in `_sent`: new bytes and lost ones
        self._acked = RangeSet()
        self._received = bytearray()  # from offset 0, with gaps
        self._arrived = RangeSet()  # offsets in `_received` that have arrived
        self._read = 0  # bytes that were given to TLS
        if is_opener:
            self._advance()

    @property
    def is_done(self) -> bool:
        """Whether TLS is done here and the other end has proved an acceptable key."""
        return self.state is State.DONE

    @property
    def shown_key(self) -> PublicKey | None:
        """The key that the other end showed, acceptable or not; None if it showed none."""
        return self._tls.shown_key

    @property
    def is_acknowledged(self) -> bool:
        """Whether the other end has all bytes that TLS has sent so far."""
        return self._acked.total == len(self._sent)

    def receive(self, offset: int, data: bytes | memoryview) -> None:
        """Take the bytes of a CRYPTO frame.

        Raises:
            HandshakeFailed: TLS rejects them, or they are too many. `next_frame` still returns the alert of TLS.
        """
        if not TRANSITIONS[self.state]:
            return
        end = offset + len(data)
        if end > CRYPTO_STREAM_MAX:
            self._fail("the handshake is too long")
        if len(self._arrived) >= PARTS_MAX:
            self._fail("the handshake has too many gaps")
        self._received.extend(bytes(max(0, end - len(self._received))))
        for first, stop in list(self._arrived.missing(offset, end)):
            self._received[first:stop] = data[first - offset : stop - offset]
            self._arrived.add(first, stop)
        first, ready = next(iter(self._arrived))
        if first == 0 and ready > self._read:
            self._tls.receive_data(bytes(self._received[self._read : ready]))
            self._read = ready
            self._advance()

    def next_frame(self, room: int) -> Crypto | None:
        """Return a frame with at most `room` bytes of TLS, the lowest ones that are due; None if none are."""
        if room <= 0 or not self._to_send:
            return None
        first, end = next(iter(self._to_send))
        end = min(end, first + room)
        self._to_send.remove(first, end)
        return Crypto(first, bytes(self._sent[first:end]))

    def on_acked(self, frame: Crypto) -> None:
        """Note that the other end has the bytes of a frame."""
        first, end = frame.offset, frame.offset + len(frame.data)
        self._acked.add(first, end)
        self._to_send.remove(first, end)

    def on_lost(self, frame: Crypto) -> None:
        """Send the bytes of a frame again, unless another packet brought them."""
        for first, end in self._acked.missing(frame.offset, frame.offset + len(frame.data)):
            self._to_send.add(first, end)

    def keys(self, opener_cid: bytes, acceptor_cid: bytes) -> KeyPair:
        """Return the first keys of PROTECTED packets, when the handshake is done."""
        secret = self._tls.export(EXPORTER_LABEL, SECRET_SIZE, opener_cid + acceptor_cid)
        return KeyPair.for_session(secret, AEADS[self._tls.cipher], is_opener=self._is_opener)

    def _advance(self) -> None:
        """Let TLS continue with the bytes that it has."""
        try:
            self._tls.shake_hands()
        except HandshakeFailed as error:
            self._collect()
            self._fail(str(error), error)
        self._collect()
        if self._tls.is_ready and self._tls.cipher not in AEADS:
            self._fail(f"the cipher suite {self._tls.cipher} is not supported")
        self._step(Step.FINISHED if self._tls.is_ready else Step.WANTS_MORE)

    def _collect(self) -> None:
        """Queue what TLS has to send."""
        data, first = self._tls.data_to_send(), len(self._sent)
        self._sent += data
        self._to_send.add(first, first + len(data))

    def _step(self, step: Step) -> None:
        self.state = TRANSITIONS[self.state][step]
        if not TRANSITIONS[self.state]:  # nothing more is given to TLS
            self._received, self._arrived = bytearray(), RangeSet()

    def _fail(self, reason: str, cause: Exception | None = None) -> NoReturn:
        self._step(Step.REJECTED)
        raise HandshakeFailed(reason) from cause
