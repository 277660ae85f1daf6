"""The list of all names for the classic protocol, built page by page, and shared by callers."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from p2pshare.net.shared_answer import SharedAnswer
from p2pshare.registry.store import NameStore

KEEP = 1.0  # seconds from the start of a list until another one is built

Pieces = tuple[bytes, ...]


class NameList:
    """Builds the list once for many callers; at most one list is being built at any time.

    A list is valid for `KEEP` seconds, unless `changed` was called after it was begun. A caller that comes while a list
    is being built cannot know whether that will still be valid in the end: it waits, and if not, for the next list,
    which was begun after it came. So no caller waits for more than two lists, however often names change.
    """

    def __init__(self, store: NameStore, clock: IReactorTime) -> None:
        self._store = store
        self._clock = clock
        self._kept: Pieces | None = None
        self._changes = 0
        self._building: SharedAnswer[Pieces] | None = None

    def changed(self) -> None:
        """Invalidate the list; to be called after a name was claimed or released, and before anybody is told."""
        self._changes += 1
        self._kept = None

    async def json(self) -> Pieces:
        """Return a JSON array of every live name, in pieces of a page each."""
        if self._kept is None and self._building is not None:
            await self._building.wait().addErrback(lambda _failure: None)
        if self._kept is not None:
            return self._kept
        if self._building is None or not self._building.is_open:
            self._building = SharedAnswer(Deferred.fromCoroutine(self._build()))
        return await self._building.wait()

    async def _build(self) -> Pieces:
        changes, started = self._changes, self._clock.seconds()
        pieces: list[bytes] = []
        after: str | None = ""
        while after is not None:
            page = await self._store.page(after)
            if page.names:  # which need no escaping
                pieces.append(b", " if pieces else b"[")
                pieces.append(b'"' + '", "'.join(page.names).encode() + b'"')
            after = page.after
        result = (*pieces, b"]") if pieces else (b"[]",)
        remaining = started + KEEP - self._clock.seconds()
        if changes == self._changes and remaining > 0:
            self._kept = result
            self._clock.callLater(remaining, self._drop, result)
        self._building = None
        return result

    def _drop(self, pieces: Pieces) -> None:
        if self._kept is pieces:
            self._kept = None
