"""The sharer: it answers words on the welcome port, and serves a text over TCP and a picture over UDP to anybody."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.classic.core.row_sender import PictureSender, TransferEnd
from p2pshare.classic.core.welcome import TransferRequested, Welcome, WelcomeEvent
from p2pshare.classic.datagrams import ORIGINAL_ROW_PIXELS_MAX, ROW_PIXELS_MAX, Kind
from p2pshare.classic.decoded_pictures import DecodedPictures
from p2pshare.classic.net.datagram_driver import CoreDriver
from p2pshare.classic.net.text import TextSender
from p2pshare.classic.shared_files import ClassicShare, OpenedFile
from p2pshare.core.back_off import BackOff
from p2pshare.core.datagram_core import Address
from p2pshare.errors import P2pshareError
from p2pshare.net.sockets import IPeerReactor, listen_udp
from p2pshare.net.threads import run_in_thread
from p2pshare.storage.os_errors import plain_reason

CONNECT_FOR = 1.0  # seconds in which a requester of a text must begin to listen
CONNECT_AGAIN = 0.05  # seconds between the first two attempts

_ENDS = {
    TransferEnd.COMPLETE: "confirmed",
    TransferEnd.UNCONFIRMED: "everything sent, never confirmed",
    TransferEnd.FAILED: "the requester stopped answering",
}


@dataclass(frozen=True, slots=True)
class Served:
    """A transfer to a requester that is over."""

    kind: Kind
    host: str
    """The requester's IP address."""
    end: TransferEnd
    details: str
    """How much was sent, or why not, in words."""
    seconds: float

    def __str__(self) -> str:
        """A sentence for the owner of the files."""
        verb = "tried to fetch" if self.end is TransferEnd.FAILED else "fetched"
        return f"{self.host} {verb} your {self.kind.value}: {self.details} ({self.seconds:.1f} s)"


@dataclass(eq=False, slots=True)
class _Transfer:
    request: TransferRequested
    serving: Deferred[None] | None = None
    answered: Callable[[], bool] = lambda: False
    """Whether the requester was ever heard from."""
    displaced: bool = False
    path: Path | None = None
    """The file, once it is open."""
    withdrawn: bool = False


class ClassicServer:
    """The text and the picture of a peer, served within the limits of the welcome port."""

    _log = Logger()

    def __init__(
        self,
        reactor: IPeerReactor,
        share: ClassicShare,
        *,
        on_served: Callable[[Served], object] = lambda _: None,
    ) -> None:
        """Serve `share`; `on_served` is called after each transfer."""
        self._reactor = reactor
        self._share = share
        self._welcome = Welcome(self._has_answered)
        self._on_served = on_served
        self._pictures = DecodedPictures(reactor)
        self._driver = CoreDriver(self._welcome, reactor, self._happened)
        self._transfers: dict[int, _Transfer] = {}  # by the identity of the request

    @property
    def protocol(self) -> DatagramProtocol:
        """What the words of requesters, which arrive on the welcome port, are given to."""
        return self._driver

    def serve(self, share: ClassicShare) -> None:
        """Serve another `share`; transfers of what is not in it are stopped."""
        self._share = share
        for transfer in list(self._transfers.values()):
            if transfer.path is not None and not share.has(transfer.path):
                transfer.withdrawn = True
                if transfer.serving is not None:
                    transfer.serving.cancel()

    async def stop(self) -> None:
        """End all transfers."""
        ending = [each.serving for each in self._transfers.values() if each.serving is not None]
        for serving in ending:
            serving.cancel()
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
        end = TransferEnd.FAILED
        try:
            end, details = await self._send(transfer)
        except (CancelledError, ConnectingCancelledError):
            details = "no answer, and other requesters wait"
            if transfer.withdrawn:
                details = "it is no longer shared"
            elif not transfer.displaced:
                details = "stopped with this peer"
        except P2pshareError as error:
            details = str(error)
        except OSError as error:
            details = plain_reason(error)
        finally:
            now = self._reactor.seconds()
            succeeded = end is TransferEnd.COMPLETE
            self._welcome.transfer_ended(request, now, succeeded=succeeded)
        served = Served(request.kind, request.requester[0], end, details, now - started)
        self._log.info(
            "classic upload ended: host={served.host} file={served.kind.value} result={result}"
            " s={served.seconds:.2f} details={served.details!r}",
            served=served,
            result=end.name.lower(),
        )
        self._on_served(served)

    async def _send(self, transfer: _Transfer) -> tuple[TransferEnd, str]:
        """Serve one request; return how that ended, and the same in words."""
        kind = transfer.request.kind
        opened = await run_in_thread(
            self._reactor, self._share.open, kind, self._refused, abandoned=_close_if_any
        )
        if opened is None:
            return TransferEnd.FAILED, "no such file is shared"
        transfer.path = opened.path
        if not self._share.has(opened.path):  # the share has ended meanwhile
            opened.file.close()
            return TransferEnd.FAILED, "no such file is shared"
        if kind is Kind.PICTURE:
            return await self._send_picture(transfer, opened)
        with opened.file:
            return await self._send_text(transfer, opened)

    async def _send_picture(
        self, transfer: _Transfer, opened: OpenedFile
    ) -> tuple[TransferEnd, str]:
        request = transfer.request
        width_max = ROW_PIXELS_MAX if request.reports else ORIGINAL_ROW_PIXELS_MAX
        async with self._pictures.pixels(opened, width_max) as pixels:
            sender = PictureSender(
                pixels, request.requester, self._reactor.seconds(), reports=request.reports
            )
            transfer.answered = lambda: sender.heard
            ended: Deferred[TransferEnd] = Deferred()

            def happened(event: TransferEnd) -> None:
                if not ended.called:  # it may have been cancelled
                    ended.callback(event)

            driver = CoreDriver(sender, self._reactor, happened, sender.requester_gone)
            port = listen_udp(self._reactor, 0, driver, self._driver.interface)
            try:
                driver.connect(request.requester)
                end = await ended
            finally:
                port.stopListening()
        height, width, _ = pixels.shape
        details = f"{width} x {height} pixels in {sender.rows_sent} rows"
        if sender.dropped or driver.unsent:
            details += f", {sender.dropped} datagrams dropped, {driver.unsent} not sent"
        return end, f"{details}, {_ENDS[end]}"

    async def _send_text(self, transfer: _Transfer, opened: OpenedFile) -> tuple[TransferEnd, str]:
        sender = TextSender(self._reactor, opened.file.read)
        if not await self._connect(sender, transfer.request.requester):
            return TransferEnd.FAILED, "the requester does not listen"
        transfer.answered = lambda: True
        sent = await sender.done
        end = TransferEnd.COMPLETE if sent >= opened.size else TransferEnd.FAILED
        return end, f"{sent} of {opened.size} bytes"

    async def _connect(self, sender: TextSender, requester: Address) -> bool:
        """Connect, and retry for `CONNECT_FOR`, as the requester may begin to listen late; return whether it worked."""
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
        self._log.warn("file not shared: path={path} reason={reason!r}", path=path, reason=reason)

    def _defect(self, failure: Failure, request: TransferRequested) -> None:
        self._log.failure("classic upload failed: host={host}", failure, host=request.requester[0])


def _close_if_any(opened: OpenedFile | None) -> None:
    if opened is not None:
        opened.file.close()
