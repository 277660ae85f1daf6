"""Tests of `p2pshare.classic.decoded_pictures`."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.classic.datagrams import Kind
from p2pshare.classic.decoded_pictures import DecodedPictures
from p2pshare.classic.shared_files import ClassicShare, OpenedFile
from p2pshare.errors import PictureUnreadable
from p2pshare.pictures.pixels import Pixels
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.testing.network import ThreadlessReactor

WIDE = 1000  # pixels: wider than any picture here


class DecodedPicturesTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "my_file.png")
        self.content = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(self.content).save(self.path)
        self.reactor = ThreadlessReactor()
        self.pictures = DecodedPictures(cast(Any, self.reactor))
        self.transfers: list[Deferred[None]] = []
        """When they end; kept, because a transfer without an end in sight would be collected."""

    def opened(self) -> OpenedFile:
        opened = ClassicShare([SharedPath("p", self.path)]).open(Kind.PICTURE, lambda *_: None)
        assert opened is not None
        self.addCleanup(opened.file.close)
        return opened

    def use(self, done: Deferred[None], width_max: int = WIDE) -> Deferred[Pixels]:
        """Use the picture until `done` fires; return its pixels."""
        used: Deferred[Pixels] = Deferred()
        self.transfers.append(done)

        async def transfer() -> None:
            async with self.pictures.pixels(self.opened(), width_max) as pixels:
                used.callback(pixels)
                await done

        Deferred.fromCoroutine(transfer()).addErrback(
            lambda failure: None if used.called else used.errback(failure)
        )
        return used

    def test_decoded_once(self) -> None:
        """Concurrent transfers get the same pixels, during and after decoding."""
        finish = self.reactor.hold_threads()
        early = [self.use(Deferred()) for _ in range(2)]
        for used in early:
            self.assertNoResult(used)
        finish()
        late = self.use(Deferred())
        first, second, third = map(self.successResultOf, [*early, late])
        self.assertIs(first, second)
        self.assertIs(first, third)
        self.assertEqual(first.tobytes(), self.content.tobytes())

    def test_freed(self) -> None:
        """A picture is freed after its last transfer, however that ends."""
        ends: list[Deferred[None]] = [Deferred(), Deferred()]
        first = self.successResultOf(self.use(ends[0]))
        self.successResultOf(self.use(ends[1]))
        ends[0].callback(None)
        self.assertIs(self.successResultOf(self.use(ends[1])), first, "somebody needs it still")
        ends[1].errback(OSError("the transfer broke off"))
        self.assertIsNot(self.successResultOf(self.use(Deferred())), first)

    def test_widths(self) -> None:
        """A requester with narrower rows gets a scaled picture."""
        wide = self.successResultOf(self.use(Deferred()))
        narrow = self.successResultOf(self.use(Deferred(), 15))
        self.assertEqual((wide.shape, narrow.shape), ((20, 30, 3), (10, 15, 3)))

    def test_changed_file(self) -> None:
        """A changed file is decoded again."""
        old = self.successResultOf(self.use(Deferred()))
        Image.new("RGB", (7, 5)).save(self.path)
        self.assertIsNot(self.successResultOf(self.use(Deferred())), old)

    def test_unreadable(self) -> None:
        """Every waiting transfer gets the error, and no stray error is logged."""
        self.path.write_bytes(b"no picture at all")
        finish = self.reactor.hold_threads()
        users = [self.use(Deferred()) for _ in range(2)]
        finish()
        for used in users:
            self.failureResultOf(used, PictureUnreadable)
        self.failureResultOf(self.use(Deferred()), PictureUnreadable)
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_cancelled(self) -> None:
        """A transfer that is cancelled does not stop the decoding for the others."""
        finish = self.reactor.hold_threads()

        async def transfer() -> None:
            async with self.pictures.pixels(self.opened(), WIDE):
                raise AssertionError("it was cancelled")

        cancelled = Deferred.fromCoroutine(transfer())
        other = self.use(Deferred())
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        finish()
        self.assertEqual(self.successResultOf(other).tobytes(), self.content.tobytes())
