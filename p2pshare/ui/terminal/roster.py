"""Who is there, as people see it: rows that fit, and a list that is kept up to date."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.text import Text

from p2pshare.wire.quantities import ago_text
from p2pshare.wire.registry_answers import NameKind, PeerSummary, Presence

WATCHED_MAX = 100_000  # names that are kept up to date

PRESENCE_WIDTH = len("presence")
LAST_SEEN_WIDTH = len("999 days ago")
KIND_WIDTH = len("classic")
NAME_WIDTH_MIN = 4  # columns
GAP = "  "
_YEAR_4147 = 2**36  # seconds: a registry may say anything, but there is an end to dates

_STYLES = {Presence.ONLINE: "green", Presence.OFFLINE: "dim", Presence.UNKNOWN: ""}
_ORDER = {Presence.ONLINE: 0, Presence.UNKNOWN: 1, Presence.OFFLINE: 2, Presence.GONE: 3}


class Rows:
    """Rows of one width, that has room for the names it is made for; what does not fit is folded or left out.

    Of a narrow terminal the kind is left out first, which the presence tells as well, and then the time.
    """

    def __init__(self, columns: int, names: Iterable[str], own: str | None) -> None:
        """Lay rows out.

        Args:
            columns: how wide the terminal is.
            names: those that are to be shown.
            own: the reader's own name, which is marked.
        """
        self._own = own
        wanted = max((len(self._marked(name)) for name in names), default=NAME_WIDTH_MIN)
        widths = [PRESENCE_WIDTH, LAST_SEEN_WIDTH, KIND_WIDTH]
        while len(widths) > 1 and wanted + _room(widths) > columns:
            widths.pop()
        self._widths = widths
        self._name_width = max(NAME_WIDTH_MIN, min(wanted, columns - _room(widths)))

    def header(self) -> Text:
        """The titles of the columns."""
        titles = ["presence", "last seen", "kind"][: len(self._widths)]
        return Text(self._joined("name", titles), style="bold")

    def row(self, peer: PeerSummary, now: float) -> Text:
        """One peer; `now` is the Unix time by the registry's clock."""
        name = self._marked(peer.name)
        first, rest = name[: self._name_width], name[self._name_width :]
        cells = [peer.presence.value, last_seen(peer, now), peer.kind.value]
        text = Text(self._joined(first, cells[: len(self._widths)]))
        start = self._name_width + len(GAP)
        style = _STYLES.get(peer.presence, "")
        text.stylize(style, start, start + PRESENCE_WIDTH)
        while rest:
            text.append(f"\n{rest[: self._name_width]}")
            rest = rest[self._name_width :]
        if peer.name == self._own:
            text.stylize("bold", 0, self._name_width)
        return text

    def _marked(self, name: str) -> str:
        return f"{name} (you)" if name == self._own else name

    def _joined(self, name: str, cells: Sequence[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)]
        return GAP.join([name.ljust(self._name_width), *padded]).rstrip()


class Roster:
    """The peers that are watched, as far as is known now; those beyond `WATCHED_MAX` are counted only."""

    def __init__(self, *, prefix: str = "", online: bool = False) -> None:
        """Watch the names with a prefix; with `online` only those who are there, or may be."""
        self._prefix = prefix
        self._online = online
        self._peers: dict[str, PeerSummary] = {}
        self.unkept = 0
        """How many more there were than can be kept up to date."""

    @property
    def count(self) -> int:
        """How many are kept up to date."""
        return len(self._peers)

    def begin_again(self, peers: Iterable[PeerSummary]) -> list[PeerSummary]:
        """Take over a whole list; returns what has changed, those who are gone too."""
        before, self._peers, self.unkept = self._peers, {}, 0
        changes = []
        for peer in peers:
            if not self.wants(peer):
                continue
            if len(self._peers) >= WATCHED_MAX:
                self.unkept += 1
                continue
            self._peers[peer.name] = peer
            was = before.pop(peer.name, None)
            if was is None or (was.kind, was.presence) != (peer.kind, peer.presence):
                changes.append(peer)
        return [*changes, *(_gone(peer, online=self._online) for peer in before.values())]

    def change(self, peer: PeerSummary) -> bool:
        """Take over what is new of one peer; returns whether it concerns this list."""
        known = self._peers.pop(peer.name, None)
        if peer.presence is Presence.GONE or not self.wants(peer):
            return known is not None
        if len(self._peers) >= WATCHED_MAX:
            self.unkept += 1
            return False
        self._peers[peer.name] = peer
        return known is None or (known.kind, known.presence) != (peer.kind, peer.presence)

    def wants(self, peer: PeerSummary) -> bool:
        """Whether a peer belongs into this list."""
        if not peer.name.startswith(self._prefix):
            return False
        return not self._online or peer.presence is not Presence.OFFLINE

    def first(self, count: int) -> list[PeerSummary]:
        """The first few: who is online before the others, and then by name."""
        return heapq.nsmallest(
            count, self._peers.values(), key=lambda peer: (_ORDER[peer.presence], peer.name)
        )

    def online(self) -> int:
        """How many are there."""
        return sum(peer.presence is Presence.ONLINE for peer in self._peers.values())


def classic_summary(name: str) -> PeerSummary:
    """All that is known of a name in a registry that tells nothing but names."""
    return PeerSummary(name, NameKind.CLASSIC, Presence.UNKNOWN, None)


def last_seen(peer: PeerSummary, now: float) -> str:
    """When there was a sign of life, for people; `now` is the Unix time by the registry's clock."""
    if peer.presence is Presence.ONLINE:
        return "now"
    return "" if peer.last_seen is None else ago_text(now - peer.last_seen)


def cells(peer: PeerSummary) -> tuple[str, ...]:
    """A peer as a pipe gets it: name, presence, UTC of the last sign of life, kind."""
    seen = "-"
    if peer.last_seen is not None:
        when = datetime.fromtimestamp(min(peer.last_seen, _YEAR_4147), UTC)
        seen = when.strftime("%Y-%m-%dT%H:%M:%SZ")
    return peer.name, peer.presence.value, seen, peer.kind.value


def _gone(peer: PeerSummary, *, online: bool) -> PeerSummary:
    presence = Presence.OFFLINE if online else Presence.GONE
    return PeerSummary(peer.name, peer.kind, presence, peer.last_seen)


def _room(widths: Sequence[int]) -> int:
    return sum(widths) + len(widths) * len(GAP)
