"""Lets the router forward the welcome port, by PCP (RFC 6887) or NAT-PMP (RFC 6886), if the user wants that.

A mapping opens the welcome port, TCP and UDP, to the whole internet, so the user has to turn it on. The default gateway
alone is asked, over a connected socket, which takes datagrams from nobody else. The answer of PCP must repeat a random
nonce. A gateway can lie about the external address. So it is published only if it can be a router's address on the
internet, and a peer has to prove its key there.

PCP is tried first. A router that knows NAT-PMP only says so, or nothing, and is asked in that. A mapping is renewed
long before it ends, since a router may lose it when it restarts. It is removed in the end. If the process is killed,
the router removes it after `LIFETIME` at the latest.
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from p2pshare.net.reach.interfaces import read_network
from p2pshare.net.sockets import local_address_towards
from p2pshare.storage.os_errors import plain_reason
from p2pshare.wire.addresses import PeerAddress, address_fault, is_loopback
from p2pshare.wire.reach import port_mappings as wire
from p2pshare.wire.reach.port_mappings import SUCCESS, UNSUPPORTED_VERSION, Mapped, Transport

LIFETIME = 3600  # seconds that are asked for
RENEW_MAX = 600.0  # seconds until a mapping is renewed, and until a router is asked again
RENEW_MIN = 30.0  # seconds, however short a lifetime the router grants
REQUESTS_AT = (0.25, 0.5, 1.0, 2.0)  # seconds until a request is repeated, and then given up
REMOVE_MAX = 0.5  # seconds that the end of a peer waits for the router

_NOT_OUTSIDE = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
)
"""Addresses that a router has behind another NAT."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What a router forwards to the welcome port."""

    addresses: tuple[PeerAddress, ...]
    """External addresses: one, or two if TCP and UDP have different ports."""
    lifetime_s: float


class Gateway(Protocol):
    """A way to ask a router."""

    async def forward(self, port: int) -> Forwarded | None:
        """Forward TCP and UDP to a port, or renew that; None if the router does not."""

    async def remove(self, port: int) -> None:
        """Undo it."""


class PortMapping:
    """Keeps the welcome port forwarded, until it is stopped."""

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        on_forwarded: Callable[[Sequence[PeerAddress]], object],
        gateways: Sequence[Gateway],
    ) -> None:
        """Ask the first of `gateways` that forwards; `on_forwarded` is told the external addresses when they change."""
        self._clock = clock
        self._on_forwarded = on_forwarded
        self._gateways = gateways
        self._used: Gateway | None = None
        self._addresses: tuple[PeerAddress, ...] = ()
        self._port = 0
        self._running: Deferred[None] | None = None

    def start(self, port: int) -> None:
        """Forward this port from now on; called again after a change of the network."""
        self._cancel()
        self._port = port
        self._running = Deferred.fromCoroutine(self._keep(port))
        self._running.addErrback(self._failed)

    async def stop(self) -> None:
        """Remove the mapping, if the router answers soon."""
        self._cancel()
        used, self._used = self._used, None
        if used is not None:
            removing: Deferred[None] = Deferred.fromCoroutine(used.remove(self._port))
            removing.addTimeout(REMOVE_MAX, self._clock)
            with contextlib.suppress(Exception):  # whatever it is, the peer ends now
                await removing

    async def _keep(self, port: int) -> None:
        while True:
            found = None
            for gateway in self._gateways:
                try:
                    found = await gateway.forward(port)
                except OSError as error:  # the network went away meanwhile
                    self._log.info("port not forwarded: why={why}", why=plain_reason(error))
                if found is not None:
                    self._used = gateway
                    break
            addresses = found.addresses if found else ()
            if addresses != self._addresses:
                self._log.info(
                    "port forwarded: port={port} external={external}",
                    port=port,
                    external=",".join(map(str, addresses)) or "none",
                )
                self._addresses = addresses
                self._on_forwarded(addresses)
            lifetime = found.lifetime_s if found else 2 * RENEW_MAX
            await deferLater(self._clock, min(max(lifetime / 2, RENEW_MIN), RENEW_MAX))

    def _cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()
            self._running = None

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("port mapping failed", failure)


class PcpGateway:
    """The default gateway, asked by PCP or NAT-PMP."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        find: Callable[[], str | None] | None = None,
        port: int = wire.PORT,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Ask the router whose address `find` returns, at `port`; `random` draws the nonce."""
        self._reactor = reactor
        self._find = find or default_gateway
        self._port = port
        self._nonce = random(wire.NONCE_SIZE)  # one for all requests: a renewal has to repeat it
        self._knows_pcp = True
        self._external: dict[Transport, int] = {}

    async def forward(self, port: int) -> Forwarded | None:
        """See `Gateway`."""
        router = self._find()
        if router is None:
            return None
        self._knows_pcp = True
        mapped: list[tuple[Mapped, str]] = []
        for transport in (Transport.UDP, Transport.TCP):
            wanted = self._external.get(transport) or (
                mapped[0][0].external_port if mapped else port
            )
            answer = await self._map(router, transport, port, wanted, LIFETIME)
            if answer is None or answer.result != SUCCESS or not answer.external_port:
                why = "no answer" if answer is None else f"result {answer.result}"
                self._log.info("port not forwarded: router={ip} why={why}", ip=router, why=why)
                return None
            external = answer.external_ip or (mapped[0][1] if mapped else "")
            external = external or await self._pmp_address(router)
            self._external[transport] = answer.external_port
            mapped.append((answer, external))
        addresses = dict.fromkeys(PeerAddress(ip, each.external_port) for each, ip in mapped)
        if not all(is_outside(ip) for _, ip in mapped):
            self._log.info(
                "port forwarded in vain, behind another NAT: router={ip} external={external}",
                ip=router,
                external=mapped[0][1],
            )
            addresses = {}
        return Forwarded(tuple(addresses), min(each.lifetime_s for each, _ in mapped))

    async def remove(self, port: int) -> None:
        """See `Gateway`."""
        router = self._find()
        self._external.clear()
        if router is not None:
            removing = [
                Deferred.fromCoroutine(self._map(router, transport, port, 0, 0))
                for transport in (Transport.UDP, Transport.TCP)
            ]
            await gatherResults(removing, consumeErrors=True)

    async def _map(
        self, router: str, transport: Transport, port: int, wanted: int, lifetime: int
    ) -> Mapped | None:
        if self._knows_pcp:
            own = local_address_towards(router, self._port)
            request = wire.pcp_request(own, self._nonce, transport, port, wanted, lifetime)
            answer = await self._ask(
                router, request, lambda data: wire.parse_pcp(data, self._nonce, transport, port)
            )
            if answer is not None and answer.result != UNSUPPORTED_VERSION:
                return answer
            self._knows_pcp = False
        return await self._ask(
            router,
            wire.pmp_mapping_request(transport, port, wanted, lifetime),
            lambda data: wire.parse_pmp_mapping(data, transport, port),
        )

    async def _pmp_address(self, router: str) -> str:
        """Return the external address; empty if the router does not tell it."""
        answer = await self._ask(router, wire.pmp_address_request(), wire.parse_pmp_address)
        return "" if answer is None or answer[0] != SUCCESS else answer[1]

    async def _ask(
        self, router: str, request: bytes, parse: Callable[[bytes], T | None]
    ) -> T | None:
        """Return what `parse` makes of the first answer that it takes; None if there is none in time."""
        question = _Question(self._reactor, (router, self._port), request, parse)
        try:
            self._reactor.listenUDP(0, question)
        except CannotListenError as error:  # no socket is left
            self._log.debug("router not asked: why={why}", why=error)
            return None
        return await question.answered


class _Question(DatagramProtocol, Generic[T]):
    """One question to a router, over a socket of its own."""

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        router: tuple[str, int],
        request: bytes,
        parse: Callable[[bytes], T | None],
    ) -> None:
        self._clock = clock
        self._router = router
        self._request = request
        self._parse = parse
        self._pauses = list(REQUESTS_AT)
        self._timer: IDelayedCall | None = None
        self.answered: Deferred[T | None] = Deferred(lambda _: self._close())
        """Fires with the first answer that is one, or with None."""

    def startProtocol(self) -> None:
        """Begin to ask. The socket takes datagrams from the router only."""
        assert self.transport is not None
        try:
            self.transport.connect(*self._router)
        except OSError:  # there is no route any more
            self._pauses.clear()
            self._timer = self._clock.callLater(0.0, self._send)
        else:
            self._send()

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """Take an answer."""
        answer = self._parse(datagram)
        if answer is not None:
            self._end(answer)

    def connectionRefused(self) -> None:
        """Give up, as the router does not speak the protocol."""
        self._end(None)

    def _send(self) -> None:
        self._timer = None
        if not self._pauses or self.transport is None:
            self._end(None)
            return
        with contextlib.suppress(OSError):
            self.transport.write(self._request, self._router)
        if not self.answered.called:
            self._timer = self._clock.callLater(self._pauses.pop(0), self._send)

    def _end(self, answer: T | None) -> None:
        self._close()
        if not self.answered.called:
            self.answered.callback(answer)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is not None:
            self.transport.stopListening()


def default_gateway() -> str | None:
    """Return the IPv4 address of the default gateway; None if there is none.

    Linux lists it. Elsewhere it is taken to be the first address of the network from which the default route sends, as
    it is in most homes.
    """
    with contextlib.suppress(OSError):
        with open("/proc/net/route", encoding="ascii") as table:
            for fields in map(str.split, list(table)[1:]):
                if fields[1] == fields[7] == "00000000" and fields[2] != "00000000":
                    return socket.inet_ntoa(struct.pack("=I", int(fields[2], 16)))
        return None
    state = read_network()
    networks = {each.ip: each.network for each in state.addresses if ":" not in each.ip}
    found = next((networks[ip] for ip in state.sources if ip in networks), None)
    return None if found is None or found.num_addresses < 4 else str(found[1])


def is_outside(ip: str) -> bool:
    """Whether an external address can be one on the internet."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    is_inside = any(address in network for network in _NOT_OUTSIDE)
    return not (is_inside or is_loopback(ip) or address_fault(ip))
