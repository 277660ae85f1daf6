"""A session's channel over a carrier of bytes: TLS and frames.

Theory of operation
===================

*Receiving.* `received` gives the carrier's bytes to the pump and tells the user that there is something to read. `read`
takes plaintext out, as much as the user allows, and passes on the frames in it. What the user then sends at once, such
as answers, goes out together when it has read.

*Sending.* Bytes leave in the order in which `send_control` and `send_piece` are called. A piece is encrypted and given
to the carrier at once, so its buffer is free again. Small things wait in `_small` until the end of the reactor's turn,
or until a piece follows, and share a record. `is_full` is that of the carrier. So a message waits behind at most one
piece here, and behind the bytes that the kernel accepts. Encrypting ahead would break the order, and the promise that
control messages never wait behind data.

*Reading stops* if the user pauses it. It also stops if the other end reads nothing, and more than `UNREAD_MAX` bytes
wait for it: an end that asks and never reads could otherwise fill the memory with answers. That counts answers of TLS
itself, too.

*Ending.* After `half_close`, `close` and `abort` nothing is sent, and what arrives is dropped. A fault of TLS aborts
the carrier. In each case `closed` follows, once, from the carrier.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from p2pshare.net.clocks import LazyTimer
from p2pshare.net.session.interfaces import Carrier, ChannelUser
from p2pshare.net.session.tls import TlsClosed, TlsFailed, TlsPump
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.frames import PIECE_MAX, DataPiece, FrameDecoder, data_head
from p2pshare.wire.keys import PublicKey

READ_MAX = 256 * 1024  # bytes decrypted at once
SMALL = 16 * 1024  # bytes up to which what is sent is gathered, to be encrypted together
UNREAD_MAX = 1024 * 1024  # bytes that may wait in a full carrier until nothing more is read

_plaintext = memoryview(bytearray(READ_MAX))  # of whichever channel is read just now


class StreamChannel:
    """A `Channel`, and the user of its carrier."""

    def __init__(self, clock: IReactorTime, pump: TlsPump, user: ChannelUser) -> None:
        """Protect, by `pump`, the carrier that calls `connected`; all events go to `user`."""
        self._pump = pump
        self._user = user
        self._carrier: Carrier
        self._decoder = FrameDecoder()
        self._small = bytearray()  # plaintext for the next record
        self._turn_end = LazyTimer(clock, self._flush)
        self._unread = 0  # bytes sent since the carrier was full
        self._reason: str | None = None
        self._is_paused = self._is_stuck = self._is_closing = False

    @property
    def carrier(self) -> str:
        """See `Channel`."""
        return self._carrier.name

    @property
    def local(self) -> PeerAddress:
        """See `Channel`."""
        return self._carrier.local

    @property
    def remote(self) -> PeerAddress:
        """See `Channel`."""
        return self._carrier.remote

    @property
    def is_secure(self) -> bool:
        """See `Channel`."""
        return self._pump.is_ready

    @property
    def shown_key(self) -> PublicKey | None:
        """See `Channel`."""
        return self._pump.shown_key

    @property
    def description(self) -> str:
        """See `Channel`."""
        return self._pump.description

    @property
    def piece_max(self) -> int:
        """See `Channel`."""
        return PIECE_MAX

    @property
    def is_full(self) -> bool:
        """See `Channel`."""
        return self._carrier.is_full

    def send_control(self, frames: bytes) -> None:
        """See `Channel`."""
        self._gather(frames)

    def begin(self, transfer: int, size: int) -> None:
        """Do nothing: the other end learns the size from the messages."""

    def send_piece(self, transfer: int, offset: int, data: memoryview) -> None:
        """See `Channel`."""
        if len(data) > SMALL and self.is_secure:
            self._small += data_head(transfer, offset, len(data))
            self._write(data)
        else:
            self._gather(data_head(transfer, offset, len(data)), data)

    def finish(self, transfer: int) -> None:
        """Do nothing: a carrier loses no byte."""

    def drop(self, transfer: int) -> None:
        """Do nothing: what was sent cannot be taken back."""

    def read(self, room: int) -> int:
        """See `Channel`."""
        size = self._decrypt(room)
        user = self._user
        for frame in self._decoder.receive_data(_plaintext[:size]):
            if self._is_closing:
                break
            if isinstance(frame, DataPiece):
                user.piece_received(frame.transfer, frame.offset, frame.data)
            else:
                user.control_received(frame.body)
        return size

    def pause(self) -> None:
        """See `Channel`."""
        if not self._is_paused:
            self._is_paused = True
            self._carrier.pause()

    def resume(self) -> None:
        """See `Channel`."""
        if self._is_paused:
            self._is_paused = False
            if not self._is_stuck:
                self._carrier.resume()

    def half_close(self) -> None:
        """See `Channel`."""
        if self._say_farewell():
            self._carrier.half_close()

    def close(self) -> None:
        """See `Channel`."""
        if self._say_farewell():
            self._carrier.close()

    def abort(self) -> None:
        """See `Channel`."""
        self._is_closing = True
        self._turn_end.cancel()
        self._carrier.abort()

    def connected(self, carrier: Carrier) -> None:
        """Begin with the handshake."""
        self._carrier = carrier
        self._user.connected(self)
        self._shake_hands()

    def received(self, data: bytes) -> None:
        """Take bytes from the carrier."""
        if self._is_closing:
            return
        self._pump.receive_data(data)
        if not self.is_secure:
            self._shake_hands()
        if self.is_secure and not self._is_closing:
            self._user.readable()
            self._flush()

    def writable(self) -> None:
        """Read and send again."""
        self._unread = 0
        if self._is_stuck:
            self._is_stuck = False
            if not self._is_paused:
                self._carrier.resume()
        self._user.writable()

    def closed(self) -> None:
        """Pass the end on."""
        self._is_closing = True
        self._turn_end.cancel()
        self._user.closed(self._reason)

    def _shake_hands(self) -> None:
        try:
            self._pump.shake_hands()
        except TlsFailed as error:
            self._fail(str(error))
            return
        self._send_out(self._pump.data_to_send())
        if self.is_secure and (key := self.shown_key) is not None:
            self._user.secured(key)
            self._flush()

    def _decrypt(self, room: int) -> int:
        """Put up to `room` bytes of plaintext into `_plaintext`, and return their number."""
        if self._is_closing or not self.is_secure:
            return 0
        try:
            size = self._pump.read_into(_plaintext[:room])
        except TlsClosed:
            self._fail("it ended the connection")
            return 0
        except TlsFailed as error:
            self._fail(str(error))
            return 0
        if not size:
            self._send_out(self._pump.data_to_send())  # such as answers to new keys
        return size

    def _gather(self, *small: bytes | memoryview) -> None:
        """Send something small at the end of this turn, together with everything else in it."""
        if self._is_closing:
            return
        for each in small:
            self._small += each
        if len(self._small) > SMALL:
            self._write()
        else:
            self._turn_end.set(0.0)

    def _flush(self) -> None:
        self._turn_end.cancel()
        self._write()

    def _write(self, data: memoryview | bytes = b"") -> None:
        """Send what was gathered, and then `data`."""
        if self._is_closing or not self.is_secure:
            return
        small, self._small = self._small, bytearray()
        try:
            if plaintext := [each for each in (small, data) if each]:
                self._send_out(self._pump.write(*plaintext))
        except TlsFailed as error:
            self._fail(str(error))

    def _send_out(self, protected: bytes) -> None:
        if not protected:
            return
        if self._carrier.is_full:
            self._unread += len(protected)
            if self._unread > UNREAD_MAX and not self._is_stuck:
                self._is_stuck = True
                self._carrier.pause()
        self._carrier.send(protected)

    def _say_farewell(self) -> bool:
        """Send what waits, and tell the other end that nothing follows; False if the end had come already."""
        self._flush()
        if self._is_closing:
            return False
        self._is_closing = True
        if farewell := self._pump.close():
            self._carrier.send(farewell)
        if self._is_paused or self._is_stuck:  # to hear of the end
            self._is_paused = self._is_stuck = False
            self._carrier.resume()
        return True

    def _fail(self, reason: str) -> None:
        """Cut the carrier over a fault; `closed` follows."""
        if not self._is_closing:
            self._reason = reason
            self.abort()
