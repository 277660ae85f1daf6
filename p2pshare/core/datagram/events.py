"""What a connection tells its user.

Nothing follows `Closed`. The bytes of a `PieceReceived` are the receiver's own copy, but several events of one train
share it: use them before the next train is received.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pshare.core.datagram.trains import Address
from p2pshare.errors import P2pshareError
from p2pshare.wire.keys import PublicKey


@dataclass(frozen=True, slots=True)
class ConnectionMade:
    """An opener has proved its address, and its handshake begins."""


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """Both ends have proved their keys; bytes can be sent."""

    key: PublicKey
    """The other end's."""


@dataclass(frozen=True, slots=True)
class ControlReceived:
    """Bytes of the control stream have arrived, in order."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SizeReceived:
    """A transfer begins, or is about to."""

    transfer: int
    size: int
    """Bytes of the file."""


@dataclass(frozen=True, slots=True)
class PieceReceived:
    """Bytes of a file have arrived, in any order and perhaps not for the first time. They lie within one block."""

    transfer: int
    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class FinReceived:
    """All of a transfer was sent once. The user calls `answer_fin`."""

    transfer: int


@dataclass(frozen=True, slots=True)
class Writable:
    """The connection is no longer full."""


@dataclass(frozen=True, slots=True)
class PathChanged:
    """The other end has another address."""

    address: Address


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection has ended."""

    error: P2pshareError | None
    """None if one of the two users wanted the end."""


Event = (
    ConnectionMade | HandshakeDone | ControlReceived | SizeReceived | PieceReceived
    | FinReceived | Writable | PathChanged | Closed
)  # fmt: skip
