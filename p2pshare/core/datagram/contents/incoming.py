"""The transfers that the other end sends: their sizes, and the answers to it.

The user decides what is missing; this module remembers which transfers have announced a size, and which answers are to
go out: ACK_SIZE for each SIZE, and the newest of MISSING and COMPLETE for each FIN. A lost answer goes out again unless
a newer one replaced it.

**Bound.** At most `TRANSFERS_MAX` transfers are remembered. The oldest one is forgotten first, so a sender that begins
transfers without end costs a fixed amount of memory, and one that still sends such an old transfer gets no answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from p2pshare.core.ranges import Range
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.datagrams.frames import MISSING_RANGES_MAX, AckSize, Complete, Missing

TRANSFERS_MAX = 1024  # transfers that are remembered; several times those that a session has open

Answer = AckSize | Missing | Complete


class Incoming:
    """All transfers of one direction."""

    def __init__(self, transfers_max: int = TRANSFERS_MAX) -> None:
        self._transfers_max = transfers_max
        self._sizes: dict[int, int] = {}
        self._incomplete: set[int] = set()
        self._answers: dict[int, Missing | Complete] = {}  # the newest for each transfer
        self._due: dict[Answer, None] = {}  # in order

    @property
    def is_due(self) -> bool:
        """Whether answers are to go out."""
        return bool(self._due)

    @property
    def is_incomplete(self) -> bool:
        """Whether the other end should send more of a transfer, as far as its answers tell."""
        return bool(self._incomplete)

    def knows(self, transfer: int) -> bool:
        """Whether a transfer has announced its size."""
        return transfer in self._sizes

    def on_size(self, transfer: int, size: int) -> bool:
        """Take a SIZE frame; True if it is the first one of the transfer.

        Raises:
            RemoteProtocolError: the size has changed.
        """
        known = self._sizes.get(transfer)
        if known is not None:
            if known != size:
                raise RemoteProtocolError(reason=f"the size of transfer {transfer} changes")
            return False
        if len(self._sizes) >= self._transfers_max:
            self._forget(next(iter(self._sizes)))
        self._sizes[transfer] = size
        self._incomplete.add(transfer)
        self._due[AckSize(transfer)] = None
        return True

    def check(self, transfer: int, end: int) -> bool:
        """Whether bytes up to offset `end` belong to a known transfer.

        Raises:
            RemoteProtocolError: they lie beyond its size.
        """
        size = self._sizes.get(transfer)
        if size is not None and end > size:
            raise RemoteProtocolError(reason=f"transfer {transfer} goes beyond its size")
        return size is not None

    def answer_fin(self, transfer: int, missing: Sequence[Range]) -> None:
        """Answer a FIN: what is missing, ascending; nothing if the transfer is complete.

        Ranges are cut to the size of the file, so a user who does not know it yet may name all bytes there can be.
        """
        size = self._sizes.get(transfer)
        if size is None:
            return
        if before := self._answers.pop(transfer, None):
            self._due.pop(before, None)
        inside = [(first, min(end, size)) for first, end in missing if first < size]
        ranges = tuple(inside[:MISSING_RANGES_MAX])
        answer = Missing(transfer, ranges) if ranges else Complete(transfer)
        if not ranges:
            self._incomplete.discard(transfer)
        self._answers[transfer] = answer
        self._due[answer] = None

    def answers_due(self) -> Iterator[Answer]:
        """Yield the answers to send now, oldest first; call `on_sent` for each that is sent."""
        yield from list(self._due)

    def on_sent(self, answer: Answer) -> None:
        """Note that an answer went out."""
        self._due.pop(answer, None)

    def on_lost(self, answer: Answer) -> None:
        """Send an answer again, if it is still the newest."""
        transfer = answer.transfer
        is_newest = isinstance(answer, AckSize) or self._answers.get(transfer) == answer
        if is_newest and transfer in self._sizes:
            self._due[answer] = None

    def _forget(self, transfer: int) -> None:
        del self._sizes[transfer]
        self._incomplete.discard(transfer)
        self._due.pop(AckSize(transfer), None)
        if answer := self._answers.pop(transfer, None):
            self._due.pop(answer, None)
