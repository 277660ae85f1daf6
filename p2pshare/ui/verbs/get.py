"""The verb `get`: files and folders over sessions, or, if that is accepted, a text or a picture in the classic way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from p2pshare.errors import DestinationGone, DiskFull, P2pshareError, WrongUsage
from p2pshare.peer.fetch.job import FetchJob
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.remote import LinkLimits, RemotePeer
from p2pshare.peer.find.lookup import AWAY, FoundPeer, PeerFinder
from p2pshare.peer.find.own_identity import OwnIdentity
from p2pshare.storage.incoming.destination import make_folder
from p2pshare.storage.open_files import allow_open_files
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.connection import announce, finder_of, introduce, name_of
from p2pshare.ui.verbs.items import parse_at, parse_items
from p2pshare.ui.verbs.job import HARD_STOPS, Errand, MakeJob, Outcome, destinations

OPEN_FILES = 4096  # with which all bounds on open files have their full values
OPEN_FILES_MIN = 32  # open files without which files are not fetched

NO_USE = (*HARD_STOPS, DiskFull, DestinationGone)
"""Errors after which no other peer is asked either."""


async def get(
    invocation: Invocation,
    words: Sequence[str],
    *,
    overwrite: bool,
    files_max: int | None = None,
    at: str | None = None,
) -> int:
    """Get all that `words` name; returns the exit code.

    What fails does not keep the others from being fetched. What was stopped goes on when the same is said again.

    Args:
        invocation: what the verb works with.
        words: items, and where they go.
        overwrite: whether files that are there are replaced.
        files_max: files and folders that an item may have; None: as many as `JobPlan` allows.
        at: the address of the peer, `IP:PORT`, if it is not to be looked up.

    Raises:
        WrongUsage: the words cannot be understood, or do not say who asks; nobody was asked for anything.
        TooFewOpenFiles: the system grants fewer open files than this needs.
        P2pshareError: it cannot be known, or proven, who asks.
    """
    allow_open_files(OPEN_FILES, OPEN_FILES_MIN)
    jobs = parse_items(words, name_of(invocation), invocation.cwd, overwrite=overwrite)
    address = parse_at(at)
    if address is not None and len(jobs) > 1:
        raise WrongUsage(
            reason=f"--at is the address of one peer, and you want files of {len(jobs)}: {', '.join(jobs)}."
        )
    outcome = Outcome(invocation)
    async with invocation.registry() as registry, destinations(invocation) as open_folder:
        make_job = partial(FetchJob, files_max=files_max, open_folder=open_folder)
        finder = finder_of(invocation, registry, invocation.settings.name, address)
        me, first = await introduce(invocation, registry, finder, next(iter(jobs)))
        for number, (peer, items) in enumerate(jobs.items()):
            try:
                found = await (finder.find(peer) if number else first)
                await _get_from(invocation, me, finder, found, items, outcome, make_job)
            except P2pshareError as error:
                invocation.output.error(error)
                outcome.failed(error)
                if isinstance(error, NO_USE):
                    break
    outcome.say()
    return outcome.exit_code


async def _get_from(
    invocation: Invocation,
    me: OwnIdentity,
    finder: PeerFinder,
    found: FoundPeer,
    items: Sequence[JobItem],
    outcome: Outcome,
    make_job: MakeJob,
) -> None:
    """Get what is wanted of one peer.

    Raises:
        P2pshareError: nothing more is to be had of it.
    """
    found.expect_sessions()
    for folder in {item.folder for item in items}:
        make_folder(folder)
    announce(invocation, found)
    errand = Errand(invocation, found.name, outcome, make_job=make_job)
    remote = RemotePeer(
        invocation.reactor,
        invocation.rng,
        me.key,
        found.name,
        finder.target(found.name, found),
        LinkLimits(silence=invocation.settings.timeout, rate=invocation.settings.limit),
        on_link=errand.link,
    )
    try:
        await errand.run(remote, items)
    except P2pshareError as error:
        raise found.explained(error) from error
    finally:
        await remote.close()


async def get_classic(invocation: Invocation, words: Sequence[str], *, overwrite: bool) -> int:
    """Get the texts and pictures that `words` name, in the classic protocol; returns the exit code.

    Raises:
        WrongUsage: the words cannot be understood; nobody was asked for anything.
    """
    from p2pshare.ui.verbs.classic_get import fetch_from
    from p2pshare.ui.verbs.classic_items import parse_wanted

    wanted = parse_wanted(words, invocation.settings.name, invocation.cwd)
    outcome = Outcome(invocation)
    async with invocation.registry() as registry:
        finder = finder_of(invocation, registry, invocation.settings.name)
        for each in wanted:
            try:
                found = await finder.find(each.peer)
                make_folder(each.folder)
                await fetch_from(invocation, found, each, overwrite=overwrite)
                outcome.files += 1
            except P2pshareError as error:
                invocation.output.error(error)
                outcome.failed(error)
                if isinstance(error, (*NO_USE, *AWAY)):
                    break
    return outcome.exit_code
