"""`get --update`: what was fetched before is brought up to date, after the user has read how much that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p2pshare.peer.fetch.job import JobProgress
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.peer.fetch.survey import UpdateCounts, UpdateSurvey
from p2pshare.ui.output import Output
from p2pshare.ui.verbs.job import Job, MakeJob
from p2pshare.wire.quantities import size_text


class UpdateJob:
    """A survey, and then the job itself; a `Job`."""

    def __init__(
        self,
        remote: RemotePeer,
        items: Sequence[JobItem],
        *,
        survey: Any,
        make_job: MakeJob,
        output: Output,
        **reports: Any,
    ) -> None:
        """Args:
        remote: the sharer.
        items: the items.
        survey: makes an `UpdateSurvey` from these two.
        make_job: makes the job from these two and from `reports`.
        output: tells the user of the counts.
        reports: the callbacks of a `FetchJob`.
        """
        self._remote = remote
        self._items = items
        self._survey: UpdateSurvey = survey(remote, items)
        self._make_job = make_job
        self._output = output
        self._reports = reports
        self._job: Job | None = None

    @property
    def files_total(self) -> int | None:
        """As of the job; None before it."""
        return None if self._job is None else self._job.files_total

    @property
    def progress(self) -> JobProgress:
        """That of the job; before it, the number of files that were looked up."""
        if self._job is not None:
            return self._job.progress
        return JobProgress(0, None, 0, None, 0, 0, (), files_listed=self._survey.counts.files)

    async def run(self) -> JobProgress:
        """Count, tell, and fetch; raises as `FetchJob.run`."""
        counts, peer = await self._survey.run(), self._remote.name
        self._output.event(
            "update",
            **{"from": peer},
            new=counts.new,
            changed=counts.changed,
            doubtful=counts.doubtful,
            kept=counts.kept,
            up_to_date=counts.up_to_date,
            bytes=counts.size,
        )
        self._output.line(f"{peer}: {sentence_of(counts)}")
        self._job = self._make_job(self._remote, self._items, **self._reports)
        return await self._job.run()


def sentence_of(counts: UpdateCounts) -> str:
    """Return the counts as a sentence for people."""
    parts = []
    if counts.new or counts.changed:
        what = f"{counts.new} new and {counts.changed} changed files"
        parts.append(f"{what} to fetch, {size_text(counts.size)}")
    if counts.doubtful:
        parts.append(f"{counts.doubtful} to compare")
    if counts.kept:
        parts.append(f"{counts.kept} kept, since they are not as they were fetched")
    if counts.up_to_date or not parts:
        parts.append(f"{counts.up_to_date} up to date")
    return "; ".join(parts) + "."
