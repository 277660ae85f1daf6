"""The carriers over which a user opens sessions, and their sockets for UDP."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from p2pshare.errors import PortUnusable
from p2pshare.net.sockets import IPeerReactor, interface_for
from p2pshare.storage.settings import Via
from p2pshare.wire.addresses import PeerAddress

if TYPE_CHECKING:  # it takes its time to import numpy, of which a session over TCP has no use
    from p2pshare.net.session.datagrams import DatagramSessions

CALL_SOCKETS_MAX = 16  # sockets of calls that are open at once


class Carriers:
    """The carriers over which a user opens sessions."""

    def __init__(
        self, reactor: IPeerReactor, via: Via = Via.AUTO, datagrams: DatagramSessions | None = None
    ) -> None:
        """Use what `via` allows.

        Args:
            reactor: opens sockets.
            via: the carriers that the user wants.
            datagrams: the welcome port of the user's peer, if that runs in this process. Otherwise UDP goes over a
                socket of its own, which is opened when it is needed.
        """
        self._reactor = reactor
        self._via = via
        self._given = datagrams
        self._own: dict[str, DatagramSessions] = {}  # by the interface that they are bound to
        self._lent: set[DatagramSessions] = set()  # to calls that run
        self._released: set[DatagramSessions] = set()  # by calls, while sessions use them
        self._is_closed = False

    @property
    def has_tcp(self) -> bool:
        """Whether TCP is used."""
        return self._via in (Via.AUTO, Via.TCP)

    @property
    def has_udp(self) -> bool:
        """Whether UDP is used."""
        return self._via in (Via.AUTO, Via.UDP)

    @property
    def has_relay(self) -> bool:
        """Whether relays are used."""
        return self._via in (Via.AUTO, Via.RELAY)

    def udp_towards(self, address: PeerAddress) -> DatagramSessions | None:
        """Return what opens channels to an address over UDP; None if there is no socket for it, or after `close`."""
        if self._is_closed:
            return None
        if self._given is not None and self._given.port.reaches(address.ip):
            return self._given
        interface = interface_for(address.ip)
        own = self._own.get(interface)
        if own is None and (own := self._opened(interface)) is not None:
            self._own[interface] = own
        return own

    async def new_udp(self, *interfaces: str) -> DatagramSessions | None:
        """Return a new socket, for one call: NATs remember what failed on another one. None if there is none.

        It is closed once no session uses it after `release`.
        """
        for each in [each for each in self._released if not each.connections]:
            self._released.discard(each)  # another call may have done so meanwhile
            await each.stop()
        if self._is_closed or len(self._lent) + len(self._released) >= CALL_SOCKETS_MAX:
            return None
        new = self._opened(*interfaces)
        if new is not None:
            self._lent.add(new)
        return new

    async def release(self, datagrams: DatagramSessions) -> None:
        """Close a socket of `new_udp`, now or after the sessions over it."""
        self._lent.discard(datagrams)
        if datagrams.connections and not self._is_closed:
            self._released.add(datagrams)
        else:
            await datagrams.stop()

    def _opened(self, *interfaces: str) -> DatagramSessions | None:
        from p2pshare.net.session.datagrams import DatagramSessions

        new = DatagramSessions(self._reactor, secrets.token_bytes)
        try:
            new.port.listen(0, *interfaces)
        except PortUnusable:
            return None
        return new

    async def close(self) -> None:
        """Close the sockets for UDP, and the sessions over them."""
        self._is_closed = True
        own, self._own = list(self._own.values()), {}
        called, self._released = self._released, set()
        for each in (*own, *called, *self._lent):
            await each.stop()
