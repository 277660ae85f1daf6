"""Tests of `p2pshare.peer.fetch.unsaved.preview`, with a sharer in memory."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import RemoteBusy, RemoteNoPreview, SharerLied
from p2pshare.peer.fetch.job_parts import TRIES_MAX
from p2pshare.peer.fetch.unsaved.preview import PREVIEW_MAX, Preview, fetch_preview
from p2pshare.wire.blocks import digest_of, root_of
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
from tests.peer.memory_sharer import MTIME, MemorySession, MemorySharer

PATH = ("s", "cat.jpg")


def give_preview(
    data: bytes, digest: bytes | None = None, root: bytes | None = None
) -> Callable[[MemorySession, Get], None]:
    """Return how a sharer answers a request for a preview."""

    def give(session: MemorySession, get: Get) -> None:
        known = digest or digest_of(data)
        session.say(FileHeader(get.id, len(data), MTIME, False, "v1"), Digests(get.id, 0, (known,)))
        session.data(get.id, 0, data)
        session.after_data(End(get.id, root or root_of(len(data), (known,)), len(data)))

    return give


def refuse(fault: Fault) -> Callable[[MemorySession, Get], None]:
    """Return how a sharer answers that has no preview."""
    return lambda session, get: session.say(Failed(get.id, fault))


class FetchPreviewTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.alice = MemorySharer()
        self.remote = self.alice.remote()

    def fetch(self, edge: int = 64, seconds: float = 10.0) -> Deferred[Preview]:
        fetching = Deferred.fromCoroutine(fetch_preview(self.remote, PATH, edge))
        self.alice.pass_time(seconds)
        return fetching

    def test_fetched(self) -> None:
        """A preview is asked for by its size, and arrives with its root."""
        self.alice.answers[PATH] = give_preview(b"small")
        preview = self.successResultOf(self.fetch(512))
        self.assertEqual(preview.data, b"small")
        self.assertEqual(preview.root, root_of(5, (digest_of(b"small"),)))
        (request,) = self.alice.heard_of(Get)
        self.assertEqual((request.path, request.preview), (PATH, 512))

    def test_lies(self) -> None:
        """Threat 10: data that does not match its digests, or is too large for a preview, is rejected."""
        for lie in (
            give_preview(b"small", digest=b"x" * 32),
            give_preview(b"small", root=b"x" * 32),
            give_preview(bytes(PREVIEW_MAX + 1)),
        ):
            self.alice = MemorySharer()
            self.remote = self.alice.remote()
            self.alice.answers[PATH] = lie
            self.failureResultOf(self.fetch(), SharerLied)

    def test_no_picture(self) -> None:
        """A file that is no picture, or a folder, has none."""
        for fault in (Fault.NO_PREVIEW, Fault.IS_FOLDER):
            self.alice.answers[PATH] = refuse(fault)
            self.failureResultOf(self.fetch(), RemoteNoPreview)

    def test_busy(self) -> None:
        """A busy sharer is asked a few times."""
        self.alice.answers[PATH] = refuse(Fault.BUSY)
        self.failureResultOf(self.fetch(), RemoteBusy)
        self.assertEqual(len(self.alice.heard_of(Get)), TRIES_MAX)

    def test_lost(self) -> None:
        """After a lost session, the next one is asked."""

        def lose(session: MemorySession, get: Get) -> None:
            self.alice.answers[PATH] = give_preview(b"small")
            self.alice.lose()

        self.alice.answers[PATH] = lose
        self.remote.on_room.add(lambda: None)
        self.assertEqual(self.successResultOf(self.fetch()).data, b"small")

    def test_cancelled(self) -> None:
        """A request that is given up is cancelled."""
        self.alice.answers[PATH] = lambda session, get: None
        fetching = self.fetch()
        fetching.cancel()
        self.failureResultOf(fetching)
        self.alice.pass_time(1)
        self.assertEqual([each.why for each in self.alice.heard_of(Cancel)], [Cancelled.BY_USER])
