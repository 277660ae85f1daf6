"""The verb `inbox`: lists what others offer, accepts and declines it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from colorama import Fore
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from p2pshare.errors import OfferFailed, OfferWithdrawn, Unreachable, WrongUsage
from p2pshare.net.threads import run_in_thread
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.terminal.transfer_rows import TransferRow
from p2pshare.ui.verbs.offers import wording
from p2pshare.ui.verbs.offers.watching import until_over
from p2pshare.ui.verbs.own_peer import OwnPeer, own_peer, use_own_peers

STALLED = (
    60.0  # seconds without a byte after which a command leaves the transfer to the running peer
)
ONLINE_PATIENCE = (
    5.0  # seconds until others see a peer inside the command, to which offers then come
)
ARRIVAL_PATIENCE = 3.0  # seconds for offers that have waited for such a peer
TELL_PATIENCE = (
    5.0  # seconds for telling the sender what has become of an offer, before such a peer ends
)
SNIPPET_MAX = 64 * 1024  # bytes of a text that is shown
OPEN = ("waiting", "accepted")
"""The states of items that are not over."""

Row = dict[str, Any]


async def inbox(invocation: Invocation, *, with_past: bool = False) -> int:
    """List what others offer; return the exit code.

    Args:
        invocation: the run of the command line.
        with_past: whether offers that are over are listed, too.

    Raises:
        P2pshareError: the inbox cannot be read.
    """
    output, now = invocation.output, invocation.wall()
    async with own_peer(invocation, in_contact=False) as peer:
        if not peer.is_lasting:
            output.remark("No peer of yours runs, so this command waits a moment for offers.")
            if await peer.comes_online(ONLINE_PATIENCE):
                await deferLater(invocation.reactor, ARRIVAL_PATIENCE)
        rows = await peer.listed("inbox", "items")
    shown = [row for row in rows if with_past or row["state"] in OPEN]
    shown.sort(key=lambda row: row["received"])
    for row in shown:
        output.event("inbox", **row)
    if output.is_quiet:
        output.rows([wording.short(row["id"])] for row in shown)
    elif output.screen() is None:
        output.rows(map(_cells, shown))
    else:
        for row in shown:
            for line in wording.item_lines(row, now, "p2pshare inbox "):
                output.line(line)
        if not shown:
            output.line("Your inbox is empty.")
    return 0


async def accept(invocation: Invocation, offer_id: str, folder: str | None) -> int:
    """Accept an offer, and show how it arrives; return the exit code.

    Args:
        invocation: the run of the command line.
        offer_id: an ID in the inbox, or its beginning.
        folder: where to save it; None for the current folder.

    Raises:
        NoSuchOffer: there is no such offer.
        WrongUsage: the destination is no folder.
        P2pshareError: it is over, or nothing can be fetched.
    """
    if folder == "-":
        raise WrongUsage(
            reason="An offer is saved into a folder. For a folder called '-', type './-'."
        )
    destination = os.path.abspath(invocation.cwd / os.path.expanduser(folder or ""))
    return await _get(invocation, "accept_offer", id=offer_id, folder=destination)


async def resume(invocation: Invocation, offer_id: str) -> int:
    """Go on with an offer that is paused, and show how it arrives; return the exit code.

    Raises:
        NoSuchOffer: there is no such offer.
        P2pshareError: it is not being fetched, or nothing can be fetched.
    """
    return await _get(invocation, "go_on_offer", id=offer_id)


async def _get(invocation: Invocation, action: str, **fields: str) -> int:
    """Perform an action that begins to fetch an offer, and show how it arrives; return the exit code."""
    arrival: _Arrival | None = None

    async def work(peer: OwnPeer) -> None:
        nonlocal arrival
        if arrival is None:
            row = await peer.ask(action, **fields)
            arrival = _Arrival(invocation, row)
        await arrival.watch(peer)
        if not peer.is_lasting and arrival.is_over:
            await _Ending(invocation, arrival.row).wait(peer)

    has_ended = await use_own_peers(invocation, work, lambda: arrival is not None)
    assert arrival is not None, "at least one attempt was made"
    if not has_ended:
        arrival.say_what_is_kept()
        return Unreachable.exit_code
    return await arrival.result()


async def decline(invocation: Invocation, offer_id: str) -> int:
    """Decline an offer; return the exit code.

    Raises:
        NoSuchOffer: there is no such offer.
        P2pshareError: it is over.
    """
    async with own_peer(invocation, in_contact=False) as peer:
        row = await peer.ask("decline_offer", id=offer_id)
        invocation.output.event("inbox", **row)
        invocation.output.line(f"Declined: {wording.what(row)} from {row['from']}.")
        if not peer.is_lasting:
            ending = _Ending(invocation, row)
            await ending.wait(peer)
            if not ending.is_told:
                invocation.output.remark(f"{row['from']} learns it when your peer runs.")
    return 0


async def pause(invocation: Invocation, offer_id: str) -> int:
    """Pause an offer that is being fetched; return the exit code.

    Raises:
        NoSuchOffer: there is no such offer.
        P2pshareError: it is not being fetched.
    """
    async with own_peer(invocation, in_contact=False) as peer:
        row = await peer.ask("pause_offer", id=offer_id)
    invocation.output.event("inbox", **row)
    invocation.output.line(f"Paused: {wording.what(row)} from {row['from']}.")
    invocation.output.remark(_to_resume(row))
    return 0


async def clear(invocation: Invocation, offer_id: str | None) -> int:
    """Remove an offer that is over from the list, or all of them; return the exit code.

    Args:
        invocation: the run of the command line.
        offer_id: an ID in the inbox, or its beginning; None for all that are over.

    Raises:
        NoSuchOffer: there is no such offer.
        P2pshareError: it is not over.
    """
    async with own_peer(invocation, in_contact=False) as peer:
        reply = await peer.ask("inbox_clear", id=offer_id)
    wording.show_cleared(invocation.output, reply["count"])
    return 0


def _to_resume(row: Row) -> str:
    return f"To resume it: p2pshare inbox resume {wording.short(row['id'])}"


class _Ending:
    """Waits until the sender knows that an offer is over: a peer inside the command could not tell it later."""

    def __init__(self, invocation: Invocation, row: Row) -> None:
        self._invocation = invocation
        self._id = row["id"]
        self._until = invocation.reactor.seconds() + TELL_PATIENCE
        self.is_told: bool = row["told"]
        """Whether the sender knows it."""

    async def wait(self, peer: OwnPeer) -> None:
        """Return when the sender knows it, or after `TELL_PATIENCE`."""
        clock = self._invocation.reactor
        await until_over(clock, self._follow(peer), lambda: clock.seconds() >= self._until)

    async def _follow(self, peer: OwnPeer) -> None:
        async with aclosing(peer.follow("inbox", "items", "inbox")) as rows:
            async for row in rows:
                self.is_told = self.is_told or (row["id"] == self._id and row["told"])
                if self.is_told:
                    return


class _Arrival:
    """The transfer of an accepted offer, as the command shows it."""

    def __init__(self, invocation: Invocation, row: Row) -> None:
        self._invocation = invocation
        self._output = invocation.output
        self._view = invocation.output.transfer_rows()
        self._is_lasting = True
        self._has_told_wait = False
        self._told_trouble = ""
        self._still = wording.Stillness()
        self.row = row
        """The last state."""
        self._output.event("inbox", **row)
        where = wording.place(row["folder"], invocation.cwd)
        self._output.line(f"Getting {wording.what(row)} from {row['from']}, into {where}.")

    async def watch(self, peer: OwnPeer) -> None:
        """Return when the offer is over, or nothing arrives for `STALLED` and the running peer goes on alone.

        Raises:
            PeerNotAnswering: the peer has ended.
        """
        self._is_lasting = peer.is_lasting
        try:
            await until_over(self._invocation.reactor, self._follow(peer), self._can_end)
        except CancelledError:
            self._view.finish()
            self.say_what_is_kept()
            raise
        finally:
            self._view.finish()

    @property
    def is_over(self) -> bool:
        """Whether all has arrived, or nothing more will."""
        return self.row["state"] not in OPEN

    async def _follow(self, peer: OwnPeer) -> None:
        async with aclosing(peer.follow("inbox", "items", "inbox")) as rows:
            async for row in rows:
                if row["id"] != self.row["id"]:
                    continue
                row.pop("event", None)
                if row != self.row:
                    self._output.event("inbox", **row)
                self.row = row
                if self.is_over or row.get("paused"):
                    return
                self._say_trouble()
                self._draw()

    def _say_trouble(self) -> None:
        """Say why nothing arrives, if that is another reason than the last one."""
        trouble = str(self.row.get("trouble") or self._told_trouble)
        if trouble != self._told_trouble:
            self._told_trouble = trouble
            self._output.remark(trouble)

    def _draw(self) -> float:
        """Draw the row; return for how long nothing has arrived."""
        row, sender = self.row, self.row["from"]
        still = self._still.note(sender, row["bytes_done"], self._invocation.reactor.seconds())
        if row.get("trouble"):
            is_here = row["why"] == "disk"
            why = "waits for the disk here" if is_here else "not reached"
            self._view.update([TransferRow(sender, f"{why}, trying again")])
        else:
            self._view.update([wording.transfer_row(sender, row, row, still)])
        return still

    def _can_end(self) -> bool:
        """Whether nothing arrives and the peer goes on; one inside the command stays, since it would end with it."""
        if self._draw() < STALLED:
            self._has_told_wait = False
            return False
        if not self._is_lasting and not self._has_told_wait:
            self._has_told_wait = True
            self._output.remark(f"{self._why()}This command waits. Ctrl+C ends it.")
        return self._is_lasting

    def _why(self) -> str:
        """Return why nothing arrives, with a blank at its end; empty if that was said."""
        return "" if self._told_trouble else f"Nothing arrives from {self.row['from']}. "

    def say_what_is_kept(self, why: str = "") -> None:
        """Say how the transfer goes on after the command, and before that why it ends."""
        goes_on = (
            "It goes on when your peer runs"
            if not self._is_lasting
            else "Your peer goes on with it"
        )
        stop = f"p2pshare inbox decline {wording.short(self.row['id'])}"
        self._output.remark(f"{why}{goes_on}. To stop it: {stop}")

    async def result(self) -> int:
        """Show what has arrived; return the exit code.

        Raises:
            OfferFailed, OfferWithdrawn: the offer is over, and has not arrived.
        """
        row = self.row
        match row["state"]:
            case "done":
                await _show_result(self._invocation, row)
                return 0
            case "accepted" if row.get("paused"):
                self._output.remark(f"The transfer was paused. {_to_resume(row)}")
                return Unreachable.exit_code
            case "accepted" | "waiting":
                self.say_what_is_kept(self._why())
                return Unreachable.exit_code
            case "failed" | "refused":
                raise OfferFailed(name=row["from"], reason=wording.reason(row["why"]))
            case _:
                raise OfferWithdrawn(name=row["from"])


async def _show_result(invocation: Invocation, row: Row) -> None:
    """Say where everything was saved. A text is shown, too, which may contain anything: the output escapes it."""
    output = invocation.output
    saved = [str(each) for each in row.get("saved") or ()]
    if row["text"] and saved:
        text = await run_in_thread(invocation.reactor, lambda: read_snippet(Path(saved[0])))
        for line in text.splitlines():
            output.result(line)
        output.remark(f"The text is saved as {wording.place(saved[0], invocation.cwd)}.")
        return
    output.line(wording.saved(row, invocation.cwd), Fore.GREEN)


def read_snippet(path: Path) -> str:
    """Return the text of an offer that was saved, which may contain anything; empty if it is gone."""
    try:
        with path.open("rb") as file:
            return file.read(SNIPPET_MAX).decode("utf-8", "replace")
    except OSError:  # removed already
        return ""


def _cells(row: Row) -> Sequence[str]:
    """Return an item for a pipe."""
    return (
        wording.short(row["id"]),
        row["from"],
        "paused" if row.get("paused") else row["state"],
        str(row["files"]),
        str(row["bytes"]),
        wording.title(row),
        row["note"],
    )
