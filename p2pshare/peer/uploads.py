"""Who fetches what from this peer, and at what rate: for its log and for `p2pshare status`.

A file of `LARGE` bytes or more has a line in the log; smaller ones are summed up. However much somebody asks for, a
session writes only `LINES_MAX` such lines in `SUMMARY_EVERY` seconds; what is beyond that is in the sum.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from p2pshare.core.rate import RateMeter
from p2pshare.core.serving_work import Outcome, Transfer
from p2pshare.errors import P2pshareError
from p2pshare.wire.display import display
from p2pshare.wire.paths import format_path
from p2pshare.wire.quantities import duration_text, rate_text, size_text
from p2pshare.wire.transfer_messages import Fault, Job

LARGE = 1024 * 1024  # bytes of a file that is worth a line of its own
SUMMARY_EVERY = 5.0  # seconds
LINES_MAX = 10  # lines about single files in that time, for a session
VISITS_SHOWN = 50  # sessions in the status
CURRENT_SHOWN = 4  # files of each that go out now
PATH_SHOWN = 256  # characters of a path
FILES_PLAUSIBLE = 10**9  # that a job may be said to have
BYTES_PLAUSIBLE = 2**60
LEFT_MAX = 99 * 86400.0  # seconds: nobody plans further ahead

_FAULTS = {
    Fault.CHANGED: "it was changed while it was read",
    Fault.UNREADABLE: "it cannot be read",
}

_log = Logger()


class Uploads:
    """All sessions in which somebody may fetch."""

    def __init__(self, clock: IReactorTime) -> None:
        """Measure with `clock`."""
        self._clock = clock
        self._visits: dict[Visit, None] = {}  # in the order of their beginnings
        self.busy = 0
        """Sessions in which something is being fetched."""

    def begin(self, name: str) -> Visit:
        """A session with `name` has begun."""
        visit = Visit(self, self._clock, name)
        self._visits[visit] = None
        return visit

    @property
    def sessions(self) -> int:
        """Sessions that go on."""
        return len(self._visits)

    def status(self) -> list[dict[str, Any]]:
        """What goes on, a JSON object for each session: those first that fetch something now, then the oldest."""
        shown = sorted(self._visits, key=lambda each: not each.is_busy)
        return [each.status() for each in shown[:VISITS_SHOWN]]

    def over(self, visit: Visit) -> None:
        """A session is over."""
        del self._visits[visit]


class Visit:
    """One session, from its beginning to its end."""

    def __init__(self, uploads: Uploads, clock: IReactorTime, name: str) -> None:
        self._uploads = uploads
        self._clock = clock
        self._name = name
        self._began = clock.seconds()
        self._meter = RateMeter(self._began)
        self._current: dict[Transfer, float] = {}  # with the time of its beginning
        self._files = 0  # that are confirmed
        self._bytes = 0  # that went out
        self._unconfirmed = 0
        self._job: Job | None = None
        self._bytes_before = 0  # when the job was told
        self._files_before = 0
        self._burst = _Burst()
        self._timer: IDelayedCall | None = None
        _log.info("{name} is here", name=name)

    def job_told(self, job: Job) -> None:
        """The other side says what it is about to fetch."""
        if self._job is None or (job.files, job.bytes) < (self._job.files, self._job.bytes):
            self._files_before, self._bytes_before = self._files, self._bytes
        self._job = job

    def started(self, transfer: Transfer) -> None:
        """A file is offered."""
        self._uploads.busy += not self._current
        self._current[transfer] = self._clock.seconds()

    def sent(self, size: int) -> None:
        """So many bytes of files go out."""
        self._bytes += size
        self._meter.add(size, self._clock.seconds())

    def ended(self, transfer: Transfer) -> None:
        """A transfer is over."""
        now = self._clock.seconds()
        began = now
        if transfer in self._current:
            began = self._current.pop(transfer)
            self._uploads.busy -= not self._current
        match transfer.outcome:
            case Outcome.CONFIRMED:
                self._files += 1
            case Outcome.UNCONFIRMED:
                self._unconfirmed += 1
        offer = transfer.offer
        if offer is None or offer.size < LARGE or self._burst.lines >= LINES_MAX:
            self._burst.add(transfer, now)
        else:
            self._burst.lines += 1
            self._tell(transfer, now - began)
        if self._timer is None:
            self._timer = self._clock.callLater(SUMMARY_EVERY, self._time_passed)

    def over(self, reason: P2pshareError | None) -> None:
        """The session is over; `ended` was called for all of its transfers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sum_up()
        _log.info(
            "{name} has left after {stay}, with {files} ({size} sent){unconfirmed}{why}",
            name=self._name,
            stay=duration_text(self._clock.seconds() - self._began),
            files=_files(self._files),
            size=size_text(self._bytes),
            unconfirmed=f", {self._unconfirmed} more not confirmed" if self._unconfirmed else "",
            why="" if reason is None else f": {display(str(reason))}",
        )
        self._uploads.over(self)

    @property
    def is_busy(self) -> bool:
        """Whether something is being fetched."""
        return bool(self._current)

    def status(self) -> dict[str, Any]:
        """What goes on, as JSON has it; None is what nobody knows."""
        now = self._clock.seconds()
        rate = self._meter.rate(now)
        files, total = self._believed(rate)
        left = None
        if total is not None and rate > 0:
            gone = self._bytes - self._bytes_before
            left = round(min(LEFT_MAX, (total - gone) / rate), 1)
        return {
            "name": self._name,
            "files": self._files,
            "bytes": self._bytes,
            "rate": round(rate),
            "current": [_shown(each) for each in islice(self._current, CURRENT_SHOWN)],
            "total_files": files,
            "total_bytes": total,
            "left_s": left,
        }

    def _believed(self, rate: float) -> tuple[int | None, int | None]:
        """Files and bytes that the other side says it wants, as far as that can be true."""
        job = self._job
        if job is None:
            return None, None
        gone_files = self._files - self._files_before
        gone_bytes = self._bytes - self._bytes_before
        files = job.files if gone_files <= job.files <= FILES_PLAUSIBLE else None
        total = job.bytes if gone_bytes <= job.bytes <= BYTES_PLAUSIBLE else None
        return files, total

    def _tell(self, transfer: Transfer, seconds: float) -> None:
        offer = transfer.offer
        assert offer is not None
        path = _shown(transfer)
        match transfer.outcome:
            case Outcome.CONFIRMED:
                rate = rate_text(transfer.sent / max(seconds, 0.001))
                story = f"fetched '{path}', {size_text(offer.size)} at {rate}"
                if transfer.to_send < offer.size:
                    story += f", {size_text(offer.size - transfer.to_send)} of it earlier"
            case Outcome.UNCONFIRMED:
                story = f"was sent all of '{path}', {size_text(offer.size)}, but never confirmed it"
            case Outcome.FAILED:
                reason = _FAULTS.get(transfer.why, "it cannot be read")  # type: ignore[arg-type]
                story = f"did not get all of '{path}': {reason}"
            case _:
                story = f"was sent {size_text(transfer.sent)} of '{path}', then" + (
                    " did not want it" if transfer.outcome is Outcome.CANCELLED else " left"
                )
        _log.info("{name} {story}", name=self._name, story=story)

    def _time_passed(self) -> None:
        self._timer = None
        self._sum_up()

    def _sum_up(self) -> None:
        story = self._burst.story()
        if story:
            _log.info("{name} {story}", name=self._name, story=story)
        self._burst = _Burst()


class _Burst:
    """The files of a few seconds that have no line of their own."""

    def __init__(self) -> None:
        self.lines = 0
        """Lines about other files in this time."""
        self._began = self._ended = 0.0
        self._counts: Counter[Outcome] = Counter()
        self._bytes = 0
        self._shares: Counter[str] = Counter()

    def add(self, transfer: Transfer, now: float) -> None:
        """One more is over."""
        assert transfer.outcome is not None
        if not self._counts:
            self._began = now
        self._ended = now
        self._counts[transfer.outcome] += 1
        if transfer.offer is not None and transfer.outcome is Outcome.CONFIRMED:
            self._bytes += transfer.offer.size
            self._shares[transfer.request.path[0]] += 1

    def story(self) -> str:
        """All of them in words; nothing if there are none."""
        counts = self._counts
        told = []
        if files := counts[Outcome.CONFIRMED]:
            told.append(
                f"fetched {_files(files)}, {size_text(self._bytes)}{self._rate(files)}{self._from()}"
            )
        if lost := counts[Outcome.UNCONFIRMED]:
            told.append(f"never confirmed {_files(lost)}")
        if left := counts[Outcome.CANCELLED] + counts[Outcome.INTERRUPTED]:
            told.append(f"left {_files(left)} unfinished")
        if failed := counts[Outcome.FAILED]:
            told.append(f"did not get {_files(failed)}")
        return "; ".join(told)

    def _rate(self, files: int) -> str:
        seconds = self._ended - self._began
        return f", {files / seconds:.0f} files/s" if files / 2 > seconds > 0 else ""

    def _from(self) -> str:
        (share, _), *others = self._shares.most_common()
        return f", from {display(share)}" + (f" and {len(others)} more" if others else "")


def _shown(transfer: Transfer) -> str:
    path = display(format_path(transfer.request.path))
    return (
        path if len(path) <= PATH_SHOWN else f"{path[: PATH_SHOWN // 2]}…{path[-PATH_SHOWN // 2 :]}"
    )


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"
