"""The verb `share`: what the user shares, changed while the peer runs or for its next start.

A peer that runs decides and keeps the list itself. If none runs, the command locks the data folder and changes the same
list by the same code (`LiveShares`), and nothing is shared.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from colorama import Fore
from twisted.internet.task import deferLater

from p2pshare.errors import WrongUsage
from p2pshare.peer.share.live_shares import LiveShares
from p2pshare.peer.share.service import left_out_text
from p2pshare.storage.identity.data_folder import unshared_folders
from p2pshare.storage.shares.arguments import allowed_text
from p2pshare.storage.shares.kept import KeptShares
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.verbs.key import name_of
from p2pshare.ui.verbs.own_peer import Ask, all_rows, own_folder
from p2pshare.wire.addresses import LAN

EVERYONE = "everyone"
"""In place of names: no `--allow`."""
COUNT_PATIENCE = (
    2.0  # seconds for which the command waits until the peer has counted what is left out
)
COUNT_EVERY = 0.1  # seconds between two looks
NOT_RUNNING = "No peer of yours runs. This takes effect when it starts."

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ShareOptions:
    """The flags of `share add`."""

    name: str | None = None
    allow: Sequence[str] = ()
    exclude: Sequence[str] = ()
    hidden: bool = False
    expires_s: int | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class _Shares:
    """The user's shares."""

    ask: Ask
    """Returns the reply to a request."""
    is_live: bool
    """Whether a peer runs, so that changes take effect."""

    async def all(self) -> list[Row]:
        """Return all shares, by their names."""
        return await all_rows(self.ask, "shares", "shares", by="name")


async def add(invocation: Invocation, path: str, options: ShareOptions) -> int:
    """Share a file or folder; return the exit code.

    Raises:
        WrongUsage: it cannot be shared so.
        P2pshareError: the peer does not answer, or the list cannot be written.
    """
    expanded = os.path.expanduser(path) if path.startswith("~") else path
    absolute = os.path.abspath(invocation.cwd / expanded)
    async with _opened(invocation) as shares:
        row = await shares.ask(
            "share_add",
            path=absolute,
            name=options.name,
            allow=_names(options.allow),
            exclude=list(options.exclude),
            hidden=options.hidden,
            expires_s=options.expires_s,
            count=options.count,
        )
        if shares.is_live:
            row = await _counted(invocation, shares, row)
    invocation.output.event("share", **row, removed=False, live=shares.is_live)
    invocation.output.line(f"You share {_described(invocation, row)}.", Fore.GREEN)
    if row["left_out"] and (text := left_out_text(row["left_out"])):
        invocation.output.remark(f"Not shared: {text}.")
    _remark_effect(invocation, shares)
    return 0


async def remove(invocation: Invocation, share_name: str) -> int:
    """End a share; return the exit code.

    Raises:
        NoSuchShare: there is none of this name.
        P2pshareError: the peer does not answer, or the list cannot be written.
    """
    async with _opened(invocation) as shares:
        row = await shares.ask("share_remove", name=share_name)
    invocation.output.event("share", **row, removed=True, live=shares.is_live)
    invocation.output.line(f"You no longer share {row['name']} ({row['path']}).", Fore.GREEN)
    if not row["kept"]:
        invocation.output.remark(
            "It is a share of the command line or the settings, and comes back when your peer restarts."
        )
    return 0


async def allow(invocation: Invocation, share_name: str, names: Sequence[str]) -> int:
    """Change who may see a share; return the exit code.

    Raises:
        WrongUsage: nobody is named, which must not mean everyone.
        NoSuchShare: there is none of this name.
        P2pshareError: a name is not valid, the peer does not answer, or the list cannot be written.
    """
    if not names:
        raise WrongUsage(reason=f"NAMES is missing: who may see it? For everyone, type {EVERYONE}.")
    async with _opened(invocation) as shares:
        row = await shares.ask("share_allow", name=share_name, allow=_names(names))
    invocation.output.event("share", **row, removed=False, live=shares.is_live)
    invocation.output.line(f"You share {_described(invocation, row)}.", Fore.GREEN)
    _remark_effect(invocation, shares)
    return 0


async def shares(invocation: Invocation) -> int:
    """List the shares; return the exit code.

    Raises:
        P2pshareError: the peer does not answer, or the list cannot be read.
    """
    output = invocation.output
    async with _opened(invocation) as own:
        rows = await own.all()
    for row in rows:
        output.event("share", **row, removed=False, live=own.is_live)
    if output.screen() is None or output.is_quiet:
        output.rows(map(_cells, rows))
    else:
        for row in rows:
            output.line(f"{_described(invocation, row)}.")
            if row["left_out"] and (text := left_out_text(row["left_out"])):
                output.line(f"  Not shared: {text}.")
    if not rows:
        output.remark("Nothing is shared. `p2pshare share add PATH` shares a file or a folder.")
    elif not own.is_live:
        output.remark("No peer of yours runs. These are shared when it starts.")
    return 0


@asynccontextmanager
async def _opened(invocation: Invocation) -> AsyncIterator[_Shares]:
    """The shares of the peer that runs, or those that it will have."""
    settings, name = invocation.settings, name_of(invocation.settings)
    async with own_folder(invocation, name) as (client, folder):
        if client is not None:
            yield _Shares(client.ask, is_live=True)
            return
        live = LiveShares(
            invocation.reactor,
            invocation.wall,
            KeptShares(folder),
            None,
            unshared_folders(settings, name),
            is_lan=settings.registry == LAN,
        )
        live.load()

        async def ask(do: str, **fields: Any) -> Row:
            given = {key: value for key, value in fields.items() if value is not None}
            return dict(await live.actions[do](given))

        yield _Shares(ask, is_live=False)


async def _counted(invocation: Invocation, shares: _Shares, row: Row) -> Row:
    """Return a new share with what is left out of it, unless counting takes long."""
    until = invocation.reactor.seconds() + COUNT_PATIENCE
    while row["left_out"] is None and invocation.reactor.seconds() < until:
        await deferLater(invocation.reactor, COUNT_EVERY)
        found = [each for each in await shares.all() if each["name"] == row["name"]]
        if not found:
            break
        row = found[0]
    return row


def _names(words: Sequence[str]) -> list[str] | None:
    """Return the names in `bob,carol`; None for everyone."""
    names = [name for word in words for name in word.split(",")]
    return None if not names or names == [EVERYONE] else names


def _remark_effect(invocation: Invocation, shares: _Shares) -> None:
    if not shares.is_live:
        invocation.output.remark(NOT_RUNNING)


def _described(invocation: Invocation, row: Row) -> str:
    """Return what is shared with whom, and until when."""
    whom = allowed_text(row["allow"], is_lan=invocation.settings.registry == LAN)
    text = f"{row['name']} ({row['path']}) with {whom}"
    if row["expires"] is not None:
        when = datetime.fromtimestamp(row["expires"])
        text += f", until {when.strftime('%d %b %Y %H:%M')}"
    if row["count"] is not None:
        text += f", {row['downloads']} of {row['count']} downloads"
    elif row["downloads"]:
        text += f", {row['downloads']} download{'' if row['downloads'] == 1 else 's'}"
    return text


def _cells(row: Row) -> Sequence[str]:
    """Return a share for a pipe."""
    expires = row["expires"]
    return (
        row["name"],
        row["path"],
        EVERYONE if row["allow"] is None else ",".join(row["allow"]) or "nobody",
        "-" if expires is None else datetime.fromtimestamp(expires, UTC).isoformat(),
        f"{row['downloads']}" if row["count"] is None else f"{row['downloads']}/{row['count']}",
    )
