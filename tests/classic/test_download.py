"""Tests of `p2pshare.classic.download`, on real loopback sockets."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
from PIL import Image
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from p2pshare.classic.core.row_sender import TransferEnd
from p2pshare.classic.datagrams import Kind, Size, size_datagram
from p2pshare.errors import (
    CannotSave,
    NothingShared,
    PeerFellSilent,
    PeerUnreachable,
    PictureRefused,
    TextCutShort,
)
from p2pshare.wire.addresses import PeerAddress
from tests.peer.loopback import HOST, Datagrams, LoopbackTestCase

CONTENT = np.random.default_rng(6).integers(0, 256, (120, 90, 3), np.uint8)
LARGE = (1000, 3000)  # pixels: soon decoded, but not so soon transferred
LONG = 256 * 1024 * 1024  # bytes


class FetchTests(LoopbackTestCase):
    """Downloads that succeed."""

    async def test_both_at_once(self) -> None:
        """A text and a picture that are fetched at the same time arrive unchanged, and both ends know."""
        text = random.Random(5).randbytes(300_000)
        self.share_text(text)
        self.share_picture(Image.fromarray(CONTENT))
        _, alice = self.sharer()
        got_text, got_picture = await gatherResults(
            [self.fetch(alice, Kind.TEXT), self.fetch(alice, Kind.PICTURE)]
        )
        self.assertEqual(got_text.path.read_bytes(), text)
        with Image.open(got_picture.path) as picture:
            self.assertEqual(picture.tobytes(), CONTENT.tobytes())
        self.assertEqual(self.files(), ["alice.png", "alice.txt"])
        self.assertEqual((got_text.size, got_text.verified), (300_000, False))
        self.assertEqual((got_picture.size, got_picture.verified), (CONTENT.size, True))
        self.assertEqual(got_picture.pixels, (90, 120))
        await self.until(lambda: len(self.served) == 2)
        self.assertTrue(
            all(served.end is TransferEnd.COMPLETE for served in self.served), self.served
        )

    async def test_empty_text(self) -> None:
        """An empty text is fetched as an empty file."""
        self.share_text(b"")
        _, alice = self.sharer()
        fetched = await self.fetch(alice, Kind.TEXT)
        self.assertEqual((fetched.path.read_bytes(), fetched.size), (b"", 0))

    async def test_names(self) -> None:
        """An existing file stays, and the new one is numbered, unless it is to be replaced."""
        self.share_text(b"new")
        (self.saved / "alice.txt").write_text("old")
        _, alice = self.sharer()
        numbered = await self.fetch(alice, Kind.TEXT)
        self.assertEqual(numbered.path, self.saved / "alice (1).txt")
        self.assertEqual((self.saved / "alice.txt").read_text(), "old")
        replaced = await self.fetch(alice, Kind.TEXT, overwrite=True)
        self.assertEqual(replaced.path, self.saved / "alice.txt")
        self.assertEqual((self.saved / "alice.txt").read_text(), "new")

    async def test_progress(self) -> None:
        """The progress can be read at any time."""
        self.share_picture(Image.new("RGB", LARGE))
        _, alice = self.sharer()
        fetch = self.begin(alice, Kind.PICTURE)
        self.assertEqual((fetch.bytes_done, fetch.bytes_total), (0, None))
        done = Deferred.fromCoroutine(fetch.run())
        seen = set()

        def finished() -> bool:
            seen.add(fetch.bytes_done)
            return done.called

        await self.until(finished)
        await done
        self.assertGreater(len(seen), 3)
        self.assertEqual((fetch.bytes_done, fetch.bytes_total), (9_000_000, 9_000_000))

    async def test_strangers_at_every_port(self) -> None:
        """Random bytes to the welcome port and to both ports of the transfer change nothing."""
        self.share_picture(Image.new("RGB", LARGE, (1, 2, 3)))
        _, alice = self.sharer()
        stranger = Datagrams()
        own = self.socket(stranger)
        rng = random.Random(7)
        done = self.fetch(alice, Kind.PICTURE)
        disturbed = set()

        def finished() -> bool:
            for port in self.udp_ports():
                if port != own:
                    disturbed.add(port)
                    noise = [rng.randbytes(rng.randrange(40)), b"FIN", b"COMPLETE", b"\xff"]
                    stranger.send(rng.choice(noise), (HOST, port))
            return done.called

        await self.until(finished)
        fetched = await done
        self.assertGreaterEqual(len(disturbed), 3)
        with Image.open(fetched.path) as picture:
            self.assertEqual(picture.tobytes(), bytes([1, 2, 3]) * (LARGE[0] * LARGE[1]))
        self.assertEqual(stranger.received, [])


class FailureTests(LoopbackTestCase):
    """Downloads that fail: one clear error, and no file."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(lambda: self.assertEqual(self.files(), []))

    async def fails(self, error: type[Exception], fetching: Deferred[Any]) -> dict[str, object]:
        """Return the fields of the error."""
        return getattr(await self.assertFailure(fetching, error), "fields", {})

    async def both_fail(self, error: type[Exception], address: PeerAddress) -> list[Any]:
        """Return the fields of the errors of a text and a picture."""
        return await gatherResults(
            [Deferred.fromCoroutine(self.fails(error, self.fetch(address, kind))) for kind in Kind]
        )

    async def test_unreachable(self) -> None:
        """A closed port is reported."""
        gone = self.real_reactor.listenUDP(0, Datagrams(), HOST)
        address = PeerAddress(HOST, gone.getHost().port)
        await gone.stopListening()
        fields = {"name": "alice", "address": address}
        self.assertEqual(await self.both_fail(PeerUnreachable, address), [fields, fields])

    async def test_nothing_shared(self) -> None:
        """A missing picture and a FIFO in place of the text are reported, and do not block the sharer."""
        os.mkfifo(self.shared / "my_file.txt")
        _, alice = self.sharer()
        missing = [{"name": "alice", "what": what} for what in ("text", "picture")]
        self.assertEqual(await self.both_fail(NothingShared, alice), missing)

    async def test_cannot_save(self) -> None:
        """If the folder takes no file, the peer is not asked."""
        alice = Datagrams()
        address = PeerAddress(HOST, self.socket(alice))
        for kind in Kind:
            await self.fails(
                CannotSave, self.fetch(address, kind, folder=self.saved / "there is no such folder")
            )
        await self.until_heard(alice, address)

    async def until_heard(self, alice: Datagrams, address: PeerAddress) -> None:
        """Prove that nothing arrived before a datagram of the test."""
        own = Datagrams()
        self.socket(own)
        own.send(b"last", (address.ip, address.port))
        await self.until(lambda: alice.received != [])
        self.assertEqual(alice.received, [b"last"])

    async def test_sharer_of_a_picture_stops(self) -> None:
        """A sharer that stops in the middle of a picture has fallen silent."""
        self.share_picture(Image.new("RGB", LARGE))
        sharer, alice = self.sharer()
        fetch = self.begin(alice, Kind.PICTURE)
        done = Deferred.fromCoroutine(fetch.run())
        await self.until(lambda: fetch.rows is not None)
        await Deferred.fromCoroutine(sharer.stop())
        fields = await self.fails(PeerFellSilent, done)
        self.assertEqual(fields["total"], 3000)
        self.assertRegex(str(fields["missing"]), r"^[\d-]+(, .*)?$")

    async def test_sharer_of_a_text_stops(self) -> None:
        """A sharer that stops in the middle of a text leaves no file that looks complete."""
        self.share_text(b"")
        os.truncate(self.shared / "my_file.txt", LONG)
        sharer, alice = self.sharer()
        fetch = self.begin(alice, Kind.TEXT)
        done = Deferred.fromCoroutine(fetch.run())
        await self.until(lambda: fetch.bytes_done > 0)
        await Deferred.fromCoroutine(sharer.stop())
        await self.fails(TextCutShort, done)
        await self.until(lambda: self.served != [])
        self.assertIs(self.served[0].end, TransferEnd.FAILED)

    async def test_cancelled(self) -> None:
        """A cancelled download leaves no file; trial checks for ports and timers."""
        self.share_picture(Image.new("RGB", LARGE))
        self.share_text(b"")
        os.truncate(self.shared / "my_file.txt", LONG)
        sharer, alice = self.sharer()
        for kind in Kind:
            fetch = self.begin(alice, kind)
            done = Deferred.fromCoroutine(fetch.run())
            await self.until(lambda fetch=fetch: fetch.bytes_done > 0)  # type: ignore[misc]
            done.cancel()
            await self.fails(CancelledError, done)
        await Deferred.fromCoroutine(sharer.stop())
        self.assertEqual(self.udp_ports(), [])

    async def test_cancelled_while_asking(self) -> None:
        """The same holds before the first answer."""
        alice = Datagrams()
        address = PeerAddress(HOST, self.socket(alice))
        for kind in Kind:
            alice.received.clear()
            done = self.fetch(address, kind)
            await self.until(lambda: alice.received != [])
            done.cancel()
            await self.fails(CancelledError, done)
        self.assertEqual(len(self.udp_ports()), 1)

    async def test_picture_too_large(self) -> None:
        """A picture that is announced too large is rejected with its size, and not requested again."""

        def answer(data: bytes, addr: Any) -> None:
            alice.send(b"ACK2", addr)
            alice.send(size_datagram(Size(20_000, 20_000)), addr)

        alice = Datagrams(answer)
        address = PeerAddress(HOST, self.socket(alice))
        fields = await self.fails(PictureRefused, self.fetch(address, Kind.PICTURE))
        self.assertEqual((fields["width"], fields["height"]), (20_000, 20_000))
        self.assertEqual(alice.received, [b"IMG2"])


class Stranger(Protocol):
    """Sends a text that was not requested."""

    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"from a stranger")
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


class StrangerTests(LoopbackTestCase):
    async def test_first_connection(self) -> None:
        """The first connection counts as the sharer's, since a sharer may use any of its addresses."""
        asked: list[int] = []
        alice = Datagrams(lambda _, addr: asked.append(addr[1]))
        address = PeerAddress(HOST, self.socket(alice))
        done = self.fetch(address, Kind.TEXT)
        await self.until(lambda: asked != [])
        endpoint = TCP4ClientEndpoint(
            self.real_reactor, HOST, asked[0], bindAddress=("127.0.0.2", 0)
        )
        stranger = Stranger()
        await connectProtocol(endpoint, stranger)
        fetched = await done
        await stranger.gone
        self.assertEqual(fetched.path.read_bytes(), b"from a stranger")
        self.assertFalse(fetched.verified)
