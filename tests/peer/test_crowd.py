"""Many sessions at once into one peer over UDP, some of them hostile, on the loopback interface."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall

from p2pshare.core.incoming_transfer import ArrivedBlock
from p2pshare.net.session.datagrams import DatagramChannel
from p2pshare.peer.fetch.remote import RemotePeer
from p2pshare.storage.settings import Via
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.paths import parse_path
from p2pshare.wire.transfer_messages import Fault, FileHeader
from tests.peer.loopback import Datagrams
from tests.peer.sharers import AliceShares, SharersTestCase, reactor

COUNT = 100  # sessions
FILE = random.Random(6).randbytes(60_000)
HELD_MAX = 2 * 1024 * 1024  # bytes that are held for one peer that reads nothing


class Fetched:
    """The receiver of a file."""

    def __init__(self) -> None:
        self.data = b""
        self.done: Deferred[str] = Deferred()

    def announced(self, header: FileHeader) -> None:
        """Any header is wanted."""

    def outgrown(self, header: FileHeader) -> None:
        raise AssertionError("any size is wanted")

    def block_arrived(self, block: ArrivedBlock) -> None:
        self.data += block.data
        block.release()

    def ended(self, root: bytes) -> None:
        self.done.callback("ended")

    def failed(self, why: Fault) -> None:
        self.done.callback(f"failed: {why}")

    def interrupted(self) -> None:
        self.done.callback("interrupted")


class CrowdTests(SharersTestCase):
    """A sharer of a file, and many peers that want it."""

    def crowd(self) -> AliceShares:
        self.write("file", FILE)
        self.keys = [SigningKey(hashlib.sha256(b"%d" % each).digest()) for each in range(COUNT)]
        names = {key.public: f"peer-{number}" for number, key in enumerate(self.keys)}
        return self.alice(names=names)

    async def get(self, remote: RemotePeer) -> bytes:
        """Fetch the file."""
        while True:
            await remote.ready()
            fetched = Fetched()
            number = remote.get(fetched, parse_path("share/file"))
            if (how := await fetched.done) == "ended":
                remote.done([number])
                return fetched.data
            if how != "interrupted":
                raise AssertionError(how)

    async def test_all_at_once(self) -> None:
        """Threats 32 and 44: all files arrive, although strangers flood the port, and a peer reads nothing."""
        alice = self.crowd()
        hostile, *honest = (
            self.remote(lambda: alice.address, via=Via.UDP, own=key) for key in self.keys
        )
        await hostile.ready()
        self.be_deaf(hostile)
        flood = self.flood(alice)
        results = await DeferredList([Deferred.fromCoroutine(self.get(each)) for each in honest])
        flood.stop()
        self.assertEqual(alice.server.sessions, COUNT)
        self.assertEqual({(how, what == FILE) for how, what in results}, {(True, True)})
        await self.until(lambda: alice.datagrams.held < HELD_MAX)
        for each in alice.sessions:
            each.abort()
        self.assertEqual(alice.datagrams.held, 0)

    def be_deaf(self, remote: RemotePeer) -> None:
        """Ask for the file again and again, and read nothing any more."""
        link: Any = remote._link
        channel: DatagramChannel = link._session._channel
        for _ in range(64):
            remote.get(Fetched(), parse_path("share/file"))
        channel._connection.receive_protected = lambda *_: []  # type: ignore[method-assign]

    def flood(self, alice: AliceShares) -> LoopingCall:
        """Send the welcome port datagrams of strangers, as long as the test runs."""
        stranger = Datagrams()
        port = reactor.listenUDP(0, stranger, "127.0.0.1", 8192)
        self.addCleanup(port.stopListening)
        rng = random.Random(7)

        def send() -> None:
            for _ in range(10):
                first = rng.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xE0, 0xE1, 0xFF, 0x00, 0x41))
                data = bytes([first]) + rng.randbytes(rng.choice((0, 7, 40, 1199)))
                stranger.send(data, (alice.address.ip, alice.address.port))

        flood = LoopingCall(send)
        flood.start(0.01)
        return flood
