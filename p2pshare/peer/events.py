"""Events of a running peer, such as an offer that has arrived: the parts of the peer publish them, and others follow.

The fields of an event are values of JSON, since the control socket passes them on; `docs/control.md` lists all kinds.
An event tells a new state, never only a change, so a follower that has missed some needs the last one only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

OnEvent = Callable[[str, dict[str, Any]], object]
"""Is called with the kind of an event and its fields, which it must not change."""


class EventHub:
    """Passes each published event to all subscribers, in the order of publication."""

    _log = Logger()

    def __init__(self) -> None:
        self._subscribers: dict[object, OnEvent] = {}
        self._followed: dict[object, Callable[[], bool]] = {}

    @property
    def is_followed(self) -> bool:
        """Whether anybody wants the events now: those that cost something need not be made for nobody."""
        return any(follows() for follows in self._followed.values())

    def subscribe(
        self, on_event: OnEvent, follows: Callable[[], bool] = lambda: True
    ) -> Callable[[], None]:
        """Call `on_event` with each event from now on; return a function that ends this, and may be called again.

        Args:
            on_event: is called.
            follows: whether somebody is behind it who looks at the events now; see `is_followed`.
        """
        token = object()
        self._subscribers[token] = on_event
        self._followed[token] = follows

        def unsubscribe() -> None:
            self._subscribers.pop(token, None)
            self._followed.pop(token, None)

        return unsubscribe

    def publish(self, kind: str, /, **fields: Any) -> None:
        """Tell all subscribers of an event. A subscriber that fails is logged, and does not disturb the others."""
        for on_event in list(self._subscribers.values()):
            try:
                on_event(kind, fields)
            except Exception:
                self._log.failure("subscriber failed: event={kind}", kind=kind)
