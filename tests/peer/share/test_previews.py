"""Tests of `p2pshare.peer.share.previews`, with real shares."""

from __future__ import annotations

import io
import os
from threading import Thread
from unittest import mock

from PIL import Image
from twisted.internet.defer import Deferred

from p2pshare.net.threads import FairLimit
from p2pshare.peer.share.previews import AT_ONCE_MAX, Previews
from p2pshare.pictures import thumbnails
from p2pshare.storage.shares.arguments import SharedPath
from p2pshare.storage.shares.thumbnail_cache import ThumbnailCache
from p2pshare.storage.shares.tree import Unavailable
from p2pshare.wire.blocks import digest_of, root_of
from p2pshare.wire.session_messages import Credit
from p2pshare.wire.transfer_messages import (
    Cancel,
    Cancelled,
    Digests,
    End,
    Failed,
    Fault,
    FileHeader,
    Get,
    Stopped,
)
from tests.peer.share.test_session import ServingTestCase
from tests.storage.share_case import ShareTestCase, viewer_of

RICH = Credit(2**50)


def picture(width: int = 800, height: int = 600, colour: str = "teal") -> bytes:
    """Return a JPEG of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "JPEG")
    return file.getvalue()


class PreviewsTests(ShareTestCase):
    """Previews of the files in a share."""

    def setUp(self) -> None:
        super().setUp()
        self.write("cat.jpg", picture())
        self.previews = Previews(self.tree)

    def made(self) -> mock._patch[mock.MagicMock]:
        """Count the previews that are made."""
        return mock.patch.object(thumbnails, "make_thumbnails", wraps=thumbnails.make_thumbnails)

    def why_not(self, *path: str, edge: int = 64, viewer: str = "bob") -> Fault:
        """Return why there is no preview."""
        with self.assertRaises(Unavailable) as caught:
            self.previews.open(viewer_of(viewer), path, edge)
        why: Fault = caught.exception.why
        return why

    def test_preview(self) -> None:
        """It has the size that was asked for, and the version and the time of its picture."""
        file = self.open("bob", ("s", "cat.jpg"))
        self.addCleanup(file.close)
        for edge, size in ((64, (64, 48)), (512, (512, 384))):
            preview = self.previews.open(viewer_of("bob"), ("s", "cat.jpg"), edge)
            with Image.open(io.BytesIO(preview.data)) as image:
                self.assertEqual((image.format, image.size), ("JPEG", size))
            self.assertEqual((preview.version, preview.mtime_ns), (file.version, file.mtime_ns))
            self.assertEqual(
                (preview.size, preview.digest), (len(preview.data), digest_of(preview.data))
            )

    def test_kept(self) -> None:
        """A preview is made once for each version of its file."""
        with self.made() as made:
            for _ in range(3):
                first = self.previews.open(viewer_of("bob"), ("s", "cat.jpg"), 64)
            self.assertEqual(made.call_count, 1)
            self.write("cat.jpg", picture(colour="red"), mtime_ns=10**18)
            second = self.previews.open(viewer_of("bob"), ("s", "cat.jpg"), 64)
            self.assertEqual(made.call_count, 2)
        self.assertNotEqual(first.data, second.data)

    def test_smaller_ones(self) -> None:
        """One decoding makes the smaller previews, too."""
        with self.made() as made:
            for edge in (512, 256, 64):
                self.previews.open(viewer_of("bob"), ("s", "cat.jpg"), edge)
            self.assertEqual(made.call_count, 1)

    def test_database(self) -> None:
        """A preview that was made before the last start is found in the database, but not one of another version."""
        path = self.folder / "previews.sqlite"
        for count in (1, 0):
            cache = ThumbnailCache(path)
            self.previews = Previews(self.tree, cache)
            with self.made() as made:
                preview = self.previews.open(viewer_of("bob"), ("s", "cat.jpg"), 256)
            self.assertEqual((made.call_count, preview.size > 0), (count, True))
            cache.close()
        cache = ThumbnailCache(path)
        self.addCleanup(cache.close)
        self.write("cat.jpg", picture(colour="red"), mtime_ns=10**18)
        self.previews = Previews(self.tree, cache)
        with self.made() as made:
            other = self.previews.open(viewer_of("bob"), ("s", "cat.jpg"), 256)
        self.assertEqual(made.call_count, 1)
        self.assertNotEqual(preview.data, other.data)

    def test_together(self) -> None:
        """Several threads that want the preview of one picture decode it once."""
        threads = [
            Thread(target=self.previews.open, args=(viewer_of("bob"), ("s", "cat.jpg"), edge))
            for edge in (256, 256, 64, 256)
        ]
        with self.made() as made:
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            self.assertLessEqual(made.call_count, 2)

    def test_bounds(self) -> None:
        """The cache drops what was used least recently, by bytes and by entries."""
        size = len(self.previews.open(viewer_of("bob"), ("s", "cat.jpg"), 64).data)
        for previews in (
            Previews(self.tree, kept_bytes=2 * size),
            Previews(self.tree, kept_max=2),
        ):
            self.previews = previews
            names = [f"{number}.jpg" for number in range(3)]
            for name in names:
                self.write(name, picture())
            with self.made() as made:
                for name in (*names, names[0], names[2]):
                    self.previews.open(viewer_of("bob"), ("s", name), 64)
                self.assertEqual(made.call_count, 4)

    def test_no_picture(self) -> None:
        """Threat 8: other files, and other sizes, have none; that is remembered, too."""
        self.write("note.jpg", b"no picture")
        self.write("empty.jpg", b"")
        with self.made() as made:
            for _ in range(2):
                self.assertEqual(self.why_not("s", "note.jpg"), Fault.NO_PREVIEW)
            self.assertEqual(made.call_count, 1)
        self.assertEqual(self.why_not("s", "empty.jpg"), Fault.NO_PREVIEW)
        self.assertEqual(self.why_not("s", "cat.jpg", edge=100), Fault.NO_PREVIEW)
        self.assertEqual(self.why_not("s"), Fault.IS_FOLDER)
        self.assertEqual(self.why_not("s", "nothing.jpg"), Fault.NOT_FOUND)

    def test_permission(self) -> None:
        """Threat 34: a preview that somebody else has asked for is not found by a viewer who may not see its file."""
        self.previews = Previews(self.share(SharedPath("s", self.root, frozenset({"bob"}))))
        self.previews.open(viewer_of("bob"), ("s", "cat.jpg"), 64)
        self.assertEqual(self.why_not("s", "cat.jpg", viewer="eve"), Fault.NOT_FOUND)

    def test_closed(self) -> None:
        """No descriptor stays open."""
        before = len(os.listdir("/proc/self/fd"))
        self.write("note.jpg", b"no picture")
        self.previews.open(viewer_of("bob"), ("s", "cat.jpg"), 64)
        self.why_not("s", "note.jpg")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class ServedTests(ServingTestCase):
    """Previews over a session."""

    def test_served(self) -> None:
        """A preview comes as a file of its own, and does not count as an upload of the file."""
        path = self.share("cat.jpg", picture())
        request = Get(1, ("stuff", "cat.jpg"), preview=64)
        session, _ = self.serve(RICH, request, listing=FairLimit(1, 1))
        data = bytes(session.data[1])
        header, digests, end = session.said
        assert (
            isinstance(header, FileHeader) and isinstance(digests, Digests) and isinstance(end, End)
        )
        self.assertEqual(header.size, len(data))
        self.assertLess(len(data), path.stat().st_size)
        self.assertEqual(digests.digests, (digest_of(data),))
        self.assertEqual(end.root, root_of(len(data), digests.digests))
        (upload,) = self.uploads.status()
        self.assertEqual((upload["files"], upload["current"]), (0, []))

    def test_refused(self) -> None:
        """A file that is no picture has no preview."""
        self.share("note.txt", b"hello")
        session, _ = self.serve(RICH, Get(1, ("stuff", "note.txt"), preview=64))
        self.assertEqual(session.said, [Failed(1, Fault.NO_PREVIEW)])

    def test_scrolled_away(self) -> None:
        """No preview is made of a picture that is not wanted any more when its turn comes."""
        self.share("cat.jpg", picture())
        previews, waiting = Previews(self.tree), list[Deferred[None]]()

        def occupy() -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        for number in range(AT_ONCE_MAX):
            previews.limit.run(f"somebody {number}", occupy)
        with mock.patch.object(thumbnails, "make_thumbnails") as made:
            request = Get(1, ("stuff", "cat.jpg"), preview=64)
            session, _ = self.serve(RICH, request, Cancel(1, Cancelled.BY_USER), previews=previews)
            while waiting:
                waiting.pop().callback(None)
            self.assertEqual(made.call_count, 0)
        self.assertEqual(session.said, [Stopped(1, 0)])
