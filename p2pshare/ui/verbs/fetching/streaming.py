"""`get PEER:FILE -`: a file that is written to standard output as it arrives.

Standard output has the bytes of the file and nothing else. So everything that people or programs read goes to standard
error, the events of `--json` as well.
"""

from __future__ import annotations

import os
import select
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from p2pshare.errors import P2pshareError, RemoteIsFolder, StreamCutShort, WrongUsage
from p2pshare.peer.fetch.job import JobProgress
from p2pshare.peer.fetch.plan import JobItem
from p2pshare.peer.fetch.unsaved.stream import Streamed, StreamJob, Write
from p2pshare.ui.output import Output
from p2pshare.ui.verbs.job import MakeJob
from p2pshare.wire.paths import format_path

STDOUT = "-"
"""The destination; a file of that name is `./-`."""


def goes_to_stdout(words: Sequence[str]) -> bool:
    """Whether the last word of `get` is standard output."""
    return len(words) > 1 and words[-1] == STDOUT


def stream_maker(jobs: Mapping[str, Sequence[JobItem]], output: Output, write: Write) -> MakeJob:
    """Return how to make the job that passes on the only item of `jobs`; it continues what one before it began.

    Raises:
        WrongUsage: there is more than one item, or a glob.
    """
    items = [item for each in jobs.values() for item in each]
    if len(items) > 1 or items[0].is_glob:
        what = f"{len(items)} items" if len(items) > 1 else "a glob"
        raise WrongUsage(reason=f"Standard output takes one file, and not {what}.")
    return partial(_OutputJob, output=output, streamed=Streamed(write))


def write_all(fd: int, data: memoryview) -> None:
    """Write all bytes to a descriptor; blocks.

    Raises:
        OSError: they cannot be written.
    """
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # another program has made the pipe so
            select.select([], [fd], [])


class _OutputJob(StreamJob):
    """A job whose errors say what has become of standard output."""

    def __init__(self, remote: Any, items: Sequence[JobItem], *, output: Output, **options: Any):
        super().__init__(remote, items, **options)
        self._output = output
        self._where = f"{remote.name}:{format_path(items[0].path)}"

    async def run(self) -> JobProgress:
        try:
            return await super().run()
        except RemoteIsFolder:
            reason = f"{self._where!r} is a folder: standard output takes one file."
            raise WrongUsage(reason=reason) from None
        except P2pshareError as error:
            written = self.progress.bytes_done
            if written and not isinstance(error, StreamCutShort):
                text = f"{written} bytes were written to standard output."
                self._output.event("remark", **{"from": self._where}, text=text)
                self._output.remark(text)
            raise
