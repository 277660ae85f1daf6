"""The list of users: rows that fit a terminal, a list that is kept up to date, and its live table on a terminal."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from rich.live import Live
from rich.text import Text
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.wire.quantities import ago_text
from p2pshare.wire.registry_answers import NameKind, PeerSummary, Presence

WATCHED_MAX = 100_000  # names that are kept up to date
LOOK_EVERY = 0.25  # seconds until a change is on the screen
DRAW_EVERY = 1.0  # seconds after which the times are redrawn
LINES_MIN = 5  # lines; a terminal with fewer counts as one with so many

NAME_WIDTH_MIN = 4  # columns
GAP = "  "
_COLUMNS = {"presence": len("presence"), "since": len("999 days ago"), "kind": len("classic")}
"""The width of each column behind the name."""
_YEAR_4147 = 2**36  # seconds; a registry may send any time, but there is a last date

_STYLES = {Presence.ONLINE: "green", Presence.OFFLINE: "dim"}
_ORDER = {Presence.ONLINE: 0, Presence.UNKNOWN: 1, Presence.OFFLINE: 2, Presence.GONE: 3}
_CLEAR = "\x1b[H\x1b[2J"


class Rows:
    """The rows of a table, all of one width. A long name is folded.

    On a narrow terminal the kind is left out first, since the presence implies it, and then the time.
    """

    def __init__(self, columns: int, names: Iterable[str], own: str | None) -> None:
        """Compute the widths.

        Args:
            columns: the width of the terminal.
            names: the names in the table.
            own: the user's own name, which is marked.
        """
        self._own = own
        wanted = max((len(self._marked(name)) for name in names), default=NAME_WIDTH_MIN)
        self._widths = list(_COLUMNS.values())
        while len(self._widths) > 1 and wanted + self._width_of_cells > columns:
            self._widths.pop()
        self._name_width = max(NAME_WIDTH_MIN, min(wanted, columns - self._width_of_cells))

    def header(self) -> Text:
        """Return the titles of the columns."""
        return Text(self._joined("name", list(_COLUMNS)), style="bold")

    def row(self, peer: PeerSummary, now: float) -> Text:
        """Return the row of one peer; `now` is the Unix time by the registry's clock."""
        name = self._marked(peer.label)
        first, rest = name[: self._name_width], name[self._name_width :]
        cells = [peer.presence.value, since_text(peer, now), peer.kind.value]
        text = Text(self._joined(first, cells))
        start = self._name_width + len(GAP)
        text.stylize(_STYLES.get(peer.presence, ""), start, start + self._widths[0])
        while rest:
            text.append(f"\n{rest[: self._name_width]}")
            rest = rest[self._name_width :]
        if peer.label == self._own:
            text.stylize("bold", 0, self._name_width)
        return text

    @property
    def _width_of_cells(self) -> int:
        return sum(self._widths) + len(self._widths) * len(GAP)

    def _marked(self, name: str) -> str:
        return f"{name} (you)" if name == self._own else name

    def _joined(self, name: str, cells: Sequence[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, self._widths, strict=False)]
        return GAP.join([name.ljust(self._name_width), *padded]).rstrip()


class Roster:
    """The peers in a list that is kept up to date. Peers beyond `WATCHED_MAX` are only counted."""

    def __init__(self, *, prefix: str = "", online: bool = False) -> None:
        """Keep the names with a prefix; with `online`, only peers that are online, or may be."""
        self._prefix = prefix
        self._online = online
        self._peers: dict[str, PeerSummary] = {}
        self.unkept = 0
        """How many more peers there were than are kept."""

    @property
    def count(self) -> int:
        """The number of peers that are kept."""
        return len(self._peers)

    def begin_again(self, peers: Iterable[PeerSummary]) -> list[PeerSummary]:
        """Replace the list; return the changes, with the peers that are gone."""
        before, self._peers, self.unkept = self._peers, {}, 0
        kept = (peer for peer in peers if self._keep(peer))
        changes = [peer for peer in kept if _differs(peer, before.pop(peer.label, None))]
        left = Presence.OFFLINE if self._online else Presence.GONE
        gone = (replace(each, presence=left) for each in before.values())
        return [*changes, *gone]

    def change(self, peer: PeerSummary) -> bool:
        """Update one peer; return whether the list changes."""
        known = self._peers.pop(peer.label, None)
        if peer.presence is Presence.GONE or not self._wants(peer):
            return known is not None
        return self._keep(peer) and _differs(peer, known)

    def first(self, count: int) -> list[PeerSummary]:
        """Return the first peers: those online before the others, and then by name."""
        return heapq.nsmallest(
            count, self._peers.values(), key=lambda peer: (_ORDER[peer.presence], peer.label)
        )

    def online(self) -> int:
        """Return how many peers are online."""
        return sum(peer.presence is Presence.ONLINE for peer in self._peers.values())

    def _wants(self, peer: PeerSummary) -> bool:
        is_there = not self._online or peer.presence is not Presence.OFFLINE
        return is_there and peer.name.startswith(self._prefix)

    def _keep(self, peer: PeerSummary) -> bool:
        """Add a peer if the list wants it and has room; return whether it was added."""
        if not self._wants(peer):
            return False
        if len(self._peers) >= WATCHED_MAX:
            self.unkept += 1
            return False
        self._peers[peer.label] = peer
        return True


class LiveRoster:
    """A table of peers as high as the terminal, redrawn in place; call `stop` in any case to show the cursor again."""

    def __init__(
        self, terminal: Terminal, own: str | None, registry_time: Callable[[], float]
    ) -> None:
        """Draw on a terminal that can redraw.

        Args:
            terminal: the terminal.
            own: the user's own name, which is marked.
            registry_time: returns the Unix time by the registry's clock.
        """
        self._terminal = terminal
        self._own = own
        self._time = registry_time
        self._live: Live | None = None
        self._size = (0, 0)
        self._drawn_at = 0.0
        self._calls: LoopingCall | None = None
        self._first: list[PeerSummary] = []
        self._online = 0
        self.is_due = True
        """Whether something has changed since the last drawing."""
        self.has_list = False
        """Whether the list has arrived."""
        self.is_away = False
        """Whether the registry does not answer."""

    def start(self, clock: IReactorTime, roster: Roster) -> Deferred[Any]:
        """Draw `roster` from now on; the result fails if drawing does."""
        self._calls = LoopingCall(lambda: self._look(clock.seconds(), roster))
        self._calls.clock = clock
        return self._calls.start(LOOK_EVERY)

    def stop(self) -> None:
        """Leave the last drawing on the screen, and show the cursor. May be called again."""
        if self._calls is not None and self._calls.running:
            self._calls.stop()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _look(self, now: float, roster: Roster) -> None:
        size = (self._terminal.columns, self._terminal.lines)
        if self._live is None or size != self._size:
            self._live = self._begin(size)
            self.is_due = True
        if self.is_due:  # sorting 100 000 peers takes a while, so only a change causes it
            self._first = roster.first(self._room)
            self._online = roster.online()
        elif now - self._drawn_at < DRAW_EVERY:
            return
        self.is_due, self._drawn_at = False, now
        self._live.update(self._table(roster), refresh=True)

    def _begin(self, size: tuple[int, int]) -> Live:
        """Begin on a terminal of this size; a drawing for another size can only be erased with the whole screen."""
        if self._live is not None:
            self._live.stop()
            self._terminal.stream.write(_CLEAR)
        self._size = size
        live = Live(
            console=self._terminal.console(),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        live.start()
        return live

    @property
    def _room(self) -> int:
        """Lines for peers, besides the header, the footer and the line of the cursor."""
        return max(LINES_MIN, self._terminal.lines) - 3

    def _table(self, roster: Roster) -> Text:
        """Return the table, with no more lines than the terminal has."""
        columns = self._terminal.columns
        rows = Rows(columns, (peer.label for peer in self._first), self._own)
        now = self._time()
        drawn, height = [rows.header()], 0
        for peer in self._first:
            row = rows.row(peer, now)
            height += row.plain.count("\n") + 1
            if height > self._room:
                break
            drawn.append(row)
        more = roster.count + roster.unkept - (len(drawn) - 1)
        return Text("\n").join([*drawn, self._footer(more, columns)])

    def _footer(self, more: int, columns: int) -> Text:
        if self.is_away:
            return Text("No answer from the registry, retrying."[:columns], style="red")
        text = f"{self._online} online" if self.has_list else "Waiting for the list"
        if more:
            text += f", and {more} more than fit here"
        hint = " - Ctrl+C ends it"
        return Text((text + hint if len(text + hint) <= columns else text)[:columns], style="dim")


def classic_summary(name: str) -> PeerSummary:
    """Return what is known of a name in an original registry, which has nothing but names."""
    return PeerSummary(name, NameKind.CLASSIC, Presence.UNKNOWN, None)


def since_text(peer: PeerSummary, now: float) -> str:
    """Return since when a peer is online or offline, for people; `now` is the Unix time by the registry's clock."""
    return "" if peer.since is None else ago_text(now - peer.since)


def cells(peer: PeerSummary) -> tuple[str, ...]:
    """Return a peer for a pipe: name, presence, UTC time since which that lasts, kind."""
    since = "-"
    if peer.since is not None:
        when = datetime.fromtimestamp(min(peer.since, _YEAR_4147), UTC)
        since = when.strftime("%Y-%m-%dT%H:%M:%SZ")
    return peer.label, peer.presence.value, since, peer.kind.value


def _differs(peer: PeerSummary, known: PeerSummary | None) -> bool:
    """Whether more than the time has changed."""
    return known is None or (known.kind, known.presence) != (peer.kind, peer.presence)
