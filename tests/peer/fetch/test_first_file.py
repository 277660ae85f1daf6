"""Tests of `p2pshare.peer.fetch.first_file`, in jobs with a sharer in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from p2pshare.errors import RemoteNotFound
from p2pshare.peer.fetch.job import FetchJob, JobProgress
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.transfer_messages import Cancel, Failed, Fault, Get, List
from tests.peer.fetch.test_job import LARGE, JobTestCase
from tests.peer.memory_sharer import MemorySession, give


class FirstFileTests(JobTestCase):
    """The first item of a job that opens a session is requested before it is looked up."""

    def begin(self, *paths: str, **options: Any) -> tuple[FetchJob, Deferred[JobProgress]]:
        """Begin a job with a new session."""
        self.remote = self.alice.remote()
        return super().begin(*paths, **options)

    def test_no_listing(self) -> None:
        """Small and large files come by one request and no listing."""
        for content in (b"", b"small", LARGE):
            self.alice.put(f"s/{len(content)}", content)
            self.alice.heard.clear()
            self.fetch(f"s/{len(content)}")
            self.assertEqual(len(self.alice.heard_of(Get)), 1)
            self.assertEqual(self.alice.heard_of(List), [])
        self.assertEqual(self.came(), {str(len(each)): each for each in (b"", b"small", LARGE)})

    def test_only_the_first(self) -> None:
        """Further items are looked up."""
        for name in ("a", "b"):
            self.alice.put(f"s/{name}", name.encode())
        self.fetch("s/a", "s/b")
        self.assertEqual(self.came(), {"a": b"a", "b": b"b"})
        self.assertEqual(len(self.alice.heard_of(List)), 1)

    def test_here(self) -> None:
        """A file of which something is here is looked up, so nothing comes that is here."""
        self.alice.put("s", LARGE)
        self.fetch("s")
        self.alice.heard.clear()
        progress = self.fetch("s")
        self.assertEqual((self.alice.heard_of(Get), progress.files_already_there), ([], 1))

    def test_part(self) -> None:
        """So is a file of which a part is here: it is resumed."""
        path = self.alice.put("s", LARGE)
        self.alice.answers[path] = lambda session, get: give(session, get, until=2)
        _, running = self.begin("s")
        self.alice.pass_time(5)
        running.cancel()
        self.alice.pass_time(1)
        self.failureResultOf(running)
        self.alice.answers.clear()
        self.alice.heard.clear()
        progress = self.fetch("s")
        self.assertEqual(progress.bytes_fetched, len(LARGE) - 2 * BLOCK_SIZE)
        self.assertEqual(self.came(), {"s": LARGE})

    def test_glob(self) -> None:
        """A glob is looked up."""
        self.alice.put("s/a", b"a")
        self.fetch("s/*")
        self.assertEqual(len(self.alice.heard_of(Get)), 1)
        self.assertEqual(self.came(), {"a": b"a"})

    def test_not_there(self) -> None:
        """An item that does not exist is looked up too, for the reason."""
        self.fetch("nothing")
        self.error("nothing", RemoteNotFound)

    def test_busy(self) -> None:
        """A file that its sharer does not send now is requested again."""
        path = self.alice.put("s", b"content")

        def busy(session: MemorySession, get: Get) -> None:
            self.alice.answers.clear()
            session.say(Failed(get.id, Fault.BUSY))

        self.alice.answers[path] = busy
        self.fetch("s")
        self.assertEqual(self.came(), {"s": b"content"})

    def test_lost(self) -> None:
        """A request of a session that is lost before its answer is replaced."""
        path = self.alice.put("s", LARGE)

        def lose(session: MemorySession, get: Get) -> None:
            self.alice.answers.clear()
            self.alice.lose()

        self.alice.answers[path] = lose
        self.fetch("s")
        self.assertEqual(self.came(), {"s": LARGE})

    def test_stopped(self) -> None:
        """A job that is stopped before its first file is taken over cancels the request."""
        path = self.alice.put("s", LARGE)
        self.alice.answers[path] = lambda session, get: None
        _, running = self.begin("s")
        self.alice.pass_time(1)
        running.cancel()
        self.alice.pass_time(1)
        self.failureResultOf(running)
        (request,) = self.alice.heard_of(Get)
        self.assertEqual([each.id for each in self.alice.heard_of(Cancel)], [request.id])

    def stop_during(self, step: str) -> None:
        """Begin a job, stop it while the session waits for a step of its opening, and let that go on."""
        gate: Deferred[None] = Deferred()
        do = getattr(self.alice, step)

        async def wait(*words: Any, **options: Any) -> Any:
            await gate
            return await do(*words, **options)

        self.patch(self.alice, step, wait)
        self.alice.put("s", LARGE)
        _, running = self.begin("s")
        self.alice.pass_time(1)
        running.cancel()
        self.alice.pass_time(1)
        self.failureResultOf(running)
        gate.callback(None)
        self.alice.pass_time(1)
        self.assertTrue(self.remote.is_up)

    def test_stopped_while_looking_up(self) -> None:
        """A job that is stopped before the session is opened requests nothing."""
        self.stop_during("find")
        self.assertEqual(self.alice.heard_of(Get), [])

    def test_stopped_while_opening(self) -> None:
        """One that is stopped after that cancels its request: what came of it would hold the credit of later jobs."""
        self.stop_during("open")
        (request,) = self.alice.heard_of(Get)
        self.assertEqual([each.id for each in self.alice.heard_of(Cancel)], [request.id])
