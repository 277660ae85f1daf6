"""The control stream of a connection: reliable, ordered bytes in CONTROL frames.

The sender keeps bytes until they are acknowledged, and sends lost ones again before new ones. The receiver puts them in
order. Credit bounds what the receiver has to buffer: `WINDOW` bytes beyond what its user has read. It grows only as the
user reads, so a paused user stops the other end after one window. The window holds the longest message and 256 KiB, so
a message that is incomplete never blocks the stream.
"""

from __future__ import annotations

from p2pshare.core.ranges import RangeSet
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.frames import Control
from p2pshare.wire.frames import CONTROL_MAX

HEAD = 4  # bytes before the body of a control message (`wire.frames`)
WINDOW = 256 * 1024 + HEAD + CONTROL_MAX  # bytes that may arrive beyond those that were read
CREDIT_STEP = WINDOW // 4  # bytes read since the last CREDIT that make another one worth sending
FRAGMENTS_MAX = (
    4096  # runs of bytes that arrived ahead of others; more than honest packets in a window cause
)


class ControlSender:
    """The sending half. Its buffer is bounded by its user, who looks at `waiting`."""

    def __init__(self, limit: int = WINDOW) -> None:
        """Begin; `limit` is the credit of the other end before its first CREDIT."""
        self._limit = limit
        self._limit_number = -1  # of the packet whose CREDIT was used last
        self._kept = bytearray()  # from the first byte that is not acknowledged
        self._start = 0  # offset of the first byte in `_kept`
        self._sent = 0  # offset of the first byte that was never sent
        self._lost = RangeSet()
        self._acked = RangeSet()  # beyond `_start`

    @property
    def waiting(self) -> int:
        """The bytes that are not acknowledged, sent or not."""
        return len(self._kept)

    @property
    def is_due(self) -> bool:
        """Whether the credit allows to send something now."""
        return bool(self._lost) or self._sent < min(self._limit, self._start + len(self._kept))

    def write(self, data: bytes) -> None:
        """Queue bytes."""
        self._kept += data

    def grant(self, limit: int, number: int) -> None:
        """Take a CREDIT frame from packet `number`.

        Packets overtake each other, so an older CREDIT is ignored.

        Raises:
            RemoteProtocolError: a newer packet takes credit back.
        """
        if number > self._limit_number:
            if limit < self._limit:
                raise RemoteProtocolError(reason="the credit of the control stream decreases")
            self._limit, self._limit_number = limit, number

    def next_frame(self, room: int) -> Control | None:
        """Return the frame with the next at most `room` bytes, lost ones first; None if nothing may be sent."""
        if room <= 0:
            return None
        if self._lost:
            first, end = next(iter(self._lost))
            end = min(end, first + room)
            self._lost.remove(first, end)
        else:
            first = self._sent
            end = min(first + room, self._limit, self._start + len(self._kept))
            if end <= first:
                return None
            self._sent = end
        return Control(first, bytes(self._kept[first - self._start : end - self._start]))

    def on_acked(self, first: int, end: int) -> None:
        """Forget bytes that the other end has."""
        first = max(first, self._start)
        if first >= end:
            return
        self._acked.add(first, end)
        self._lost.remove(first, end)
        lowest, behind = next(iter(self._acked))
        if lowest == self._start:
            del self._kept[: behind - lowest]
            self._acked.remove(lowest, behind)
            self._start = behind

    def on_lost(self, first: int, end: int) -> None:
        """Send bytes again, unless another packet brought them."""
        for each in self._acked.missing(max(first, self._start), max(end, self._start)):
            self._lost.add(*each)


class ControlReceiver:
    """The receiving half. It holds at most `window` bytes."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._limit = window
        self._read = 0  # offset of the first byte that was not read
        self._kept = bytearray()  # from `_read`; with gaps
        self._there = RangeSet()  # offsets of the bytes in `_kept` that have arrived

    @property
    def limit(self) -> int:
        """The credit that the other end was told last."""
        return self._limit

    @property
    def is_credit_due(self) -> bool:
        """Whether so much was read that the other end should hear of it."""
        return self._read + self._window - self._limit >= min(CREDIT_STEP, self._window // 2)

    def take_credit(self) -> int:
        """Return the present credit, for a CREDIT frame."""
        self._limit = self._read + self._window
        return self._limit

    def receive(self, offset: int, data: bytes | memoryview) -> None:
        """Take a CONTROL frame.

        Raises:
            RemoteProtocolError: it lies beyond the credit, or there are too many gaps.
        """
        end = offset + len(data)
        if end > self._limit:
            raise RemoteProtocolError(reason="the control stream is longer than its credit")
        skipped = max(0, self._read - offset)
        first = offset + skipped
        if first >= end:
            return
        start, stop = first - self._read, end - self._read
        if stop > len(self._kept):
            self._kept.extend(bytes(stop - len(self._kept)))
        self._kept[start:stop] = data[skipped:]
        self._there.add(first, end)
        if len(self._there) > FRAGMENTS_MAX:
            raise RemoteProtocolError(reason="the control stream has too many gaps")

    def read(self) -> bytes:
        """Return all bytes that have arrived in order and were not read."""
        if not self._there:
            return b""
        first, end = next(iter(self._there))
        if first != self._read:
            return b""
        data = bytes(self._kept[: end - first])
        del self._kept[: end - first]
        self._there.remove(first, end)
        self._read = end
        return data
