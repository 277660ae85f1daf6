"""The server of the peer's page: assets, sessions, actions and events."""

from __future__ import annotations

import gzip

from tests.peer.page.page_case import PageTestCase


class PageTests(PageTestCase):
    """A page that is used as it should be."""

    async def test_files(self) -> None:
        """The page leads to its files, which browsers keep for good, and which are compressed."""
        _, browser = await self.page()
        browser.cookie = ""  # files are for everybody
        page = await browser.ask("GET", "/")
        self.assertEqual((page.status, page.headers["cache-control"]), (200, "no-cache"))
        self.assertIn("frame-ancestors 'none'", page.headers["content-security-policy"])
        again = await browser.ask("GET", "/", If_None_Match=page.headers["etag"])
        self.assertEqual((again.status, again.body), (304, b""))
        path = page.body.decode().partition('href="assets/')[2].partition('"')[0]
        plain = await browser.ask("GET", f"/assets/{path}")
        self.assertEqual(plain.status, 200, path)
        self.assertIn("immutable", plain.headers["cache-control"])
        packed = await browser.ask("GET", f"/assets/{path}", Accept_Encoding="br, gzip")
        if "content-encoding" in packed.headers:
            self.assertEqual(gzip.decompress(packed.body), plain.body)
        for missing in ("/assets/0/app.js", "/assets/", "/nothing"):
            self.assertIn((await browser.ask("GET", missing)).status, (401, 404))

    async def test_actions(self) -> None:
        """The page does what verbs do: replies have the same fields, errors the same class and sentence."""
        peer, browser = await self.page()
        told = await browser.do("status")
        self.assertEqual((told.status, told.fields["name"]), (200, "alice"))
        self.assertNotIn("ok", told.fields)
        told = await browser.do("share_remove", name="nothing")
        self.assertEqual(
            (told.status, told.headers["content-type"]), (404, "application/problem+json")
        )
        self.assertEqual((told.fields["error"], told.fields["exit_code"]), ("NoSuchShare", 4))
        for action in ("release", "rotate", "follow", "nonsense"):
            self.assertIn((await browser.do(action)).status, (403, 404), action)
        self.assertTrue(peer.running)

    async def test_events(self) -> None:
        """The stream begins with `hello`, and has what the peer publishes."""
        peer, browser = await self.page()
        stream = await browser.follow()
        await self.until(lambda: bool(stream.events))
        kind, hello = stream.events[0]
        self.assertEqual((kind, hello["name"], hello["control"]), ("hello", "alice", 1))
        peer.events.publish("person", name="x\ny", removed=True)
        await self.until(lambda: len(stream.events) > 1)
        self.assertEqual(stream.events[1], ("person", {"name": "x\ny", "removed": True}))
        stream.close()

    async def test_session(self) -> None:
        """A session survives a restart of the peer, which has the same port again, and ends when its user signs out."""
        peer, browser = await self.page()
        told = await browser.ask("GET", "/api/v1/session")
        self.assertEqual((told.status, told.fields["csrf"]), (200, browser.csrf))
        await peer.stopService()
        await self.started("alice")
        again = await browser.ask("GET", "/api/v1/session")
        self.assertEqual(again.status, 200)
        self.assertNotEqual(again.fields["boot"], told.fields["boot"])
        stream = await browser.follow()
        await self.until(lambda: bool(stream.events))
        self.assertEqual((await browser.ask("DELETE", "/api/v1/session")).status, 200)
        await self.until(lambda: stream.connection.ended.called)
        self.assertEqual((await browser.ask("GET", "/api/v1/session")).status, 401)
