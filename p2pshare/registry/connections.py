"""The connections that a server has: their number is bounded, and those that ask for nothing make room."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Generic, Protocol, TypeVar

UNHURRIED = (
    0.5  # seconds for which a connection may wait for a request before it may have to make room
)


class Connection(Protocol):
    """What has to be known of one."""

    origin: str
    """Whose it is: what counts as one client."""

    def waits_since(self) -> float | None:
        """Since when it waits for a whole request of its client; None if it does not."""

    def make_room(self) -> None:
        """Close at once."""


C = TypeVar("C", bound=Connection)


class Connections(Generic[C]):
    """The connections of all clients, so many in all and so many for one address.

    A client that connects to ask, asks at once. So a new one that finds no room takes the place of the one that has
    been waited for the longest: who holds connections, silent or dripping bytes, keeps nobody out.
    """

    def __init__(self, most: int, most_of_one_address: int) -> None:
        self._most = most
        self._most_of_one_address = most_of_one_address
        self._all: dict[C, None] = {}
        self._of_address: dict[str, dict[C, None]] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    def __iter__(self) -> Iterator[C]:
        """All that are there now."""
        return iter(list(self._all))

    def has_room(self, host: str, now: float) -> bool:
        """Whether one from this address can be added; if need be, another one is closed for it."""
        own = self._of_address.get(host, {})
        if len(own) >= self._most_of_one_address and not self._close_one(own, now):
            return False
        return len(self._all) < self._most or self._close_one(self._all, now)

    def add(self, connection: C) -> None:
        """Count it in."""
        self._all[connection] = None
        self._of_address.setdefault(connection.origin, {})[connection] = None

    def discard(self, connection: C) -> None:
        """Forget it, if it is still there."""
        self._all.pop(connection, None)
        own = self._of_address.get(connection.origin, {})
        own.pop(connection, None)
        if not own:
            self._of_address.pop(connection.origin, None)

    def _close_one(self, among: Collection[C], now: float) -> bool:
        waiting = [(since, each) for each in among if (since := each.waits_since()) is not None]
        since, longest = min(waiting, key=lambda one: one[0], default=(now, None))
        if longest is None or since > now - UNHURRIED:
            return False
        self.discard(longest)
        longest.make_room()
        return True
