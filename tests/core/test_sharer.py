"""Tests of `p2pshare.core.sharer`, with files in memory and peers that ask for anything."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.sharer import SharerCore
from p2pshare.core.sharer_transfers import (
    CloseWork,
    DigestWork,
    FinishWork,
    JobTold,
    ListWork,
    OpenWork,
    Outcome,
    PreviewWork,
    ReadBlock,
    ReadWork,
    SharerLimits,
    Transfer,
    TransferEnded,
    TransferStarted,
    Work,
)
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import BLOCK_SIZE, block_length
from p2pshare.wire.frames import PIECE_MAX
from p2pshare.wire.session_messages import Credit, Message, Ping
from p2pshare.wire.transfer_messages import (
    Cancel,
    Cancelled,
    Digests,
    Done,
    End,
    Entry,
    EntryKind,
    Failed,
    Fault,
    FileHeader,
    Get,
    Job,
    List,
    Listing,
    Stopped,
)
from tests import examples

MIB = BLOCK_SIZE
_ZEROS = bytes(MIB)  # what every file here holds: only sizes matter
RICH = Credit(2**50)


def digest(index: int) -> bytes:
    return index.to_bytes(32, "big")


@dataclass
class Sharer:
    """A core with files in memory, named by their sizes, that keeps its output."""

    limits: SharerLimits = field(default_factory=SharerLimits)
    broken: dict[tuple[str, ...], Fault] = field(default_factory=dict)
    pending: list[Work] = field(default_factory=list)
    out: list[Message | tuple[int, int, int]] = field(default_factory=list)
    ended: list[Transfer] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    opened: set[Transfer] = field(default_factory=set)

    def __post_init__(self) -> None:  # noqa: D105
        self.core = SharerCore(self.limits)

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.core.receive_message(message)

    def collect(self) -> None:
        """Take the work that is handed out, and check its bounds."""
        while (work := self.core.next_work()) is not None:
            if isinstance(work, CloseWork):
                self.opened.remove(work.transfer)
            else:
                self.pending.append(work)
        reads = [each for each in self.pending if isinstance(each, ReadWork)]
        busy = [each.transfer for each in reads]
        assert len(set(busy)) == len(busy), "two work with one file"
        assert len(reads) <= self.limits.reads_at_once
        previews = [each for each in self.pending if isinstance(each, PreviewWork)]
        assert len(previews) <= self.limits.previews_at_once
        assert len(self.opened) <= self.limits.open_files
        while (event := self.core.next_event()) is not None:
            match event:
                case TransferEnded(transfer):
                    self.ended.append(transfer)
                case JobTold(job):
                    self.jobs.append(job)
                case TransferStarted(transfer):
                    assert transfer.header is not None

    def work(self, work: Work) -> None:
        """Do the work that was handed out."""
        match work:
            case OpenWork():
                self.open(work)
            case PreviewWork(transfer):
                if fault := self.broken.get(transfer.request.path):
                    self.core.failed(transfer, fault)
                    return
                header = FileHeader(transfer.id, transfer.request.preview, 0, False, "v1")
                block = ReadBlock(0, _ZEROS[: header.size], digest(0))
                self.core.opened_whole(transfer, header, block, b"r" * 32)
            case ReadWork(transfer, indexes):
                if fault := self.broken.get(("read", *transfer.request.path)):
                    self.core.failed(transfer, fault)
                    return
                size = transfer.header.size if transfer.header else 0
                blocks = [ReadBlock(i, _ZEROS[: block_length(size, i)], digest(i)) for i in indexes]
                self.core.blocks_read(transfer, blocks)
            case DigestWork(_, indexes):
                self.core.digested(work, [digest(index) for index in indexes])
            case FinishWork(transfer):
                if fault := self.broken.get(("finish", *transfer.request.path)):
                    self.core.failed(transfer, fault)
                else:
                    self.core.finished(transfer, b"r" * 32)
            case ListWork(request):
                if fault := self.broken.get(request.path):
                    self.core.list_failed(request, fault)
                else:
                    entry = Entry(("x",), EntryKind.FILE, 1, 0)
                    self.core.listed(request, [entry], more=False)

    def open(self, work: OpenWork) -> None:
        small, large = work.small_bytes, work.large_files
        assert small >= BLOCK_SIZE
        for transfer in work.transfers:
            path = transfer.request.path
            if (fault := self.broken.get(path)) is not None:
                self.core.failed(transfer, fault)
                continue
            size = int(path[0])
            header = FileHeader(transfer.id, size, 0, False, "v1")
            if size > BLOCK_SIZE:
                if large:
                    large -= 1
                    self.opened.add(transfer)
                    self.core.opened(transfer, header)
                else:
                    self.core.too_large(transfer)
            elif size <= small:
                small -= size
                block = ReadBlock(0, _ZEROS[:size], digest(0)) if size else None
                self.core.opened_whole(transfer, header, block, b"r" * 32)
        self.core.batch_done(work)

    def send(self, pieces: int = 10**9, piece_max: int = PIECE_MAX) -> None:
        """Let messages and so many pieces go out."""
        while True:
            if (message := self.core.next_message()) is not None:
                self.out.append(message)
                continue
            size = min(self.core.piece_size(), piece_max)
            if not size or not pieces:
                return
            pieces -= 1
            piece = self.core.take_piece(size)
            assert len(piece.data) == size
            self.out.append((piece.transfer.id, piece.offset, size))

    def digests(self, number: int) -> list[int]:
        """Return the blocks of a transfer whose digests went out, in this order."""
        said = [each for each in self.out if isinstance(each, Digests) and each.id == number]
        for each in said:
            expected = tuple(digest(each.first + at) for at in range(len(each.digests)))
            assert each.digests == expected
        return [each.first + at for each in said for at in range(len(each.digests))]

    def counted(self) -> dict[int, int]:
        """Return the bytes that went out, by transfer."""
        counted: dict[int, int] = {}
        for each in self.out:
            if isinstance(each, tuple):
                counted[each[0]] = counted.get(each[0], 0) + each[2]
        return counted

    def run(self) -> None:
        """Do all work and send everything, until nothing more happens."""
        while True:
            before = len(self.out)
            self.collect()
            pending, self.pending = self.pending, []
            for work in pending:
                self.work(work)
            self.send()
            self.collect()
            if not self.pending and len(self.out) == before:
                return

    def words(self) -> list[str]:
        """Return the output in short."""
        return [
            f"{each[0]}+{each[2]}" if isinstance(each, tuple) else f"{each.WORD} {each.id}"  # type: ignore[attr-defined]
            for each in self.out
        ]

    def outcomes(self) -> dict[int, Outcome | None]:
        return {each.id: each.outcome for each in self.ended}

    def kept(self) -> tuple[int, ...]:
        """Return everything that the core still holds; nothing when all is over."""
        core = self.core
        outflow = core._outflow
        return (
            len(core._transfers), len(core._lists), len(core._readers), core._reads, core._reading,
            core._open_files, core._listing, outflow.blocks_held, outflow.small_bytes_held,
            len(outflow._turns), len(self.opened), len(core._waiting), len(core._large),
            len(core._previews),
        )  # fmt: skip


def get(number: int, size: int, **fields: object) -> Get:
    return Get(number, (str(size),), **fields)  # type: ignore[arg-type]


class TransferTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sharer = Sharer()

    def test_small(self) -> None:
        """A small file is a header, a block, its bytes and an end; then the opener confirms it."""
        self.sharer.say(RICH, get(1, 5))
        self.sharer.run()
        self.assertEqual(self.sharer.words(), ["file 1", "digests 1", "1+5", "end 1"])
        self.assertEqual(self.sharer.outcomes(), {})
        self.sharer.say(Done((1,)))
        self.sharer.run()
        self.assertEqual(self.sharer.outcomes(), {1: Outcome.CONFIRMED})
        self.assertFalse(any(self.sharer.kept()))

    def test_empty(self) -> None:
        """An empty file has no block, and needs no credit."""
        self.sharer.say(get(1, 0))
        self.sharer.run()
        self.assertEqual(self.sharer.words(), ["file 1", "end 1"])

    def test_large(self) -> None:
        """A large file goes out block by block in ascending order, in pieces that lie in one block each."""
        self.sharer.say(RICH, get(1, 3 * MIB + 1))
        self.sharer.run()
        self.assertEqual(self.sharer.digests(1), [0, 1, 2, 3])
        at = 0
        for each in self.sharer.out:
            if isinstance(each, tuple):
                self.assertEqual(each[1], at)
                self.assertEqual(at // MIB, (at + each[2] - 1) // MIB)
                at += each[2]
        self.assertEqual(at, 3 * MIB + 1)
        self.assertIsInstance(self.sharer.out[-1], End)
        self.assertEqual(len(self.sharer.opened), 0, "it is closed before it is confirmed")

    def test_preview(self) -> None:
        """A preview goes out like a small file; the file itself is not opened."""
        sharer = Sharer(SharerLimits(previews_at_once=1))
        sharer.say(RICH, get(1, 3 * MIB, preview=64), get(2, 5, preview=512))
        sharer.collect()
        self.assertEqual([type(each) for each in sharer.pending], [PreviewWork])
        sharer.run()
        self.assertEqual(
            sharer.words(),
            ["file 1", "digests 1", "1+64", "end 1", "file 2", "digests 2", "2+512", "end 2"],
        )

    def test_many_previews(self) -> None:
        """A few previews are made at once, and the next one when one of them is done, also if nobody wants it."""
        most = self.sharer.limits.previews_at_once
        self.sharer.say(RICH, *(get(number, 1, preview=64) for number in range(most + 3)))
        self.sharer.collect()
        self.assertEqual(len(self.sharer.pending), most)
        self.sharer.say(Cancel(0, Cancelled.BY_USER))
        self.sharer.collect()
        self.assertEqual(len(self.sharer.pending), most)
        self.sharer.run()
        self.assertEqual(sum(isinstance(each, End) for each in self.sharer.out), most + 2)

    def test_no_preview(self) -> None:
        """A file without a preview fails, and one that is cancelled while its preview is made is forgotten."""
        sharer = Sharer(broken={("gone",): Fault.NO_PREVIEW})
        sharer.say(RICH, Get(1, ("gone",), preview=64), get(2, 1, preview=64))
        sharer.run()
        self.assertEqual(sharer.out[0], Failed(1, Fault.NO_PREVIEW))
        sharer.say(get(3, 1, preview=64), get(4, 1, preview=64))
        sharer.collect()
        sharer.say(Cancel(3, Cancelled.BY_USER), Cancel(4, Cancelled.BY_USER))
        sharer.say(Done((2,)))
        sharer.run()
        self.assertFalse(any(sharer.kept()))

    def test_resumed(self) -> None:
        """Blocks that the opener does not want are hashed and not sent; progress counts sent bytes."""
        for number, version in ((1, "v1"), (2, "")):
            want = ((2, 3), (4, 5), (9, 99))
            self.sharer.say(RICH, get(number, 5 * MIB, version=version, want=want))
            self.sharer.run()
            self.assertEqual(self.sharer.digests(number), [2, 4])
            self.assertEqual(self.sharer.out[-1], End(number, b"r" * 32, 2 * MIB))
        self.sharer.say(Done((1,)))
        self.sharer.run()
        (transfer,) = self.sharer.ended
        self.assertEqual((transfer.sent, transfer.to_send), (2 * MIB, 2 * MIB))

    def test_resumed_other_version(self) -> None:
        """All blocks of another version are sent, and none of their digests ahead."""
        named = {"version": "v0", "want": ((1, 2),), "digests": ((0, 2),)}
        self.sharer.say(RICH, get(1, 2 * MIB, **named), get(2, 7, **named))
        self.sharer.say(get(3, 7, version="v1", want=()))
        self.sharer.run()
        self.assertEqual(self.sharer.counted(), {1: 2 * MIB, 2: 7})
        self.assertEqual([self.sharer.digests(number) for number in (1, 2, 3)], [[0, 1], [0], []])
        at = self.sharer.words().index("digests 1")
        self.assertEqual(self.sharer.words()[at + 1], f"1+{PIECE_MAX}")

    def test_no_root(self) -> None:
        """Of a part of a file nothing else is read, and it is not confirmed; the file may have changed meanwhile."""
        self.sharer.say(RICH, get(1, 99 * MIB, want=((2, 4),), root=False))
        self.sharer.run()
        self.assertEqual(self.sharer.digests(1), [2, 3])
        self.assertEqual(self.sharer.out[-1], End(1, b"", 2 * MIB))
        (transfer,) = self.sharer.ended
        self.assertEqual((transfer.outcome, len(transfer.unhashed)), (Outcome.UNCONFIRMED, 0))
        self.sharer.say(get(2, 7, root=False))
        self.sharer.run()
        self.assertEqual(self.sharer.out[-1], End(2, b"", 7))

    def test_digests_ahead(self) -> None:
        """Digests that are asked for go out first, those of blocks that are not wanted too, each once."""
        ahead = ((0, 3), (5, 40))
        self.sharer.say(RICH, get(1, 30 * MIB, version="v1", want=((2, 4),), digests=ahead))
        self.sharer.say(get(2, 7, version="v1", want=(), digests=((0, 9),)))
        self.sharer.say(get(3, 7, version="v1", digests=((0, 9),)), get(4, 0, digests=((0, 1),)))
        self.sharer.run()
        self.assertEqual(self.sharer.digests(1), [0, 1, 2, *range(5, 30), 3])
        self.assertEqual([self.sharer.digests(number) for number in (2, 3, 4)], [[0], [0], []])
        self.assertEqual(self.sharer.counted(), {1: 2 * MIB, 3: 7})
        self.assertFalse(any(self.sharer.kept()[1:]))

    def test_digests_need_no_credit(self) -> None:
        """Digests that are asked for go out without credit, as long as the opener reads; the file ends after them."""
        self.sharer.say(get(1, 99 * MIB, want=(), digests=((0, 99),)))
        self.sharer.collect()
        self.sharer.work(self.sharer.pending.pop())
        for _ in range(3):
            self.sharer.collect()
            self.sharer.pending, pending = [], self.sharer.pending
            for work in pending:
                self.sharer.work(work)
        (transfer,) = self.sharer.core._transfers.values()
        assert transfer.digests is not None
        self.assertEqual(len(transfer.digests.digests), SharerLimits().digest_batch)
        self.sharer.run()
        self.assertEqual(self.sharer.digests(1), [*range(99)])
        self.assertEqual(self.sharer.out[-1], End(1, b"r" * 32, 0))

    def test_halves(self) -> None:
        """The two halves of a file are all of it, whatever the blocks are of which they consist."""
        want = (((0, 2), (4, 5)), ((2, 4), (5, 6)))
        for number, each in enumerate(want):
            self.sharer.say(RICH, get(number, 6 * MIB - 5, want=each))
        self.sharer.run()
        self.assertEqual(sorted(self.sharer.digests(0) + self.sharer.digests(1)), [*range(6)])
        self.assertEqual(sum(self.sharer.counted().values()), 6 * MIB - 5)

    def test_failed(self) -> None:
        """A missing file, or one that changes while it is read, fails; the other transfers continue."""
        self.sharer.broken = {
            ("gone",): Fault.NOT_FOUND,
            ("read", str(2 * MIB)): Fault.UNREADABLE,
            ("finish", str(3 * MIB)): Fault.CHANGED,
        }
        self.sharer.say(RICH, Get(1, ("gone",)), get(2, 2 * MIB), get(3, 3 * MIB), get(4, 4))
        self.sharer.run()
        failed = {each.id: each.why for each in self.sharer.out if isinstance(each, Failed)}
        expected = {1: Fault.NOT_FOUND, 2: Fault.UNREADABLE, 3: Fault.CHANGED}
        self.assertEqual(failed, expected)
        self.assertIn("end 4", self.sharer.words())
        self.assertEqual({each.id: each.why for each in self.sharer.ended}, expected)
        self.assertFalse(any(self.sharer.kept()))

    def test_top(self) -> None:
        """The top is a folder, which cannot be got."""
        self.sharer.say(Get(1, ()))
        self.sharer.run()
        self.assertEqual(self.sharer.out, [Failed(1, Fault.IS_FOLDER)])

    def test_job(self) -> None:
        """The opener's job is reported."""
        self.sharer.say(Job("all", 3, 5))
        self.sharer.run()
        self.assertEqual(self.sharer.jobs, [Job("all", 3, 5)])

    def test_out_of_place(self) -> None:
        """A message that an opener may not send ends the session (threat 6)."""
        with self.assertRaises(RemoteProtocolError):
            self.sharer.say(Ping())


class CreditTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sharer = Sharer()

    def sent(self) -> int:
        return sum(each[2] for each in self.sharer.out if isinstance(each, tuple))

    def test_within(self) -> None:
        """No more goes out than there is credit for, over all transfers together; headers go out without it."""
        self.sharer.say(get(1, 2 * MIB), get(2, 10))
        self.sharer.run()
        self.assertEqual(self.sharer.words(), ["file 1", "file 2"])
        self.sharer.say(Credit(300_000))
        self.sharer.run()
        self.assertEqual(self.sent(), 300_000)
        self.sharer.say(Credit(2 * MIB + 10))
        self.sharer.run()
        self.assertEqual(self.sent(), 2 * MIB + 10)
        self.assertTrue({"end 1", "end 2"} < set(self.sharer.words()))

    def test_never_less(self) -> None:
        """Credit counts from the beginning, and never decreases."""
        self.sharer.say(Credit(1000), Credit(10), get(1, 2000))
        self.sharer.run()
        self.assertEqual(self.sent(), 1000)

    def test_no_credit(self) -> None:
        """A peer that requests much and grants nothing costs a bounded amount of memory and files (threat 7)."""
        for number in range(200):
            self.sharer.say(get(number, 40 * MIB if number % 2 else 900_000))
        self.sharer.run()
        outflow = self.sharer.core._outflow
        limits = self.sharer.limits
        self.assertEqual(self.sent(), 0)
        self.assertLessEqual(outflow.blocks_held, limits.read_ahead)
        self.assertLessEqual(outflow.small_bytes_held, limits.small_bytes)
        self.assertLessEqual(len(self.sharer.opened), limits.open_files)
        self.sharer.say(RICH)
        self.sharer.run()
        ends = [each for each in self.sharer.out if isinstance(each, End)]
        self.assertEqual(len(ends), 200, "nothing was lost by waiting")

    def test_pieces_of_credit(self) -> None:
        """Credit of single bytes is used in single bytes."""
        self.sharer.say(get(1, 5))
        for credit in range(1, 6):
            self.sharer.say(Credit(credit))
            self.sharer.run()
            self.assertEqual(self.sent(), credit)
        self.assertEqual(self.sharer.words()[-1], "end 1")


class TurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sharer = Sharer()

    def test_small_ones_are_not_starved(self) -> None:
        """A small file that is requested during a large one comes after one or two of its pieces."""
        self.sharer.say(RICH, get(1, 100 * MIB))
        self.step()
        self.sharer.send(pieces=1)
        self.sharer.say(get(2, 10))
        self.step()
        self.sharer.send(pieces=4)
        self.assertIn("end 2", self.sharer.words())

    def step(self) -> None:
        """Do the current work, and nothing that follows from it."""
        for _ in range(2):
            self.sharer.collect()
            pending, self.sharer.pending = self.sharer.pending, []
            for work in pending:
                self.sharer.work(work)

    def test_large_ones_share(self) -> None:
        """Two large files advance at the same rate."""
        self.sharer.say(RICH, get(1, 8 * MIB), get(2, 8 * MIB))
        for _ in range(12):
            self.step()
            self.sharer.send(pieces=2)
        sent = {1: 0, 2: 0}
        for each in self.sharer.out:
            if isinstance(each, tuple):
                sent[each[0]] += each[2]
        self.assertLessEqual(abs(sent[1] - sent[2]), 2 * MIB)
        self.assertTrue(all(sent.values()))

    def test_many_large(self) -> None:
        """Of more large files than may be open, some wait, while small ones go on; in the end all have come."""
        for number in range(30):
            self.sharer.say(get(number, 2 * MIB))
        self.sharer.say(RICH, get(99, 10))
        self.sharer.collect()
        self.sharer.run()
        ends = [each.id for each in self.sharer.out if isinstance(each, End)]
        self.assertEqual(sorted(ends), [*range(30), 99])
        self.assertLess(ends.index(99), 9)
        self.assertFalse(any(self.sharer.kept()))

    def test_few_open_files(self) -> None:
        """Where the machine has few open files, fewer are open at once, but at least one."""
        for count, most in ((3, 3), (0, 1), (99, SharerLimits().open_files)):
            sharer = Sharer()
            sharer.core.restrict_open_files(count)
            sharer.say(RICH, *(get(number, 2 * MIB) for number in range(12)))
            opened = 0
            while not opened or sharer.pending:
                sharer.collect()
                opened = max(opened, len(sharer.opened))
                sharer.work(sharer.pending.pop(0))
                sharer.collect()
                opened = max(opened, len(sharer.opened))
                sharer.send()
                sharer.collect()
            self.assertEqual(opened, most)
            ends = [each.id for each in sharer.out if isinstance(each, End)]
            self.assertEqual(sorted(ends), [*range(12)])

    def test_batches(self) -> None:
        """Small files are opened in batches; requests during a batch form the next one."""
        self.sharer.say(RICH, get(1, 10))
        self.sharer.collect()
        (first,) = self.sharer.pending
        for number in range(2, 50):
            self.sharer.say(get(number, 10))
        self.sharer.collect()
        self.assertEqual(self.sharer.pending, [first])
        self.sharer.pending = []
        self.sharer.work(first)
        self.sharer.collect()
        (second,) = self.sharer.pending
        assert isinstance(second, OpenWork)
        self.assertEqual([each.id for each in second.transfers], list(range(2, 50)))

    def test_reads_ahead(self) -> None:
        """While nothing goes out, a few blocks are read ahead; each block that goes out makes room for one."""
        self.sharer.say(RICH, get(1, 50 * MIB))
        for _ in range(10):
            self.step()
        self.assertEqual(self.sharer.core._outflow.blocks_held, self.sharer.limits.read_ahead)
        self.sharer.send(pieces=4)
        self.sharer.collect()
        (work,) = self.sharer.pending
        assert isinstance(work, ReadWork)
        self.assertEqual(work.indexes, range(4, 5))


class EndTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sharer = Sharer()

    def test_unknown(self) -> None:
        """Done and Cancel of an unknown or finished transfer are ignored."""
        self.sharer.say(Done((1, 2)), Cancel(3, Cancelled.BY_USER), RICH, get(1, 10), Done((1,)))
        self.sharer.run()
        self.sharer.say(Done((1,)), Done((1,)), Cancel(1, Cancelled.DISK))
        self.sharer.run()
        self.assertEqual(self.sharer.outcomes(), {1: Outcome.CONFIRMED})

    def test_cancelled(self) -> None:
        """A cancelled transfer ends at any point, and its file is closed."""
        for steps in range(6):
            sharer = Sharer()
            sharer.say(Credit(MIB), get(1, 9 * MIB))
            for _ in range(steps):
                sharer.collect()
                pending, sharer.pending = sharer.pending, []
                for work in pending[:1]:
                    sharer.work(work)
                sharer.pending += pending[1:]
                sharer.send(pieces=1)
            sharer.collect()
            sharer.say(Cancel(1, Cancelled.DISK))
            sharer.run()
            (transfer,) = sharer.ended
            self.assertEqual(transfer.outcome, Outcome.CANCELLED, str(steps))
            self.assertEqual(transfer.why, Cancelled.DISK)
            self.assertFalse(any(sharer.kept()), f"{steps}: {sharer.kept()}")
            self.assertNotIn("end 1", sharer.words())
            self.assertEqual(sharer.out[-1], Stopped(1, sharer.counted().get(1, 0)))

    def test_cancelled_after_the_end(self) -> None:
        """A transfer whose end was sent can still be cancelled."""
        self.sharer.say(RICH, get(1, 10))
        self.sharer.run()
        self.sharer.say(Cancel(1, Cancelled.CORRUPT))
        self.sharer.run()
        self.assertEqual(self.sharer.outcomes(), {1: Outcome.CANCELLED})
        self.assertEqual(self.sharer.words()[-1], "end 1", "it has answered already")

    def test_closed(self) -> None:
        """At the end of the session all files are closed, also those that a thread opens later, and all transfers are
        reported.
        """
        self.sharer.say(RICH, get(1, 10), get(2, 2 * MIB))
        self.sharer.run()
        self.sharer.say(get(3, 9 * MIB), get(4, 10), List(5, ()), Done((1,)))
        self.sharer.collect()
        pending = self.sharer.pending
        self.sharer.core.close()
        for work in pending:
            self.sharer.work(work)
        self.sharer.pending = []
        self.sharer.run()
        self.assertEqual(
            self.sharer.outcomes(),
            {
                1: Outcome.CONFIRMED,
                2: Outcome.UNCONFIRMED,
                3: Outcome.INTERRUPTED,
                4: Outcome.INTERRUPTED,
            },
        )
        self.assertEqual(self.sharer.opened, set())
        self.assertIsNone(self.sharer.core.next_message())

    def test_unconfirmed_bound(self) -> None:
        """The number of unconfirmed files is bounded; beyond it the oldest are reported as unconfirmed."""
        sharer = Sharer(SharerLimits(unconfirmed=3))
        for number in range(5):
            sharer.say(get(number, 0))
        sharer.run()
        self.assertEqual(sharer.outcomes(), {0: Outcome.UNCONFIRMED, 1: Outcome.UNCONFIRMED})


class BoundTests(SynchronousTestCase):
    def test_number_in_use(self) -> None:
        """A number that is in use, for a file or a list, cannot be used again before the end (threat 6)."""
        for first in (get(1, 10), List(1, ())):
            for second in (get(1, 10), List(1, ())):
                sharer = Sharer()
                sharer.say(first)
                with self.assertRaisesRegex(RemoteProtocolError, "number 1 is in use"):
                    sharer.say(second)

    def test_number_again(self) -> None:
        """After the end it can be; the file before counts as unconfirmed then."""
        sharer = Sharer()
        sharer.say(RICH, get(1, 10))
        sharer.run()
        sharer.say(get(1, 11))
        sharer.run()
        self.assertEqual(sharer.outcomes(), {1: Outcome.UNCONFIRMED})
        self.assertEqual(sharer.words().count("end 1"), 2)

    def test_too_many_transfers(self) -> None:
        """Beyond a number of transfers the answer is that there are too many (threat 7)."""
        sharer = Sharer(SharerLimits(transfers=3))
        sharer.say(*[get(number, 10) for number in range(5)])
        sharer.send()
        self.assertEqual(sharer.out, [Failed(3, Fault.BUSY), Failed(4, Fault.BUSY)])
        sharer.say(RICH)
        sharer.run()
        sharer.say(get(5, 10))
        sharer.run()
        self.assertIn("end 5", sharer.words())

    def test_too_many_lists(self) -> None:
        """Lists are bounded, too; few are made at a time, and no more while those before wait to be sent."""
        sharer = Sharer(SharerLimits(lists=5, lists_at_once=2))
        sharer.say(*[List(number, ()) for number in range(7)])
        sharer.collect()
        self.assertEqual(len(sharer.pending), 2)
        pending, sharer.pending = sharer.pending, []
        for work in pending:
            sharer.work(work)
        sharer.collect()
        self.assertEqual(sharer.pending, [])
        sharer.run()
        answers = {each.id: type(each) for each in sharer.out if isinstance(each, Listing | Failed)}
        self.assertEqual(answers, {**dict.fromkeys(range(5), Listing), 5: Failed, 6: Failed})

    def test_list_failed(self) -> None:
        """A list of a missing folder fails."""
        sharer = Sharer(broken={("gone",): Fault.NOT_FOUND})
        sharer.say(List(1, ("gone",)))
        sharer.run()
        self.assertEqual(sharer.out, [Failed(1, Fault.NOT_FOUND)])
        self.assertFalse(any(sharer.kept()))

    def test_reads_no_answers(self) -> None:
        """An opener that sends requests without reading answers ends the session (threat 7)."""
        sharer = Sharer(SharerLimits(answers=10))
        with self.assertRaisesRegex(RemoteProtocolError, "without reading"):
            for number in range(12):
                sharer.say(Get(number, ()))


LIMITS = SharerLimits(transfers=6, lists=2, open_files=2, batch=3, unconfirmed=4, answers=10**6)
SIZES = (0, 1, 4096, MIB, MIB + 1, 3 * MIB)
NUMBERS = st.integers(0, 8)
SAID = st.one_of(
    st.builds(get, NUMBERS, st.sampled_from(SIZES)),
    st.builds(get, NUMBERS, st.sampled_from(SIZES), version=st.sampled_from(["v1", "v0", ""]),
              want=st.sampled_from([None, (), ((0, 1),), ((1, 3),)]),
              digests=st.sampled_from([(), ((0, 1),), ((2, 9),)])),
    st.builds(lambda n: Get(n, ("gone",)), NUMBERS),
    st.builds(get, NUMBERS, st.sampled_from(SIZES), preview=st.sampled_from([64, 512])),
    st.builds(lambda n: Get(n, ("gone",), preview=64), NUMBERS),
    st.builds(lambda n: List(n, ()), NUMBERS),
    st.builds(Credit, st.integers(0, 12 * MIB)),
    st.builds(lambda ids: Done(tuple(ids)), st.lists(NUMBERS, min_size=1, max_size=3)),
    st.builds(Cancel, NUMBERS, st.sampled_from(Cancelled)),
)  # fmt: skip
STEP = st.one_of(SAID, st.sampled_from(["work", "send"]))


class AnythingTests(SynchronousTestCase):
    @settings(max_examples=examples(150))
    @given(st.lists(STEP, max_size=60), st.integers(0, 2**32), st.booleans())
    def test_any_order(self, steps: list[Message | str], seed: int, closes: bool) -> None:
        """For any messages and any order of work, bounds hold, no answer is lost, and nothing leaks."""
        sharer = Sharer(LIMITS, {("gone",): Fault.NOT_FOUND})
        rng = random.Random(seed)
        asked = credit = 0
        for step in steps:
            if isinstance(step, Message):
                try:
                    sharer.say(step)
                except RemoteProtocolError:
                    continue
                asked += isinstance(step, Get | List)
                credit = max(credit, step.bytes if isinstance(step, Credit) else 0)
            elif step == "work":
                sharer.collect()
                if sharer.pending:
                    sharer.work(sharer.pending.pop(rng.randrange(len(sharer.pending))))
            else:
                sharer.send(rng.randrange(5), rng.choice([1, 1000, PIECE_MAX]))
            self.check(sharer, credit)
        if closes:
            sharer.core.close()
            sharer.run()
            self.assertEqual(len(sharer.opened), 0)
            self.assertFalse(sharer.core._transfers or sharer.core._unconfirmed)
            return
        sharer.say(RICH)
        sharer.run()
        self.assertFalse(any(sharer.kept()), sharer.kept())
        answers = [
            each for each in sharer.out if isinstance(each, End | Failed | Listing | Stopped)
        ]
        self.assertEqual(len(answers), asked)
        sent = sum(each.sent for each in answers if not isinstance(each, Listing))
        self.assertEqual(sent, sum(sharer.counted().values()))

    def check(self, sharer: Sharer, credit: int) -> None:
        outflow = sharer.core._outflow
        self.assertLessEqual(sharer.core._reading + outflow.blocks_held, LIMITS.read_ahead)
        self.assertTrue(0 <= outflow.small_bytes_held <= LIMITS.small_bytes)
        self.assertLessEqual(len(sharer.core._transfers), LIMITS.transfers)
        self.assertLessEqual(len(sharer.core._unconfirmed), LIMITS.unconfirmed)
        self.assertLessEqual(sum(e[2] for e in sharer.out if isinstance(e, tuple)), credit)
