"""Who fetches what from this peer, and at what rate: for its log and for `p2pshare status`.

A file of `LARGE` bytes or more has a line in the log; smaller ones are summed up. However much somebody asks for, in
however many sessions, a name has only `LINES_MAX` such lines in `SUMMARY_EVERY` seconds; what is beyond that is in the
sum. That somebody came and left is said of who fetches something, of `VISITS_TOLD` visits in `VISITS_EVERY` seconds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from p2pshare.core.rate import RateMeter
from p2pshare.core.sharer_transfers import Outcome, Transfer
from p2pshare.errors import P2pshareError
from p2pshare.wire.blocks import FILE_SIZE_MAX
from p2pshare.wire.display import display
from p2pshare.wire.paths import format_path
from p2pshare.wire.quantities import duration_text, rate_text, size_text
from p2pshare.wire.transfer_messages import Fault, Job

LARGE = 1024 * 1024  # bytes of a file that is worth a line of its own
SUMMARY_EVERY = 5.0  # seconds
RATE_OVER = 0.5  # seconds that files have to take for their number in a second to mean anything
LINES_MAX = 10  # lines about single files in that time, for a name
VISITS_EVERY = 60.0  # seconds
VISITS_TOLD = 4  # visits of a name that are told of in that time
GUESTS_MAX = (
    1000  # names of which it is known what was told; those that are here have room in any case
)
VISITS_SHOWN = 50  # sessions in the status
CURRENT_SHOWN = 4  # files of each that go out now
PATH_SHOWN = 256  # characters of a path
FILES_PLAUSIBLE = 10**9  # that a job may be said to have
BYTES_PLAUSIBLE = FILE_SIZE_MAX  # a job may have as many as the largest file
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
        self._guests: dict[str, _Guest] = {}  # by name; who came last is last
        self.busy = 0
        """Sessions in which something is being fetched."""

    def begin(self, name: str) -> Visit:
        """A session with `name` has begun."""
        visit = Visit(self, self._clock, self._guest(name))
        self._visits[visit] = None
        return visit

    def stop(self) -> None:
        """Say what is still to be said, now. May be called again."""
        for guest in self._guests.values():
            guest.sum_up()

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

    def _guest(self, name: str) -> _Guest:
        guest = self._guests.pop(name, None) or _Guest(self._clock, name)
        if len(self._guests) >= GUESTS_MAX:
            forgotten = next((each for each in self._guests.values() if not each.visits), None)
            if forgotten is not None:
                forgotten.sum_up()
                del self._guests[forgotten.name]
        self._guests[name] = guest
        return guest


class Visit:
    """One session, from its beginning to its end."""

    def __init__(self, uploads: Uploads, clock: IReactorTime, guest: _Guest) -> None:
        self._uploads = uploads
        self._clock = clock
        self._guest = guest
        self._began = clock.seconds()
        self._meter = RateMeter(self._began)
        self._current: dict[Transfer, float] = {}  # with the time of its beginning
        self._all = _Sent()
        self._job = _Sent()  # in the job that goes on, or else in the last one
        self._left: Job | None = None  # as it was told
        self._since = _Sent()  # since then
        self._is_between = False  # no job goes on
        self._has_fetched = self._is_told = self._is_over = False
        guest.visits += 1
        _log.debug("{name} has connected", name=guest.name)

    def job_told(self, job: Job) -> None:
        """The other side says what is still to come; nothing at the end of a job."""
        is_over = not (job.files or job.bytes)
        if not is_over:
            self._go_on()
        self._is_between = is_over
        self._left, self._since = job, _Sent()

    def started(self, transfer: Transfer) -> None:
        """A file is offered."""
        if self._is_over:
            return
        self._arrive()
        self._go_on()
        self._uploads.busy += not self._current
        self._current[transfer] = self._clock.seconds()

    def sent(self, size: int) -> None:
        """So many bytes of files go out."""
        for each in (self._all, self._job, self._since):
            each.bytes += size
        self._meter.add(size, self._clock.seconds())

    def ended(self, transfer: Transfer) -> None:
        """A transfer is over."""
        if self._is_over:
            return
        self._arrive()
        now = self._clock.seconds()
        began = now
        if transfer in self._current:
            began = self._current.pop(transfer)
            self._uploads.busy -= not self._current
        for each in (self._all, self._job, self._since):
            each.count(transfer)
        self._guest.tell(transfer, now - began)

    def over(self, reason: P2pshareError | None) -> None:
        """The session is over; `ended` was called for all of its transfers, unless something broke."""
        if self._is_over:
            return
        self._is_over = True
        self._uploads.busy -= bool(self._current)
        self._current.clear()
        self._uploads.over(self)
        self._guest.visits -= 1
        if self._is_told:
            self._guest.sum_up()
        lost = self._all.unconfirmed
        (_log.info if self._is_told else _log.debug)(
            "{name} has left after {stay}, with {files} ({size} sent){unconfirmed}{why}",
            name=self._guest.name,
            stay=duration_text(self._clock.seconds() - self._began),
            files=_files(self._all.files),
            size=size_text(self._all.bytes),
            unconfirmed=f", {lost} more not confirmed" if lost else "",
            why="" if reason is None else f": {display(str(reason))}",
        )

    @property
    def is_busy(self) -> bool:
        """Whether something is being fetched."""
        return bool(self._current)

    def status(self) -> dict[str, Any]:
        """What goes on, as JSON has it; None is what nobody knows."""
        rate = self._meter.rate(self._clock.seconds())
        files, size = self._to_come()
        left = None
        if size is not None and rate > 0:
            left = round(min(LEFT_MAX, size / rate), 1)
        return {
            "name": self._guest.name,
            "files": self._job.files,
            "bytes": self._job.bytes,
            "rate": round(rate),
            "current": [_shown(each) for each in islice(self._current, CURRENT_SHOWN)],
            "files_left": files,
            "bytes_left": size,
            "left_s": left,
        }

    def _arrive(self) -> None:
        """Something is asked for: say who is here, unless that one comes and goes all the time."""
        if not self._has_fetched:
            self._has_fetched = True
            self._is_told = self._guest.may_be_told()
            if self._is_told:
                _log.info("{name} is here", name=self._guest.name)

    def _go_on(self) -> None:
        """A job goes on, which is another one if the last one is over."""
        if self._is_between:
            self._is_between = False
            self._job, self._left = _Sent(), None

    def _to_come(self) -> tuple[int | None, int | None]:
        """Files and bytes that are still to come, by what the other side said last, as far as that can be true."""
        job = self._left
        if job is None:
            return None, None
        files = max(0, job.files - self._since.files) if job.files <= FILES_PLAUSIBLE else None
        size = max(0, job.bytes - self._since.bytes) if job.bytes <= BYTES_PLAUSIBLE else None
        return files, size


@dataclass(slots=True)
class _Sent:
    """What went out, counted from some time on."""

    files: int = 0
    """That are confirmed."""
    bytes: int = 0
    unconfirmed: int = 0
    """Files."""

    def count(self, transfer: Transfer) -> None:
        """A transfer is over."""
        self.files += transfer.outcome is Outcome.CONFIRMED
        self.unconfirmed += transfer.outcome is Outcome.UNCONFIRMED


class _Guest:
    """Who fetches, however many sessions it takes: what the log says of them is bounded for all of them together."""

    def __init__(self, clock: IReactorTime, name: str) -> None:
        self.name = name
        self.visits = 0
        """Sessions that go on."""
        self._clock = clock
        self._burst = _Burst()
        self._timer: IDelayedCall | None = None
        self._told = 0  # visits
        self._told_since = clock.seconds()

    def may_be_told(self) -> bool:
        """Whether the log may say that one more visit began, and in the end that it is over."""
        now = self._clock.seconds()
        if now - self._told_since >= VISITS_EVERY:
            self._told, self._told_since = 0, now
        self._told += 1
        return self._told <= VISITS_TOLD

    def tell(self, transfer: Transfer, seconds: float) -> None:
        """A transfer is over, which took so long: say it, or sum it up with others."""
        offer = transfer.offer
        if offer is None or offer.size < LARGE or self._burst.lines >= LINES_MAX:
            self._burst.add(transfer, self._clock.seconds())
        else:
            self._burst.lines += 1
            _log.info("{name} {story}", name=self.name, story=_story(transfer, seconds))
        if self._timer is None:
            self._timer = self._clock.callLater(SUMMARY_EVERY, self._time_passed)

    def sum_up(self) -> None:
        """Say what was not said yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._time_passed()

    def _time_passed(self) -> None:
        self._timer = None
        story = self._burst.story()
        if story:
            _log.info("{name} {story}", name=self.name, story=story)
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
        return f", {files / seconds:.0f} files/s" if files / 2 > seconds >= RATE_OVER else ""

    def _from(self) -> str:
        (share, _), *others = self._shares.most_common()
        return f", from {display(share)}" + (f" and {len(others)} more" if others else "")


def _story(transfer: Transfer, seconds: float) -> str:
    """What became of a large file in so many seconds."""
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
    return story


def _shown(transfer: Transfer) -> str:
    path = display(format_path(transfer.request.path))
    return (
        path if len(path) <= PATH_SHOWN else f"{path[: PATH_SHOWN // 2]}…{path[-PATH_SHOWN // 2 :]}"
    )


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"
