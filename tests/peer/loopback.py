"""Peers of one process on real loopback sockets, in time that passes faster than ours."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from PIL import Image
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.internet.udp import Port
from twisted.trial.unittest import TestCase

from p2pshare.classic.datagrams import Kind
from p2pshare.classic.download import ClassicDownload, Fetched, Order
from p2pshare.classic.server import ClassicServer, Served
from p2pshare.classic.shared_files import ClassicShare
from p2pshare.net.session.datagrams import DatagramSessions
from p2pshare.net.sockets import IPeerReactor
from p2pshare.pictures.encoding import format_of
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.wire.addresses import PeerAddress

SPEED = 8.0  # seconds that pass in one of ours
PATIENCE = 60.0  # seconds of ours, on a busy machine
HOST = "127.0.0.1"


class ClassicSharer:
    """A classic server on a welcome port of its own."""

    def __init__(
        self, reactor: IPeerReactor, share: ClassicShare, on_served: Callable[[Served], object]
    ) -> None:
        self._server = ClassicServer(reactor, share, on_served=on_served)
        self.serve = self._server.serve
        self.port = DatagramSessions(reactor, random.randbytes, None, self._server.protocol).port

    async def stop(self) -> None:
        """End all transfers, and close the port."""
        await self._server.stop()
        await self.port.stop()


class HurriedCall:
    """A delayed call that comes sooner."""

    def __init__(self, call: IDelayedCall) -> None:
        self._call = call

    def __getattr__(self, name: str) -> Any:  # noqa: D105
        return getattr(self._call, name)

    def reset(self, seconds: float) -> None:
        self._call.reset(seconds / SPEED)


class HurriedReactor:
    """The real reactor with a faster clock, so that timeouts are shorter."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:  # noqa: D105
        return getattr(self._reactor, name)

    def seconds(self) -> float:
        return float(self._reactor.seconds() * SPEED)

    def callLater(self, delay: float, *work: Any, **keywords: Any) -> HurriedCall:
        return HurriedCall(self._reactor.callLater(delay / SPEED, *work, **keywords))


class Datagrams(DatagramProtocol):
    """A socket of the test's own."""

    noisy = False

    def __init__(self, on_datagram: Callable[[bytes, Any], object] = lambda *_: None) -> None:
        self.received: list[bytes] = []
        self._on_datagram = on_datagram

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.received.append(datagram)
        self._on_datagram(datagram, addr)

    def send(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        self.transport.write(data, addr)


class LoopbackTestCase(TestCase):
    """A sharer and those who fetch from it; in the end nothing must be left that runs or listens."""

    timeout = PATIENCE

    def setUp(self) -> None:
        from twisted.internet import reactor

        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.shared, self.saved = Path(folder.name, "shared"), Path(folder.name, "saved")
        self.shared.mkdir()
        self.saved.mkdir()
        self.real_reactor: Any = reactor
        self.assertNotIn("seconds", vars(reactor), "a test has replaced the clock of all tests")
        self.reactor = cast(IPeerReactor, HurriedReactor(reactor))
        self.served: list[Served] = []
        self.addCleanup(self.settle)

    async def settle(self) -> None:
        """Wait until the last socket has closed by itself."""
        await self.until(lambda: not self.udp_ports())
        await deferLater(self.real_reactor, 0.001, lambda: None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is the case; the test's time-out is the end of all patience."""
        while not condition():
            await deferLater(self.real_reactor, 0.001, lambda: None)

    def udp_ports(self) -> list[int]:
        """The UDP ports that are open in this process."""
        open_ports = [each for each in self.real_reactor.getReaders() if isinstance(each, Port)]
        return [int(port.getHost().port) for port in open_ports]

    def share_text(self, content: bytes) -> None:
        (self.shared / "my_file.txt").write_bytes(content)

    def share_picture(self, picture: Image.Image) -> None:
        picture.save(self.shared / "my_file.png")

    def sharer(self) -> tuple[ClassicSharer, PeerAddress]:
        """Return a sharer of the folder, and its address."""
        sharer = ClassicSharer(
            self.reactor, ClassicShare([SharedPath("s", self.shared)]), self.served.append
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(sharer.stop()))
        return sharer, PeerAddress(HOST, sharer.port.listen(0, HOST))

    def socket(self, protocol: Datagrams) -> int:
        """Open a UDP socket of the test's own, and return its port."""
        port = self.real_reactor.listenUDP(0, protocol, HOST)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def order(self, address: PeerAddress, kind: Kind, **changes: Any) -> Order:
        name = "alice.txt" if kind is Kind.TEXT else "alice.png"
        assert kind is Kind.TEXT or format_of(name)
        return Order(**{
            "peer": "alice", "address": address, "kind": kind, "folder": self.saved, "name": name,
            **changes,
        })  # fmt: skip

    def fetch(self, address: PeerAddress, kind: Kind, **changes: Any) -> Deferred[Fetched]:
        """Fetch something."""
        return Deferred.fromCoroutine(self.begin(address, kind, **changes).run())

    def begin(self, address: PeerAddress, kind: Kind, **changes: Any) -> ClassicDownload:
        return ClassicDownload(self.reactor, self.order(address, kind, **changes))

    def files(self) -> list[str]:
        """All that was saved, hidden files included."""
        return sorted(path.name for path in self.saved.iterdir())
