"""URLs of a Redis: their forms, TLS, logins and retries."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, ClassVar, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.protocols.portforward import ProxyFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from txredisapi import RedisError

from p2pshare.errors import BadSetting
from p2pshare.registry.redis.connection import NO_TLS, NOT_REDIS, OTHER_HOST, UNTRUSTED
from p2pshare.registry.redis.link import RedisLink
from p2pshare.registry.redis.sentinel import SENTINELS_MAX
from p2pshare.registry.redis.url import redis_at, without_password
from p2pshare.storage.os_errors import plain_reason
from tests.registry.certificates import write_certificate
from tests.registry.redis_server import HOST, RedisServer

real_reactor: Any = reactor


class ConnectorTests(SynchronousTestCase):
    """URLs of a Redis."""

    right: ClassVar = (
        "redis://h", "redis://u:p%40@h:1/2", "redis://h/", "rediss://h", "unix:///a/b?db=1", "unix:///a%20b",
        "redis+sentinel://h/m", "redis+sentinel://u:p@h:1,[::1]:2,h3/m/1", "rediss+sentinel://h/m",
        "redis+sentinel://h,h2/m?sentinel_password=x", "redis+sentinel://h/m?sentinel_user=u&sentinel_password=x",
        "unix://u:p%40@/a?db=1", "unix://:p@/a", "redis://[::1]:6379", "REDISS://h",
    )  # fmt: skip
    wrong: ClassVar = (
        "", "localhost", "http://localhost", "redis://", "redis://h:port", "redis://h/one",
        "unix://", "unix://host/path", "unix://u:secret@host/path", "unix://u:secret@:1/path", "unix://u:secret@",
        "unix:///p?db=x", "unix:///" + "p" * 107, "redis://u:secret@h:99999", "redis://h?ca=/x",
        "redis+sentinel://u:secret@h", "redis+sentinel://u:secret@h/", "redis+sentinel:///m",
        "redis+sentinel://h,/m", "redis+sentinel://h:x/m", "redis+sentinel://h:99999/m", "redis+sentinel://h/m/x",
        "redis+sentinel://h/m/-1", "redis+sentinel://h/m?sentinel_password=secret&x=1", "unix+sentinel://h/m",
        "redis+sentinel://u:secret@h/m?sentinel_user=ann", "redis://h?sentinel_user=ann",
        "redis+sentinel://" + ",".join(["h"] * (SENTINELS_MAX + 1)) + "/m", "rediss://u:secret@h?ca=/nonexistent",
    )  # fmt: skip

    def test_right(self) -> None:
        """Each form is accepted, without a connection."""
        memory = MemoryReactorClock()
        for url in self.right:
            self.assertTrue(redis_at(url, memory).shown, url)
        self.assertEqual((memory.tcpClients, memory.unixClients), ([], []))

    def test_wrong(self) -> None:
        """Everything else is rejected, without showing a password."""
        for url in self.wrong:
            with self.assertRaises(BadSetting, msg=url) as caught:
                redis_at(url, MemoryReactorClock())
            self.assertNotIn("secret", str(caught.exception))

    def test_shown_socket(self) -> None:
        """The password for a Unix socket is not shown."""
        shown = without_password("unix://u:secret@/run/redis.sock?db=1")
        self.assertEqual(shown, "unix:///run/redis.sock?db=1")

    def test_shown(self) -> None:
        """No password is shown."""
        url = "redis+sentinel://u:secret@h,h2/m?sentinel_password=secret&ca=/x"
        self.assertEqual(
            without_password(url), "redis+sentinel://h,h2/m?sentinel_password=...&ca=/x"
        )


class PatienceTests(SynchronousTestCase):
    """A Redis that does not run."""

    def test_told_once(self) -> None:
        """It is retried without end, at short intervals, and the log has one line about it."""
        observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
        memory = MemoryReactorClock()
        link = RedisLink(redis_at("redis://user:secret@127.0.0.1", memory), memory)
        link.start()
        for _ in range(100):
            attempts = len(memory.tcpClients)
            _host, _port, factory, _timeout, _bind = memory.tcpClients[-1]
            factory.clientConnectionFailed(
                cast(Any, None), Failure(ConnectionRefusedError(errno.ECONNREFUSED))
            )
            memory.pump([0.1] * 10)
            self.assertGreater(len(memory.tcpClients), attempts)
        (line,) = map(formatEvent, observer)
        self.assertIn(plain_reason(OSError(errno.ECONNREFUSED, "")), line)
        self.assertNotIn("secret", line)
        self.successResultOf(Deferred.fromCoroutine(link.stop()))
        attempts = len(memory.tcpClients)
        memory.advance(60)
        self.assertEqual(len(memory.tcpClients), attempts)


def _set_back(before: str | None) -> None:
    del os.environ["SSL_CERT_FILE"]
    if before is not None:
        os.environ["SSL_CERT_FILE"] = before


class Banner(Protocol):
    """A server of another protocol."""

    def connectionMade(self) -> None:
        """Send a greeting."""
        assert self.transport is not None
        self.transport.write(b"*\xff\r\n" * 10)


class TlsTests(TestCase):
    """A Redis behind TLS."""

    def setUp(self) -> None:
        self.server = RedisServer()
        self.addCleanup(self.server.stop)
        self.server.start()
        self.file = write_certificate(Path(self.mktemp()))
        self.other = write_certificate(Path(self.mktemp()))

    def listen(self, certificate: Path) -> int:
        """Return the port of a TLS proxy to the server."""
        context = DefaultOpenSSLContextFactory(str(certificate), str(certificate))
        proxy = ProxyFactory(HOST, self.server.port)
        proxy.noisy = False
        port = real_reactor.listenSSL(0, proxy, context, interface=HOST)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    async def ping(self, url: str) -> str:
        try:
            connection = await redis_at(url, real_reactor).connect()
        except RedisError as error:
            return str(error)
        try:
            return str(await connection.execute_command("PING"))
        finally:
            await connection.disconnect()

    async def test_trusted(self) -> None:
        """A certificate of the given authority is accepted, for a name and for an address."""
        port = self.listen(self.file)
        for host in ("localhost", HOST):
            url = f"rediss://{host}:{port}/1?ca={self.file}"
            self.assertEqual(await self.ping(url), "PONG", url)

    async def test_not_trusted(self) -> None:
        """An untrusted certificate is rejected."""
        url = f"rediss://{HOST}:{self.listen(self.file)}"
        for wrong in (url, f"{url}?ca={self.other}", f"{url}/1?ca={self.other}"):
            self.assertIn(UNTRUSTED, await self.ping(wrong), wrong)

    async def test_trusted_by_the_machine(self) -> None:
        """Without a given authority, those of the machine are trusted."""
        url = f"rediss://{HOST}:{self.listen(self.file)}"
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(self.file)
        self.addCleanup(_set_back, before)
        self.assertEqual(await self.ping(url), "PONG")

    async def test_another_host(self) -> None:
        """A certificate for another host is rejected."""
        file = write_certificate(Path(self.mktemp()), ("192.0.2.1", "example.org"))
        for host in ("localhost", HOST):
            url = f"rediss://{host}:{self.listen(file)}?ca={file}"
            self.assertEqual(await self.ping(url), OTHER_HOST, host)

    async def test_no_tls(self) -> None:
        """A server without TLS is reported."""
        port = real_reactor.listenTCP(0, Factory.forProtocol(Banner), interface=HOST)
        self.addCleanup(port.stopListening)
        url = f"rediss://{HOST}:{port.getHost().port}"
        self.assertEqual(await self.ping(url), NO_TLS)

    def test_bad_file(self) -> None:
        """A file without a certificate is rejected at the start."""
        self.file.write_bytes(b"nonsense")
        with self.assertRaises(BadSetting) as caught:
            redis_at(f"rediss://h?ca={self.file}", real_reactor)
        self.assertEqual(caught.exception.fields["value"], str(self.file))


class LoginTests(TestCase):
    """Users, passwords and databases."""

    async def test_user_and_database(self) -> None:
        """User, password and database are used, over TCP and a Unix socket."""
        server = RedisServer("--user", "ann", "on", ">s%:/", "~*", "+@all")
        self.addCleanup(server.stop)
        server.start()
        told = await redis_at(server.tcp_url("ann:s%25%3A%2F@") + "/3", real_reactor).connect()
        self.assertEqual(await told.execute_command("ACL", "WHOAMI"), b"ann")
        await told.execute_command("SET", "here", "1")
        await told.disconnect()
        for login, user in (("", b"default"), ("ann:s%25%3A%2F@", b"ann")):
            url = server.url.replace("://", f"://{login}")
            there = await redis_at(f"{url}?db=3", real_reactor).connect()
            self.assertEqual(await there.execute_command("GET", "here"), b"1")
            self.assertEqual(await there.execute_command("ACL", "WHOAMI"), user)
            await there.disconnect()

    async def test_something_else(self) -> None:
        """A server of another protocol is reported without a traceback."""
        port = real_reactor.listenTCP(0, Factory.forProtocol(Banner), interface=HOST)
        self.addCleanup(port.stopListening)
        with self.assertRaises(RedisError) as caught:
            await redis_at(f"redis://{HOST}:{port.getHost().port}", real_reactor).connect()
        self.assertEqual(str(caught.exception), NOT_REDIS)
