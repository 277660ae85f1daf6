"""The rows of uploads: one for each job for which somebody fetches files of this peer.

A stranger decides how many there are, within the bound on sessions. A row begins with the first file of a job. It ends
with the job, with the session, or when nothing was fetched for `IDLE`, since not all programs tell of jobs. What is
fetched of an offer has a row of the offer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from p2pshare.core.session_interface import SessionPath
from p2pshare.peer.control import Fields
from p2pshare.peer.share.upload_log import SessionUploads, Uploads
from p2pshare.peer.transfers.rows import RowOwner, row_fields
from p2pshare.wire.display import display

PREFIX = "upload-"
"""The beginning of the IDs of rows."""
IDLE = 15.0  # seconds without a file after which a row ends
OVER_MAX = 100  # rows that are over and still shown
TICK = 0.5  # seconds between two looks at the rows


@dataclass(slots=True, eq=False)
class _Upload:
    """A row."""

    id: str
    session: SessionUploads
    created: int
    """Unix time in s."""
    active: float
    """When something happened last, in seconds of the clock."""
    had_job: bool = False
    """Whether the other end has told of a job."""
    state: str = "running"
    why: str | None = None
    updated: int = 0
    status: dict[str, Any] = field(default_factory=dict)
    """As of the latest look."""
    path: str = ""
    """Of the first file, as long as the other end has told no title."""

    def look(self) -> None:
        """Note what is being fetched now."""
        self.status = self.session.status()
        self.path = self.path or next(iter(self.status["current"]), "")


class UploadRows:
    """The rows of all uploads of this run of the peer."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        uploads: Uploads,
        now: Callable[[], int],
        owner: RowOwner,
        *,
        over_max: int = OVER_MAX,
    ) -> None:
        """Make rows of uploads; `now` returns the Unix time in s, and `owner` hears of changes."""
        self._clock = clock
        self._now = now
        self._owner = owner
        self._over_max = over_max
        self._numbers = count(1)
        self._rows: dict[str, _Upload] = {}
        self._live: dict[SessionUploads, _Upload] = {}
        self._of_offers: dict[str, SessionUploads] = {}  # by name; the latest session
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = clock
        self._has_stopped = False
        uploads.on_activity = self._noted

    @property
    def ids(self) -> list[str]:
        """The IDs of all rows."""
        return list(self._rows)

    def stop(self) -> None:
        """Note nothing more."""
        self._has_stopped = True
        if self._ticks.running:
            self._ticks.stop()

    def cancel(self, row_id: str) -> None:
        """End the transfers of a row that is not over. The other end is told that the files were withdrawn."""
        row = self._rows[row_id]
        self._end(row, "cancelled", "by_you")
        row.session.refuse()

    def is_over(self, row_id: str) -> bool:
        """Whether a row is over."""
        return self._rows[row_id].state != "running"

    def remove(self, row_id: str) -> None:
        """Drop a row that is over."""
        del self._rows[row_id]
        self._owner.row_changed(row_id)

    def shown(self, row_id: str) -> Fields | None:
        """Return a row as programs see it; None if there is none of that ID."""
        row = self._rows.get(row_id)
        if row is None:
            return None
        status, session = row.status, row.session
        files_left, bytes_left = status["files_left"] or 0, status["bytes_left"] or 0
        is_running = row.state == "running"
        title = session.title or row.path
        return row_fields(
            id=row.id,
            direction="up",
            kind="upload",
            name=session.name,
            paths=[display(title)] if title else [],
            state=row.state,
            why=row.why,
            files=status["files"] + files_left,
            files_done=status["files"],
            files_failed=0,
            bytes=status["bytes"] + bytes_left,
            bytes_done=status["bytes"],
            rate=status["rate"] if is_running else 0,
            left_s=status["left_s"] if is_running else None,
            created=row.created,
            updated=row.updated,
            path=self._owner.shown_path(session.path),
            can=["cancel"] if is_running else ["remove"],
        )

    def offer_path(self, name: str) -> SessionPath | None:
        """Return the way of the session over which somebody fetches an offer; None if there is none."""
        session = self._of_offers.get(name)
        return None if session is None else session.path

    def _noted(self, session: SessionUploads) -> None:
        """Begin, change or end the row of a session."""
        if session.is_offer and not session.is_over:
            self._of_offers[session.name] = session
        elif self._of_offers.get(session.name) is session:
            del self._of_offers[session.name]
        row = self._live.get(session)
        if row is None:
            is_new = session.is_busy and not session.is_offer and not session.is_over
            if not is_new or self._has_stopped:
                return
            row_id = f"{PREFIX}{next(self._numbers)}"
            now = self._now()
            row = _Upload(row_id, session, now, self._clock.seconds(), updated=now)
            self._rows[row_id] = self._live[session] = row
            if not self._ticks.running:
                self._ticks.start(TICK, now=False).addErrback(self._tick_failed)
        row.active = self._clock.seconds()
        has_ended = session.is_over or (
            row.had_job and not session.wants_more and not session.is_busy
        )
        if has_ended:
            self._end(row, *self._outcome(row))
            return
        row.had_job = row.had_job or session.wants_more
        row.look()
        self._owner.row_changed(row.id)

    def _outcome(self, row: _Upload) -> tuple[str, str | None]:
        """Return the state of a row that has ended by itself, and why."""
        session, left = row.session, row.status["files_left"]
        if not session.is_busy and (left == 0 if row.had_job else row.status["bytes"]):
            return "done", None
        return "cancelled", "lost" if session.is_over else "by_them"

    def _end(self, row: _Upload, state: str, why: str | None) -> None:
        self._live.pop(row.session, None)
        row.state, row.why, row.updated = state, why, self._now()
        self._owner.row_changed(row.id)
        over = [each.id for each in self._rows.values() if each.state != "running"]
        for each in over[: max(0, len(over) - self._over_max)]:
            self.remove(each)
        if not self._live and self._ticks.running:
            self._ticks.stop()

    def _tick(self) -> None:
        now = self._clock.seconds()
        for session, row in list(self._live.items()):
            before = row.status
            row.look()
            if row.status != before:
                self._owner.row_changed(row.id)
            if not (session.is_busy or session.wants_more) and now - row.active >= IDLE:
                self._end(row, *self._outcome(row))

    def _tick_failed(self, failure: Any) -> None:
        self._log.failure("uploads not looked at", failure)
