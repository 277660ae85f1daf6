"""The ports of a running peer, TCP and UDP of one number, and their mapping in the router."""

from __future__ import annotations

import random
from collections.abc import Sequence

from p2pshare.errors import PortUnusable
from p2pshare.net.reach.port_mapping import PcpGateway, PortMapping
from p2pshare.net.reach.upnp import upnp_gateway
from p2pshare.net.session.datagrams import DatagramSessions
from p2pshare.net.sockets import IPeerReactor, expect_free, listen_welcome
from p2pshare.peer.reach.network import OwnLocation, OwnNetwork
from p2pshare.peer.share.acceptor import SessionAcceptor
from p2pshare.storage.settings import Settings


class OwnPorts:
    """Opens the ports when the location is wanted for the first time."""

    def __init__(
        self,
        reactor: IPeerReactor,
        rng: random.Random,
        settings: Settings,
        network: OwnNetwork,
        acceptor: SessionAcceptor,
        datagrams: DatagramSessions,
    ) -> None:
        """Open nothing yet.

        Args:
            reactor: for the ports and timers.
            rng: draws the number.
            settings: have the number that the user wants, and whether the router is asked.
            network: knows the addresses.
            acceptor: accepts sessions over TCP.
            datagrams: have the welcome port.
        """
        self._reactor = reactor
        self._rng = rng
        self._settings = settings
        self._network = network
        self._acceptor = acceptor
        self._datagrams = datagrams
        self._port: int | None = None
        self._mapping: PortMapping | None = None  # in the router

    async def location(self) -> OwnLocation:
        """Return where this peer is reached; the first call opens the ports."""
        if self._port is None:
            interfaces = await self._network.interfaces()
            self._port = await listen_welcome(
                self._settings.listen, self._rng, lambda port: self._open(port, interfaces)
            )
            self._network.opened(self._port, self._datagrams.port)
            self.forward()
        return await self._network.location()

    def forward(self) -> None:
        """Ask the router to forward the port, if the user wants that and others may know of it."""
        settings, network, port = self._settings, self._network, self._port
        if settings.port_mapping and not settings.private and not network.is_local and port:
            if self._mapping is None:
                pcp, upnp = PcpGateway(self._reactor), upnp_gateway(self._reactor)
                gateways = (pcp,) if upnp is None else (pcp, upnp)
                self._mapping = PortMapping(self._reactor, network.forwarded_at, gateways)
            self._mapping.start(port)

    async def use(self, settings: Settings) -> None:
        """Let the router forward the port, or not any more, as these settings want it."""
        had, self._settings = self._settings.port_mapping, settings
        if settings.port_mapping == had:
            return
        if settings.port_mapping:
            self.forward()
        elif self._mapping is not None:
            mapping, self._mapping = self._mapping, None
            await mapping.stop()
            self._network.forwarded_at(())

    async def stop(self) -> None:
        """Remove the mapping. The owners of the ports close them."""
        if self._mapping is not None:
            await self._mapping.stop()

    async def _open(self, port: int, interfaces: Sequence[str]) -> int:
        """Open the ports with this number, TCP for sessions and UDP as welcome port: both, or none of them."""
        expect_free(port, *interfaces)
        await self._acceptor.listen(port, *interfaces)
        try:
            return self._datagrams.port.listen(port, *interfaces)
        except PortUnusable:
            await self._acceptor.stop_listening()
            raise
