"""The order in which a sharer's answers and the pieces of its files go out.

**Control never waits behind data.** A stream delivers in order, so whatever was handed to the carrier delays all that
follows. Two rules keep that delay short. First, nothing is handed over while the carrier is full: the driver asks for
the next message or piece each time there is room, and decides then. Second, data is handed over in pieces that the
session bounds. An answer therefore waits for little more than one piece, even if a file of terabytes is under way
and thousands of files are requested.

**Turns.** Answers go first, since openers plan by them. Then the transfers take turns, one piece each, so ten files
share the bandwidth and a small file passes a large one. Digests that the receiver asked for go out as soon as they are
known. The digest of any other block goes out directly before its first piece, and only if there is credit for that.
Otherwise a block could be announced that must wait, while its transfer blocks the others. A transfer that needs no
credit (`FileHeader`, `End`) goes out even when credit is exhausted; without that an empty file would wait for credit
that never comes.

**Memory.** A block counts as held from the moment it is read until its last byte is handed over. The counts of large
and small files are separate, since `SharerLimits` bounds them separately: read-ahead of large files must not keep
batches of small files from being read.
"""

from __future__ import annotations

from collections import deque

from p2pshare.core.sharer_transfers import Piece, ReadBlock, Transfer
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.frames import PIECE_MAX
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import Digests, End


class Outflow:
    """The answers and blocks that wait to go out."""

    def __init__(self) -> None:
        self._answers: deque[Message] = deque()
        self._turns: deque[Transfer] = deque()
        self._credit = 0
        self._sent = 0
        self.blocks_held = 0
        """Blocks in memory of files that are read block by block."""
        self.small_bytes_held = 0
        """Bytes in memory of files that were read at once."""

    def grant(self, credit: int) -> None:
        """Allow `credit` bytes of files since the beginning of the session; the number never decreases."""
        self._credit = max(self._credit, credit)

    @property
    def answers(self) -> int:
        """Return the number of answers that wait."""
        return len(self._answers)

    def answer(self, message: Message) -> None:
        """Queue a message that goes out before everything of a file."""
        self._answers.append(message)

    def take_turn(self, transfer: Transfer) -> None:
        """Queue a transfer that has something to send."""
        if not transfer.has_turn:
            transfer.has_turn = True
            self._turns.append(transfer)

    def hold(self, transfer: Transfer, block: ReadBlock) -> None:
        """Queue a block of a transfer, and count its memory."""
        transfer.ready.append(block)
        if transfer.is_whole:
            self.small_bytes_held += len(block.data)
        else:
            self.blocks_held += 1

    def drop(self, transfer: Transfer) -> None:
        """Send nothing more of a transfer."""
        if transfer.has_turn:
            transfer.has_turn = False
            self._turns.remove(transfer)
        for block in transfer.ready:
            self._let_go(transfer, len(block.data))
        transfer.ready.clear()
        if transfer.view is not None:
            self._let_go(transfer, len(transfer.view))
            transfer.view = None

    def next_message(self) -> Message | None:
        """Return the message that goes out next; None if there is none, or a piece of a file comes first."""
        if self._answers:
            return self._answers.popleft()
        for _ in range(len(self._turns)):
            transfer = self._turns[0]
            if (message := self._message_of(transfer)) is not None:
                return message
            if transfer.view is None and not transfer.ready:
                transfer.has_turn = False
                self._turns.popleft()
            elif self._sent < self._credit:
                return None
            else:
                self._turns.rotate(-1)  # another transfer may need no credit
        return None

    def piece_size(self, most: int = PIECE_MAX) -> int:
        """Return the bytes of the next piece, at most `most`, after `next_message` returned None; 0: there is none."""
        view = self._turns[0].view if self._turns else None
        if view is None:
            return 0
        return min(most, len(view) - self._turns[0].position, self._credit - self._sent)

    def take_piece(self, size: int) -> Piece:
        """Return the first `size` bytes, at most `piece_size`, of the next piece, and count them as sent."""
        transfer = self._turns[0]
        view, start = transfer.view, transfer.position
        assert view is not None
        end = transfer.position = start + size
        transfer.sent += size
        self._sent += size
        if end == len(view):
            transfer.view = None
            self._let_go(transfer, end)
        if transfer.view is not None or transfer.ready:
            self._turns.rotate(-1)
        return Piece(transfer, transfer.index * BLOCK_SIZE + start, view[start:end])

    def _message_of(self, transfer: Transfer) -> Message | None:
        """Return the message of a transfer that goes out before its next bytes."""
        if not transfer.is_header_sent:
            transfer.is_header_sent = True
            return transfer.header
        if transfer.digests is not None:
            digests, transfer.digests = transfer.digests, None
            return digests
        if transfer.view is not None:
            return None
        if transfer.ready:
            if self._sent >= self._credit:
                return None
            block = transfer.ready.popleft()
            transfer.view = memoryview(block.data)
            transfer.index, transfer.position = block.index, 0
            if block.index in transfer.announced:
                return None
            return Digests(transfer.id, block.index, (block.digest,))
        if transfer.root is None:
            return None
        return End(transfer.id, transfer.root if transfer.request.root else b"", transfer.sent)

    def _let_go(self, transfer: Transfer, size: int) -> None:
        if transfer.is_whole:
            self.small_bytes_held -= size
        else:
            self.blocks_held -= 1
