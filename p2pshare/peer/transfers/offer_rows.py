"""The rows of offers that are on their way: those that are being fetched, and those that others fetch.

They follow the events of the inbox and the outbox, which have the whole state of an offer. What waits for a decision is
no row. Offers that end while the peer runs stay as rows until they are removed, up to `OVER_MAX` of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from p2pshare.core.session_interface import SessionPath
from p2pshare.peer.control import Action, Fields
from p2pshare.peer.fetch.link_change import LinkState
from p2pshare.peer.offers.inbox import Inbox
from p2pshare.peer.offers.outbox import Outbox
from p2pshare.peer.offers.parts import OfferParts
from p2pshare.peer.transfers.reasons import CONNECTING, QUEUE, RECONNECTING, reason_of
from p2pshare.peer.transfers.rows import RowOwner, live_actions, row_fields, seconds_left

PREFIX = "offer-"
"""The beginning of the IDs of rows; those of what others fetch have the name of the person at the end."""
OVER_MAX = 100  # rows that are over and still shown

_STATES = {
    "accepted": "running",
    "done": "done",
    "failed": "failed",
    "refused": "failed",
    "declined": "cancelled",
    "withdrawn": "cancelled",
    "expired": "cancelled",
    "cancelled": "cancelled",
}


@dataclass(slots=True)
class _Row:
    """An offer, or one of its recipients."""

    offer: Fields
    """As the event has it."""
    to: Fields | None = None
    """The recipient, of an offer of this peer."""

    @property
    def is_paused(self) -> bool:
        return self.to is None and bool(self.offer["paused"])

    @property
    def state(self) -> str:
        return str((self.to or self.offer)["state"])

    @property
    def is_live(self) -> bool:
        return self.state == "accepted"


class OfferRows:
    """The rows of offers."""

    def __init__(
        self,
        parts: OfferParts,
        inbox: Inbox,
        outbox: Outbox,
        owner: RowOwner,
        path_to: Callable[[str], SessionPath | None] = lambda _: None,
        *,
        over_max: int = OVER_MAX,
    ) -> None:
        """Follow the events of the peer after `load`.

        Args:
            parts: of the peer.
            inbox: the offers of others.
            outbox: the offers of this peer.
            owner: hears of changes.
            path_to: returns the way over which somebody fetches an offer.
            over_max: rows that are over and still shown.
        """
        self._parts = parts
        self._inbox = inbox
        self._outbox = outbox
        self._owner = owner
        self._path_to = path_to
        self._over_max = over_max
        self._rows: dict[str, _Row] = {}
        self._unsubscribe = parts.events.subscribe(self._published, lambda: False)

    async def load(self) -> None:
        """Make the rows of what is on its way already."""
        for kind, key, action in (
            ("inbox", "items", self._inbox.list),
            ("offer", "offers", self._outbox.list),
        ):
            await self._read(kind, key, action)

    async def _read(self, kind: str, key: str, action: Action) -> None:
        request: dict[str, str] = {}
        while True:
            reply = await action(request)
            for each in reply[key]:
                self._published(kind, each)
            if not reply["more"]:
                return
            request["after"] = reply[key][-1]["id"]

    def stop(self) -> None:
        """Follow nothing more."""
        self._unsubscribe()

    @property
    def ids(self) -> list[str]:
        """The IDs of all rows."""
        return list(self._rows)

    def is_over(self, row_id: str) -> bool:
        """Whether a row is over."""
        return not self._rows[row_id].is_live

    async def act(self, action: str, row_id: str) -> None:
        """Perform an action that the row allows.

        To cancel is to decline an offer that is being fetched, or to withdraw one from everybody who is not done.
        """
        row = self._rows[row_id]
        offer_id = str(row.offer["id"])
        if action == "retry":
            self._parts.queue.try_now(offer_id)
        elif action == "cancel" and row.to is not None:
            await self._outbox.cancel({"id": offer_id})
        else:
            known = {"pause": "pause_offer", "go_on": "go_on_offer", "cancel": "decline_offer"}
            await self._inbox.actions[known[action]]({"id": offer_id})

    def remove(self, row_id: str) -> None:
        """Drop a row that is over."""
        del self._rows[row_id]
        self._owner.row_changed(row_id)

    def shown(self, row_id: str) -> Fields | None:
        """Return a row as programs see it; None if there is none of that ID."""
        row = self._rows.get(row_id)
        if row is None:
            return None
        return (
            self._shown_incoming(row_id, row)
            if row.to is None
            else self._shown_outgoing(row_id, row)
        )

    def _published(self, kind: str, fields: Fields) -> None:
        if kind == "inbox":
            self._note(f"{PREFIX}{fields['id']}", _Row(fields))
        elif kind == "offer":
            for to in fields["to"]:
                self._note(f"{PREFIX}{fields['id']}-{to['name']}", _Row(fields, to))

    def _note(self, row_id: str, row: _Row) -> None:
        known = self._rows.get(row_id)
        if not row.is_live and (known is None or row.state not in _STATES):
            return
        self._rows[row_id] = row
        self._owner.row_changed(row_id)
        if known is not None and known.is_live and not row.is_live:
            over = [each for each, other in self._rows.items() if not other.is_live]
            for each in over[: max(0, len(over) - self._over_max)]:
                self.remove(each)

    def _shown_incoming(self, row_id: str, row: _Row) -> Fields:
        offer = row.offer
        offer_id = str(offer["id"])
        state, why, why_text = self._incoming_state(row)
        standing, link = self._parts.queue.standing(offer_id), self._inbox.downloads.link(offer_id)
        rate = offer["rate"] if row.is_live else 0
        left = seconds_left(offer["bytes"] - offer["bytes_done"], rate)
        retry_at = None
        if standing is not None and standing.retry_in is not None:
            retry_at = self._parts.now() + round(standing.retry_in)
        return row_fields(
            id=row_id,
            direction="down",
            kind="offer",
            name=offer["from"],
            paths=_names(offer),
            folder=offer["folder"],
            state=state,
            why=why,
            why_text=why_text,
            files=offer["files"],
            files_done=offer["files_done"],
            files_failed=0,
            bytes=offer["bytes"],
            bytes_done=offer["bytes_done"],
            rate=rate,
            left_s=left if row.is_live else None,
            created=offer["received"],
            updated=self._parts.now() if row.is_live else offer["received"],
            path=None if link is None else self._owner.shown_path(link.path),
            offer=offer_id,
            turn=standing.turn if standing is not None and why == QUEUE else None,
            retry_at=retry_at,
            can=live_actions(state, why) if row.is_live else ["remove"],
        )

    def _incoming_state(self, row: _Row) -> tuple[str, str | None, str | None]:
        offer = row.offer
        if not row.is_live:
            state = _STATES[row.state]
            return state, None if state == "done" else offer["why"] or row.state, offer["trouble"]
        if row.is_paused:
            return "paused", None, None
        local_id = str(offer["id"])
        standing, link = self._parts.queue.standing(local_id), self._inbox.downloads.link(local_id)
        if standing is None:
            return "running", None, None
        if standing.is_trying and link is not None:
            if link.state is LinkState.UP:
                return "running", None, None
            if link.again:
                return "running", RECONNECTING, f"{link}."
        if standing.trouble is not None:
            return "waiting", reason_of(standing.trouble).code, offer["trouble"]
        if standing.is_trying:
            return "waiting", CONNECTING, f"The peer is connecting to {offer['from']}."
        return "waiting", QUEUE, "Other downloads run first."

    def _shown_outgoing(self, row_id: str, row: _Row) -> Fields:
        offer, to = row.offer, row.to
        assert to is not None
        state = _STATES[row.state]
        rate = to["rate"] if row.is_live else 0
        size, done = offer["bytes"], to["bytes_done"]
        is_done = state == "done"
        return row_fields(
            id=row_id,
            direction="up",
            kind="offer",
            name=to["name"],
            paths=_names(offer),
            state=state,
            why=None if row.is_live or is_done else to["why"] or row.state,
            files=offer["files"],
            files_done=offer["files"] if is_done else 0,
            files_failed=0,
            bytes=size,
            bytes_done=size if is_done else done,
            rate=rate,
            left_s=seconds_left(size - done, rate) if row.is_live else None,
            created=offer["created"],
            updated=to["updated"],
            path=self._owner.shown_path(self._path_to(to["name"])) if row.is_live else None,
            offer=offer["id"],
            can=["cancel"] if row.is_live else ["remove"],
        )


def _names(offer: Fields) -> list[str]:
    """Return what is offered, as paths of a row; a snippet has its note."""
    names = [str(each["name"]) for each in offer["items"]] or [str(offer["note"])]
    return names + [names[0]] * int(offer["more_items"])
