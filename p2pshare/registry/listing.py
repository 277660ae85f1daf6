"""The list of all names, built page by page."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from p2pshare.registry.store import NameStore


class NameList:
    """Builds the list for those who ask, once for all who ask at about the same time.

    Who asks while a list is being built waits for the next one: the one under way may have passed
    the place of a name that was claimed since. So at most one list is being built at any time.
    """

    def __init__(self, store: NameStore) -> None:
        self._store = store
        self._building = False
        self._waiting: list[Deferred[tuple[bytes, ...]]] = []

    def json(self) -> Deferred[tuple[bytes, ...]]:
        """A JSON array of every live name, in pieces of a page each."""
        waiting: Deferred[tuple[bytes, ...]] = Deferred()
        self._waiting.append(waiting)
        if not self._building:
            Deferred.fromCoroutine(self._build_for_all())
        return waiting

    async def _build_for_all(self) -> None:
        self._building = True
        while self._waiting:
            served, self._waiting = self._waiting, []
            result: tuple[bytes, ...] | Failure
            try:
                result = await self._build()
            except Exception:  # is for each of them to judge
                result = Failure()
            for each in served:
                each.callback(result)
        self._building = False

    async def _build(self) -> tuple[bytes, ...]:
        pieces: list[bytes] = []
        after: str | None = ""
        while after is not None:
            page = await self._store.page(after)
            if page.names:  # which need no escaping
                pieces.append(b", " if pieces else b"[")
                pieces.append(b'"' + '", "'.join(page.names).encode() + b'"')
            after = page.after
        return (*pieces, b"]") if pieces else (b"[]",)
