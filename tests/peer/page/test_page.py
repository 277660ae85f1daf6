"""The server of the peer's page: assets, sessions, actions and events."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.tcp import Port
from twisted.logger import capturedLogs

from p2pshare.errors import P2pshareError
from p2pshare.peer import control
from p2pshare.peer import service as peer_service
from p2pshare.peer.control import REPLY_MAX, Fields
from p2pshare.peer.page import api, events
from p2pshare.peer.page import service as page_service
from p2pshare.peer.parts import parts_of
from p2pshare.storage.identity.page_sessions import FILE_NAME
from p2pshare.web.exchange import Route
from tests.peer.page.page_case import HOST, PageTestCase


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
        for action in (
            "people",
            "settings",
            "health",
            "jobs",
            "traffic",
            "offers",
            "inbox",
            "shares",
        ):
            self.assertEqual((await browser.do(action)).status, 200, action)
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

    async def test_restart(self) -> None:
        """The page opens again with the peer only if it has sessions; at another port if its own is taken."""
        peer, browser = await self.page()
        await browser.ask("DELETE", "/api/v1/session")
        await peer.stopService()
        peer = await self.started("alice")
        self.assertEqual(self.listening_on(browser.port), [])
        browser = await self.browser()
        await peer.stopService()
        other = self.real_reactor.listenTCP(browser.port, Factory(), interface=HOST)
        self.addCleanup(other.stopListening)
        peer = await self.started("alice")
        port = urlsplit(await self.link()).port or 0
        self.assertNotEqual(port, browser.port)
        browser.port = port
        self.assertEqual((await browser.ask("GET", "/api/v1/session")).status, 200)

    async def test_no_port(self) -> None:
        """A page that finds no port is an error for the one who wants it, and can be opened later."""
        await self.started("alice")
        real = self.real_reactor.listenTCP

        def refuse(*_arguments: object, **_options: object) -> None:
            raise CannotListenError("127.0.0.1", 1, OSError(98, "in use"))

        self.patch(self.real_reactor, "listenTCP", refuse)
        with self.assertRaises(P2pshareError) as raised:
            await self.link()
        self.assertIn("The page cannot start", str(raised.exception))
        self.patch(self.real_reactor, "listenTCP", real)
        await self.browser()

    def listening_on(self, number: int) -> list[Port]:
        """Return what this process listens with on a TCP port; another process may have it meanwhile."""
        readers = [each for each in self.real_reactor.getReaders() if isinstance(each, Port)]
        return [each for each in readers if getattr(each.getHost(), "port", 0) == number]

    async def test_old_sessions(self) -> None:
        """The page does not open again for sessions that are too old."""
        peer, browser = await self.page()
        self.assertEqual(len(self.listening_on(browser.port)), 1)
        await peer.stopService()
        path = self.data_of("alice") / FILE_NAME
        kept = json.loads(path.read_text())
        self.assertTrue(kept["open"])
        path.write_text(json.dumps({**kept, "sessions": dict.fromkeys(kept["sessions"], 1)}))
        await self.started("alice")
        self.assertEqual(self.listening_on(browser.port), [])

    async def test_ending(self) -> None:
        """A page that is being opened while the peer ends is not opened any more."""
        before = self.open_ports()
        peer = await self.started("alice")
        opening = Deferred.fromCoroutine(self.link())
        opening.addErrback(lambda failure: failure.trap(P2pshareError) and None)
        await peer.stopService()
        await opening
        await deferLater(self.real_reactor, 0.05)
        self.assertEqual(self.open_ports(), before)

    def open_ports(self) -> int:
        """Return the number of TCP ports on which this process listens."""
        return sum(isinstance(each, Port) for each in self.real_reactor.getReaders())

    async def test_bounds(self) -> None:
        """An action of the page has the bounds of the control socket: the time, and the length of a reply."""
        self.add_actions(slow=Deferred, long=lambda: succeed({"name": "x" * REPLY_MAX}))
        _, browser = await self.page()
        self.patch(control, "ANSWER_TIMEOUT", 0.2)
        for action, reason in (("slow", "took too long"), ("long", "too long")):
            told = await browser.do(action)
            self.assertEqual((told.status, told.fields["error"]), (403, "ControlRefused"))
            self.assertIn(reason, told.fields["detail"])

    async def test_leaving(self) -> None:
        """An action goes on if its browser leaves before the reply, as one of the control socket does."""
        begun, done = Deferred[None](), list[Fields]()

        async def answer() -> Fields:
            begun.callback(None)
            await deferLater(self.real_reactor, 0.05)
            done.append({"name": "alice"})
            return done[0]

        self.add_actions(slow=lambda: Deferred.fromCoroutine(answer()))
        _, browser = await self.page()
        connection = await browser.send(browser.head("POST", "/api/v1/do/slow", 2) + b"{}")
        await begun
        connection.transport.abortConnection()
        await self.until(lambda: bool(done))

    def add_actions(self, **actions: Callable[[], Deferred[Fields]]) -> None:
        """Let later peers have these actions, too."""
        self.patch(peer_service, "parts_of", lambda peer: (*parts_of(peer), MoreActions(actions)))

    async def test_alive(self) -> None:
        """A stream without events tells each 15 s that it is alive."""
        peer, browser = await self.page()
        self.patch(events, "ALIVE_INTERVAL", 0.05)
        stream = await browser.follow()
        await self.until(lambda: stream.events[-2:] == [("alive", {}), ("alive", {})])
        stream.close()
        self.assertTrue(peer.running)

    async def test_users_unknown(self) -> None:
        """Where the system does not tell who connects, the log says that other users can (threat 111)."""
        for tells in (True, False):
            self.patch(page_service, "is_told", lambda tells=tells: tells)
            with capturedLogs() as entries:
                peer, _ = await self.page()
            said = [str(each.get("log_format")) for each in entries]
            is_said = any(each.startswith("page open to other users") for each in said)
            self.assertEqual(is_said, not tells)
            await peer.stopService()

    async def test_defect(self) -> None:
        """A defect of a route is a problem for the browser, and an entry in the log."""
        _, browser = await self.page()
        self.patch(api, "csrf_token", lambda secret: 1 / 0)
        told = await browser.ask("GET", "/api/v1/session")
        self.assertEqual((told.status, told.word), (500, "internal"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class MoreActions:
    """A part with actions of a test."""

    def __init__(self, actions: Mapping[str, Callable[[], Deferred[Fields]]]) -> None:
        async def perform(answer: Callable[[], Deferred[Fields]], _request: Fields) -> Fields:
            return await answer()

        self.actions = {do: partial(perform, answer) for do, answer in actions.items()}

    def table(self) -> dict[bytes, Route]:
        """Return no routes."""
        return {}

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""
