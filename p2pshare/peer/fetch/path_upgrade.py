"""Looks for a direct path while a session goes through a relay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.session_interface import SessionPath
from p2pshare.errors import P2pshareError

RELAY = "relay"
"""The carrier of sessions that should move to a direct path."""
AGAIN = 60.0  # seconds between two searches, and after the loss of a direct path


T = TypeVar("T")


class PathUpgrade(Generic[T]):
    """Searches at once, and then from time to time, as long as the path is a relay's."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        open_direct: Callable[[], Awaitable[T]],
        use: Callable[[T], object],
    ) -> None:
        """Args:
        clock: for pauses.
        open_direct: opens a session that takes no relay.
        use: takes such a session.
        """
        self._clock = clock
        self._open_direct = open_direct
        self._use = use
        self._searching: Deferred[None] | None = None
        self._direct_since: float | None = None

    def path_changed(self, path: SessionPath | None) -> None:
        """Search if this path is a relay's; None: there is no session."""
        now = self._clock.seconds()
        if path is None or path.carrier != RELAY:
            self.stop()
            self._direct_since = self._direct_since if path is None else now
            return
        was_direct, self._direct_since = self._direct_since, None
        is_fragile = was_direct is not None and now - was_direct < AGAIN
        if self._searching is None:
            self._searching = Deferred.fromCoroutine(self._search(AGAIN if is_fragile else 0.0))
            self._searching.addErrback(self._failed)

    def stop(self) -> None:
        """Search no more."""
        searching, self._searching = self._searching, None
        if searching is not None:
            searching.cancel()

    async def _search(self, pause: float) -> None:
        while True:
            if pause:
                await deferLater(self._clock, pause)
            pause = AGAIN
            try:
                found = await self._open_direct()
            except P2pshareError as error:
                self._log.debug("no direct path: why={why}", why=error)
                continue
            self._searching = None
            self._use(found)
            return

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("search for a direct path failed", failure)
