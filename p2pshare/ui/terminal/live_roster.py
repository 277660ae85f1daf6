"""A table of peers that is drawn again and again in the same place of a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.live import Live
from rich.text import Text
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.roster import Roster, Rows
from p2pshare.wire.registry_answers import PeerSummary

LOOK_EVERY = 0.25  # seconds until a change is on the screen
DRAW_EVERY = 1.0  # seconds after which the times are drawn anew
LINES_MIN = 5  # lines of a terminal in which there is room for anybody

_CLEAR = "\x1b[H\x1b[2J"


class LiveRoster:
    """Draws a roster as high as the terminal; `stop` it in any case, for until then the cursor is hidden."""

    def __init__(
        self, terminal: Terminal, own: str | None, registry_time: Callable[[], float]
    ) -> None:
        """Draw on a terminal that can redraw.

        Args:
            terminal: where to.
            own: the reader's own name, which is marked.
            registry_time: the Unix time by the registry's clock.
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
        """Whether something has changed since it was drawn."""
        self.has_list = False
        """Whether it is known at all who is there."""
        self.is_away = False
        """Whether to say that the registry is away."""

    def start(self, clock: IReactorTime, roster: Roster) -> Deferred[Any]:
        """Draw from now on; fails if that cannot be done."""
        self._calls = LoopingCall(lambda: self._look(clock.seconds(), roster))
        self._calls.clock = clock
        return self._calls.start(LOOK_EVERY)

    def stop(self) -> None:
        """Leave what was drawn last, and show the cursor again. May be called again."""
        if self._calls is not None and self._calls.running:
            self._calls.stop()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _look(self, now: float, roster: Roster) -> None:
        size = (self._terminal.columns, self._terminal.lines)
        if self._live is None or size != self._size:
            self._begin(size)
            self.is_due = True
        if self.is_due:  # there may be very many, so they are not sorted for a new time alone
            self._first = roster.first(self._room())
            self._online = roster.online()
        elif now - self._drawn_at < DRAW_EVERY:
            return
        self.is_due, self._drawn_at = False, now
        assert self._live is not None
        self._live.update(self._picture(roster), refresh=True)

    def _begin(self, size: tuple[int, int]) -> None:
        """Begin on a terminal of this size; what was drawn on one of another size can only be wiped away."""
        if self._live is not None:
            self._live.stop()
            self._terminal.stream.write(_CLEAR)
        self._size = size
        self._live = Live(
            console=self._terminal.console(),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()

    def _room(self) -> int:
        """Lines for peers, besides the header, the count and the cursor's own line."""
        return max(LINES_MIN, self._terminal.lines) - 3

    def _picture(self, roster: Roster) -> Text:
        """What is drawn: no more lines than the terminal has."""
        columns, room, peers = self._terminal.columns, self._room(), self._first
        rows = Rows(columns, (peer.name for peer in peers), self._own)
        now = self._time()
        drawn, shown, height = [rows.header()], 0, 0
        for peer in peers:
            row = rows.row(peer, now)
            height += row.plain.count("\n") + 1
            if height > room:
                break
            drawn.append(row)
            shown += 1
        drawn.append(self._footer(roster.count + roster.unkept - shown, columns))
        return Text("\n").join(drawn)

    def _footer(self, more: int, columns: int) -> Text:
        if self.is_away:
            return Text(f"{'The registry is away: trying again.'[:columns]}", style="red")
        said = f"{self._online} online" if self.has_list else "Looking who is there"
        if more:
            said += f", and {more} more than fit here"
        for hint in (" - Ctrl+C ends it", ""):
            if len(said + hint) <= columns:
                return Text(said + hint, style="dim")
        return Text(said[:columns], style="dim")
