"""Lets the router forward the welcome port by UPnP, with the package `miniupnpc`, which `p2pshare[upnp]` installs.

The package is written in C and blocks, so it runs in a thread. It reads XML from any device of the local network that
says that it is a router: so it is not installed by default. UPnP mappings have no lifetime: one that is not removed,
because the process was killed, stays in the router until the router or its owner removes it.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from p2pshare.net.reach.port_mapping import LIFETIME, Forwarded, is_outside
from p2pshare.net.threads import run_in_thread
from p2pshare.wire.addresses import PeerAddress

DISCOVERY_MS = 1500  # milliseconds in which routers answer
DESCRIPTION = "p2pshare"


class UpnpGateway:
    """The first router that answers by UPnP."""

    _log = Logger()

    def __init__(self, reactor: Any, miniupnpc: Any) -> None:
        """Use the module `miniupnpc`."""
        self._reactor = reactor
        self._module = miniupnpc
        self._router: Any = None

    async def forward(self, port: int) -> Forwarded | None:
        """See `Gateway`."""
        try:
            ip = await run_in_thread(self._reactor, self._forward, port)
        except Exception as error:  # the module raises plain ones
            self._log.info("port not forwarded: router=UPnP why={why}", why=str(error) or "unknown")
            return None
        addresses = (PeerAddress(ip, port),) if is_outside(ip) else ()
        return Forwarded(addresses, LIFETIME)

    async def remove(self, port: int) -> None:
        """See `Gateway`."""
        router, self._router = self._router, None
        if router is not None:
            await run_in_thread(self._reactor, _remove, router, port)

    def _forward(self, port: int) -> str:
        """Return the external address of the router, which forwards the port now; in a thread."""
        router = self._module.UPnP()
        router.discoverdelay = DISCOVERY_MS
        router.discover()
        router.selectigd()
        for transport in ("UDP", "TCP"):
            router.addportmapping(port, transport, router.lanaddr, port, DESCRIPTION, "")
            self._router = router
        return str(router.externalipaddress())


def upnp_gateway(reactor: Any) -> UpnpGateway | None:
    """Return the gateway; None if the package is not installed."""
    try:
        import miniupnpc
    except ImportError:
        return None
    return UpnpGateway(reactor, miniupnpc)


def _remove(router: Any, port: int) -> None:
    for transport in ("UDP", "TCP"):
        router.deleteportmapping(port, transport)
