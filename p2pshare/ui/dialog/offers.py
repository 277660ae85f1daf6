"""Offers in the dialog: lines about what others offer and what becomes of it, and the commands that answer.

An offer is shown at once, by a line above the question that does not disturb what the user types. A sender must not
fill the screen, so at most `LINES_MAX` lines come in `LINES_OVER` seconds; the others are counted, and "inbox" lists
them. The lines contain names and notes from outside, which the console escapes.
"""

from __future__ import annotations

import shlex
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from p2pshare.errors import ControlRefused, WrongUsage
from p2pshare.ui.dialog.console import BAD, GOOD, HINT, Line
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.offers import wording
from p2pshare.ui.verbs.offers.inbox import OPEN, read_snippet
from p2pshare.ui.verbs.offers.send import OfferOptions
from p2pshare.ui.verbs.offers.sources import read_sources
from p2pshare.ui.verbs.own_peer import OwnPeer

LINES_MAX = 6  # lines about offers in `LINES_OVER`; the others are counted
LINES_OVER = 10.0  # seconds
STATES_MAX = 4096  # states that were shown, so that each is shown once
NOTE_SHOWN = 120  # characters of a note in a line
TEXT_LINES_SHOWN = 20  # lines of a text; the file has all of them
TEXT_SHOWN = 2000  # characters of a text

INBOX, ACCEPT, SEND, OFFERS, CANCEL = "inbox", "accept", "send", "offers", "cancel"
_ANSWERS = {
    "decline": ("decline_offer", "Declined"),
    "pause": ("pause_offer", "Paused"),
    "resume": ("go_on_offer", "Resumed"),
}
"""The action of each other command for an offer in the inbox, and what is said of it then."""
WORDS = (INBOX, ACCEPT, *_ANSWERS, SEND, OFFERS, CANCEL)
"""The commands for offers."""
WHICH_OFFER = (
    'Type which offer, too: "{word} ID". "inbox" lists the offers to you, "offers" your own ones.'
)
SEND_WHAT = 'Type what to send, and to whom: "send PATH NAME".'

TROUBLE = "(trouble)"  # in place of a person's name: why an offer does not arrive

Row = dict[str, Any]


class DialogOffers:
    """Obeys the commands for offers, and shows their events as long as it is not stopped."""

    def __init__(
        self,
        invocation: Invocation,
        peer: OwnPeer,
        say: Callable[[str, str], object],
        destination: Callable[[], Path],
    ) -> None:
        """Ask `peer`.

        Args:
            invocation: the run of the command line.
            peer: the user's own peer.
            say: writes a line and its colour.
            destination: returns the folder in which accepted offers are saved.
        """
        self._invocation = invocation
        self._peer = peer
        self._say = say
        self._destination = destination
        self._shown: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._times: deque[float] = deque()
        self._not_shown = 0
        self._telling: IDelayedCall | None = None

    def stop(self) -> None:
        """Say nothing more."""
        if self._telling is not None and self._telling.active():
            self._telling.cancel()

    async def waiting(self) -> list[Line]:
        """Return a line with the number of offers that wait for a decision since earlier; none if there are none."""
        try:
            rows = await self._peer.listed("inbox", "items")
            for offer in await self._peer.listed("offers", "offers"):
                for person in offer["to"]:
                    self._is_news(offer["id"], person["name"], person["state"])
        except ControlRefused:  # a registry without keys: there are no offers
            return []
        for row in rows:
            self._is_news(row["id"], "", row["state"])
        count = sum(row["state"] == "waiting" for row in rows)
        if not count:
            return []
        offers = "1 offer waits" if count == 1 else f"{count} offers wait"
        return [(f'{offers} for you: "inbox" lists them.', GOOD)]

    async def obey(self, word: str, rest: str) -> Sequence[Line]:
        """Obey one of `WORDS` with the rest of the line; return lines for the user.

        Raises:
            WrongUsage: the rest means nothing.
            P2pshareError: the peer cannot do it.
        """
        if word == INBOX:
            rows = [each for each in await self._peer.listed("inbox", "items") if _is_open(each)]
            return self._listed(rows, wording.item_lines, "received", "Your inbox is empty.")
        if word == OFFERS:
            rows = await self._peer.listed("offers", "offers")
            rows = [each for each in rows if not wording.is_over(each)]
            return self._listed(rows, wording.offer_lines, "created", "You offer nothing now.")
        if not rest:
            raise WrongUsage(reason=SEND_WHAT if word == SEND else WHICH_OFFER.format(word=word))
        if word == SEND:
            return await self._send(rest)
        offer_id, _, folder = rest.partition(" ")
        if word == ACCEPT:
            await self._accept(offer_id, folder.strip())
        elif word in _ANSWERS:
            action, done = _ANSWERS[word]
            row = await self._peer.ask(action, id=offer_id)
            self._is_news(row["id"], "", row["state"])
            return [(f"{done}: {wording.what(row)} from {row['from']}.", GOOD)]
        else:
            row = await self._peer.ask("cancel", id=offer_id)
            return [(f"The offer {wording.short(row['id'])} is cancelled.", GOOD)]
        return []

    async def _accept(self, offer_id: str, folder: str) -> None:
        """Accept an offer; its event says that it arrives."""
        destination = self._destination() / Path(folder).expanduser()
        await self._peer.ask("accept_offer", id=offer_id, folder=str(destination.absolute()))

    async def _send(self, rest: str) -> Sequence[Line]:
        try:
            words = shlex.split(rest)
        except ValueError as error:
            raise WrongUsage(reason=f"The line cannot be read: {error}.") from error
        cwd = self._invocation.cwd
        sources = read_sources(words, self._peer.name, cwd, text=None, as_name=None)
        if sources.is_stdin:
            raise WrongUsage(reason=SEND_WHAT)
        fields = {**sources.fields, **OfferOptions().fields}
        checked = await self._peer.ask("send", **fields, check=True)
        if omitted := wording.left_out(checked):
            self._say(f"Left out: {omitted}.", HINT)
        row = await self._peer.ask("send", **fields)
        return [(wording.made(row, self._invocation.wall()), GOOD)]

    def event(self, kind: str, row: Row) -> None:
        """Show an event of the peer, if it is about an offer and new to the user."""
        if row.get("removed"):  # only from the list
            return
        if kind == "inbox":
            if self._is_news(row["id"], "", row["state"]):
                for text, colour in self._arrival(row):
                    self._say_bounded(text, colour)
            trouble = row.get("trouble")
            if trouble and self._is_news(row["id"], TROUBLE, trouble):
                self._say_bounded(trouble, BAD)
        elif kind == "offer":
            for person in row["to"]:
                if self._is_news(row["id"], person["name"], person["state"]):
                    text, colour = _delivery(row, person)
                    if text:
                        self._say_bounded(text, colour)

    def _is_news(self, offer_id: str, person: str, state: str) -> bool:
        """Note the state of an offer at a person, and return whether it is another one than before."""
        key = (offer_id, person)
        is_news = self._shown.pop(key, "") != state
        self._shown[key] = state
        if len(self._shown) > STATES_MAX:
            self._shown.popitem(last=False)
        return is_news

    def _arrival(self, row: Row) -> Iterator[Line]:
        """Return what to tell about an offer to the user."""
        sender, what, offer_id = row["from"], wording.what(row), wording.short(row["id"])
        match row["state"]:
            case "waiting":
                unproven = " (nothing proves that name)" if wording.is_unproven(row) else ""
                yield (
                    f"{sender}{unproven} offers you {what}{_note(row)}."
                    f' Type "accept {offer_id}" or "decline {offer_id}".',
                    GOOD,
                )
            case "accepted":
                why = ", as your settings accept it" if row["auto"] else ""
                yield f"Getting {what} from {sender}, into {self._where(row['folder'])}{why}.", HINT
            case "done":
                yield from self._result(row)
            case "failed" | "refused":
                yield f"{what} from {sender} failed: {wording.reason(row['why'])}.", BAD
            case "withdrawn":
                yield f"{sender} has withdrawn {what}.", HINT

    def _result(self, row: Row) -> Iterator[Line]:
        saved = row["saved"]
        if not row["text"] or not saved:
            yield wording.saved(row, self._invocation.cwd), GOOD
            return
        yield f"{row['from']} writes (saved as {self._where(saved[0])}):", GOOD
        lines = read_snippet(Path(saved[0]))[:TEXT_SHOWN].splitlines()
        yield from ((f"  {line}", "") for line in lines[:TEXT_LINES_SHOWN])

    def _where(self, path: str | None) -> str:
        return wording.place(path, self._invocation.cwd)

    def _say_bounded(self, text: str, colour: str) -> None:
        """Write a line, or only count it if there were many just now."""
        now = self._invocation.reactor.seconds()
        while self._times and self._times[0] <= now - LINES_OVER:
            self._times.popleft()
        if len(self._times) < LINES_MAX:
            self._times.append(now)
            self._say(text, colour)
            return
        self._not_shown += 1
        if self._telling is None or not self._telling.active():
            self._telling = self._invocation.reactor.callLater(LINES_OVER, self._tell_not_shown)

    def _tell_not_shown(self) -> None:
        count, self._not_shown = self._not_shown, 0
        self._say(f'{count} more lines about offers: "inbox" and "offers" list all of them.', HINT)

    def _listed(
        self,
        rows: Sequence[Row],
        lines_of: Callable[[Row, float], Iterator[str]],
        by: str,
        nothing: str,
    ) -> list[Line]:
        now = self._invocation.wall()
        rows = sorted(rows, key=lambda row: int(row[by]))
        return [(line, "") for row in rows for line in lines_of(row, now)] or [(nothing, HINT)]


def _is_open(row: Row) -> bool:
    return row["state"] in OPEN


def _note(row: Row) -> str:
    note = row["note"]
    shown = note if len(note) <= NOTE_SHOWN else f"{note[:NOTE_SHOWN]}..."
    return f', "{shown}"' if note else ""


def _delivery(row: Row, person: Row) -> Line:
    """Return what to tell about the user's own offer."""
    name, what, state = person["name"], wording.title(row), person["state"]
    match state:
        case "delivered":
            return f"{name} has been offered {what}.", HINT
        case "accepted":
            return f"{name} fetches {what}.", HINT
        case "done":
            return f"{name} has {what}: {wording.amount(row)}.", GOOD
        case "declined":
            return f"{name} has declined {what}.", BAD
        case "failed" | "refused":
            return f"{what} for {name} {state}: {wording.reason(person['why'])}.", BAD
        case "expired":
            return f"{what} for {name} has expired.", BAD
    return "", ""
