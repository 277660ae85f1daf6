"""Tests of `p2pshare.core.receiver`, `credit` and `in_flight`."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.credit import CREDIT_WINDOW, LIMITED_STEP_MIN, STEPS, CreditControl
from p2pshare.core.in_flight import InFlight
from p2pshare.core.rate import RateLimit
from p2pshare.core.receiver import BUFFERS_KEPT_MAX, SHORT, ArrivedBlock, BlockBuffers, ReceiverCore
from p2pshare.errors import RemoteProtocolError
from p2pshare.wire.blocks import BLOCK_SIZE, block_count
from p2pshare.wire.session_messages import Message
from p2pshare.wire.transfer_messages import (
    RANGES_MAX,
    Block,
    End,
    Entry,
    EntryKind,
    Failed,
    Fault,
    Listing,
    Offer,
)

DIGEST = b"d" * 32
ROOT = b"r" * 32
SIZE = 2 * BLOCK_SIZE + 100
MIB = 1024 * 1024


class Told:
    """A receiver and lister that remembers."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.blocks: list[ArrivedBlock] = []

    def offered(self, offer: Offer) -> None:
        self.events.append(offer)

    def outgrown(self, offer: Offer) -> None:
        self.events.append(("outgrown", offer.size))

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


def offer(size: int = SIZE, version: str = "v1", number: int = 1) -> Offer:
    return Offer(number, size, 5, False, version)


def entry(*path: str, kind: EntryKind = EntryKind.FILE) -> Entry:
    return Entry(path, kind, 1, 2)


class TransferTests(SynchronousTestCase):
    """Legal and illegal messages about a file."""

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

    def ask(self, **options: Any) -> None:
        self.receiver.get(self.told, ("a",), **options)

    def test_whole_file(self) -> None:
        """Pieces become blocks, each with its bytes where they belong, and the file ends with its root."""
        self.ask()
        self.say(offer(), Block(1, 0, DIGEST))
        self.send(0, BLOCK_SIZE // 2, fill=1)
        self.assertEqual(self.receiver.filled(1), BLOCK_SIZE // 2)
        self.send(BLOCK_SIZE // 2, BLOCK_SIZE // 2, fill=2)
        self.say(Block(1, 1, DIGEST))
        self.send(BLOCK_SIZE, BLOCK_SIZE, fill=3)
        self.say(Block(1, 2, DIGEST))
        self.send(2 * BLOCK_SIZE, 100, fill=4)
        self.say(End(1, ROOT))
        self.assertEqual(self.told.events, [offer(), 0, 1, 2, ROOT])
        first, _, last = self.told.blocks
        half = BLOCK_SIZE // 2
        self.assertEqual(bytes(first.data), b"\1" * half + b"\2" * half)
        self.assertEqual((bytes(last.data), last.digest), (b"\4" * 100, DIGEST))
        self.assertFalse(self.receiver.busy)

    def test_empty_file(self) -> None:
        """A file without bytes has no block."""
        self.ask()
        self.say(offer(0), End(1, ROOT))
        self.assertEqual(self.told.events, [offer(0), ROOT])

    def test_some_is_there(self) -> None:
        """Blocks that are there are left out, if the version is still the one they are of."""
        self.ask(version="v1", have=((0, 1), (1, 2)))
        self.say(offer())
        self.refused(Block(1, 0, DIGEST))
        self.say(Block(1, 2, DIGEST))

    def test_all_is_there(self) -> None:
        """A file whose blocks are all present needs only its end."""
        message = self.receiver.get(self.told, ("a",), "v1", ((0, 3),))
        self.assertEqual((message.version, message.have), ("v1", ((0, 3),)))
        self.say(offer(), End(1, ROOT))
        self.assertEqual(self.told.events[-1], ROOT)

    def test_version_changed(self) -> None:
        """Blocks of another version do not count, so the whole file comes."""
        self.ask(version="v1", have=((0, 2),))
        self.say(offer(version="v2"))
        self.refused(Block(1, 2, DIGEST))
        self.say(Block(1, 0, DIGEST))

    def test_too_many_runs(self) -> None:
        """Only the first `RANGES_MAX` runs are sent, and blocks behind them come again."""
        runs = tuple((2 * index, 2 * index + 1) for index in range(RANGES_MAX + 5))
        message = self.receiver.get(self.told, ("a",), "v1", runs)
        self.assertEqual(message.have, runs[:RANGES_MAX])

    def test_outgrown(self) -> None:
        """A file that is larger than expected is reported, to be cancelled, and the rest of it is ignored."""
        self.ask(most=10)
        self.assertEqual(self.receiver.message_received(offer(11)), 1)
        self.say(Block(1, 0, DIGEST))
        self.send(0, 11)
        self.say(End(1, ROOT))
        self.assertEqual(self.told.events, [("outgrown", 11)])

    def test_out_of_turn(self) -> None:
        """Threat 6: messages in the wrong state are rejected: nothing before the offer, one offer, no block within
        another, no end while blocks are missing.
        """
        self.ask()
        self.refused(Block(1, 0, DIGEST))
        self.refused(End(1, ROOT))
        self.say(offer())
        self.refused(offer())
        self.refused(End(1, ROOT))
        self.refused(Block(1, 1, DIGEST))
        self.say(Block(1, 0, DIGEST))
        self.refused(Block(1, 1, DIGEST))
        self.refused(End(1, ROOT))

    def test_block_behind_the_end(self) -> None:
        """Threat 7: no memory is taken for a block that the file, by its size, has not."""
        self.ask()
        self.say(offer(0))
        self.refused(Block(1, 0, DIGEST))

    def test_pieces_out_of_place(self) -> None:
        """Threat 7: bytes lie where the last ones ended, within the block that was announced, or end the session."""
        self.ask()
        self.assertRaises(RemoteProtocolError, self.send, 0, 1)
        self.say(offer())
        self.assertRaises(RemoteProtocolError, self.send, 0, 1)
        self.say(Block(1, 0, DIGEST))
        for offset in (1, BLOCK_SIZE, 2**40):
            self.assertRaises(RemoteProtocolError, self.send, offset, 1)
        self.send(0, 10)
        with self.assertRaises(RemoteProtocolError):
            self.send(0, 10)

    def test_more_than_the_last_block(self) -> None:
        """Threat 10: a sharer that sends more than it announced is refused."""
        self.ask()
        self.say(offer(100), Block(1, 0, DIGEST))
        with self.assertRaises(RemoteProtocolError):
            self.send(0, 101)

    def test_more_than_credit(self) -> None:
        """Threat 7: more than there was credit for is refused, also of transfers that are over."""
        self.receiver = make_receiver(window=1000)
        self.ask()
        self.receiver.forget(1)
        self.send(0, 1000)
        with self.assertRaises(RemoteProtocolError):
            self.send(1000, 1001)

    def test_cancelled(self) -> None:
        """The rest of a cancelled transfer is ignored, and its credit is returned."""
        self.ask()
        self.say(offer(), Block(1, 0, DIGEST))
        self.send(0, 10)
        self.assertTrue(self.receiver.forget(1))
        self.assertFalse(self.receiver.forget(1))
        self.send(10, 20)
        self.say(Block(1, 1, DIGEST), End(1, ROOT), Failed(1, Fault.CHANGED))
        self.assertEqual(self.receiver.crediting.outstanding, CREDIT_WINDOW - 30)
        self.assertEqual(self.told.events, [offer()])

    def test_never_asked(self) -> None:
        """Answers to requests that do not exist are rejected."""
        self.ask()
        for message in (
            offer(number=2), Block(2, 0, DIGEST), End(0, ROOT), Failed(9, Fault.BUSY),
            Listing(1, (), False), Listing(2, (), False),
        ):  # fmt: skip
            self.refused(message)
        with self.assertRaises(RemoteProtocolError):
            self.send(0, 1, number=2)

    def test_failed(self) -> None:
        """A transfer may fail at any moment, also in the midst of a block."""
        self.ask()
        self.say(offer(), Block(1, 0, DIGEST))
        self.send(0, 10)
        self.say(Failed(1, Fault.CHANGED))
        self.assertEqual(self.told.events, [offer(), Fault.CHANGED])

    def test_interrupted(self) -> None:
        """All requests end when the session is lost."""
        self.ask()
        self.receiver.list(self.told, (), (), 10, False)
        self.say(offer(), Block(1, 0, DIGEST))
        self.receiver.interrupt()
        self.assertEqual(self.told.events[1:], ["interrupted", "interrupted"])
        self.assertFalse(self.receiver.busy)

    def test_numbers(self) -> None:
        """The numbers of one session are not those of the one before."""
        receiver = make_receiver(first_id=5)
        self.assertEqual(receiver.get(self.told, ("a",)).id, 5)
        self.assertEqual([number for number in range(9) if receiver.is_own(number)], [5])

    def test_achieved(self) -> None:
        """A block of a large file, an end and a final answer count as achieved; other messages do not."""
        self.ask()
        self.say(offer(), Block(1, 0, DIGEST))
        self.send(0, BLOCK_SIZE - 1)
        self.assertEqual(self.receiver.achieved, 0)
        self.send(BLOCK_SIZE - 1, 1)
        self.assertEqual(self.receiver.achieved, 1)
        self.ask()
        self.say(offer(5, number=2), Block(2, 0, DIGEST))
        self.send(0, 5, number=2)
        self.assertEqual(self.receiver.achieved, 1)
        self.say(End(2, ROOT))
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
        self.say(offer(100), Block(1, 0, DIGEST))
        self.send(0, 100)
        (block,) = self.told.blocks
        block.release()
        block.release()
        self.assertEqual(calls, [1])


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


WORDS = st.one_of(
    st.builds(
        Offer,
        st.integers(0, 4),
        st.sampled_from([0, 1, 100, BLOCK_SIZE, SIZE, 2**50]),
        st.just(0),
        st.booleans(),
        st.sampled_from(["v1", "v2"]),
    ),
    st.builds(Block, st.integers(0, 4), st.integers(0, 3), st.just(DIGEST)),
    st.builds(End, st.integers(0, 4), st.just(ROOT)),
    st.builds(Failed, st.integers(0, 4), st.sampled_from(Fault)),
    st.builds(Listing, st.integers(0, 4), st.just(()), st.booleans()),
    st.tuples(
        st.integers(0, 4),
        st.sampled_from([0, 1, 100, BLOCK_SIZE, 2 * BLOCK_SIZE]),
        st.sampled_from([1, 99, 100, 256 * 1024]),
    ),
)


class LyingSharerTests(SynchronousTestCase):
    """A sharer that sends anything."""

    @given(st.lists(WORDS, max_size=25))
    def test_anything(self, words: list[Any]) -> None:
        """Threats 6 and 7: any message is accepted or raises `RemoteProtocolError`. No file ends without all its
        blocks, and memory stays within the window and a block for each transfer.
        """
        receiver, told = make_receiver(window=MIB), [Told(), Told(), Told()]
        receiver.get(told[0], ("a",))
        receiver.get(told[1], ("b",), "v1", ((0, 1),), None)
        receiver.get(told[2], ("c",), most=100)
        try:
            for word in words:
                if isinstance(word, Message):
                    receiver.message_received(word)
                else:
                    number, offset, size = word
                    receiver.data_received(number, offset, memoryview(bytes(size)))
        except RemoteProtocolError:
            pass
        self.assertLessEqual(sum(len(b.data) for each in told for b in each.blocks), MIB)
        for each in told:
            if ROOT in each.events:
                offered = next(event for event in each.events if isinstance(event, Offer))
                had = 1 if each is told[1] and offered.version == "v1" and offered.size else 0
                self.assertEqual(len(each.blocks), block_count(offered.size) - had)

    @given(st.lists(st.integers(20_000, 256 * 1024), min_size=1, max_size=40))
    def test_any_cut(self, sizes: list[int]) -> None:
        """However a file is cut into pieces, its blocks are the same."""
        receiver, told = make_receiver(), Told()
        content = random.Random(3).randbytes(SIZE)
        receiver.get(told, ("a",))
        receiver.message_received(offer())
        for index in range(3):
            receiver.message_received(Block(1, index, DIGEST))
            at, end = index * BLOCK_SIZE, min(SIZE, (index + 1) * BLOCK_SIZE)
            while at < end:
                size = min(sizes[at % len(sizes)], end - at)
                receiver.data_received(1, at, memoryview(content)[at : at + size])
                at += size
        self.assertEqual(b"".join(block.data for block in told.blocks), content)


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
        self.assertIs(buffers.take(BLOCK_SIZE), first)
        self.assertIsNot(buffers.take(BLOCK_SIZE), second)
        self.assertEqual(len(buffers.take(4096)), 4096)
        self.assertGreaterEqual(BUFFERS_KEPT_MAX * BLOCK_SIZE, CREDIT_WINDOW)
