"""Tests of `p2pshare.net.reach.port_mapping` and `upnp`, with routers in memory."""

from __future__ import annotations

import struct
import sys
from errno import ENETUNREACH
from io import StringIO
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net.reach import port_mapping as module
from p2pshare.net.reach import upnp as upnp_module
from p2pshare.net.reach.port_mapping import (
    LIFETIME,
    REMOVE_MAX,
    RENEW_MAX,
    REQUESTS_AT,
    Forwarded,
    PcpGateway,
    PortMapping,
    default_gateway,
    is_outside,
)
from p2pshare.net.reach.upnp import UpnpGateway, upnp_gateway
from p2pshare.wire.addresses import PeerAddress

PORT = 50000
ROUTER = "192.168.1.1"
OUTSIDE = "203.0.113.9"


class Router:
    """A router that knows PCP, NAT-PMP, both or nothing, and the mappings in it."""

    def __init__(self) -> None:
        self.knows_pcp = self.knows_pmp = True
        self.external = OUTSIDE
        self.result = 0
        self.offset = 0
        """Between the wanted and the external port of TCP."""
        self.nonce_flaw = b""
        self.mappings: dict[int, int] = {}
        """External port by the number of the transport."""
        self.asked: list[bytes] = []

    def answer(self, data: bytes) -> bytes | None:
        """Answer a request."""
        self.asked.append(data)
        if data[0] == 2:
            return self._pcp(data) if self.knows_pcp else self._pmp_version()
        return self._pmp(data) if self.knows_pmp else None

    def _pmp_version(self) -> bytes | None:
        return struct.pack("!BBHI", 0, 128 + 1, 1, 7) if self.knows_pmp else None

    def _pcp(self, data: bytes) -> bytes:
        nonce, transport, port, wanted = struct.unpack_from("!12sBxxxHH", data, 24)
        external = self._map(transport, wanted, struct.unpack_from("!I", data, 4)[0])
        packed = bytes(10) + b"\xff\xff" + bytes(map(int, self.external.split(".")))
        header = struct.pack("!BBxBII12x", 2, 129, self.result, LIFETIME, 7)
        nonce = self.nonce_flaw or nonce
        return header + struct.pack("!12sBxxxHH16s", nonce, transport, port, external, packed)

    def _pmp(self, data: bytes) -> bytes:
        if data[1] == 0:
            packed = bytes(map(int, self.external.split(".")))
            return struct.pack("!BBHI4s", 0, 128, self.result, 7, packed)
        operation, port, wanted, lifetime = struct.unpack_from("!xBxxHHI", data)
        external = self._map(17 if operation == 1 else 6, wanted, lifetime)
        answer = (0, 128 + operation, self.result, 7, port, external, LIFETIME)
        return struct.pack("!BBHIHHI", *answer)

    def _map(self, transport: int, wanted: int, lifetime: int) -> int:
        if not lifetime:
            self.mappings.pop(transport, None)
            return 0
        external = wanted + (self.offset if transport == 6 else 0)
        if not self.result:
            self.mappings[transport] = external
        return external


class UdpReactor(Clock):
    """A clock with UDP sockets that reach the router."""

    def __init__(self, router: Router) -> None:
        super().__init__()
        self.router = router
        self.sockets = 0
        self.has_sockets = True
        self.refuses = False

    def listenUDP(self, _port: int, protocol: DatagramProtocol) -> Any:
        """Make a socket."""
        if not self.has_sockets:
            raise CannotListenError("", 0, OSError(24, "Too many open files"))
        self.sockets += 1
        transport = Transport(self, protocol)
        protocol.makeConnection(transport)  # type: ignore[arg-type]
        return transport


class Transport:
    """A socket."""

    def __init__(self, reactor: UdpReactor, protocol: DatagramProtocol) -> None:
        self.reactor = reactor
        self.protocol = protocol
        self.is_open = True

    def connect(self, host: str, port: int) -> None:
        """Check the destination."""
        assert (host, port) == (ROUTER, 5351)

    def write(self, data: bytes, _address: object) -> None:
        """Let the router answer."""
        answer = self.reactor.router.answer(data)
        if self.reactor.refuses:
            self.reactor.callLater(0, self.protocol.connectionRefused)
        elif answer is not None:
            self.reactor.callLater(0, self._deliver, answer)

    def _deliver(self, answer: bytes) -> None:
        if self.is_open:
            self.protocol.datagramReceived(b"noise", (ROUTER, 5351))
            self.protocol.datagramReceived(answer, (ROUTER, 5351))

    def stopListening(self) -> None:
        """Close it."""
        assert self.is_open
        self.is_open = False
        self.reactor.sockets -= 1
        self.protocol.doStop()


class PortMappingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.router = Router()
        self.reactor = UdpReactor(self.router)
        self.told: list[list[str]] = []
        self.patch(module, "local_address_towards", lambda *_: "192.168.1.5")

    def gateway(self) -> PcpGateway:
        return PcpGateway(self.reactor, find=lambda: ROUTER, random=lambda size: b"r" * size)

    def mapping(self, *gateways: Any) -> PortMapping:
        """Start a mapping."""
        made = PortMapping(
            self.reactor,
            lambda addresses: self.told.append(list(map(str, addresses))),
            gateways or (self.gateway(),),
        )
        made.start(PORT)
        self.turn()
        return made

    def turn(self, times: int = 6) -> None:
        for _ in range(times):
            self.reactor.advance(0)

    def stop(self, mapping: PortMapping) -> None:
        stopping = Deferred.fromCoroutine(mapping.stop())
        self.turn()
        self.successResultOf(stopping)
        self.assertEqual((self.reactor.getDelayedCalls(), self.reactor.sockets), ([], 0))


class PcpTests(PortMappingTestCase):
    def test_forwarded(self) -> None:
        """TCP and UDP are forwarded, by either protocol, and the mapping is removed in the end."""
        for knows_pcp, requests in ((True, 2), (False, 4)):
            self.router.knows_pcp = knows_pcp
            self.router.asked.clear()
            mapping = self.mapping()
            self.assertEqual(self.told.pop(), [f"{OUTSIDE}:{PORT}"])
            self.assertEqual(self.router.mappings, {6: PORT, 17: PORT})
            self.assertEqual(len(self.router.asked), requests)
            self.stop(mapping)
            self.assertEqual(self.router.mappings, {})

    def test_renewed(self) -> None:
        """A mapping is renewed, with the same ports, long before it ends, and nothing is told if nothing changes."""
        mapping = self.mapping()
        self.router.mappings.clear()  # the router has restarted
        self.router.asked.clear()
        self.reactor.advance(RENEW_MAX)
        self.turn()
        self.assertEqual((self.router.mappings, len(self.told)), ({6: PORT, 17: PORT}, 1))
        self.router.external = "203.0.113.77"
        self.reactor.advance(RENEW_MAX)
        self.turn()
        self.assertEqual(self.told[1:], [[f"203.0.113.77:{PORT}"]])
        self.stop(mapping)

    def test_other_ports(self) -> None:
        """If TCP and UDP get different ports, both are told, and the renewal asks for the same ones."""
        self.router.offset = 5
        mapping = self.mapping()
        self.assertEqual(self.told, [[f"{OUTSIDE}:{PORT}", f"{OUTSIDE}:{PORT + 5}"]])
        self.router.offset = 0
        self.reactor.advance(RENEW_MAX)
        self.turn()
        self.assertEqual((self.router.mappings[6], len(self.told)), (PORT + 5, 1))
        self.stop(mapping)

    def test_refused(self) -> None:
        """A router that refuses, or forgets its mapping, leaves no address."""
        self.router.result = 2
        mapping = self.mapping()
        self.assertEqual(self.told, [])
        self.router.result = 0
        self.reactor.advance(RENEW_MAX)
        self.turn()
        self.assertEqual(len(self.told), 1)
        self.router.result = 2
        self.reactor.advance(RENEW_MAX)
        self.turn()
        self.assertEqual(self.told[1:], [[]])
        self.router.result = 0
        self.stop(mapping)

    def test_silent(self) -> None:
        """A router that says nothing is given up after some seconds, and asked again later."""
        self.router.knows_pcp = self.router.knows_pmp = False
        mapping = self.mapping()
        self.reactor.pump([0.25] * 40)
        requests = 2 * len(REQUESTS_AT)
        self.assertEqual((len(self.router.asked), self.reactor.sockets), (requests, 0))
        self.reactor.pump([1.0] * int(RENEW_MAX + 10))
        self.assertEqual(len(self.router.asked), 2 * requests)
        self.stop(mapping)

    def test_refused_port(self) -> None:
        """A router that closes the port of the protocol is given up at once."""
        self.reactor.refuses = True
        mapping = self.mapping()
        self.assertEqual((len(self.router.asked), self.reactor.sockets), (2, 0))
        self.stop(mapping)

    def test_slow_end(self) -> None:
        """A router that does not answer delays the end only a little."""
        mapping = self.mapping()
        self.router.knows_pcp = self.router.knows_pmp = False
        stopping = Deferred.fromCoroutine(mapping.stop())
        self.reactor.advance(REMOVE_MAX)
        self.successResultOf(stopping)
        self.assertEqual((self.reactor.getDelayedCalls(), self.reactor.sockets), ([], 0))

    def test_stopped_early(self) -> None:
        """A mapping that is stopped while the router is asked leaves nothing behind."""
        self.router.knows_pcp = self.router.knows_pmp = False
        mapping = PortMapping(self.reactor, Mock(), (self.gateway(),))
        self.stop(mapping)
        mapping.start(PORT)
        self.stop(mapping)

    def test_network_goes_away(self) -> None:
        """A router to which there is no route any more is asked again later; no socket is left."""
        mapping = self.mapping()
        self.assertEqual(len(self.told), 1)
        gone = OSError(ENETUNREACH, "gone")
        for name, owner in (("local_address_towards", module), ("connect", Transport)):
            with patch.object(owner, name, side_effect=gone):
                self.reactor.advance(RENEW_MAX + 1.0)
                self.turn()
            self.assertEqual(self.told[-1], [])
            self.assertEqual(self.reactor.sockets, 0)
            self.reactor.pump([RENEW_MAX, 1.0])
            self.turn()
            self.assertEqual(len(self.told[-1]), 1)
        self.stop(mapping)

    def test_hostile(self) -> None:
        """An external address that is no router's on the internet is not published, nor is an answer with a foreign
        nonce believed (threat 53).
        """
        for ip in ("10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0"):
            self.router.external = ip
            self.stop(self.mapping())
            self.assertEqual(self.told, [], ip)
        self.assertFalse(is_outside("nonsense"))
        self.router.external = OUTSIDE
        self.router.nonce_flaw = b"x" * 12
        self.router.knows_pmp = False
        mapping = self.mapping()
        self.reactor.pump([0.25] * 20)
        self.assertEqual(self.told, [])
        self.stop(mapping)

    def test_no_socket(self) -> None:
        """Without a socket or a router, nothing is asked."""
        self.reactor.has_sockets = False
        self.stop(self.mapping())
        self.reactor.has_sockets = True
        self.stop(self.mapping(PcpGateway(self.reactor, find=lambda: None)))
        self.assertEqual((self.router.asked, self.told), ([], []))

    def test_default_gateway(self) -> None:
        """The default gateway is the one in the table of routes; elsewhere it is guessed."""
        table = (
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
            "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
            "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n"
        )
        with_table = Mock(side_effect=[StringIO(table), StringIO("Iface\n"), OSError(2, "none")])
        module.open = with_table  # type: ignore[attr-defined]
        self.addCleanup(lambda: delattr(module, "open"))
        if struct.pack("=H", 1) == struct.pack("<H", 1):
            self.assertEqual(default_gateway(), "192.168.1.1")
        else:
            default_gateway()
        self.assertIsNone(default_gateway())
        found = default_gateway()
        self.assertTrue(found is None or found.endswith(".1"))


class UpnpTests(PortMappingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.upnp = Mock(lanaddr="192.168.1.5")
        self.upnp.externalipaddress.return_value = OUTSIDE
        self.patch(
            upnp_module, "run_in_thread", lambda _, work, *given: maybeDeferred(work, *given)
        )

    def gateway_of(self) -> Any:
        return UpnpGateway(self.reactor, SimpleNamespace(UPnP=lambda: self.upnp))

    def test_forwarded(self) -> None:
        """UPnP is asked if the router knows nothing else, and its mappings are removed in the end."""
        self.reactor.refuses = True
        mapping = self.mapping(self.gateway(), self.gateway_of())
        self.assertEqual(self.told, [[f"{OUTSIDE}:{PORT}"]])
        ports = [call.args[:4] for call in self.upnp.addportmapping.call_args_list]
        self.assertEqual(
            ports, [(PORT, "UDP", "192.168.1.5", PORT), (PORT, "TCP", "192.168.1.5", PORT)]
        )
        self.stop(mapping)
        removed = [call.args for call in self.upnp.deleteportmapping.call_args_list]
        self.assertEqual(removed, [(PORT, "UDP"), (PORT, "TCP")])

    def test_no_router(self) -> None:
        """A network without a router that knows UPnP is no error; a foreign address is not published (threat 53)."""
        self.upnp.selectigd.side_effect = Exception("No UPnP device discovered")
        self.stop(self.mapping(self.gateway_of()))
        self.upnp.selectigd.side_effect = None
        self.upnp.externalipaddress.return_value = "192.168.0.2"
        self.stop(self.mapping(self.gateway_of()))
        self.assertEqual(self.told, [])

    def test_not_installed(self) -> None:
        """Without the package there is no such gateway."""
        with patch.dict(sys.modules, {"miniupnpc": None}):
            self.assertIsNone(upnp_gateway(self.reactor))
        with patch.dict(sys.modules, {"miniupnpc": Mock()}):
            self.assertIsInstance(upnp_gateway(self.reactor), UpnpGateway)

    def test_forwarded_value(self) -> None:
        """A lease of UPnP is renewed as one of PCP."""
        found = self.successResultOf(Deferred.fromCoroutine(self.gateway_of().forward(PORT)))
        self.assertEqual(found, Forwarded((PeerAddress(OUTSIDE, PORT),), LIFETIME))
