"""The files of the page, and the headers of their replies."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from p2pshare.names import RESERVED, is_name
from p2pshare.registry.api.event_streams import StreamLimits
from p2pshare.registry.api.page import ASKING, FILES, POLICY, PageRoutes
from p2pshare.testing.memory_store import MemoryNameStore
from p2pshare.web.assets import TYPES
from p2pshare.web.client_addresses import Origins
from p2pshare.web.exchange import Query, Reply
from tests.registry.connections import HOST, Client, SiteTestCase, make_routes

FOLDER = files("p2pshare.registry").joinpath("page")
DESIGN = files("p2pshare.web").joinpath("assets", "design.css")


class PageTests(SynchronousTestCase):
    """The replies."""

    def setUp(self) -> None:
        self.table = PageRoutes().table()

    def ask(self, path: bytes, *known: str) -> Reply:
        headers = Headers({"If-None-Match": list(known)} if known else {})
        answer: Any = self.table[path].methods[b"GET"]
        reply: Reply = answer(Query(b"GET", path, b"", "10.0.0.1", headers=headers))
        return reply

    def content(self, path: bytes) -> bytes:
        source = self.ask(path).source
        assert source is not None
        return self.successResultOf(source.read(0, source.length))

    def test_files(self) -> None:
        """Every file has its type, and headers that forbid what the page does not need."""
        self.assertEqual(set(self.table), set(FILES))
        for path in self.table:
            reply, headers = self.ask(path), dict(self.ask(path).headers)
            kind = TYPES[PurePosixPath(FILES[path]).suffix]
            self.assertEqual((reply.status, reply.content_type), (200, kind))
            self.assertEqual(headers[b"Content-Security-Policy"], POLICY)
            self.assertEqual(headers[b"X-Content-Type-Options"], b"nosniff")
            self.assertEqual(headers[b"Referrer-Policy"], b"no-referrer")
            self.assertNotIn(b"Cross-Origin-Opener-Policy", headers)
            answer: Any = self.table[path].methods[b"GET"]
            secure = answer(Query(b"GET", path, b"", "10.0.0.1", is_secure=True))
            self.assertIn((b"Cross-Origin-Opener-Policy", b"same-origin"), secure.headers)
        self.table = PageRoutes(origins=Origins(["10.0.0.1"])).table()
        answer = self.table[b""].methods[b"GET"]
        proto = Headers({"X-Forwarded-Proto": ["https"]})
        secure = answer(Query(b"GET", b"", b"", "10.0.0.1", headers=proto))
        self.assertIn((b"Cross-Origin-Opener-Policy", b"same-origin"), secure.headers)
        self.assertTrue(self.content(b"").startswith(b"<!doctype html>"))

    def test_download(self) -> None:
        """The page links to the operator's download URL, escaped; without one it tells whom to ask."""
        self.assertIn(ASKING, self.content(b""))
        url = 'https://example.org/p2pshare?a=1&b="><script>'
        self.table = PageRoutes(url).table()
        page = self.content(b"")
        self.assertNotIn(ASKING, page)
        self.assertIn(
            b'href="https://example.org/p2pshare?a=1&amp;b=&quot;&gt;&lt;script&gt;"', page
        )

    def test_policy(self) -> None:
        """The policy allows nothing inline, no other origin and no frame."""
        directives = dict(each.split(" ", 1) for each in POLICY.decode().split("; "))
        self.assertEqual(directives["default-src"], "'none'")
        self.assertEqual(directives["frame-ancestors"], "'none'")
        for fetched in ("script-src", "style-src", "connect-src", "img-src"):
            self.assertEqual(directives[fetched], "'self'")

    def test_unchanged(self) -> None:
        """A client with the current version of a file gets 304; a client with another one gets the file."""
        for path in FILES:
            tag = dict(self.ask(path).headers)[b"ETag"].decode()
            for known in (tag, f"W/{tag}", f'"old", {tag}', "*"):
                reply = self.ask(path, known)
                self.assertEqual((reply.status, reply.source), (304, None), known)
                self.assertEqual(dict(reply.headers)[b"ETag"].decode(), tag)
            for other in ('"old"', tag.strip('"'), ""):
                self.assertEqual(self.ask(path, other).status, 200, other)

    def test_no_markup_is_made(self) -> None:
        """Threat: a name that is markup. The page's script never creates markup from text."""
        script = FOLDER.joinpath("page.js").read_text()
        self.assertIn("textContent", script)
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            self.assertNotIn(word, script)

    def test_numbers(self) -> None:
        """The script has the rules for names and the interval of `alive` events of the registry."""
        script = FOLDER.joinpath("page.js").read_text()
        (silence,) = re.findall(r"const SILENCE_MS = (\d+);", script)
        self.assertGreater(int(silence), 1.2 * 1000 * StreamLimits().keep_alive)
        (reserved,) = re.findall(r"const RESERVED = (.*);", script)
        self.assertEqual(json.loads(reserved), sorted(RESERVED))
        (legal,) = re.findall(r"const NAME = /(.*)/;", script)
        for name in ("a", "a.b", "a-1_b", "x" * 32, "x" * 33, "bob-", ".bob", "Bob", "a b", ""):
            self.assertEqual(re.search(legal, name) is not None, is_name(name), name)

    def test_nothing_from_elsewhere(self) -> None:
        """No file refers to another machine, and the markup has no inline style or script."""
        for name in FILES.values():
            text = files("p2pshare").joinpath(*name.split("/")).read_text()
            text = text.replace("http://www.w3.org/2000/svg", "")
            self.assertNotRegex(text, r"(?i)(https?:)?//[a-z0-9-]+\.[a-z]{2,}")
        markup = FOLDER.joinpath("page.html").read_text()
        self.assertNotRegex(markup, r"\s(style|on[a-z]+)=|<style|<script(?! src=)")
        self.assertIn("<noscript>", markup)


class ContrastTests(SynchronousTestCase):
    """The contrast of the colours."""

    def test_contrast(self) -> None:
        """Text has a contrast of at least 4.5 and borders one of 3, light and dark (WCAG 2.2, AA)."""
        light, dark = schemes(DESIGN.read_text())
        for colours in (light, dark):
            for ground in ("ground", "surface", "raised", "hover"):
                for text in ("text", "quiet", "accent", "online", "amber", "red"):
                    self.assertGreaterEqual(contrast(colours[text], colours[ground]), 4.5, text)
            for text in ("accent", "online", "amber", "red"):
                self.assertGreaterEqual(contrast(colours[text], colours[f"{text}-soft"]), 4.5, text)
            for ground in ("accent", "accent-strong"):
                self.assertGreaterEqual(contrast(colours["on-accent"], colours[ground]), 4.5)
            self.assertGreaterEqual(contrast(colours["on-red"], colours["red"]), 4.5)
            self.assertGreaterEqual(contrast(colours["edge"], colours["surface"]), 3.0)

    def test_shared_colours(self) -> None:
        """The page has no colours and no sides of its own: it looks like the peer's page, in any direction of text."""
        own = FOLDER.joinpath("page.css").read_text()
        self.assertNotRegex(own, r"#[0-9a-f]{3,8}\b|light-dark|rgb")
        self.assertNotRegex(
            own, r"(?m)(?:^|[ {;])(?:left|right|width|height|(?:margin|padding)-(?:left|right))\s*:"
        )

    def test_measure(self) -> None:
        """The contrast is calculated as in the standard."""
        self.assertAlmostEqual(contrast("#000000", "#ffffff"), 21.0)
        self.assertAlmostEqual(contrast("#767676", "#ffffff"), 4.54, 2)


def schemes(css: str) -> list[dict[str, str]]:
    """Return the colours of the light and of the dark scheme."""
    pairs = re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", css)
    return [{name: colours[place] for name, *colours in pairs} for place in (0, 1)]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """WCAG 2.2, "relative luminance"."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


class ServedTests(SiteTestCase):
    """The page over HTTP."""

    def setUp(self) -> None:
        super().setUp()
        routes = make_routes(MemoryNameStore(Clock()), Clock())
        routes.table.update(PageRoutes().table())
        self.site = self.make_site(routes)

    def test_methods(self) -> None:
        """GET returns the page, HEAD its head, and other methods and paths are rejected."""
        for request, status in (
            (b"GET /", 200),
            (b"GET /?x", 200),
            (b"POST /", 405),
            (b"GET /x", 404),
        ):
            self.assertEqual(self.one(request + b" HTTP/1.1\r\n" + HOST)[0], status, request)
        answer = Client(self.site).send(b"HEAD / HTTP/1.1\r\n" + HOST)
        self.assertTrue(answer.endswith(b"\r\n\r\n"))

    def test_unchanged(self) -> None:
        """A 304 has no length, and the connection stays open."""
        client = Client(self.site)
        answer = client.send(b"GET /page.js HTTP/1.1\r\nIf-None-Match: *\r\n" + HOST)
        self.assertTrue(answer.startswith(b"HTTP/1.1 304 "))
        self.assertNotIn(b"Content-Length", answer)
        self.assertTrue(client.send(b"GET / HTTP/1.1\r\n" + HOST).startswith(b"HTTP/1.1 200 "))
