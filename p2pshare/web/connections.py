"""The table of a server's connections: their number is bounded, and idle ones make room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

PATIENCE = 0.5  # seconds for which a connection may wait before its own client displaces it


class Connection(Protocol):
    """The part of a connection that the table uses; `web.site.Channel` has it."""

    origin: str
    """The client that it belongs to."""

    def abort(self) -> None:
        """Close at once."""

    def check(self, now: float) -> None:
        """Act if the deadline of the present phase has passed."""


class Connections:
    """The connections of all clients, with a bound for all and a bound for each client.

    A client that connects usually sends its request at once. So if there is no room for a new connection, it takes the
    place of one that waits for a request: of the client that has most of those, the one that has waited the longest.
    A client that holds silent or dripping connections, or opens thousands, displaces only its own.
    """

    def __init__(self, most: int, most_of_one_client: int) -> None:
        self._most = most
        self._most_of_one_client = most_of_one_client
        self._all: dict[Connection, None] = {}
        self._of_client: dict[str, int] = {}
        self._waiting: dict[str, dict[Connection, float]] = {}
        """The connections that wait, by client, and since when; the longest wait first."""

    def __len__(self) -> int:
        """The number of connections."""
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over a copy, so that connections may end meanwhile."""
        return iter(list(self._all))

    def has_room(self, origin: str, now: float) -> bool:
        """Whether one of this client can be added; if necessary, another one is closed for it."""
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

    def add(self, connection: Connection, now: float) -> None:
        """Count a connection that waits for its first request."""
        self._all[connection] = None
        self._of_client[connection.origin] = self._of_client.get(connection.origin, 0) + 1
        self.waits(connection, now)

    def waits(self, connection: Connection, now: float) -> None:
        """Note that a connection waits for a complete request from now on."""
        if connection in self._all:
            own = self._waiting.pop(connection.origin, {})
            own.pop(connection, None)
            own[connection] = now
            # At the end: of clients with equally many, the one with a recent request is displaced last.
            self._waiting[connection.origin] = own

    def works(self, connection: Connection) -> None:
        """Note that a connection does not wait any longer."""
        own = self._waiting.get(connection.origin)
        if own is not None and own.pop(connection, None) is not None and not own:
            del self._waiting[connection.origin]

    def discard(self, connection: Connection) -> None:
        """Forget a connection; nothing happens if it is not in the table."""
        if connection not in self._all:
            return
        self.works(connection)
        del self._all[connection]
        self._of_client[connection.origin] -= 1
        if not self._of_client[connection.origin]:
            del self._of_client[connection.origin]

    def _displace_own(self, origin: str, now: float) -> bool:
        own = self._waiting.get(origin)
        if own is None or next(iter(own.values())) > now - PATIENCE:
            return False
        self._close_first(own)
        return True

    def _close_first(self, waiting: dict[Connection, float]) -> None:
        first = next(iter(waiting))
        self.discard(first)
        first.abort()
