"""The interface of a session for its users, which fetch or serve, on any carrier.

A session exists after `Welcome`: both sides have verified each other. `core.session` handles its greeting, pings and
timeouts. All other messages go to the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from p2pshare.core.ranges import Range
from p2pshare.errors import P2pshareError
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.session_messages import Message


@dataclass(frozen=True, slots=True)
class SessionPath:
    """The way of a session to the other side."""

    carrier: str
    """The kind of the connection: "udp", "tcp", "relay" or "memory"."""
    address: PeerAddress
    """The other side's address, as this side sees it; at a relay, that of the registry."""

    def __str__(self) -> str:
        """Return words for people, such as "via udp, 192.0.2.7:50000"."""
        return f"via {self.carrier}, {self.address}"


class SessionUser(Protocol):
    """A fetcher or server that uses a session. If one of these methods raises, the session ends; a
    `RemoteProtocolError` blames the other side.
    """

    def message_received(self, message: Message) -> None:
        """Handle a request or an answer: one of `wire.transfer_messages`, or `Credit`."""

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Handle bytes of a file, up to a whole piece. They are valid only during the call.

        Pieces may come in any order and more than once, and before or after the messages about their transfer. A stream
        keeps all in order.
        """

    def size_received(self, transfer: int, size: int) -> None:
        """Handle that bytes of a file of `size` bytes are about to come, perhaps before its `FileHeader`. Only carriers
        that lose the order of what they carry tell that.
        """

    def fin_received(self, transfer: int) -> Sequence[Range]:
        """Return the ascending ranges of bytes that are missing of a transfer whose last byte was sent; () if there are
        none, or nothing of it is wanted. Only carriers that lose bytes ask.
        """

    def room_again(self) -> None:
        """Handle that data may be sent again."""

    def session_ended(self, reason: P2pshareError | None) -> None:
        """Handle the end of the session, once and last; `reason` is None if one of the two sides wanted it."""


class Session(Protocol):
    """A session between two peers."""

    key: PublicKey
    """The other side's."""

    @property
    def path(self) -> SessionPath:
        """The way that the session takes now; it may change."""

    @property
    def is_open(self) -> bool:
        """Whether it has not ended, and neither side has begun to end it."""

    name: str
    """The other side's name by its key and the registry, never by its own claim."""

    def begin(self, user: SessionUser) -> None:
        """Pass to `user` everything from now on, and all that has arrived already; nothing within this call. The first
        message is the `Credit` that the other side gave as it greeted.
        """

    def send(self, message: Message) -> None:
        """Send a message, which is never refused. Over a stream, it keeps its place among the data that was
        sent before.
        """

    @property
    def piece_max(self) -> int:
        """The most bytes that `send_data` takes at once."""

    def send_data(self, transfer: int, offset: int, data: memoryview) -> None:
        """Send up to `piece_max` bytes of one block of a file, in a buffer that is never changed.

        Call it only while `has_room`.
        """

    @property
    def has_room(self) -> bool:
        """Whether data may be sent; if not, `room_again` follows."""

    def keep_alive(self) -> None:
        """Keep the session from idling while work for the other side is done silently."""

    def close(self) -> None:
        """End the session after everything that was sent has gone out."""

    def abort(self) -> None:
        """End the session now."""
