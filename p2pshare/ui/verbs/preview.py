"""Previews of pictures: `get --preview` saves them, and `get` shows them while a single picture arrives.

On a terminal that can show pictures, a picture sharpens: the smallest preview comes first, then the larger one, and the
picture itself when it is saved. Previews are decoded by the same rules as any picture of a stranger (`pictures`), and
with a limit of their own size. A preview that does not come, or cannot be decoded, is no error of the file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO

from twisted.internet.defer import CancelledError, Deferred

from p2pshare.errors import DestinationGone, DiskFull, P2pshareError, PictureUnreadable, Unreachable
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.fetch.job import JobProgress, SavedFile
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.unsaved.preview import Preview, fetch_preview
from p2pshare.storage.incoming.destination import safe_name
from p2pshare.storage.incoming.sequential_file import SequentialFile
from p2pshare.storage.shares.arguments import PICTURE_SUFFIXES
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.terminal.job_view import JobView
from p2pshare.ui.verbs.job import Draw, Job, MakeJob
from p2pshare.wire.paths import RemotePath
from p2pshare.wire.transfer_messages import PREVIEW_EDGES

if TYPE_CHECKING:  # numpy and Pillow take their time to import
    from p2pshare.ui.terminal.drawn_picture import DrawnPicture

SAVED_EDGE = PREVIEW_EDGES[-1]
SUFFIX = ".preview.jpg"
FATAL = (Unreachable, DiskFull, DestinationGone)
"""Errors after which no other preview is fetched."""


def is_picture(path: RemotePath) -> bool:
    """Whether the name of a file is that of a picture."""
    return bool(path) and PurePath(path[-1]).suffix.lower() in (*PICTURE_SUFFIXES, ".gif")


async def maker_with_picture(
    invocation: Invocation, items: Sequence[JobItem], make_job: MakeJob
) -> tuple[MakeJob, Draw]:
    """Return how to make a job of `items` and how to draw it: a single picture is shown, if the terminal can."""
    if len(items) == 1 and not items[0].is_glob and is_picture(items[0].path):
        await invocation.prepare_pictures()
        if invocation.output.shows_pictures:
            return partial(PictureJob, make_job=make_job), PictureJob.draw
    return make_job, lambda *_: None


def preview_name(path: RemotePath) -> str:
    """Return the name under which the preview of a picture is saved: `cat.preview.jpg` for `cat.png`."""
    stem = PurePath(path[-1]).stem if path else ""  # the top, which only a liar has a preview of
    return safe_name(f"{stem}{SUFFIX}")


class PreviewJob:
    """The previews of some pictures, saved one after another; a `p2pshare.ui.verbs.job.Job`."""

    def __init__(
        self,
        remote: RemotePeer,
        items: Sequence[JobItem],
        *,
        on_saved: Callable[[SavedFile], object],
        on_failed: Callable[[RemotePath, P2pshareError], object],
        **_: object,
    ) -> None:
        """Fetch the previews of `items`, which are pictures; the arguments are those of `FetchJob`."""
        self._remote = remote
        self._items = items
        self._on_saved = on_saved
        self._on_failed = on_failed
        self._done = self._failed = self._bytes = 0
        self._item = items[0]
        self._paths: set[Path] = set()  # of the previews that are saved
        self._view: JobView | None = None

    @property
    def files_total(self) -> int:
        """The number of items, as each of them is one file."""
        return len(self._items)

    @property
    def progress(self) -> JobProgress:
        """The progress; a preview is so small that it is here or not."""
        return JobProgress(
            files_done=self._done,
            files_total=self.files_total,
            bytes_done=self._bytes,
            bytes_total=None,
            files_failed=self._failed,
            files_already_there=0,
            current=(self._item.path,),
            files_listed=self.files_total,
            bytes_fetched=self._bytes,
        )

    def draw(self, view: JobView) -> None:
        """Note the view in which previews are shown."""
        self._view = view

    async def run(self) -> JobProgress:
        """Fetch the previews; one that fails is reported, and the others are fetched.

        Raises:
            Unreachable: there is no session.
            DiskFull, DestinationGone: nothing more can be written.
        """
        for item in self._items:
            self._item = item
            try:
                await self._fetch(item)
            except FATAL:
                raise
            except P2pshareError as error:
                self._failed += 1
                self._on_failed(item.path, error)
        return self.progress

    async def _fetch(self, item: JobItem) -> None:
        remote, reactor = self._remote, self._remote.reactor
        started = reactor.seconds()
        preview = await fetch_preview(remote, item.path, SAVED_EDGE)
        name = item.name or preview_name(item.path)
        overwrite = item.overwrite and item.folder / name not in self._paths
        path = await run_in_thread(reactor, _save, item.folder, name, preview.data, overwrite)
        self._paths.add(path)
        remote.done([preview.number])
        size = len(preview.data)
        self._done, self._bytes = self._done + 1, self._bytes + size
        with suppress(PictureUnreadable):  # it is saved all the same
            await _show(reactor, self._view, io.BytesIO(preview.data), SAVED_EDGE)
        seconds, root = reactor.seconds() - started, preview.root
        self._on_saved(SavedFile(item.path, path, size, size, seconds, root=root, is_renamed=True))


class PictureJob:
    """A job for one picture that is shown while it arrives; a `p2pshare.ui.verbs.job.Job`."""

    def __init__(
        self,
        remote: RemotePeer,
        items: Sequence[JobItem],
        *,
        make_job: MakeJob,
        on_saved: Callable[[SavedFile], object],
        **options: object,
    ) -> None:
        """Show the only item of a job, which `make_job` makes with the arguments of `FetchJob`."""
        self._remote = remote
        (self._item,) = items
        self._on_saved = on_saved
        self._saved: list[SavedFile] = []  # reported below the picture
        self._job: Job = make_job(remote, items, on_saved=self._saved.append, **options)
        self._view: JobView | None = None

    @property
    def files_total(self) -> int | None:
        """As in the job."""
        return self._job.files_total

    @property
    def progress(self) -> JobProgress:
        """As in the job."""
        return self._job.progress

    def draw(self, view: JobView) -> None:
        """Note the view in which the picture is shown."""
        self._view = view

    async def run(self) -> JobProgress:
        """Fetch the picture, as `FetchJob.run` does."""
        showing = Deferred.fromCoroutine(self._show_previews())
        showing.addErrback(lambda failure: failure.trap(P2pshareError, CancelledError))
        try:
            progress = await self._job.run()
            showing.cancel()
            for file in self._saved:
                await self._show_file(file.path)
            return progress
        finally:
            showing.cancel()
            for file in self._saved:
                self._on_saved(file)

    async def _show_previews(self) -> None:
        for edge in (PREVIEW_EDGES[0], SAVED_EDGE):  # a terminal has no use for more steps
            preview: Preview = await fetch_preview(self._remote, self._item.path, edge)
            self._remote.done([preview.number])
            await _show(self._remote.reactor, self._view, io.BytesIO(preview.data), edge)

    async def _show_file(self, path: Path) -> None:
        with suppress(OSError, PictureUnreadable), path.open("rb") as file:
            await _show(self._remote.reactor, self._view, file, PREVIEW_EDGES[-1], is_whole=True)


async def _show(
    reactor: IPeerReactor, view: JobView | None, file: BinaryIO, edge: int, is_whole: bool = False
) -> None:
    """Show a preview with `edge` pixels at its longest edge, or a whole picture of any size.

    Raises:
        PictureUnreadable: it cannot be decoded.
    """
    if view is not None:
        view.show_image(await run_in_thread(reactor, _drawn, view, file, edge, is_whole))


def _drawn(view: JobView, file: BinaryIO, edge: int, is_whole: bool) -> DrawnPicture:
    """Return a picture as the view shows it, with about `edge` pixels at the longest edge; in a thread."""
    from p2pshare.pictures.decoding import read_picture
    from p2pshare.pictures.pixels import PIXELS_MAX

    pixels = read_picture(file, pixel_limit=PIXELS_MAX if is_whole else edge * edge, edge=edge)
    # A preview with its largest size may be that of a larger picture.
    return view.draw_image(pixels, enlarged=not is_whole and max(pixels.shape) == edge)


def _save(folder: Path, name: str, data: bytes, overwrite: bool) -> Path:
    """Save a preview; in a thread."""
    with SequentialFile.create(folder, name) as file:
        file.write(data)
        return file.commit(overwrite=overwrite)
