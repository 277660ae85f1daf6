"""What a session offers to those who fetch and those who serve, whatever carries it.

A session that is there has been judged by both sides: it begins after `Welcome`. Its life (greeting, pings, silence) is
`core.session`'s; everything else that is said goes to its user.
"""

from __future__ import annotations

from typing import Protocol

from p2pshare.errors import P2pshareError
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.session_messages import Message


class SessionUser(Protocol):
    """Who fetches or serves over a session. What these raise ends the session; a `RemoteProtocolError` is the other
    side's fault.
    """

    def message_received(self, message: Message) -> None:
        """The other side says something that its role allows, of the kinds in `wire.transfer_messages` and `Credit`."""

    def data_received(self, transfer: int, offset: int, data: memoryview) -> None:
        """Bytes of a file have come: up to a whole piece. They are valid only during the call."""

    def room_again(self) -> None:
        """There is room for data, after there was none."""

    def session_ended(self, reason: P2pshareError | None) -> None:
        """The session is over; None if one of the two wanted that. Called once, and nothing after it."""


class Session(Protocol):
    """A session between two peers."""

    key: PublicKey
    """The other side's."""
    name: str
    """The other side's, as its key and the registry tell; never in its own words."""

    def begin(self, user: SessionUser) -> None:
        """Tell `user` of everything from now on, and of what has come already; of nothing within this call."""

    def send(self, message: Message) -> None:
        """Say something; it is never refused. It keeps its place among the data that was sent before, of which little
        waits: so a `Block` comes before its pieces, and an `End` after them.
        """

    def send_data(self, transfer: int, offset: int, data: memoryview) -> None:
        """Send up to `PIECE_MAX` bytes of a file, of one block, which may be changed as soon as this returns.

        Call it only while `has_room`.
        """

    @property
    def has_room(self) -> bool:
        """Whether data may be sent: False while too much of it waits; `room_again` follows."""

    def keep_alive(self) -> None:
        """Something is being done for the other side: it is not idle, although nothing is said."""

    def close(self) -> None:
        """End the session once all that was sent has gone out."""

    def abort(self) -> None:
        """End it now."""
