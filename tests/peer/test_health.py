"""Tests of `p2pshare.peer.health`, on whole peers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from p2pshare.errors import NoSuchPeer, WrongUsage
from p2pshare.peer.control import ControlClient, running_peer
from tests.peer.registry_case import RegistryTestCase
from tests.peer.test_control import next_of
from tests.peer.test_control_document import fields, part


class HealthTests(RegistryTestCase):
    async def client(self) -> ControlClient:
        client = await running_peer(self.reactor, self.data_of("alice"))
        assert client is not None
        self.addCleanup(client.close)
        return client

    async def test_health(self) -> None:
        """The report has the fields of the document; the registry away and back is told within seconds."""
        alice = await self.started("alice")
        client = await self.client()
        health = await client.ask("health")
        self.assertEqual(list(health), fields(part("### health")))
        self.assertEqual((health["registry"]["state"], health["online"]), ("ok", True))
        self.assertEqual((health["loopback"], health["nat"]["mapping"]), (True, "none"))
        self.assertIsNone(health["registry"]["since"])
        self.assertEqual(health["port"], int(health["address"].rpartition(":")[2]))
        events = await (await self.client()).follow()
        self.go_away()
        assert alice._keeper is not None
        alice._keeper.nudge()  # as the stream of calls does that has broken
        event = await self.told(events, "away")
        self.assertEqual(event["registry"]["trouble"]["error"], "RegistryUnreachable")
        self.assertIn(self.registry, event["registry"]["trouble"]["message"])
        self.assertEqual([each["code"] for each in event["advice"]], ["registry_away"])
        self.assertIsInstance(event["registry"]["since"], int)
        self.come_back()
        event = await self.told(events, "ok")
        self.assertEqual((event["registry"]["trouble"], event["online"]), (None, True))
        await events.aclose()

    async def told(self, events: Any, state: str) -> dict[str, Any]:
        """Return the first event of this state of the registry."""
        while True:
            event = await next_of(events)
            is_health = event["event"] == "health" and event["registry"]["state"] == state
            if is_health and (state != "ok" or event["online"]):
                return event

    async def test_path(self) -> None:
        """The report on a path says which way leads to somebody, and what was tried."""
        await self.started("alice")
        await self.started("bob")
        client = await self.client()
        report = await client.ask("path", name="bob")
        self.assertTrue(report["direct"])
        self.assertIn(report["via"], ("tcp", "udp"))
        self.assertIn("used", [each["outcome"] for each in report["tried"]])
        self.assertEqual((report["error"], report["advice"]), (None, []))
        self.assertEqual(report["network"]["registry"], self.registry)
        with self.assertRaises(WrongUsage):
            await client.ask("path", name="alice")
        with self.assertRaises(NoSuchPeer):
            await client.ask("path", name="nobody")

    async def test_no_path(self) -> None:
        """Somebody who does not answer is no error of the request: the report says why."""
        await self.started("alice")
        bob = await self.started("bob")
        client = await self.client()
        await bob.stopService()
        await client.ask("people")
        report: Deferred[dict[str, Any]] = Deferred.fromCoroutine(client.ask("path", name="bob"))
        try:
            fields = await report
        except Exception as error:  # the registry tells no address of somebody offline
            self.assertEqual(type(error).__name__, "PeerOffline")
        else:
            self.assertIsNone(fields["via"])
