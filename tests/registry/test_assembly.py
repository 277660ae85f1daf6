"""A registry's parts, put together."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.errors import StoreOfAnother, StoreUnavailable
from p2pshare.registry.assembly import ADOPT_INTERVAL, KEY_NAME, Registry, make_store
from p2pshare.registry.configuration import RegistrySettings
from p2pshare.testing.channels import MemoryBus, MemoryChannels
from p2pshare.wire.keys import SigningKey
from tests.registry.connections import HOST, Client

OURS, THEIRS = SigningKey(b"o" * 32), SigningKey(b"t" * 32)
SETTINGS = RegistrySettings("redis://u:hunter2@h", Path("/data"), urls=("http://a",))


class FakeStore:
    """A store that is reached, and names its owner, when the test says so."""

    def __init__(self, clock: Clock) -> None:
        self.channels = MemoryChannels(MemoryBus(clock))
        self.reached: Deferred[None] = Deferred()
        self.owners: list[Deferred[str]] = []
        self.stopped = False

    def start(self) -> Deferred[None]:
        return self.reached

    def adopt(self, _key: str) -> Deferred[str]:
        return self.owners.pop(0)

    async def stop(self) -> None:
        self.stopped = True


class OwnerTests(SynchronousTestCase):
    """The owner of a store."""

    def setUp(self) -> None:
        self.clock = Clock()
        store: Any = FakeStore(self.clock)
        self.store = store
        self.registry = Registry(self.store, SETTINGS, OURS, self.clock, self.clock.seconds)

    def stop(self) -> None:
        stopping = Deferred.fromCoroutine(self.registry.stop())
        self.clock.advance(1)
        self.successResultOf(stopping)
        self.assertTrue(self.store.stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ours(self) -> None:
        """The start succeeds when the store is reached and belongs to this registry."""
        self.store.owners = [succeed(str(OURS.public))]
        started = self.registry.start()
        self.assertNoResult(started)
        self.store.reached.callback(None)
        self.assertIsNone(self.successResultOf(started))
        self.stop()

    def test_theirs(self) -> None:
        """A store of another registry is an error, without the password in the URL."""
        self.store.owners = [succeed(str(THEIRS.public))]
        started = self.registry.start()
        self.store.reached.callback(None)
        said = str(self.failureResultOf(started, StoreOfAnother).value)
        self.assertIn(str(THEIRS.public), said)
        self.assertIn(f"/data/{KEY_NAME}", said)
        self.assertIn("redis://h", said)
        self.assertNotIn("hunter2", said)
        self.stop()

    def test_away(self) -> None:
        """A store that is lost in between is asked again."""
        self.store.owners = [fail(StoreUnavailable(reason="x")), succeed(str(OURS.public))]
        started = self.registry.start()
        self.store.reached.callback(None)
        self.assertNoResult(started)
        self.clock.advance(ADOPT_INTERVAL)
        self.assertIsNone(self.successResultOf(started))
        self.stop()

    def test_stopped_early(self) -> None:
        """If it is stopped before the store is reached, the start never succeeds."""
        started = self.registry.start()
        self.stop()
        self.assertNoResult(started)


class AssemblyTests(SynchronousTestCase):
    """All routes are there."""

    def test_routes(self) -> None:
        """The classic ones, `/v1`, the events, the page, and the metrics with the token."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        clock = Clock()
        settings = RegistrySettings(
            "unix:///none", Path(folder.name), urls=("http://a",), metrics_token="t" * 16
        )
        store = make_store(settings, clock)
        registry = Registry(store, settings, OURS, clock, lambda: 1_750_000_000.0)
        registry.site.doStart()
        self.addCleanup(registry.site.doStop)

        def ask(path: bytes, *headers: bytes) -> bytes:
            head = b"".join(each + b"\r\n" for each in headers)
            here = Client(
                registry.site, "127.0.0.1"
            )  # where no limit asks a store that is not there
            return here.send(b"GET %b HTTP/1.1\r\n%b" % (path, head) + HOST)

        self.assertIn(b"Date: Sun, 15 Jun 2025", ask(b"/healthz"))
        info = json.loads(ask(b"/v1/").partition(b"\r\n\r\n")[2])
        self.assertEqual((info["key"], info["urls"]), (str(OURS.public), ["http://a"]))
        self.assertIn(b"text/html", ask(b"/"))
        self.assertIn(b" 401 ", ask(b"/metrics"))
        self.assertIn(b" 200 ", ask(b"/metrics", b"Authorization: Bearer " + b"t" * 16))
        for path in (b"/list", b"/v1/peers", b"/v1/events", b"/readyz"):
            self.assertIn(b" 503 ", ask(path), path)
        self.assertIn(b" 404 ", ask(b"/elsewhere"))
