"""Tests of `p2pshare.ui.verbs.preview`, with a sharer in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import P2pshareError, RemoteNoPreview
from p2pshare.peer.fetch.job import FetchJob, JobProgress, SavedFile
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.pictures.pixels import Pixels
from p2pshare.ui.verbs.preview import (
    PictureJob,
    PreviewJob,
    is_picture,
    maker_with_picture,
    preview_name,
)
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import Done, Failed, Fault, Get
from tests.peer.fetch.unsaved.test_preview import give_preview
from tests.peer.memory_sharer import MemorySession, MemorySharer, give
from tests.peer.share.test_previews import picture

PATH = ("s", "cat.jpg")


class FakeView:
    """A view that records what is shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, ...]] = []
        self.enlarged: list[bool] = []

    def draw_image(self, pixels: Pixels, *, enlarged: bool = False) -> tuple[tuple[int, ...], bool]:
        return pixels.shape, enlarged

    def show_image(self, drawn: tuple[tuple[int, ...], bool]) -> None:
        self.shown.append(drawn[0])
        self.enlarged.append(drawn[1])


class PreviewTestCase(SynchronousTestCase):
    """Alice shares a picture of 1200 x 900 pixels, and previews of it."""

    def setUp(self) -> None:
        self.inbox = Path(self.mktemp()).absolute()
        self.inbox.mkdir()
        self.alice = MemorySharer()
        self.original = picture(1200, 900)
        self.alice.put("s/cat.jpg", self.original)
        self.alice.answers[PATH] = self.answer
        self.view = FakeView()
        self.saved: list[SavedFile] = []
        self.failed: dict[RemotePath, P2pshareError] = {}

    def answer(self, session: MemorySession, get: Get) -> None:
        """Send the picture, or a preview of it."""
        edge = get.preview
        (give_preview(picture(edge, edge * 3 // 4)) if edge else give)(session, get)

    def run_job(self, make_job: Any, *paths: RemotePath, **options: Any) -> JobProgress:
        """Run a job of these paths."""
        job = make_job(
            self.alice.remote(),
            [JobItem(path, self.inbox, **options) for path in paths],
            on_saved=self.saved.append,
            on_failed=self.failed.__setitem__,
        )
        job.draw(cast("Any", self.view))
        running: Deferred[JobProgress] = Deferred.fromCoroutine(job.run())
        self.alice.pass_time(10)
        return self.successResultOf(running)


class NameTests(SynchronousTestCase):
    def test_names(self) -> None:
        """The name says that it is a preview, and of what; a hostile one is harmless."""
        self.assertEqual(preview_name(("s", "cat.png")), "cat.preview.jpg")
        self.assertEqual(preview_name(("s", "cat")), "cat.preview.jpg")
        self.assertEqual(preview_name(()), "_preview.jpg")
        self.assertNotIn("\x1b", preview_name(("s", "a\x1b[2Jb.jpg")))
        self.assertTrue(is_picture(("a.JPG",)))
        self.assertFalse(is_picture(("a.txt",)) or is_picture(()))


class PreviewJobTests(PreviewTestCase):
    """`get --preview`."""

    def test_saved(self) -> None:
        """The preview alone is fetched, saved as what it is, reported as done, and shown."""
        progress = self.run_job(PreviewJob, PATH)
        path = self.inbox / "cat.preview.jpg"
        self.assertEqual(path.read_bytes(), picture(512, 384))
        self.assertEqual([each.path for each in self.saved], [path])
        self.assertEqual((progress.files_done, progress.files_total), (1, 1))
        requests = self.alice.heard_of(Get)
        self.assertEqual([each.preview for each in requests], [512])
        self.assertEqual(self.alice.heard_of(Done), [Done((requests[0].id,))])
        self.assertEqual(self.view.shown, [(384, 512, 3)])

    def test_nothing_overwritten(self) -> None:
        """An existing file stays, unless it is to be replaced."""
        (self.inbox / "cat.preview.jpg").write_bytes(b"mine")
        self.run_job(PreviewJob, PATH)
        self.assertEqual((self.inbox / "cat.preview.jpg").read_bytes(), b"mine")
        self.run_job(PreviewJob, PATH, overwrite=True)
        self.assertEqual((self.inbox / "cat.preview.jpg").read_bytes(), picture(512, 384))

    def test_twins(self) -> None:
        """Pictures that differ in their suffixes do not replace each other's previews."""
        self.alice.answers["s", "cat.png"] = give_preview(picture(500, 500))
        for _ in range(2):
            self.run_job(PreviewJob, PATH, ("s", "cat.png"), overwrite=True)
            first, second = (each.path for each in self.saved)
            self.assertEqual(first.read_bytes(), picture(512, 384))
            self.assertEqual(second.read_bytes(), picture(500, 500))
            self.saved.clear()

    def test_failed(self) -> None:
        """A file without a preview fails, and the others are fetched."""
        self.alice.answers["s", "note.txt"] = lambda session, get: session.say(
            Failed(get.id, Fault.NO_PREVIEW)
        )
        progress = self.run_job(PreviewJob, ("s", "note.txt"), PATH)
        self.assertIsInstance(self.failed["s", "note.txt"], RemoteNoPreview)
        self.assertEqual((progress.files_done, progress.files_failed), (1, 1))

    def test_undecodable(self) -> None:
        """What cannot be shown is saved all the same."""
        self.alice.answers[PATH] = give_preview(b"no picture")
        self.run_job(PreviewJob, PATH)
        self.assertEqual((self.inbox / "cat.preview.jpg").read_bytes(), b"no picture")
        self.assertEqual(self.view.shown, [])


class PictureJobTests(PreviewTestCase):
    """A picture that sharpens while it arrives."""

    make_job = partial(PictureJob, make_job=FetchJob)

    def test_sharpens(self) -> None:
        """The small preview is shown, then the larger one, then the picture; the exact file is saved."""
        self.alice.answers[PATH] = self.slow
        self.run_job(self.make_job, PATH)
        self.assertEqual(self.view.shown, [(48, 64, 3), (384, 512, 3), (900, 1200, 3)])
        self.assertEqual(self.view.enlarged, [True, True, False])
        self.assertEqual((self.inbox / "cat.jpg").read_bytes(), self.original)
        self.assertEqual([each.path.name for each in self.saved], ["cat.jpg"])

    def test_when_shown(self) -> None:
        """One picture is shown on a terminal that can do that; globs, several items and other files are not."""
        for names, shows, is_shown in (
            (("cat.jpg",), True, True),
            (("cat.jpg",), False, False),
            (("cat.jpg", "dog.jpg"), True, False),
            (("*.jpg",), True, False),
            (("film.mp4",), True, False),
        ):
            invocation: Any = SimpleNamespace(
                output=SimpleNamespace(shows_pictures=shows), prepare_pictures=lambda: succeed(None)
            )
            items = [JobItem(("s", name), self.inbox) for name in names]
            choosing = Deferred.fromCoroutine(maker_with_picture(invocation, items, FetchJob))
            make_job, draw = self.successResultOf(choosing)
            self.assertEqual(make_job is not FetchJob, is_shown)
            self.assertEqual(draw is PictureJob.draw, is_shown)

    def slow(self, session: MemorySession, get: Get) -> None:
        """Let the file come after its previews."""
        self.alice.reactor.callLater(0.0 if get.preview else 2.0, self.answer, session, get)

    def without_previews(self, bad: Callable[[MemorySession, Get], None]) -> Any:
        """Return how a sharer answers that has the file only."""

        def answer(session: MemorySession, get: Get) -> None:
            (bad if get.preview else self.slow)(session, get)

        return answer

    def test_no_previews(self) -> None:
        """Previews that do not come, or are larger than they may be, do not matter."""
        for bad in (
            lambda session, get: session.say(Failed(get.id, Fault.NO_PREVIEW)),
            give_preview(picture(500, 500)),
            give_preview(b"no picture"),
        ):
            self.view.shown.clear()
            self.alice.answers[PATH] = self.without_previews(bad)
            self.run_job(self.make_job, PATH, overwrite=True)
            self.assertEqual(self.view.shown, [(900, 1200, 3)])
            (self.inbox / "cat.jpg").unlink()
