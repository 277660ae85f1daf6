"""In which order a sharer's answers, and the pieces of its files, go out: transfers take turns."""

from __future__ import annotations

from collections import deque

from p2pshare.core.sharer_transfers import Piece, Transfer
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.frames import PIECE_MAX
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import Block, End


class Outflow:
    """What waits to go out, and what of files is held for that."""

    def __init__(self) -> None:
        self._answers: deque[Message] = deque()
        self._turns: deque[Transfer] = deque()
        self._credit = 0
        self._sent = 0
        self.blocks_held = 0
        """Blocks of files that were not read in one go."""
        self.small_bytes_held = 0
        """Bytes of the others."""

    def grant(self, credit: int) -> None:
        """So many bytes of files may go out, counted from the beginning; it never becomes less."""
        self._credit = max(self._credit, credit)

    @property
    def answers(self) -> int:
        """How many wait to go out."""
        return len(self._answers)

    def answer(self, message: Message) -> None:
        """Say this before anything of a file."""
        self._answers.append(message)

    def take_turn(self, transfer: Transfer) -> None:
        """Something of a transfer can go out."""
        if not transfer.has_turn:
            transfer.has_turn = True
            self._turns.append(transfer)

    def hold(self, transfer: Transfer, size: int) -> None:
        """A block of a transfer is in memory."""
        if transfer.is_whole:
            self.small_bytes_held += size
        else:
            self.blocks_held += 1

    def drop(self, transfer: Transfer) -> None:
        """Nothing more of a transfer goes out."""
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
        """What is to be said next; None if that is nothing, or a piece of a file comes first."""
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
                self._turns.rotate(-1)  # others may have something that needs no credit
        return None

    def piece_size(self) -> int:
        """Bytes of the piece that comes next, once `next_message` has said None; 0 if none does."""
        view = self._turns[0].view if self._turns else None
        if view is None:
            return 0
        return min(PIECE_MAX, len(view) - self._turns[0].position, self._credit - self._sent)

    def take_piece(self, size: int) -> Piece:
        """The first `size` bytes, at most `piece_size()`, of what comes next; they count as sent."""
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
        """What is to be said of a transfer before anything else of it."""
        if not transfer.is_offered:
            transfer.is_offered = True
            return transfer.offer
        if transfer.view is not None:
            return None
        if transfer.ready:
            if self._sent >= self._credit:
                return None
            block = transfer.ready.popleft()
            transfer.view = memoryview(block.data)
            transfer.index, transfer.position = block.index, 0
            return Block(transfer.id, block.index, block.digest)
        return None if transfer.root is None else End(transfer.id, transfer.root)

    def _let_go(self, transfer: Transfer, size: int) -> None:
        if transfer.is_whole:
            self.small_bytes_held -= size
        else:
            self.blocks_held -= 1
