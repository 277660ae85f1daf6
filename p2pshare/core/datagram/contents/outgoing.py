"""The bytes of files on their way out: queued, in flight, lost, acknowledged.

A transfer holds the pieces that its user handed over until every byte of them is acknowledged; `queued` names the bytes
that are to go out now, new and lost ones alike, lowest offset first. Lost bytes therefore go before new ones.

**Turns.** Transfers take turns, one train each, so that a small file passes a large one.

**Size first.** Each packet with bytes of a transfer carries its SIZE until the other end acknowledged it, and at most
`EARLY` bytes are on their way or arrived before that. After that, trains are bare DATA.

**The end.** When a finished transfer has nothing queued, FIN goes out. The other end answers with COMPLETE, and the
transfer is forgotten; or with MISSING, and the bytes it names are queued again if they are not acknowledged. Another
FIN follows whenever anything was sent after the last one, or that one was lost, or it had overtaken bytes that have
arrived since. If the other end misses acknowledged bytes, it gets no more FIN: the two would go on without end.

**Bounds.** `unacked` and `held` are for the user, who stops in time (`DatagramConnection.is_full`). Fragments that the
other end can cause by MISSING are bounded by `FRAGMENTS_MAX`; those of lost packets by the packets in flight.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from p2pshare.core.datagram.contents.held_memory import HeldMemory
from p2pshare.core.ranges import Range, RangeSet
from p2pshare.errors import LocalProtocolError, RemoteProtocolError
from p2pshare.wire.datagrams.frames import Fin, Size

EARLY = 64 * 1024  # bytes of a transfer before its SIZE is acknowledged
FRAGMENTS_MAX = 4096  # ranges queued in one transfer; a MISSING frame adds none beyond

_START = attrgetter("start")


@dataclass(frozen=True, slots=True)
class Cargo:
    """The bytes of one transfer that go out in one train: one segment after the other has `payload` bytes of them."""

    transfer: int
    payload: int
    """Bytes of the file in each packet; the last may have fewer."""
    runs: tuple[tuple[int, memoryview], ...]
    """Offsets and bytes. All runs but the last are multiples of `payload`."""
    size: Size | None
    """The frame that goes into each packet before the DATA; None if the other end knows the size."""

    @property
    def packets(self) -> int:
        """The number of packets."""
        return sum(-(-len(data) // self.payload) for _, data in self.runs)

    def shipment(self) -> Shipment:
        """Return what to remember of it."""
        places = tuple((offset, offset + len(data)) for offset, data in self.runs)
        return Shipment(self.transfer, self.payload, places, self.size)


@dataclass(frozen=True, slots=True)
class Shipment:
    """What a train carried of a transfer, kept until all its packets are acknowledged or lost."""

    transfer: int
    payload: int
    places: tuple[Range, ...]
    size: Size | None

    def ranges(self, first: int, end: int) -> Iterator[Range]:
        """Yield the bytes in the packets from index `first` to below `end`."""
        index = 0
        for start, stop in self.places:
            count = -(-(stop - start) // self.payload)
            low, high = max(first - index, 0), min(end - index, count)
            if low < high:
                yield start + low * self.payload, min(start + high * self.payload, stop)
            index += count


class _Piece:
    """Bytes that the user handed over."""

    __slots__ = ("acked", "data", "end", "start")

    def __init__(self, start: int, data: memoryview) -> None:
        self.start = start
        self.end = start + len(data)
        self.data = data
        self.acked = RangeSet()


class _Transfer:
    """One file on its way out."""

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        self.pieces: list[_Piece] = []  # ascending, apart
        self.queued = RangeSet()
        self.handed = 0  # bytes handed over
        self.is_size_known = False
        self.is_size_due = True
        self.is_finishing = False
        self.is_fin_due = False
        self.has_sent_fin = False
        self.awaits_answer = False  # to the last FIN
        self.has_progress = False  # whether bytes were acknowledged after the last FIN
        self.has_turn = False

    @property
    def room(self) -> int:
        """The bytes that may go out now."""
        queued = self.queued.total
        if self.is_size_known:
            return queued
        return min(queued, EARLY - (self.handed - queued))

    def overlapping(self, start: int, end: int) -> Iterator[_Piece]:
        """Yield the pieces with bytes in a range."""
        index = max(0, bisect_right(self.pieces, start, key=_START) - 1)
        for piece in self.pieces[index : bisect_left(self.pieces, end, key=_START)]:
            if piece.end > start:
                yield piece

    def queue_unacked(self, start: int, end: int) -> None:
        """Queue the bytes of a range that are held and not acknowledged."""
        for piece in self.overlapping(start, end):
            for each in piece.acked.missing(max(start, piece.start), min(end, piece.end)):
                self.queued.add(*each)

    def take(self, payload: int, packets: int, room: int) -> tuple[tuple[int, memoryview], ...]:
        """Unqueue what fits into `packets` packets, and return it. A packet that is not full is the last."""
        runs = []
        for start, stop in self.queued:
            for piece in self.overlapping(start, stop):
                first = max(start, piece.start)
                end = min(stop, piece.end, first + packets * payload, first + room)
                runs.append((first, piece.data[first - piece.start : end - piece.start]))
                room -= end - first
                packets -= -(-(end - first) // payload)
                if not packets or room <= 0 or (end - first) % payload:
                    break
            else:
                continue
            break
        for first, data in runs:
            self.queued.remove(first, first + len(data))
        return tuple(runs)


class Outgoing:
    """All transfers of one direction."""

    def __init__(self, memory: HeldMemory) -> None:
        """Count the bytes in memory in `memory`, too."""
        self._memory = memory
        self._transfers: dict[int, _Transfer] = {}
        self._turns: deque[_Transfer] = deque()
        self._speaking: dict[int, _Transfer] = {}  # with SIZE or FIN to send
        self.unacked = 0
        """Bytes handed over and not acknowledged."""
        self.held = 0
        """Bytes in memory: those of all pieces of which a byte is not acknowledged."""

    def __len__(self) -> int:
        """Return the number of transfers."""
        return len(self._transfers)

    @property
    def is_due(self) -> bool:
        """Whether bytes of files can go out now."""
        return any(each.room > 0 for each in self._turns)

    def begin(self, number: int, size: int) -> None:
        """Begin a transfer of a file with `size` bytes."""
        if number in self._transfers:
            raise LocalProtocolError(reason=f"transfer {number} has begun already")
        self._transfers[number] = self._speaking[number] = _Transfer(number, size)

    def send_piece(self, number: int, offset: int, data: memoryview) -> None:
        """Queue bytes of a file. They must stay unchanged until they are acknowledged or the transfer is dropped."""
        transfer = self._transfers.get(number)
        if transfer is None or not data:
            return
        end = offset + len(data)
        if end > transfer.size or any(transfer.overlapping(offset, end)):
            raise LocalProtocolError(reason=f"bytes {offset} to {end} do not fit into a transfer")
        insort(transfer.pieces, _Piece(offset, data), key=_START)
        transfer.queued.add(offset, end)
        transfer.handed += len(data)
        self.unacked += len(data)
        self._hold(len(data))
        self._take_turn(transfer)

    def finish(self, number: int) -> None:
        """Announce the end of a transfer as soon as all its bytes have gone out."""
        if transfer := self._transfers.get(number):
            transfer.is_finishing = transfer.is_fin_due = True
            self._speaking[number] = transfer

    def drop(self, number: int) -> None:
        """Forget a transfer. Nothing of it is sent again."""
        transfer = self._transfers.pop(number, None)
        if transfer is None:
            return
        self._speaking.pop(number, None)
        if transfer.has_turn:
            self._turns.remove(transfer)
        for piece in transfer.pieces:
            self.unacked -= piece.end - piece.start - piece.acked.total
            self._hold(piece.start - piece.end)

    def drop_all(self) -> None:
        """Forget all transfers."""
        for number in list(self._transfers):
            self.drop(number)

    def frames_due(self) -> Iterator[Size | Fin]:
        """Yield the SIZE and FIN frames to send now; call `on_frame_sent` for each that is sent."""
        for number, transfer in list(self._speaking.items()):
            if not transfer.is_size_known and (transfer.is_size_due or self._is_fin_due(transfer)):
                yield Size(number, transfer.size)
            if self._is_fin_due(transfer):
                yield Fin(number, transfer.handed)
            if not transfer.is_size_due and not transfer.is_fin_due:
                del self._speaking[number]

    def on_frame_sent(self, frame: Size | Fin) -> None:
        """Note that a frame from `frames_due` went out."""
        transfer = self._transfers[frame.transfer]
        if isinstance(frame, Size):
            transfer.is_size_due = False
        else:
            transfer.is_fin_due = False
            transfer.has_sent_fin = transfer.awaits_answer = True
            transfer.has_progress = False

    def on_frame_lost(self, frame: Size | Fin) -> None:
        """Send a frame again, if it still matters."""
        transfer = self._transfers.get(frame.transfer)
        if transfer is None:
            return
        if isinstance(frame, Fin):
            transfer.is_fin_due = True
        elif transfer.is_size_known:
            return
        else:
            transfer.is_size_due = True
        self._speaking[frame.transfer] = transfer

    def next_cargo(self, segment: int, packets: int, sizes: CargoSizes) -> Cargo | None:
        """Return the bytes for the next train of at most `packets` packets, from the transfer whose turn it is.

        Args:
            segment: bytes of a UDP payload.
            packets: the most packets of the train.
            sizes: what a packet has besides the bytes of the file.
        """
        for _ in range(len(self._turns)):
            transfer = self._turns.popleft()
            transfer.has_turn = False
            room = transfer.room
            size = None if transfer.is_size_known else Size(transfer.number, transfer.size)
            payload = segment - (sizes.bare if size is None else sizes.with_size)
            runs = transfer.take(payload, packets, room) if room > 0 else ()
            self._take_turn(transfer)
            if runs:
                transfer.is_size_due = False
                if transfer.is_finishing:
                    transfer.is_fin_due = True
                    self._speaking[transfer.number] = transfer
                return Cargo(transfer.number, payload, runs, size)
        return None

    def on_acked(self, shipment: Shipment, first: int, end: int) -> None:
        """Release the bytes in the packets `first` to below `end` of a train."""
        transfer = self._transfers.get(shipment.transfer)
        if transfer is None:
            return
        for start, stop in shipment.ranges(first, end):
            transfer.queued.remove(start, stop)
            self._release(transfer, start, stop)

    def on_lost(self, shipment: Shipment, first: int, end: int) -> None:
        """Queue the bytes in the packets `first` to below `end` of a train again."""
        transfer = self._transfers.get(shipment.transfer)
        if transfer is None:
            return
        for start, stop in shipment.ranges(first, end):
            transfer.queue_unacked(start, stop)
        if shipment.size is not None and not transfer.is_size_known:
            transfer.is_size_due = True
            self._speaking[transfer.number] = transfer
        self._take_turn(transfer)

    def on_size_acked(self, number: int) -> None:
        """Take an ACK_SIZE frame."""
        if transfer := self._transfers.get(number):
            transfer.is_size_known = True
            transfer.is_size_due = False
            self._take_turn(transfer)

    def on_missing(self, number: int, ranges: Sequence[Range]) -> None:
        """Take a MISSING frame, one for each FIN: to find what is not acknowledged takes time.

        What it names behind the file is ignored: its sender may not know the size yet.

        Raises:
            RemoteProtocolError: it answers no FIN.
        """
        transfer = self._finished(number)
        if transfer is None or not transfer.awaits_answer:
            return
        transfer.awaits_answer = False
        for start, end in ranges:
            if len(transfer.queued) < FRAGMENTS_MAX:
                transfer.queue_unacked(start, end)
        if transfer.has_progress or transfer.queued:  # FIN overtook bytes, or they are lost
            transfer.is_fin_due = True
            self._speaking[number] = transfer
        self._take_turn(transfer)

    def on_complete(self, number: int) -> None:
        """Take a COMPLETE frame, and forget the transfer.

        Raises:
            RemoteProtocolError: it answers no FIN.
        """
        if self._finished(number) is not None:
            self.drop(number)

    def _finished(self, number: int) -> _Transfer | None:
        transfer = self._transfers.get(number)
        if transfer is not None and not transfer.has_sent_fin:
            raise RemoteProtocolError(reason=f"transfer {number} was judged before its end")
        return transfer

    def _is_fin_due(self, transfer: _Transfer) -> bool:
        return transfer.is_finishing and transfer.is_fin_due and not transfer.queued

    def _take_turn(self, transfer: _Transfer) -> None:
        if transfer.queued and not transfer.has_turn:
            transfer.has_turn = True
            self._turns.append(transfer)

    def _release(self, transfer: _Transfer, start: int, stop: int) -> None:
        for piece in list(transfer.overlapping(start, stop)):
            new = piece.acked.add(max(start, piece.start), min(stop, piece.end))
            self.unacked -= new
            transfer.has_progress |= new > 0
            if piece.acked.total == piece.end - piece.start:
                transfer.pieces.remove(piece)
                self._hold(piece.start - piece.end)

    def _hold(self, size: int) -> None:
        """Note that `size` bytes more are in memory."""
        self._memory.changed(self.held, self.held + size)
        self.held += size


@dataclass(frozen=True, slots=True)
class CargoSizes:
    """The bytes of a packet besides those of the file: header, frame heads and tag."""

    bare: int
    """With DATA alone."""
    with_size: int
    """With SIZE before it."""
