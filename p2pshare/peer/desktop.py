"""Tells the user on the desktop that an offer has arrived, or that files of an offer are where they should be.

It follows the events of the peer. An event tells a state, and the same state may be told many times, so the last one of
each offer is remembered, within a bound. The words and their escaping are for `net/notifier.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

from p2pshare.peer.events import EventHub
from p2pshare.wire.quantities import size_text

REMEMBERED_MAX = 2000  # states of offers, one for each person
NAMES_SHOWN = 3  # names of an offer in a notification


class Shower(Protocol):
    """Shows notifications, as a `Notifier`."""

    def show(self, title: str, *lines: str) -> None: ...  # noqa: D102
    async def stop(self) -> None: ...  # noqa: D102


class DesktopNotices:
    """Turns events of offers into notifications."""

    def __init__(
        self, events: EventHub, notifier: Shower, *, remembered_max: int = REMEMBERED_MAX
    ) -> None:
        """Follow `events` until `stop`."""
        self._notifier = notifier
        self._remembered_max = remembered_max
        self._states: OrderedDict[tuple[str, ...], str] = OrderedDict()
        self._unsubscribe = events.subscribe(self._happened, lambda: False)

    async def stop(self) -> None:
        """Show nothing more. May be called again."""
        self._unsubscribe()
        await self._notifier.stop()

    def _happened(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "inbox":
            self._inbox_changed(fields)
        elif kind == "offer":
            self._offer_changed(fields)

    def _inbox_changed(self, item: Mapping[str, Any]) -> None:
        sender, state = item["from"], item["state"]
        before = self._state_before(("inbox", item["id"]), state)
        if state == "waiting" and before is None:
            lines = [each for each in (_names(item), item["note"]) if each]
            self._notifier.show(f"{sender} offers {_amount(item)}", *lines)
        elif state == "done" and before not in (None, "done"):
            self._notifier.show(f"Received from {sender}", _names(item))

    def _offer_changed(self, offer: Mapping[str, Any]) -> None:
        for each in offer["to"]:
            name, state = each["name"], each["state"]
            before = self._state_before(("offer", offer["id"], name), state)
            if state == "done" and before not in (None, "done"):
                self._notifier.show(f"{name} has received {_amount(offer)}", _names(offer))

    def _state_before(self, of: tuple[str, ...], state: str) -> str | None:
        """Remember a state, and return the one before it; None if there was none."""
        before = self._states.pop(of, None)
        self._states[of] = state
        if len(self._states) > self._remembered_max:
            self._states.popitem(last=False)
        return before


def _amount(offer: Mapping[str, Any]) -> str:
    if offer["text"]:
        return "a text"
    count: int = offer["files"]
    return f"{count} file{'' if count == 1 else 's'} ({size_text(offer['bytes'])})"


def _names(offer: Mapping[str, Any]) -> str:
    items = offer["items"]
    more = len(items) - NAMES_SHOWN + offer["more_items"]
    shown = ", ".join(each["name"] for each in items[:NAMES_SHOWN])
    return shown if more <= 0 else f"{shown} and {more} more"
