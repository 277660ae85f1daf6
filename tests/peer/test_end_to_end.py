"""Both ends of a session together: TLS on loopback, real shares, real folders."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent

from p2pshare.errors import OtherKeyThere, PeerUnreachable, RemoteNotFound, SourceChanged
from p2pshare.peer.fetch.link_change import LinkState
from p2pshare.peer.share import upload_log as uploads
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.blocks import BLOCK_SIZE
from tests.peer.sharers import BOB, HOST, SharersTestCase

LARGE = random.Random(4).randbytes(5 * BLOCK_SIZE + 17)


class FetchTests(SharersTestCase):
    """Shared files arrive unchanged."""

    async def test_large_and_small(self) -> None:
        """Files of all sizes arrive bit for bit, with their times and the executable bit."""
        sizes = [0, 1, 4096, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, len(LARGE)]
        for size in sizes:
            self.write(f"deep/{size}.bin", LARGE[:size], mtime=1_600_000_000 + size)
        os.chmod(self.share / "deep/4096.bin", 0o755)
        (self.share / "empty").mkdir()
        alice = self.alice()
        remote = self.remote(lambda: alice.address)
        progress = await self.fetch(remote, "share")
        self.assertEqual(self.failed, {})
        self.assertEqual(self.came(), {f"share/deep/{size}.bin": LARGE[:size] for size in sizes})
        self.assertTrue((self.inbox / "share/empty").is_dir())
        for size in sizes:
            stat = (self.inbox / f"share/deep/{size}.bin").stat()
            self.assertEqual(stat.st_mtime, 1_600_000_000 + size)
            self.assertEqual(bool(stat.st_mode & 0o100), size == 4096)
        self.assertEqual((progress.files_done, progress.files_total), (7, 7))
        self.assertEqual(progress.bytes_done, sum(sizes))
        self.assertEqual(progress.bytes_total, sum(sizes))
        self.assertEqual(progress.current, ())

    async def test_many(self) -> None:
        """A folder of many small files comes whole, and the sharer hears of each that it is there."""
        for number in range(700):
            self.write(f"{number % 7}/{number}", b"%d" % number)
        alice = self.alice()
        remote = self.remote(lambda: alice.address)
        progress = await self.fetch(remote, "share")
        self.assertEqual(
            self.came(), {f"share/{number % 7}/{number}": b"%d" % number for number in range(700)}
        )
        again = await self.fetch(remote, "share")
        self.assertEqual((progress.files_done, again.files_already_there), (700, 700))

    async def test_globs_and_failures(self) -> None:
        """Globs find what matches; what is not there is told of, and the rest comes."""
        for name in ("a.jpg", "b.jpg", "c.png"):
            self.write(name, name.encode())
        alice = self.alice()
        remote = self.remote(lambda: alice.address)
        progress = await self.fetch(remote, "share/*.jpg", "share/nothing", "s*/c.png")
        self.assertEqual(sorted(self.came()), ["a.jpg", "b.jpg", "c.png"])
        self.assertEqual(list(self.failed), [("share", "nothing")])
        self.assertIsInstance(self.failed["share", "nothing"], RemoteNotFound)
        self.assertEqual(progress.files_failed, 1)

    async def test_limit(self) -> None:
        """A receiver that takes its time is not taken for a silent one, and gets all of it."""
        self.write("slow", LARGE[: 600 * 1024])
        alice = self.alice()
        remote = self.remote(lambda: alice.address, rate=400_000.0, silence=1.0)
        await self.fetch(remote, "share/slow")
        self.assertEqual(self.came(), {"slow": LARGE[: 600 * 1024]})
        self.assertEqual([change.state for change in self.changes if change.reason], [])

    async def test_what_the_sharer_sees(self) -> None:
        """The sharer learns what each job still needs, and logs peers that fetch, not peers that only look."""
        for number in range(5):
            self.write(f"{number}", b"%d" % number)
        alice = self.alice()
        remote = self.remote(lambda: alice.address)
        with capturedLogs() as events:
            await remote.list(("share",))
            self.assertEqual(self.told(events), [])
            await self.fetch(remote, "share")
            self.assertEqual(self.told(events), ["uploads began: peer=bob via=tcp"])
            await self.until(lambda: self.sent(alice) == (5, 5, 0, 0))
            self.write("large", LARGE)
            await self.fetch(remote, "share")
            await self.until(lambda: self.sent(alice) == (1, len(LARGE), 0, 0))
            self.assertEqual(self.told(events)[0], "uploads began: peer=bob via=tcp")
        self.assertEqual(len(alice.sessions), 1)

    def told(self, events: Sequence[LogEvent]) -> list[str]:
        """Return the lines of the log about peers that fetch."""
        return [
            str(formatEvent(event))
            for event in events
            if event["log_namespace"] == uploads.__name__ and event["log_level"] >= LogLevel.info
        ]


class BrokenTests(SharersTestCase):
    """Broken sessions are resumed."""

    async def test_connection_cut(self) -> None:
        """A connection that is cut is opened again, at the address of that time, and nothing verified comes again."""
        self.write("large", LARGE)
        alice = self.alice(limit=4_000_000.0)
        remote = self.remote(lambda: alice.address)
        job = self.job(remote, "share/large")
        running = Deferred.fromCoroutine(job.run())
        await self.until(lambda: job.progress.bytes_done >= 2 * BLOCK_SIZE)
        moved, first = self.alice(), alice
        alice = moved
        first.sessions[0].abort()
        progress = await running
        self.assertEqual(self.came(), {"large": LARGE})
        self.assertLess(progress.bytes_fetched, len(LARGE) + BLOCK_SIZE)
        states = [change.state for change in self.changes]
        self.assertEqual(states[:3], [LinkState.CONNECTING, LinkState.UP, LinkState.BROKEN])
        self.assertEqual(states[-1], LinkState.UP)
        self.assertEqual((len(first.sessions), len(moved.sessions)), (1, 1))
        await self.until(lambda: self.sent(moved)[2] == 0 and self.sent(moved)[3] == 0)
        files, size, *_ = self.sent(moved)
        self.assertEqual(files, 1)
        self.assertLess(size, len(LARGE) - BLOCK_SIZE)

    async def test_cancelled(self) -> None:
        """The part that a cancelled job has fetched is kept; the same job resumes it over another session."""
        self.write("large", LARGE)
        alice = self.alice(limit=4_000_000.0)
        job = self.job(self.remote(lambda: alice.address), "share/large")
        running = Deferred.fromCoroutine(job.run())
        await self.until(lambda: job.progress.bytes_done >= 2 * BLOCK_SIZE)
        running.cancel()
        with self.assertRaises(CancelledError):
            await running
        kept = sum(path.stat().st_size for path in self.inbox.iterdir())
        self.assertGreaterEqual(kept, 2 * BLOCK_SIZE)
        quick = self.alice()
        progress = await self.fetch(self.remote(lambda: quick.address), "share/large")
        self.assertEqual(self.came(), {"large": LARGE})
        self.assertLessEqual(progress.bytes_fetched, len(LARGE) - 2 * BLOCK_SIZE)

    async def test_two_jobs(self) -> None:
        """A second job on the same file waits for the first, and finds it present then, without a byte."""
        self.write("large", LARGE)
        alice = self.alice(limit=4_000_000.0)
        remote = self.remote(lambda: alice.address)
        job = self.job(remote, "share/large")
        running = Deferred.fromCoroutine(job.run())
        await self.until(lambda: job.progress.bytes_done >= BLOCK_SIZE)
        progress = await self.fetch(remote, "share/large")
        self.assertEqual((progress.files_already_there, progress.bytes_fetched), (1, 0))
        await running
        self.assertEqual(self.failed, {})
        self.assertEqual(self.came(), {"large": LARGE})

    async def test_source_changes(self) -> None:
        """A file that is changed while it is sent comes as it is after that."""
        path = self.write("large", LARGE)
        alice = self.alice(limit=4_000_000.0)
        job = self.job(self.remote(lambda: alice.address), "share/large")
        running = Deferred.fromCoroutine(job.run())
        await self.until(lambda: job.progress.bytes_done >= BLOCK_SIZE)
        path.write_bytes(LARGE[::-1])
        await running
        self.assertNotIsInstance(self.failed.get(("share", "large")), SourceChanged)
        self.assertEqual(self.came(), {"large": LARGE[::-1]})
        self.assertEqual(len(self.remarks), 1)


class StrangerTests(SharersTestCase):
    """Peers that claim to be another."""

    async def test_other_key(self) -> None:
        """Threat 15: where another key answers than the one that is known, nothing is fetched."""
        self.write("a", b"a")
        alice = self.alice()
        remote = self.remote(lambda: alice.address, key=BOB.public)
        with self.assertRaises(OtherKeyThere):
            await self.fetch(remote, "share")
        self.assertEqual((self.came(), alice.sessions), ({}, []))

    async def test_nobody(self) -> None:
        """Where nobody listens, that is said at once."""
        alice = self.alice()
        await alice.stop()
        remote = self.remote(lambda: PeerAddress(HOST, alice.address.port))
        with self.assertRaises(PeerUnreachable):
            await self.fetch(remote, "share")
        self.assertEqual(self.came(), {})
