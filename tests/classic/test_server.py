"""Tests of `p2pshare.classic.server`, on real loopback sockets."""

from __future__ import annotations

import os
import random
import socket

from PIL import Image
from twisted.internet.defer import Deferred, gatherResults

from p2pshare.classic.core.row_sender import TransferEnd
from p2pshare.classic.core.welcome import TRANSFERS_PER_HOST_MAX
from p2pshare.classic.datagrams import Kind
from p2pshare.classic.shared_files import ClassicShare
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.wire.addresses import PeerAddress
from tests.peer.loopback import HOST, Datagrams, LoopbackTestCase


class ClassicServerTests(LoopbackTestCase):
    def occupy(self, alice: PeerAddress, number: int) -> list[Datagrams]:
        """Request a picture from so many sockets, and send nothing more."""
        sockets = [Datagrams() for _ in range(number)]
        for each in sockets:
            self.socket(each)
            each.send(b"IMG2", (alice.ip, alice.port))
        return sockets

    async def test_six_at_once(self) -> None:
        """Requesters beyond the limit are served later, since they repeat their words."""
        self.share_text(b"for all")
        _, alice = self.sharer()
        fetching = [self.fetch(alice, Kind.TEXT) for _ in range(TRANSFERS_PER_HOST_MAX + 2)]
        for fetched in await gatherResults(fetching):
            self.assertEqual(fetched.path.read_bytes(), b"for all")

    async def test_silent_ones_make_room(self) -> None:
        """Silent requesters that take all places of a host do not keep an honest one out for long."""
        self.share_picture(Image.new("RGB", (9, 5)))
        _, alice = self.sharer()
        silent = self.occupy(alice, TRANSFERS_PER_HOST_MAX)
        await self.until(lambda: all(len(each.received) >= 2 for each in silent))
        fetched = await self.fetch(alice, Kind.PICTURE)
        self.assertEqual(fetched.pixels, (9, 5))
        self.assertEqual(self.served[0].details, "no answer, and other requesters wait")
        await self.until(lambda: len(self.served) == TRANSFERS_PER_HOST_MAX + 1)
        details = [served.details for served in self.served]
        self.assertIn("9 x 5 pixels in 0 rows, the requester stopped answering", details)

    async def test_nothing_to_share(self) -> None:
        """A missing picture and a FIFO in place of the text cost one answer each."""
        os.mkfifo(self.shared / "my_file.txt")
        _, alice = self.sharer()
        bob = Datagrams()
        self.socket(bob)
        for word in (b"TXT", b"IMG2"):
            bob.send(word, (alice.ip, alice.port))
        await self.until(lambda: len(self.served) == 2)
        self.assertEqual({served.details for served in self.served}, {"no such file is shared"})
        self.assertFalse(any(served.end is TransferEnd.COMPLETE for served in self.served))
        await self.until(lambda: len(bob.received) == 2)
        self.assertEqual(sorted(bob.received), [b"ACK", b"ACK2"])

    async def test_unreadable_picture(self) -> None:
        """A file that is not a picture is reported in a sentence, and logged without a traceback."""
        (self.shared / "my_file.png").write_bytes(b"no picture")
        _, alice = self.sharer()
        self.occupy(alice, 2)
        await self.until(lambda: len(self.served) == 2)
        self.assertIn("my_file.png", self.served[0].details)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_requester_that_does_not_listen(self) -> None:
        """A requester of a text gets a second to listen."""
        self.share_text(b"text")
        _, alice = self.sharer()
        bob = Datagrams()
        quiet = self.enterContext(socket.socket())  # no other program listens on its number
        quiet.bind((HOST, 0))
        port = self.real_reactor.listenUDP(quiet.getsockname()[1], bob, HOST)
        self.addCleanup(port.stopListening)
        bob.send(b"TXT", (alice.ip, alice.port))
        await self.until(lambda: self.served != [])
        self.assertEqual(self.served[0].details, "the requester does not listen")
        self.assertGreaterEqual(self.served[0].seconds, 1.0)

    async def test_requester_that_closes_its_port(self) -> None:
        """A requester whose port is closed is not waited for."""
        self.share_picture(Image.new("RGB", (9, 5)))
        _, alice = self.sharer()
        bob = Datagrams()
        port = self.real_reactor.listenUDP(0, bob, HOST)
        bob.send(b"IMG2", (alice.ip, alice.port))
        await self.until(lambda: len(bob.received) >= 2)
        await port.stopListening()
        await self.until(lambda: self.served != [])
        self.assertLess(self.served[0].seconds, 5.0)

    async def test_requesters_that_are_gone_at_once(self) -> None:
        """Requesters that close their ports at once free their places soon."""
        self.share_picture(Image.new("RGB", (9, 5)))
        _, alice = self.sharer()
        for _ in range(4):  # as many as one address may have at once
            bob = Datagrams()
            port = self.real_reactor.listenUDP(0, bob, HOST)
            bob.send(b"IMG2", (alice.ip, alice.port))
            await port.stopListening()
        await self.until(lambda: len(self.served) == 4)
        await self.fetch(alice, Kind.PICTURE)
        self.assertEqual([served.end for served in self.served[:4]], [TransferEnd.FAILED] * 4)

    async def test_stopped(self) -> None:
        """Stopping ends all transfers at once, reports each of them, and closes every port."""
        self.share_picture(Image.new("RGB", (9, 5)))
        sharer, alice = self.sharer()
        silent = self.occupy(alice, 3)
        await self.until(lambda: all(len(each.received) >= 2 for each in silent))
        await Deferred.fromCoroutine(sharer.stop())
        self.assertEqual([served.details for served in self.served], ["stopped with this peer"] * 3)
        await self.until(lambda: len(self.udp_ports()) == len(silent))
        await Deferred.fromCoroutine(sharer.stop())

    async def test_no_longer_shared(self) -> None:
        """When a share ends, its transfers end at once, and nothing of it is served any more."""
        self.share_picture(Image.new("RGB", (9, 5)))
        sharer, alice = self.sharer()
        (silent,) = self.occupy(alice, 1)
        await self.until(lambda: len(silent.received) >= 2)
        sharer.serve(ClassicShare([SharedPath("s", self.shared)]))
        self.assertEqual(self.served, [])
        sharer.serve(ClassicShare(()))
        await self.until(lambda: len(self.served) == 1)
        self.occupy(alice, 1)
        await self.until(lambda: len(self.served) == 2)
        told = [served.details for served in self.served]
        self.assertEqual(told, ["it is no longer shared", "no such file is shared"])

    async def test_random_bytes(self) -> None:
        """Random bytes on the welcome port are not answered, and the next word is."""
        self.share_text(b"text")
        _, alice = self.sharer()
        stranger, rng = Datagrams(), random.Random(8)
        self.socket(stranger)
        for size in [*range(1, 200), 1400, 60_000]:
            stranger.send(rng.randbytes(size), (alice.ip, alice.port))
        stranger.send(b"", (alice.ip, alice.port))
        await self.fetch(alice, Kind.TEXT)
        self.assertEqual(stranger.received, [])
