"""People, trust and health of a peer without a registry."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import deferLater

from p2pshare.errors import AcceptanceAwaited, NotFound
from p2pshare.peer.control import running_peer
from tests.peer.lan.network import announced
from tests.peer.lan.test_peers import BOB, LanPeerCase


class LanPeopleTests(LanPeerCase):
    """The list of people on a local network."""

    async def rows(self) -> dict[str, dict[str, Any]]:
        """Return the list by name."""
        listed = await self.ask("people")
        return {each["name"]: each for each in listed["people"]}

    async def test_people(self) -> None:
        """Who waits is shown with their key, so that it can be compared before they are let in; a farewell is heard."""
        peer = await self.start()
        with self.assertRaises(AcceptanceAwaited):
            await self.seen_by(peer, BOB, "bob")
        rows = await self.rows()
        self.assertEqual((rows["bob"]["trust"], rows["bob"]["key"]), ("waiting", str(BOB.public)))
        self.assertIs(rows["bob"]["online"], False)
        self.assertTrue(rows["alice"]["own"])
        person = await self.ask("person", name="bob")
        self.assertEqual(len(person["compare"]["code"].split()), 6)
        client = await running_peer(self.reactor, self.data)
        assert client is not None
        events = await client.follow()
        await self.ask("accept", name="bob")
        while (await anext(events)).get("trust") != "known":
            pass
        self.network.say(announced("carol", 66))
        event = await anext(events)
        while event.get("name") != "carol":
            event = await anext(events)
        self.assertEqual(
            (event["online"], event["trust"], event.get("removed")),
            (True, "new", None),
        )
        await self.ask("forget", name="bob")
        with self.assertRaises(NotFound):
            await self.ask("forget", name="bob")
        await deferLater(self.reactor, 2)
        self.assertNotIn("bob", await self.rows())
        await events.aclose()

    async def test_health(self) -> None:
        """Without a registry nothing is away, and advice says whom it reaches."""
        await self.start()
        health = await self.ask("health")
        self.assertEqual((health["registry"]["state"], health["lan"]), ("lan", True))
        self.network.say(announced("alice", 66))
        health = await self.ask("health")
        self.assertEqual(health["registry"]["trouble"]["error"], "NameAlsoUsed")
