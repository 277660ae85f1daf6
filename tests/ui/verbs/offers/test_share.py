"""Tests of `p2pshare.ui.verbs.offers.share`, with a peer on real sockets and without one."""

from __future__ import annotations

import io
import json
import random
from typing import Any

from p2pshare.errors import AlreadyRunning, NoSuchShare, SharesUnusable, WrongUsage
from p2pshare.storage.identity.data_folder import DataFolder
from p2pshare.storage.shares.kept import FILE_NAME
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs import own_peer
from p2pshare.ui.verbs.offers import share
from p2pshare.ui.verbs.offers.share import EVERYONE, ShareOptions
from tests.peer.registry_case import RegistryTestCase


class ShareVerbTests(RegistryTestCase):
    """Bob's shares. `stuff` is that of the command line of his peer."""

    def setUp(self) -> None:
        super().setUp()
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.folder = self.saved / "photos"
        self.folder.mkdir()
        (self.folder / "a.tmp").write_bytes(b"")
        (self.folder / ".x").write_bytes(b"")

    def invocation(self, *, as_json: bool = True) -> Invocation:
        terminals = (Terminal.detect(each, {}) for each in (self.stdout, self.stderr))
        output = Output(*terminals, json=as_json)
        rng, wall = random.Random(1), self.reactor.seconds
        return Invocation(self.reactor, rng, self.settings("bob"), output, self.saved, wall)

    def told(self) -> list[dict[str, Any]]:
        """Return the events since the last call."""
        lines = self.stdout.getvalue().splitlines()
        self.stdout.seek(0)
        self.stdout.truncate()
        return [json.loads(line) for line in lines]

    def said(self) -> str:
        """Return what people have read since the last call."""
        text = self.stdout.getvalue() + self.stderr.getvalue()
        for each in self.stdout, self.stderr:
            each.seek(0)
            each.truncate()
        return " ".join(text.split())

    async def names(self) -> dict[str, bool]:
        """Return what is listed, and whether it is shared now."""
        await share.shares(self.invocation())
        return {each["name"]: each["live"] for each in self.told()}

    async def test_running(self) -> None:
        """With a peer that runs, everything takes effect at once, and what is left out is told."""
        peer = await self.started("bob")
        options = ShareOptions("pics", ["alice", "carol,dave"], ["*.tmp"], expires_s=60, count=2)
        self.assertEqual(await share.add(self.invocation(), "photos", options), 0)
        (row,) = self.told()
        self.assertEqual(row["event"], "share")
        self.assertEqual((row["allow"], row["count"]), (["alice", "carol", "dave"], 2))
        self.assertEqual((row["left_out"]["excluded"], row["left_out"]["hidden"]), (1, 1))
        self.assertEqual((row["live"], row["removed"], row["kept"]), (True, False, True))
        assert peer._sessions is not None
        self.assertEqual([each.name for each in peer._sessions.shares], ["stuff", "pics"])
        self.assertEqual(await self.names(), {"pics": True, "stuff": True})
        await share.allow(self.invocation(), "pics", [EVERYONE])
        self.assertIsNone(self.told()[0]["allow"])
        for name in "pics", "stuff":
            await share.remove(self.invocation(), name)
            self.assertTrue(self.told()[0]["removed"])
        self.assertEqual(await self.names(), {})
        with self.assertRaises(NoSuchShare):
            await share.remove(self.invocation(), "pics")

    async def test_not_running(self) -> None:
        """Without a peer the list is changed, which is said, and the next peer shares what is in it."""
        await share.add(self.invocation(as_json=False), str(self.folder), ShareOptions())
        self.assertIn("No peer of yours runs. This takes effect when it starts.", self.said())
        await share.add(self.invocation(), "photos", ShareOptions("more"))
        self.assertFalse(self.told()[0]["live"])
        await share.allow(self.invocation(), "more", ["alice"])
        self.assertEqual(self.told()[0]["allow"], ["alice"])
        with self.assertRaisesRegex(WrongUsage, "NAMES"):  # and not everyone
            await share.allow(self.invocation(), "more", [])
        self.assertEqual(await self.names(), {"more": False, "photos": False})
        await share.remove(self.invocation(), "photos")
        self.told()
        await self.started("bob")
        self.assertEqual(await self.names(), {"more": True, "stuff": True})

    async def test_words(self) -> None:
        """People read what is shared with whom; in a pipe there are cells."""
        self.assertEqual(await share.shares(self.invocation(as_json=False)), 0)
        self.assertIn("Nothing is shared.", self.said())
        await self.started("bob")
        options = ShareOptions(allow=["alice"], count=1)
        await share.add(self.invocation(as_json=False), "photos", options)
        self.assertEqual(
            self.said(),
            f"You share photos ({self.folder}) with alice, 0 of 1 downloads."
            " Not shared: 1 hidden or private (.x).",
        )
        await share.remove(self.invocation(as_json=False), "stuff")
        self.assertIn("comes back when your peer restarts", self.said())
        await share.shares(self.invocation(as_json=False))
        self.assertEqual(self.said(), f"photos {self.folder} alice - 0/1")

    async def test_wrong(self) -> None:
        """What cannot be shared is an error, with a peer and without one; a damaged list is left alone."""
        for is_running in False, True:
            if is_running:
                peer = await self.started("bob")
            for path, options in (
                ("none", ShareOptions()),
                ("photos", ShareOptions("@x")),
                ("photos", ShareOptions(exclude=["["])),
                ("photos", ShareOptions(allow=["@lan"])),
                (str(self.data_of("bob")), ShareOptions("keys")),
            ):
                with self.assertRaises(WrongUsage):
                    await share.add(self.invocation(), path, options)
        await peer.stopService()
        (self.data_of("bob") / FILE_NAME).write_text("{")
        with self.assertRaises(SharesUnusable):
            await share.shares(self.invocation())

    async def test_locked(self) -> None:
        """A data folder that another process has is waited for, though not without end."""
        folder = DataFolder.open(self.data_of("bob"), "bob")
        self.reactor.callLater(0.1, folder.close)
        self.assertEqual(await share.shares(self.invocation()), 0)
        self.patch(own_peer, "LOCK_PATIENCE", 0.1)
        folder = DataFolder.open(self.data_of("bob"), "bob")
        self.addCleanup(folder.close)
        with self.assertRaises(AlreadyRunning):
            await share.shares(self.invocation())
