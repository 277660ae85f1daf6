"""The verb `send`: offers files, a text or standard input to people, and shows what becomes of it.

The peer does the work (`ui/verbs/own_peer.py`). The command says what is left out before it offers anything, and then
follows its offer. It ends when everybody is done or has declined, or when nothing more can happen soon: the others are
offline, and the peer that runs goes on. A peer inside the command would end with it, so then the command stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from colorama import Fore
from twisted.internet.defer import CancelledError

from p2pshare.errors import (
    ControlRefused,
    OfferDeclined,
    OfferFailed,
    OfferRefused,
    P2pshareError,
    PeerNotAnswering,
    Unreachable,
    WrongUsage,
)
from p2pshare.storage.offers.spool import SpoolFile
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.key import name_of
from p2pshare.ui.verbs.offers import wording
from p2pshare.ui.verbs.offers.sources import Sources, check_note, read_sources
from p2pshare.ui.verbs.offers.watching import until_over
from p2pshare.ui.verbs.own_peer import OwnPeer, all_rows, own_peer, own_records, use_own_peers
from p2pshare.wire.offers.messages import ID_BYTES, id_from

GONE_AFTER = 10.0  # seconds for which somebody who has the offer may be offline
SILENT_AFTER = 30.0  # seconds after which somebody whom the peer cannot tell counts as offline
EXPIRES = 7 * 86400  # seconds until an offer ends, if the user does not say
MAY_BE_KEPT = "Your peer was stopped before it had answered. `p2pshare send --list` shows whether the offer is kept."

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OfferOptions:
    """The flags of `send` that belong to the offer."""

    note: str | None = None
    expires_s: int = EXPIRES
    exclude: Sequence[str] = ()
    hidden: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a request."""
        return {
            "note": check_note(self.note),
            "expires_s": self.expires_s,
            "exclude": list(self.exclude) or None,
            "hidden": self.hidden,
        }


async def send(
    invocation: Invocation,
    words: Sequence[str],
    options: OfferOptions,
    *,
    text: str | None = None,
    as_name: str | None = None,
    again: str | None = None,
    waits: bool = True,
) -> int:
    """Offer something to people; return the exit code.

    Args:
        invocation: the run of the command line.
        words: the paths, and the names of the people.
        options: flags of the offer.
        text: a snippet in place of paths.
        as_name: the name under which one path, or standard input, arrives.
        again: the ID of an offer whose files are sent again, in place of paths.
        waits: whether to follow the offer.

    Raises:
        WrongUsage: the words are invalid.
        P2pshareError: nothing was offered.
    """
    own_name = name_of(invocation.settings)
    sources = read_sources(words, own_name, invocation.cwd, text=text, as_name=as_name, again=again)
    if again is not None and (options.exclude or options.hidden):
        raise WrongUsage(reason="--again ID sends the same as before: omit --exclude and --hidden.")
    sending = Sending(invocation, sources, options.fields)

    async def work(peer: OwnPeer) -> None:
        await sending.offer(peer)
        if waits:
            await sending.follow(peer)
        else:
            sending.say_who_delivers(peer)

    if not await use_own_peers(invocation, work, lambda: sending.has_begun):
        if sending.is_offered:
            sending.say_what_is_kept()
        else:
            invocation.output.remark(MAY_BE_KEPT)
        return Unreachable.exit_code
    return sending.exit_code


class Sending:
    """One offer of a command."""

    def __init__(self, invocation: Invocation, sources: Sources, fields: Mapping[str, Any]) -> None:
        """Offer `sources`; `fields` are further ones of the request."""
        self._invocation = invocation
        self._output = invocation.output
        self._sources = sources
        drawn = id_from(
            invocation.rng.randbytes(ID_BYTES)
        )  # so that no repeat makes a second offer
        self._fields = {**sources.fields, **fields, "id": drawn}
        self._row: Row = {}
        self._spooled: SpoolFile | None = None  # what standard input had
        self.has_begun = False
        """Whether a peer was asked to make the offer; another one may be asked the same."""
        self._said: dict[str, str] = {}  # the state of each person that was told to the user
        self._away_since: dict[str, float] = {}
        self._codes: set[int] = set()
        self._is_lasting = True
        self._has_told_wait = False
        self._still = wording.Stillness()
        self._view = invocation.output.transfer_rows()

    @property
    def is_offered(self) -> bool:
        """Whether the peer has the offer."""
        return bool(self._row)

    @property
    def exit_code(self) -> int:
        """That of the worst end: failed, then refused, then not delivered yet, then something left out."""
        waiting = [each for each in self._row["to"] if each["state"] not in wording.FINAL]
        codes = {
            *self._codes,
            *([Unreachable.exit_code] if waiting and self._has_told_wait else ()),
        }
        for code in (OfferFailed.exit_code, OfferDeclined.exit_code, Unreachable.exit_code):
            if code in codes:
                return code
        return P2pshareError.exit_code if wording.lacks_something(self._row) else 0

    async def offer(self, peer: OwnPeer) -> None:
        """Say what is left out, and make the offer; nothing if it is made.

        Raises:
            P2pshareError: nothing was offered.
        """
        self._is_lasting = peer.is_lasting
        if self.is_offered:
            return
        if self._sources.is_stdin and self._spooled is None:
            from p2pshare.ui.verbs.offers.standard_input import spool_stdin

            assert self._sources.as_name is not None, "standard input has a name"
            self._spooled = await spool_stdin(self._invocation, peer.name, self._sources.as_name)
            self._fields["spooled"] = self._spooled.id
        try:
            await self._make(peer)
        except (CancelledError, ControlRefused, PeerNotAnswering):
            raise  # the peer may have made the offer; what belongs to none is removed after a day
        except BaseException:
            if self._spooled is not None and not self.is_offered:
                self._spooled.discard()
            raise

    async def _make(self, peer: OwnPeer) -> None:
        if (self._sources.paths or self._sources.again) and not self.has_begun:
            checked = await peer.ask("send", **self._fields, check=True)
            self._output.event("checked", **checked)
            if omitted := wording.left_out(checked):
                self._output.remark(f"Left out: {omitted}.")
        self.has_begun = True
        self._row = row = await peer.ask("send", **self._fields)
        self._output.event("offer", **row)
        if self._output.is_quiet:
            self._output.result(wording.short(row["id"]))
        self._output.line(wording.made(row, self._invocation.wall()))

    async def follow(self, peer: OwnPeer) -> None:
        """Show what becomes of the offer, until it is over or can wait.

        Raises:
            P2pshareError: the peer has ended.
        """
        try:
            await until_over(self._invocation.reactor, self._follow(peer), self._can_end)
        except CancelledError:
            self._view.finish()
            self.say_what_is_kept()
            raise
        finally:
            self._view.finish()
            self._output.end_failures()
        self._sum_up()

    def say_who_delivers(self, peer: OwnPeer) -> None:
        """Say when the offer goes out, to a user who does not wait for it."""
        if not peer.is_lasting:
            self._output.remark(
                "No peer of yours runs now. The offer is kept, and goes out as soon as one runs."
            )

    async def _follow(self, peer: OwnPeer) -> None:
        async with aclosing(peer.follow("offers", "offers", "offer")) as rows:
            async for row in rows:
                if row["id"] == self._row["id"]:
                    row.pop("event", None)
                    if self._changed(row):
                        return

    def _changed(self, row: Row) -> bool:
        """Show the state of the offer; return whether there is nothing to wait for."""
        if row != self._row:
            self._output.event("offer", **row)
        self._row = row
        for each in row["to"]:
            if self._said.get(each["name"]) != each["state"]:
                self._said[each["name"]] = each["state"]
                self._say_state(each)
        return self._can_end() or wording.is_over(row)

    def _say_state(self, person: Row) -> None:
        name, state = person["name"], person["state"]
        failed: P2pshareError | None = None
        match state:
            case "done":
                self._output.line(f"{name} has it: {wording.amount(self._row)}.", Fore.GREEN)
            case "declined":
                failed = OfferDeclined(name=name)
            case "refused":
                failed = OfferRefused(name=name, reason=wording.reason(person["why"]))
            case "failed":
                failed = OfferFailed(name=name, reason=wording.reason(person["why"]))
            case "expired" | "cancelled":
                failed = OfferFailed(name=name, reason=f"it is {state}")
            case "waiting" if person["online"] is False:
                pass  # the end of the command, or the wait for them, says it
            case _ if not self._view.redraws:
                self._output.line(f"{name}: {wording.waiting_for(person)}.")
        if failed is not None:
            self._codes.add(failed.exit_code)
            self._output.failed(name, failed)

    def _draw(self) -> None:
        row, now = self._row, self._invocation.reactor.seconds()
        rows = [
            wording.transfer_row(
                each["name"], row, each, self._still.note(each["name"], each["bytes_done"], now)
            )
            for each in row["to"]
            if each["state"] not in wording.FINAL
        ]
        self._view.update(rows)

    def _can_end(self) -> bool:
        """Whether nothing more can happen soon; with a peer inside the command, never while somebody is missing."""
        now = self._invocation.reactor.seconds()
        self._draw()
        missing = [each for each in self._row["to"] if each["state"] not in wording.FINAL]
        away = [each for each in missing if self._is_away(each, now)]
        if not missing or len(away) < len(missing):
            return False
        if not self._is_lasting:
            self._say_wait(away)
        self._has_told_wait = True
        return self._is_lasting

    def _is_away(self, person: Row, now: float) -> bool:
        """Whether somebody is offline, or cannot be told for a while."""
        if person["state"] == "waiting" and person["online"] is False:
            return True
        if person["state"] == "waiting" or person["online"] is False:
            since = self._away_since.setdefault(person["name"], now)
            return now - since >= (SILENT_AFTER if person["state"] == "waiting" else GONE_AFTER)
        self._away_since.pop(person["name"], None)
        return False

    def _say_wait(self, away: Sequence[Row]) -> None:
        if not self._has_told_wait:
            self._output.remark(
                f"{_who_is_away(away)} This command waits for them. Ctrl+C ends it: the offer is kept, and goes on as"
                " soon as your peer runs."
            )

    def _sum_up(self) -> None:
        states = [each["state"] for each in self._row["to"]]
        counts = {
            "done": states.count("done"),
            "declined": states.count("declined") + states.count("refused"),
            "failed": sum(states.count(each) for each in ("failed", "expired", "cancelled")),
        }
        waiting = len(states) - sum(counts.values())
        self._output.event("sent", id=self._row["id"], **counts, waiting=waiting)
        if waiting:
            missing = [each for each in self._row["to"] if each["state"] not in wording.FINAL]
            until = wording.until(self._row["expires"], self._invocation.wall())
            self._output.line(
                f"{_who_is_away(missing)} The offer waits until {until}: keep your peer running.",
                Fore.YELLOW,
            )

    def say_what_is_kept(self) -> None:
        """Say how the offer goes on after the command."""
        offer_id = wording.short(self._row["id"])
        kept = (
            "and goes on as soon as your peer runs"
            if not self._is_lasting
            else "and your peer goes on"
        )
        self._output.remark(
            f"The offer is kept, {kept}. To withdraw it: p2pshare send --cancel {offer_id}"
        )


def _who_is_away(people: Sequence[Row]) -> str:
    """Return who does not answer, as a sentence."""
    offline = [each["name"] for each in people if each["online"] is False]
    others = [each["name"] for each in people if each["online"] is not False]
    parts = [f"{_joined(offline)} {_is(offline)} offline"] if offline else []
    if others:
        parts.append(f"{_joined(others)} cannot be reached")
    why = next((each["why"] for each in people if each["online"] is not False and each["why"]), "")
    return f"{', and '.join(parts)}.{f' {why}' if why else ''}"


def _joined(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


async def list_offers(invocation: Invocation, *, with_past: bool = False) -> int:
    """List the user's own offers; return the exit code.

    Args:
        invocation: the run of the command line.
        with_past: whether offers that are over for everybody are listed, too.

    Raises:
        P2pshareError: they cannot be read.
    """
    output, now = invocation.output, invocation.wall()
    async with own_records(invocation) as ask:
        rows = await all_rows(ask, "offers", "offers")
    rows = sorted(
        (row for row in rows if with_past or not wording.is_over(row)),
        key=lambda row: row["created"],
    )
    for row in rows:
        output.event("offer", **row)
    if output.is_quiet:
        output.rows([wording.short(row["id"])] for row in rows)
    elif output.screen() is None:
        output.rows(_cells(row, each) for row in rows for each in row["to"])
    else:
        for row in rows:
            for line in wording.offer_lines(row, now):
                output.line(line)
        if not rows:
            output.line("You offer nothing to anybody now." if not with_past else "No offers.")
    return 0


async def cancel(invocation: Invocation, offer_id: str) -> int:
    """Withdraw an offer from everybody who is not done; return the exit code.

    Raises:
        NoSuchOffer: there is no such offer.
        P2pshareError: the peer does not answer.
    """
    async with own_peer(invocation, in_contact=False) as peer:
        row = await peer.ask("cancel", id=offer_id)
    output = invocation.output
    output.event("offer", **row)
    done = [each["name"] for each in row["to"] if each["state"] == "done"]
    had = f" {_joined(done)} had it already." if done else ""
    output.line(f"The offer {wording.short(row['id'])} is cancelled.{had}")
    if not peer.is_lasting and len(done) < len(row["to"]):
        output.remark("Nobody can get it any more. They learn it when your peer runs.")
    return 0


async def clear(invocation: Invocation, offer_ids: Sequence[str]) -> int:
    """Remove offers that are over for everybody from the list; return the exit code.

    Args:
        invocation: the run of the command line.
        offer_ids: their IDs, or the beginnings of these; empty for all that are over.

    Raises:
        NoSuchOffer: there is no such offer.
        P2pshareError: one of them is not over.
    """
    async with own_peer(invocation, in_contact=False) as peer:
        replies = [await peer.ask("offers_clear", id=each) for each in offer_ids or (None,)]
    wording.show_cleared(invocation.output, sum(each["count"] for each in replies))
    return 0


def _cells(row: Row, person: Row) -> tuple[str, ...]:
    """Return one recipient of an offer for a pipe."""
    return (
        wording.short(row["id"]),
        person["name"],
        person["state"],
        str(person["bytes_done"]),
        str(row["bytes"]),
        wording.title(row),
        row["note"],
    )
