"""Tests of `p2pshare.peer.people`, on whole peers with a registry in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from twisted.internet.task import deferLater

from p2pshare.errors import KeyChanged, NoSuchPeer, NotFound, RemoteProtocolError
from p2pshare.peer.browse import sessions
from p2pshare.peer.control import ControlClient, running_peer
from p2pshare.peer.people import service
from p2pshare.peer.people.service import People
from p2pshare.peer.service import PeerService
from p2pshare.storage.identity.known_peers import KnownPeers
from p2pshare.wire.keys import SigningKey
from tests.peer.registry_case import RegistryTestCase

EVIL = SigningKey(b"e" * 32).public


class PeopleCase(RegistryTestCase):
    """Alice's peer and its control socket."""

    has_events = True

    async def client(self, name: str = "alice") -> ControlClient:
        """Connect to a peer."""
        client = await running_peer(self.reactor, self.data_of(name))
        assert client is not None
        self.addCleanup(client.close)
        return client

    async def known(self, peer: PeerService) -> KnownPeers:
        """Return the pins of a peer, as another process uses them."""
        registry = peer._client.key
        return KnownPeers(self.data_of("alice"), str(registry), wall=lambda: 1_700_000_000.0)

    async def event_of(
        self, events: AsyncGenerator[dict[str, Any]], name: str, **wanted: object
    ) -> dict[str, Any]:
        """Return the first event of a person that has these fields."""
        while True:
            event = await anext(events)
            wanted = {"event": "person", "name": name, **wanted}
            if all(event.get(key) == value for key, value in wanted.items()):
                return event


class ListTests(PeopleCase):
    async def test_who_is_there(self) -> None:
        """The list has everybody in the registry, whether they are online, and the user's own row."""
        await self.started("alice")
        bob = await self.started("bob")
        client = await self.client()
        listed = await client.ask("people")
        rows = {each["name"]: each for each in listed["people"]}
        self.assertEqual(list(rows), ["alice", "bob"])
        self.assertEqual((listed["more"], listed["complete"], listed["left_out"]), (False, True, 0))
        self.assertTrue(rows["alice"]["own"])
        self.assertTrue(rows["alice"]["online"])
        expected = {"own": False, "online": True, "trust": "new", "key": None, "path": None}
        self.assertEqual({key: rows["bob"][key] for key in expected}, expected)
        self.assertIsInstance(rows["bob"]["since"], int)
        await bob.stopService()
        events = await (await self.client()).follow()
        gone = await self.event_of(events, "bob", online=False)
        self.assertIsInstance(gone["since"], int)
        online = await client.ask("people", offline=False)
        self.assertEqual([each["name"] for each in online["people"]], ["alice"])
        await self.started("carol")
        carol = await self.event_of(events, "carol", online=True)
        self.assertIsInstance(carol["since"], int)
        found = await client.ask("people", search="AR")
        self.assertEqual([each["name"] for each in found["people"]], ["carol"])
        first = await client.ask("people", limit=1)
        self.assertEqual(
            ([each["name"] for each in first["people"]], first["more"]), (["alice"], True)
        )
        after = await client.ask("people", after="alice")
        self.assertEqual([each["name"] for each in after["people"]], ["bob", "carol"])
        await events.aclose()

    async def test_paths(self) -> None:
        """A session shows the path of the person at both ends, and the end of the session removes it."""
        self.patch(sessions, "IDLE_MAX", 3.0)
        await self.started("alice")
        await self.started("bob")
        bobs, client = await self.client("bob"), await self.client()
        await client.ask("people")
        await bobs.ask("people")
        events = await (await self.client()).follow()
        bobs_events = await (await self.client("bob")).follow()
        await client.ask("complete", peer="bob", prefix="")
        told = await self.event_of(events, "bob")
        self.assertEqual(told["path"]["kind"], "lan")
        self.assertIn(told["path"]["carrier"], ("tcp", "udp"))
        self.assertTrue(told["path"]["address"].startswith("127.0.0.1:"))
        other = await self.event_of(bobs_events, "alice")
        while other["path"] is None:
            other = await self.event_of(bobs_events, "alice")
        self.assertEqual(other["path"]["kind"], "lan")
        ended = await self.event_of(events, "bob", path=None)  # since nobody uses it
        self.assertIsNone(ended["path"])
        await events.aclose()
        await bobs_events.aclose()

    async def test_shares(self) -> None:
        """The list tells what the user has seen of somebody's shares, also after a restart, and asks nobody for it."""
        alice = await self.started("alice")
        bob = await self.started("bob")
        client = await self.client()

        async def shown() -> Any:
            listed = await client.ask("people", search="bob")
            return listed["people"][0]["shares"]

        self.assertIsNone(await shown())
        assert bob._sessions is not None
        self.assertEqual(list(bob._sessions.open_sessions), [])
        await client.ask("list", name="bob", path="")
        while (look := await shown()) is None:  # the new pin is noticed at the next look at them
            await deferLater(self.reactor, 0.05)
        self.assertEqual((look["names"], look["more"]), (["stuff"], False))
        await alice.stopService()
        await self.started("alice")
        client = await self.client()
        self.assertEqual(await shown(), look)
        await client.ask("forget", name="bob")
        self.assertIsNone(await shown())

    async def test_registry_away(self) -> None:
        """While the registry is away, those whose keys are known are listed at once; its return is told."""
        alice = await self.started("alice")
        (await self.known(alice)).pin("bob", EVIL, None)
        await self.go_away()
        client = await self.client()
        listed = await client.ask("people")
        self.assertEqual([each["name"] for each in listed["people"]], ["alice", "bob"])
        self.assertEqual((listed["complete"], listed["people"][1]["online"]), (False, None))
        self.assertEqual(listed["trouble"]["error"], "RegistryUnreachable")
        events = await (await self.client()).follow()
        self.come_back()
        event = await anext(events)
        while not (event["event"] == "people" and event["complete"]):
            event = await anext(events)
        self.assertEqual((event["trouble"], event["again"]), (None, True))
        listed = await client.ask("people")
        self.assertIs(listed["people"][1]["online"], False)
        self.patch(service, "OLD_AFTER", 0.5)
        await self.go_away()
        while not (event["event"] == "people" and event["old_since"] and event["trouble"]):
            event = await anext(events)
        self.assertEqual(
            (event["trouble"]["error"], event["again"]), ("RegistryUnreachable", False)
        )
        self.come_back()
        while not (event["event"] == "people" and event["old_since"] is None):
            event = await anext(events)
        self.assertIsNone(event["trouble"])
        await events.aclose()

    async def test_nobody_looks(self) -> None:
        """The stream of all names ends some time after the last question if nobody follows events."""
        self.patch(service, "LEASE", 2.0)
        alice = await self.started("alice")
        client = await self.client()
        await client.ask("people")
        people = next(each for each in alice._parts if isinstance(each, People))
        self.assertTrue(people.is_looking)
        while people.is_looking:
            await deferLater(self.reactor, 0.5)
        listed = await (await self.client()).ask("people")
        self.assertEqual([each["name"] for each in listed["people"]], ["alice"])


class TrustTests(PeopleCase):
    async def test_compared(self) -> None:
        """Both sides see the same code; a key that was compared is marked, and is forgotten with its pin."""
        alice, _bob = await self.started("alice"), await self.started("bob")
        client, bobs = await self.client(), await self.client("bob")
        await client.ask("people")
        person = await client.ask("person", name="bob")
        self.assertIsInstance(person["since"], int)  # since the claim of the name
        same = await bobs.ask("person", name="alice")
        self.assertEqual(person["compare"], same["compare"])
        self.assertEqual(person["compare"]["text"].splitlines()[0], "p2pshare: alice + bob")
        self.assertEqual(person["qr"], same["qr"])
        self.assertEqual({len(row) for row in person["qr"]}, {len(person["qr"])})
        self.assertEqual((person["trust"], person["pinned"]), ("new", None))
        self.assertEqual(person["fingerprint"].replace(" ", ""), person["key"])
        events = await (await self.client()).follow()
        row = await client.ask("compared", name="bob", key=person["key"])
        self.assertEqual(row["trust"], "compared")
        await self.event_of(events, "bob", trust="compared")
        person = await client.ask("person", name="bob")
        self.assertIsInstance(person["pinned"], int)
        known = await self.known(alice)
        known.forget("bob")  # by another process
        await self.event_of(events, "bob", trust="new", key=None)
        known.pin("bob", alice.key.public, None)
        await self.event_of(events, "bob", trust="known")
        with self.assertRaises(KeyChanged):
            await client.ask("compared", name="bob", key=person["key"])
        self.assertEqual((await client.ask("forget", name="bob"))["name"], "bob")
        with self.assertRaises(NotFound):
            await client.ask("forget", name="bob")
        await events.aclose()

    async def test_rotated(self) -> None:
        """A key that the old one has signed can be marked; the old one loses its mark."""
        await self.started("alice")
        await self.started("bob")
        client, bobs = await self.client(), await self.client("bob")
        before = (await client.ask("person", name="bob"))["key"]
        await client.ask("compared", name="bob", key=before)
        await bobs.ask("rotate")
        person = await client.ask("person", name="bob")
        self.assertNotEqual(person["key"], before)
        self.assertEqual(person["trust"], "known")
        row = await client.ask("compared", name="bob", key=person["key"])
        self.assertEqual((row["key"], row["trust"]), (person["key"], "compared"))

    async def test_changed(self) -> None:
        """Threat 100: a key that nothing explains is shown as changed, until the user forgets the old one."""
        alice, _bob = await self.started("alice"), await self.started("bob")
        client = await self.client()
        known = await self.known(alice)
        known.pin("bob", EVIL, None)
        known.compared("bob", EVIL)
        listed = await client.ask("people", search="bob")
        self.assertEqual(listed["people"][0]["trust"], "compared")
        person = await client.ask("person", name="bob")
        self.assertEqual((person["trust"], person["pinned"]), ("changed", 1_700_000_000))
        self.assertNotEqual(person["key"], str(EVIL))
        listed = await client.ask("people", search="bob")
        self.assertEqual(listed["people"][0]["trust"], "changed")
        await client.ask("forget", name="bob")
        person = await client.ask("person", name="bob")
        self.assertEqual(person["trust"], "new")

    async def test_nobody(self) -> None:
        """The own name has no code, and an unknown name is an error; so is one that no name can be."""
        await self.started("alice")
        client = await self.client()
        own = await client.ask("person", name="alice")
        self.assertEqual((own["own"], own["compare"], own["qr"]), (True, None, []))
        with self.assertRaises(NoSuchPeer):
            await client.ask("person", name="nobody")
        with self.assertRaises(RemoteProtocolError):
            await client.ask("compared", name="bob", key="x")
