"""Tests of `p2pshare.net.sockets`: both families of addresses."""

from __future__ import annotations

import errno
import socket
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from p2pshare.errors import PortUnusable
from p2pshare.net.sockets import (
    client_endpoint,
    expect_free,
    interface_for,
    interfaces_for,
    keep_alive,
    listen_tcp,
    port_of,
)
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
        for interface in ("0.0.0.0", "::1"):
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

    def test_interfaces(self) -> None:
        """A peer at a loopback address listens there alone; any other peer on all addresses of both families."""
        self.assertEqual(interfaces_for("127.1.2.3"), ("127.1.2.3",))
        self.assertEqual(interfaces_for("::1"), ("::1",))
        for ip in ("192.0.2.7", "2001:db8::7"):
            self.assertEqual(interfaces_for(ip), ("0.0.0.0", "::"))

    def test_missing_family(self) -> None:
        """A machine without IPv6, or without IPv4, listens on the other family alone."""
        for missing, left in ((socket.AF_INET6, "0.0.0.0"), (socket.AF_INET, "::")):

            def make(family: int, kind: int, missing: int = missing) -> Any:
                if family == missing:
                    raise OSError(errno.EAFNOSUPPORT, "no such family")
                return MagicMock()

            self.patch(socket, "socket", make)
            self.assertEqual(interfaces_for("192.0.2.7"), (left,))


class KeepAliveTests(SynchronousTestCase):
    """`keep_alive`."""

    def test_probes(self) -> None:
        """It finds the socket below other transports, and the system probes it."""
        with socket.socket() as connection:
            below = SimpleNamespace(socket=connection)
            keep_alive(SimpleNamespace(transport=SimpleNamespace(transport=below)), 3)
            self.assertTrue(connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            options = [getattr(socket, f"TCP_KEEP{name}", None) for name in ("IDLE", "INTVL")]
            for option in filter(None, options):
                self.assertEqual(connection.getsockopt(socket.IPPROTO_TCP, option), 3)

    def test_none(self) -> None:
        """A transport in memory, and a Unix socket, work without."""
        keep_alive(StringTransport(), 3)
        with socket.socket(socket.AF_UNIX) as connection:
            keep_alive(SimpleNamespace(socket=connection), 3)


class BothFamiliesTests(TestCase):
    async def test_one_number(self) -> None:
        """Both families of one TCP port number are listened on; `expect_free` checks both."""
        if len(interfaces_for("192.0.2.7")) < 2:
            raise SkipTest("this machine has only one family of addresses")
        reactor: Any = real_reactor
        first = await listen_tcp(reactor, 0, ServerFactory(), "0.0.0.0")
        self.addCleanup(first.stopListening)
        number = port_of(first)
        expect_free(number, "::")
        second = await listen_tcp(reactor, number, ServerFactory(), "::")
        self.addCleanup(second.stopListening)
        self.assertEqual(port_of(second), number)
        for interface in ("0.0.0.0", "::"):
            self.assertRaises(PortUnusable, expect_free, number, interface)
        await self.assertFailure(
            Deferred.fromCoroutine(listen_tcp(reactor, number, ServerFactory(), "::")), PortUnusable
        )
