"""Endpoints and ports of a registry."""

from __future__ import annotations

import contextlib
import gc
import socket
import tempfile
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import SSL4ClientEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from p2pshare.errors import BadSetting, CannotStart
from p2pshare.net.dns import NameResolver
from p2pshare.net.sockets import (
    addresses_of_this_machine,
    connect_to,
    takes_both_families,
)
from p2pshare.registry.listening import URLS_MAX, port_number, shown_urls
from p2pshare.web import listening
from p2pshare.web.client import HttpClient, pooled_agent
from p2pshare.web.exchange import Query, Reply
from p2pshare.web.listening import ListeningReactor, Place
from p2pshare.web.site import Site
from tests.registry.certificates import write_certificate

reactor: Any = global_reactor


class ListeningTestCase(TestCase):
    """Ports that are closed after the test, and a folder."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def tearDown(self) -> None:
        """Discard warnings about deprecated functions of OpenSSL and an unclosed socket in Twisted."""
        gc.collect()
        self.flushWarnings()

    def listen(self, description: str, on: Any = None) -> IListeningPort:
        port = Place.of(on or ListeningReactor(reactor), description).listen(Factory())
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        return port


class EndpointTests(ListeningTestCase):
    """Endpoint strings."""

    def test_kinds(self) -> None:
        """TCP, TLS, Unix sockets and the PROXY protocol, with their URLs."""
        pem = write_certificate(self.folder / "both.pem")
        for description, shown in (
            ("tcp:0:interface=127.0.0.1", r"http://127\.0\.0\.1:\d+"),
            (f"ssl:0:interface=127.0.0.1:privateKey={pem}", r"https://127\.0\.0\.1:\d+"),
            (f"tls:{self.folder}:0:interface=\\:\\:1", r"https://\[::1\]:\d+"),
            ("tcp6:0:interface=\\:\\:1", r"http://\[::1\]:\d+"),
            ("haproxy:tcp:0:interface=127.0.0.1", r"http://127\.0\.0\.1:\d+"),
            (f"unix:{self.folder / 's'}", f"unix:{self.folder / 's'}"),
        ):
            if "::" in description.replace("\\", "") and not socket.has_ipv6:
                continue
            self.assertRegex(self.shown(description), f"^{shown}$")

    def shown(self, *descriptions: str, addresses: Sequence[str] = ()) -> str:
        """Return the URLs of ports on a machine with these addresses."""
        ports = [
            (Place.of(ListeningReactor(reactor), each), self.listen(each)) for each in descriptions
        ]
        return shown_urls(ports, lambda: [ip_address(each) for each in addresses])

    def test_every_address(self) -> None:
        """A port on every address has a URL for each address, or for those of one family, up to a bound."""
        here = ["192.0.2.7", "10.0.0.7", "2001:db8::7"]
        both = r"http://192\.0\.2\.7:(\d+), http://10\.0\.0\.7:\1"
        self.assertRegex(self.shown("tcp:0:interface=0.0.0.0", addresses=here), f"^{both}$")
        if takes_both_families():
            all_of_them = both + r", http://\[2001:db8::7\]:\1"
            self.assertRegex(self.shown("tcp:0", addresses=here), f"^{all_of_them}$")
        self.assertRegex(self.shown("tcp:0"), r"^http://127\.0\.0\.1:\d+$")
        many = [f"192.0.2.{number}" for number in range(1, URLS_MAX + 4)]
        shown = self.shown("tcp:0", addresses=many).split(", ")
        self.assertEqual((len(shown), shown[-1]), (URLS_MAX + 1, "3 more"))
        if socket.has_ipv6:
            self.assertIn("http://[2001:db8::7]:", self.shown("tcp6:0", addresses=here))

    def test_addresses_of_this_machine(self) -> None:
        """They can be bound, and are neither loopback nor link-local."""
        for address in addresses_of_this_machine():
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            with socket.socket(family) as bound:
                bound.bind((str(address), 0))
            self.assertFalse(address.is_loopback or address.is_link_local)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route,
            contextlib.suppress(OSError),
        ):
            route.connect(("192.0.2.1", 9))
            ours = ip_address(route.getsockname()[0])
            self.assertTrue(ours.is_loopback or ours in addresses_of_this_machine())

    def test_meaningless(self) -> None:
        """A malformed endpoint, or a key that cannot be read, is an error with the reason."""
        nonsense = self.folder / "x.pem"
        nonsense.write_text("x")
        for description, told in (
            ("", "such as tcp:"),
            ("x:1", "such as tcp:"),
            ("tcp:x", "such as tcp:"),
            ("tcp:1:nonsense=1", "such as tcp:"),
            ("haproxy:x", "such as tcp:"),
            ("systemd:domain=INET:index=0", "such as tcp:"),
            ("systemd:domain=INET:name=x", "such as tcp:"),
            ("stdio:", "such as tcp:"),
            ("ssl:0:privateKey=/none", "/none: there is no such file"),
            (f"ssl:0:privateKey={self.folder}", "a folder has this name"),
            (f"ssl:0:privateKey={nonsense}", "no PEM"),
            ("tls:/none:0", "no PEM"),
        ):
            with self.assertRaises(BadSetting, msg=description) as caught:
                Place.of(ListeningReactor(reactor), description)
            self.assertIn(told, str(caught.exception))

    def test_wrong_key(self) -> None:
        """A key that does not match its certificate is reported at the start."""
        mine = write_certificate(self.folder / "mine.pem")
        other = write_certificate(self.folder / "other.pem")
        description = f"ssl:0:privateKey={mine}:certKey={other}"
        other.write_text("".join(other.read_text().partition("-----BEGIN CERT")[1:]))
        with self.assertRaises((BadSetting, CannotStart)) as caught:
            self.listen(description)
        self.assertIn("do not match", str(caught.exception))

    def test_impossible(self) -> None:
        """A port that cannot be opened is an error with the reason."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            for description, told in (
                (f"tcp:{taken}:interface=127.0.0.1", "in use"),
                ("tcp:99999", "up to 65535"),
                ("tcp:0:interface=192.0.2.1", "assign"),
                ("tcp:0:interface=nowhere.invalid", "no such interface"),
                (f"unix:{self.folder / 'none' / 's'}", "no such file or folder"),
            ):
                with self.assertRaises(CannotStart, msg=description) as caught:
                    self.listen(description)
                self.assertIn(told, str(caught.exception))
                self.assertIn(description, str(caught.exception))


class DualStackTests(ListeningTestCase):
    """A port without an interface."""

    def host(self, **options: Any) -> str:
        """Return the address to which `tcp:0` is bound."""
        port = self.listen("tcp:0", ListeningReactor(reactor, **options))
        return str(getattr(port.getHost(), "host", ""))

    def test_both(self) -> None:
        """It takes IPv6 and IPv4 by one socket; IPv4 alone where that is not possible."""
        expected = "::" if takes_both_families() else "0.0.0.0"
        for options in ({}, {"shared_port": 0}):
            self.assertEqual(self.host(**options), expected)
        self.patch(listening, "takes_both_families", lambda: False)
        self.assertEqual(self.host(), "0.0.0.0")

    def test_without_ipv6(self) -> None:
        """A machine without IPv6, or with sockets for IPv6 only, is noticed."""

        def no_ipv6(*_arguments: object) -> None:
            raise OSError(97, "Address family not supported by protocol")

        self.patch(socket, "socket", no_ipv6)
        self.assertFalse(takes_both_families())


class SourceAnswers:
    """Answers each request with the address from which it came, and the one at which it arrived."""

    def answer(self, query: Query) -> Deferred[Reply]:
        assert query.local is not None
        return succeed(Reply(200, (f"{query.source} {query.local[0]}".encode(),)))


class BothFamiliesTests(ListeningTestCase):
    """The client of a registry, over both address families."""

    async def ask(self, host: str) -> str:
        agent, pool = pooled_agent(reactor)
        self.addCleanup(pool.closeCachedConnections)
        client = HttpClient(agent, f"http://{host}:{self.number}", reactor)
        return (await client.ask(b"GET", "")).body.decode()

    async def test_addresses(self) -> None:
        """A client over IPv4 has its IPv4 address; names with IPv6 addresses only work as well."""
        if not takes_both_families():
            raise SkipTest("this machine has no socket for both families")
        answers: Any = SourceAnswers()
        port = Place.of(ListeningReactor(reactor), "tcp:0").listen(Site(answers, reactor))
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        self.number = port_number(port)

        def names(host: str, *_arguments: object) -> list[tuple[Any, ...]]:
            ip = {"four.test": "127.0.0.1", "six.test": "::1"}[host]
            family = socket.AF_INET6 if ":" in ip else socket.AF_INET
            return [(family, socket.SOCK_STREAM, 6, "", (ip, 0))]

        before = reactor.nameResolver
        reactor.installNameResolver(NameResolver(reactor, names))
        self.addCleanup(reactor.installNameResolver, before)
        for host in ("127.0.0.1", "four.test"):
            self.assertEqual(await self.ask(host), "127.0.0.1 127.0.0.1")
        for host in ("[::1]", "six.test"):
            self.assertEqual(await self.ask(host), "::1 ::1")


class TlsTests(ListeningTestCase):
    """Clients over TLS."""

    async def test_browsers(self) -> None:
        """A client that offers HTTP/2 as well, as browsers and curl do, gets HTTP/1.1."""
        pem = write_certificate(self.folder / "localhost.pem")
        description = f"ssl:0:interface=127.0.0.1:privateKey={pem}"
        answers: Any = SourceAnswers()
        port = Place.of(ListeningReactor(reactor), description).listen(Site(answers, reactor))
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        offers = CertificateOptions(acceptableProtocols=[b"h2", b"http/1.1"])
        endpoint = SSL4ClientEndpoint(reactor, "127.0.0.1", port_number(port), offers)
        replies = Replies()
        await connect_to(endpoint, replies)
        replies.transport.write(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await replies.ended
        self.assertEqual(replies.transport.negotiatedProtocol, b"http/1.1")
        self.assertIn(b"127.0.0.1 127.0.0.1", replies.received)


class Replies(Protocol):
    """What a server sends until it closes the connection."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the end."""
        self.ended.callback(None)


class SharedTests(ListeningTestCase):
    """One port, many processes."""

    def test_shared(self) -> None:
        """Processes that share a port can all listen on it, with TLS too; others cannot."""
        pem = write_certificate(self.folder / "both.pem")
        for kind, more in (("tcp", ""), ("ssl", f":privateKey={pem}"), ("haproxy:tcp", "")):
            description = f"{kind}:0:interface=127.0.0.1{more}"
            number = port_number(self.listen(description, ListeningReactor(reactor, shared_port=0)))
            again = self.listen(description, ListeningReactor(reactor, shared_port=number))
            self.assertEqual(port_number(again), number)
            alone = f"tcp:{number}:interface=127.0.0.1"
            with self.assertRaises(CannotStart):
                self.listen(alone, ListeningReactor(reactor, sharable=True))

    def test_alone(self) -> None:
        """A port that is not shared cannot be joined."""
        number = port_number(
            self.listen("tcp:0:interface=127.0.0.1", ListeningReactor(reactor, sharable=True))
        )
        with self.assertRaises(CannotStart):
            self.listen(
                f"tcp:{number}:interface=127.0.0.1", ListeningReactor(reactor, shared_port=number)
            )

    def test_unsharable(self) -> None:
        """A Unix socket cannot be shared, which is an error before any process starts."""
        for kind in ("unix", "haproxy:unix"):
            with self.assertRaises(CannotStart) as caught:
                self.listen(f"{kind}:{self.folder / 's'}", ListeningReactor(reactor, sharable=True))
            self.assertIn("--workers 1", str(caught.exception))
        self.assertEqual(list(self.folder.iterdir()), [])
