"""Pages that are listed and not looked up on the disk yet: the plan runs ahead of the fetches, in little memory.

So the total of a job is known early. The first pages are kept as they are, since compression costs time and a small job
does not need it. The others are compressed: an entry takes about 300 bytes as it is, and 20 to 60 compressed.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred

from p2pshare.peer.fetch.plan import JobItem, PlannedPage

LOOSE_MAX = 64  # pages that are not compressed
BYTES_MAX = 64 * 1024 * 1024  # of compressed pages, at which listing waits


class ListingBacklog:
    """A queue of pages with one producer and one consumer."""

    def __init__(self, loose_max: int = LOOSE_MAX, bytes_max: int = BYTES_MAX) -> None:
        """Keep `loose_max` pages as they are, and `bytes_max` bytes of others."""
        self._loose_max = loose_max
        self._bytes_max = bytes_max
        self._pages: deque[tuple[PlannedPage, int]] = deque()  # each with its compressed bytes
        self._bytes = 0
        self._is_over = False
        self._room: Deferred[None] | None = None  # the producer waits for it
        self._page: Deferred[None] | None = None  # the consumer waits for it

    async def put(self, page: PlannedPage) -> None:
        """Add a page; return when there is room for another one."""
        size = 0 if len(self._pages) < self._loose_max else page.pack()
        self._pages.append((page, size))
        self._bytes += size
        self._wake_consumer()
        if self._bytes > self._bytes_max:
            self._room = Deferred()
            await self._room

    def end(self) -> None:
        """Take the end: no more pages will be added."""
        self._is_over = True
        self._wake_consumer()

    async def take(self) -> PlannedPage | None:
        """Remove and return the first page as soon as there is one; None after the last one."""
        while not self._pages:
            if self._is_over:
                return None
            self._page = Deferred()
            await self._page
        page, size = self._pages.popleft()
        self._free(size)
        return page

    def drop(self, item: JobItem) -> list[PlannedPage]:
        """Remove and return all pages of an item."""
        dropped = [each for each in self._pages if each[0].item is item]
        self._pages = deque(each for each in self._pages if each[0].item is not item)
        self._free(sum(size for _, size in dropped))
        return [page for page, _ in dropped]

    def _free(self, size: int) -> None:
        self._bytes -= size
        if self._room is not None and self._bytes <= self._bytes_max:
            room, self._room = self._room, None
            room.callback(None)

    def _wake_consumer(self) -> None:
        page, self._page = self._page, None
        if page is not None:
            page.callback(None)
