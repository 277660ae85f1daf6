"""The interfaces around a session driver: what carries a session, and who owns it.

    SessionUser      asks and serves                         core.session_interface
    SessionOwner     opened or accepted the session          dialling, peer.share.acceptor
         |
    SessionDriver    core, timers, farewell                  driver
         |
    Channel          control messages and pieces             stream, and one over datagrams
         |
    Carrier          protected bytes <-> the other end       tcp, relay, p2pshare.testing.sessions

A channel is protected: it proves the keys of both ends, and nobody else can read or change what crosses it. It moves
control messages in order, and pieces of files in any order. It knows nothing of what messages mean, of roles or of
sessions' time. Below a `StreamChannel` lies a carrier, which moves bytes in order and knows nothing of TLS.

**What a user of channels must expect.** Streams deliver everything in the order in which it was sent, and each piece
once. Datagrams do not: pieces may come in any order, more than once, and before or after any control message. So the
receiver of a transfer places each piece by its offset, and ignores repetitions. It must not take the last control
message of a transfer for the end of its pieces.

`tests/net/session/test_channels.py` holds the contract: each channel runs the same test class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from p2pshare.core.ranges import Range
from p2pshare.core.session_interface import Session
from p2pshare.errors import P2pshareError
from p2pshare.net.session.intake import Intake
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.session_messages import Hello, Refusal


class Carrier(Protocol):
    """One end of a connection that carries bytes in order. All of its events go to one `CarrierUser`."""

    name: str
    """The kind of connection, as `Channel.carrier`."""

    @property
    def local(self) -> PeerAddress:
        """The address of this end."""

    @property
    def remote(self) -> PeerAddress:
        """The address of the other end, as this end sees it."""

    @property
    def is_full(self) -> bool:
        """Whether enough bytes wait to be sent: the user then sends only what must not wait for `writable`."""

    def send(self, data: bytes) -> None:
        """Send bytes after those that were sent before."""

    def pause(self) -> None:
        """Call `received` no more, which the other end notices in the end; `closed` may come only after `resume`."""

    def resume(self) -> None:
        """Call `received` again."""

    def half_close(self) -> None:
        """Tell the other end, after all that was sent, that nothing follows. This end still receives."""

    def close(self) -> None:
        """Close the connection once all that was sent has gone out."""

    def abort(self) -> None:
        """Close the connection now and drop what waits; `closed` follows, but not within this call."""


class CarrierUser(Protocol):
    """Receives the events of a carrier: `connected` first, `closed` last, each once."""

    def connected(self, carrier: Carrier) -> None:
        """The carrier can send and receive."""

    def received(self, data: bytes) -> None:
        """Bytes came from the other end."""

    def writable(self) -> None:
        """The carrier was full, and all that was sent has gone out."""

    def closed(self) -> None:
        """The connection is closed, by whichever end or by a fault."""


class Channel(Protocol):
    """One end of a protected connection of two peers. All of its events go to one `ChannelUser`.

    Each direction has its own transfers and their numbers: `begin`, `send_piece`, `finish` and `drop` are about those
    that this end sends.

    What is sent before `secured` waits for it. After `half_close`, `close`, `abort` or a fault of the channel nothing
    more is sent or passed on; only `closed` follows.
    """

    @property
    def carrier(self) -> str:
        """The kind of connection: "tcp", "udp", "relay" or "memory"."""

    @property
    def local(self) -> PeerAddress:
        """The address of this end; it may change where the carrier allows that."""

    @property
    def remote(self) -> PeerAddress:
        """The address of the other end, as this end sees it; it may change where the carrier allows that."""

    @property
    def is_secure(self) -> bool:
        """Whether the other end has proved an acceptable key."""

    @property
    def shown_key(self) -> PublicKey | None:
        """The key that the other end showed, acceptable or not."""

    @property
    def description(self) -> str:
        """Protocol and cipher, for the debug log; call it only while `is_secure`."""

    @property
    def is_full(self) -> bool:
        """Whether enough waits to be sent: no piece may be sent until `writable`. Control messages may always."""

    def send_control(self, frames: bytes) -> None:
        """Send whole frames of control messages after those that were sent before. They never wait behind more than
        the piece that is on its way.
        """

    def begin(self, transfer: int, size: int) -> None:
        """Announce the pieces of a transfer, whose file has `size` bytes. Call it before its first piece."""

    @property
    def piece_max(self) -> int:
        """The most bytes of a piece: what a control message has to wait for over a stream, else a whole block."""

    def send_piece(self, transfer: int, offset: int, data: memoryview) -> None:
        """Send 1 to `piece_max` bytes of one block. The channel may keep them until they have arrived, so the buffer
        may never be changed.
        """

    def finish(self, transfer: int) -> None:
        """Note that all pieces of the transfer were sent. They still arrive."""

    def drop(self, transfer: int) -> None:
        """Forget the transfer, open or not; of its pieces nothing more needs to arrive."""

    def read(self, room: int) -> int:
        """Pass about `room` bytes of what has arrived to the user, and return how many; 0 if nothing is left.

        Raises:
            RemoteProtocolError: the other end sent something that is no frame.
        """

    def pause(self) -> None:
        """Call `readable` no more, which the other end notices in the end; `closed` may come only after `resume`."""

    def resume(self) -> None:
        """Call `readable` again when something arrives. Before that, `read` what has arrived."""

    def half_close(self) -> None:
        """Tell the other end, after all that was sent, that nothing follows, and wait for it to close. What was sent
        arrives, whatever the other end is sending.
        """

    def close(self) -> None:
        """Close the connection once all that was sent has gone out. It arrives if the other end sends nothing more."""

    def abort(self) -> None:
        """Close the connection now and drop what waits; `closed` follows, but not within this call."""


class ChannelUser(Protocol):
    """Receives the events of a channel: `connected` first, then `secured`, `closed` last, each at most once.

    `control_received`, `piece_received`, `size_received` and `fin_received` are called within `read` only.
    """

    def connected(self, channel: Channel) -> None:
        """The channel can send and receive."""

    def secured(self, key: PublicKey) -> None:
        """The other end has proved this key, which is acceptable."""

    def readable(self) -> None:
        """Something has arrived: call `read`."""

    def control_received(self, body: bytes) -> None:
        """A control message came, in order."""

    def piece_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Bytes of a file came, valid during this call only. They may be a part of what was sent as one piece."""

    def size_received(self, transfer: int, size: int) -> None:
        """The other end has called `begin`. A stream never says so; datagrams do before the first piece."""

    def fin_received(self, transfer: int) -> Sequence[Range]:
        """The other end has called `finish` and asks what is missing: return the ascending ranges of bytes, each as its
        first byte and the one behind its last; () if nothing is missing, or nothing is wanted. A stream never asks.
        """

    def writable(self) -> None:
        """The channel was full, and is not any more."""

    def closed(self, reason: str | None) -> None:
        """The connection is closed, by whichever end; `reason` is the fault that this end found, if there was one."""


class OwnedSession(Session, Protocol):
    """A session as its owner sees it."""

    @property
    def is_secure(self) -> bool:
        """Whether the other end has proved `key`."""

    @property
    def shown_key(self) -> PublicKey | None:
        """The key that the other end showed, acceptable or not."""

    @property
    def is_waiting(self) -> bool:
        """Whether the opener has greeted, and is neither welcomed nor refused."""

    @property
    def unused_for(self) -> float:
        """Seconds without work and without messages other than pings."""

    def greet(self) -> None:
        """Say `Hello`, with the early requests behind it."""

    def welcome(self, name: str, credit: int, intake: Intake | None = None) -> None:
        """Let the opener in under its name in the registry. It may send `credit` bytes of files at first, and `intake`
        bounds what is read of it in one turn.
        """

    def refuse(self, why: Refusal, retry_after: int = 0) -> None:
        """Tell the opener why it is refused, and close; `retry_after` is in seconds."""


class SessionOwner(Protocol):
    """The code that opened or accepted a session, and decides about it."""

    def secured(self, session: OwnedSession) -> None:
        """The other end has proved `session.key`: an opener calls `greet`, now or later."""

    def greeted(self, session: OwnedSession, hello: Hello) -> None:
        """The opener with `session.key` asks for a session: call `welcome` or `refuse`."""

    def welcomed(self, session: OwnedSession) -> None:
        """The session is open."""

    def ended(self, session: OwnedSession, reason: P2pshareError | None) -> None:
        """The session is over, or was never open; None if one of the two ends wanted that. Called once."""
