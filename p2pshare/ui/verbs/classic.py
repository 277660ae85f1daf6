"""The verb `get --classic`: the text and the picture of a peer in the original protocol, as a job like any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePath

from p2pshare.classic.datagrams import Kind
from p2pshare.classic.download import ClassicDownload, Fetched, Order
from p2pshare.errors import DestinationGone, DiskFull, P2pshareError, PeerUnreachable, WrongUsage
from p2pshare.net.sockets import IPeerReactor
from p2pshare.peer.fetch.job import JobProgress, SavedFile
from p2pshare.peer.fetch.link_change import LinkChange, LinkState
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.find.lookup import AWAY, FoundPeer
from p2pshare.pictures.encoding import check_picture_name
from p2pshare.storage.incoming.destination import make_folder, safe_name
from p2pshare.storage.shares.arguments import PICTURE_SUFFIXES, SHARED_STEM, TEXT_SUFFIXES
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.job_view import JobView
from p2pshare.ui.verbs.connection import announce, finder_of
from p2pshare.ui.verbs.get import NO_USE, fetch_from_each
from p2pshare.ui.verbs.job import Results, WatchedJob
from p2pshare.ui.verbs.remote_arguments import parse_items
from p2pshare.wire.paths import RemotePath, format_path

WHICH_FILE = (
    f"write {{peer}}:{SHARED_STEM}.txt for the text, or {{peer}}:{SHARED_STEM}.jpg for the picture"
)
NOT_VERIFIED = "Not verified: the classic protocol has no checksum for texts."
VERIFIED = "Verified: {} x {} pixels, and the checksum of every row is correct."


async def get_classic(invocation: Invocation, words: Sequence[str], *, overwrite: bool) -> int:
    """Fetch all texts and pictures in `words` in the classic protocol; return the exit code.

    Raises:
        WrongUsage: the words are invalid; no peer was asked.
    """
    own_name = invocation.settings.name
    jobs = parse_items(words, own_name, invocation.cwd, overwrite=overwrite, which_file=WHICH_FILE)
    for peer, items in jobs.items():
        for item in items:
            _destination(peer, item)
    results = Results(invocation)
    async with invocation.registry() as registry:
        finder = finder_of(invocation, registry, own_name)

        async def fetch(peer: str, items: Sequence[JobItem]) -> None:
            await fetch_classic(invocation, await finder.find(peer), items, results)

        return await fetch_from_each(jobs, results, invocation.output, fetch, (*NO_USE, *AWAY))


async def fetch_classic(
    invocation: Invocation, peer: FoundPeer, items: Sequence[JobItem], results: Results
) -> None:
    """Fetch items of one peer. A peer that is offline is tried, as the registry may be mistaken.

    Raises:
        NotClassic: the peer does not speak the classic protocol.
        PeerOffline: the peer is offline, and does not answer.
        P2pshareError: nothing more can be fetched from this peer, or be written.
    """
    peer.expect_classic()
    for folder in {item.folder for item in items}:
        make_folder(folder)
    announce(invocation, peer)
    await invocation.prepare_pictures()
    watched = WatchedJob(
        invocation,
        peer.name,
        results,
        make_job=partial(ClassicJob, reactor=invocation.reactor, output=invocation.output),
        draw=ClassicJob.draw,
    )
    watched.link(LinkChange(LinkState.UP, peer.name))  # there is no connection that could break
    try:
        await watched.run(peer, items)
    except PeerUnreachable as error:
        raise peer.explained(error) from error


class ClassicJob:
    """Items of one peer, fetched one after another; see `p2pshare.ui.verbs.job.Job`."""

    def __init__(
        self,
        peer: FoundPeer,
        items: Sequence[JobItem],
        *,
        reactor: IPeerReactor,
        output: Output,
        on_saved: Callable[[SavedFile], object],
        on_failed: Callable[[RemotePath, P2pshareError], object],
        **_: object,
    ) -> None:
        """Fetch `items` from `peer`; the arguments are those of `FetchJob`, with `output` for more events."""
        self._reactor = reactor
        self._peer = peer
        self._items = items
        self._output = output
        self._on_saved = on_saved
        self._on_failed = on_failed
        self._saved = self._failed = 0
        self._bytes_saved = 0
        self._item = items[0]
        self._download: ClassicDownload | None = None

    @property
    def files_total(self) -> int:
        """The number of items, as each of them is one file."""
        return len(self._items)

    @property
    def progress(self) -> JobProgress:
        """The progress; the total in bytes is known once the last file is arriving, if that is a picture."""
        here, total = self._bytes_saved, None
        if self._download is not None:
            here += self._download.bytes_done
            if self._item is self._items[-1] and self._download.bytes_total is not None:
                total = self._bytes_saved + self._download.bytes_total
        return JobProgress(
            files_done=self._saved,
            files_total=self.files_total,
            bytes_done=here,
            bytes_total=total,
            files_failed=self._failed,
            files_already_there=0,
            current=(self._item.path,),
            files_listed=self.files_total,
            bytes_fetched=here,
        )

    async def run(self) -> JobProgress:
        """Fetch the items; an item that fails is reported, and the others are fetched.

        Raises:
            PeerUnreachable: the peer does not answer.
            DestinationGone, DiskFull: nothing more can be written.
        """
        for item in self._items:
            try:
                self._item = item
                await self._fetch(item)
            except (PeerUnreachable, DestinationGone, DiskFull):
                raise
            except P2pshareError as error:
                self._failed += 1
                self._on_failed(item.path, error)
            self._download = None
        return self.progress

    def draw(self, view: JobView) -> None:
        """Draw the part of a picture that has arrived."""
        if self._download is not None and (rows := self._download.rows) is not None:
            view.show_picture(rows.pixels, rows.have)

    async def _fetch(self, item: JobItem) -> None:
        kind, name = _destination(self._peer.name, item)
        order = Order(
            self._peer.name, self._peer.classic_address, kind, item.folder, name, item.overwrite
        )
        self._output.event("started", peer=order.peer, kind=kind.value)
        self._download = ClassicDownload(self._reactor, order)
        fetched = await self._download.run()
        self._saved += 1
        self._bytes_saved += fetched.size
        self._on_saved(
            SavedFile(
                item.path,
                fetched.path,
                fetched.size,
                fetched.size,
                fetched.seconds,
                is_renamed=True,
            )
        )
        self._output.event("fetched", **_facts(order, fetched))
        self._output.line(VERIFIED.format(*fetched.pixels) if fetched.pixels else NOT_VERIFIED)


def _facts(order: Order, fetched: Fetched) -> dict[str, object]:
    width, height = fetched.pixels or (None, None)
    return {
        "peer": order.peer,
        "path": fetched.path,
        "kind": order.kind.value,
        "bytes": fetched.size,
        "seconds": round(fetched.seconds, 3),
        "width": width,
        "height": height,
        "verified": fetched.verified,
    }


def _destination(peer: str, item: JobItem) -> tuple[Kind, str]:
    """Return which of the two files of a peer an item is, and the name under which it is saved.

    Raises:
        WrongUsage: it is neither of them, or cannot be saved under this name.
    """
    path = PurePath(format_path(item.path))
    if str(path) == f"{SHARED_STEM}{path.suffix}":
        if path.suffix.lower() in TEXT_SUFFIXES:
            return Kind.TEXT, item.name or safe_name(f"{peer}.txt")
        if path.suffix.lower() in PICTURE_SUFFIXES:
            return Kind.PICTURE, check_picture_name(item.name or safe_name(f"{peer}.png"))
    raise WrongUsage(
        reason=f"{str(path)!r} cannot be fetched in the classic protocol: {WHICH_FILE.format(peer=peer)}."
    )
