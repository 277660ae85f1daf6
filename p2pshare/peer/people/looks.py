"""What people shared when the user looked last. The list of people shows it without a connection.

A connection tells the other person who looks, and when. So nothing here connects: each look that the user takes is
remembered, also in the data folder (`storage/identity/last_seen.py`). The shares may have changed since then, so the
time of the look is shown with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.storage.identity.last_seen import Seen
from p2pshare.wire.transfer_messages import Listing

LOOKS_MAX = 1000  # people whose shares are remembered while the peer runs
NAMES_SHOWN = 3  # shares of a person in the list
NAME_SHOWN = 40  # characters of the name of a share in the list


@dataclass(frozen=True, slots=True)
class _Look:
    names: tuple[str, ...]
    more: bool
    at: int

    def to_fields(self) -> dict[str, Any]:
        return {"names": list(self.names), "more": self.more, "at": self.at}


class Looks:
    """The first shares of each person at whose shares the user has looked."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        seen: Seen,
        wall: Callable[[], float],
        on_change: Callable[[str], object],
        *,
        looks_max: int = LOOKS_MAX,
    ) -> None:
        """Remember looks.

        Args:
            reactor: for threads.
            seen: keeps looks for the next run.
            wall: the Unix time in s.
            on_change: called with each name whose shares are others now.
            looks_max: the most people.
        """
        self._reactor = reactor
        self._seen = seen
        self._wall = wall
        self._on_change = on_change
        self._looks_max = looks_max
        self._looks: dict[str, _Look] = {}  # the latest last
        self._has_read = False

    def of(self, name: str) -> dict[str, Any] | None:
        """Return what a person shared at the last look; None if there was none."""
        look = self._looks.get(name)
        return None if look is None else look.to_fields()

    async def read(self) -> None:
        """Read what was remembered before this run, once."""
        if self._has_read:
            return
        self._has_read = True
        looks = await run_in_thread(self._reactor, self._seen.looks)
        for name, (entries, at) in list(looks.items())[-self._looks_max :]:
            self._looks.setdefault(name, _look(entries, False, at))

    async def saw(self, name: str, listing: Listing) -> None:
        """Remember the first page of what a person shares. It never fails."""
        await self.read()
        children, whole, at = listing.children, not listing.more, int(self._wall())
        before = self._looks.pop(name, None)
        while len(self._looks) >= self._looks_max:
            del self._looks[next(iter(self._looks))]
        look = self._looks[name] = _look(children, listing.more, at)
        if look != before:
            self._on_change(name)
        await run_in_thread(
            self._reactor, lambda: self._seen.saw_entries(name, (), children, whole=whole, at=at)
        )

    async def forget(self, name: str) -> None:
        """Forget what a person shared."""
        self._looks.pop(name, None)
        await run_in_thread(self._reactor, self._seen.forget, name)


def _look(entries: Mapping[str, bool], more: bool, at: int) -> _Look:
    names = list(entries)
    cut = (name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}\u2026" for name in names)
    return _Look(tuple(cut)[:NAMES_SHOWN], more or len(names) > NAMES_SHOWN, at)
