"""The visits of others to the shares: keeps who fetches what, and answers the action `fetched`.

Others decide how much they fetch, so what has come is collected for each key and share, and written together every few
seconds. Of more keys and shares than `PENDING_MAX` in that time only the number is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.sharer_transfers import Outcome, Transfer
from p2pshare.errors import LedgerUnusable
from p2pshare.names import NAME_MAX
from p2pshare.net.clocks import LazyTimer
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import Action, Fields
from p2pshare.peer.events import EventHub
from p2pshare.peer.offers.history import LIMIT_MAX, newest
from p2pshare.storage.offers.fetched import Fetched, FetchedRows
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.messages import MOUNT
from p2pshare.wire.paths import COMPONENT_MAX, format_path
from p2pshare.wire.strict_json import INTEGER_MAX, integer, text

WRITE_EVERY = 2.0  # seconds
PENDING_MAX = 500  # pairs of a key and a share in that time
TOLD_MAX = 100  # events for rows that were written together


class Visits:
    """The downloads of the shares; a `TransferWatcher`."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        rows: FetchedRows,
        now: Callable[[], int],
        events: EventHub,
        *,
        most: int = PENDING_MAX,
    ) -> None:
        """Keep what is fetched in `rows`; `now` returns the Unix time in whole seconds."""
        self._reactor = reactor
        self._rows = rows
        self._now = now
        self._events = events
        self._most = most
        self._pending: dict[tuple[PublicKey, str], Fetched] = {}
        self._dropped = 0
        self._timer = LazyTimer(reactor, self._flush)
        self._writing: Deferred[None] | None = None
        self._has_stopped = False

    @property
    def actions(self) -> Mapping[str, Action]:
        """What verbs may ask for."""
        return {"fetched": self._list}

    async def stop(self) -> None:
        """Write what is not written yet. The ledger is open until then. May be called at any time."""
        self._has_stopped = True
        self._timer.cancel()
        if self._writing is not None:
            await self._writing
        if self._pending:
            writing = Deferred.fromCoroutine(self._write())
            await writing.addErrback(self._not_written)

    def transfer_sent(self, viewer: Viewer, transfer: Transfer, size: int) -> None:
        """Count bytes that have gone out; see `TransferWatcher`."""
        self._add(viewer, transfer, 0, size)

    def transfer_ended(self, viewer: Viewer, transfer: Transfer) -> None:
        """Count a file; see `TransferWatcher`."""
        if transfer.outcome is Outcome.CONFIRMED:
            self._add(viewer, transfer, 1, 0)

    def _add(self, viewer: Viewer, transfer: Transfer, files: int, size: int) -> None:
        request = transfer.request
        if self._has_stopped or not request.path or request.want == () or request.preview:
            return
        if request.path[0].startswith(MOUNT):
            return
        share = request.path[0]
        pending = self._pending.get((viewer.key, share))
        if pending is None:
            if len(self._pending) >= self._most:
                self._dropped += 1
                return
            path = format_path(request.path)
            pending = Fetched(0, viewer.name, viewer.key, share, path, 0, 0)
        self._pending[viewer.key, share] = replace(
            pending, at=self._now(), files=pending.files + files, bytes=pending.bytes + size
        )
        self._timer.set(self._reactor.seconds() + WRITE_EVERY)

    def _flush(self) -> None:
        if self._writing is not None:  # the disk is slow
            self._timer.set(self._reactor.seconds() + WRITE_EVERY)
            return
        self._writing = Deferred.fromCoroutine(self._write())
        self._writing.addErrback(self._not_written).addCallback(self._written)

    async def _write(self) -> None:
        pending, self._pending = self._pending, {}
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self._log.warn("downloads not kept: why=too many at once count={count}", count=dropped)
        rows = await run_in_thread(self._reactor, self._rows.add, [*pending.values()])
        for each in rows[-TOLD_MAX:]:
            self._events.publish("fetched", **_shown(each))

    def _not_written(self, failure: Failure) -> None:
        failure.trap(LedgerUnusable)
        self._log.warn("downloads not kept: why={why}", why=failure.value)

    def _written(self, _: object) -> None:
        self._writing = None

    async def _list(self, request: Fields) -> Fields:
        """Return rows, the newest first: `limit` of them before the number `before`, of one share and one person.

        Raises:
            RemoteProtocolError: a field is wrong.
            LedgerUnusable: the rows cannot be read.
        """
        given = {key: value for key, value in request.items() if value is not None}
        fields = {"limit": LIMIT_MAX, "before": INTEGER_MAX, "share": "", "name": "", **given}
        limit, before = integer(fields, "limit", 1, LIMIT_MAX), integer(fields, "before", 1)
        share, name = text(fields, "share", COMPONENT_MAX), text(fields, "name", NAME_MAX)
        reading = run_in_thread(self._reactor, self._rows.page, limit + 1, before, share, name)
        found = await reading
        return newest("fetched", found, limit, _shown)


def _shown(row: Fetched) -> dict[str, Any]:
    return {
        "number": row.number,
        "began": row.began,
        "at": row.at,
        "name": row.peer,
        "key": str(row.key),
        "share": row.share,
        "path": row.path,
        "files": row.files,
        "bytes": row.bytes,
    }
