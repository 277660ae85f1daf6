"""The requester: it fetches one text or one picture from one peer into a file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from twisted.logger import Logger

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
from p2pshare.core.datagram_core import Address
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

GAPS_SHOWN = 3  # ranges of missing rows in the error about a sharer that fell silent
ATTEMPTS = 3  # requests before a sharer that answers, but sends nothing, counts as having nothing


@dataclass(frozen=True, slots=True)
class Order:
    """Which file to fetch, and where to save it."""

    peer: str
    address: PeerAddress
    kind: Kind
    folder: Path
    name: str
    """The name of the file; the suffix of a picture's name must be a format that is written."""
    overwrite: bool = False
    """Replace a file of that name instead of numbering the new one."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetched file, under its final name."""

    path: Path
    size: int
    """Bytes of the text, or of the rows of the picture."""
    seconds: float
    """From the first word to the file."""
    pixels: tuple[int, int] | None = None
    """Width and height of a picture."""

    @property
    def verified(self) -> bool:
        """Whether every part had a checksum; a text has none."""
        return self.pixels is not None


class ClassicDownload:
    """One file on its way; `run` it once. The other attributes may be read at any time."""

    _log = Logger()

    def __init__(self, reactor: IPeerReactor, order: Order) -> None:
        self._reactor = reactor
        self._order = order
        self._text: TextReceiver | None = None
        self.rows: RowReceiver | None = None
        """The rows of the picture so far; None for a text, and before the first answer."""

    @property
    def bytes_done(self) -> int:
        """Bytes that have arrived."""
        if self.rows is not None:
            return self.rows.rows_received * self.rows.size.width * 3
        return 0 if self._text is None else self._text.moved

    @property
    def bytes_total(self) -> int | None:
        """Bytes of the file; None before the first answer, and always for a text."""
        return None if self.rows is None else self.rows.pixels.size

    async def run(self) -> Fetched:
        """Fetch the file, and return when it exists under its name.

        Raises:
            PeerUnreachable: the peer does not answer.
            NothingShared: the peer answers, but sends nothing.
            PictureRefused: the picture is larger than this program accepts.
            PeerFellSilent, TextCutShort: the file is incomplete.
            CannotSave: the file cannot be written.
            PortUnusable: there is no free port.
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
                if not size:  # a sharer that stops before the first byte looks the same
                    size = await self._until_it_comes(lambda: self._request_text(part))
                path = await run_in_thread(reactor, lambda: part.commit(overwrite=order.overwrite))
                return Fetched(path, size, reactor.seconds() - started)
            completed = await self._until_it_comes(self._request_picture)
            rows = completed.rows
            self._log.info(
                "classic picture received: peer={peer} rows={rows} repeated={repeated} original={original}",
                peer=order.peer,
                rows=rows.rows_received,
                repeated=rows.repeated,
                original=completed.from_original,
            )
            path = await run_in_thread(reactor, _save_picture, part, order, rows.pixels)
            pixels = rows.size.width, rows.size.height
            return Fetched(path, rows.pixels.size, reactor.seconds() - started, pixels)
        finally:
            await run_in_thread(reactor, part.discard)

    async def _until_it_comes(self, request: Callable[[], Awaitable[T | RequestFailed]]) -> T:
        """Send the request again if SIZE, or the connection, may have been lost."""
        failed: RequestFailed | None = None
        for _ in range(ATTEMPTS):
            outcome = await request()
            self._log.debug(
                "classic request ended: peer={peer} address={address} kind={kind} result={result}",
                peer=self._order.peer,
                address=self._order.address,
                kind=self._order.kind.value,
                result=outcome.failure.name if isinstance(outcome, RequestFailed) else "done",
            )
            if not isinstance(outcome, RequestFailed):
                return outcome
            if failed is not None and outcome.failure is Failure.NO_ANSWER:
                break  # it answered before, and that answer says more than its silence now
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

        return request_text(self._reactor, self._peer, self._interface(), part.write, began)

    @property
    def _peer(self) -> Address:
        return self._order.address.ip, self._order.address.port

    def _interface(self) -> str:
        """Return the address of this machine that leads to the peer; the request listens only there."""
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
            missing=_gaps_text(failed.missing),
        )


def _gaps_text(gaps: tuple[range, ...]) -> str:
    """Return the first few ranges of rows, numbered from 1, and how many more there are."""
    words = [f"{gap.start + 1}" if len(gap) == 1 else f"{gap.start + 1}-{gap.stop}" for gap in gaps]
    if len(words) > GAPS_SHOWN:
        words[GAPS_SHOWN:] = [f"{len(words) - GAPS_SHOWN} more gaps"]
    return ", ".join(words)


def _save_picture(part: SequentialFile, order: Order, pixels: Pixels) -> Path:
    with part.writing() as file:
        write_picture(pixels, file, format_of(order.name))
    return part.commit(overwrite=order.overwrite)
