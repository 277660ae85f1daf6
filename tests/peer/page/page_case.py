"""A peer with a page, and a browser without a screen that asks it over a real port."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ClientEndpoint, TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure

from p2pshare.peer.control import running_peer
from p2pshare.peer.service import PeerService
from tests.peer.page.page_document import DOCUMENT
from tests.peer.registry_case import RegistryTestCase

HOST = "127.0.0.1"
OFFERS = CertificateOptions(acceptableProtocols=[b"h2", b"http/1.1"])
"""What browsers offer over TLS."""


@dataclass(frozen=True, slots=True)
class Told:
    """A reply."""

    status: int
    headers: dict[str, str]
    """With names in lower case."""
    body: bytes

    @property
    def fields(self) -> Any:
        """Return the JSON of the body."""
        return json.loads(self.body)

    @property
    def word(self) -> str:
        """Return the last word of the type of a problem."""
        return str(self.fields["type"].rpartition(":")[2])

    @classmethod
    def parse(cls, data: bytes) -> Told:
        """Read a complete reply on a connection that is closed after it."""
        head, _, body = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        if headers.get("transfer-encoding") == "chunked":
            body = _joined(body)
        return cls(int(status.split(" ")[1]), headers, body)


class Connection(Protocol):
    """A connection to the page."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Keep all."""
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the end."""
        self.ended.callback(None)


@dataclass
class Browser:
    """Asks one page, with the cookie that it got."""

    reactor: Any
    port: int
    cookie: str = ""
    csrf: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """Of every request, besides those that a browser sends."""
    is_secure: bool = False
    """Whether it speaks TLS, to any certificate."""

    async def connect(self) -> Connection:
        """Return an open connection."""
        endpoint: IStreamClientEndpoint = TCP4ClientEndpoint(self.reactor, HOST, self.port)
        if self.is_secure:
            endpoint = SSL4ClientEndpoint(self.reactor, HOST, self.port, OFFERS)
        connection = await endpoint.connect(Factory.forProtocol(Connection))
        return cast(Connection, connection)

    def head(self, method: str, path: str, size: int = 0, **changes: str | None) -> bytes:
        """Return the head of a request as the page itself sends it; underscores in names become hyphens."""
        own = f"{HOST}:{self.port}"
        headers: dict[str, str | None] = {"Host": own, "Connection": "close"}
        headers["Sec-Fetch-Site"] = "same-origin"
        if method not in ("GET", "HEAD"):
            headers["Origin"] = f"{'https' if self.is_secure else 'http'}://{own}"
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(size)
            headers["X-CSRF-Token"] = self.csrf
        headers["Cookie"] = self.cookie or None
        headers |= self.headers | {key.replace("_", "-"): each for key, each in changes.items()}
        lines = [f"{name}: {each}" for name, each in headers.items() if each is not None]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()

    async def send(self, data: bytes) -> Connection:
        """Return a connection after these bytes."""
        connection = await self.connect()
        connection.transport.write(data)
        return connection

    async def ask(self, method: str, path: str, fields: Any = None, **changes: str | None) -> Told:
        """Return the reply to a request; `fields` are the body: bytes, or what becomes JSON."""
        body = b"" if fields is None else fields
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection = await self.send(self.head(method, path, len(body), **changes) + body)
        await connection.ended
        told = Told.parse(connection.received)
        DOCUMENT.check(method, path, told.status, told.headers, told.body)
        return told

    async def sign_in(self, url: str) -> Told:
        """Exchange the token of a link."""
        token = parse_qs(urlsplit(url).fragment)["open"][0]
        told = await self.ask("POST", "/api/v1/session", {"token": token})
        if told.status == 200:
            self.cookie = told.headers["set-cookie"].partition(";")[0]
            self.csrf = told.fields["csrf"]
        return told

    async def do(self, action: str, **fields: Any) -> Told:
        """Perform an action."""
        return await self.ask("POST", f"/api/v1/do/{action}", fields)

    async def follow(self) -> EventStream:
        """Open the event stream."""
        return EventStream(await self.send(self.head("GET", "/api/v1/events")))


class EventStream:
    """Reads events."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Return the kinds and the data of the events so far."""
        _, _, body = self.connection.received.partition(b"\r\n\r\n")
        found: list[tuple[str, Any]] = []
        for block in _joined(body).decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "event" in lines and "data" in lines:
                found.append((lines["event"], json.loads(lines["data"])))
                DOCUMENT.check_event(*found[-1])
        return found

    def close(self) -> None:
        """Leave."""
        self.connection.transport.abortConnection()


class PageTestCase(RegistryTestCase):
    """A peer with a page; all end with the test."""

    async def page(self, name: str = "alice") -> tuple[PeerService, Browser]:
        """Start a peer, open its page, and return a browser that is signed in."""
        peer = await self.started(name)
        return peer, await self.browser(name)

    async def link(self, name: str = "alice", **fields: Any) -> str:
        """Return a link to the page of a peer."""
        client = await running_peer(self.reactor, self.data_of(name))
        assert client is not None
        try:
            return str((await client.ask("page_open", **fields))["url"])
        finally:
            client.close()

    async def browser(self, name: str = "alice") -> Browser:
        """Return a browser that is signed in."""
        url = await self.link(name)
        browser = Browser(self.real_reactor, urlsplit(url).port or 0)
        told = await browser.sign_in(url)
        self.assertEqual(told.status, 200, told)
        return browser


def _joined(body: bytes) -> bytes:
    """Return the complete chunks of a body."""
    joined = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if not length or len(rest) < length:
            break
        joined, body = joined + rest[:length], rest[length + 2 :]
    return joined
