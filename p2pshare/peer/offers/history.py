"""The history of a peer, for verbs: what was sent and received, and downloads that a command adds.

Offers write their own lines, in the transaction that ends them. A command `get` is another process than the peer, and
the ledger has one writer. So it asks the peer that runs; if none does, it takes the lock of the data folder itself.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from p2pshare.errors import AlreadyRunning, ControlRefused, P2pshareError
from p2pshare.names import NAME_MAX
from p2pshare.net.sockets import IPeerReactor
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.control import ID_TEXT_MAX, PAGE_MAX, Action, Fields, page, running_peer
from p2pshare.peer.offers.parts import shown_offer
from p2pshare.storage.identity.data_folder import DataFolder
from p2pshare.storage.offers.history import DONE, Direction, History, HistoryEntry
from p2pshare.storage.offers.ledger import FILE_NAME, Ledger
from p2pshare.storage.offers.outgoing import OutgoingOffers
from p2pshare.wire.keys import PublicKey
from p2pshare.wire.strict_json import INTEGER_MAX, integer, text

T = TypeVar("T")

LIMIT_MAX = 1000  # entries in a reply
TITLE_MAX = 1024  # characters of what was downloaded
KEY_MAX = 64  # characters of a key
ADD_TIMEOUT = 2.0  # seconds in which the running peer adds a line, so that it holds up no command
LOOK_EVERY = 0.05  # seconds between two attempts to get the lock of the data folder
FAILED = "failed"
"""The outcome of a download that is not `DONE`."""

_log = Logger()


class Past:
    """The actions `history` and `history_add`."""

    def __init__(self, reactor: IPeerReactor, history: History, now: Callable[[], int]) -> None:
        """Serve a history; `now` returns the Unix time in whole seconds. Calls of the history run in threads."""
        self._reactor = reactor
        self._history = history
        self._now = now

    @property
    def actions(self) -> Mapping[str, Action]:
        """What verbs may ask for."""
        return {"history": self.list, "history_add": self.add}

    async def list(self, request: Fields) -> Fields:
        """Return entries, the newest first: `limit` of them before the number `before`, of one person and one offer.

        Raises:
            RemoteProtocolError: a field is wrong.
            LedgerUnusable: the history cannot be read.
        """
        given = {key: value for key, value in request.items() if value is not None}
        fields = {"limit": LIMIT_MAX, "before": INTEGER_MAX, "name": "", "id": "", **given}
        limit, before = integer(fields, "limit", 1, LIMIT_MAX), integer(fields, "before", 1)
        name, offer = text(fields, "name", NAME_MAX), text(fields, "id", ID_TEXT_MAX)
        found = await run_in_thread(
            self._reactor, self._history.page, limit + 1, before, name, offer
        )
        return newest("entries", found, limit, entry_fields)

    async def add(self, request: Fields) -> Fields:
        """Add a download of a command; return its entry.

        Raises:
            RemoteProtocolError: a field is wrong.
            LedgerUnusable: the history cannot be written.
        """
        entry = _download(request, self._now())
        await run_in_thread(self._reactor, self._history.add, entry)
        return entry_fields(entry)


@asynccontextmanager
async def kept_actions(
    reactor: IPeerReactor, folder: Path, place: str, now: Callable[[], int]
) -> AsyncIterator[Mapping[str, Action]]:
    """The actions that only read the ledger, for a command that has locked the data folder since no peer runs.

    Args:
        reactor: for threads.
        folder: the data folder.
        place: the registry, as for a `Ledger`.
        now: returns the Unix time in whole seconds.

    Raises:
        LedgerUnusable: the ledger cannot be read.
    """
    ledger = Ledger(folder / FILE_NAME, place)

    async def offers(request: Fields) -> Fields:
        kept = await run_in_thread(reactor, OutgoingOffers(ledger).all)
        listed = ((each.id, each) for each in kept if not each.is_cleared)
        return page(request, "offers", listed, lambda each: shown_offer(each, now()))

    await run_in_thread(reactor, ledger.open)
    try:
        yield {"offers": offers, "history": Past(reactor, History(ledger), now).list}
    finally:
        await run_in_thread(reactor, ledger.close)


def newest(key: str, found: Sequence[T], limit: int, shown: Callable[[T], Fields]) -> Fields:
    """Return the newest part of a long list as a reply: `{key: [row, ...], "more": bool}`.

    Args:
        key: the name of the list in the reply.
        found: the rows, the newest first, and one beyond the limit if there are more.
        limit: the most rows of the reply, which has fewer if they are long.
        shown: returns the fields of a row.
    """
    rows: list[Fields] = []
    size = 0
    for row in map(shown, found[:limit]):
        size += len(json.dumps(row))
        if rows and size > PAGE_MAX:
            break
        rows.append(row)
    return {key: rows, "more": len(rows) < len(found)}


def entry_fields(entry: HistoryEntry) -> Fields:
    """Return an entry as JSON has it."""
    fields: dict[str, Any] = asdict(entry)
    fields["direction"] = entry.direction.value
    fields["key"] = None if entry.key is None else str(entry.key)
    fields["id"] = fields.pop("offer") or None
    for key in ("root", "receipt"):
        fields[key] = fields[key] or None
    return fields


def _download(request: Fields, now: int) -> HistoryEntry:
    """Return the entry of a download."""
    fields = {**request}
    outcome = text(fields, "outcome", NAME_MAX)
    if outcome not in (DONE, FAILED):
        raise ControlRefused(reason=f"The outcome is neither {DONE} nor {FAILED}.")
    return HistoryEntry(
        now,
        Direction.RECEIVED,
        text(fields, "name", NAME_MAX),
        PublicKey.parse(text(fields, "key", KEY_MAX)),
        text(fields, "title", TITLE_MAX),
        integer(fields, "files"),
        integer(fields, "bytes"),
        outcome,
    )


async def add_download(
    reactor: IPeerReactor, folder: Path, name: str, wall_s: int, download: Fields
) -> None:
    """Write a download of a command into the history of its user. A failure is only logged: the files are there.

    Args:
        reactor: for threads and the socket.
        folder: the data folder.
        name: of the user.
        wall_s: the Unix time.
        download: the fields of the action `history_add`.
    """
    until = reactor.seconds() + ADD_TIMEOUT
    try:
        while True:
            client = await running_peer(reactor, folder)
            if client is None:
                entry = _download(download, wall_s)
                try:
                    await run_in_thread(reactor, _write, folder, name, entry)
                    return
                except AlreadyRunning:  # a peer that is starting or ending, or another command
                    if reactor.seconds() >= until:
                        raise
                await deferLater(reactor, LOOK_EVERY)
                continue
            try:
                asking = Deferred.fromCoroutine(client.ask("history_add", **download))
                await asking.addTimeout(ADD_TIMEOUT, reactor)
                return
            finally:
                client.close()
    except (P2pshareError, TimeoutError) as error:
        _log.debug("download not in the history: why={why!r}", why=str(error))


def _write(folder: Path, name: str, entry: HistoryEntry) -> None:
    with closing(DataFolder.open(folder, name)), closing(Ledger(folder / FILE_NAME)) as ledger:
        ledger.open()
        History(ledger).add(entry)
