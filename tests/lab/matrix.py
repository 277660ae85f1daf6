"""The same fetch between homes of all kinds: which path it takes, and how long until the first byte."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.lab.homes import Home, HomeKind, internet
from tests.lab.world import Fetch, World, world

FIRST_BYTE_S = 2.0  # the goal; it is reported, and not asserted
FIRST_BYTE_BLOCKED_S = 4.0  # where UDP is blocked at an end

_CONES = {HomeKind.CONE, HomeKind.FILTERED, HomeKind.STOCK, HomeKind.CARRIER}


def is_direct(one: HomeKind, other: HomeKind) -> bool:
    """Whether two kinds of home have to reach each other without the relay."""
    kinds = {one, other}
    return HomeKind.OPEN in kinds or kinds <= _CONES or kinds == {HomeKind.IPV6_ONLY}


@dataclass(frozen=True)
class Cell:
    """One fetch between two homes."""

    requester: HomeKind
    sharer: HomeKind
    fetch: Fetch

    @property
    def fault(self) -> str | None:
        """What is wrong with it, as a line; None if it is as it has to be."""
        where = f"{self.requester} from {self.sharer}"
        if self.fetch.exit_code or not self.fetch.is_exact:
            return f"{where}: failed, {self.fetch.events[-1:]} {self.fetch.log[-2000:]}"
        if self.fetch.is_direct != is_direct(self.requester, self.sharer):
            return f"{where}: the path was {self.fetch.paths}"
        return None

    @property
    def is_slow(self) -> bool:
        """Whether the first byte came too late."""
        is_blocked = HomeKind.UDP_BLOCKED in (self.requester, self.sharer)
        limit = FIRST_BYTE_BLOCKED_S if is_blocked else FIRST_BYTE_S
        return self.fetch.first_byte_s is None or self.fetch.first_byte_s > limit

    def __str__(self) -> str:
        """Return the cell of a table."""
        marks = (" WRONG" if self.fault else "") + (" SLOW" if self.is_slow else "")
        return f"{self.fetch}{marks}"


class Matrix:
    """Sharers in homes of some kinds, and requesters in others."""

    def __init__(self, made: World, homes: dict[tuple[HomeKind, str], Home]) -> None:
        """Start a sharer in each home that is one's."""
        self._world = made
        self._homes = homes
        for (kind, role), home in homes.items():
            if role == "sharer":
                made.share(home, _name(kind, role))

    def fetch(self, requester: HomeKind, sharer: HomeKind) -> Cell:
        """Fetch the file once."""
        running = self._world.fetch(
            self._homes[requester, "requester"],
            _name(requester, "requester"),
            _name(sharer, "sharer"),
        )
        return Cell(requester, sharer, running.end())

    @property
    def world(self) -> World:
        """Where they are."""
        return self._world


@contextlib.contextmanager
def matrix(
    requesters: Iterable[HomeKind], sharers: Iterable[HomeKind], delay_s: float = 0.0
) -> Iterator[Matrix]:
    """Make homes, a registry and sharers; a packet takes `delay_s` between a home and the internet."""
    with internet(delay_s) as (net, add):
        homes = {(kind, "requester"): add(kind) for kind in dict.fromkeys(requesters)}
        homes |= {(kind, "sharer"): add(kind) for kind in dict.fromkeys(sharers)}
        with world(net) as made:
            yield Matrix(made, homes)


def table(kinds: Iterable[HomeKind], cell: Callable[[HomeKind, HomeKind], str]) -> str:
    """Return a table of all pairs, in Markdown: the requesters are the rows."""
    kinds = list(kinds)
    lines = ["| requester \\ sharer | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for requester in kinds:
        cells = [cell(requester, sharer) for sharer in kinds]
        lines.append(f"| {requester} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _name(kind: HomeKind, role: str) -> str:
    return f"{role}.{kind.name.lower().replace('_', '-')}"
