"""One request to a sharer, on sockets of its own: a picture over UDP, or a text over TCP."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import ServerFactory

from p2pshare.classic.core.requester import (
    PictureAnnounced,
    PictureCompleted,
    PictureRequest,
    RequestClosed,
    RequestEvent,
    RequestFailed,
    TextRequest,
)
from p2pshare.classic.net.datagram_driver import CoreDriver
from p2pshare.classic.net.text import TextReceiver, WritableFile
from p2pshare.core.datagram_core import Address
from p2pshare.errors import PortUnusable
from p2pshare.net.sockets import PORT_TRIES, IPeerReactor, listen_tcp, listen_udp, port_of

CALLERS_MAX = 4  # connections at once of which one may be the sharer's


async def request_picture(
    reactor: IPeerReactor,
    welcome: Address,
    interface: str,
    on_announced: Callable[[PictureAnnounced], object],
) -> PictureCompleted | RequestFailed:
    """Ask for a picture and receive it; the socket lingers on for a while after the last row.

    Raises:
        PortUnusable: there is no port to be had.
    """
    outcome: Deferred[PictureCompleted | RequestFailed] = Deferred()

    def happened(event: RequestEvent) -> None:
        if isinstance(event, PictureAnnounced):
            on_announced(event)
        elif isinstance(event, RequestClosed):
            port.stopListening()
        else:
            outcome.callback(event)

    request = PictureRequest(welcome, reactor.seconds())
    port = listen_udp(reactor, 0, CoreDriver(request, reactor, happened), interface)
    try:
        return await outcome
    except BaseException:
        port.stopListening()
        raise


async def request_text(
    reactor: IPeerReactor,
    welcome: Address,
    interface: str,
    file: WritableFile,
    on_began: Callable[[TextReceiver], object],
) -> int | RequestFailed:
    """Ask for a text and write it to `file`: how many bytes came, or why none did.

    Raises:
        PortUnusable: there is no port to be had.
        TextCutShort: it did not come whole.
        CannotSave: the file did not take it.
    """
    began: Deferred[TextReceiver | RequestFailed] = Deferred()
    request = TextRequest(welcome, reactor.seconds())

    def text_began(receiver: TextReceiver) -> None:
        """The first caller that says anything has the text; silence is a text only if one was asked for."""
        if not began.called and (receiver.moved or request.acknowledged):
            request.began()
            on_began(receiver)
            began.callback(receiver)

    callers = _Callers(lambda: TextReceiver(reactor, file, text_began))
    tcp, udp = await _listen_twice(
        reactor, interface, callers, CoreDriver(request, reactor, began.callback)
    )
    chosen: TextReceiver | RequestFailed | None = None
    try:
        chosen = await began
        callers.hang_up(except_for=chosen)
        return chosen if isinstance(chosen, RequestFailed) else await chosen.done
    finally:
        callers.hang_up(except_for=None)
        tcp.stopListening()
        udp.stopListening()


async def _listen_twice(
    reactor: IPeerReactor, interface: str, factory: ServerFactory, driver: CoreDriver
) -> tuple[IListeningPort, IListeningPort]:
    """A TCP and a UDP port of the same number; the TCP port first, for the word starts it all."""
    for tries_left in reversed(range(PORT_TRIES)):
        tcp = await listen_tcp(reactor, 0, factory, interface)
        try:
            return tcp, listen_udp(reactor, port_of(tcp), driver, interface)
        except BaseException as error:
            tcp.stopListening()
            if not tries_left or not isinstance(error, PortUnusable):
                raise
    raise AssertionError("there is at least one try")


class _Callers(ServerFactory):
    """Those who connect, of whom one may be the sharer."""

    noisy = False

    def __init__(self, answer: Callable[[], TextReceiver]) -> None:
        self._answer = answer
        self._receivers: list[TextReceiver] = []

    def buildProtocol(self, addr: IAddress | None) -> TextReceiver | None:
        """The protocol for one connection, or None to close it."""
        self._receivers = [each for each in self._receivers if not each.done.called]
        if len(self._receivers) >= CALLERS_MAX:
            return None
        receiver = self._answer()
        self._receivers.append(receiver)
        return receiver

    def hang_up(self, except_for: object) -> None:
        """End all connections but one; nobody else hears of how they ended."""
        for receiver in self._receivers:
            if receiver is not except_for:
                receiver.done.addErrback(lambda _: None)
                receiver.done.cancel()
