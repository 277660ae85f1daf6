"""Everything that is on its way, in both directions: the actions and events `job` and `traffic` of a peer.

A *job* is a row that users see: a download that they want (`jobs`), an offer on its way (`offer_rows`), or an upload
(`uploads`). The ID tells where a row belongs.

Events are bounded: a row is told at most every `EVENT_EVERY` seconds, and at most `EVENTS_AT_ONCE` rows in one turn of
the reactor, so that a thousand rows which change at once hold up nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pshare.core.session_interface import SessionPath
from p2pshare.errors import JobNotSo, NoSuchJob, NoSuchOffer
from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.peer.control import ID_TEXT_MAX, Action, Fields, page
from p2pshare.peer.people.paths import shown_path
from p2pshare.peer.running import RunningPeer
from p2pshare.peer.transfers import offer_rows, uploads
from p2pshare.peer.transfers.jobs import Jobs
from p2pshare.peer.transfers.offer_rows import OfferRows
from p2pshare.peer.transfers.traffic import Traffic
from p2pshare.peer.transfers.uploads import UploadRows
from p2pshare.web.exchange import Route
from p2pshare.wire.strict_json import text

EVENT_EVERY = 0.5  # seconds between two events of a row
EVENTS_AT_ONCE = 50  # events in one turn of the reactor
BETWEEN_TURNS = 0.01  # seconds until the next ones
ROW_ID_MAX = 2 * ID_TEXT_MAX  # characters of the ID of a row
_PROMPT = 0.02  # seconds until the first event after a pause


class RowEvents:
    """Tells of rows that have changed, not too often and not too many at once."""

    def __init__(
        self,
        clock: IReactorTime,
        tell: Callable[[str], object],
        *,
        every: float = EVENT_EVERY,
        at_once: int = EVENTS_AT_ONCE,
    ) -> None:
        """Call `tell` with the ID of a row, at most `every` so many seconds, and for `at_once` rows in one turn."""
        self._clock = clock
        self._tell = tell
        self._every = every
        self._at_once = at_once
        self._changed: dict[str, None] = {}  # since the present round began
        self._round: dict[str, None] = {}  # those that are still to be told in this round
        self._ended = -every  # when the last round ended
        self._timer: IDelayedCall | None = None
        self._has_stopped = False

    def soon(self, row_id: str) -> None:
        """Tell of a row soon."""
        if row_id not in self._round and not self._has_stopped:
            self._changed[row_id] = None
            if self._timer is None:
                due = self._ended + self._every - self._clock.seconds()
                self._timer = self._clock.callLater(max(_PROMPT, due), self._turn)

    def now(self, row_id: str) -> None:
        """Tell of a row at once, since a user has changed it."""
        self._changed.pop(row_id, None)
        self._round.pop(row_id, None)
        if not self._has_stopped:
            self._tell(row_id)

    def stop(self) -> None:
        """Tell nothing more."""
        self._has_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        """Tell of the next rows of the round."""
        self._timer = None
        if not self._round:
            self._round, self._changed = self._changed, {}
        for _ in range(min(self._at_once, len(self._round))):
            row_id = next(iter(self._round))
            del self._round[row_id]
            self._tell(row_id)
        if self._round:
            self._timer = self._clock.callLater(BETWEEN_TURNS, self._turn)
            return
        self._ended = self._clock.seconds()
        if self._changed:
            self._timer = self._clock.callLater(self._every, self._turn)


class Transfers:
    """All rows of a peer, between `start` and `stop`; a `Part` of the peer, and a `RowOwner`."""

    def __init__(self, peer: RunningPeer) -> None:
        """Show what goes out and comes in at a peer."""
        parts = self._parts = peer.offers.parts
        inbox, outbox, sent = peer.offers.inbox, peer.offers.outbox, peer.sessions.uploads
        self._network = peer.network
        self.traffic = Traffic(parts.reactor, self._sampled)
        """Counts the bytes of files."""
        self._jobs = Jobs(parts, self)
        self._uploads = UploadRows(parts.reactor, sent, parts.now, self)
        self._offers = OfferRows(parts, inbox, outbox, self, self._uploads.offer_path)
        self._events = RowEvents(parts.reactor, self._tell)
        self._starting: Deferred[None] = Deferred()
        self._started = SharedAnswer(self._starting)
        sent.watchers.append(self.traffic)
        parts.queue.on_received = self.traffic.received
        peer.browsing.count_bytes(self._looked)
        parts.queue.share_limit(peer.browsing.limit)

    @property
    def actions(self) -> Mapping[str, Action]:
        """What programs may ask for, as soon as the ledger is read."""
        actions: dict[str, Action] = {
            "jobs": self.list,
            "job": self.details,
            "job_pause": partial(self._act, "pause"),
            "job_go_on": partial(self._act, "go_on"),
            "job_cancel": partial(self._act, "cancel"),
            "job_retry": partial(self._act, "retry"),
            "job_remove": partial(self._act, "remove"),
            "jobs_pause": partial(self._all, "pause"),
            "jobs_go_on": partial(self._all, "go_on"),
            "jobs_clear": self.clear,
            "traffic": self.traffic.action,
            "get": self._jobs.get,
        }
        return {do: partial(self._perform, action) for do, action in actions.items()}

    def table(self) -> Mapping[bytes, Route]:
        """Return no routes: the page asks by actions."""
        return {}

    async def start(self) -> None:
        """Go on with all downloads that are not over.

        Raises:
            LedgerUnusable: they cannot be read.
        """
        await self._jobs.load()
        await self._offers.load()
        self._jobs.start()
        self._starting.callback(None)

    async def stop(self) -> None:
        """Stop, and keep the progress."""
        self._offers.stop()
        self._uploads.stop()
        await self._jobs.stop()
        self._events.stop()
        self.traffic.stop()

    def row_changed(self, row_id: str) -> None:
        """Tell of a row soon; see `RowOwner`."""
        self._events.soon(row_id)

    def shown_path(self, path: SessionPath | None) -> Fields | None:
        """Return the way of a session; see `RowOwner`."""
        return None if path is None else shown_path(path, self._network.networks)

    async def list(self, request: Fields) -> Fields:
        """Perform the action `jobs`."""
        return page(request, "jobs", ((each, each) for each in self._ids()), self._row)

    async def details(self, request: Fields) -> Fields:
        """Perform the action `job`: return a row, and the files of it that failed."""
        row_id = self._id_in(request)
        none: Fields = {"failures": [], "more_failures": 0}
        return {
            **self._row(row_id),
            **(self._jobs.details(row_id) if self._is_get(row_id) else none),
        }

    async def _all(self, action: str, _request: Fields) -> Fields:
        """Perform `jobs_pause` or `jobs_go_on`: on all downloads, and on all offers that are being fetched."""
        count = await (self._jobs.pause_all() if action == "pause" else self._jobs.go_on_all())
        for row_id in self._offers.ids:
            row = self._offers.shown(row_id)  # it may be over or removed by now
            if row is not None and action in row["can"]:
                with suppress(JobNotSo, NoSuchOffer):
                    await self._offers.act(action, row_id)
                    count += 1
        return {"count": count}

    async def clear(self, _request: Fields) -> Fields:
        """Perform the action `jobs_clear`: remove all rows that are over."""
        removed = await self._jobs.clear()
        for rows in (self._uploads, self._offers):
            for each in [each for each in rows.ids if rows.is_over(each)]:
                rows.remove(each)
                removed += 1
        return {"count": removed}

    async def _perform(self, action: Action, request: Fields) -> Fields:
        await self._started.wait()
        return await action(request)

    async def _act(self, action: str, request: Fields) -> Fields:
        """Perform an action on one row, tell of it, and return the row."""
        row_id = self._id_in(request)
        row = await self._acted(action, row_id)
        self._events.now(row_id)
        return row

    async def _acted(self, action: str, row_id: str) -> Fields:
        row = self._row(row_id)
        if self._is_get(row_id):
            jobs = self._jobs
            acts = {
                "pause": jobs.pause,
                "go_on": jobs.go_on,
                "cancel": jobs.cancel,
                "retry": jobs.retry,
                "remove": jobs.remove,
            }
            return await acts[action](row_id)
        if action not in row["can"]:
            verbs = {"pause": "paused", "go_on": "resumed", "cancel": "cancelled"}
            done = verbs.get(action, f"{action}d".replace("yd", "ied"))
            raise JobNotSo(id=row_id, state=row["state"], action=done)
        rows = self._uploads if row["kind"] == "upload" else self._offers
        if action == "remove":
            rows.remove(row_id)
            return row
        if rows is self._uploads:
            self._uploads.cancel(row_id)
        else:
            await self._offers.act(action, row_id)
        return self._shown(row_id) or row

    def _ids(self) -> Iterable[str]:
        return [*self._jobs.ids, *self._uploads.ids, *self._offers.ids]

    def _id_in(self, request: Fields) -> str:
        return text({**request}, "id", ROW_ID_MAX)

    def _is_get(self, row_id: str) -> bool:
        return not row_id.startswith((uploads.PREFIX, offer_rows.PREFIX))

    def _shown(self, row_id: str) -> Fields | None:
        if row_id.startswith(uploads.PREFIX):
            return self._uploads.shown(row_id)
        if row_id.startswith(offer_rows.PREFIX):
            return self._offers.shown(row_id)
        return self._jobs.shown(row_id)

    def _row(self, row_id: str) -> Fields:
        row = self._shown(row_id)
        if row is None:
            raise NoSuchJob(id=row_id)
        return row

    def _tell(self, row_id: str) -> None:
        row = self._shown(row_id)
        if row is None:
            self._parts.events.publish("job", id=row_id, removed=True)
        else:
            self._parts.events.publish("job", **row)

    def _looked(self, size: int) -> None:
        self.traffic.received(size)
        self._parts.queue.looked(size)

    def _sampled(self, down: int, up: int) -> None:
        self._parts.events.publish("traffic", down=down, up=up)
