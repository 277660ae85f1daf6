"""Tests of jobs whose blocks and pieces come in any order, and of what is requested after a break."""

from __future__ import annotations

import random
from collections.abc import Iterable
from unittest.mock import patch

from p2pshare.core.wanted_blocks import named_blocks
from p2pshare.peer.fetch import large_files
from p2pshare.storage.incoming.journal import PartJournal
from p2pshare.wire.blocks import BLOCK_SIZE, digest_of, root_of
from p2pshare.wire.transfer_messages import Cancel, Cancelled, Digests, End, Get, Runs
from tests.peer.fetch.test_job import LARGE, JobTestCase
from tests.peer.memory_sharer import MemorySession, give, header_of

BLOCKS = [LARGE[at : at + BLOCK_SIZE] for at in range(0, len(LARGE), BLOCK_SIZE)]


def give_block(session: MemorySession, get: Get, index: int, digest: bytes = b"") -> None:
    """Send a block and its digest."""
    session.after_data(Digests(get.id, index, (digest or digest_of(BLOCKS[index]),)))
    session.data(get.id, index * BLOCK_SIZE, BLOCKS[index])


class AnyOrderTests(JobTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.alice.put("s/large", LARGE)

    def wants(self) -> list[Runs | None]:
        """Return the blocks that were wanted in each request."""
        return [each.want for each in self.alice.gets()]

    def only(self, indexes: Iterable[int]) -> None:
        """Let alice send only these blocks, in this order, and no end."""

        def some(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get))
            for index in indexes:
                give_block(session, get, index)

        self.alice.answers[self.path] = some

    def test_shuffled(self) -> None:
        """Pieces and digests come in any order and more than once; the end comes in their midst."""
        rng = random.Random(7)

        def shuffled(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get))
            cut = [
                (index * BLOCK_SIZE + at, block[at : at + 99_999])
                for index, block in enumerate(BLOCKS)
                for at in range(0, len(block), 99_999)
            ]
            cut += rng.choices(cut, k=9)
            rng.shuffle(cut)
            indexes = rng.sample(range(len(BLOCKS)), len(BLOCKS))
            for nth, (at, data) in enumerate(cut):
                if nth % 4 == 0 and indexes:
                    index = indexes.pop()
                    session.after_data(Digests(get.id, index, (digest_of(BLOCKS[index]),)))
                    if not indexes:
                        root = root_of(len(LARGE), map(digest_of, BLOCKS))
                        session.after_data(End(get.id, root, len(LARGE)))
                session.data(get.id, at, data)

        self.alice.answers[self.path] = shuffled
        progress = self.fetch("s")
        self.assertEqual((self.came(), self.failed), ({"s/large": LARGE}, {}))
        self.assertEqual(progress.bytes_fetched, len(LARGE))
        self.nothing_left()

    def test_resumed_with_holes(self) -> None:
        """After a break, exactly the blocks are wanted that have not come, and progress counts each byte once."""
        self.only((4, 1))
        job, running = self.begin("s/large")
        self.alice.pass_time(0.5)
        self.assertEqual(job.progress.bytes_done, 2 * BLOCK_SIZE)
        self.only((5, 2))
        self.alice.lose()
        self.alice.pass_time(1)
        self.assertEqual(job.progress.bytes_done, 3 * BLOCK_SIZE + 3)
        self.alice.answers.clear()
        self.alice.lose()
        self.alice.pass_time(3)
        progress = self.successResultOf(running)
        expected = [((0, 1), (2, 4), (5, 6)), ((0, 1), (3, 4))]
        self.assertEqual(self.wants()[-2:], expected)
        self.assertEqual(progress.bytes_fetched, len(LARGE))
        self.assertEqual(self.came(), {"large": LARGE})

    def test_too_many_runs(self) -> None:
        """Blocks beyond the runs that fit into a request are asked for after the others, and none comes twice."""
        self.patch(large_files, "RUNS_MAX", 2)
        self.only((4, 2))
        _, running = self.begin("s/large")
        self.alice.pass_time(0.5)
        self.alice.answers.clear()
        self.alice.lose()
        self.alice.pass_time(3)
        progress = self.successResultOf(running)
        self.assertEqual(self.wants()[-2:], [((0, 2), (3, 4)), ((5, 6),)])
        self.assertEqual(progress.bytes_fetched, len(LARGE))
        self.assertEqual(self.came(), {"large": LARGE})
        self.assertEqual([each.why for each in self.alice.heard_of(Cancel)], [Cancelled.BY_USER])
        self.nothing_left()

    def test_nothing_unverified(self) -> None:
        """Threat 10: no block is journalled that lacks bytes or its digest, or does not match it."""

        def lying(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get))
            give_block(session, get, 3)
            session.data(get.id, 0, BLOCKS[0])
            session.data(get.id, BLOCK_SIZE, BLOCKS[1][:-1])
            session.after_data(Digests(get.id, 1, (digest_of(BLOCKS[1]),)))
            self.alice.reactor.callLater(2, give_block, session, get, 2, bytes(32))

        noted: list[int] = []
        write = PartJournal.write

        def noting(journal: PartJournal, blocks: Iterable[tuple[int, bytes]]) -> None:
            rows = list(blocks)
            noted.extend(index for index, _ in rows)
            write(journal, rows)

        self.alice.answers[self.path] = lying
        with patch.object(PartJournal, "write", noting):
            self.fetch("s", seconds=4)
        self.assertEqual(noted, [3])
        self.assertIn("s/large", self.failed)
        self.alice.answers.clear()
        self.fetch("s")
        self.assertEqual(self.wants()[-1], ((0, 3), (4, 6)))

    def test_another_version(self) -> None:
        """After a break, all blocks of another version are sent, though only some were wanted."""
        self.only((4, 1))
        _, running = self.begin("s/large")
        self.alice.pass_time(0.5)
        self.alice.versions[self.path] = "v2"
        self.alice.answers[self.path] = give
        self.alice.lose()
        self.alice.pass_time(3)
        self.successResultOf(running)
        header = header_of(self.alice.sessions[-1], get := self.alice.gets()[-1])
        self.assertEqual([*named_blocks(get, header)[0]], [(0, 6)])
        self.assertEqual((self.came(), len(self.remarks)), ({"large": LARGE}, 1))
