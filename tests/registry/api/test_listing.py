"""The list of all names: when it is shared, and when it is built."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import StoreUnavailable
from p2pshare.registry.api.listing import KEEP, NameList
from p2pshare.registry.store import NamePage
from p2pshare.testing.memory_store import MemoryNameStore


class SlowStore(MemoryNameStore):
    """A store that answers when the test says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.asked: list[Deferred[NamePage]] = []

    def page(self, after: str = "", limit: int = 0) -> Deferred[NamePage]:  # type: ignore[override]
        self.asked.append(Deferred())
        return self.asked[-1]

    def answer(self, *names: str) -> None:
        """Answer the last question."""
        self.asked[-1].callback(NamePage(list(names), None))


class NameListTests(SynchronousTestCase):
    """Lists are shared by callers that ask at about the same time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = SlowStore(self.clock)
        self.names = NameList(self.store, self.clock)

    def ask(self) -> Deferred[tuple[bytes, ...]]:
        return Deferred.fromCoroutine(self.names.json())

    def shown(self, asked: Deferred[tuple[bytes, ...]]) -> bytes:
        pieces: tuple[bytes, ...] = self.successResultOf(asked)
        return b"".join(pieces)

    def test_kept(self) -> None:
        """A list is shared for one second from its beginning; then another one is built."""
        asked = [self.ask() for _ in range(3)]
        self.clock.advance(KEEP / 2)
        self.store.answer("bob")
        asked += [self.ask() for _ in range(3)]
        self.assertEqual([self.shown(each) for each in asked], [b'["bob"]'] * 6)
        self.assertEqual(len(self.store.asked), 1)
        self.clock.advance(KEEP / 2)
        self.assertNoResult(self.ask())
        self.assertEqual(len(self.store.asked), 2)

    def test_changed(self) -> None:
        """After a change, no list is returned that was begun before it."""
        self.ask()
        self.store.answer("bob")
        self.names.changed()
        asked = self.ask()
        self.assertNoResult(asked)
        self.store.answer("bob", "eve")
        self.assertEqual(self.shown(asked), b'["bob", "eve"]')

    def test_changed_meanwhile(self) -> None:
        """A caller waits for the next list if the one being built may lack a name; one is built at a time."""
        first = self.ask()
        self.names.changed()
        second, third = self.ask(), self.ask()
        self.assertEqual(len(self.store.asked), 1)
        self.store.answer("bob")
        self.assertEqual(self.shown(first), b'["bob"]')
        self.assertNoResult(second)
        self.store.answer("bob", "eve")
        for each in (second, third):
            self.assertEqual(self.shown(each), b'["bob", "eve"]')
        self.assertEqual(len(self.store.asked), 2)

    def test_slow(self) -> None:
        """A list that takes longer than a second is returned only to callers that asked before it was begun."""
        self.ask()
        second = self.ask()
        self.clock.advance(KEEP)
        self.store.answer("bob")
        self.assertNoResult(second)
        self.store.answer("bob", "eve")
        self.assertEqual(self.shown(second), b'["bob", "eve"]')

    def test_failed(self) -> None:
        """A failure is returned to the waiting callers, and not kept."""
        first = self.ask()
        self.store.asked[-1].errback(StoreUnavailable(reason="gone"))
        self.failureResultOf(first, StoreUnavailable)
        second = self.ask()
        self.store.answer("bob")
        self.assertEqual(self.shown(second), b'["bob"]')

    def test_nothing_is_kept_for_long(self) -> None:
        """A list that nobody asks for again is dropped."""
        self.ask()
        self.store.answer("bob")
        self.clock.advance(KEEP)
        self.assertEqual(self.clock.getDelayedCalls(), [])
