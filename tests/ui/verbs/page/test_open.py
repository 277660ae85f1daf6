"""Tests of `p2pshare.ui.verbs.page.open`, on real sockets."""

from __future__ import annotations

import io
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from p2pshare.errors import (
    ForeignRegistry,
    PersonLinkUnusable,
    RegistryUnreachable,
    Unreachable,
    WrongUsage,
)
from p2pshare.peer.control import running_peer
from p2pshare.peer.service import PeerService
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.own_peer import own_peer
from p2pshare.ui.verbs.page.open import NO_NAME, open_page, view_of
from p2pshare.ui.verbs.reach.join import OTHER_REGISTRY
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.paths import COMPONENT_MAX, PATH_MAX
from p2pshare.wire.reach.join_links import JoinLink
from p2pshare.wire.reach.person_links import PersonLink
from tests.peer.registry_case import RegistryTestCase

ELSEWHERE = SigningKey(bytes(range(1, 33))).public


class OpenTests(RegistryTestCase):
    def setUp(self) -> Any:
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.environ: dict[str, str] = {}
        return super().setUp()

    def invocation(self, *, json: bool = False, **changes: Any) -> Invocation:
        streams = (Terminal.detect(each, {}) for each in (self.stdout, self.stderr))
        settings = replace(self.settings("bob"), **changes)
        output, rng = Output(*streams, json=json), random.Random(1)
        return Invocation(self.reactor, rng, settings, output, self.saved, self.reactor.seconds)

    def opened(self, where: str | None = None, *, desktop: bool = False, **options: Any) -> Any:
        """Begin the verb."""
        no_browser = options.pop("no_browser", False)
        work = open_page(
            self.invocation(**options),
            where,
            no_browser=no_browser,
            desktop=desktop,
            registry=options.get("registry"),
            data=None,
            environ=self.environ,
        )
        return Deferred.fromCoroutine(work)

    def browser(self) -> Path:
        """Let a program be the browser, which notes the address."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        browser, opened = folder / "browser", folder / "opened"
        browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
        browser.chmod(0o755)
        patched = patch.dict(os.environ, {"BROWSER": str(browser)})
        patched.start()
        self.addCleanup(patched.stop)
        self.environ["BROWSER"] = str(browser)
        return opened

    async def registry_key(self) -> PublicKey:
        async with self.invocation().registry() as registry:
            return await registry.prove()

    async def test_running(self) -> None:
        """The page of a running peer opens in the browser, at a person or in a folder; nothing else is started."""
        await self.started("bob")
        opened = self.browser()
        self.assertEqual(await self.opened(), 0)
        self.assertRegex(
            opened.read_text(), r"^http://127\.0\.0\.1:\d+/#open=[\w-]{22,}&to=/people\n$"
        )
        self.assertNotIn("http", self.stdout.getvalue())
        await self.opened("alice:stuff/a b", json=True)
        self.assertIn("&to=/people/alice/files/stuff/a%2520b", opened.read_text())
        event = json.loads(self.stdout.getvalue().splitlines()[-1])
        self.assertEqual(
            (event["event"], event["browser"], event["runs_here"]), ("page", True, False)
        )
        self.assertEqual(event["url"], opened.read_text().strip())

    async def test_longest_path(self) -> None:
        """The longest path that a peer can have opens, too; all of it is percent-encoded."""
        await self.started("bob")
        path = "/".join(["ü" * (COMPONENT_MAX // 2)] * (PATH_MAX // (COMPONENT_MAX + 1)))
        await self.opened(f"alice:{path}", no_browser=True)
        self.assertIn(f"/people/alice/files/{'%25C3%25BC' * 100}", self.stdout.getvalue())

    async def test_no_browser(self) -> None:
        """Without a browser, or over ssh, the address is printed; the latter says how to tunnel."""
        await self.started("bob")
        opened = self.browser()
        await self.opened(no_browser=True)
        self.environ["SSH_CONNECTION"] = "192.0.2.1 1 192.0.2.2 22"
        await self.opened()
        self.assertFalse(opened.exists())
        first, second = self.stdout.getvalue().splitlines()
        self.assertTrue(first.startswith("http://127.0.0.1:") and first != second)
        port = second.split(":")[2].split("/")[0]
        self.assertIn(f"ssh -N -L {port}:127.0.0.1:{port} HOST", self.stderr.getvalue())
        self.assertEqual(self.stderr.getvalue().count("ssh"), 1)

    async def test_none_runs(self) -> None:
        """If no peer runs, the user's whole one runs in this command until it is stopped."""
        working = self.opened(share=(str(self.shared),), data=self.data_of("bob"))
        while not self.stdout.getvalue():
            await deferLater(self.reactor, 0.05)
        self.assertIn("until you press Ctrl+C", self.stderr.getvalue())
        async with own_peer(self.invocation()) as peer:
            self.assertTrue(peer.is_lasting)
            self.assertEqual((await peer.ask("status"))["sharing"], [self.shared.name])
            self.assertEqual(await self.opened(), 0)
            await peer.ask("stop")
        self.assertEqual(await working, 0)
        self.assertIsNone(await running_peer(self.reactor, self.data_of("bob")))

    async def test_first_time(self) -> None:
        """A user without a name is told how to choose one."""
        with self.assertRaises(WrongUsage) as caught:
            await self.opened(name=None)
        self.assertEqual(str(caught.exception), NO_NAME)

    async def test_link(self) -> None:
        """A link to a person in the user's registry opens the page there, also from the desktop."""
        await self.started("bob")
        opened = self.browser()
        link = PersonLink(await self.registry_key(), "alice", ("stuff", "ü?#&to=x"))
        for desktop in (False, True):
            await self.opened(str(link), desktop=desktop)
            self.assertTrue(
                opened.read_text().endswith(
                    "&to=/people/alice/files/stuff/%25C3%25BC%253F%2523%2526to%253Dx\n"
                ),
                opened.read_text(),
            )
            opened.unlink()

    async def test_offer(self) -> None:
        """Who types a link is told how to register it, once; nobody else whose peer runs already."""
        await self.started("bob")
        self.browser()
        link = str(PersonLink(await self.registry_key(), "alice"))
        with patch("p2pshare.ui.verbs.page.open.should_offer", return_value=True):
            for where, desktop in ((link, False), (link, True), (None, False), ("alice", False)):
                await self.opened(where, desktop=desktop)
        self.assertEqual(self.stderr.getvalue().count("p2pshare open --register"), 1)

    async def test_foreign_registry(self) -> None:
        """A link to another registry contacts nobody, and says how to join (threat 130)."""
        await self.started("bob")
        opened = self.browser()
        link = PersonLink(ELSEWHERE, "alice")
        with patch("p2pshare.ui.verbs.page.open.own_peer", side_effect=AssertionError):
            for desktop in (False, True):
                with self.assertRaises(ForeignRegistry) as caught:
                    await self.opened(str(link), desktop=desktop)
                self.assertIn("p2pshare join", str(caught.exception))
        self.assertFalse(opened.exists())

    async def test_starts_nothing(self) -> None:
        """A link from the desktop starts no peer, joins no registry, and takes no other words (threat 130)."""
        async with own_peer(self.invocation()):
            link = PersonLink(await self.registry_key(), "alice")
        opened = self.browser()
        join = JoinLink(ELSEWHERE, ("http://192.0.2.1:8000",))
        for where, kind in (
            (str(link), Unreachable),
            (str(join), WrongUsage),
            ("alice", WrongUsage),
            (None, WrongUsage),
            (f"{link}/../bob", PersonLinkUnusable),
        ):
            with self.assertRaises(kind):
                await self.opened(where, desktop=True)
        self.assertFalse(opened.exists())
        self.assertIsNone(await running_peer(self.reactor, self.data_of("bob")))

    async def test_other_registry_of_the_user(self) -> None:
        """A link to another registry that the user has joined needs a peer there: none is started with the shares of
        the settings (threat 130).
        """
        async with own_peer(self.invocation()):
            key = await self.registry_key()
        elsewhere = self.invocation().with_settings(registry="http://127.0.0.1:9", name="robert")
        with (
            patch("p2pshare.ui.verbs.page.open.invocation_for", return_value=self.invocation()),
            patch("p2pshare.ui.verbs.page.open.own_peer", side_effect=AssertionError),
            self.assertRaises(Unreachable) as caught,
        ):
            work = open_page(
                elsewhere,
                str(PersonLink(key, "alice")),
                no_browser=True,
                desktop=False,
                registry=None,
                data=None,
                environ={},
            )
            await Deferred.fromCoroutine(work)
        self.assertIn("p2pshare open --registry", str(caught.exception))

    async def test_new_registry_away(self) -> None:
        """A registry that was never met and does not answer is an error, since nothing works without its key."""
        with self.assertRaises(RegistryUnreachable):
            await self.opened(registry="http://127.0.0.1:9", data=self.data_of("zoe"))

    async def test_never_met(self) -> None:
        """A running peer that has never reached its registry has no page; the error says what it waits for."""
        there: dict[str, Any] = {"registry": "http://127.0.0.1:9", "data": self.data_of("zoe")}
        settings = replace(self.settings("bob"), **there)
        service = PeerService(
            self.reactor, random.Random(1), settings, [], wall=self.reactor.seconds
        )
        service.ready.addErrback(lambda _: None)
        service.startService()
        while await running_peer(self.reactor, self.data_of("zoe")) is None:
            await deferLater(self.reactor, 0.02)
        with self.assertRaises(Unreachable) as caught:
            await self.opened(**there)
        self.assertIn("has never reached its registry", str(caught.exception))
        await service.stopService()

    async def test_join_link(self) -> None:
        """A link for joining leads to `join`."""
        with self.assertRaises(WrongUsage) as caught:
            await self.opened("p2pshare:aeaq", registry="http://192.0.2.1:8000")
        self.assertEqual(str(caught.exception), OTHER_REGISTRY)

    def test_views(self) -> None:
        """Nothing in a path can leave its place in the view (threat 130)."""
        self.assertEqual(view_of("alice", ()), "/people/alice")
        self.assertEqual(view_of("alice", ("a/b", "?c#")), "/people/alice/files/a%2Fb/%3Fc%23")
