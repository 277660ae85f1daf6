"""The requester: it gets one text or one picture from one peer, into a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import ServerFactory

from p2pshare.core.receiving import RowReceiver
from p2pshare.core.requesting import (
    Failure,
    PictureAnnounced,
    PictureCompleted,
    PictureRequest,
    RequestClosed,
    RequestEvent,
    RequestFailed,
    TextRequest,
)
from p2pshare.errors import (
    NothingShared,
    P2pshareError,
    PeerFellSilent,
    PeerUnreachable,
    PictureRefused,
    PortUnusable,
)
from p2pshare.net.driver import CoreDriver
from p2pshare.net.sockets import PORT_TRIES, IPeerReactor, listen_udp, local_address_towards
from p2pshare.net.text import TextReceiver
from p2pshare.net.threads import run_in_thread
from p2pshare.pictures.encoding import format_of, write_picture
from p2pshare.storage.part_file import PartFile
from p2pshare.wire.classic import PIXELS_MAX, Kind, Pixels
from p2pshare.wire.registration import PeerAddress

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
        """
        order = self._order
        started = self._reactor.seconds()
        part = await run_in_thread(self._reactor, PartFile.create, order.folder, order.name)
        try:
            if order.kind is Kind.TEXT:
                size = await self._fetch_text(part)
                path = await run_in_thread(self._reactor, _commit, part, order.overwrite)
                return Fetched(path, order, size, self._reactor.seconds() - started)
            rows = await self._fetch_picture()
            path = await run_in_thread(self._reactor, _save_picture, part, order, rows.pixels)
            seconds = self._reactor.seconds() - started
            pixels = rows.size.width, rows.size.height
            return Fetched(path, order, rows.pixels.size, seconds, pixels, verified=True)
        finally:
            await run_in_thread(self._reactor, part.discard)

    async def _fetch_picture(self) -> RowReceiver:
        error: P2pshareError | None = None
        for _ in range(ATTEMPTS):
            outcome = await self._request_picture()
            if isinstance(outcome, PictureCompleted):
                return outcome.rows
            if error is not None and outcome.failure is Failure.NO_ANSWER:
                break  # it answered before: that it is silent now says less than what it did then
            error = self._error_of(outcome)
            if outcome.failure in (Failure.NO_ANSWER, Failure.SIZE_REFUSED):
                break
        assert error is not None
        raise error

    async def _request_picture(self) -> PictureCompleted | RequestFailed:
        outcome: Deferred[PictureCompleted | RequestFailed] = Deferred()

        def happened(event: RequestEvent) -> None:
            if isinstance(event, PictureAnnounced):
                self.rows = event.rows
            elif isinstance(event, RequestClosed):
                port.stopListening()
            else:
                outcome.callback(event)

        request = PictureRequest(self._peer, self._reactor.seconds())
        driver = CoreDriver(request, self._reactor, happened)
        port = listen_udp(self._reactor, 0, driver, self._interface)
        try:
            return await outcome
        except BaseException:
            port.stopListening()
            raise

    async def _fetch_text(self, part: PartFile) -> int:
        for _ in range(ATTEMPTS - 1):
            outcome = await self._request_text(part)
            if isinstance(outcome, int):
                return outcome
            if outcome.failure is Failure.NO_ANSWER:
                raise self._error_of(outcome)
        outcome = await self._request_text(part)
        if isinstance(outcome, int):
            return outcome
        raise self._error_of(outcome)

    async def _request_text(self, part: PartFile) -> int | RequestFailed:
        """Ask once: the number of bytes that came, or why none did."""
        began: Deferred[TextReceiver | RequestFailed] = Deferred()

        def accept() -> TextReceiver | None:
            if began.called:
                return None
            request.connected()
            self._text = TextReceiver(self._reactor, part)
            began.callback(self._text)
            return self._text

        request = TextRequest(self._peer, self._reactor.seconds())
        driver = CoreDriver(request, self._reactor, began.callback)
        tcp, udp = self._listen_twice(_Callers(accept), driver)
        try:
            outcome = await began
        finally:
            tcp.stopListening()
            udp.stopListening()
        return outcome if isinstance(outcome, RequestFailed) else await outcome.done

    def _listen_twice(
        self, factory: ServerFactory, driver: CoreDriver
    ) -> tuple[IListeningPort, IListeningPort]:
        """A TCP and a UDP port of the same number; the TCP port first, for the word starts it all."""
        for _ in range(PORT_TRIES):
            tcp = self._reactor.listenTCP(0, factory, interface=self._interface)
            number = tcp.getHost().port  # type: ignore[attr-defined]
            try:
                return tcp, listen_udp(self._reactor, number, driver, self._interface)
            except CannotListenError as error:
                tcp.stopListening()
                reason = error.socketError
        raise PortUnusable(port=number, reason=reason)

    @property
    def _peer(self) -> tuple[str, int]:
        return self._order.address.ip, self._order.address.port

    @property
    def _interface(self) -> str:
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
                name=order.peer, width=size.width, height=size.height, limit=PIXELS_MAX
            )
        return PeerFellSilent(
            name=order.peer, done=failed.rows_received, total=size.height, unit="rows"
        )


class _Callers(ServerFactory):
    """Makes a protocol for those who connect, until there are none."""

    noisy = False

    def __init__(self, accept: Callable[[], TextReceiver | None]) -> None:
        self._accept = accept

    def buildProtocol(self, addr: IAddress | None) -> TextReceiver | None:
        """The protocol for one connection, or None to close it."""
        return self._accept()


def _commit(part: PartFile, overwrite: bool) -> Path:
    return part.commit(overwrite=overwrite)


def _save_picture(part: PartFile, order: Order, pixels: Pixels) -> Path:
    with part.writing() as file:
        write_picture(pixels, file, format_of(order.name))
    return part.commit(overwrite=order.overwrite)
