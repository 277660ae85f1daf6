"""The sharer: it answers on the welcome port, and serves a text over TCP and a picture over UDP to whoever asks."""

from __future__ import annotations

import contextlib
import enum
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.classic.core.interface import Address
from p2pshare.classic.core.row_sender import (
    PictureSender,
    SenderEvent,
    TransferConfirmed,
    TransferFailed,
    TransferUnconfirmed,
)
from p2pshare.classic.core.welcome import TransferRequested, Welcome, WelcomeEvent
from p2pshare.classic.datagrams import ORIGINAL_ROW_PIXELS_MAX, ROW_PIXELS_MAX, Kind
from p2pshare.classic.net.datagram_driver import CoreDriver
from p2pshare.classic.net.text import TextSender
from p2pshare.classic.pictures import SharedPictures
from p2pshare.classic.shared_files import OpenedFile, Share
from p2pshare.core.back_off import BackOff
from p2pshare.errors import P2pshareError
from p2pshare.net.sockets import IPeerReactor, listen_udp, listen_welcome, port_of
from p2pshare.net.threads import run_in_thread
from p2pshare.storage.reasons import plain_reason

CONNECT_FOR = 1.0  # seconds in which a requester of a text has to begin to listen
CONNECT_AGAIN = 0.05  # seconds between the first two tries; twice as long each time


class Outcome(enum.Enum):
    """How a transfer to somebody ended."""

    SENT = enum.auto()
    """All of it was sent; a picture was confirmed, too."""
    UNCONFIRMED = enum.auto()
    """All of a picture that was wanted was sent, but the requester never said that it has it."""
    FAILED = enum.auto()


@dataclass(frozen=True, slots=True)
class Served:
    """A transfer to somebody is over."""

    kind: Kind
    host: str
    """The requester's IP address."""
    outcome: Outcome
    story: str
    """What became of it, in words."""
    seconds: float


@dataclass(eq=False, slots=True)
class _Transfer:
    request: TransferRequested
    serving: Deferred[None] | None = None
    answered: Callable[[], bool] = lambda: False
    """Whether the requester was ever heard from."""
    displaced: bool = False


class Sharer:
    """Serves what is in a share, within the caps of the welcome port."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        share: Share,
        rng: random.Random,
        *,
        on_served: Callable[[Served], object] = lambda _: None,
    ) -> None:
        """Serve `share`; `on_served` hears of each transfer that is over."""
        self._reactor = reactor
        self._share = share
        self._rng = rng
        self._welcome = Welcome(self._has_answered)
        self._on_served = on_served
        self._pictures = SharedPictures(reactor)
        self._driver = CoreDriver(self._welcome, reactor, self._happened)
        self._port: IListeningPort | None = None
        self._interface = ""
        self._transfers: dict[int, _Transfer] = {}  # by the identity of the request

    def listen(self, port: int, interface: str) -> int:
        """Open the welcome port, a random one for 0, and return its number.

        Raises:
            PortUnusable: it is in use, or not ours to use.
        """
        self._port = listen_welcome(
            port,
            self._rng,
            lambda number: listen_udp(self._reactor, number, self._driver, interface),
        )
        self._interface = interface
        return port_of(self._port)

    async def stop(self) -> None:
        """Close the welcome port and end all transfers."""
        ending = [each.serving for each in self._transfers.values() if each.serving is not None]
        for serving in ending:
            serving.cancel()
        if self._port is not None:
            ending.append(maybeDeferred(cast(Any, self._port.stopListening)))
            self._port = None
        await gatherResults(ending)

    def _happened(self, event: WelcomeEvent) -> None:
        if isinstance(event, TransferRequested):
            transfer = self._transfers[id(event)] = _Transfer(event)
            transfer.serving = Deferred.fromCoroutine(self._serve(transfer))
            transfer.serving.addErrback(self._defect, event)
            transfer.serving.addBoth(lambda _: self._transfers.pop(id(event)))
        elif (displaced := self._transfers.get(id(event.request))) is not None:
            displaced.displaced = True
            if displaced.serving is not None:
                displaced.serving.cancel()

    def _has_answered(self, request: TransferRequested) -> bool:
        transfer = self._transfers.get(id(request))
        return transfer is not None and transfer.answered()

    async def _serve(self, transfer: _Transfer) -> None:
        request = transfer.request
        started = self._reactor.seconds()
        outcome = Outcome.FAILED
        try:
            outcome, story = await self._send(transfer)
        except (CancelledError, ConnectingCancelledError):
            story = (
                "no answer, and others wait"
                if transfer.displaced
                else "ended, since this peer stops"
            )
        except P2pshareError as error:
            story = str(error)
        except OSError as error:
            story = plain_reason(error)
        finally:
            now = self._reactor.seconds()
            self._welcome.transfer_ended(request, now, succeeded=outcome is Outcome.SENT)
        served = Served(request.kind, request.requester[0], outcome, story, now - started)
        self._log.info(
            "{served.kind.value} to {served.host}: {served.story} ({served.seconds:.2f} s)",
            served=served,
        )
        self._on_served(served)

    async def _send(self, transfer: _Transfer) -> tuple[Outcome, str]:
        """Serve one request; how it ended, and the same in words."""
        request = transfer.request
        find = self._share.open_text if request.kind is Kind.TEXT else self._share.open_picture
        opened = await run_in_thread(self._reactor, find, self._refused, abandoned=_close_if_any)
        if opened is None:
            return Outcome.FAILED, "there is none to share"
        if request.kind is Kind.PICTURE:
            return await self._send_picture(transfer, opened)
        with opened:
            return await self._send_text(transfer, opened)

    async def _send_picture(self, transfer: _Transfer, opened: OpenedFile) -> tuple[Outcome, str]:
        request = transfer.request
        width_max = ROW_PIXELS_MAX if request.reports else ORIGINAL_ROW_PIXELS_MAX
        async with self._pictures.pixels(opened, width_max) as pixels:
            sender = PictureSender(
                pixels, request.requester, self._reactor.seconds(), reports=request.reports
            )
            transfer.answered = lambda: sender.heard
            ended: Deferred[SenderEvent] = Deferred()

            def happened(event: SenderEvent) -> None:
                if not ended.called:  # it may have been cancelled
                    ended.callback(event)

            driver = CoreDriver(sender, self._reactor, happened, sender.requester_gone)
            port = listen_udp(self._reactor, 0, driver, self._interface)
            try:
                driver.connect(request.requester)
                event = await ended
            finally:
                port.stopListening()
        height, width, _ = pixels.shape
        story = f"{width} x {height} pixels in {sender.rows_sent} rows"
        if sender.dropped or driver.unsent:
            story += f", {sender.dropped} datagrams dropped, {driver.unsent} not sent"
        match event:
            case TransferConfirmed():
                return Outcome.SENT, f"{story}, confirmed"
            case TransferUnconfirmed():
                return Outcome.UNCONFIRMED, f"{story}, all that was wanted, but never confirmed"
            case TransferFailed():
                return Outcome.FAILED, f"{story}, then the requester was gone"

    async def _send_text(self, transfer: _Transfer, opened: OpenedFile) -> tuple[Outcome, str]:
        sender = TextSender(self._reactor, opened.file)
        if not await self._connect(sender, transfer.request.requester):
            return Outcome.FAILED, "the requester does not listen"
        transfer.answered = lambda: True
        sent = await sender.done
        whole = sent >= opened.size
        return Outcome.SENT if whole else Outcome.FAILED, f"{sent} of {opened.size} bytes"

    async def _connect(self, sender: TextSender, requester: Address) -> bool:
        """Connect, again and again for a while, since the requester may begin to listen late."""
        factory = Factory.forProtocol(lambda: sender)
        factory.noisy = False
        give_up_at = self._reactor.seconds() + CONNECT_FOR
        back_off = BackOff(CONNECT_AGAIN)
        while (time_left := give_up_at - self._reactor.seconds()) > 0:
            endpoint = TCP4ClientEndpoint(self._reactor, *requester, timeout=time_left)
            with contextlib.suppress(ConnectError):
                await endpoint.connect(factory)
                return True
            await deferLater(self._reactor, back_off.next_delay(), lambda: None)
        return False

    def _refused(self, path: object, reason: str) -> None:
        self._log.warn("{path} is not shared: {reason}", path=str(path), reason=reason)

    def _defect(self, failure: Failure, request: TransferRequested) -> None:
        self._log.failure("a transfer to {host} failed", failure, host=request.requester[0])


class Silence(DatagramProtocol):
    """What stands on the welcome port of a peer that does not speak the classic protocol: it answers nothing."""

    noisy = False

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """Drop it."""


def _close_if_any(opened: OpenedFile | None) -> None:
    if opened is not None:
        opened.close()
