"""Attacks on the peer's page: by other web pages, other programs and users of this machine, and other machines."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from p2pshare.errors import P2pshareError, SettingsUnreadable, WrongUsage
from p2pshare.net.socket_owner import UNKNOWN, is_told
from p2pshare.peer.page import service as page_service
from p2pshare.peer.page.access import Access
from p2pshare.peer.page.events import STREAMS_MAX
from p2pshare.peer.page.replies import PageError
from p2pshare.peer.page.service import LIMITS
from p2pshare.peer.page.sessions import (
    SESSION_AGE,
    TOKEN_AGE,
    TOKENS_MAX,
    WRONG_MAX,
    WRONG_PER_CLIENT_MAX,
    WRONG_PERIOD,
    Sessions,
)
from p2pshare.storage.identity.page_sessions import FILE_NAME, SESSIONS_MAX
from p2pshare.storage.settings import Settings
from p2pshare.web.exchange import Query
from tests.peer.page.page_case import HOST, Browser, PageTestCase
from tests.registry.certificates import write_certificate

NOBODY = 65534  # the ID of a user that owns nothing
PASSWORD = "correct horse battery"
EVIL = "http://evil.example"
READS = ("/", "/api/v1/session", "/api/v1/events", "/api/v1/file/bob/x", "/nothing")


class WebPageTests(PageTestCase):
    """Other web pages in the user's browser, which sends our cookie with what they ask for."""

    async def test_rebinding(self) -> None:
        """Threat 101: a page whose own name leads to 127.0.0.1 reaches nothing, not even the files."""
        _, browser = await self.page()
        port = browser.port
        for host in (
            *("evil.example", f"evil.example:{port}", f"localhost.evil.example:{port}"),
            *(f"127.0.0.1.evil.example:{port}", f"2130706433:{port}", f"0x7f.1:{port}"),
            *(f"192.0.2.1:{port}", f"0.0.0.0:{port}", f"127.0.0.1:{port}:{port}", "127.0.0.1:x"),
            *(f"::1:{port}", f"[127.0.0.1]:{port}", f"localhost.:{port}", "", "[", "]:1"),
        ):
            for path in READS:
                told = await browser.ask("GET", path, Host=host, Sec_Fetch_Site=None)
                self.assertEqual((told.status, told.word), (403, "forbidden"), (host, path))
        for host in (f"127.0.0.1:{port}", f"[::1]:{port}"):
            self.assertEqual((await browser.ask("GET", "/api/v1/session", Host=host)).status, 200)

    async def test_localhost(self) -> None:
        """Threat 101: a name that has another address too, where another user may serve, leads to ours, and no more."""
        _, browser = await self.page()
        port = browser.port
        for host in (f"localhost:{port}", f"LOCALHOST:{port}"):
            told = await browser.ask("GET", "/", Host=host)
            self.assertEqual((told.status, told.body), (307, b""))
            self.assertEqual(told.headers["location"], f"http://127.0.0.1:{port}/")
            self.assertEqual(told.headers["x-frame-options"], "DENY")
            for path in READS[1:]:
                self.assertEqual((await browser.ask("GET", path, Host=host)).status, 403, path)
            told = await browser.ask("POST", "/api/v1/session", {"token": "x"}, Host=host)
            self.assertEqual(told.status, 403)
        self.assertEqual((await browser.ask("GET", "/", Host="localhost:x")).status, 403)

    async def test_forgery(self) -> None:
        """Threat 102: a page of another origin, also of another port of this host, can change nothing."""
        peer, browser = await self.page()
        own = f"http://127.0.0.1:{browser.port}"
        changes: tuple[dict[str, str | None], ...] = (
            {"Origin": EVIL, "Sec_Fetch_Site": "cross-site"},
            {"Origin": EVIL, "Sec_Fetch_Site": None},
            {"Origin": "null", "Sec_Fetch_Site": None},
            {"Origin": "http://127.0.0.1:1", "Sec_Fetch_Site": "same-site"},
            {"Origin": own.replace("http", "https")},
            {"Origin": None, "Sec_Fetch_Site": "same-site"},
            {"X_CSRF_Token": None},
            {"X_CSRF_Token": ""},
            {"X_CSRF_Token": "0" * 64},
            {"X_CSRF_Token": browser.csrf[:-1]},
        )
        for change in changes:
            for method, path in (
                *(("POST", "/api/v1/do/stop"), ("POST", "/api/v1/do/share_add")),
                *(("DELETE", "/api/v1/session"), ("PUT", "/api/v1/draft/a/b")),
            ):
                told = await browser.ask(method, path, {"path": "/"}, **change)
                self.assertEqual((told.status, told.word), (403, "forbidden"), (change, path))
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            None,
        ):
            told = await browser.ask("POST", "/api/v1/do/stop", {}, Content_Type=kind)
            self.assertEqual((told.status, told.word), (415, "wrong-content-type"))
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
            told = await browser.ask(method, "/api/v1/do/stop", {})
            self.assertEqual(told.status, 405, method)
        self.assertTrue(peer.running)
        self.assertEqual((await browser.ask("GET", "/api/v1/session")).status, 200)

    async def test_reading(self) -> None:
        """Threat 103: a page of another origin gets nothing by `<img>`, `<script>`, `<link>`, `fetch` or a frame."""
        _, browser = await self.page()
        for site in ("cross-site", "same-site"):
            for mode, kind in (
                *(
                    ("no-cors", "image"),
                    ("no-cors", "script"),
                    ("no-cors", "style"),
                    ("cors", "empty"),
                ),
                *(
                    ("no-cors", "video"),
                    ("navigate", "iframe"),
                    ("navigate", "object"),
                    ("websocket", ""),
                ),
            ):
                for path in READS:
                    told = await browser.ask(
                        "GET", path, Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=kind
                    )
                    self.assertEqual(told.status, 403, (site, mode, kind, path))
        for path in (*READS, "/api/v1/do/status"):
            if path == "/api/v1/events":
                continue
            headers = (await browser.ask("GET", path)).headers
            self.assertEqual(headers["cross-origin-resource-policy"], "same-origin", path)
            self.assertEqual(headers["x-content-type-options"], "nosniff", path)
            self.assertEqual([each for each in headers if each.startswith("access-control")], [])

    async def test_links(self) -> None:
        """Threats 103, 107: a link on another page may open the page itself, which shows nothing without a session, and
        knows that it was opened so.
        """
        _, browser = await self.page()
        link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        told = await browser.ask("GET", "/", **link, Sec_Fetch_Dest="document", Cookie=None)
        self.assertEqual(told.status, 200)
        self.assertNotIn(b"alice", told.body)
        self.assertIn(b'name="visit" content="elsewhere"', told.body)
        for site in (None, "none", "same-origin"):
            told = await browser.ask("GET", "/", Sec_Fetch_Site=site)
            self.assertIn(b'name="visit" content="own"', told.body, site)
        for path in READS[1:]:
            told = await browser.ask("GET", path, **link, Sec_Fetch_Dest="document")
            self.assertEqual(told.status, 403, path)

    async def test_frames(self) -> None:
        """Threat 106: no page can put ours into a frame, nothing inline runs in it, and no reply lacks that rule."""
        _, browser = await self.page()
        asks: tuple[tuple[str, dict[str, str | None], int], ...] = (
            ("/", {}, 200),
            ("/api/v1/session", {}, 200),
            ("/nothing", {}, 404),
            ("/api/v1/do/status", {}, 405),
            ("/", {"Range": "bytes=999999-"}, 416),
            ("/", {"X": "x" * 9000}, 431),  # as with the cookies of other ports
            ("/" + "x" * 9000, {}, 414),
        )
        for path, given, status in asks:
            told = await browser.ask("GET", path, **given)
            self.assertEqual(told.status, status)
            headers = told.headers
            self.assertEqual(headers["x-frame-options"], "DENY", path)
            policy = dict(
                each.split(" ", 1) for each in headers["content-security-policy"].split("; ")
            )
            self.assertEqual(policy["frame-ancestors"], "'none'")
            self.assertEqual(policy["default-src"], "'none'")
            self.assertEqual(policy["script-src"], "'self'")
            self.assertEqual(policy["require-trusted-types-for"], "'script'")
            self.assertNotIn("unsafe", headers["content-security-policy"])


class LinkTests(PageTestCase):
    """Links and cookies that others see."""

    async def test_token(self) -> None:
        """Threat 104: a link works once and for a minute, and no server and no Referer sees its token."""
        _, browser = await self.page()
        url = await self.link(to="/people/bob?x=1&open=2#3")
        parts = urlsplit(url)
        self.assertEqual((parts.path, parts.query), ("/", ""))
        self.assertTrue(parts.fragment.endswith("&to=/people/bob%3Fx%3D1%26open%3D2%233"), url)
        token = parts.fragment.removeprefix("open=").partition("&")[0]
        self.assertGreaterEqual(len(token), 43)
        other = Browser(self.real_reactor, browser.port)
        self.assertEqual((await other.sign_in(url)).status, 200)
        again = await Browser(self.real_reactor, browser.port).sign_in(url)
        self.assertEqual((again.status, again.fields["methods"]), (401, "token"))
        for wrong in ("", "x", token[:-1], "\ud800", 1, None, ["x"], "x" * 300):
            told = await other.ask("POST", "/api/v1/session", {"token": wrong})
            self.assertIn(told.status, (400, 401), wrong)

    async def test_cookie(self) -> None:
        """Threat 105: each peer of a machine has a cookie of its own, which scripts and other sites do not get."""
        _, alice = await self.page("alice")
        _, bob = await self.page("bob")
        told = await alice.sign_in(await self.link())
        attributes = told.headers["set-cookie"].split("; ")[1:]
        self.assertEqual({"Path=/", "HttpOnly", "SameSite=Strict"} - set(attributes), set())
        names = [each.cookie.partition("=")[0] for each in (alice, bob)]
        self.assertNotEqual(*names)
        secret = alice.cookie.partition("=")[2]
        told = await bob.ask("GET", "/api/v1/session", Cookie=f"{names[1]}={secret}")
        self.assertEqual(told.status, 401)
        both = await bob.ask("GET", "/api/v1/session", Cookie=f"{alice.cookie}; {bob.cookie}")
        self.assertEqual(both.fields["name"], "bob")
        foreign = await bob.ask("GET", "/api/v1/session", Cookie=f"{names[1]}=x; {bob.cookie}")
        self.assertEqual(foreign.fields["name"], "bob")

    async def test_file(self) -> None:
        """Threat 105: the file with the sessions is private, has no secret, and a damaged one lets nobody in."""
        peer, browser = await self.page()
        path = self.data_of("alice") / FILE_NAME
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertNotIn(browser.cookie.partition("=")[2], path.read_text())
        await peer.stopService()
        digest = path.read_text().partition('"sessions": {"')[2].partition('"')[0]
        path.write_text(path.read_text().replace(digest, "x"))
        await self.started("alice")
        browser.port = urlsplit(await self.link()).port or 0
        told = await browser.ask("GET", "/api/v1/session")
        self.assertEqual(told.status, 401)
        name = browser.cookie.partition("=")[0]
        told = await browser.ask("GET", "/api/v1/session", Cookie=f"{name}={digest}")
        self.assertEqual(told.status, 401)

    async def test_sessions(self) -> None:
        """Threat 105: sessions are bounded in number; the one unused for longest makes room."""
        _, browser = await self.page()
        for _ in range(SESSIONS_MAX - 1):
            await self.browser()
        self.assertEqual((await browser.ask("GET", "/api/v1/session")).status, 200)
        await self.browser()
        self.assertEqual((await browser.ask("GET", "/api/v1/session")).status, 401)


class AgeTests(SynchronousTestCase):
    """The ages and numbers of tokens, sessions and wrong passwords, by a clock of the test."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.drawn = 0
        self.sessions = self.read()

    def read(self) -> Sessions:
        """Return the sessions as they are after a restart."""
        return Sessions(self.clock, self.clock.seconds, self.folder, self.draw, PASSWORD)

    def draw(self, size: int) -> bytes:
        """Return other bytes at each call."""
        self.drawn += 1
        return self.drawn.to_bytes(size, "big")

    def test_tokens(self) -> None:
        """Threat 104: a link that was not used in time works no more, and only so many wait."""
        first, *_, last = [self.sessions.token() for _ in range(TOKENS_MAX + 1)]
        self.assertRaises(PageError, self.sessions.exchange, first)
        self.assertTrue(self.sessions.exchange(last))
        late = self.sessions.token()
        self.clock.advance(TOKEN_AGE)
        self.assertRaises(PageError, self.sessions.exchange, late)

    def test_sessions(self) -> None:
        """Threat 105: a session ends some time after its last use, also while the peer does not run."""
        secret = self.sessions.exchange(self.sessions.token())
        for _ in range(3):
            self.clock.advance(SESSION_AGE)
            self.sessions.use(secret)
        again = self.read()
        self.assertTrue(again.is_valid(secret))
        self.clock.advance(SESSION_AGE + 1)
        self.assertFalse(again.is_valid(secret))
        self.assertRaises(PageError, again.use, secret)
        self.assertEqual(self.read().kept.sessions, {})

    def test_passwords(self) -> None:
        """Threat 109: wrong passwords are counted for each client and in all, for a minute."""
        for number in range(WRONG_MAX):
            client = f"192.0.2.{number // WRONG_PER_CLIENT_MAX}"
            refused = self.assertRaises(PageError, self.sessions.try_password, "wrong", client)
            self.assertEqual(refused.reply.status, 401)
        for client in ("192.0.2.0", "192.0.2.250"):
            refused = self.assertRaises(PageError, self.sessions.try_password, PASSWORD, client)
            self.assertEqual(refused.reply.status, 429)
        self.clock.advance(WRONG_PERIOD)
        self.assertTrue(self.sessions.try_password(PASSWORD, "192.0.2.0"))

    def test_other_machines(self) -> None:
        """Threat 111: a link is for this user and this machine alone, also if the page is open to others."""
        mine = Access(self.sessions, self.folder, lambda end, other: os.geteuid())
        other = Access(self.sessions, self.folder, lambda end, other: os.geteuid() + 1)
        here = Query(b"POST", b"", b"", "127.0.0.1", local=("127.0.0.1", 8080), source_port=1)
        mine.check_user(here)
        self.assertRaises(PageError, other.check_user, here)
        elsewhere = replace(here, source="192.0.2.7", local=("192.0.2.2", 8080))
        self.assertRaises(PageError, mine.check_user, elsewhere)


class OtherUserTests(PageTestCase):
    """Other users of this machine."""

    async def test_other_user(self) -> None:
        """Threat 111: another user of the machine reaches nothing, even with a link, or with our cookie."""
        users = [os.geteuid()]
        self.patch(page_service, "owner_of", lambda end, other: users[-1])
        _, browser = await self.page()
        stream = None
        for user in (os.geteuid() + 1, UNKNOWN):  # the latter is a socket that is closed already
            users.append(user)
            for path in READS:
                connection = await browser.send(browser.head("GET", path))
                await connection.ended
                self.assertEqual(connection.received, b"", path)
        for user in (0, os.geteuid()):
            users.append(user)
            self.assertEqual((await browser.ask("GET", "/api/v1/session")).status, 200)
            stream = stream or await browser.follow()
        await self.until(lambda: bool(stream and stream.events))
        users.append(os.geteuid() + 1)
        flood = [await browser.connect() for _ in range(LIMITS.connections_max + 1)]
        for each in flood:
            await each.ended
        users.append(os.geteuid())
        self.assertEqual((await browser.ask("GET", "/api/v1/session")).status, 200)
        self.assertFalse(stream is None or stream.connection.ended.called)
        if stream is not None:
            stream.close()

    async def test_real_user(self) -> None:
        """Threat 111: the kernel tells whose socket it is, when the peer is asked by a user that is not its own."""
        if os.geteuid() != 0 or not is_told():
            raise SkipTest("only root can become another user, and only Linux tells")
        _, browser = await self.page()
        os.seteuid(NOBODY)
        try:
            other = socket.create_connection((HOST, browser.port))
        finally:
            os.seteuid(0)
        self.addCleanup(other.close)
        other.settimeout(10)
        with contextlib.suppress(ConnectionError):  # it may be closed already
            other.sendall(browser.head("GET", "/"))
            self.assertEqual(await deferToThread(other.recv, 1024), b"")
        self.assertEqual((await browser.ask("GET", "/")).status, 200)


class ExhaustionTests(PageTestCase):
    """Programs that take all there is."""

    async def test_streams(self) -> None:
        """Threat 108: the event streams are bounded; the oldest makes room, and others are answered meanwhile."""
        _, browser = await self.page()
        streams = [await browser.follow() for _ in range(STREAMS_MAX + 3)]
        await self.until(
            lambda: all(each.events or each.connection.ended.called for each in streams)
        )
        await self.until(lambda: sum(each.connection.ended.called for each in streams) == 3)
        self.assertEqual((await browser.do("status")).status, 200)
        for each in streams:
            each.close()

    async def test_slow_reader(self) -> None:
        """Threat 108: a browser that does not read its events is told that it has missed some, and is dropped."""
        peer, browser = await self.page()
        stream = await browser.follow()
        await self.until(lambda: bool(stream.events))
        stream.connection.transport.pauseProducing()
        for _ in range(400):
            peer.events.publish("person", name="x" * 32768, removed=True)
        stream.connection.transport.resumeProducing()
        await stream.connection.ended
        self.assertEqual(stream.events[-1][0], "overrun")
        self.assertLess(len(stream.connection.received), 12 * 2**20)

    async def test_garbage(self) -> None:
        """Threat 6: any bytes get an error or the end of the connection, and the page goes on."""
        _, browser = await self.page()
        own = f"Host: 127.0.0.1:{browser.port}\r\n"
        head = f"POST /api/v1/do/status HTTP/1.1\r\n{own}Connection: close\r\n"
        for data in (
            b"\0" * 100,
            b"GET / HTTP/9.9\r\n\r\n",
            f"GET /%ff%00/../..//etc HTTP/1.1\r\n{own}Connection: close\r\n\r\n".encode(),
            f"{head}Content-Length: 99999999\r\n\r\n".encode(),
            f"{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab".encode(),
            f"{head}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n".encode(),
            f"{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n".encode(),
            f"{head}Cookie: {'x=y; ' * 3000}\r\n\r\n".encode(),
            head.encode() + b"X: y\r\n" * 1000 + b"\r\n",
        ):
            connection = await browser.send(data)
            await connection.ended
            if connection.received:
                self.assertRegex(connection.received[:13], rb"HTTP/1.1 4\d\d ", data)
        for body in (b"", b"[]", b"{", b'{"a":1,"a":2}', b"[" * 9999, b'{"x":NaN}', b"\xff"):
            told = await browser.ask("POST", "/api/v1/do/status", body)
            self.assertEqual((told.status, told.word), (400, "malformed"), body)
        self.assertEqual((await browser.do("status")).status, 200)
        told = await browser.ask("GET", "/", Cookie=f"{'x' * 9000}; {browser.cookie}")
        self.assertEqual(told.status, 431)
        self.assertIn("delete the cookies", told.fields["detail"])

    async def test_pipelining(self) -> None:
        """Threat 108: requests that are sent all at once on one connection are answered in turn."""
        _, browser = await self.page()
        head = browser.head("GET", "/api/v1/session", Connection=None)
        connection = await browser.send(head * 99 + browser.head("GET", "/api/v1/session"))
        await connection.ended
        self.assertEqual(connection.received.count(b"HTTP/1.1 200 OK\r\n"), 100)


class RemoteTests(PageTestCase):
    """A page for other machines."""

    def setUp(self) -> None:
        super().setUp()
        self.changes: dict[str, Any] = {}
        self.peers = 0

    def tearDown(self) -> None:
        """Discard warnings about deprecated functions of OpenSSL in Twisted."""
        gc.collect()
        self.flushWarnings()

    def settings(self, name: str) -> Settings:
        """Return the settings of a user with a page."""
        return replace(super().settings(name), **self.changes)

    def secret(self, text: str, mode: int = 0o600) -> Path:
        """Return a file with a password."""
        path = self.saved / "password"
        path.write_text(text)
        path.chmod(mode)
        return path

    async def refusal(self, page: str, password: Path | None = None) -> P2pshareError:
        """Return why a peer with such a page does not start."""
        self.changes = {"page": page, "page_password_file": password}
        self.peers += 1
        with self.assertRaises(P2pshareError) as raised:
            await self.started(f"alice{self.peers}")
        error: P2pshareError = raised.exception
        return error

    async def test_refused(self) -> None:
        """Threat 110: a page for other machines needs TLS and a password, or the peer does not start."""
        certificate = write_certificate(self.saved / "key.pem")
        tls = f"ssl:0:privateKey={certificate}:certKey={certificate}"
        password = self.secret(PASSWORD)
        for page in ("tcp:0", "tcp:0:interface=0.0.0.0", "tcp6:0:interface=\\:\\:"):
            for given in (None, password):
                error = await self.refusal(page, given)
                self.assertIsInstance(error, WrongUsage, page)
                self.assertIn("interface=127.0.0.1", str(error))
        self.assertIn("--page-password-file", str(await self.refusal(tls)))
        for page in (f"unix:{self.saved}/page.sock", "haproxy:tcp:0:interface=127.0.0.1"):
            self.assertIn("tcp, tcp4, tcp6 or ssl", str(await self.refusal(page)))
        for text, mode in (("short", 0o600), (PASSWORD, 0o644), ("a" * 300, 0o600)):
            error = await self.refusal(tls, self.secret(text, mode))
            self.assertIsInstance(error, SettingsUnreadable)
            self.assertNotIn(text, str(error))

    async def test_password(self) -> None:
        """Threat 109: a password can be guessed only a few times per minute; meanwhile the right one fails, too."""
        self.changes = {
            "page": "tcp:0:interface=127.0.0.1",
            "page_password_file": self.secret(f"{PASSWORD}\n"),
        }
        await self.started("alice")
        browser = Browser(self.real_reactor, urlsplit(await self.link()).port or 0)
        told = await browser.ask("POST", "/api/v1/session", {"password": PASSWORD})
        self.assertEqual(told.status, 200)
        for _ in range(WRONG_PER_CLIENT_MAX):
            told = await browser.ask("POST", "/api/v1/session", {"password": "wrong"})
            self.assertEqual((told.status, told.fields["methods"]), (401, "token password"))
        told = await browser.ask("POST", "/api/v1/session", {"password": PASSWORD})
        self.assertEqual((told.status, told.word), (429, "too-many-requests"))
        self.assertGreater(int(told.headers["retry-after"]), 50)

    async def test_tls(self) -> None:
        """Threat 110: over TLS the page has the names of its certificate alone, and a cookie for TLS alone."""
        certificate = write_certificate(self.saved / "key.pem", ("127.0.0.1", "home.example"))
        self.changes = {
            "page": f"ssl:0:privateKey={certificate}:certKey={certificate}",
            "page_password_file": self.secret(PASSWORD),
        }
        await self.started("alice")
        url = await self.link()
        self.assertTrue(url.startswith("https://home.example:"), url)
        port = urlsplit(url).port or 0
        browser = Browser(self.real_reactor, port, is_secure=True)
        told = await browser.ask("POST", "/api/v1/session", {"password": PASSWORD})
        self.assertEqual(told.status, 200)
        self.assertIn("; Secure", told.headers["set-cookie"])
        for host, status in (
            *(
                (f"home.example:{port}", 200),
                (f"192.0.2.1:{port}", 200),
                (f"[2001:db8::1]:{port}", 200),
            ),
            *((f"evil.example:{port}", 403), (f"x.home.example:{port}", 403)),
        ):
            self.assertEqual((await browser.ask("GET", "/", Host=host)).status, status, host)
        plain = await Browser(self.real_reactor, port).send(b"GET / HTTP/1.0\r\n\r\n")
        await plain.ended
        self.assertNotIn(b"HTTP/1.1", plain.received)
