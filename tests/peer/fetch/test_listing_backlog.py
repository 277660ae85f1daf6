"""Tests of `p2pshare.peer.fetch.listing_backlog`."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.peer.fetch.listing_backlog import ListingBacklog
from p2pshare.peer.fetch.plan import JobItem, PlannedPage, WantedFile
from p2pshare.wire.transfer_messages import Entry, EntryKind

ITEM = JobItem(("s",), Path("/inbox"))
OTHER = JobItem(("t",), Path("/inbox"))


def page(*names: str, item: JobItem = ITEM) -> PlannedPage:
    entries = [Entry((name, "\x01é"), EntryKind.FILE, 7, -5, "v") for name in names]
    return PlannedPage(item, item.path, ("here",), entries)


def names_of(planned: PlannedPage | None) -> list[str]:
    assert planned is not None
    return [each.path[1] for each in planned.wanted()]


class BacklogTests(SynchronousTestCase):
    def begin(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        return Deferred.fromCoroutine(work)

    def test_order(self) -> None:
        """Pages come in their order, compressed or not, and then nothing."""
        backlog = ListingBacklog(loose_max=1)
        for name in "abc":
            self.successResultOf(self.begin(backlog.put(page(name, name * 2))))
        backlog.end()
        for name in "abc":
            taken = self.successResultOf(self.begin(backlog.take()))
            self.assertEqual((names_of(taken), taken.files, taken.size), ([name, name * 2], 2, 14))
        self.assertIsNone(self.successResultOf(self.begin(backlog.take())))

    def test_packed(self) -> None:
        """A compressed page means the same, and takes little."""
        planned = page(*(f"file-{number:04}.jpg" for number in range(1000)))
        before = planned.wanted()
        self.assertLess(planned.pack(), 20_000)
        self.assertEqual(planned.pack(), planned.pack())
        self.assertEqual(planned.wanted(), before)
        assert isinstance(before[0], WantedFile)
        self.assertEqual((before[0].size, before[0].version), (7, "v"))

    def test_waits(self) -> None:
        """One waits for pages if there are none, and for room if the compressed ones take too much."""
        backlog = ListingBacklog(loose_max=0, bytes_max=10)
        taking = self.begin(backlog.take())
        self.assertNoResult(taking)
        putting = self.begin(backlog.put(page("a")))
        self.assertEqual(names_of(self.successResultOf(taking)), ["a"])
        self.successResultOf(putting)
        putting = self.begin(backlog.put(page("b")))
        self.assertNoResult(putting)
        self.assertEqual(names_of(self.successResultOf(self.begin(backlog.take()))), ["b"])
        self.successResultOf(putting)
        taking = self.begin(backlog.take())
        backlog.end()
        self.assertIsNone(self.successResultOf(taking))

    def test_drop(self) -> None:
        """The pages of an item are dropped, which makes room, and those of others stay."""
        backlog = ListingBacklog(loose_max=0, bytes_max=400)
        self.successResultOf(self.begin(backlog.put(page("a"))))
        self.successResultOf(self.begin(backlog.put(page("b", item=OTHER))))
        putting = self.begin(backlog.put(page(*map(str, range(1000)))))
        self.assertNoResult(putting)
        self.assertEqual([each.files for each in backlog.drop(ITEM)], [1, 1000])
        self.successResultOf(putting)
        self.assertEqual(names_of(self.successResultOf(self.begin(backlog.take()))), ["b"])
