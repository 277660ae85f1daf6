"""The sharer: it answers on the welcome port, and serves a text over TCP and a picture over UDP to whoever asks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.core.sending import (
    PictureSender,
    SenderEvent,
    TransferConfirmed,
    TransferUnconfirmed,
)
from p2pshare.core.welcome import TransferRequested, Welcome
from p2pshare.errors import P2pshareError, PortUnusable
from p2pshare.net.driver import CoreDriver
from p2pshare.net.sockets import IPeerReactor, listen_udp, listen_welcome
from p2pshare.net.text import TextSender
from p2pshare.net.threads import run_in_thread
from p2pshare.peer.pictures import SharedPictures
from p2pshare.storage.share import OpenedFile, Share
from p2pshare.wire.classic import ORIGINAL_ROW_PIXELS_MAX, ROW_PIXELS_MAX, Kind

CONNECT_FOR = 1.0  # seconds in which a requester of a text has to begin to listen
CONNECT_AGAIN = 0.05  # seconds between tries


@dataclass(frozen=True, slots=True)
class Served:
    """A transfer to somebody is over."""

    kind: Kind
    host: str
    """The requester's IP address."""
    outcome: str
    """What became of it, in words."""
    succeeded: bool
    seconds: float


class Sharer:
    """Serves what is in a share, within the caps of the welcome port."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        share: Share,
        rng: random.Random,
        *,
        welcome: Welcome | None = None,
        on_served: Callable[[Served], object] = lambda _: None,
    ) -> None:
        """Serve `share`; `on_served` hears of each transfer that is over."""
        self._reactor = reactor
        self._share = share
        self._rng = rng
        self._welcome = welcome or Welcome()
        self._on_served = on_served
        self._pictures = SharedPictures(reactor)
        self._driver = CoreDriver(self._welcome, reactor, self._requested)
        self._port: IListeningPort | None = None
        self._interface = ""
        self._transfers: set[Deferred[None]] = set()

    def listen(self, port: int, interface: str) -> int:
        """Open the welcome port, a random one for 0, and return its number.

        Raises:
            PortUnusable: it is in use, or not ours to use.
        """
        try:
            self._port = listen_welcome(self._reactor, port, self._driver, interface, self._rng)
        except CannotListenError as error:
            raise PortUnusable(port=port, reason=error.socketError) from error
        self._interface = interface
        return int(self._port.getHost().port)  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """Close the welcome port and end all transfers."""
        if self._port is not None:
            port, self._port = self._port, None
            await _closed(port)
        for transfer in list(self._transfers):
            transfer.cancel()

    def _requested(self, request: TransferRequested) -> None:
        serving: Deferred[None] = Deferred.fromCoroutine(self._serve(request))
        self._transfers.add(serving)
        serving.addErrback(self._defect, request)
        serving.addBoth(lambda _: self._transfers.discard(serving))

    async def _serve(self, request: TransferRequested) -> None:
        started = self._reactor.seconds()
        succeeded = False
        try:
            succeeded, outcome = await self._send(request)
        except CancelledError:
            outcome = "ended, since this peer stops"
        except P2pshareError as error:
            outcome = str(error)
        finally:
            now = self._reactor.seconds()
            self._welcome.transfer_ended(request, now, succeeded=succeeded)
        host, seconds = request.requester[0], now - started
        self._log.info(
            "{kind} to {host}: {outcome} ({seconds:.2f} s)",
            kind=request.kind.value,
            host=host,
            outcome=outcome,
            seconds=seconds,
        )
        self._on_served(Served(request.kind, host, outcome, succeeded, seconds))

    async def _send(self, request: TransferRequested) -> tuple[bool, str]:
        """Serve one request; whether all is well, and what became of it."""
        find = self._share.open_text if request.kind is Kind.TEXT else self._share.open_picture
        opened = await run_in_thread(self._reactor, find, self._refused)
        if opened is None:
            return False, "there is none to share"
        with opened:
            if request.kind is Kind.TEXT:
                return await self._send_text(request, opened)
            return await self._send_picture(request, opened)

    async def _send_picture(
        self, request: TransferRequested, opened: OpenedFile
    ) -> tuple[bool, str]:
        width_max = ROW_PIXELS_MAX if request.reports else ORIGINAL_ROW_PIXELS_MAX
        async with self._pictures.pixels(opened, width_max) as pixels:
            sender = PictureSender(
                pixels, request.requester, self._reactor.seconds(), reports=request.reports
            )
            ended: Deferred[SenderEvent] = Deferred()
            driver = CoreDriver(sender, self._reactor, ended.callback, sender.requester_gone)
            port = listen_udp(self._reactor, 0, driver, self._interface)
            try:
                driver.connect(request.requester)
                event = await ended
            finally:
                port.stopListening()
        height, width, _ = pixels.shape
        what = f"{width} x {height} pixels in {sender.rows_sent} rows"
        if isinstance(event, TransferConfirmed):
            return True, f"{what}, confirmed"
        if isinstance(event, TransferUnconfirmed):
            return False, f"{what}, all that was wanted, but never confirmed"
        return False, f"{what}, then the requester was gone"

    async def _send_text(self, request: TransferRequested, opened: OpenedFile) -> tuple[bool, str]:
        sender = TextSender(self._reactor, opened.file)
        give_up_at = self._reactor.seconds() + CONNECT_FOR
        endpoint = TCP4ClientEndpoint(self._reactor, *request.requester, timeout=CONNECT_FOR)
        factory = Factory.forProtocol(lambda: sender)
        factory.noisy = False
        while True:
            try:
                await endpoint.connect(factory)
                break
            except ConnectError:
                if self._reactor.seconds() >= give_up_at:
                    return False, "the requester does not listen"
            await deferLater(self._reactor, CONNECT_AGAIN, lambda: None)
        sent = await sender.done
        return sent >= opened.size, f"{sent} of {opened.size} bytes"

    def _refused(self, path: object, reason: str) -> None:
        self._log.warn("{path} is not shared: {reason}", path=str(path), reason=reason)

    def _defect(self, failure: Failure, request: TransferRequested) -> None:
        self._log.failure("a transfer to {host} failed", failure, host=request.requester[0])


async def _closed(port: IListeningPort) -> None:
    await port.stopListening()  # type: ignore[misc]
