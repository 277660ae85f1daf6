"""Tests of `p2pshare.net.sockets`: both families of addresses."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net.sockets import client_endpoint, interface_for, listen_tcp
from p2pshare.wire.addresses import PeerAddress


class FamilyTests(SynchronousTestCase):
    def test_connect(self) -> None:
        """An endpoint connects to an IPv4 or an IPv6 address, without a look-up."""
        reactor: Any = MemoryReactorClock()
        for ip in ("192.0.2.7", "2001:db8::7"):
            endpoint = client_endpoint(reactor, PeerAddress(ip, 50000), 3.0)
            self.assertNoResult(endpoint.connect(Factory.forProtocol(Protocol)))
            self.assertEqual(reactor.tcpClients[-1][:2], (ip, 50000))
            self.assertEqual(reactor.tcpClients[-1][3], 3.0)

    def test_listen(self) -> None:
        """A port is opened on an IPv4 or an IPv6 interface."""
        reactor: Any = MemoryReactorClock()
        for interface in ("0.0.0.0", "::"):
            listening = Deferred.fromCoroutine(
                listen_tcp(reactor, 50000, ServerFactory(), interface)
            )
            host: Any = self.successResultOf(listening).getHost()
            self.assertEqual(host.host, interface)

    def test_interface(self) -> None:
        """A loopback address is listened on alone, any other on all addresses of its family."""
        for ip, interface in (
            ("127.0.0.1", "127.0.0.1"),
            ("127.1.2.3", "127.1.2.3"),
            ("::1", "::1"),
            ("192.0.2.7", "0.0.0.0"),
            ("2001:db8::7", "::"),
        ):
            self.assertEqual(interface_for(ip), interface)
