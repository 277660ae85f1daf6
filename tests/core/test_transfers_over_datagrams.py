"""Tests of transfers over links that lose, repeat and reorder: the cores of sharer, receiver and transport."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.credit import CreditControl
from p2pshare.core.datagram.connection import DatagramConnection
from p2pshare.core.datagram.events import (
    ControlReceived,
    Event,
    FinReceived,
    PieceReceived,
    SizeReceived,
    Writable,
)
from p2pshare.core.incoming_transfer import ArrivedBlock
from p2pshare.core.rate import RateLimit
from p2pshare.core.receiver import ReceiverCore
from p2pshare.testing.links import Conditions
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.control_messages import parse_message
from p2pshare.wire.frames import ControlFrame, FrameDecoder, control_frame
from p2pshare.wire.session_messages import Credit, Message
from p2pshare.wire.transfer_messages import (
    Cancel,
    Cancelled,
    End,
    Failed,
    FileHeader,
    Runs,
    Stopped,
)
from tests.core.datagram.pair import Pair, User
from tests.core.test_receiver import Told
from tests.core.test_sharer import Sharer

MIB = BLOCK_SIZE
WINDOW = 4 * MIB  # bytes; less than a block for each transfer could not fill any block


class Party(User):
    """One end: its control messages, and the connection below them."""

    def __init__(self, pair: Pair, connection: DatagramConnection) -> None:
        super().__init__(pair)
        self.connection = connection
        self.decoder = FrameDecoder()

    def say(self, message: Message) -> None:
        self.up.send_control(control_frame(message.to_json()), self.pair.network.now)

    def heard(self, event: ControlReceived) -> list[Message]:
        frames = [*self.decoder.receive_data(event.data)]
        said = [parse_message(each.body) for each in frames if isinstance(each, ControlFrame)]
        return [message for message in said if message is not None]


class Sharing(Party):
    """The sharer, whose files are zeros."""

    def __init__(self, pair: Pair, connection: DatagramConnection) -> None:
        super().__init__(pair, connection)
        self.sharer = Sharer()

    def on_event(self, event: Event) -> None:
        match event:
            case ControlReceived():
                self.sharer.say(*self.heard(event))
            case Writable():
                pass
            case _:
                return
        while self.send():
            self.sharer.collect()
            pending, self.sharer.pending = self.sharer.pending, []
            for work in pending:
                self.sharer.work(work)

    def send(self) -> bool:
        """Send what may be sent; whether there may be more."""
        core, is_more = self.sharer.core, False
        while True:
            if (message := core.next_message()) is not None:
                self.say(message)
                match message:
                    case FileHeader(number, size):
                        self.up.begin(number, size)
                    case End(number):
                        self.up.finish(number)
                    case Failed(number) | Stopped(number):
                        self.up.drop(number)
            elif (size := core.piece_size()) and not self.up.is_full:
                piece = core.take_piece(size)
                self.up.send_piece(
                    piece.transfer.id, piece.offset, piece.data, self.pair.network.now
                )
            else:
                self.sharer.collect()
                return is_more or bool(self.sharer.pending)
            is_more = True


class File(Told):
    """A file whose blocks are released at once."""

    def block_arrived(self, block: ArrivedBlock) -> None:
        assert not any(block.data[:: MIB // 8]), "the file is of zeros"
        self.events.append(block.index)
        block.release()


class Fetching(Party):
    """The receiver."""

    def __init__(self, pair: Pair, connection: DatagramConnection) -> None:
        super().__init__(pair, connection)
        self.crediting = CreditControl(RateLimit(None, 0.0), 0.0, WINDOW)
        self.core = ReceiverCore(self.crediting)
        self.core.on_release = self.grant
        self.asked: list[File] = []
        self.say(Credit(self.crediting.granted))

    def grant(self) -> None:
        if (amount := self.crediting.due(0.0)) is not None:
            self.say(Credit(amount))

    def get(self, size: int, want: Runs | None = None) -> File:
        file = File()
        self.asked.append(file)
        self.say(self.core.get(file, (str(size),), "v1", want))
        return file

    def cancel(self, number: int) -> None:
        if self.core.forget(number):
            self.say(Cancel(number, Cancelled.BY_USER))

    def on_event(self, event: Event) -> None:
        match event:
            case ControlReceived():
                for message in self.heard(event):
                    self.core.message_received(message)
            case SizeReceived():
                self.core.size_received(event.transfer, event.size)
            case PieceReceived():
                self.core.data_received(event.transfer, event.offset, event.data)
            case FinReceived():
                self.up.answer_fin(event.transfer, self.core.missing(event.transfer))


LINK = Conditions(rate=6e6, delay=0.02, queue=150_000)


class TransferTests(SynchronousTestCase):
    def check(self, conditions: Conditions, seed: int, cancel_after: float) -> None:
        """All wanted blocks come, each once, and after a cancel both ends agree about the credit."""
        pair = Pair(conditions, seed=seed).open()
        fetching = Fetching(pair, pair.opener.up)
        sharing = Sharing(pair, pair.acceptor.up)
        pair.users[pair.opener.up], pair.users[pair.acceptor.up] = fetching, sharing
        whole = fetching.get(MIB + 9)
        small = [fetching.get(size) for size in (0, 1, 70_000)]
        half = fetching.get(3 * MIB - 9, ((2, 3),))
        fetching.get(2 * MIB)
        pair.run(cancel_after)
        fetching.cancel(6)
        core = fetching.core
        done = pair.run(200.0, lambda: not (core.busy or core._unsettled))
        self.assertTrue(done, str([each.events for each in fetching.asked]))
        self.assertEqual([sorted(file.events[1:-1]) for file in (whole, half)], [[0, 1], [2]])
        self.assertEqual([len(file.events) for file in small], [2, 3, 3])
        self.assertEqual(fetching.crediting.arrived, sharing.sharer.core._outflow._sent)
        self.assertEqual((core._begun, core._runs), (0, 0))
        pair.run(30.0, lambda: not sharing.up.pieces_held)
        self.assertEqual(sharing.up.pieces_held, 0, "the sharer has forgotten all transfers")

    def test_clean(self) -> None:
        """Over a link without faults."""
        self.check(LINK, 1, 0.3)

    def test_bad(self) -> None:
        """Over a link that loses, repeats and reorders."""
        self.check(replace(LINK, loss=0.1, duplication=0.1, reordering=0.1), 2, 0.5)
