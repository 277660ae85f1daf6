"""Tests of `p2pshare.peer.offers.history`, and of downloads in the history, on real sockets."""

from __future__ import annotations

import io
import random
from typing import Any
from unittest.mock import patch

from p2pshare.errors import P2pshareError
from p2pshare.peer.control import PAGE_MAX, running_peer
from p2pshare.peer.offers.history import LIMIT_MAX, add_download
from p2pshare.storage.identity.data_folder import DataFolder
from p2pshare.storage.offers.history import Direction, History, HistoryEntry
from p2pshare.storage.offers.ledger import FILE_NAME, Ledger
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.get import get
from p2pshare.wire.keys import SigningKey
from tests.peer.registry_case import RegistryTestCase


class PastTests(RegistryTestCase):
    async def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Ask bob's peer, which runs."""
        client = await running_peer(self.reactor, self.data_of("bob"))
        assert client is not None
        try:
            return await client.ask(do, **fields)
        finally:
            client.close()

    def fill(self, *entries: HistoryEntry) -> None:
        """Write entries before the peer starts."""
        self.data_of("bob").mkdir(parents=True, exist_ok=True)
        ledger = Ledger(self.data_of("bob") / FILE_NAME)
        ledger.open()
        with ledger.changing():
            for each in entries:
                History(ledger).add(each)
        ledger.close()

    async def test_pages(self) -> None:
        """Entries come in pages that a reply can hold, of one person or one offer if wanted."""
        long = "x" * (PAGE_MAX // 3)
        self.fill(
            *(
                HistoryEntry(
                    number, Direction.SENT, f"p{number % 2}", None, long, 1, 1, "done", offer=offer
                )
                for number, offer in enumerate(["aaaa", "aabb", "bbbb", "bbbb"])
            )
        )
        await self.started("bob")
        first = await self.ask("history")
        self.assertEqual(([each["at"] for each in first["entries"]], first["more"]), ([3, 2], True))
        rest = await self.ask("history", before=first["entries"][-1]["number"])
        self.assertEqual(([each["at"] for each in rest["entries"]], rest["more"]), ([1, 0], False))
        told = await self.ask("history", name="p1")
        self.assertEqual([each["at"] for each in told["entries"]], [3, 1])
        told = await self.ask("history", id="aa", limit=1)
        self.assertEqual(([each["id"] for each in told["entries"]], told["more"]), (["aabb"], True))
        for fields in ({"limit": LIMIT_MAX + 1}, {"before": 0}, {"id": "x" * 99}):
            with self.assertRaises(P2pshareError):
                await self.ask("history", **fields)

    async def test_downloads(self) -> None:
        """What a command downloads is in the history of its user, whether or not a peer of the user runs."""
        await self.started("alice")
        (self.shared / "one").write_bytes(b"1234")
        terminal = Terminal.detect(io.StringIO(), {})

        async def fetch(*words: str) -> int:
            invocation = Invocation(
                self.reactor,
                random.Random(1),
                self.settings("bob"),
                Output(terminal, terminal),
                self.saved,
                self.reactor.seconds,
            )
            return await get(invocation, words, overwrite=False)

        self.assertEqual(await fetch("alice:stuff/one"), 0)
        self.assertEqual(await fetch("alice:stuff/one"), 0)  # it is here already: no news
        await self.started("bob")
        self.assertEqual(await fetch("alice:stuff/one", "alice:nope", "two/"), 1)
        second, first = (await self.ask("history"))["entries"]
        self.assertEqual((first["peer"], first["title"]), ("alice", "stuff/one"))
        self.assertEqual((first["files"], first["bytes"], first["outcome"]), (1, 4, "done"))
        self.assertEqual((second["title"], second["outcome"]), ("stuff/one and 1 more", "failed"))
        self.assertEqual((first["direction"], first["receipt"]), ("received", None))

    async def test_folder_in_use(self) -> None:
        """A command waits for another one that has the data folder for a moment, and not for ever."""
        self.data_of("bob").mkdir(parents=True, exist_ok=True)
        download = {
            "name": "alice",
            "key": str(SigningKey(bytes(32)).public),
            "title": "a",
            "files": 1,
            "bytes": 1,
            "outcome": "done",
        }
        with patch("p2pshare.peer.offers.history.ADD_TIMEOUT", 2.0):
            for is_freed in (True, False):
                holder = DataFolder.open(self.data_of("bob"), "bob")
                self.addCleanup(holder.close)
                if is_freed:
                    self.reactor.callLater(0.1, holder.close)
                await add_download(self.reactor, self.data_of("bob"), "bob", 7, download)
                holder.close()
        await self.started("bob")
        self.assertEqual([each["at"] for each in (await self.ask("history"))["entries"]], [7])

    async def test_trouble(self) -> None:
        """A history that cannot be written is no error of the download."""
        await self.started("alice")
        (self.shared / "one").write_bytes(b"1")
        self.data_of("bob").mkdir(parents=True, exist_ok=True)
        (self.data_of("bob") / FILE_NAME).write_bytes(b"no database" * 99)
        terminal = Terminal.detect(io.StringIO(), {})
        invocation = Invocation(
            self.reactor,
            random.Random(1),
            self.settings("bob"),
            Output(terminal, terminal),
            self.saved,
            self.reactor.seconds,
        )
        with patch("p2pshare.storage.offers.ledger.WAIT", 0.0):
            self.assertEqual(await get(invocation, ["alice:stuff/one"], overwrite=False), 0)
        self.assertEqual((self.saved / "one").read_bytes(), b"1")
