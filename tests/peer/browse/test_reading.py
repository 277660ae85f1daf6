"""Tests of `p2pshare.peer.browse.reading`: bytes of a file in order, from sharers that lie, vanish or change it."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred

from p2pshare.errors import (
    ControlRefused,
    PeerUnreachable,
    RemoteBusy,
    RemoteNotFound,
    RemoteProtocolError,
    RemoteWithdrawn,
    SharerLied,
    SourceChanged,
)
from p2pshare.peer.browse.reading import (
    AHEAD_ALL,
    AHEAD_MAX,
    AWAY_MAX,
    OPEN_MAX,
    READINGS_MAX,
    FileReading,
    Readings,
    Wanted,
)
from p2pshare.wire.blocks import BLOCK_SIZE, digest_of
from p2pshare.wire.transfer_messages import (
    Cancel,
    Cancelled,
    Digests,
    End,
    Failed,
    Fault,
    FileHeader,
    Get,
)
from tests.peer.browse.test_sessions import BrowseTestCase
from tests.peer.memory_sharer import ADDRESS, MTIME, MemorySession, give

PIECE = 64 * 1024
COUNT = 20  # blocks of the film
FILM = random.Random(1).randbytes(PIECE) * (COUNT * BLOCK_SIZE // PIECE) + b"the end"


class ReadingTestCase(BrowseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.readings = Readings(self.sessions)
        self.path = self.alice.put("s/film.mp4", FILM)

    def open(self, wanted: Wanted | None = (0, None)) -> FileReading:
        reading: FileReading = self.do(self.readings.open("alice", self.path, wanted))
        self.addCleanup(reading.close)
        return reading

    def read(self, reading: FileReading, part: range) -> bytes:
        """Read as the site does, in pieces."""
        reading.select(part)
        return b"".join(
            self.do(self.piece(reading, at, min(PIECE, part.stop - at)), 0.02)
            for at in part[::PIECE]
        )

    async def piece(self, reading: FileReading, at: int, size: int) -> bytes:
        return await reading.read(at, size)

    def asked(self) -> list[Any]:
        """Return the runs of blocks that were asked for."""
        return [each.want for each in self.alice.gets()]


class ReadingTests(ReadingTestCase):
    """Honest sharers."""

    def test_whole(self) -> None:
        """A file is read in small windows, each of the version of the first one, and without a root."""
        reading = self.open()
        self.assertEqual((reading.length, reading.header.version), (len(FILM), "v1"))
        self.assertEqual(self.read(reading, range(len(FILM))), FILM)
        gets = self.alice.gets()
        self.assertEqual({each.version for each in gets[1:]}, {"v1"})
        self.assertEqual({each.root for each in gets}, {False})
        runs = [run for want in self.asked() for run in want]
        self.assertEqual(sum(end - first for first, end in runs), COUNT + 1)
        self.assertLessEqual(max(end - first for first, end in runs), AHEAD_MAX)
        self.assertLess(len(runs), COUNT / 2, "several blocks at a time")

    def test_jump(self) -> None:
        """A part that begins and ends within blocks costs just these blocks; the first come with the header."""
        first, stop = 7 * BLOCK_SIZE + 5, 9 * BLOCK_SIZE + 3
        reading = self.open((first, stop))
        self.assertEqual(self.read(reading, range(first, stop)), FILM[first:stop])
        self.assertEqual(self.asked(), [((7, 9),), ((9, 10),)])
        reading = self.open((5, 6))
        self.assertEqual(self.read(reading, range(5, 6)), FILM[5:6])
        self.assertEqual(self.asked()[2:], [((0, 1),)])

    def test_limit(self) -> None:
        """All files that are looked at share one rate limit, which may change while they are read."""

        async def read_all(reading: FileReading) -> None:
            reading.select(range(8 * BLOCK_SIZE))
            for at in range(0, 8 * BLOCK_SIZE, BLOCK_SIZE):
                await reading.read(at, BLOCK_SIZE)

        self.sessions.limit(2.0 * BLOCK_SIZE)
        readings = [self.open((0, BLOCK_SIZE)) for _ in range(2)]
        both = [Deferred.fromCoroutine(read_all(each)) for each in readings]
        self.alice.pass_time(4)
        self.assertTrue(any(not each.called for each in both))
        self.sessions.limit(None)
        self.alice.pass_time(0.5)
        for each in both:
            self.successResultOf(each)

    def test_not_known_before(self) -> None:
        """The last bytes are asked for once the size is known; a reader may also change its mind."""
        reading = self.open(None)
        self.assertEqual(self.read(reading, range(len(FILM))[-7:]), b"the end")
        self.assertEqual(self.asked(), [(), ((COUNT, COUNT + 1),)])
        reading = self.open((0, None))
        self.assertEqual(
            self.read(reading, range(3 * BLOCK_SIZE, 3 * BLOCK_SIZE + 9))[:1], FILM[:1]
        )

    def test_beyond(self) -> None:
        """A part behind the end has no bytes, and an empty file has none at all."""
        reading = self.open((10**15, None))
        self.assertEqual((reading.length, self.read(reading, range(0))), (len(FILM), b""))
        self.path = self.alice.put("s/empty", b"")
        reading = self.open()
        self.assertEqual((reading.length, self.read(reading, range(0))), (0, b""))

    def test_slow_reader(self) -> None:
        """Threat 124: a reader that rests holds a few blocks, none of the session's credit, and shares its bound."""
        reading = self.open()
        reading.select(range(len(FILM)))
        self.alice.pass_time(30)
        runs = [run for want in self.asked() for run in want]
        self.assertEqual(sum(end - first for first, end in runs), AHEAD_MAX)
        (session,) = self.alice.sessions
        self.assertGreaterEqual(session.credit - session.sent, 14 * BLOCK_SIZE)
        others = [self.open((0, None)) for _ in range(AHEAD_ALL // 4 - 1)]
        for each in others:
            each.select(range(len(FILM)))
        self.alice.pass_time(5)
        self.assertEqual(self.readings.ahead, 4)

    def test_too_many(self) -> None:
        """Threat 124: the files that are read at once are bounded."""
        opened = [self.open() for _ in range(READINGS_MAX)]
        self.fail_with(ControlRefused, self.readings.open("alice", self.path))
        opened[0].close()
        self.open()

    def test_leaving(self) -> None:
        """A reader that leaves cancels what is under way, and lets the session go."""
        self.alice.answer = lambda session, get: give(session, get, 1)
        reading = self.open()
        reading.select(range(len(FILM)))
        waiting = reading.read(BLOCK_SIZE, 5)
        self.alice.pass_time(1)
        waiting.cancel()
        self.failureResultOf(waiting)
        reading.close()
        reading.close()
        self.alice.pass_time(1)
        cancelled = sorted(each.id for each in self.alice.heard_of(Cancel))
        self.assertEqual(cancelled, [get.id for get in self.alice.gets()])
        self.do(self.sessions.stop())
        self.assertEqual(self.readings.count, 0)

    def test_lost_session(self) -> None:
        """After a lost session, and after a move to another path, the blocks that are missing are asked for again."""
        self.alice.answer = lambda session, get: give(session, get, 1)
        reading = self.open()
        self.assertEqual(self.read(reading, range(10)), FILM[:10])
        reading.select(range(len(FILM)))
        self.alice.pass_time(1)
        self.alice.answer = give
        self.alice.lose()
        self.assertEqual(self.read(reading, range(len(FILM))), FILM)
        self.assertEqual(len(self.alice.sessions), 2)

    def test_lost_before_header(self) -> None:
        """A session that is lost before the file is announced is opened again, too."""
        self.alice.answer = lambda session, get: None
        opening = Deferred.fromCoroutine(self.readings.open("alice", self.path))
        self.alice.pass_time(1)
        self.alice.answer = give
        self.alice.lose()
        self.alice.pass_time(5)
        self.successResultOf(opening).close()

    def test_gone_for_good(self) -> None:
        """A sharer that does not come back ends the reading, after what had come."""
        reading = self.open()
        reading.select(range(len(FILM)))
        self.alice.pass_time(1)
        away = PeerUnreachable(name="alice", address=str(ADDRESS), reason="no answer")
        self.alice.refusals += 100 * [away]
        self.alice.lose()
        for at in range(AHEAD_MAX):
            self.assertEqual(self.do(self.piece(reading, at * BLOCK_SIZE, 9))[:1], FILM[:1])
        waiting = self.piece(reading, AHEAD_MAX * BLOCK_SIZE, 9)
        self.fail_with(PeerUnreachable, waiting, AWAY_MAX + 5)

    def test_away_for_a_while(self) -> None:
        """A sharer that is away while the reader rests is tried again."""
        away = PeerUnreachable(name="alice", address=str(ADDRESS), reason="no answer")
        reading = self.open()
        reading.select(range(len(FILM)))
        self.alice.pass_time(1)
        self.alice.refusals += 5 * [away]
        self.alice.lose()
        self.assertEqual(self.do(self.piece(reading, 15 * BLOCK_SIZE, 9), 20)[:1], FILM[:1])

    def test_busy(self) -> None:
        """A busy sharer is asked again."""
        told = list[int]()

        def busy(session: MemorySession, get: Get) -> None:
            told.append(get.id)
            if len(told) < 3:
                session.say(Failed(get.id, Fault.BUSY))
            else:
                give(session, get)

        self.alice.answer = busy
        reading = self.do(self.readings.open("alice", self.path, (0, None)), 30)
        self.assertEqual(self.read(reading, range(9)), FILM[:9])

    def test_faults(self) -> None:
        """A file that is not there, and one that is withdrawn in the middle."""
        self.path = ("s", "nothing")
        self.fail_with(RemoteNotFound, self.readings.open("alice", self.path, (0, None)))
        self.assertEqual(self.readings.count, 0)
        self.path = ("s", "film.mp4")
        reading = self.open()
        self.alice.answer = lambda session, get: session.say(Failed(get.id, Fault.WITHDRAWN))
        reading.select(range(len(FILM)))
        self.fail_with(RemoteWithdrawn, self.piece(reading, 12 * BLOCK_SIZE, 9))


class LyingTests(ReadingTestCase):
    """Sharers that cannot be trusted."""

    def test_digest(self) -> None:
        """Threat 123: no byte of a block is passed on that does not match its digest."""

        def lie(session: MemorySession, get: Get) -> None:
            session.say(FileHeader(get.id, 2 * BLOCK_SIZE, MTIME, False, "v1"))
            for index, digest in enumerate((digest_of(bytes(BLOCK_SIZE)), b"x" * 32)):
                session.after_data(Digests(get.id, index, (digest,)))
                session.data(get.id, index * BLOCK_SIZE, bytes(BLOCK_SIZE))
            session.after_data(End(get.id, b"", 2 * BLOCK_SIZE))

        self.alice.answer = lie
        reading = self.open()
        reading.select(range(2 * BLOCK_SIZE))
        self.assertEqual(self.do(self.piece(reading, 0, PIECE)), bytes(PIECE))
        self.fail_with(SharerLied, self.piece(reading, BLOCK_SIZE, PIECE))
        self.fail_with(SharerLied, self.piece(reading, BLOCK_SIZE - 5, 10))

    def test_changed(self) -> None:
        """Threat 123: a file that changes in the middle, by its version or its size alone, ends the reading."""
        for version, size in (("v2", len(FILM)), ("v1", len(FILM) + 1)):
            reading = self.open()
            reading.select(range(len(FILM)))
            self.alice.answer = lambda session, get, version=version, size=size: session.say(  # type: ignore[misc]
                FileHeader(get.id, size, MTIME, False, version)
            )
            self.assertEqual(self.do(self.piece(reading, 0, 9)), FILM[:9])
            self.fail_with(SourceChanged, self.piece(reading, 12 * BLOCK_SIZE, 9))
            self.assertEqual(self.alice.heard_of(Cancel)[-1].why, Cancelled.BY_USER)
            self.alice.answer = give

    def test_silent(self) -> None:
        """Threat 123: a sharer that never announces the file is given up."""
        self.alice.answer = lambda session, get: None
        self.fail_with(RemoteBusy, self.readings.open("alice", self.path, (0, None)), OPEN_MAX + 1)
        self.assertEqual(self.readings.count, 0)

    def test_wrong_blocks(self) -> None:
        """Threat 123: blocks that were not asked for, and an unwanted root, break the protocol."""

        def unasked(session: MemorySession, get: Get) -> None:
            session.say(FileHeader(get.id, len(FILM), MTIME, False, "v1"))
            session.after_data(Digests(get.id, 9, (b"x" * 32,)))

        def rooted(session: MemorySession, get: Get) -> None:
            session.say(FileHeader(get.id, 9, MTIME, False, "v1"), End(get.id, b"r" * 32, 9))

        for lie in (unasked, rooted):
            self.alice.answer = lie
            opening = Deferred.fromCoroutine(self.readings.open("alice", self.path, (0, None)))
            self.alice.pass_time(1)
            reading = self.successResultOf(opening)
            waiting = reading.read(0, 9)
            self.alice.pass_time(1)
            self.failureResultOf(waiting, RemoteProtocolError)
            reading.close()
