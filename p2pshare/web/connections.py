"""The connections that a server has: their number is bounded, and those that ask for nothing make room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

UNHURRIED = (
    0.5  # seconds for which a connection may wait for a request before its own client displaces it
)


class Connection(Protocol):
    """What has to be known of one."""

    origin: str
    """Whose it is: what counts as one client."""

    def make_room(self) -> None:
        """Close at once."""


C = TypeVar("C", bound=Connection)


class Connections(Generic[C]):
    """The connections of all clients, so many in all and so many for one of them.

    A client that connects to ask, asks at once. So a new connection that finds no room takes the place of one that
    waits for a request: of the client that has most of those, the one that has waited for the longest. Who holds
    connections, silent or dripping bytes, or opens thousands of them, keeps nobody out but itself.
    """

    def __init__(self, most: int, most_of_one_client: int) -> None:
        self._most = most
        self._most_of_one_client = most_of_one_client
        self._all: dict[C, None] = {}
        self._of_client: dict[str, int] = {}
        self._waiting: dict[str, dict[C, float]] = {}
        """Those that wait, by client, and since when; the longest first."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    def __iter__(self) -> Iterator[C]:
        """All that are there now."""
        return iter(list(self._all))

    def has_room(self, origin: str, now: float) -> bool:
        """Whether one of this client can be added; if need be, another one is closed for it."""
        if self._of_client.get(origin, 0) >= self._most_of_one_client:
            return self._displace_own(origin, now)
        if len(self._all) < self._most:
            return True
        own = self._waiting.get(origin, {})
        most = max(self._waiting.values(), key=len, default=own)
        if len(most) <= len(own):
            return self._displace_own(origin, now)
        self._close_first(most)
        return True

    def add(self, connection: C, now: float) -> None:
        """Count it in; it waits."""
        self._all[connection] = None
        self._of_client[connection.origin] = self._of_client.get(connection.origin, 0) + 1
        self.waits(connection, now)

    def waits(self, connection: C, now: float) -> None:
        """From now on it waits for a whole request."""
        if connection in self._all:
            own = self._waiting.pop(connection.origin, {})
            own.pop(connection, None)
            own[connection] = now
            self._waiting[connection.origin] = (
                own  # last: of equals, who has asked is displaced last
            )

    def works(self, connection: C) -> None:
        """It waits no longer."""
        own = self._waiting.get(connection.origin)
        if own is not None and own.pop(connection, None) is not None and not own:
            del self._waiting[connection.origin]

    def discard(self, connection: C) -> None:
        """Forget it, if it is still there."""
        if connection not in self._all:
            return
        self.works(connection)
        del self._all[connection]
        self._of_client[connection.origin] -= 1
        if not self._of_client[connection.origin]:
            del self._of_client[connection.origin]

    def _displace_own(self, origin: str, now: float) -> bool:
        own = self._waiting.get(origin)
        if own is None or next(iter(own.values())) > now - UNHURRIED:
            return False
        self._close_first(own)
        return True

    def _close_first(self, waiting: dict[C, float]) -> None:
        first = next(iter(waiting))
        self.discard(first)
        first.make_room()
