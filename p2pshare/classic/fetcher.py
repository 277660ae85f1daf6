"""The requester: it gets one text or one picture from one peer, into a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from twisted.logger import Logger

from p2pshare.classic.core.interface import Address
from p2pshare.classic.core.requester import (
    Failure,
    PictureAnnounced,
    PictureCompleted,
    RequestFailed,
)
from p2pshare.classic.core.row_receiver import RowReceiver
from p2pshare.classic.datagrams import Kind
from p2pshare.classic.net.requests import request_picture, request_text
from p2pshare.classic.net.text import TextReceiver
from p2pshare.errors import (
    NothingShared,
    P2pshareError,
    PeerFellSilent,
    PeerUnreachable,
    PictureRefused,
)
from p2pshare.net.sockets import IPeerReactor, local_address_towards
from p2pshare.net.threads import run_in_thread
from p2pshare.pictures.encoding import format_of, write_picture
from p2pshare.pictures.pixels import Pixels
from p2pshare.storage.incoming.sequential_file import SequentialFile
from p2pshare.wire.addresses import PeerAddress

T = TypeVar("T")

GAPS_SHOWN = 3  # of what is missing when a sharer falls silent
ATTEMPTS = 3  # requests before a sharer that answers, but sends nothing, counts as having nothing


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be fetched, and where to."""

    peer: str
    address: PeerAddress
    kind: Kind
    folder: Path
    name: str
    """The name of the file; of a picture one whose suffix stands for a format that is written."""
    overwrite: bool = False
    """Replace a file of that name, rather than number the new one."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch has come."""

    done: int
    total: int | None
    """None where it is not known before the end."""
    unit: str
    """"rows" or "bytes"."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that was fetched, under its final name."""

    path: Path
    order: Order
    size: int
    """Bytes of the text, or of the picture's rows."""
    seconds: float
    """From the first word to the file."""
    pixels: tuple[int, int] | None = None
    """Width and height of a picture."""
    verified: bool = False
    """Whether every part of it was checked; of a text nothing is."""


class Fetch:
    """One fetch; `run` it once. `progress` and `rows` may be looked at meanwhile, at any time."""

    _log = Logger()

    def __init__(self, reactor: IPeerReactor, order: Order) -> None:
        self._reactor = reactor
        self._order = order
        self._text: TextReceiver | None = None
        self.rows: RowReceiver | None = None
        """The picture as far as it has arrived; None for a text, and before the first answer."""

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        if self._order.kind is Kind.TEXT:
            return Progress(self._text.moved if self._text else 0, None, "bytes")
        if self.rows is None:
            return Progress(0, None, "rows")
        return Progress(self.rows.rows_received, self.rows.size.height, "rows")

    async def run(self) -> Fetched:
        """Fetch it, and return once the file is there under its name.

        Raises:
            PeerUnreachable: nobody answers.
            NothingShared: somebody answers, but has none.
            PictureRefused: the picture is larger than is taken.
            PeerFellSilent, TextCutShort: it did not arrive whole.
            CannotSave: the file could not be written.
            PortUnusable: there is no port to be had.
        """
        order, reactor = self._order, self._reactor
        started = reactor.seconds()
        part = await run_in_thread(
            reactor,
            SequentialFile.create,
            order.folder,
            order.name,
            abandoned=SequentialFile.discard,
        )
        try:
            if order.kind is Kind.TEXT:
                size = await self._until_it_comes(lambda: self._request_text(part))
                if not size:  # so does a sharer look that stops before the first byte
                    size = await self._until_it_comes(lambda: self._request_text(part))
                path = await run_in_thread(reactor, lambda: part.commit(overwrite=order.overwrite))
                return Fetched(path, order, size, reactor.seconds() - started)
            completed = await self._until_it_comes(self._request_picture)
            rows = completed.rows
            self._log.info(
                "picture from {peer}: {rows} rows, {repeated} of them came again, sharer is {sharer}",
                peer=order.peer,
                rows=rows.rows_received,
                repeated=rows.repeated,
                sharer="an original" if completed.from_original else "one of ours",
            )
            path = await run_in_thread(reactor, _save_picture, part, order, rows.pixels)
            seconds = reactor.seconds() - started
            pixels = rows.size.width, rows.size.height
            return Fetched(path, order, rows.pixels.size, seconds, pixels, verified=True)
        finally:
            await run_in_thread(reactor, part.discard)

    async def _until_it_comes(self, request: Callable[[], Awaitable[T | RequestFailed]]) -> T:
        """Request it some times: its SIZE, or its connection, may have got lost."""
        failed: RequestFailed | None = None
        for _ in range(ATTEMPTS):
            outcome = await request()
            self._log.debug(
                "classic request: peer={peer} address={address} kind={kind} outcome={outcome}",
                peer=self._order.peer,
                address=self._order.address,
                kind=self._order.kind.value,
                outcome=outcome.failure.name if isinstance(outcome, RequestFailed) else "done",
            )
            if not isinstance(outcome, RequestFailed):
                return outcome
            if failed is not None and outcome.failure is Failure.NO_ANSWER:
                break  # it answered before: that it is silent now says less than what it did then
            failed = outcome
            if failed.failure in (Failure.NO_ANSWER, Failure.SIZE_REFUSED):
                break
        assert failed is not None
        raise self._error_of(failed)

    def _request_picture(self) -> Awaitable[PictureCompleted | RequestFailed]:
        def announced(event: PictureAnnounced) -> None:
            self.rows = event.rows

        return request_picture(self._reactor, self._peer, self._interface(), announced)

    def _request_text(self, part: SequentialFile) -> Awaitable[int | RequestFailed]:
        def began(receiver: TextReceiver) -> None:
            self._text = receiver

        return request_text(self._reactor, self._peer, self._interface(), part, began)

    @property
    def _peer(self) -> Address:
        return self._order.address.ip, self._order.address.port

    def _interface(self) -> str:
        """Where to listen: at that address of this machine which leads to the peer."""
        try:
            return local_address_towards(*self._peer)
        except OSError as error:
            raise PeerUnreachable(name=self._order.peer, address=self._order.address) from error

    def _error_of(self, failed: RequestFailed) -> P2pshareError:
        order, size = self._order, failed.size
        if failed.failure is Failure.NO_ANSWER:
            return PeerUnreachable(name=order.peer, address=order.address)
        if failed.failure is Failure.NOTHING_CAME or size is None:
            return NothingShared(name=order.peer, what=order.kind.value)
        if failed.failure is Failure.SIZE_REFUSED:
            return PictureRefused(
                name=order.peer, width=size.width, height=size.height, fault=size.fault
            )
        return PeerFellSilent(
            name=order.peer,
            done=failed.rows_received,
            total=size.height,
            missing=_shown(failed.missing),
        )


def _shown(gaps: tuple[range, ...]) -> str:
    """Rows in words, from 1 on: the first few gaps, and how many more there are."""
    words = [f"{gap.start + 1}" if len(gap) == 1 else f"{gap.start + 1}-{gap.stop}" for gap in gaps]
    if len(words) > GAPS_SHOWN:
        words[GAPS_SHOWN:] = [f"{len(words) - GAPS_SHOWN} more gaps"]
    return ", ".join(words)


def _save_picture(part: SequentialFile, order: Order, pixels: Pixels) -> Path:
    with part.writing() as file:
        write_picture(pixels, file, format_of(order.name))
    return part.commit(overwrite=order.overwrite)
