"""Static files that are addressed by one hash."""

from __future__ import annotations

import gzip
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from p2pshare.web import assets
from p2pshare.web.assets import Assets
from p2pshare.web.exchange import Query, Reply

SCRIPT = b"export const answer = 42;\n" * 100


class AssetsTests(SynchronousTestCase):
    """Files in two folders."""

    def setUp(self) -> None:
        self.folders = [Path(self.mktemp()), Path(self.mktemp())]
        for folder in self.folders:
            (folder / "lib").mkdir(parents=True)
        first, second = self.folders
        (first / "index.html").write_bytes(b'<script src="{{assets}}/lib/app.js"></script>')
        (first / "lib" / "app.js").write_bytes(SCRIPT)
        (first / "look.css").write_bytes(b"a {}")
        (second / "look.css").write_bytes(b"b {}")
        (second / "LICENSE").write_bytes(b"free")
        (second / "notes.bak").write_bytes(b"secret")
        (second / ".hidden.js").write_bytes(b"secret")

    def ask(self, served: Assets, path: str, **headers: str) -> Reply:
        """Return the reply to a request."""
        given = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
        query = Query(b"GET", path.encode(), b"", "127.0.0.1", headers=given)
        return served.file(query) if path else served.index(query)

    def content(self, reply: Reply) -> bytes:
        """Return the body of a reply."""
        assert reply.source is not None
        return self.successResultOf(reply.source.read(0, reply.source.length))

    def test_tree(self) -> None:
        """The folders are one tree, in which the later one counts; other files and hidden ones are not served."""
        served = Assets(self.folders)
        for path, content, kind in (
            ("lib/app.js", SCRIPT, b"text/javascript; charset=utf-8"),
            ("look.css", b"b {}", b"text/css; charset=utf-8"),
            ("LICENSE", b"free", b"text/plain; charset=utf-8"),
        ):
            reply = self.ask(served, f"{served.folder}/{path}")
            self.assertEqual((self.content(reply), reply.content_type), (content, kind))
            self.assertIn(b"immutable", dict(reply.headers)[b"Cache-Control"])
        for path in (
            "notes.bak",
            ".hidden.js",
            "index.html",
            "lib",
            "lib/",
            "../x",
            "%2e%2e/x",
            "",
        ):
            self.assertEqual(self.ask(served, f"{served.folder}/{path}").status, 404, path)

    def test_hash(self) -> None:
        """The page leads to the hash, which changes with any file; files of another version do not exist."""
        served = Assets(self.folders)
        page = self.ask(served, "")
        self.assertIn(f'"{served.folder}/lib/app.js"'.encode(), self.content(page))
        self.assertEqual(dict(page.headers)[b"Cache-Control"], b"no-cache")
        self.assertEqual(Assets(self.folders).hash, served.hash)
        (self.folders[1] / "look.css").write_bytes(b"c {}")
        again = Assets(self.folders)
        self.assertNotEqual(again.hash, served.hash)
        self.assertEqual(self.ask(again, f"{served.folder}/lib/app.js").status, 404)
        tag = dict(page.headers)[b"ETag"].decode()
        self.assertEqual(self.ask(served, "", If_None_Match=tag).status, 304)
        self.assertEqual(self.ask(again, "", If_None_Match=tag).status, 200)

    def test_gzip(self) -> None:
        """A client that takes it gets the compressed variant, if that is shorter."""
        served = Assets(self.folders)
        path = f"{served.folder}/lib/app.js"
        for accepted in ("gzip", "br, GZIP;q=0.5", "*"):
            reply = self.ask(served, path, Accept_Encoding=accepted)
            self.assertEqual(dict(reply.headers)[b"Content-Encoding"], b"gzip", accepted)
            self.assertEqual(gzip.decompress(self.content(reply)), SCRIPT)
        for refused in ("", "br", "gzip;q=0", "gzip; q=0.0"):
            reply = self.ask(served, path, Accept_Encoding=refused)
            self.assertNotIn(b"Content-Encoding", dict(reply.headers), refused)
        short = self.ask(served, f"{served.folder}/look.css", Accept_Encoding="gzip")
        self.assertNotIn(b"Content-Encoding", dict(short.headers))
        for reply in (short, self.ask(served, path)):
            self.assertEqual(dict(reply.headers)[b"Vary"], b"Accept-Encoding")

    def test_bounds(self) -> None:
        """Too many bytes are an error of the package, and so is a missing page."""
        self.patch(assets, "BYTES_MAX", 100)
        self.assertRaises(ValueError, Assets, self.folders)
        self.assertRaises(ValueError, Assets, self.folders[1:])
