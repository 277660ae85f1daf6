"""The list of all names, built page by page."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from p2pshare.registry.store import NameStore

KEEP = 1.0  # seconds from the beginning of a list until another one is built

Pieces = tuple[bytes, ...]


class NameList:
    """Builds the list for those who ask, so that many who ask cost little more than one.

    A list is given to all who ask within a second, but none that may lack a name of which `changed` has
    told since it was begun. Who asks meanwhile waits for the next one: at most one is being built at any time.
    """

    def __init__(self, store: NameStore, clock: IReactorTime, *, keep: float = KEEP) -> None:
        self._store = store
        self._clock = clock
        self._keep = keep
        self._kept: Pieces | None = None
        self._changes = 0
        self._building = False
        self._waiting: list[Deferred[Pieces]] = []

    def changed(self) -> None:
        """Call this after a name was claimed or given up, before that is told to anybody."""
        self._changes += 1
        self._kept = None

    def json(self) -> Deferred[Pieces]:
        """A JSON array of every live name, in pieces of a page each."""
        if self._kept is not None:
            return succeed(self._kept)
        waiting: Deferred[Pieces] = Deferred()
        self._waiting.append(waiting)
        if not self._building:
            Deferred.fromCoroutine(self._build_for_all())
        return waiting

    async def _build_for_all(self) -> None:
        self._building = True
        while self._waiting:
            served, self._waiting = self._waiting, []
            result: Pieces | Failure
            try:
                result = await self._build_and_keep()
            except Exception:  # is for each of them to judge
                result = Failure()
            if self._kept is not None:
                served += self._waiting
                self._waiting = []
            for each in served:
                each.callback(result)
        self._building = False

    async def _build_and_keep(self) -> Pieces:
        changes, started = self._changes, self._clock.seconds()
        pieces = await self._build()
        left = started + self._keep - self._clock.seconds()
        if changes == self._changes and left > 0:
            self._kept = pieces
            self._clock.callLater(left, self._drop, pieces)
        return pieces

    def _drop(self, pieces: Pieces) -> None:
        if self._kept is pieces:
            self._kept = None

    async def _build(self) -> Pieces:
        pieces: list[bytes] = []
        after: str | None = ""
        while after is not None:
            page = await self._store.page(after)
            if page.names:  # which need no escaping
                pieces.append(b", " if pieces else b"[")
                pieces.append(b'"' + '", "'.join(page.names).encode() + b'"')
            after = page.after
        return (*pieces, b"]") if pieces else (b"[]",)
