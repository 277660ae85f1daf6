"""A queue for something of which only so much is done at once: clients wait in order, and may leave."""

from __future__ import annotations

from itertools import islice

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class AdmissionQueue:
    """Admits `most` clients at once, in the order in which they asked.

    The line is no longer than those who may ask are many: each waits once at most. Nobody's turn begins from within
    the end of another's: however long the line, the stack does not grow with it.
    """

    def __init__(self, most: int, clock: IReactorTime) -> None:
        self._most = most
        self._clock = clock
        self._taken: set[object] = set()
        self._line: dict[object, Deferred[object | None]] = {}
        self._serving: IDelayedCall | None = None

    @property
    def taken(self) -> int:
        """How many there are now."""
        return len(self._taken)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._line)

    def take(self, who: object) -> Deferred[object | None]:
        """Fires with a turn, to be given to `end`, or with None once `who` has left the line."""
        assert who not in self._line, "it waits already"
        if not self._line and len(self._taken) < self._most:
            return succeed(self._new_turn())
        self._line[who] = Deferred()
        self._serve_soon()
        return self._line[who]

    def end(self, turn: object) -> None:
        """Let another one have its turn."""
        self._taken.discard(turn)
        self._serve_soon()

    def leave(self, who: object) -> None:
        """Stand in the line no more; nothing happens if it does not."""
        waiting = self._line.pop(who, None)
        if waiting is not None:
            waiting.callback(None)
        if not self._line and self._serving is not None:
            self._serving.cancel()
            self._serving = None

    def _new_turn(self) -> object:
        turn = object()
        self._taken.add(turn)
        return turn

    def _serve_soon(self) -> None:
        if self._line and self._serving is None and len(self._taken) < self._most:
            self._serving = self._clock.callLater(0.0, self._serve)

    def _serve(self) -> None:
        self._serving = None
        for who in list(islice(self._line, self._most)):
            if len(self._taken) >= self._most:
                break
            waiting = self._line.pop(who, None)
            if waiting is not None:
                waiting.callback(self._new_turn())
        self._serve_soon()
