"""Where a URL of a Redis leads, and how patiently it is followed."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import BadSetting
from p2pshare.registry.redis_url import connector


class ConnectorTests(SynchronousTestCase):
    """URLs of a Redis."""

    wrong: ClassVar = (
        "", "localhost", "http://localhost", "redis://", "redis://h:port", "redis://h/one",
        "unix://", "unix://host/path", "unix:///p?db=x", "redis://u:secret@h:99999",
    )  # fmt: skip

    def test_right(self) -> None:
        """Each form is understood; nothing is connected to yet."""
        for url in ("redis://h", "redis://u:p%40@h:1/2", "rediss://h", "unix:///a/b?db=1"):
            self.assertTrue(callable(connector(url, MemoryReactorClock())))

    def test_wrong(self) -> None:
        """Everything else is refused, without showing a password."""
        for url in self.wrong:
            with self.assertRaises(BadSetting, msg=url) as caught:
                connector(url, MemoryReactorClock())
            self.assertNotIn("secret", str(caught.exception))


class PatienceTests(SynchronousTestCase):
    """A Redis that is not there."""

    def test_told_once(self) -> None:
        """It is tried for ever, at short intervals, and the log has a single line about it."""
        observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
        reactor = MemoryReactorClock()
        redis = connector("redis://user:secret@127.0.0.1", reactor)()
        for _ in range(100):
            attempts = len(reactor.tcpClients)
            _host, _port, factory, _timeout, _bind = reactor.tcpClients[-1]
            factory.clientConnectionFailed(cast(Any, None), Failure(ConnectionRefusedError(111)))
            reactor.pump([0.1] * 10)
            self.assertGreater(len(reactor.tcpClients), attempts)
        (line,) = map(formatEvent, observer)
        self.assertIn("nothing listens there", line)
        self.assertNotIn("secret", line)
        self.successResultOf(redis.disconnect())
        attempts = len(reactor.tcpClients)
        reactor.advance(60)
        self.assertEqual(len(reactor.tcpClients), attempts)
