"""Tests of `p2pshare.peer.control`, on real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from p2pshare.errors import (
    ControlRefused,
    FolderUnusable,
    LocalProtocolError,
    NameTaken,
    P2pshareError,
    PeerNotAnswering,
)
from p2pshare.peer.control import (
    AHEAD_MAX,
    CONNECTIONS_MAX,
    CONTROL_VERSION,
    FOLLOWERS_MAX,
    LINE_MAX,
    OVERRUN_TIMEOUT,
    PAGE_MAX,
    QUEUE_EVENTS,
    REPLY_MAX,
    REQUEST_TIMEOUT,
    ControlClient,
    ControlServer,
    page,
    running_peer,
)
from p2pshare.peer.events import EventHub
from p2pshare.storage.socket_paths import CONTROL_NAME
from tests.peer.loopback import HurriedReactor


def next_of(events: AsyncIterator[dict[str, Any]]) -> Deferred[dict[str, Any]]:
    """Return the next event, awaited from now on."""

    async def wait() -> dict[str, Any]:
        return await anext(events)

    return Deferred.fromCoroutine(wait())


class ControlTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        from twisted.internet import reactor

        folder = tempfile.TemporaryDirectory(prefix="p2p-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.reactor: Any = HurriedReactor(reactor)
        self.never: Deferred[dict[str, Any]] = Deferred()

    async def serve(self) -> ControlServer:
        async def status(fields: Any) -> dict[str, Any]:
            return {"name": "bob", "asked": dict(fields)}

        async def release(fields: Any) -> dict[str, Any]:
            raise NameTaken(name="bob", registry="http://r")

        async def fail(fields: Any) -> dict[str, Any]:
            raise KeyError("a bug")

        async def talk(fields: Any) -> dict[str, Any]:
            return {"said": "x" * int(fields["size"])}

        async def hang(fields: Any) -> dict[str, Any]:
            return await self.never

        deeds = {"status": status, "release": release, "fail": fail, "hang": hang, "talk": talk}
        self.hub = EventHub()
        self.server = ControlServer(self.reactor, self.folder, deeds, self.hub)
        self.server.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.server.stop()))
        return self.server

    async def client(self) -> ControlClient:
        client = await running_peer(self.reactor, self.folder)
        assert client is not None
        self.addCleanup(self.part, client)
        return client

    async def part(self, client: ControlClient) -> None:
        """Close the connection, and let both ends notice it."""
        client.close()
        await self.pass_(0.01)

    def pass_(self, seconds: float) -> Deferred[None]:
        return deferLater(self.reactor, seconds * 8, lambda: None)

    async def failing(self, client: ControlClient, do: str) -> P2pshareError:
        try:
            await client.ask(do)
        except P2pshareError as error:
            return error
        raise AssertionError(f"{do} did not fail")

    async def test_status(self) -> None:
        """A verb gets the peer's replies, several over one connection. A field that is null counts as omitted."""
        await self.serve()
        client = await self.client()
        for _ in range(2):
            reply = await client.ask("status", more=1, less=None)
            self.assertEqual(reply, {"name": "bob", "asked": {"do": "status", "more": 1}})

    async def test_path_that_is_not_text(self) -> None:
        """A local path that is not UTF-8 breaks no reply and no event."""
        await self.serve()
        client = await self.client()
        events = await client.follow()
        self.hub.publish("inbox", folder="/caf\udce9/é")
        self.assertEqual((await next_of(events))["folder"], "/caf?/é")

    async def test_errors(self) -> None:
        """An error of the peer has the same class and text at the verb. A defect is reported as one. The
        connection stays open.
        """
        await self.serve()
        client = await self.client()
        taken = await self.failing(client, "release")
        self.assertIsInstance(taken, NameTaken)
        self.assertEqual(str(taken), str(NameTaken(name="bob", registry="http://r")))
        self.assertIsInstance(await self.failing(client, "nonsense"), ControlRefused)
        self.assertIsInstance(await self.failing(client, "fail"), LocalProtocolError)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual((await client.ask("status"))["name"], "bob")

    async def test_long_reply(self) -> None:
        """A reply has a maximum length; a longer one is an error, and the connection stays open (threat 31)."""
        await self.serve()
        client = await self.client()
        self.assertEqual(
            len((await client.ask("talk", size=REPLY_MAX - 100))["said"]), REPLY_MAX - 100
        )
        with self.assertRaises(ControlRefused):
            await client.ask("talk", size=REPLY_MAX)
        self.assertEqual((await client.ask("status"))["name"], "bob")

    async def test_nobody(self) -> None:
        """No socket, no folder, or the socket of a killed peer: no peer runs."""
        self.assertIsNone(await running_peer(self.reactor, self.folder))
        self.assertIsNone(await running_peer(self.reactor, self.folder / "none"))
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(self.folder / CONTROL_NAME))
        self.assertIsNone(await running_peer(self.reactor, self.folder))

    async def test_after_a_kill(self) -> None:
        """The socket of a killed peer is replaced. A stopped peer removes its socket."""
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(self.folder / CONTROL_NAME))
        await self.serve()
        self.assertEqual((await (await self.client()).ask("status"))["name"], "bob")
        for _ in range(2):
            await self.server.stop()
        self.assertEqual(list(self.folder.iterdir()), [])
        self.assertIsNone(await running_peer(self.reactor, self.folder))

    async def test_private(self) -> None:
        """The socket has mode 0600 whatever the umask, which is restored (threat 30)."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        await self.serve()
        mode = (self.folder / CONTROL_NAME).stat().st_mode
        self.assertEqual((stat.S_IMODE(mode), stat.S_ISSOCK(mode)), (0o600, True))
        self.assertEqual(os.umask(0), 0)

    async def test_long_path(self) -> None:
        """A folder whose path is too long for a socket address works, and leaves no link behind."""
        self.folder = self.folder / ("x" * 100) / ("y" * 100)
        self.folder.mkdir(parents=True)
        await self.serve()
        self.assertEqual((await (await self.client()).ask("status"))["name"], "bob")
        await self.server.stop()
        links = Path(tempfile.gettempdir()).glob("p2pshare-*/data")
        self.assertEqual([each for each in links if each.resolve() == self.folder.resolve()], [])

    async def test_something_in_the_way(self) -> None:
        """A folder with the name of the socket is an error."""
        (self.folder / CONTROL_NAME).mkdir()
        with self.assertRaises(FolderUnusable) as raised:
            await self.serve()
        self.assertEqual(raised.exception.fields["path"], self.folder)

    async def test_peer_ends(self) -> None:
        """A peer that ends before its reply is an error for the verb."""
        await self.serve()
        asked = Deferred.fromCoroutine((await self.client()).ask("hang"))
        await self.pass_(0.05)
        await self.server.stop()
        await self.assertFailure(asked, PeerNotAnswering, ControlRefused)

    async def test_silent_peer(self) -> None:
        """A peer that never replies is an error after a timeout."""
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(str(self.folder / CONTROL_NAME))
            deaf.listen(1)
            error = await self.failing(await self.client(), "status")
        self.assertIsInstance(error, PeerNotAnswering)
        self.assertIsInstance(error.__cause__, TimeoutError)

    async def test_liar(self) -> None:
        """Invalid replies, also unexpected ones, are an error."""
        for nonsense in (b"{}\n", b"[]\n", b'{"ok": false}\n', b"x" * (LINE_MAX + 2)):
            with socket.socket(socket.AF_UNIX) as liar:
                (self.folder / CONTROL_NAME).unlink(missing_ok=True)
                liar.bind(str(self.folder / CONTROL_NAME))
                liar.listen(1)
                client = await self.client()
                connection, _ = liar.accept()
                with connection:
                    connection.sendall(nonsense)
                    await self.pass_(0.02)  # it comes before it was asked for
                    asked = Deferred.fromCoroutine(client.ask("status"))
                    with contextlib.suppress(BrokenPipeError):
                        connection.sendall(nonsense)
                    await self.assertFailure(asked, PeerNotAnswering)

    def connect(self) -> socket.socket:
        stranger = socket.socket(socket.AF_UNIX)
        self.addCleanup(stranger.close)
        stranger.connect(str(self.folder / CONTROL_NAME))
        stranger.setblocking(False)
        return stranger

    async def hung_up(self, stranger: socket.socket) -> bytes:
        """Return everything that arrives until the peer closes the connection."""
        said = b""
        while True:
            try:
                data = stranger.recv(65536)
            except BlockingIOError:
                await self.pass_(0.005)
                continue
            except ConnectionResetError:
                return said
            if not data:
                return said
            said += data

    async def test_silent_verb(self) -> None:
        """A connection without a request is closed."""
        await self.serve()
        started = self.reactor.seconds()
        self.assertEqual(await self.hung_up(self.connect()), b"")
        self.assertGreater(self.reactor.seconds() - started, REQUEST_TIMEOUT - 1)

    async def test_bad_requests(self) -> None:
        """An invalid request is refused. A line that is too long or comes too early ends the connection (threat 30)."""
        await self.serve()
        for line in (b"\xff\n", b"{}\n", b"[1]\n", b'{"do": 1}\n', 1000 * b"\n"):
            stranger = self.connect()
            stranger.sendall(line)
            reply = json.loads(await self.hung_up(stranger))
            self.assertEqual((reply["ok"], reply["error"]), (False, "ControlRefused"))
        for lines in (b"x" * (LINE_MAX + 2), b'{"do": "hang"}\n{"do": "hang"}\n'):
            stranger = self.connect()
            stranger.sendall(lines)
            self.assertEqual(await self.hung_up(stranger), b"")
        self.assertEqual((await (await self.client()).ask("status"))["name"], "bob")

    async def test_too_many(self) -> None:
        """Connections beyond the maximum are refused, and the others work."""
        await self.serve()
        client = await self.client()
        await client.ask("status")
        strangers = [self.connect() for _ in range(CONNECTIONS_MAX)]
        self.assertEqual(await self.hung_up(strangers[-1]), b"")
        self.assertEqual((await client.ask("status"))["name"], "bob")

    async def following(self, stranger: socket.socket) -> socket.socket:
        """Let a raw connection follow, and await the reply."""
        stranger.sendall(b'{"do": "follow"}\n')
        reply = await self.arrived(stranger)
        self.assertEqual(json.loads(reply)["control"], CONTROL_VERSION)
        return stranger

    async def arrived(self, stranger: socket.socket) -> bytes:
        while True:
            try:
                return stranger.recv(65536)
            except BlockingIOError:
                await self.pass_(0.005)

    async def test_version(self) -> None:
        """A client can ask which protocol the peer speaks, and which actions it has."""
        await self.serve()
        told = await (await self.client()).ask("version")
        self.assertEqual(told["control"], CONTROL_VERSION)
        self.assertIn("status", told["actions"])

    async def test_follow(self) -> None:
        """A follower gets the events in order, while others ask; the end of the peer is an error."""
        await self.serve()
        events = await (await self.client()).follow()
        first = next_of(events)
        await self.pass_(0.02)
        for number in range(3 * AHEAD_MAX):
            self.hub.publish("offer", number=number)
        self.assertEqual((await (await self.client()).ask("status"))["name"], "bob")
        self.assertEqual(await first, {"event": "offer", "number": 0})
        for number in range(1, 3 * AHEAD_MAX):
            self.assertEqual((await anext(events))["number"], number)
        await self.server.stop()
        with self.assertRaises(PeerNotAnswering):
            await anext(events)
        self.hub.publish("offer", number=0)  # nobody is left

    async def test_slow_follower(self) -> None:
        """A follower that does not read costs a bounded queue, is told that, and is closed (threat 31)."""
        await self.serve()
        slow, deaf = await self.following(self.connect()), await self.following(self.connect())
        quick = await (await self.client()).follow()
        awaited = next_of(quick)
        await self.pass_(0.02)
        count, started = 0, self.reactor.seconds()
        while sum(each.is_following for each in self.server.connections) > 1:
            self.hub.publish("offer", number=count, text="x" * 1000)
            self.assertEqual((await awaited)["number"], count)
            awaited, count = Deferred.fromCoroutine(anext(quick)), count + 1
        self.assertGreater(count, QUEUE_EVENTS // 2)
        said = (await self.hung_up(slow)).splitlines()
        self.assertEqual(json.loads(said[-1]), {"event": "overrun"})
        numbers = [json.loads(line)["number"] for line in said[:-1]]
        self.assertEqual(numbers, list(range(len(numbers))))
        while len(self.server.connections) > 1:  # the deaf one reads nothing, and is not waited for
            await self.pass_(0.05)
        self.assertLess(self.reactor.seconds() - started, OVERRUN_TIMEOUT + 15)
        deaf.close()
        self.hub.publish("offer", number=count)
        self.assertEqual((await awaited)["number"], count)

    async def test_too_long_event(self) -> None:
        """An event that no client reads ends as `overrun`, since the follower must ask for the state then."""
        await self.serve()
        events = await (await self.client()).follow()
        awaited = next_of(events)
        await self.pass_(0.02)
        self.hub.publish("offer", note="x" * REPLY_MAX)
        self.assertEqual(await awaited, {"event": "overrun"})
        self.assertEqual([each async for each in events], [])

    async def test_talking_follower(self) -> None:
        """A follower that sends another request is closed (threat 30)."""
        await self.serve()
        stranger = await self.following(self.connect())
        stranger.sendall(b'{"do": "status"}\n')
        self.assertEqual(await self.hung_up(stranger), b"")

    async def test_too_many_followers(self) -> None:
        """Followers beyond the maximum are refused, and connections remain for requests (threat 30)."""
        await self.serve()
        for _ in range(FOLLOWERS_MAX):
            await self.following(self.connect())
        client = await self.client()
        with self.assertRaises(ControlRefused):
            await client.follow()
        self.assertEqual((await (await self.client()).ask("status"))["name"], "bob")


class PageTests(SynchronousTestCase):
    """Lists that are longer than a reply may be."""

    def test_pages(self) -> None:
        """Pages that are read one after the other have each row once, and none is longer than a reply may be."""
        rows = [(f"{number:03}", "x" * (PAGE_MAX // 5)) for number in reversed(range(17))]
        got, after, count = [], "", 0
        while True:
            told = page(
                {"do": "inbox", "after": after}, "items", iter(rows), lambda row: {"x": row}
            )
            self.assertLess(len(json.dumps(told)), REPLY_MAX)
            got += told["items"]
            if not told["more"]:
                break
            count += len(told["items"])
            after = f"{count - 1:03}"
        self.assertEqual(len(got), 17)

    def test_one_long_row(self) -> None:
        """A page has at least one row."""
        told = page({}, "items", [("a", 1), ("b", 2)], lambda _: {"x": "x" * PAGE_MAX})
        self.assertEqual((len(told["items"]), told["more"]), (1, True))
        self.assertEqual(page({}, "items", [], dict), {"items": [], "more": False})


class EventHubTests(SynchronousTestCase):
    """Events within a process."""

    def test_followed(self) -> None:
        """Events are followed as long as somebody looks at them."""
        hub, is_open = EventHub(), False
        hub.subscribe(lambda *_: None, lambda: False)
        leave = hub.subscribe(lambda *_: None, lambda: is_open)
        self.assertFalse(hub.is_followed)
        is_open = True
        self.assertTrue(hub.is_followed)
        leave()
        self.assertFalse(hub.is_followed)

    def test_subscribers(self) -> None:
        """Each subscriber gets what is published until it leaves; one that fails does not disturb the others."""
        hub, got = EventHub(), list[tuple[str, dict[str, Any]]]()
        hub.subscribe(lambda kind, fields: 1 / 0)
        leave = hub.subscribe(lambda *event: got.append(event))
        hub.publish("offer", id="a")
        leave()
        leave()
        hub.publish("offer", id="b")
        self.assertEqual(got, [("offer", {"id": "a"})])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
