"""Logs who fetches what from this peer, and collects it for `p2pshare status`.

A stranger decides how many sessions and transfers there are, so each name has a bounded number of log lines, however
many sessions it has. A file of `LARGE` bytes or more has its own line, up to `LINES_MAX` in `SUMMARY_EVERY` seconds.
All other files are counted, and each period ends with one line of the counts. The beginning and the end of the uploads
in a session are logged for `SESSIONS_LOGGED` sessions in `SESSIONS_EVERY` seconds. A session in which nothing is
fetched is not logged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from p2pshare.core.rate import RateMeter
from p2pshare.core.session_interface import SessionPath
from p2pshare.core.sharer_transfers import Outcome, Transfer
from p2pshare.errors import P2pshareError
from p2pshare.net.clocks import LazyTimer
from p2pshare.peer.share.session_downloads import CountsNothing, DownloadCounter
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.wire.blocks import FILE_SIZE_MAX
from p2pshare.wire.display import display
from p2pshare.wire.offers.messages import MOUNT
from p2pshare.wire.paths import format_path
from p2pshare.wire.transfer_messages import Fault, Job

LARGE = 1024 * 1024  # bytes of a file that has its own line
SUMMARY_EVERY = 5.0  # seconds
LINES_MAX = 10  # lines about single files of a name in that time
SESSIONS_EVERY = 60.0  # seconds
SESSIONS_LOGGED = 4  # sessions of a name that are logged in that time
NAMES_MAX = 1000  # names whose counts are kept; those that are connected are kept in any case
SESSIONS_SHOWN = 50  # sessions in the status
CURRENT_SHOWN = 4  # current files of each
PATH_SHOWN = 256  # characters of a path
FILES_PLAUSIBLE = 10**9  # files that a job may announce
BYTES_PLAUSIBLE = FILE_SIZE_MAX  # bytes that a job may announce: those of the largest file
LEFT_MAX = 99 * 86400.0  # seconds

_log = Logger()


class TransferWatcher(Protocol):
    """Is told of the transfers of all sessions, previews excepted."""

    def transfer_sent(self, viewer: Viewer, transfer: Transfer, size: int) -> None:
        """Note that bytes of a file have gone out."""

    def transfer_ended(self, viewer: Viewer, transfer: Transfer) -> None:
        """Note that a transfer is over."""


class Uploads:
    """The uploads of all sessions."""

    def __init__(self, clock: IReactorTime) -> None:
        """Measure with `clock`."""
        self._clock = clock
        self._sessions: dict[SessionUploads, None] = {}  # the oldest first
        self._names: dict[str, _NameLog] = {}  # the name that came last is last
        self.busy = 0
        """Sessions in which something is being fetched."""
        self.watchers: list[TransferWatcher] = []
        """Are told of all transfers."""
        self.on_activity: Callable[[SessionUploads], object] = lambda _: None
        """Is called when something else is fetched in a session than before, and at its end."""
        self.counter: DownloadCounter = CountsNothing()
        """Counts downloads of shares, and refuses those that are too many."""

    def begin(self, name: str, path: SessionPath) -> SessionUploads:
        """Add a session of `name`, which takes this path."""
        session = SessionUploads(self, self._clock, self._log_of(name), path)
        self._sessions[session] = None
        return session

    def stop(self) -> None:
        """Log all counts now. May be called again."""
        for each in self._names.values():
            each.flush()

    @property
    def sessions(self) -> int:
        """The number of sessions."""
        return len(self._sessions)

    def status(self) -> list[dict[str, Any]]:
        """Return a JSON object for each session: first those in which something is fetched, then the oldest."""
        shown = sorted(self._sessions, key=lambda each: not each.is_busy)
        return [each.status() for each in shown[:SESSIONS_SHOWN]]

    def remove(self, session: SessionUploads) -> None:
        """Remove a session."""
        del self._sessions[session]

    def _log_of(self, name: str) -> _NameLog:
        log = self._names.pop(name, None) or _NameLog(self._clock, name)
        if len(self._names) >= NAMES_MAX:
            forgotten = next((each for each in self._names.values() if not each.sessions), None)
            if forgotten is not None:
                forgotten.flush()
                del self._names[forgotten.name]
        self._names[name] = log
        return log


@dataclass(slots=True)
class _Sent:
    """Counts of what was sent from some time on."""

    files: int = 0
    """Files that the other end has confirmed."""
    bytes: int = 0
    unconfirmed: int = 0
    """Files."""


class SessionUploads:
    """The uploads of one session."""

    def __init__(
        self, uploads: Uploads, clock: IReactorTime, log: _NameLog, path: SessionPath
    ) -> None:
        self._uploads = uploads
        self._clock = clock
        self._name_log = log
        self._began = clock.seconds()
        self._meter = RateMeter(self._began)
        self._current: dict[Transfer, float] = {}  # with the time of its beginning
        self._all = _Sent()
        self._job = _Sent()  # in the current job, or else the last one
        self._announced: Job | None = None  # what the other end still wants
        self._since = _Sent()  # since it was announced
        self._has_begun = self._is_logged = False
        self.name = log.name
        """The other end's."""
        self.path = path
        """The way of the session as it began."""
        self.title = ""
        """What the other end calls its job; empty if it has told none."""
        self.is_offer = False
        """Whether the file that was begun last is one of an offer."""
        self.is_over = False
        """Whether the session has ended."""
        self.refuse: Callable[[], object] = lambda: None
        """Ends what is being fetched, and what else the other end wants for the same job."""
        log.sessions += 1
        _log.debug(
            "session began: peer={peer} via={via} address={address}",
            peer=log.name,
            via=path.carrier,
            address=path.address,
        )

    def job_told(self, job: Job) -> None:
        """Take the announcement of the files that the other end still wants: none at the end of a job."""
        if job.files or job.bytes:
            self._continue_job()
            self.title = job.title
        self._announced, self._since = job, _Sent()
        self._uploads.on_activity(self)

    def started(self, transfer: Transfer) -> None:
        """Add a transfer whose file was announced."""
        if self.is_over:
            return
        self._log_beginning()
        self._continue_job()
        self._uploads.busy += not self._current
        self._current[transfer] = self._clock.seconds()
        if transfer.request.preview:
            return
        self.is_offer = transfer.request.path[:1] != () and transfer.request.path[0].startswith(
            MOUNT
        )
        self._uploads.on_activity(self)

    def sent(self, size: int) -> None:
        """Count bytes of files."""
        for each in (self._all, self._job, self._since):
            each.bytes += size
        self._meter.add(size, self._clock.seconds())

    def ended(self, transfer: Transfer) -> None:
        """Remove a transfer, and log or count it.

        A `get` of a folder is no upload: an opener that does not know what a path is asks for a file first. Neither are
        a preview, and a part of a file that was looked at, of which a film has hundreds; their bytes count.
        """
        if self.is_over or transfer.why is Fault.IS_FOLDER:
            return
        self._log_beginning()
        now = self._clock.seconds()
        began = now
        if transfer in self._current:
            began = self._current.pop(transfer)
            self._uploads.busy -= not self._current
        is_look = not transfer.request.root and transfer.outcome is Outcome.UNCONFIRMED
        if is_look or transfer.request.preview:
            return
        for each in (self._all, self._job, self._since):
            each.files += transfer.outcome is Outcome.CONFIRMED
            each.unconfirmed += transfer.outcome is Outcome.UNCONFIRMED
        self._name_log.add(transfer, now - began)
        self._uploads.on_activity(self)

    def over(self, reason: P2pshareError | None) -> None:
        """End the session; `ended` was called for all of its transfers, unless something broke."""
        if self.is_over:
            return
        self.is_over = True
        self._uploads.busy -= bool(self._current)
        self._current.clear()
        self._uploads.remove(self)
        self._name_log.sessions -= 1
        if self._is_logged:
            self._name_log.flush()
        (_log.info if self._is_logged else _log.debug)(
            "uploads ended: peer={peer} files={files} unconfirmed={unconfirmed} bytes={bytes} s={s:.1f}{why}",
            peer=self._name_log.name,
            files=self._all.files,
            unconfirmed=self._all.unconfirmed,
            bytes=self._all.bytes,
            s=self._clock.seconds() - self._began,
            why="" if reason is None else f" why={display(str(reason))!r}",
        )
        self._uploads.on_activity(self)

    @property
    def wants_more(self) -> bool:
        """Whether the other end has said that it wants more for its job."""
        job = self._announced
        return job is not None and bool(job.files or job.bytes)

    @property
    def is_busy(self) -> bool:
        """Whether something is being fetched."""
        return bool(self._current)

    def status(self) -> dict[str, Any]:
        """Return the current state as a JSON object; None is unknown."""
        rate = self._meter.rate(self._clock.seconds())
        files, size = self._remaining()
        left = None
        if size is not None and rate > 0:
            left = round(min(LEFT_MAX, size / rate), 1)
        return {
            "name": self._name_log.name,
            "via": self.path.carrier,
            "address": str(self.path.address),
            "files": self._job.files,
            "bytes": self._job.bytes,
            "rate": round(rate),
            "current": [_shown(each) for each in islice(self._current, CURRENT_SHOWN)],
            "files_left": files,
            "bytes_left": size,
            "left_s": left,
        }

    def _log_beginning(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._is_logged = self._name_log.may_log_session()
            if self._is_logged:
                _log.info(
                    "uploads began: peer={peer} via={via}",
                    peer=self._name_log.name,
                    via=self.path.carrier,
                )

    def _continue_job(self) -> None:
        """Begin a new job if the last one is over."""
        job = self._announced
        if job is not None and not (job.files or job.bytes):
            self._job, self._announced = _Sent(), None

    def _remaining(self) -> tuple[int | None, int | None]:
        """Return the files and bytes to come by the last announcement, as far as that is plausible."""
        job = self._announced
        if job is None:
            return None, None
        files = max(0, job.files - self._since.files) if job.files <= FILES_PLAUSIBLE else None
        size = max(0, job.bytes - self._since.bytes) if job.bytes <= BYTES_PLAUSIBLE else None
        return files, size


class _NameLog:
    """The log lines about one name, bounded over all of its sessions."""

    def __init__(self, clock: IReactorTime, name: str) -> None:
        self.name = name
        self.sessions = 0
        """Sessions that are open."""
        self._clock = clock
        self._logged = 0  # sessions
        self._logged_since = clock.seconds()
        self._timer = LazyTimer(clock, self._sum_up)  # ends the period of the following three
        self._lines = 0
        self._counts: Counter[Outcome] = Counter()
        self._bytes = 0

    def may_log_session(self) -> bool:
        """Whether the beginning and the end of one more session may be logged."""
        now = self._clock.seconds()
        if now - self._logged_since >= SESSIONS_EVERY:
            self._logged, self._logged_since = 0, now
        self._logged += 1
        return self._logged <= SESSIONS_LOGGED

    def add(self, transfer: Transfer, seconds: float) -> None:
        """Log or count a transfer that took so long."""
        assert transfer.outcome is not None
        size = 0 if transfer.header is None else transfer.header.size
        if size >= LARGE and self._lines < LINES_MAX:
            self._lines += 1
            _log.info(
                "upload {outcome}: peer={peer} path={path} bytes={bytes} sent={sent} s={s:.1f}{why}",
                outcome=transfer.outcome.name.lower(),
                peer=self.name,
                path=_shown(transfer),
                bytes=size,
                sent=transfer.sent,
                s=seconds,
                why="" if transfer.why is None else f" why={transfer.why.value}",
            )
        else:
            self._counts[transfer.outcome] += 1
            self._bytes += size * (transfer.outcome is Outcome.CONFIRMED)
        self._timer.set(self._clock.seconds() + SUMMARY_EVERY)

    def flush(self) -> None:
        """Log what was only counted."""
        self._timer.cancel()
        self._sum_up()

    def _sum_up(self) -> None:
        if self._counts:
            counts = (
                f"{each.name.lower()}={self._counts[each]}"
                for each in Outcome
                if self._counts[each]
            )
            _log.info(
                "files uploaded: peer={peer} {counts} bytes={bytes}",
                peer=self.name,
                counts=" ".join(counts),
                files=self._counts[Outcome.CONFIRMED],
                bytes=self._bytes,
            )
        self._lines, self._counts, self._bytes = 0, Counter(), 0


def _shown(transfer: Transfer) -> str:
    path = display(format_path(transfer.request.path))
    if len(path) <= PATH_SHOWN:
        return path
    return f"{path[: PATH_SHOWN // 2]}…{path[-PATH_SHOWN // 2 :]}"
