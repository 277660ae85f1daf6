"""A session's carrier over the relay of a registry: a connection to the registry, which was upgraded from HTTP."""

from __future__ import annotations

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from p2pshare.net.session.tcp import TcpCarrier


class RelayCarrier(TcpCarrier):
    """One end of a relayed connection, as a `Carrier`; `remote` is the address of the registry.

    `registry.relay_client` makes it when both ends are there. TLS has no half of a connection. But an end that closes
    there tells the other one, and receives until that has closed, too.
    """

    name = "relay"
    _is_over = False

    def half_close(self) -> None:
        """See `Carrier`."""
        if ISSLTransport.providedBy(self.transport):
            self.close()
        else:
            super().half_close()

    def abort(self) -> None:
        """See `Carrier`."""
        if not self._is_over:  # Twisted's TLS cannot be closed twice
            super().abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass the end on, however it came."""
        self._is_over = True
        super().connectionLost(reason)
