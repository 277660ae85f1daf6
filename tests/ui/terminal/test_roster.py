"""Tests of `p2pshare.ui.terminal.roster`."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.terminal import roster as roster_module
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.terminal.roster import GAP, LiveRoster, Roster, Rows, cells, classic_summary
from p2pshare.wire.registry_answers import NameKind, PeerSummary, Presence
from tests.ui.screens import COLOURFUL, real_terminal

NOW = 1_800_000_000
ONLINE, OFFLINE, GONE = Presence.ONLINE, Presence.OFFLINE, Presence.GONE

names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?", fullmatch=True)
peers = st.builds(
    PeerSummary,
    names,
    st.sampled_from(NameKind),
    st.sampled_from([ONLINE, OFFLINE, Presence.UNKNOWN]),
    st.none() | st.integers(0, 2 * NOW),
)


def owned(name: str, presence: Presence = ONLINE, ago: int = 5) -> PeerSummary:
    return PeerSummary(name, NameKind.OWNED, presence, NOW - ago)


class RowsTests(SynchronousTestCase):
    def lines(self, columns: int, *shown: PeerSummary, own: str | None = None) -> list[str]:
        rows = Rows(columns, [peer.name for peer in shown], own)
        return [rows.header().plain, *(rows.row(peer, NOW).plain for peer in shown)]

    def test_wide(self) -> None:
        """On a wide terminal every column is shown, and the user's own name is marked."""
        shown = self.lines(
            80, owned("alice"), owned("bob", OFFLINE, 150), classic_summary("carol"), own="bob"
        )
        self.assertEqual(
            shown,
            [
                "name       presence  since         kind",
                "alice      online    just now      owned",
                "bob (you)  offline   2 min ago     owned",
                "carol      unknown                 classic",
            ],
        )

    def test_narrow(self) -> None:
        """On a narrow terminal the kind is left out first, then the time; a name is folded, never cut."""
        self.assertEqual(self.lines(40, owned("a-name-of-18-chars"))[0].split()[-1], "presence")
        self.assertEqual(
            self.lines(40, owned("sixteen-letters-"))[0].split()[-2:], ["presence", "since"]
        )
        (_, row) = self.lines(30, owned("n" * 32))
        self.assertEqual(row, f"{'n' * 20}  online\n{'n' * 12}")

    @given(st.integers(15, 100), st.lists(peers, min_size=1, max_size=5))
    def test_any_width(self, columns: int, shown: list[PeerSummary]) -> None:
        """At any width no line is too long, and no name loses a character."""
        rows = Rows(columns, [peer.name for peer in shown], shown[0].name)
        for peer in shown:
            lines = rows.row(peer, NOW).plain.split("\n")
            self.assertLessEqual(max(map(len, lines)), columns)
            first, *others = lines
            whole = "".join([first[: first.index(GAP)], *others]).replace(" ", "")
            marked = f"{peer.name}(you)" if peer.name == shown[0].name else peer.name
            self.assertEqual(whole, marked)

    def test_cells(self) -> None:
        """The cells for a pipe have the full time."""
        self.assertEqual(
            cells(owned("bob", OFFLINE, 0)), ("bob", "offline", "2027-01-15T08:00:00Z", "owned")
        )
        self.assertEqual(cells(classic_summary("eve")), ("eve", "unknown", "-", "classic"))
        far = PeerSummary("bob", NameKind.OWNED, ONLINE, 2**53 - 1)
        self.assertTrue(cells(far)[2].startswith("4147-"))


class RosterTests(SynchronousTestCase):
    def test_changes(self) -> None:
        """A change is reported once; a new time alone is not a change."""
        roster = Roster()
        both = [owned("alice"), owned("bob")]
        self.assertEqual(roster.begin_again(both), both)
        self.assertEqual(roster.begin_again([owned("alice", ago=1), owned("bob")]), [])
        self.assertFalse(roster.change(owned("alice", ago=0)))
        self.assertTrue(roster.change(owned("alice", OFFLINE)))
        self.assertTrue(roster.change(PeerSummary("bob", NameKind.OWNED, GONE, None)))
        self.assertFalse(roster.change(PeerSummary("bob", NameKind.OWNED, GONE, None)))
        self.assertEqual([peer.name for peer in roster.first(9)], ["alice"])
        (gone,) = roster.begin_again([])
        self.assertEqual((gone.name, gone.presence), ("alice", GONE))

    def test_wanted(self) -> None:
        """Peers outside the prefix, or offline, are ignored; a listed peer that goes offline is reported."""
        roster = Roster(prefix="al", online=True)
        roster.begin_again([owned("alice"), owned("alan", OFFLINE), owned("bob")])
        self.assertEqual(roster.count, 1)
        self.assertFalse(roster.change(owned("bob")))
        self.assertFalse(roster.change(owned("alan", OFFLINE)))
        self.assertTrue(roster.change(owned("alan")))
        self.assertTrue(roster.change(owned("alice", OFFLINE)))
        self.assertEqual([peer.name for peer in roster.first(9)], ["alan"])

    def test_order(self) -> None:
        """Peers online come first."""
        roster = Roster()
        roster.begin_again([owned("alice", OFFLINE), classic_summary("bob"), owned("carol")])
        self.assertEqual([peer.name for peer in roster.first(2)], ["carol", "bob"])
        self.assertEqual(roster.online(), 1)

    def test_bound(self) -> None:
        """Peers beyond the bound are only counted."""
        with mock.patch.object(roster_module, "WATCHED_MAX", 2):
            roster = Roster()
            roster.begin_again(owned(f"user{n}") for n in range(5))
            self.assertEqual((roster.count, roster.unkept), (2, 3))
            self.assertFalse(roster.change(owned("zoe")))
            self.assertEqual((roster.count, roster.unkept), (2, 4))


class LiveRosterTests(SynchronousTestCase):
    def test_screen(self) -> None:
        """The table is redrawn in place, fills the terminal, and says how many peers do not fit."""
        for columns in (80, 40):
            with real_terminal(columns) as real:
                roster, clock = Roster(), Clock()
                roster.begin_again(owned(f"user{n:02}") for n in range(30))
                terminal = Terminal.detect(real.stream, COLOURFUL)
                live = LiveRoster(terminal, "user03", lambda: NOW)
                live.start(clock, roster)
                self.assertTrue(real.show()[-1].startswith("Waiting for the list"))
                live.has_list = live.is_due = True
                clock.advance(0.25)
                shown = real.show()
                self.assertEqual(len(shown), 23)
                self.assertIn("user03 (you)  online", shown[4])
                self.assertTrue(shown[-1].startswith("30 online, and 9 more than fit here"))
                self.assertTrue(real.screen.cursor_hidden)
                roster.change(owned("user00", OFFLINE, 120))
                live.is_due = True
                clock.advance(0.25)
                again = real.show()
                self.assertEqual(len(again), 23)
                self.assertTrue(again[1].startswith("user01"))
                live.is_away = live.is_due = True
                clock.advance(0.25)
                self.assertEqual(real.show()[-1], "No answer from the registry, retrying.")
                live.stop()
                live.stop()
                self.assertEqual(len(real.show()), 23)
                self.assertFalse(real.screen.wrapped)
                self.assertFalse(real.screen.cursor_hidden)
                self.assertFalse(clock.getDelayedCalls())
