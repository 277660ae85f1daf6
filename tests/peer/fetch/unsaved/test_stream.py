"""Tests of `p2pshare.peer.fetch.unsaved.stream`, with a sharer in memory."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.credit import CREDIT_WINDOW
from p2pshare.errors import (
    LinkGivenUp,
    RemoteBusy,
    RemoteIsFolder,
    RemoteNotFound,
    SharerLied,
    StreamCutShort,
)
from p2pshare.peer.fetch.job import JobProgress, SavedFile
from p2pshare.peer.fetch.job_parts import TRIES_MAX
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.unsaved.stream import DESTINATION, Streamed, StreamJob
from p2pshare.wire.blocks import BLOCK_SIZE, block_count, digest_of, root_of
from p2pshare.wire.transfer_messages import (
    Cancel,
    Cancelled,
    Digests,
    Done,
    End,
    Failed,
    Fault,
    Get,
)
from tests.peer.memory_sharer import MemorySession, MemorySharer, give, header_of

NAME = "s/film"
PATH = ("s", "film")


def film(blocks: float, seed: int = 0) -> bytes:
    """Return a file whose blocks differ."""
    size = int(blocks * BLOCK_SIZE)
    return b"".join(bytes([seed + index]) * BLOCK_SIZE for index in range(block_count(size)))[:size]


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.alice = MemorySharer()
        self.remote = self.alice.remote()
        self.out = bytearray()
        self.streamed = Streamed(lambda data: self.out.extend(data))
        self.saved: list[SavedFile] = []

    def start(self, seconds: float = 10.0) -> Deferred[JobProgress]:
        item = JobItem(PATH, DESTINATION)
        self.job = StreamJob(
            self.remote, [item], streamed=self.streamed, on_saved=self.saved.append
        )
        running = Deferred.fromCoroutine(self.job.run())
        self.alice.pass_time(seconds)
        return running

    def test_whole(self) -> None:
        """The bytes come out once and in order, and the sharer hears that it is done."""
        for data in (b"", b"small", film(1), film(20.5)):
            self.setUp()
            self.alice.put(NAME, data)
            progress = self.successResultOf(self.start())
            self.assertTrue(bytes(self.out) == data)
            self.assertEqual((progress.bytes_done, progress.bytes_total), (len(data), len(data)))
            (saved,) = self.saved
            self.assertEqual(
                (saved.path, saved.size, saved.fetched), (DESTINATION, *2 * [len(data)])
            )
            self.assertEqual(saved.root, root_of(len(data), _digests(data)))
            self.assertEqual(len(self.alice.heard_of(Done)), 1)

    def test_any_order(self) -> None:
        """Blocks may come in any order."""
        data = film(4)
        self.alice.put(NAME, data)

        def scattered(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get))
            for index in (3, 1, 0, 2):
                block = data[index * BLOCK_SIZE :][:BLOCK_SIZE]
                session.data(get.id, index * BLOCK_SIZE, block)
                session.say(Digests(get.id, index, (digest_of(block),)))
                if index == 1:
                    self.assertEqual(self.streamed.taken, 0)
            session.say(End(get.id, root_of(len(data), _digests(data)), len(data)))

        self.alice.answers[PATH] = scattered
        self.successResultOf(self.start())
        self.assertTrue(bytes(self.out) == data)

    def test_slow_pipe(self) -> None:
        """A pipe that stalls stops the sharer: what lies in memory is bounded by the credit."""
        data = film(40)
        self.alice.put(NAME, data)
        release = self.alice.reactor.hold_threads()
        running = self.start()
        self.assertEqual(len(self.out), 0)
        self.assertLessEqual(self.alice.sessions[0].sent, CREDIT_WINDOW)
        release()
        self.alice.pass_time(5)
        self.successResultOf(running)
        self.assertTrue(bytes(self.out) == data)

    def test_session_lost_while_the_pipe_stalls(self) -> None:
        """No other session is asked for more before the pipe has taken what has come."""
        data = film(40)
        self.alice.put(NAME, data)
        release = self.alice.reactor.hold_threads()
        running = self.start()
        self.alice.lose()
        self.alice.pass_time(10)
        self.assertEqual(len(self.alice.sessions), 1)
        release()
        self.alice.pass_time(10)
        self.successResultOf(running)
        self.assertTrue(bytes(self.out) == data)

    def test_resumed(self) -> None:
        """After a lost session the rest of the same version is requested."""
        data = film(5.5)
        self.alice.put(NAME, data)

        def lose(session: MemorySession, get: Get) -> None:
            del self.alice.answers[PATH]
            give(session, get, until=3)
            self.alice.reactor.callLater(1.0, self.alice.lose)

        self.alice.answers[PATH] = lose
        self.successResultOf(self.start())
        self.assertTrue(bytes(self.out) == data)
        first, second = self.alice.heard_of(Get)
        self.assertEqual((first.version, first.want), ("", None))
        self.assertEqual((second.version, second.want), ("v1", ((3, 6),)))

    def test_continued(self) -> None:
        """Another job, with another connection, continues what one has begun."""
        data = film(3)
        self.alice.put(NAME, data)

        def vanish(session: MemorySession, get: Get) -> None:
            del self.alice.answers[PATH]
            give(session, get, until=2)
            self.alice.refusals = [LinkGivenUp(name="alice", reason="x", patience=1)] * 99
            self.alice.reactor.callLater(1.0, self.alice.lose)

        self.alice.answers[PATH] = vanish
        self.remote = self.alice.remote(patience=5)
        self.failureResultOf(self.start(60), LinkGivenUp)
        self.assertEqual(len(self.out), 2 * BLOCK_SIZE)
        self.alice.refusals, self.remote = [], self.alice.remote()
        self.successResultOf(self.start())
        self.assertTrue(bytes(self.out) == data)

    def test_all_but_the_root(self) -> None:
        """If only the root is missing, nothing else is requested."""
        data = film(2)
        self.alice.put(NAME, data)

        def lose(session: MemorySession, get: Get) -> None:
            del self.alice.answers[PATH]
            session.say(header_of(session, get))
            for index in range(2):
                block = data[index * BLOCK_SIZE :][:BLOCK_SIZE]
                session.say(Digests(get.id, index, (digest_of(block),)))
                session.data(get.id, index * BLOCK_SIZE, block)
            self.alice.reactor.callLater(1.0, self.alice.lose)

        self.alice.answers[PATH] = lose
        self.successResultOf(self.start())
        self.assertTrue(bytes(self.out) == data)
        self.assertEqual(self.alice.heard_of(Get)[1].want, ())

    def test_changed(self) -> None:
        """A file that changes in the middle is an error that says what was written; no byte of another version is."""
        old, new = film(4), film(4, 100)

        def lose(session: MemorySession, get: Get) -> None:
            give(session, get, until=2)
            self.alice.files[PATH], self.alice.versions[PATH] = new, "v2"
            del self.alice.answers[PATH]
            self.alice.reactor.callLater(1.0, self.alice.lose)

        def stop(session: MemorySession, get: Get) -> None:
            give(session, get, until=2)
            session.after_data(Failed(get.id, Fault.CHANGED, 2 * BLOCK_SIZE))

        for answer, cancels in ((lose, [Cancelled.BY_USER]), (stop, [])):
            self.setUp()
            self.alice.put(NAME, old)
            self.alice.answers[PATH] = answer
            error = self.failureResultOf(self.start(), StreamCutShort)
            self.assertIn(f"{2 * BLOCK_SIZE} bytes", error.getErrorMessage())
            self.assertTrue(bytes(self.out) == old[: 2 * BLOCK_SIZE])
            self.alice.pass_time(1)
            self.assertEqual([each.why for each in self.alice.heard_of(Cancel)], cancels)

    def test_changed_before(self) -> None:
        """A file that changes before its first byte was written is requested again."""
        self.alice.put(NAME, film(2))

        def change(session: MemorySession, get: Get) -> None:
            del self.alice.answers[PATH]
            session.say(Failed(get.id, Fault.CHANGED))

        self.alice.answers[PATH] = change
        self.successResultOf(self.start())
        self.assertTrue(bytes(self.out) == film(2))

    def test_lies(self) -> None:
        """Threat 10: data that does not match its digests is not written, and a wrong root is an error."""
        data = film(3)

        def wrong_digest(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get), Digests(get.id, 0, _digests(data)[:1]))
            session.data(get.id, 0, data[:BLOCK_SIZE])
            session.after_data(Digests(get.id, 1, (bytes(32),)))
            session.data(get.id, BLOCK_SIZE, data[BLOCK_SIZE:])

        def wrong_root(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get), Digests(get.id, 0, _digests(data)))
            session.data(get.id, 0, data)
            session.after_data(End(get.id, bytes(32), len(data)))

        for answer, written in ((wrong_digest, 1), (wrong_root, 3)):
            self.setUp()
            self.alice.put(NAME, data)
            self.alice.answers[PATH] = answer
            self.failureResultOf(self.start(), SharerLied)
            self.assertTrue(bytes(self.out) == data[: written * BLOCK_SIZE])
            self.alice.pass_time(1)
            whys = [each.why for each in self.alice.heard_of(Cancel)]
            self.assertEqual((whys, self.saved), ([Cancelled.CORRUPT], []))

    def test_nobody_reads(self) -> None:
        """A reader that leaves ends the job with the error of the pipe, after which nothing is written."""

        def full(data: memoryview) -> None:
            if len(self.out) >= 2 * BLOCK_SIZE:
                raise BrokenPipeError
            self.out.extend(data)

        self.alice.put(NAME, film(30))
        self.streamed = Streamed(full)
        self.failureResultOf(self.start(), BrokenPipeError)
        self.assertEqual((len(self.out), self.streamed.written), (2 * BLOCK_SIZE, 2 * BLOCK_SIZE))
        self.alice.pass_time(1)
        self.assertEqual([each.why for each in self.alice.heard_of(Cancel)], [Cancelled.BY_USER])

    def test_not_sent(self) -> None:
        """A folder, a file that is not there and a sharer that stays busy are errors."""

        def busy(session: MemorySession, get: Get) -> None:
            session.say(Failed(get.id, Fault.BUSY))

        self.failureResultOf(self.start(), RemoteNotFound)
        self.alice.put(f"{NAME}/x", b"")
        self.failureResultOf(self.start(), RemoteIsFolder)
        self.alice.answers[PATH] = busy
        before = len(self.alice.heard_of(Get))
        self.failureResultOf(self.start(), RemoteBusy)
        self.assertEqual(len(self.alice.heard_of(Get)) - before, TRIES_MAX)

    def test_cancelled(self) -> None:
        """A job that is given up is cancelled at the sharer, and its memory is released."""
        self.alice.put(NAME, film(9))
        self.alice.answers[PATH] = lambda session, get: give(session, get, until=5)
        running = self.start()
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.alice.pass_time(1)
        self.assertEqual([each.why for each in self.alice.heard_of(Cancel)], [Cancelled.BY_USER])


def _digests(data: bytes) -> tuple[bytes, ...]:
    return tuple(digest_of(data[at : at + BLOCK_SIZE]) for at in range(0, len(data), BLOCK_SIZE))
