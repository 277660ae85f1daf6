"""The verb `get`: files and folders, over sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

from p2pshare.errors import DestinationGone, DiskFull, P2pshareError, WrongUsage
from p2pshare.peer.fetch.job import FetchJob
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.survey import UpdateSurvey
from p2pshare.peer.fetch.unsaved.stream import Write
from p2pshare.storage.incoming.destination import make_folder
from p2pshare.storage.open_file_limit import allow_open_files
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.verbs.connection import announce, connection, finder_of, introduce
from p2pshare.ui.verbs.fetching.recording import record
from p2pshare.ui.verbs.fetching.streaming import goes_to_stdout, stream_maker, write_all
from p2pshare.ui.verbs.fetching.updating import UpdateJob
from p2pshare.ui.verbs.fetching.waiting import WaitingPeers
from p2pshare.ui.verbs.job import HARD_STOPS, Draw, MakeJob, Results, WatchedJob, destinations
from p2pshare.ui.verbs.key import name_of
from p2pshare.ui.verbs.preview import PreviewJob, maker_with_picture
from p2pshare.ui.verbs.remote_arguments import parse_at, parse_items

OPEN_FILES = 4096  # with this many, all bounds on open files have their full values
OPEN_FILES_MIN = 32  # open files; with fewer, nothing is fetched

NO_USE = (*HARD_STOPS, DiskFull, DestinationGone)
"""Errors after which no other peer is asked."""


async def get(
    invocation: Invocation,
    words: Sequence[str],
    *,
    overwrite: bool,
    files_max: int | None = None,
    at: str | None = None,
    preview: bool = False,
    wait: float | None = None,
    update: bool = False,
) -> int:
    """Fetch all that `words` name; return the exit code.

    An item that fails does not stop the others. The same command resumes what was stopped.

    Args:
        invocation: the run of the command line.
        words: the items, and the destination.
        overwrite: replace existing files.
        files_max: the most files and folders of an item; None for the limit of `JobPlan`.
        at: the address of the peer, `IP:PORT`; None to look it up.
        preview: fetch small previews of pictures in place of the files.
        update: replace what was fetched before and has changed, after telling how many files.
        wait: seconds for which peers are waited for that cannot be reached; None to fail at once.

    Raises:
        WrongUsage: the words are invalid, or the user has no name; no peer was asked.
        TooFewOpenFiles: the system allows too few open files.
        P2pshareError: the identity of the user cannot be used, or not be proven.
    """
    allow_open_files(OPEN_FILES, OPEN_FILES_MIN)
    write: Write | None = None
    if goes_to_stdout(words):
        words, write = words[:-1], partial(write_all, invocation.output.give_stdout())
    jobs = parse_items(
        words, name_of(invocation.settings), invocation.cwd, overwrite=overwrite, update=update
    )
    address = parse_at(at)
    if address is not None and len(jobs) > 1:
        raise WrongUsage(
            reason=f"--at is the address of one peer, but {len(jobs)} peers are asked: {', '.join(jobs)}."
        )
    results = Results(invocation, tries_again=wait is not None, names_present=not update)
    async with invocation.registry() as registry, destinations(invocation) as open_folder:
        fetch_job = partial(FetchJob, files_max=files_max, open_folder=open_folder)
        make_job, draw = await _job_maker(invocation, jobs, fetch_job, preview=preview, write=write)
        if update:
            survey = partial(UpdateSurvey, open_folder=open_folder, files_max=files_max)
            output = invocation.output
            make_job = partial(UpdateJob, survey=survey, make_job=fetch_job, output=output)
        finder = finder_of(invocation, registry, invocation.settings.name, address)
        first = next(iter(jobs))
        me, looking_up = await introduce(invocation, registry, finder, first)
        look_ups = {first: looking_up}
        waiting = None if wait is None else WaitingPeers(invocation, registry, wait)

        async def fetch(peer: str, items: Sequence[JobItem]) -> None:
            found = await (look_ups.pop(peer, None) or finder.find(peer))
            found.expect_sessions()
            for folder in {item.folder for item in items}:
                make_folder(folder)
            if waiting is None or waiting.meets(peer):
                announce(invocation, found)
            open_folder.begin_job(peer)
            watched = WatchedJob(invocation, peer, results, make_job=make_job, draw=draw)
            limit = invocation.settings.limit
            async with connection(
                invocation, me, finder, found, watched.link, limit=limit
            ) as remote:
                try:
                    progress = await watched.run(remote, items)
                except P2pshareError:
                    if watched.progress is not None:
                        await record(invocation, found, items, watched.progress, is_over=False)
                    raise
                await record(invocation, found, items, progress, is_over=True)

        try:
            return await fetch_from_each(jobs, results, invocation.output, fetch, waiting=waiting)
        finally:
            if waiting is not None:
                waiting.stop()


async def _job_maker(
    invocation: Invocation,
    jobs: Mapping[str, Sequence[JobItem]],
    fetch_job: MakeJob,
    *,
    preview: bool,
    write: Write | None,
) -> tuple[MakeJob, Draw]:
    """Return how to make a job of `get`, and how to draw it.

    Raises:
        WrongUsage: an item of `--preview` is a glob, or standard output cannot take the items.
    """
    if write is not None:
        return stream_maker(jobs, invocation.output, write), lambda *_: None
    items = [item for each in jobs.values() for item in each]
    if preview:
        if any(item.is_glob for item in items):
            raise WrongUsage(reason="--preview takes the paths of pictures, and no globs.")
        await invocation.prepare_pictures()
        return PreviewJob, PreviewJob.draw
    return await maker_with_picture(invocation, items, fetch_job)


async def fetch_from_each(
    jobs: Mapping[str, Sequence[JobItem]],
    results: Results,
    output: Output,
    fetch: Callable[[str, Sequence[JobItem]], Awaitable[None]],
    stop_after: tuple[type[P2pshareError], ...] = NO_USE,
    waiting: WaitingPeers | None = None,
) -> int:
    """Fetch the items of each peer, and summarize; an error stops only its own peer, unless it is in `stop_after`.

    With `waiting`, peers that cannot be reached are tried again after all others, when it says so.
    """

    def failed(peer: str, error: P2pshareError) -> None:
        output.error(error)
        results.failed(error, peer)

    async for peer in _turns(jobs, waiting):
        try:
            await fetch(peer, jobs[peer])
            if waiting is not None:
                waiting.done(peer)
        except P2pshareError as error:
            if waiting is not None and waiting.add(peer, error):
                results.begin_again(peer)
                continue
            failed(peer, error)
            if isinstance(error, stop_after):
                break
    else:
        for peer, last in () if waiting is None else waiting.given_up():
            failed(peer, last)
    results.summarize()
    return results.exit_code


async def _turns(peers: Iterable[str], waiting: WaitingPeers | None) -> AsyncIterator[str]:
    """Yield each peer, and then those that are waited for whenever one of them should be tried."""
    for peer in peers:
        yield peer
    while waiting is not None and (again := await waiting.next()) is not None:
        yield again
