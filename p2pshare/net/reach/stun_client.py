"""Asks STUN servers under which address they see the welcome port.

A request is repeated (RFC 8489, section 6.2.1) and given up after `GIVE_UP` seconds. An answer counts if it has the
transaction of a request, 96 random bits, and comes from the server that was asked. So only who sees the request can
forge the answer. That is not prevented: what STUN says is a candidate, at which a peer must prove its key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from p2pshare.core.datagram_core import Address
from p2pshare.wire.addresses import PeerAddress, address_fault
from p2pshare.wire.reach import stun

REQUESTS_AT = (0.0, 0.25, 0.75)  # seconds from the first request
GIVE_UP = 2.0  # seconds from the first request
REQUESTS_MAX = 32  # servers that are asked at the same time


class StunPort(Protocol):
    """The part of a `WelcomePort` that a client needs."""

    def send_to(self, data: bytes, address: Address, ttl: int | None = None) -> bool:
        """Send a datagram."""

    def add_stun_handler(self, handler: Callable[[bytes, Address], bool]) -> None:
        """Let `handler` see STUN messages."""

    def remove_stun_handler(self, handler: Callable[[bytes, Address], bool]) -> None:
        """Undo `add_stun_handler`."""


@dataclass(frozen=True, slots=True)
class StunAnswer:
    """What a server answered."""

    server: PeerAddress
    mapped: PeerAddress
    """The address from which the server got the request."""
    rtt_s: float


@dataclass(eq=False, slots=True)
class _Request:
    server: PeerAddress
    transaction: bytes
    answered: Deferred[StunAnswer | None]
    began: float
    sent: int = 0
    timer: IDelayedCall | None = None


class StunClient:
    """Asks servers from one port."""

    def __init__(self, clock: IReactorTime, port: StunPort, random: Callable[[int], bytes]) -> None:
        """Ask from `port`; `random` returns that many unpredictable bytes."""
        self._clock = clock
        self._port = port
        self._random = random
        self._requests: dict[bytes, _Request] = {}  # by their transactions

    def ask(self, server: PeerAddress) -> Deferred[StunAnswer | None]:
        """Return the answer of a server; None if there is none, or too many servers are asked already."""

        def cancelled(_: object) -> None:
            self._forget(request)

        answered: Deferred[StunAnswer | None] = Deferred(cancelled)
        transaction = self._random(stun.TRANSACTION_SIZE)
        request = _Request(server, transaction, answered, self._clock.seconds())
        if len(self._requests) >= REQUESTS_MAX:
            answered.callback(None)
            return answered
        if not self._requests:
            self._port.add_stun_handler(self._received)
        self._requests[transaction] = request
        self._send(request)
        return answered

    def stop(self) -> None:
        """Give all requests up."""
        for request in tuple(self._requests.values()):
            self._end(request, None)

    def _send(self, request: _Request) -> None:
        server = request.server
        if request.sent < len(REQUESTS_AT):
            self._port.send_to(stun.padded_request(request.transaction), (server.ip, server.port))
            request.sent += 1
            due = (*REQUESTS_AT, GIVE_UP)[request.sent]
            delay = max(0.0, request.began + due - self._clock.seconds())
            request.timer = self._clock.callLater(delay, self._send, request)
        else:
            self._end(request, None)

    def _received(self, data: bytes, address: Address) -> bool:
        answer = stun.parse(data)
        request = None if answer is None else self._requests.get(answer.transaction)
        if answer is None or request is None or answer.kind is stun.BindingKind.REQUEST:
            return False
        if (request.server.ip, request.server.port) != address[:2]:
            return False
        mapped = answer.mapped
        if answer.kind is stun.BindingKind.ERROR or mapped is None or address_fault(mapped.ip):
            return True  # it is repeated, and then given up
        rtt = self._clock.seconds() - request.began
        self._end(request, StunAnswer(request.server, mapped, rtt))
        return True

    def _end(self, request: _Request, answer: StunAnswer | None) -> None:
        if self._forget(request):
            request.answered.callback(answer)

    def _forget(self, request: _Request) -> bool:
        """Ask no more; whether the request was still open."""
        if self._requests.pop(request.transaction, None) is None:
            return False
        if request.timer is not None and request.timer.active():
            request.timer.cancel()
        if not self._requests:
            self._port.remove_stun_handler(self._received)
        return True
