"""Tests of `p2pshare.core.receiver`, `credit` and `in_flight`."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core import receiver
from p2pshare.core.credit import CREDIT_WINDOW, LIMITED_STEP_MIN, STEPS, CreditControl
from p2pshare.core.in_flight import InFlight
from p2pshare.core.incoming_transfer import (
    BUFFERS_KEPT_MAX,
    DIGESTS_AHEAD_MAX,
    SHORT,
    ArrivedBlock,
    BlockBuffers,
)
from p2pshare.core.ranges import RangeSet
from p2pshare.core.rate import RateLimit
from p2pshare.core.receiver import ReceiverCore
from p2pshare.core.wanted_blocks import byte_ranges, named_blocks
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import BLOCK_SIZE, block_count, digest_of
from p2pshare.wire.datagrams.frames import MISSING_RANGES_MAX
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import (
    Digests,
    End,
    Entry,
    EntryKind,
    Failed,
    Fault,
    FileHeader,
    Listing,
    Stopped,
)
from tests import examples

DIGEST = b"d" * 32
ROOT = b"r" * 32
SIZE = 2 * BLOCK_SIZE + 100
MIB = 1024 * 1024


class Told:
    """A receiver and lister that remembers."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.blocks: list[ArrivedBlock] = []

    def announced(self, header: FileHeader) -> None:
        self.events.append(header)

    def outgrown(self, header: FileHeader) -> None:
        self.events.append(("outgrown", header.size))

    def block_arrived(self, block: ArrivedBlock) -> None:
        self.blocks.append(block)
        self.events.append(block.index)

    def ended(self, root: bytes) -> None:
        self.events.append(root)

    def listed(self, listing: Listing) -> None:
        self.events.append(listing)

    def failed(self, why: Fault) -> None:
        self.events.append(why)

    def interrupted(self) -> None:
        self.events.append("interrupted")


def make_receiver(window: int = CREDIT_WINDOW, first_id: int = 1) -> ReceiverCore:
    return ReceiverCore(CreditControl(RateLimit(None, 0.0), 0.0, window), first_id=first_id)


def header(size: int = SIZE, version: str = "v1", number: int = 1) -> FileHeader:
    return FileHeader(number, size, 5, False, version)


def digests(*indexes: int, number: int = 1) -> Digests:
    """Return the digests of consecutive blocks, which are all the same."""
    return Digests(number, indexes[0], len(indexes) * (DIGEST,))


def entry(*path: str, kind: EntryKind = EntryKind.FILE) -> Entry:
    return Entry(path, kind, 1, 2)


class ReceiverTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.receiver = make_receiver()
        self.told = Told()

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.receiver.message_received(message)

    def send(self, offset: int, size: int, number: int = 1, fill: int = 7) -> None:
        self.receiver.data_received(number, offset, memoryview(bytes([fill]) * size))

    def refused(self, message: Message) -> None:
        with self.assertRaises(RemoteProtocolError):
            self.say(message)

    def refused_piece(self, offset: int, size: int, number: int = 1) -> None:
        with self.assertRaises(RemoteProtocolError):
            self.send(offset, size, number)

    def ask(self, **options: Any) -> None:
        self.receiver.get(self.told, ("a",), **options)

    def outstanding(self) -> int:
        return self.receiver.crediting.outstanding


class TransferTests(ReceiverTestCase):
    """Legal and illegal messages about a file."""

    def test_no_root(self) -> None:
        """A part of a file ends without a root, and the rest of the file need not be hashed."""
        self.ask(want=((2, 3),), root=False)
        self.say(header(), digests(2))
        self.assertEqual(self.receiver.skipped, 0)
        self.send(2 * BLOCK_SIZE, 100)
        self.refused(End(1, ROOT, 100))
        self.say(End(1, b"", 100))
        self.assertEqual(self.told.events, [header(), 2, b""])
        self.receiver.get(self.told, ("a",))
        self.say(header(0, number=2))
        self.refused(End(2, b"", 0))

    def test_whole_file(self) -> None:
        """Pieces become blocks, each with its bytes where they belong, and the file ends with its root."""
        self.ask()
        self.say(header(), digests(0))
        self.send(0, BLOCK_SIZE // 2, fill=1)
        self.assertEqual(self.receiver.filled(1), BLOCK_SIZE // 2)
        self.send(BLOCK_SIZE // 2, BLOCK_SIZE // 2, fill=2)
        self.say(digests(1))
        self.send(BLOCK_SIZE, BLOCK_SIZE, fill=3)
        self.say(digests(2))
        self.send(2 * BLOCK_SIZE, 100, fill=4)
        self.say(End(1, ROOT, SIZE))
        self.assertEqual(self.told.events, [header(), 0, 1, 2, ROOT])
        first, _, last = self.told.blocks
        half = BLOCK_SIZE // 2
        self.assertEqual(bytes(first.data), b"\1" * half + b"\2" * half)
        self.assertEqual((bytes(last.data), last.digest), (b"\4" * 100, DIGEST))
        self.assertFalse(self.receiver.busy)

    def test_backwards(self) -> None:
        """Blocks are handed on as they are complete, also if the end and the pieces come in the opposite order."""
        self.ask()
        self.say(header(), digests(1, 2), digests(0), End(1, ROOT, SIZE))
        for index in (2, 1, 0):
            self.send(index * BLOCK_SIZE + 50, 50 if index == 2 else BLOCK_SIZE - 50, fill=index)
            self.send(index * BLOCK_SIZE, 50, fill=index)
        self.assertEqual(self.told.events, [header(), 2, 1, 0, ROOT])
        self.assertEqual([bytes(each.data[:51]) for each in self.told.blocks],
                         [b"\2" * 51, b"\1" * 51, b"\0" * 51])  # fmt: skip
        self.assertEqual(self.outstanding(), CREDIT_WINDOW - SIZE)

    def test_digest_after_its_block(self) -> None:
        """A block that is complete waits for its digest."""
        self.ask()
        self.say(header())
        self.send(BLOCK_SIZE, BLOCK_SIZE)
        self.assertEqual(self.told.blocks, [])
        self.say(digests(0, 1, 2))
        self.assertEqual([each.index for each in self.told.blocks], [1])

    def test_repeated(self) -> None:
        """Bytes that are here already are ignored and not counted, before and after their block is handed on."""
        self.ask()
        self.say(header(), digests(0, 1, 2))
        for start in (0, 100, 50, 0):
            self.send(start, 100)
        self.assertEqual(self.outstanding(), CREDIT_WINDOW - 200)
        for _ in range(2):
            self.send(BLOCK_SIZE, BLOCK_SIZE)
        self.send(BLOCK_SIZE + 5, 5)
        self.assertEqual(self.outstanding(), CREDIT_WINDOW - 200 - BLOCK_SIZE)
        self.assertEqual([each.index for each in self.told.blocks], [1])

    def test_empty_file(self) -> None:
        """A file without bytes has no block."""
        self.ask()
        self.say(header(0), End(1, ROOT))
        self.assertEqual(self.told.events, [header(0), ROOT])

    def test_some_wanted(self) -> None:
        """Only wanted blocks of the version may come, and the file ends when they are here."""
        self.ask(version="v1", want=((0, 1), (2, 9)))
        self.say(header())
        self.refused(digests(1))
        self.refused_piece(BLOCK_SIZE, 1)
        self.say(digests(0), digests(2))
        self.send(0, BLOCK_SIZE)
        self.send(2 * BLOCK_SIZE, 100)
        self.refused(End(1, ROOT, SIZE))
        self.say(End(1, ROOT, BLOCK_SIZE + 100))
        self.assertEqual(self.told.events[1:], [0, 2, ROOT])

    def test_none_wanted(self) -> None:
        """A file of which no block is wanted needs only its end."""
        message = self.receiver.get(self.told, ("a",), "v1", ())
        self.assertEqual((message.version, message.want), ("v1", ()))
        self.say(header())
        self.assertEqual(self.receiver.skipped, SIZE)
        self.say(End(1, ROOT))
        self.assertEqual(self.told.events[-1], ROOT)

    def test_version_changed(self) -> None:
        """What was wanted of another version does not count: the whole file comes."""
        self.ask(version="v1", want=((2, 3),), digests=((0, 1),), on_digests=self.fail)
        self.say(header(version="v2"), digests(0, 1, 2))
        for index in range(3):
            self.send(index * BLOCK_SIZE, BLOCK_SIZE if index < 2 else 100)
        self.say(End(1, ROOT, SIZE))
        self.assertEqual(self.told.events[-1], ROOT)

    def test_digests_ahead(self) -> None:
        """Digests that were asked for are passed on, and no block is expected for them."""
        came: list[tuple[int, int]] = []
        self.ask(
            want=((2, 3),), digests=((0, 2),), on_digests=lambda *each: came.append((each[0], len(each[1])))
        )  # fmt: skip
        self.say(header(), digests(1), digests(2), digests(0))
        self.send(2 * BLOCK_SIZE, 100)
        self.say(End(1, ROOT, 100))
        self.assertEqual((came, self.told.events[1:]), ([(1, 1), (2, 1), (0, 1)], [2, ROOT]))

    def test_two_sources(self) -> None:
        """Half of the blocks comes from one sharer and half from another, with all digests from the first."""
        content = random.Random(5).randbytes(SIZE)
        cut = [content[at : at + BLOCK_SIZE] for at in range(0, SIZE, BLOCK_SIZE)]
        known: dict[int, bytes] = {}
        sources = [make_receiver(), make_receiver()]
        ahead: dict[str, Any] = {
            "digests": ((0, 3),),
            "on_digests": lambda first, came: known.update(enumerate(came, first)),
        }
        for source, want, options in zip(
            sources, (((0, 1), (2, 3)), ((1, 2),)), (ahead, {}), strict=True
        ):
            request = source.get(self.told, ("a",), "v1", want, **options)
            source.message_received(header())
            wanted, digests_ahead = named_blocks(request, header())
            for first, end in RangeSet([*wanted, *digests_ahead]):
                said = tuple(digest_of(block) for block in cut[first:end])
                source.message_received(Digests(1, first, said))
            for index in (index for run in wanted for index in range(*run)):
                source.data_received(1, index * BLOCK_SIZE, memoryview(cut[index]))
        came = {block.index: block for block in self.told.blocks}
        self.assertEqual(b"".join(came[index].data for index in range(3)), content)
        self.assertEqual({index: block.digest for index, block in came.items()}, known)

    def test_outgrown(self) -> None:
        """A file that is larger than expected is reported, to be cancelled, and the rest of it is ignored."""
        self.ask(most=10)
        self.assertEqual(self.receiver.message_received(header(11)), 1)
        self.say(digests(0))
        self.send(0, 11)
        self.say(Stopped(1, 11))
        self.assertEqual(self.told.events, [("outgrown", 11)])
        self.assertEqual(self.outstanding(), CREDIT_WINDOW - 11)

    def test_out_of_turn(self) -> None:
        """Threat 6: messages in the wrong state are rejected: nothing before the header, one header, each digest once,
        no end while digests are missing, no answer to a cancel that was not sent, nothing after the end.
        """
        self.ask()
        self.refused(digests(0))
        self.refused(End(1, ROOT, SIZE))
        self.refused(Stopped(1, 0))
        self.say(header())
        self.refused(header())
        self.say(digests(1))
        self.refused(digests(0, 1))
        self.ask()
        self.say(header(number=2))
        self.refused(End(2, ROOT, SIZE))
        self.say(digests(0, 1, 2, number=2))
        for sent in (0, SIZE - 1, SIZE + 1):
            self.refused(End(2, ROOT, sent))
        self.say(End(2, ROOT, SIZE))
        self.refused(End(2, ROOT, SIZE))
        self.refused(Failed(2, Fault.CHANGED, SIZE))

    def test_block_behind_the_end(self) -> None:
        """Threat 7: no memory is taken for a block that the file, by its size, has not."""
        self.ask()
        self.say(header(0))
        self.refused(digests(0))
        for offset in (0, BLOCK_SIZE, 2**55):
            self.refused_piece(offset, 1)

    def test_pieces_out_of_place(self) -> None:
        """Threat 7: bytes come after the size of their file, and lie in one of its blocks, or end the session."""
        self.ask()
        self.refused_piece(0, 1)
        self.say(header(), digests(0))
        for offset in (3 * BLOCK_SIZE, 2**40):
            self.refused_piece(offset, 1)
        self.refused_piece(BLOCK_SIZE - 5, 6)

    def test_more_than_the_last_block(self) -> None:
        """Threat 10: a sharer that sends more than it announced is refused."""
        self.ask()
        self.say(header(100), digests(0))
        self.refused_piece(0, 101)
        self.refused_piece(95, 6)

    def test_too_many_blocks(self) -> None:
        """Threat 7: blocks of which only a byte came take no more memory than the window and a block for each file."""
        for is_cancelled, most in ((False, 6), (True, 5)):
            self.receiver = make_receiver(window=4 * BLOCK_SIZE)
            for number in (1, 2):
                self.ask()
                self.say(header(2**50, number=number))
            if is_cancelled:
                self.send(0, 1)
                self.receiver.forget(1)
            for index in range(most):
                self.send(index * BLOCK_SIZE, 1, number=2)
            self.refused_piece(most * BLOCK_SIZE, 1, number=2)

    def test_too_many_runs(self) -> None:
        """Threat 7: the table of what has arrived is bounded, however small the pieces are."""
        self.patch(receiver, "RUNS_OF_BYTES_MAX", 10)
        for number in (1, 2):
            self.ask()
            self.say(header(number=number))
        for at in range(10):
            self.send(2 * at, 1, number=1 + at % 2)
        self.refused_piece(100, 1)
        self.receiver.forget(1)
        self.send(101, 1, number=2)

    def test_too_many_digests(self) -> None:
        """Threat 7: digests that were not asked for are bounded, as long as their blocks are not here."""
        blocks = DIGESTS_AHEAD_MAX + 20
        for number, named in ((1, ()), (2, ((0, 15),))):
            self.ask(digests=named)
            self.say(header(blocks * BLOCK_SIZE, number=number))
            self.say(digests(*range(DIGESTS_AHEAD_MAX), number=number))
            index, spare = DIGESTS_AHEAD_MAX, 15 if named else 0
            for _ in range(spare):
                self.say(digests(index, number=number))
                index += 1
            self.refused(digests(index, number=number))

    def test_more_than_credit(self) -> None:
        """Threat 7: more than there was credit for is refused, also if it is only said to have been sent."""
        self.receiver = make_receiver(window=1000)
        self.ask()
        self.ask()
        self.say(header(), header(number=2))
        self.send(0, 900)
        self.refused_piece(0, 101, number=2)
        for message in (Failed(1, Fault.BUSY, 1001), Stopped(1, 1001), End(1, ROOT, 1001)):
            self.receiver = make_receiver(window=1000)
            self.ask()
            if not isinstance(message, Failed):
                self.receiver.forget(1)
            self.refused(message)

    def test_cancelled(self) -> None:
        """What still comes of a cancelled transfer is ignored; its last message settles the credit."""
        for last in (Stopped(1, 60), Failed(1, Fault.CHANGED, 60), End(1, ROOT, 60)):
            self.setUp()
            self.ask()
            self.say(header(), digests(0))
            self.send(0, 10)
            self.assertTrue(self.receiver.forget(1))
            self.assertFalse(self.receiver.forget(1))
            self.send(10, 20)
            self.receiver.size_received(1, 5)
            self.say(digests(1))
            self.assertEqual(self.outstanding(), CREDIT_WINDOW - 10)
            self.say(last)
            self.assertEqual(self.outstanding(), CREDIT_WINDOW - 60)
            self.say(last)
            self.send(30, 30)
            self.assertEqual(self.outstanding(), CREDIT_WINDOW - 60)
            self.assertEqual(self.receiver.crediting.due(0.0), None)
            self.assertEqual(self.told.events, [header()])

    def test_sent_less(self) -> None:
        """Threat 7: a sharer cannot say that it sent less than what came."""
        for message in (Stopped(1, 9), Failed(1, Fault.CHANGED, 9)):
            self.setUp()
            self.ask()
            self.say(header(), digests(0))
            self.send(0, 10)
            if isinstance(message, Stopped):
                self.receiver.forget(1)
            self.refused(message)
            self.receiver.interrupt()
            heard = ["interrupted"] if isinstance(message, Failed) else []
            self.assertEqual(self.told.events, [header(), *heard])

    def test_cancelled_after_the_end(self) -> None:
        """A transfer may be cancelled between its end and its last piece; its credit is settled then."""
        self.ask()
        self.say(header(), digests(0, 1, 2), End(1, ROOT, SIZE))
        self.send(0, BLOCK_SIZE)
        self.assertEqual(self.outstanding(), CREDIT_WINDOW - SIZE)
        self.receiver.forget(1)
        self.send(BLOCK_SIZE, BLOCK_SIZE)
        self.told.blocks[0].release()
        crediting = self.receiver.crediting
        self.assertEqual(crediting.due(0.0), CREDIT_WINDOW + SIZE)

    def test_never_asked(self) -> None:
        """Answers to requests that do not exist are rejected."""
        self.ask()
        self.receiver.list(self.told, (), (), 10, False)
        for message in (
            header(number=3), digests(0, number=3), End(0, ROOT), Failed(9, Fault.BUSY), Stopped(9, 0),
            Stopped(2, 0), End(2, ROOT), Listing(1, (), False), Listing(3, (), False),
        ):  # fmt: skip
            self.refused(message)
        self.refused_piece(0, 1, number=3)
        with self.assertRaises(RemoteProtocolError):
            self.receiver.size_received(3, 1)

    def test_failed(self) -> None:
        """A transfer may fail at any moment, also in the midst of a block, and what was lost on the way is counted."""
        self.ask()
        self.say(header(), digests(0))
        self.send(0, 10)
        self.say(Failed(1, Fault.CHANGED, 30))
        self.send(10, 20)
        self.assertEqual(self.told.events, [header(), Fault.CHANGED])
        self.assertEqual(self.outstanding(), CREDIT_WINDOW - 30)

    def test_interrupted(self) -> None:
        """All requests end when the session is lost."""
        self.ask()
        self.receiver.list(self.told, (), (), 10, False)
        self.say(header(), digests(0))
        self.send(0, 10)
        self.receiver.interrupt()
        self.assertEqual(self.told.events[1:], ["interrupted", "interrupted"])
        self.assertFalse(self.receiver.busy)

    def test_interrupted_by_its_receiver(self) -> None:
        """The session may be lost while a receiver is told of a block; nothing more is handed on."""

        class Loser(Told):
            def block_arrived(loser, block: ArrivedBlock) -> None:  # noqa: N805
                super().block_arrived(block)
                self.receiver.interrupt()

        told = Loser()
        self.receiver.get(told, ("a",))
        self.say(header())
        for index in range(2):
            self.send(index * BLOCK_SIZE, BLOCK_SIZE)
        self.say(digests(0, 1, 2))
        self.assertEqual(told.events, [header(), 0, "interrupted"])
        self.assertEqual((self.receiver._begun, self.receiver._runs), (0, 0))
        self.assertEqual(len(told.blocks[0].data), BLOCK_SIZE)

    def test_numbers(self) -> None:
        """The numbers of one session are not those of the one before."""
        receiver = make_receiver(first_id=5)
        self.assertEqual(receiver.get(self.told, ("a",)).id, 5)
        self.assertEqual([number for number in range(9) if receiver.is_own(number)], [5])

    def test_achieved(self) -> None:
        """A block of a large file, an end and a final answer count as achieved; other messages do not."""
        self.ask()
        self.say(header(), digests(0))
        self.send(0, BLOCK_SIZE - 1)
        self.assertEqual(self.receiver.achieved, 0)
        self.send(BLOCK_SIZE - 1, 1)
        self.assertEqual(self.receiver.achieved, 1)
        self.ask()
        self.say(header(5, number=2), digests(0, number=2))
        self.send(0, 5, number=2)
        self.assertEqual(self.receiver.achieved, 1)
        self.say(End(2, ROOT, 5))
        self.assertEqual(self.receiver.achieved, 2)
        for why, achieved in ((Fault.BUSY, 2), (Fault.NOT_FOUND, 3)):
            self.ask()
            self.say(Failed(self.receiver.next_id - 1, why))
            self.assertEqual(self.receiver.achieved, achieved)
        self.say(Failed(self.receiver.next_id - 1, Fault.NOT_FOUND))  # said twice
        question = self.receiver.list(self.told, (), (), 10, False)
        self.say(Listing(question.id, (), False), Listing(question.id, (), False))
        self.assertEqual(self.receiver.achieved, 4)

    def test_memory_comes_back(self) -> None:
        """A released block makes room for as many bytes, once."""
        calls: list[int] = []
        self.receiver.on_release = lambda: calls.append(1)
        self.ask()
        self.say(header(100), digests(0))
        self.send(0, 100)
        (block,) = self.told.blocks
        block.release()
        block.release()
        self.assertEqual(calls, [1])

    def test_cancelled_by_its_receiver(self) -> None:
        """A receiver may give up while it is told of a block; nothing more of the file is handed on."""

        class Quitter(Told):
            def block_arrived(quitter, block: ArrivedBlock) -> None:  # noqa: N805
                super().block_arrived(block)
                self.receiver.forget(1)

        told = Quitter()
        self.receiver.get(told, ("a",))
        self.say(header())
        for index in range(2):
            self.send(index * BLOCK_SIZE, BLOCK_SIZE)
        self.say(digests(0, 1, 2), End(1, ROOT, SIZE))
        self.assertEqual(told.events, [header(), 0])
        told.blocks[0].release()
        self.assertEqual(self.receiver.crediting.due(0.0), CREDIT_WINDOW + SIZE)


class BeforeTheHeaderTests(ReceiverTestCase):
    """Pieces of a file whose size the carrier has told."""

    def test_early(self) -> None:
        """Pieces come before the header, and their block is handed on with its digest."""
        self.ask()
        self.receiver.size_received(1, SIZE)
        self.receiver.size_received(1, SIZE)
        self.send(2 * BLOCK_SIZE, 100)
        self.say(header(), digests(0, 1, 2))
        self.assertEqual(self.told.events, [header(), 2])

    def test_other_size(self) -> None:
        """Threat 7: the sizes that the carrier and the header tell must agree."""
        self.ask()
        self.receiver.size_received(1, SIZE)
        for size in (SIZE + 1, 2**50 + 1):
            self.assertRaises(RemoteProtocolError, self.receiver.size_received, 1, size)
        self.refused(header(SIZE - 1))
        self.ask()
        self.say(header(number=2))
        self.assertRaises(RemoteProtocolError, self.receiver.size_received, 2, SIZE + 1)
        self.ask()
        self.assertRaises(RemoteProtocolError, self.receiver.size_received, 3, 2**50 + 1)

    def test_not_wanted(self) -> None:
        """An early piece of a block that was not wanted is refused with the header."""
        self.ask(want=((0, 1),))
        self.receiver.size_received(1, SIZE)
        self.refused_piece(3 * BLOCK_SIZE, 1)
        self.send(BLOCK_SIZE, 1)
        self.refused(header())

    def test_outgrown_later(self) -> None:
        """Early pieces of a file that turns out to be too large are forgotten, and settled."""
        self.ask(most=10)
        self.receiver.size_received(1, SIZE)
        self.send(0, 10)
        self.assertEqual(self.receiver.message_received(header()), 1)
        self.say(Stopped(1, 10))
        self.assertEqual(self.receiver.crediting.due(0.0), None)
        self.assertEqual(self.outstanding(), CREDIT_WINDOW - 10)


class MissingTests(ReceiverTestCase):
    """The answer to a carrier that asks what is missing."""

    def test_missing(self) -> None:
        """Missing are the bytes that were wanted and have not come, by their position in the file."""
        self.ask(want=((0, 1), (2, 3)))
        self.say(header(), digests(0), digests(2), End(1, ROOT, BLOCK_SIZE + 100))
        self.assertEqual(self.receiver.missing(1), ((0, BLOCK_SIZE), (2 * BLOCK_SIZE, SIZE)))
        self.send(10, 10)
        self.send(2 * BLOCK_SIZE, 100)
        self.assertEqual(self.receiver.missing(1), ((0, 10), (20, BLOCK_SIZE)))
        self.send(0, BLOCK_SIZE)
        self.assertEqual(self.receiver.missing(1), ())

    def test_before_the_header(self) -> None:
        """Until the header is here, all bytes are missing that have not come: it is unknown which were wanted."""
        self.ask(want=((0, 1),))
        self.assertEqual(self.receiver.missing(1), ((0, 2**50),))
        self.receiver.size_received(1, SIZE)
        self.send(0, 10)
        self.assertEqual(self.receiver.missing(1), ((10, SIZE),))

    def test_over(self) -> None:
        """Nothing is missing of a transfer that is over or unknown."""
        self.ask()
        self.ask()
        self.receiver.forget(1)
        self.say(Failed(2, Fault.CHANGED))
        self.assertEqual([self.receiver.missing(number) for number in range(4)], [()] * 4)

    def test_bounded(self) -> None:
        """Of many ranges the first are named."""
        self.ask()
        self.say(header())
        for at in range(2 * MISSING_RANGES_MAX):
            self.send(2 * at + 1, 1)
        expected = tuple((2 * n, 2 * n + 1) for n in range(MISSING_RANGES_MAX))
        self.assertEqual(self.receiver.missing(1), expected)


class ListingTests(SynchronousTestCase):
    """Legal and illegal pages of a folder."""

    def setUp(self) -> None:
        self.receiver = make_receiver()
        self.told = Told()

    def answer(self, *entries: Entry, more: bool = False) -> None:
        self.receiver.message_received(Listing(1, entries, more))

    def ask(self, recursive: bool = False, limit: int = 3) -> None:
        self.receiver.list(self.told, (), ("b",), limit, recursive)

    def test_pages(self) -> None:
        """A page has the requested entries, in order."""
        self.ask(recursive=True)
        self.answer(entry("c", kind=EntryKind.FOLDER), entry("c", "z"), entry("c b"), more=True)
        self.assertEqual(len(self.told.events), 1)

    def test_lies(self) -> None:
        """Threat 7: a page is rejected if it has too many entries, entries out of order or before `after`, or none and
        more to come. So no listing goes on for ever.
        """
        self.ask()
        for entries, more in (
            ([entry("c"), entry("d"), entry("e"), entry("f")], False),
            ([entry("d"), entry("c")], False),
            ([entry("c"), entry("c")], False),
            ([entry("b")], False),
            ([entry("c", "d")], False),
            ([], True),
        ):
            with self.assertRaises(RemoteProtocolError):
                self.answer(*entries, more=more)

    def test_failed(self) -> None:
        """A listing may fail."""
        self.ask()
        self.receiver.message_received(Failed(1, Fault.NOT_FOUND))
        self.assertEqual(self.told.events, [Fault.NOT_FOUND])

    def test_late(self) -> None:
        """A late answer to a forgotten request is ignored."""
        self.ask()
        self.receiver.forget(1)
        self.answer(entry("c"))
        self.assertEqual(self.told.events, [])


SENT = st.sampled_from([0, 1, 100, BLOCK_SIZE, SIZE])
WORDS = st.one_of(
    st.builds(
        FileHeader,
        st.integers(0, 4),
        st.sampled_from([0, 1, 100, BLOCK_SIZE, SIZE, 2**50]),
        st.just(0),
        st.booleans(),
        st.sampled_from(["v1", "v2"]),
    ),
    st.builds(
        lambda number, first, count: Digests(number, first, count * (DIGEST,)),
        st.integers(0, 4),
        st.integers(0, 3),
        st.integers(1, 3),
    ),
    st.builds(End, st.integers(0, 4), st.just(ROOT), SENT),
    st.builds(Failed, st.integers(0, 4), st.sampled_from(Fault), SENT),
    st.builds(Stopped, st.integers(0, 4), SENT),
    st.builds(Listing, st.integers(0, 4), st.just(()), st.booleans()),
    st.tuples(
        st.integers(0, 4),
        st.sampled_from([0, 1, 100, BLOCK_SIZE, 2 * BLOCK_SIZE]),
        st.sampled_from([1, 99, 100, 256 * 1024]),
    ),
    st.tuples(st.integers(0, 4), st.sampled_from([0, 100, SIZE, 2**50])),
    st.just("cancel"),
)


class LyingSharerTests(SynchronousTestCase):
    """A sharer that sends anything."""

    @given(st.lists(WORDS, max_size=25))
    def test_anything(self, words: list[Any]) -> None:
        """Threats 6 and 7: any message is accepted or raises `RemoteProtocolError`. No file ends without all its wanted
        blocks, and memory stays within the window and a block for each transfer.
        """
        receiver, told = make_receiver(window=MIB), [Told(), Told(), Told()]
        receiver.get(told[0], ("a",))
        receiver.get(told[1], ("b",), "v1", ((1, 9),))
        receiver.get(told[2], ("c",), most=100)
        is_cancelled = False
        try:
            for word in words:
                if isinstance(word, Message):
                    receiver.message_received(word)
                elif isinstance(word, str):
                    is_cancelled |= receiver.forget(1)
                elif len(word) == 2:
                    receiver.size_received(*word)
                else:
                    number, offset, size = word
                    receiver.data_received(number, offset, memoryview(bytes(size)))
                self.assertLessEqual(receiver._begun, MIB + 3 * BLOCK_SIZE)
        except RemoteProtocolError:
            pass
        self.assertLessEqual(sum(len(b.data) for each in told for b in each.blocks), MIB)
        for each in told:
            if ROOT in each.events:
                announced = next(event for event in each.events if isinstance(event, FileHeader))
                had = 1 if each is told[1] and announced.version == "v1" and announced.size else 0
                self.assertEqual(len(each.blocks), block_count(announced.size) - had)
                self.assertFalse(each is told[0] and is_cancelled)


CUTS = st.lists(st.integers(20_000, 300_000), min_size=1, max_size=8)


class AnyOrderTests(SynchronousTestCase):
    """An honest sharer, behind a carrier that loses, repeats and reorders."""

    CONTENT = random.Random(3).randbytes(SIZE)

    @settings(max_examples=examples(60))
    @given(CUTS, st.randoms(use_true_random=False), st.sampled_from([None, ((1, 3),), ((0, 2),)]))
    def test_same_file(
        self, cuts: list[int], rng: random.Random, want: tuple[tuple[int, int], ...] | None
    ) -> None:
        """However pieces are cut, repeated and reordered among the messages, blocks and credit are the same."""
        receiver, told = make_receiver(3 * MIB), Told()
        request = receiver.get(told, ("a",), "v1", want)
        wanted, _ = named_blocks(request, header())
        pieces: list[tuple[int, int]] = []
        sent = 0
        for first, end in byte_ranges(wanted, SIZE):
            at = first
            while at < end:
                size = min(cuts[at % len(cuts)], end - at, BLOCK_SIZE - at % BLOCK_SIZE)
                pieces.append((at, size))
                at += size
            sent += end - first
        said = [digests(index) for run in wanted for index in range(*run)]
        rng.shuffle(said)
        messages: list[Message] = [header(), *said, End(1, ROOT, sent)]
        pieces += rng.choices(pieces, k=rng.randrange(8))
        rng.shuffle(pieces)
        receiver.size_received(1, SIZE)
        while messages or pieces:
            if messages and (not pieces or rng.random() < 0.4):
                receiver.message_received(messages.pop(0))
            else:
                at, size = pieces.pop()
                receiver.data_received(1, at, memoryview(self.CONTENT)[at : at + size])
        self.assertEqual(told.events[-1], ROOT)
        expected = [index for run in wanted for index in range(*run)]
        self.assertEqual(sorted(block.index for block in told.blocks), expected)
        for block in told.blocks:
            start = block.index * BLOCK_SIZE
            self.assertEqual(bytes(block.data), self.CONTENT[start : start + BLOCK_SIZE])
            block.release()
        crediting = receiver.crediting
        self.assertEqual(crediting.outstanding, 3 * MIB - sent)
        self.assertEqual((receiver._begun, receiver._runs), (0, 0))
        self.assertEqual(crediting.due(0.0), 3 * MIB + sent)


class CreditingTests(SynchronousTestCase):
    """How much may come."""

    def test_window(self) -> None:
        """Granted bytes and bytes in memory together never exceed the window, and credit is granted in steps."""
        crediting = CreditControl(RateLimit(None, 0.0), 0.0, 8000)
        self.assertEqual(crediting.granted, 8000)
        crediting.arrived = 8000
        crediting.release(8000 // STEPS - 1)
        self.assertIsNone(crediting.due(0.0))
        crediting.release(1)
        self.assertEqual(crediting.due(0.0), 9000)
        self.assertIsNone(crediting.due(0.0))
        self.assertIsNone(crediting.get_timer(0.0))

    def test_limit(self) -> None:
        """Under a limit no more is granted in any time than the rate allows, however fast the disk is."""
        rate = 100_000
        crediting = CreditControl(RateLimit(rate, 0.0, burst_min=LIMITED_STEP_MIN), 0.0)
        now, first = 0.0, crediting.granted
        while now < 60.0:
            size = crediting.outstanding
            crediting.arrived += size
            crediting.release(size)
            crediting.due(now)
            at = crediting.get_timer(now)
            assert at is not None
            now = max(at, now + 0.001)
        self.assertLessEqual(abs(crediting.granted - first - 60 * rate), rate)

    def test_limit_and_blocks(self) -> None:
        """A slow receiver grants on while a block is not whole: it needs no memory back for that."""
        crediting = CreditControl(RateLimit(10_000, 0.0, burst_min=LIMITED_STEP_MIN), 0.0)
        now = 0.0
        while crediting.arrived < BLOCK_SIZE:
            crediting.arrived = crediting.granted
            now += 0.2
            crediting.due(now)
            self.assertLess(now, 200)
        self.assertGreater(now, 90)

    def test_limit_and_nobody_sends(self) -> None:
        """While nothing arrives, the granted bytes are bounded, and no timer runs."""
        crediting = CreditControl(RateLimit(50_000, 0.0, burst_min=LIMITED_STEP_MIN), 0.0)
        for second in range(100):
            crediting.due(float(second))
        self.assertLessEqual(crediting.outstanding, 50_000)
        self.assertIsNone(crediting.get_timer(100.0))


class InFlightTests(SynchronousTestCase):
    """How many are on their way."""

    def test_small(self) -> None:
        """Small files are bounded in number, on their way and in memory, and in bytes."""
        flight = InFlight(small_max=2, unsaved_max=3, small_bytes=100)
        self.assertTrue(flight.admit_small(40))
        self.assertFalse(flight.admit_small(61))
        self.assertTrue(flight.admit_small(40))
        self.assertFalse(flight.admit_small(1))
        flight.small_arrived()
        self.assertTrue(flight.admit_small(1))
        flight.small_arrived()
        self.assertFalse(flight.admit_small(1))
        flight.small_left(40)
        self.assertTrue(flight.admit_small(1))

    def test_alone(self) -> None:
        """A file larger than the bound comes alone."""
        flight = InFlight(small_bytes=100)
        self.assertTrue(flight.admit_small(101))
        self.assertFalse(flight.admit_small(0))

    def test_large(self) -> None:
        """There are a few large files at once."""
        flight = InFlight(large_max=2)
        self.assertEqual([flight.admit_large() for _ in range(3)], [True, True, False])
        flight.large_left()
        self.assertTrue(flight.admit_large())


class BlockBuffersTests(SynchronousTestCase):
    """Memory that is used again."""

    def test_again(self) -> None:
        """Buffers of whole blocks are used again, a bounded number of them; short ones are as short as they can be."""
        buffers = BlockBuffers(kept_max=1)
        first, second = buffers.take(BLOCK_SIZE), buffers.take(SHORT + 1)
        buffers.give_back(first)
        buffers.give_back(second)
        self.assertIs(buffers.take(BLOCK_SIZE).buffer, first.buffer)
        self.assertIsNot(buffers.take(BLOCK_SIZE).buffer, second.buffer)
        self.assertEqual(len(buffers.take(4096).buffer), 4096)
        self.assertGreaterEqual(BUFFERS_KEPT_MAX * BLOCK_SIZE, CREDIT_WINDOW)
