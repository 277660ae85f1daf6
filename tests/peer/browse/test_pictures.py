"""Tests of `p2pshare.peer.browse.pictures`: previews that are kept, shared and checked, from a sharer in memory."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from p2pshare.errors import RemoteBusy, RemoteNoPreview, SharerLied
from p2pshare.peer.browse.pictures import FETCH_MAX, OVERHEAD, Picture, RemotePictures
from p2pshare.peer.browse.sessions import PREVIEWS_MAX
from p2pshare.wire.transfer_messages import Cancel, Failed, Fault
from tests.peer.browse.test_sessions import BrowseTestCase
from tests.peer.fetch.unsaved.test_preview import give_preview
from tests.pictures.test_reduced import jpeg

SMALL = jpeg(64, 48)


class PicturesTests(BrowseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.pictures = RemotePictures(self.sessions)
        self.alice.answer = give_preview(SMALL)

    def ask(self, name: str = "cat.jpg", edge: int = 64, version: str = "v1") -> Picture:
        """Return a preview."""
        picture: Picture = self.do(self.pictures.preview("alice", ("s", name), edge, version))
        return picture

    def refused(self, name: str = "cat.jpg", edge: int = 64, version: str = "v1") -> None:
        """Expect that there is none."""
        self.fail_with(RemoteNoPreview, self.pictures.preview("alice", ("s", name), edge, version))

    def test_kept(self) -> None:
        """A preview of a version that is known is asked for once; of an unknown one each time."""
        for _ in range(3):
            self.assertEqual(self.ask(), Picture(SMALL, "v1"))
        self.assertEqual(len(self.alice.gets()), 1)
        self.ask(version="")
        self.ask(version="v2")
        self.assertEqual(len(self.alice.gets()), 3)
        self.assertEqual([each.preview for each in self.alice.gets()], [64] * 3)
        self.alice.answer = lambda session, get: session.say(Failed(get.id, Fault.NO_PREVIEW))
        for _ in range(3):
            self.refused("note.txt")
        self.assertEqual(len(self.alice.gets()), 4)
        self.refused(edge=65)

    def test_together(self) -> None:
        """Callers that want the same share a request, and many requests are under way at once."""
        asked = [
            Deferred.fromCoroutine(self.pictures.preview("alice", ("s", f"{n % 30}"), 64, "v1"))
            for n in range(60)
        ]
        self.assertEqual(len(self.alice.gets()), PREVIEWS_MAX)
        self.alice.pass_time(1)
        for each in asked:
            self.successResultOf(each)
        self.assertEqual(len(self.alice.gets()), 30)

    def test_bounds(self) -> None:
        """Threat 123: what is kept is bounded by bytes and by number."""
        size = len(SMALL) + len("sa") + OVERHEAD
        for pictures in (
            RemotePictures(self.sessions, kept_bytes=2 * size),
            RemotePictures(self.sessions, kept_max=2),
        ):
            self.pictures, before = pictures, len(self.alice.gets())
            for name in ("a", "b", "c", "c", "b", "a"):
                self.ask(name)
            self.assertEqual(len(self.alice.gets()) - before, 4)

    def test_hostile(self) -> None:
        """Threat 123: HTML, bombs, more pixels than were wanted and damaged bytes are no previews."""
        bomb = bytearray(SMALL)
        at = SMALL.index(b"\xff\xc0")
        bomb[at + 5 : at + 9] = b"\xff\xff\xff\xff"
        for number, data in enumerate(
            (b"<html><script>alert(1)</script>", bytes(bomb), jpeg(65, 48), SMALL[:-2], b"GIF89a")
        ):
            self.alice.answer = give_preview(data)
            self.refused(f"{number}.jpg")
        self.alice.answer = give_preview(b"x" * 65_537)
        self.fail_with(SharerLied, self.pictures.preview("alice", ("s", "large.jpg"), 64, "v1"))

    def test_silent(self) -> None:
        """Threat 123: a sharer that never answers is given up, also if its session is opened again and again."""
        self.alice.answer = lambda session, get: None
        asking = self.pictures.preview("alice", ("s", "cat.jpg"), 64)
        self.fail_with(RemoteBusy, asking, FETCH_MAX + 1)

    def test_scrolled_away(self) -> None:
        """A preview that nobody waits for any more is cancelled; the next ones are asked for instead."""
        self.alice.answer = lambda session, get: None
        asked = [
            Deferred.fromCoroutine(self.pictures.preview("alice", ("s", f"{n // 2}"), 64, "v1"))
            for n in range(100)
        ]
        self.alice.pass_time(1)
        self.assertEqual(len(self.alice.gets()), PREVIEWS_MAX)
        for each in asked[::2]:
            each.cancel()
            self.failureResultOf(each)
        self.alice.pass_time(1)
        self.assertEqual(len(self.alice.heard_of(Cancel)), 0, "each has another one who waits")
        for each in reversed(asked[1:-1:2]):
            each.cancel()
            self.failureResultOf(each)
        self.alice.pass_time(1)
        self.assertEqual(len(self.alice.heard_of(Cancel)), PREVIEWS_MAX)
        self.assertEqual([get.path[1] for get in self.alice.gets()[PREVIEWS_MAX:]], ["49"])
        asked[-1].cancel()
        self.failureResultOf(asked[-1])

    def test_stop(self) -> None:
        """Stopping cancels what is under way."""
        self.alice.answer = lambda session, get: None
        asked = Deferred.fromCoroutine(self.pictures.preview("alice", ("s", "a"), 64))
        self.alice.pass_time(1)
        self.pictures.stop()
        self.failureResultOf(asked)
        self.do(self.sessions.stop())
