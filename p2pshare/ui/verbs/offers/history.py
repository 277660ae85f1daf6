"""The verb `history`: what was sent and received, and whether a receipt proves it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from colorama import Fore

from p2pshare.errors import (
    NoReceipt,
    NoSuchOffer,
    P2pshareError,
    ReceiptDiffers,
    ReceiptInvalid,
    RemoteProtocolError,
    WrongUsage,
)
from p2pshare.names import read_name
from p2pshare.net.threads import run_in_thread
from p2pshare.storage.offers.contents import Contents, contents_of
from p2pshare.storage.shares.rules import Rules
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.offers import wording
from p2pshare.ui.verbs.own_peer import Ask, own_records
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.offers.receipts import OfferReceipt
from p2pshare.wire.quantities import size_text

LIMIT = 20  # entries, unless the user says how many
PAGE = 500  # entries of a request
ID_MIN = 4  # characters of an ID
VERIFY = "verify"
"""The first of several words: the others are an ID and paths."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ContentOptions:
    """What of the paths belongs to the offer, as for `send`."""

    exclude: Sequence[str] = ()
    hidden: bool = False


async def history(
    invocation: Invocation,
    words: Sequence[str],
    limit: int = LIMIT,
    options: ContentOptions = ContentOptions(),
) -> int:
    """List what was sent and received, the newest first, or verify a receipt; return the exit code.

    Args:
        invocation: the run of the command line.
        words: nothing, the name of a person, or `verify` with an ID and paths.
        limit: the most entries.
        options: for `verify` with paths.

    Raises:
        WrongUsage: the words are invalid.
        P2pshareError: the history cannot be read, or a receipt does not hold.
    """
    if len(words) > 1 and words[0] == VERIFY:
        return await _verify(invocation, words[1], words[2:], options)
    if len(words) > 1:
        raise WrongUsage(reason="`history` takes one NAME, or `verify ID [PATH ...]`.")
    name = read_name(words[0]) if words else None
    output, shown = invocation.output, 0
    async with own_records(invocation) as ask:
        before: int | None = None
        while shown < limit:
            told = await ask("history", limit=min(PAGE, limit - shown), before=before, name=name)
            for row in told["entries"]:
                _show(invocation, row)
            shown += len(told["entries"])
            if not told["more"] or not told["entries"]:
                break
            before = told["entries"][-1]["number"]
    if not shown and output.screen() is not None:
        output.line("Nothing was sent or received yet.")
    return 0


def _show(invocation: Invocation, row: Row) -> None:
    output = invocation.output
    output.event("history", **row)
    screen: Terminal | None = output.screen()
    if screen is None or output.is_quiet:
        output.rows([_cells(row)])
        return
    arrow = "to" if row["direction"] == "sent" else "from"
    proof = f", receipt {wording.short(row['id'])}" if row["receipt"] else ""
    when = datetime.fromtimestamp(row["at"]).strftime("%Y-%m-%d %H:%M")
    colour = Fore.GREEN if row["outcome"] == "done" else ""
    output.line(
        f"{when}  {row['direction']} {arrow} {row['peer']}: {row['title']} ({_amount(row)}), {row['outcome']}{proof}",
        colour,
    )


def _amount(row: Row) -> str:
    return f"{row['files']} file{'' if row['files'] == 1 else 's'}, {size_text(row['bytes'])}"


def _cells(row: Row) -> Sequence[str]:
    """Return an entry for a pipe."""
    return (
        _utc(row["at"]),
        row["direction"],
        row["peer"],
        row["outcome"],
        str(row["files"]),
        str(row["bytes"]),
        row["title"],
        wording.short(row["id"]) if row["receipt"] else "-",
    )


async def _verify(
    invocation: Invocation, offer_id: str, paths: Sequence[str], options: ContentOptions
) -> int:
    """Verify the receipts of an offer, and compare them with files; return the exit code.

    Raises:
        NoSuchOffer: the history has no such offer, or several.
        NoReceipt: nobody has signed one.
        ReceiptInvalid: a signature or what was signed is wrong.
        ReceiptDiffers: the files are others.
        P2pshareError: the files cannot be read.
    """
    rules = Rules.of(options.exclude, hidden=options.hidden)
    async with own_records(invocation) as ask:
        rows = await _rows_of(ask, offer_id)
    signed = [row for row in rows if row["receipt"]]
    if not signed:
        states = ", ".join(f"{row['peer']}: {row['outcome']}" for row in rows)
        raise NoReceipt(id=wording.short(rows[0]["id"]), states=states)
    contents = None
    if paths:
        absolute = [
            Path(os.path.abspath(invocation.cwd / os.path.expanduser(each))) for each in paths
        ]
        contents = await _contents(invocation, absolute, rules)
    for row in signed:
        _judge(invocation, row, contents)
    return 0


async def _rows_of(ask: Ask, offer_id: str) -> list[Row]:
    """Return the entries of an offer: one for each person."""
    wanted = offer_id.strip().lower()
    if len(wanted) < ID_MIN:
        raise NoSuchOffer(id=offer_id, hint=f": an ID has at least {ID_MIN} characters")
    rows: list[Row] = (await ask("history", id=wanted))["entries"]
    ids = sorted({row["id"] for row in rows})
    if len(ids) == 1:
        return rows
    hint = f", but several that begin so: {', '.join(ids[:5])}" if ids else " in the history"
    raise NoSuchOffer(id=offer_id, hint=hint)


async def _contents(invocation: Invocation, paths: Sequence[Path], rules: Rules) -> Contents:
    is_over = False
    try:
        return await run_in_thread(invocation.reactor, contents_of, paths, rules, lambda: is_over)
    finally:
        is_over = True


def _judge(invocation: Invocation, row: Row, contents: Contents | None) -> None:
    """Tell what a receipt proves.

    Raises:
        ReceiptInvalid: it proves nothing.
        ReceiptDiffers: it is about other files.
    """
    short = wording.short(row["id"])
    receipt = _checked(row, short)
    root = receipt.root.hex()
    matches = None
    if contents is not None:
        matches = (contents.files, contents.size, contents.root) == (
            receipt.files,
            receipt.bytes,
            receipt.root,
        )
    invocation.output.event(
        "verified",
        id=row["id"],
        direction=row["direction"],
        peer=row["peer"],
        key=str(receipt.key),
        files=receipt.files,
        bytes=receipt.bytes,
        root=root,
        time=receipt.time,
        matches=matches,
    )
    who = f"{row['peer']} has" if row["direction"] == "sent" else "You have"
    invocation.output.line(
        f"The signature is valid: {who} received {row['title']} ({_amount(row)}) on {_utc(receipt.time)}.",
        Fore.GREEN,
    )
    invocation.output.line(f"Signed by the key {receipt.key.grouped}")
    invocation.output.line(f"Root {root}")
    if contents is not None and not matches:
        raise ReceiptDiffers(
            id=short,
            files=receipt.files,
            size=size_text(receipt.bytes),
            here=contents.files,
            here_size=size_text(contents.size),
        )
    if matches:
        invocation.output.line("The files are exactly these.", Fore.GREEN)


def _checked(row: Row, short: str) -> OfferReceipt:
    """Return the receipt of an entry, whose signature and content are right."""
    is_sent = row["direction"] == "sent"
    try:
        other = PublicKey.parse(row["key"])
        receipt = OfferReceipt.read(row["receipt"], other if is_sent else None)
    except (RemoteProtocolError, ValueError, TypeError) as error:
        reason = error.fields["reason"] if isinstance(error, P2pshareError) else str(error)
        raise ReceiptInvalid(id=short, name=row["peer"], reason=reason) from None
    for what, signed, known in (
        ("offer", receipt.offer, row["id"] if is_sent else receipt.offer),
        ("sender", receipt.sender, receipt.sender if is_sent else other),
        ("number of files", receipt.files, row["files"]),
        ("size", receipt.bytes, row["bytes"]),
        ("root", receipt.root.hex(), row["root"]),
    ):
        if signed != known:
            raise ReceiptInvalid(id=short, name=row["peer"], reason=f"the {what} is another one")
    return receipt


def _utc(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
