"""Tests of `p2pshare.peer.own_settings`, on a whole peer."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path
from typing import Any

from p2pshare.core.offers.incoming import OffersPolicy
from p2pshare.errors import BadSetting, P2pshareError, RemoteProtocolError, WrongUsage
from p2pshare.peer.control import ControlClient, running_peer
from p2pshare.peer.own_settings import CHANGES_MAX
from p2pshare.peer.service import PeerService
from p2pshare.storage.settings import Settings
from p2pshare.storage.shares.arguments import SharedPath
from tests.peer.registry_case import RegistryTestCase


class SettingsTests(RegistryTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.config = self.saved / "config.toml"

    async def peer(self, **flags: object) -> PeerService:
        """Start alice's peer as `twistd` does it, with flags, variables and a file."""
        given = {"name": "alice", "registry": self.registry, "data": str(self.data_of("alice"))}
        environ = {"P2PSHARE_VIA": "tcp"}
        settings = Settings.load({**given, **flags}, environ, self.config)
        shares = [SharedPath("stuff", self.shared)]
        peer = PeerService(
            self.reactor, random.Random(1), settings, shares, wall=self.reactor.seconds
        )
        peer.startService()
        self.addCleanup(lambda: peer.stopService() if peer.running else None)
        await peer.ready
        return peer

    async def client(self) -> ControlClient:
        client = await running_peer(self.reactor, self.data_of("alice"))
        assert client is not None
        self.addCleanup(client.close)
        return client

    async def rows(self, client: ControlClient) -> dict[str, Any]:
        return {each["name"]: each for each in (await client.ask("settings"))["settings"]}

    async def test_sources(self) -> None:
        """Each setting has its value, its default and its source; what a flag or a variable has set is fixed."""
        self.config.write_text('offers = "known"\n')
        await self.peer(limit="5MB/s")
        rows = await self.rows(await self.client())
        said = {name: (row["value"], row["source"], row["fixed"]) for name, row in rows.items()}
        self.assertEqual(said["limit"], (5e6, "flag", True))
        self.assertEqual(said["via"], ("tcp", "variable", True))
        self.assertEqual(said["offers"], ("known", "file", False))
        self.assertEqual(said["accept_from"], ([], "default", False))
        self.assertEqual(rows["offers"]["choices"], ["everyone", "known", "allowed", "nobody"])
        self.assertEqual(rows["inbox_quota"]["default"], 10**10)
        self.assertTrue(Path(rows["inbox_folder"]["value"]).is_absolute())

    async def test_change(self) -> None:
        """Changes are used at once, kept in the file with everything else in it, and told to followers."""
        self.config.write_text("# mine\nhidden = true\n")
        peer = await self.peer()
        client = await self.client()
        events = await (await self.client()).follow()
        folder = self.saved / "inbox"
        values = {
            "limit": 2_500_000,
            "inbox_folder": str(folder),
            "inbox_quota": 0,
            "offers": "allowed",
            "accept_from": ["bob", "carol"],
            "private": True,
        }
        told = await client.ask("settings_change", values=values)
        event = await anext(events)
        self.assertEqual(event, {"event": "settings", **told})
        rows = {each["name"]: each for each in told["settings"]}
        self.assertEqual({name: rows[name]["value"] for name in values}, values)
        self.assertEqual({rows[name]["source"] for name in values}, {"file"})
        self.assertEqual(
            (rows["private"]["in_use"], rows["private"]["needs_restart"]), (False, True)
        )
        self.assertEqual(peer._sessions._limit.bytes_per_second, 2_500_000)  # type: ignore[union-attr]
        self.assertEqual(peer._offers.inbox.folder, folder)  # type: ignore[union-attr]
        self.assertIs(peer._offers._policy, OffersPolicy.ALLOWED)  # type: ignore[union-attr]
        kept = Settings.load({}, {}, self.config)
        self.assertEqual((kept.limit, kept.inbox_folder, kept.inbox_quota), (2.5e6, folder, None))
        self.assertEqual(
            (kept.accept_from, kept.hidden, kept.private), (("bob", "carol"), True, True)
        )
        self.assertIn("# mine", self.config.read_text())
        await client.ask("settings_change", values={"accept_from": [], "offers": "everyone"})
        self.assertEqual(Settings.load({}, {}, self.config).accept_from, ())
        await client.ask("settings_change", values={"limit": 1_000_000.7, "listen": "50000"})
        self.assertEqual((await self.rows(client))["limit"]["in_use"], 1_000_000)
        self.assertEqual(Settings.load({}, {}, self.config).listen, 50_000)
        await client.ask("settings_change", values={"limit": None, "offers": None})
        self.assertIsNone(peer._sessions._limit.bytes_per_second)  # type: ignore[union-attr]
        self.assertNotIn("limit", tomllib.loads(self.config.read_text()))
        self.assertEqual((await self.rows(client))["offers"]["source"], "default")
        await events.aclose()

    async def test_refused(self) -> None:
        """One value that is not valid keeps everything as it was, and the error names it."""
        self.config.write_text('offers = "known"\n')
        await self.peer(limit="5MB/s")
        client = await self.client()
        before = await self.rows(client)
        many = {f"s{number}": 1 for number in range(CHANGES_MAX + 1)}
        for values, kind, said in (
            ({"offers": "nobody", "inbox_quota": "lots"}, BadSetting, "inbox_quota"),
            ({"offers": "friends"}, BadSetting, "everyone, known, allowed or nobody"),
            ({"offers": "nobody", "limit": 1000}, WrongUsage, "--limit"),
            ({"accept_from": ["no name!"]}, BadSetting, "accept_from"),
            ({"inbox_folder": "here"}, BadSetting, "absolute"),
            ({"inbox_folder": str(self.shared)}, WrongUsage, "shared as 'stuff'"),
            ({"listen": 70000}, BadSetting, "listen"),
            ({"registry": "lan:"}, WrongUsage, "--registry"),
            ({"name": "bob"}, WrongUsage, "no setting"),
            ({}, P2pshareError, "values"),
            (many, P2pshareError, "values"),
        ):
            with self.assertRaises(kind) as raised:
                await client.ask("settings_change", values=values)
            self.assertIn(said, str(raised.exception))
        with self.assertRaises(RemoteProtocolError):
            await client.ask("settings_change")
        self.assertEqual(await self.rows(client), before)
        self.assertEqual(self.config.read_text(), 'offers = "known"\n')

    async def test_file_unusable(self) -> None:
        """A file that was damaged meanwhile is left as it is, and nothing changes."""
        await self.peer()
        client = await self.client()
        self.config.write_text("not toml")
        with self.assertRaises(P2pshareError):
            await client.ask("settings_change", values={"offers": "nobody"})
        self.assertEqual(self.config.read_text(), "not toml")
        self.assertEqual((await self.rows(client))["offers"]["in_use"], "everyone")
