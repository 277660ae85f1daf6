"""What is listed and not yet looked up on the disk: the plan runs ahead of the fetching, in little memory.

So the total of a job is known early. The first pages are kept as they are, and those behind them compressed: that costs
time, and a small job has no need for it. Measured, an entry takes some 300 bytes as it is, and 20 to 60 compressed.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred

from p2pshare.peer.fetch.plan import JobItem, PlannedPage

LOOSE_MAX = 64  # pages that are not compressed
BYTES_MAX = 64 * 1024 * 1024  # of compressed pages, upon which listing waits


class ListingBacklog:
    """A queue of pages, for one that puts and one that takes."""

    def __init__(self, loose_max: int = LOOSE_MAX, bytes_max: int = BYTES_MAX) -> None:
        """Keep `loose_max` pages as they are, and of others `bytes_max` bytes."""
        self._loose_max = loose_max
        self._bytes_max = bytes_max
        self._pages: deque[tuple[PlannedPage, int]] = deque()  # each with the bytes that it takes
        self._bytes = 0
        self._is_over = False
        self._room: Deferred[None] | None = None
        self._news: Deferred[None] | None = None

    async def put(self, page: PlannedPage) -> None:
        """Add a page; returns when there is room for another one."""
        size = 0 if len(self._pages) < self._loose_max else page.pack()
        self._pages.append((page, size))
        self._bytes += size
        self._wake()
        if self._bytes > self._bytes_max:
            self._room = Deferred()
            await self._room

    def end(self) -> None:
        """There will be no more pages."""
        self._is_over = True
        self._wake()

    async def take(self) -> PlannedPage | None:
        """Remove the first page as soon as there is one; None if there will be none."""
        while not self._pages:
            if self._is_over:
                return None
            self._news = Deferred()
            await self._news
        page, size = self._pages.popleft()
        self._leave(size)
        return page

    def drop(self, item: JobItem) -> list[PlannedPage]:
        """Remove all pages of an item; returns them."""
        dropped = [each for each in self._pages if each[0].item is item]
        self._pages = deque(each for each in self._pages if each[0].item is not item)
        self._leave(sum(size for _, size in dropped))
        return [page for page, _ in dropped]

    def _leave(self, size: int) -> None:
        self._bytes -= size
        if self._room is not None and self._bytes <= self._bytes_max:
            room, self._room = self._room, None
            room.callback(None)

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.callback(None)
