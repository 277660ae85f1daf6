"""Permission to use the relay, by the whole registry in memory."""

from __future__ import annotations

from dataclasses import replace

from twisted.web.http_headers import Headers

from p2pshare.registry.configuration import RelayLimits
from p2pshare.registry.relay.relay import Relay
from p2pshare.registry.relay.rooms import Rooms
from p2pshare.registry.relay.routes import RelayRoutes
from p2pshare.web.client_addresses import Origins
from p2pshare.web.exchange import Query, Reply
from p2pshare.wire.reach.access import Access, Use, detail_of_room
from p2pshare.wire.registry_answers import CLOCK_SKEW_MAX, Problem
from p2pshare.wire.statements import Statement
from tests.registry.owners import AUD, END, NOW, SOURCE, Owner, OwnersTestCase

ROOM = "r" * 22


class AccessTests(OwnersTestCase):
    """Threat 14: forged, reused and expired permissions."""

    def setUp(self) -> None:
        super().setUp()
        relay = Relay(self.clock, RelayLimits())
        self.rooms = Rooms(relay, self.clock)
        self.refused: list[str] = []
        routes = RelayRoutes(
            self.routes.access,
            self.rooms.enter,
            self.refused.append,
            origin=Origins().of,
            per_address_max=8,
        )
        self.routes.table.update(routes.table())
        self.addCleanup(self.rooms.stop)
        self.addCleanup(relay.stop)
        self.carol = Owner(3, "carol")
        for owner in (self.bob, self.carol):
            self.assertIn(self.ask(owner.put(owner.record(self.clock))).status, (200, 201))
        self.nonces = 0

    def access(self, owner: Owner, other: Owner, **changes: object) -> Access:
        """Return a proper statement, with changes."""
        self.nonces += 1
        proper = Access(
            owner.name, owner.key.public, AUD, int(NOW), f"{self.nonces:022}", Use.RELAY,
            detail_of_room(ROOM, other.key.public),
        )  # fmt: skip
        return replace(proper, **changes)  # type: ignore[arg-type]

    def answer(self, access: Statement | str, owner: Owner, other: Owner) -> Reply | None:
        """Return the reply to a request with this statement; None if it waits for the other peer."""
        header = access if isinstance(access, str) else f"P2pshare {access.sign(owner.key)}"
        query = Query(
            b"GET", b"v1/relay", b"", SOURCE, f"room={ROOM}&with={other.key.public}".encode(),
            Headers({"Authorization": [header]} if header else {}), END, upgrades=("p2pshare-relay",),
        )  # fmt: skip
        replies: list[Reply] = []
        self.routes.answer(query).addCallback(replies.append)
        return replies[0] if replies else None

    def problem(self, access: Statement | str, owner: Owner | None = None) -> str:
        reply = self.answer(access, owner or self.bob, self.carol)
        assert reply is not None
        return Problem.parse(reply.status, b"".join(reply.body)).word

    def test_forged(self) -> None:
        """Threat 14: without a valid statement of the key that owns the name, for this use, nobody waits or meets."""
        bob, carol, eve = self.bob, self.carol, self.eve
        self.assertEqual(self.problem(""), "unauthorized")
        self.assertEqual(self.problem("Bearer x"), "malformed")
        self.assertEqual(self.problem(self.access(bob, carol), eve), "wrong-signature")
        self.assertEqual(self.problem(self.access(eve, carol), eve), "not-owner")
        stolen = self.access(eve, carol, name="bob")
        self.assertEqual(self.problem(stolen, eve), "not-owner")
        for changes, word in (
            ({"use": Use.SIGNAL}, "malformed"),
            ({"detail": detail_of_room("x" * 22, carol.key.public)}, "malformed"),
            ({"detail": detail_of_room(ROOM, eve.key.public)}, "malformed"),
            ({"aud": eve.key.public}, "wrong-audience"),
        ):
            self.assertEqual(self.problem(self.access(bob, carol, **changes)), word, changes)
        self.assertEqual(len(self.rooms), 0)

    def test_expired(self) -> None:
        """Threat 14: a statement of the past or the future is rejected."""
        for seconds in (-CLOCK_SKEW_MAX - 1, CLOCK_SKEW_MAX + 1):
            late = self.access(self.bob, self.carol, iat=int(NOW) + seconds)
            self.assertEqual(self.problem(late), "wrong-time")
        self.assertEqual(len(self.rooms), 0)

    def test_reused(self) -> None:
        """Threat 14: a statement that was recorded cannot be used again, for the same room or another."""
        access = self.access(self.bob, self.carol)
        self.assertIsNone(self.answer(access, self.bob, self.carol))
        self.assertEqual(self.problem(access), "replayed")
        self.assertEqual(len(self.rooms), 1)

    def test_meeting(self) -> None:
        """Two owners with proper statements meet."""
        self.assertIsNone(self.answer(self.access(self.bob, self.carol), self.bob, self.carol))
        reply = self.answer(self.access(self.carol, self.bob), self.carol, self.bob)
        assert reply is not None
        self.assertEqual(reply.status, 101)
        self.assertEqual(self.refused, [])
