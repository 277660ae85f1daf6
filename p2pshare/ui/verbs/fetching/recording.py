"""The line of a download in the history of its user."""

from __future__ import annotations

from collections.abc import Sequence

from p2pshare.peer.fetch.job import JobProgress
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.find.lookup import FoundPeer
from p2pshare.peer.offers.history import FAILED, TITLE_MAX, add_download
from p2pshare.storage.identity.data_folder import peer_folder
from p2pshare.storage.offers.history import DONE
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.key import name_of
from p2pshare.wire.paths import format_path


async def record(
    invocation: Invocation,
    found: FoundPeer,
    items: Sequence[JobItem],
    progress: JobProgress,
    *,
    is_over: bool,
) -> None:
    """Add a job to the history if it has fetched something; what was here already is not news.

    Args:
        invocation: the run of the command line.
        found: the peer.
        items: what was asked of it.
        progress: the last one of the job.
        is_over: whether the job has come to its end, with or without errors of files.
    """
    if not progress.files_done or found.key is None:
        return
    more = f" and {len(items) - 1} more" if len(items) > 1 else ""
    title = format_path(items[0].path)[: TITLE_MAX - len(more)] + more
    is_complete = is_over and not progress.files_failed
    name = name_of(invocation.settings)
    await add_download(
        invocation.reactor,
        peer_folder(invocation.settings, name),
        name,
        int(invocation.wall()),
        {
            "name": found.name,
            "key": str(found.key),
            "title": title,
            "files": progress.files_done,
            "bytes": progress.bytes_fetched,
            "outcome": DONE if is_complete else FAILED,
        },
    )
