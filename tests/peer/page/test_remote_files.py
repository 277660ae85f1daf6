"""Bytes of other people's files on the page: files and ranges, previews, zips; over real sessions on the loopback."""

from __future__ import annotations

import io
import random
import zipfile

from PIL import Image
from twisted.internet.task import deferLater

from p2pshare.peer.browse.archive import LEFT_OUT
from p2pshare.peer.page.remote_files import disposition, entity_tag
from p2pshare.peer.service import PeerService
from p2pshare.storage import file_times
from p2pshare.wire.blocks import BLOCK_SIZE
from tests.peer.page.page_case import Browser, PageTestCase, Told

FILE, PREVIEW, ARCHIVE = "/api/v1/file", "/api/v1/preview", "/api/v1/archive"


class RemoteFilesTestCase(PageTestCase):
    """Alice looks at what bob shares; both share the folder `stuff`."""

    async def browsing(self) -> tuple[PeerService, Browser]:
        """Start both, and return bob and alice's browser."""
        self.patch(
            file_times, "TICK", 0
        )  # else a file that was just written has another version each time
        bob = await self.started("bob")
        self.alice, browser = await self.page("alice")
        return bob, browser

    def put(self, name: str, data: bytes) -> bytes:
        path = self.shared / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return data


class FileTests(RemoteFilesTestCase):
    """`GET /api/v1/file/PEER/PATH`."""

    async def test_file(self) -> None:
        """A file comes whole or in ranges, with a tag for its version; a range begins and ends anywhere."""
        data = self.put("film.mp4", random.Random(1).randbytes(3 * BLOCK_SIZE + 777))
        _, browser = await self.browsing()
        url = f"{FILE}/bob/stuff/film.mp4"
        told = await browser.ask("GET", url)
        self.assertEqual((told.status, told.headers["content-type"]), (200, "video/mp4"))
        self.assertEqual(told.body, data)
        tag, size = told.headers["etag"], len(data)
        for text, first, stop in (
            ("0-", 0, size),
            ("0-0", 0, 1),
            (f"{BLOCK_SIZE - 9}-{BLOCK_SIZE + 9}", BLOCK_SIZE - 9, BLOCK_SIZE + 10),
            (f"{2 * BLOCK_SIZE + 5}-", 2 * BLOCK_SIZE + 5, size),
            (f"{size - 1}-{size + 99}", size - 1, size),
            ("-800", size - 800, size),
        ):
            told = await browser.ask("GET", url, Range=f"bytes={text}", If_Range=tag)
            self.assertEqual(told.status, 206, text)
            self.assertEqual(told.body, data[first:stop], text)
            self.assertEqual(told.headers["content-range"], f"bytes {first}-{stop - 1}/{size}")
        told = await browser.ask("GET", url, Range=f"bytes={size}-")
        self.assertEqual((told.status, told.headers["content-range"]), (416, f"bytes */{size}"))
        told = await browser.ask("GET", url, Range="bytes=0-1", If_Range='"other"')
        self.assertEqual((told.status, told.body), (200, data))
        told = await browser.ask("GET", url, If_None_Match=tag)
        self.assertEqual((told.status, told.body), (304, b""))
        told = await browser.ask("HEAD", url)
        self.assertEqual((told.status, told.headers["content-length"]), (200, str(size)))
        self.put("empty.txt", b"")
        told = await browser.ask("GET", f"{FILE}/bob/stuff/empty.txt")
        self.assertEqual((told.status, told.body), (200, b""))

    async def test_harmless(self) -> None:
        """Threat 120: what could run is source or a download, in a sandbox, whatever the URL and the content say."""
        script = self.put("x.html", b"<script>alert(1)</script>")
        self.put("x.svg", script)
        self.put("x.pdf", script)
        self.put("x.jpg", script)
        _, browser = await self.browsing()
        for name, media, kind in (
            ("x.html", "text/plain; charset=utf-8", "inline"),
            ("x.svg", "text/plain; charset=utf-8", "inline"),
            ("x.pdf", "application/octet-stream", "attachment"),
            ("x.jpg", "image/jpeg", "inline"),
        ):
            told = await browser.ask("GET", f"{FILE}/bob/stuff/{name}")
            self.assert_harmless(told)
            self.assertEqual(told.headers["content-type"], media)
            self.assertTrue(told.headers["content-disposition"].startswith(f"{kind};"))
            told = await browser.ask("GET", f"{FILE}/bob/stuff/{name}?download=1")
            self.assertEqual(told.headers["content-type"], "application/octet-stream")
            self.assertTrue(told.headers["content-disposition"].startswith("attachment;"))
        told = await browser.ask("GET", f"{PREVIEW}/bob/stuff/x.jpg?edge=64")
        self.assertEqual((told.status, told.word), (404, "not-found"))

    def assert_harmless(self, told: Told) -> None:
        policy = told.headers["content-security-policy"]
        self.assertTrue(policy.startswith("sandbox; default-src 'none';"), policy)
        self.assertEqual(told.headers["x-content-type-options"], "nosniff")
        self.assertEqual(told.headers["cross-origin-resource-policy"], "same-origin")

    def test_names(self) -> None:
        """Threat 121: no name breaks out of its header; it is made harmless, and kept otherwise (RFC 8187)."""
        for name, expected in (
            ("a b.txt", "inline; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"),
            ("é.txt", "inline; filename=\"_.txt\"; filename*=UTF-8''%C3%A9.txt"),
            ('"; x="\r\nA: b', None),
            ("..", None),
            ("-rf\u202etxt.exe", None),
        ):
            found = disposition(name, is_shown=True).decode("ascii")
            if expected is not None:
                self.assertEqual(found, expected)
            self.assertNotRegex(found, r"[\r\n]")
            self.assertEqual(found.count('"'), 2)
            self.assertNotIn("%E2%80%AE", found)
        self.assertRegex(entity_tag('"\r\nx: y\ud800').decode(), r'^"[0-9a-f]{32}"$')

    async def test_errors(self) -> None:
        """What is not there is said as a problem; a request that names no file is malformed."""
        _, browser = await self.browsing()
        for path, status in (
            ("/bob/stuff/nothing.txt", 404),
            ("/bob/stuff", 409),
            ("/nobody/stuff/x.txt", 404),
            ("/bob", 400),
            ("/", 400),
            ("/b%20b/x", 400),
            ("/bob/../x", 400),
            ("/bob/a%2fb", 400),
        ):
            told = await browser.ask("GET", FILE + path)
            self.assertEqual(told.status, status, path)
            self.assertEqual(told.headers["content-type"], "application/problem+json")
        browser.cookie = ""
        for path in (
            FILE + "/bob/stuff/x",
            PREVIEW + "/bob/stuff/x?edge=64",
            ARCHIVE + "/bob?path=x",
        ):
            self.assertEqual((await browser.ask("GET", path)).status, 401)

    async def test_leaving(self) -> None:
        """Threat 124: a browser that leaves cancels the transfer; one that does not read gets some blocks ahead."""
        self.put("film.mp4", bytes(40 * BLOCK_SIZE))
        bob, browser = await self.browsing()
        connection = await browser.send(browser.head("GET", f"{FILE}/bob/stuff/film.mp4"))
        connection.transport.pauseProducing()
        browsing, sharer = self.alice._browsing, bob._sessions
        assert browsing is not None and sharer is not None

        def sent() -> int:
            return int(sum(each["bytes"] for each in sharer.uploads.status()))

        await self.until(lambda: sent() >= 4 * BLOCK_SIZE)
        before = -1
        while before != sent():  # until nothing comes any more
            before = sent()
            await deferLater(self.real_reactor, 0.2, lambda: None)
        self.assertLess(sent(), 30 * BLOCK_SIZE)
        self.assertEqual(browsing.readings.count, 1)
        connection.transport.abortConnection()
        await self.until(lambda: not browsing.readings.count)


class PreviewTests(RemoteFilesTestCase):
    """`GET /api/v1/preview/PEER/PATH`."""

    async def test_preview(self) -> None:
        """A preview is a small JPEG without metadata, which browsers keep for good under the version of its picture."""
        picture = Image.new("RGB", (900, 600), "teal")
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "at home"
        picture.save(self.shared / "cat.jpg", exif=exif)
        _, browser = await self.browsing()
        listed = await browser.do("list", name="bob", path="stuff")
        (entry,) = listed.fields["entries"]
        url = f"{PREVIEW}/bob/stuff/cat.jpg?edge=256&v={entry['version']}"
        told = await browser.ask("GET", url)
        self.assertEqual((told.status, told.headers["content-type"]), (200, "image/jpeg"))
        self.assertIn("immutable", told.headers["cache-control"])
        self.assertTrue(told.headers["content-security-policy"].startswith("sandbox;"))
        with Image.open(io.BytesIO(told.body)) as preview:
            self.assertEqual((preview.format, preview.size), ("JPEG", (171, 256)), "it is upright")
        self.assertNotIn(b"home", told.body)
        again = await browser.ask("GET", url, If_None_Match=told.headers["etag"])
        self.assertEqual(again.status, 304)
        other = await browser.ask("GET", f"{PREVIEW}/bob/stuff/cat.jpg?edge=64&v=before")
        self.assertEqual((other.status, other.headers["cache-control"]), (200, "private, no-cache"))
        self.assertEqual(
            (await browser.ask("GET", f"{PREVIEW}/bob/stuff/cat.jpg?edge=65")).status, 400
        )
        self.assertEqual(
            (await browser.ask("GET", f"{PREVIEW}/bob/stuff/dog.jpg?edge=64")).status, 404
        )


class ArchiveTests(RemoteFilesTestCase):
    """`GET /api/v1/archive/PEER`."""

    async def test_zip(self) -> None:
        """Threat 121: files and folders come as one zip, with harmless names; a text says what is left out."""
        large = self.put("trip/film.mp4", random.Random(2).randbytes(2 * BLOCK_SIZE + 5))
        self.put("trip/a\\..\\b.txt", b"backslash")
        self.put("trip/day 1/note.txt", b"hello")
        self.put("other/note.txt", b"")
        self.put("note.txt", b"top")
        (self.shared / "trip" / "empty").mkdir()
        (self.shared / "trip" / "dangling").symlink_to("nowhere")
        _, browser = await self.browsing()
        paths = ("stuff/trip", "stuff/note.txt", "stuff/other/note.txt", "stuff/gone.txt")
        query = "&".join(f"path={each}" for each in paths)
        told = await browser.ask("GET", f"{ARCHIVE}/bob?{query}")
        self.assertEqual((told.status, told.headers["content-type"]), (200, "application/zip"))
        self.assertIn('filename="stuff.zip"', told.headers["content-disposition"])
        with zipfile.ZipFile(io.BytesIO(told.body)) as found:
            self.assertIsNone(found.testzip())
            self.assertEqual(
                found.namelist(),
                [
                    "trip/", "trip/a_.._b.txt", "trip/day 1/", "trip/day 1/note.txt", "trip/empty/",
                    "trip/film.mp4", "note.txt", "note (2).txt", LEFT_OUT,
                ],
            )  # fmt: skip
            self.assertEqual(found.read("trip/film.mp4"), large)
            self.assertEqual(found.read("trip/day 1/note.txt"), b"hello")
            left_out = found.read(LEFT_OUT).decode()
        self.assertIn("stuff/trip/dangling", left_out)
        self.assertIn("stuff/gone.txt", left_out)
        told = await browser.ask("GET", f"{ARCHIVE}/bob?path=stuff/gone.txt")
        self.assertEqual(told.status, 404)
        self.assertEqual((await browser.ask("GET", f"{ARCHIVE}/bob")).status, 400)
        self.assertEqual((await browser.ask("HEAD", f"{ARCHIVE}/bob?path=stuff")).status, 200)

    async def test_broken(self) -> None:
        """A file that breaks off in its middle ends the zip so that a browser sees a failed download."""
        self.put("film.mp4", bytes(60 * BLOCK_SIZE))
        _, browser = await self.browsing()
        connection = await browser.send(browser.head("GET", f"{ARCHIVE}/bob?path=stuff/film.mp4"))
        await self.until(lambda: len(connection.received) > BLOCK_SIZE)
        connection.transport.pauseProducing()
        self.put("film.mp4", b"changed")
        connection.transport.resumeProducing()
        await connection.ended
        self.assertFalse(connection.received.endswith(b"0\r\n\r\n"))
