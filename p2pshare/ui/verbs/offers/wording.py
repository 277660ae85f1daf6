"""Offers in words: what is offered, how much, until when, and what became of it.

All functions take rows of the control protocol (`docs/control.md`). The texts contain names and notes from outside,
which the output escapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from p2pshare.names import ON_NETWORK
from p2pshare.peer.share.service import left_out_text
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.transfer_rows import TransferRow
from p2pshare.ui.verbs.job import shown_path
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.quantities import ago_text, duration_text, size_text

SHORT = 6  # characters of an ID that people see
SOON = 86400  # seconds; a time that is nearer is shown without the date
STILL_AFTER = 3.0  # seconds without a byte after which the rate is not shown
FINAL = frozenset({"declined", "done", "failed", "refused", "expired", "cancelled", "withdrawn"})
"""The states in which an offer is over for a person."""
REASONS = {
    "policy": "they take no offers from you",
    "full": "their inbox is full",
    "rate": "their inbox has had too many offers",
    "too_large": "it is larger than they take",
    "changed": "the files are not those that were offered",
    "disk": "the disk cannot take them",
    "gone": "the files are not there any more",
    "expired": "it was not fetched in time",
    "other": "it did not work",
}
"""Why an offer has failed or was refused."""

Row = Mapping[str, Any]


def short(offer_id: str) -> str:
    """Return as much of an ID as people need."""
    return offer_id[:SHORT]


def title(row: Row) -> str:
    """Return what is offered: the name of the first item, and how many more there are."""
    items, more = row["items"], row["more_items"]
    if row["text"]:
        return "a text"
    if not items:
        return "nothing"
    name = items[0]["name"] + ("/" if items[0]["kind"] == "folder" else "")
    others = len(items) - 1 + more
    return f"{name} and {others} more" if others else name


def amount(row: Row) -> str:
    """Return how much is offered."""
    size = size_text(row["bytes"])
    if row["text"] or (row["files"] == 1 and not row["folders"]):
        return size
    if not row["files"]:
        return f"{_count(row['folders'], 'empty folder')}"
    return f"{_count(row['files'], 'file')}, {size}"


def what(row: Row) -> str:
    """Return what and how much is offered."""
    return f"{title(row)} ({amount(row)})"


def until(expires: int, now: float) -> str:
    """Return the time at which an offer ends, by the clock of this machine."""
    when = datetime.fromtimestamp(expires)
    return when.strftime("%H:%M" if expires - now < SOON else "%d %b %H:%M")


def reason(why: str | None) -> str:
    """Return why something has failed."""
    return REASONS.get(why or "other", why or "")


def left_out(row: Row) -> str:
    """Return what an offer omits; empty if it omits nothing, or that is not known."""
    return left_out_text(row["left_out"]) if row.get("left_out") else ""


def lacks_something(row: Row) -> bool:
    """Whether an offer omits what the user has not excluded."""
    counted = row.get("left_out") or {}
    return bool(counted.get("hidden") or counted.get("omitted"))


class Stillness:
    """For how long no byte of a transfer has moved: the rate that was told last is not true any more then."""

    def __init__(self) -> None:
        self._moved: dict[str, tuple[int, float]] = {}

    def note(self, name: str, done: int, now: float) -> float:
        """Note the bytes that have moved in the transfer with a person; return the seconds since they did."""
        before, since = self._moved.get(name, (None, now))
        if done != before:
            since = now
            self._moved[name] = (done, now)
        return now - since


def transfer_row(name: str, row: Row, state: Row, still: float = 0.0) -> TransferRow:
    """Return the live line of one person.

    Args:
        name: the person.
        row: an offer or an item of the inbox, which has the total.
        state: the recipient of the offer, or the same item.
        still: seconds since a byte has moved.
    """
    done, total = state["bytes_done"], row["bytes"]
    if state["state"] == "accepted" and (done or state["rate"]):
        if still >= STILL_AFTER:
            is_offline = state.get("online") is False
            why = "offline" if is_offline else f"nothing for {duration_text(round(still))}"
            return TransferRow(name, f"{_part(done, total)}, {why}")
        return TransferRow(name, "", done, total, state["rate"])
    return TransferRow(name, waiting_for(state))


def place(path: str | None, cwd: Path) -> str:
    """Return where something is saved."""
    shown = shown_path(Path(path or ""), cwd)
    return "the current folder" if shown == "." else shown


def saved(row: Row, cwd: Path) -> str:
    """Return the line about an offer that has arrived."""
    paths = row["saved"]
    if len(paths) == 1:
        return f"Saved {place(paths[0], cwd)}, from {row['from']}: {amount(row)}."
    return f"Saved {amount(row)} in {place(row['folder'], cwd)}, from {row['from']}."


def waiting_for(state: Row) -> str:
    """Return what is awaited of a person who has an offer that is not over."""
    if state.get("online") is False:
        return "offline"
    if state["state"] == "waiting":
        return "telling them" if state.get("online") else "looking for them"
    if state["state"] == "delivered":
        return "has it, no answer yet"
    return "starts to fetch" if "online" in state else "connecting"


def made(row: Row, now: float) -> str:
    """Return the line about an offer that was just made."""
    to = ", ".join(each["name"] for each in row["to"])
    return f"Offer {short(row['id'])} to {to}: {what(row)}, until {until(row['expires'], now)}."


def is_over(row: Row) -> bool:
    """Whether an offer is over for everybody."""
    return all(each["state"] in FINAL for each in row["to"])


def show_cleared(output: Output, count: int) -> None:
    """Say how many offers were removed from a list."""
    output.event("cleared", count=count)
    output.line(f"Removed {_count(count, 'offer')} from the list.")


def offer_lines(row: Row, now: float) -> Iterator[str]:
    """Return the lines of `send --list` for one offer."""
    until_when = until(row["expires"], now)
    yield f"{short(row['id'])}  {what(row)}, {ago_text(now - row['created'])}, until {until_when}"
    if row["note"]:
        yield f'  "{row["note"]}"'
    if omitted := left_out(row):
        yield f"  left out: {omitted}"
    for each in row["to"]:
        yield f"  {each['name']}: {person_state(each, row)}"


def person_state(state: Row, row: Row) -> str:
    """Return the state of one recipient of an offer."""
    name = state["state"]
    if name in ("failed", "refused"):
        return f"{name} ({reason(state['why'])})"
    if name == "accepted":
        return f"fetches it, {_part(state['bytes_done'], row['bytes'])}{_offline(state)}"
    if name == "delivered":
        return f"no answer yet{_offline(state)}"
    if name == "waiting":
        return "not told yet" + _offline(state)
    return str(name)


def is_unproven(row: Row) -> bool:
    """Whether nothing proves the name of the sender of an item: without a registry, and not accepted."""
    return str(row["from"]).endswith(ON_NETWORK)


def item_lines(row: Row, now: float, command: str = "") -> Iterator[str]:
    """Return the lines of `inbox` for one item; `command` stands before what the user types to accept it."""
    yield f"{short(row['id'])}  {row['from']} sends {what(row)}, {ago_text(now - row['received'])}"
    if row["note"]:
        yield f'  "{row["note"]}"'
    if is_unproven(row):
        yield f"  Nothing proves that name. The key is {PublicKey.parse(row['key']).grouped}."
    state = row["state"]
    if state == "waiting":
        yield f"  until {until(row['expires'], now)}: {command}accept {short(row['id'])}"
    elif state == "accepted" and row.get("paused"):
        yield f"  paused, {_part(row['bytes_done'], row['bytes'])} is in {row['folder']}"
        yield f"  to resume it: {command}resume {short(row['id'])}"
    elif state == "accepted":
        yield f"  arriving in {row['folder']}, {_part(row['bytes_done'], row['bytes'])}"
        if trouble := row.get("trouble"):
            yield f"  {trouble}"
    elif state in ("failed", "refused"):
        yield f"  {state}: {reason(row['why'])}"
    else:
        yield f"  {state}" + (f" in {row['folder']}" if state == "done" and row["folder"] else "")


def _offline(state: Row) -> str:
    return ", offline" if state["online"] is False else ""


def _part(done: int, total: int) -> str:
    return f"{min(1.0, done / total) if total else 0.0:.0%}"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
