"""One request to a sharer, on its own sockets: a picture over UDP, or a text over TCP."""

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
from p2pshare.classic.net.text import TextReceiver
from p2pshare.core.datagram_core import Address
from p2pshare.errors import PortUnusable
from p2pshare.net.sockets import PORT_TRIES, IPeerReactor, listen_tcp, listen_udp, port_of

CALLERS_MAX = 4  # connections at once; one of them may be the sharer's


async def request_picture(
    reactor: IPeerReactor,
    welcome: Address,
    interface: str,
    on_announced: Callable[[PictureAnnounced], object],
) -> PictureCompleted | RequestFailed:
    """Request a picture and receive it; the socket stays open for a while after the last row.

    Raises:
        PortUnusable: there is no free port.
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
    write: Callable[[bytes], object],
    on_began: Callable[[TextReceiver], object],
) -> int | RequestFailed:
    """Request a text and pass it to `write`; return the number of bytes, or why the request failed.

    Raises:
        PortUnusable: there is no free port.
        TextCutShort: the text is incomplete.
        CannotSave: `write` failed.
    """
    began: Deferred[TextReceiver | RequestFailed] = Deferred()
    request = TextRequest(welcome, reactor.seconds())

    def text_began(receiver: TextReceiver) -> None:
        """Choose the first connection with data; an empty one counts only after the sharer's ACK."""
        if not began.called and (receiver.moved or request.acknowledged):
            request.began()
            on_began(receiver)
            began.callback(receiver)

    callers = _Callers(lambda: TextReceiver(reactor, write, text_began))
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
    """Open a TCP and a UDP port of the same number; TCP first, as the sharer connects as soon as it has the word."""
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
    """The connections to the TCP port, one of which may be the sharer's."""

    noisy = False

    def __init__(self, answer: Callable[[], TextReceiver]) -> None:
        self._answer = answer
        self._receivers: list[TextReceiver] = []

    def buildProtocol(self, addr: IAddress | None) -> TextReceiver | None:
        """Return the protocol of a connection, or None to close it."""
        self._receivers = [each for each in self._receivers if not each.done.called]
        if len(self._receivers) >= CALLERS_MAX:
            return None
        receiver = self._answer()
        self._receivers.append(receiver)
        return receiver

    def hang_up(self, except_for: object) -> None:
        """Abort all connections but one, and drop their errors."""
        for receiver in self._receivers:
            if receiver is not except_for:
                receiver.done.addErrback(lambda _: None)
                receiver.done.cancel()
