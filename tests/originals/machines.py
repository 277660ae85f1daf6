"""The original's two image sides as machines in virtual time, for networks in memory.

They make the decisions of the programs `sharing` and `fetching`, but never wait or read a clock:
time is an argument. The time that the programs spend on pixels is modelled as a cost per row. While
a machine is busy with a row, datagrams wait in its queue. A full queue drops datagrams, as a
socket's buffer does.

A test drives them as it drives any such machine: after each `receive_datagram` or `handle_timer`
it takes `datagrams_to_send`, asks `next_event` until None, and calls `handle_timer` when
`get_timer` is due. There is no machine for the welcome port: a test answers an IMG word with ACK from the
welcome address, and makes an `OriginalSharer` for it, with an address of its own (the D socket).
"""

import struct
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.originals.datagrams import (
    ACK,
    ACK_SIZE,
    COMPLETE,
    FIN,
    RECEIVE_MAX,
    SILENCE_TIMEOUT,
    TRIES,
    WELCOME_TIMEOUT,
    Address,
    decode_row_number,
    decode_size,
    decode_wanted,
    encode_size,
    encode_wanted,
    is_row,
    with_sum,
)

ENCODE_COST = 0.0018 / 1200  # seconds per pixel
DECODE_COST = 0.0025 / 1200  # seconds per pixel
SHARER_QUEUE = 256  # datagrams
REQUESTER_QUEUE = 48 * (4 + 3 * 1200 + 1)  # bytes: 48 rows of 1200 pixels

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageCompleted:
    """The requester has every row, or has told the sharer so."""

    pixels: Pixels
    """Height x width x 3; the sharer's own, or what the requester got."""


@dataclass(frozen=True)
class GaveUp:
    """The machine is over without a complete picture."""

    reason: str


Event = ImageCompleted | GaveUp


class _Machine:
    """The queues out, the end and the one deadline that both sides have."""

    def __init__(self, wake_at: float) -> None:
        self._wake_at = wake_at
        """When a row is done, if the machine is busy; else when its patience ends."""
        self._over = False
        self._output: list[tuple[bytes, Address]] = []
        self._events: deque[Event] = deque()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """Return the datagrams to send, each with its destination, once."""
        output, self._output = self._output, []
        return output

    def get_timer(self) -> float | None:
        """Return when `handle_timer` wants to be called, or None when the machine is over."""
        return None if self._over else self._wake_at

    def next_event(self) -> Event | None:
        """Return the next event, or None when there is none."""
        return self._events.popleft() if self._events else None

    def _finish(self, event: Event) -> None:
        self._over = True
        self._events.append(event)


class OriginalSharer(_Machine):
    """The original's transfer thread, from SIZE to COMPLETE or to 10 s of silence.

    Args:
        pixels: the picture, height x width x 3.
        requester: the address that the word came from.
        now: the time at which it starts, in seconds.
        row_cost: seconds to encode a row; by default in proportion to the width.
    """

    def __init__(
        self, pixels: Pixels, requester: Address, now: float = 0.0, row_cost: float | None = None
    ) -> None:
        super().__init__(now + SILENCE_TIMEOUT)
        self._pixels = pixels
        self._requester = requester
        self._height, width = pixels.shape[:2]
        self._row_cost = ENCODE_COST * width if row_cost is None else row_cost
        self._queue: deque[bytes] = deque()
        self._encoding: int | None = None
        self._first_pass = False
        self._answered = False
        self._send(encode_size(width, self._height))

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Queue a datagram that came to the D socket; it is read when no row is being encoded."""
        self.handle_timer(now)
        if not self._over and len(self._queue) < SHARER_QUEUE:
            self._queue.append(data[:RECEIVE_MAX])
            self._read_queue(now)

    def handle_timer(self, now: float) -> None:
        """Send the rows that are encoded by now; give up when the silence was long enough."""
        while not self._over and self._wake_at <= now:
            if self._encoding is None:
                self._finish(GaveUp("10 s of silence"))
            else:
                self._send_encoded(self._encoding, self._wake_at)

    def _send_encoded(self, row: int, at: float) -> None:
        self._send(with_sum(struct.pack("!I", row) + self._pixels[row].tobytes()))
        self._encoding = None
        if self._first_pass:
            if row + 1 < self._height:
                self._encode(row + 1, at)
                return
            self._first_pass = False
            self._send(FIN)
        self._wake_at = at + SILENCE_TIMEOUT
        self._read_queue(at)

    def _read_queue(self, at: float) -> None:
        while self._queue and self._encoding is None and not self._over:
            self._wake_at = at + SILENCE_TIMEOUT
            self._read(self._queue.popleft(), at)

    def _read(self, datagram: bytes, at: float) -> None:
        if not self._answered:
            self._answered = True
            if datagram != ACK_SIZE:
                self._finish(GaveUp(f"{datagram!r} in place of ACK_SIZE"))
                return
            self._first_pass = True
            self._encode(0, at)
        elif datagram == COMPLETE:
            self._finish(ImageCompleted(self._pixels))
        elif (row := decode_wanted(datagram)) is not None and row < self._height:
            self._encode(row, at)

    def _encode(self, row: int, at: float) -> None:
        self._encoding = row
        self._wake_at = at + self._row_cost

    def _send(self, datagram: bytes) -> None:
        self._output.append((datagram, self._requester))


class OriginalRequester(_Machine):
    """The original's request for a picture, three whole tries, from IMG to COMPLETE.

    Each try of the original opens a fresh socket. A test can give `tries` a part in the address
    that it sends from, and drop what comes to an address of an earlier try; if it does not, it
    models an original that keeps its socket (but not what waited in it).

    Args:
        welcome: the sharer's welcome address.
        now: the time at which it starts, in seconds.
        row_cost: seconds to decode a row; by default in proportion to the width.
    """

    def __init__(self, welcome: Address, now: float = 0.0, row_cost: float | None = None) -> None:
        super().__init__(now + WELCOME_TIMEOUT)
        self._welcome = welcome
        self._row_cost = row_cost
        self._busy = False
        self.tries = 0
        """The number of the try under way, from 1."""
        self._start_try(now)

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Queue a datagram that came to the socket; it is read when no row is being decoded."""
        self.handle_timer(now)
        if not self._over and self._queued + len(data) <= REQUESTER_QUEUE:
            self._queue.append((data, addr))
            self._queued += len(data)
            self._read_queue(now)

    def handle_timer(self, now: float) -> None:
        """Go on after a row that is decoded by now; start over when the silence was long enough."""
        while not self._over and self._wake_at <= now:
            if self._busy:
                decoded_at = self._wake_at
                self._busy = False
                self._wake_at = decoded_at + SILENCE_TIMEOUT
                self._read_queue(decoded_at)
            elif self.tries < TRIES:
                self._start_try(self._wake_at)
            else:
                self._finish(GaveUp(f"{TRIES} tries"))

    def _start_try(self, at: float) -> None:
        self.tries += 1
        self._wake_at = at + WELCOME_TIMEOUT
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._queued = 0  # bytes
        self._busy = False
        self._welcomed = False
        self._sharer: Address | None = None
        self._output.append((b"IMG", self._welcome))

    def _read_queue(self, at: float) -> None:
        while self._queue and not self._busy and not self._over:
            datagram, addr = self._queue.popleft()
            self._queued -= len(datagram)
            self._read(datagram[:RECEIVE_MAX], addr, at)

    def _read(self, datagram: bytes, addr: Address, at: float) -> None:
        if not self._welcomed:
            if datagram != ACK:
                self._wake_at = at  # no ACK, so this try is over
                return
            self._welcomed = True
        elif self._sharer is None:
            if (size := decode_size(datagram)) is not None:
                self._begin_rows(size, addr)
        elif datagram == FIN:
            self._answer_fin(self._sharer)
        elif is_row(datagram, self._pixels.shape[1], self._pixels.shape[0]):
            self._decode(datagram, at)
            return
        self._wake_at = at + SILENCE_TIMEOUT

    def _begin_rows(self, size: tuple[int, int], sharer: Address) -> None:
        width, height = size
        self._sharer = sharer
        self._pixels: Pixels = np.zeros((height, width, 3), np.uint8)
        self._missing = np.ones(height, np.bool_)
        self._output.append((ACK_SIZE, sharer))

    def _answer_fin(self, sharer: Address) -> None:
        if not self._missing.any():
            self._output.append((COMPLETE, sharer))
            self._finish(ImageCompleted(self._pixels))
            return
        for row in np.flatnonzero(self._missing):
            self._output.append((encode_wanted(int(row)), sharer))
        self._output.append((FIN, sharer))

    def _decode(self, datagram: bytes, at: float) -> None:
        row = decode_row_number(datagram)
        self._pixels[row] = np.frombuffer(datagram, np.uint8, offset=4)[:-1].reshape(-1, 3)
        self._missing[row] = False
        self._busy = True
        width = self._pixels.shape[1]
        self._wake_at = at + (DECODE_COST * width if self._row_cost is None else self._row_cost)
