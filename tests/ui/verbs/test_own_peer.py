"""Tests of `p2pshare.ui.verbs.own_peer`, on real sockets."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred

from p2pshare.errors import NameTaken, PeerNotAnswering, PeerStopped, RegistryUnreachable
from p2pshare.peer.control import running_peer
from p2pshare.ui.invocation import Invocation
from p2pshare.ui.output import Output
from p2pshare.ui.terminal.capabilities import Terminal
from p2pshare.ui.verbs.own_peer import all_rows, own_peer, own_records
from tests.peer.registry_case import RegistryTestCase


class OwnPeerTests(RegistryTestCase):
    def invocation(self, name: str = "bob", **changes: Any) -> Invocation:
        terminal = Terminal.detect(io.StringIO(), {})
        settings = replace(self.settings(name), **changes)
        output = Output(terminal, terminal)
        rng = random.Random(name)
        return Invocation(self.reactor, rng, settings, output, self.saved, self.reactor.seconds)

    async def test_running(self) -> None:
        """The peer that runs is asked, and goes on afterwards."""
        await self.started("bob")
        async with own_peer(self.invocation()) as peer:
            self.assertTrue(peer.is_lasting)
            self.assertEqual((await peer.ask("status"))["sharing"], ["stuff"])
        async with own_peer(self.invocation()) as peer:
            self.assertEqual((await peer.ask("status"))["name"], "bob")

    async def test_none_runs(self) -> None:
        """If no peer runs, one runs inside the command: it shares nothing, others see it, and it ends with the
        command.
        """
        async with own_peer(self.invocation(share=(str(self.shared),))) as peer:
            self.assertFalse(peer.is_lasting)
            self.assertTrue(await peer.comes_online(10.0))
            told = await peer.ask("status")
            self.assertEqual((told["online"], told["sharing"]), (True, []))
            async with own_peer(self.invocation()) as other:
                self.assertFalse(other.is_lasting)
                self.assertEqual((await other.ask("status"))["pid"], told["pid"])
        self.assertIsNone(await running_peer(self.reactor, self.data_of("bob")))

    async def test_out_of_contact(self) -> None:
        """What needs nobody else works without a registry, once its key is known; everything else says what fails."""
        async with own_peer(self.invocation()):
            pass
        away = self.invocation()
        with patch("p2pshare.registry.client.RegistryClient.claim", side_effect=_away):
            with self.assertRaises(RegistryUnreachable):
                async with own_peer(away):
                    pass
            async with own_peer(away, in_contact=False) as peer:
                self.assertEqual((await peer.ask("status"))["name"], "bob")
                self.assertFalse(await peer.comes_online(1.0))

    async def test_records(self) -> None:
        """What is kept is read without a registry, also by several commands at once; no peer is seen meanwhile."""
        away = self.invocation(registry="http://127.0.0.1:1", data=self.data_of("bob"))
        async with own_records(away) as ask:
            self.assertEqual(await all_rows(ask, "offers", "offers"), [])
            self.assertEqual((await ask("history", limit=1, name=None))["entries"], [])
            self.assertIsNone(await running_peer(self.reactor, self.data_of("bob")))
        await self.started("bob")
        async with own_records(self.invocation()) as ask:
            self.assertEqual(await all_rows(ask, "offers", "offers"), [])

    async def test_name_taken(self) -> None:
        """A peer that cannot be started is an error, and the data folder is free again."""
        await self.started("bob")
        thief = self.invocation(data=self.data_of("thief"))
        for _ in range(2):
            with self.assertRaises(NameTaken):
                async with own_peer(thief):
                    pass

    async def test_follow(self) -> None:
        """A list comes as it is, then each change of it; the end of the peer is an error."""
        service = await self.started("bob")
        rows: list[dict[str, Any]] = [{"id": f"{number:03}"} for number in range(3)]

        async def listed(request: Any) -> dict[str, Any]:
            after = request.get("after", "")
            page = [row for row in rows if row["id"] > after][:2]
            return {"items": page, "more": bool(page) and page[-1] != rows[-1]}

        assert service._control is not None
        service._control._actions["rows"] = listed
        async with own_peer(self.invocation()) as peer:
            following = peer.follow("rows", "items", "row")
            got = [(await anext(following))["id"] for _ in range(3)]
            service.events.publish("another", id="x")
            service.events.publish("row", id="003")
            got.append((await anext(following))["id"])
            self.assertEqual(got, ["000", "001", "002", "003"])
            service.events.publish("row", note="x" * (1 << 20))  # too long: begin again
            self.assertEqual((await anext(following))["id"], "000")
            await service.stopService()
            with self.assertRaises(PeerNotAnswering):
                while True:
                    await anext(following)

    async def test_stopped_inside(self) -> None:
        """A peer inside the command that somebody stops ends the command with that reason, also one that follows."""
        async with own_peer(self.invocation()) as peer:
            following = peer.follow("inbox", "items", "inbox")

            async def follow() -> None:
                await anext(following)

            waiting = Deferred.fromCoroutine(follow())
            await self.until(lambda: bool(peer._followers))
            await peer.ask("stop")
            with self.assertRaises(PeerStopped):
                await waiting
            with self.assertRaises(PeerStopped):
                await peer.ask("status")


def _away(*_: object, **__: object) -> None:
    raise RegistryUnreachable(registry="r", reason="it is away")
