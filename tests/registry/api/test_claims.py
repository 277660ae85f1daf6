"""Owned names: claims, releases, heartbeats, and replays of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.web.http_headers import Headers

from p2pshare.classic.registration import Registration
from p2pshare.errors import StoreUnavailable
from p2pshare.registry.api.authority import Authority
from p2pshare.registry.api.metrics import RegistryMetrics
from p2pshare.registry.configuration import RateLimit
from p2pshare.registry.store import OwnerClaim, OwnerOutcome
from p2pshare.web.exchange import Query
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.registry_answers import PRESENCE_LEASE, ClaimBody, Granted, RegistryInfo
from p2pshare.wire.statements import digest_of
from tests.registry.connections import make_authority
from tests.registry.owners import HERE, SOURCE, Owner, OwnersTestCase, get, send
from tests.wire.statements import location_of

ELSEWHERE = SigningKey(b"x" * 32).public


class ClaimTests(OwnersTestCase):
    """`PUT`, `DELETE` and heartbeats."""

    def presence(self) -> object:
        return self.body(get(b"v1/peers/bob"))["presence"]

    def test_claimed_and_renewed(self) -> None:
        """The first claim is 201, later ones of the same key are 200; the reply has `no-store`."""
        reply = self.ask(self.bob.put(self.bob.record(self.clock)))
        self.assertEqual((reply.status, dict(reply.headers)[b"Cache-Control"]), (201, b"no-store"))
        granted = Granted.parse(b"".join(reply.body))
        self.assertEqual((granted.outcome, granted.seen), ("claimed", SOURCE))
        self.clock.advance(1)
        self.assertEqual(self.claim(self.bob, 200).outcome, "renewed")

    def test_logged(self) -> None:
        """Claims and releases are logged, without any secret of a session."""
        with capturedLogs() as events:
            granted = self.claim(self.bob)
            self.clock.advance(1)
            self.claim(self.bob, 200)
            self.assertEqual(self.ask(self.bob.delete(self.clock)).status, 204)
        key = str(self.bob.key.public)
        told = [formatEvent(event) for event in events if event["log_level"] >= LogLevel.info]
        self.assertEqual(
            told, [f"name claimed: name=bob key={key}", f"name released: name=bob key={key}"]
        )
        self.assertNotIn(granted.session, str(events))

    def test_taken(self) -> None:
        """Another key is rejected, whether the owner is online or not (threat 20: stealing a name)."""
        self.claim(self.bob)
        for _ in range(2):
            self.assert_problem(self.ask(self.eve.put(self.eve.record(self.clock))), "taken", 409)
            self.clock.advance(PRESENCE_LEASE + 1)

    def test_stale(self) -> None:
        """A record whose `seq` is not greater changes nothing; the reply has the greatest `seq`."""
        self.claim(self.bob, seq=7)
        for seq in (6, 7):
            reply = self.ask(self.bob.put(self.bob.record(self.clock, seq=seq)))
            self.assert_problem(reply, "stale", 409, seq=7)

    def test_wrong_records(self) -> None:
        """Each invalid record is rejected with its own problem, and does not claim the name."""
        now = int(self.clock.seconds())
        good = self.bob.record(self.clock)
        signed = good.sign(self.bob.key)
        nowhere = replace(good, location="")
        bad = location_of("169.254.169.254:80").to_text()
        for body, word, status in (
            (b"{", "malformed", 400),
            (b"{}", "malformed", 400),
            (b'{"record": 1}', "malformed", 400),
            (json.dumps({"record": "x"}).encode(), "malformed", 400),
            (ClaimBody(signed[:-1]).to_json(), "malformed", 400),
            (ClaimBody(good.sign(self.eve.key)).to_json(), "wrong-signature", 401),
            (ClaimBody(replace(good, name="eve").sign(self.bob.key)).to_json(), "wrong-name", 400),
            (
                ClaimBody(replace(good, aud=ELSEWHERE).sign(self.bob.key)).to_json(),
                "wrong-audience",
                400,
            ),
            (ClaimBody(signed, "x").to_json(), "malformed", 400),
            (ClaimBody(signed, signed).to_json(), "malformed", 400),
            (ClaimBody(nowhere.sign(self.bob.key), HERE).to_json(), "malformed", 400),
            (
                ClaimBody(signed, location_of("10.0.0.5:50000", salt="t" * 22).to_text()).to_json(),
                "malformed",
                400,
            ),
            (
                ClaimBody(replace(good, location=digest_of(bad)).sign(self.bob.key), bad).to_json(),
                "malformed",
                400,
            ),
            *(
                (
                    ClaimBody(self.bob.record(self.clock, **wrong).sign(self.bob.key)).to_json(),
                    "wrong-time",
                    400,
                )
                for wrong in (  # each by itself
                    {"iat": now - 121},
                    {"iat": now + 121},
                    {"exp": now},
                    {"exp": now + 30 * 86400 + 1},
                )
            ),
        ):
            reply = self.ask(send(b"PUT", "bob", body))
            problem = self.assert_problem(reply, word, status)
            if word == "wrong-time":
                self.assertEqual(problem["time"], now)
            if status == 401:
                self.assertIn(b"WWW-Authenticate", dict(reply.headers))
        self.assertEqual(self.ask(get(b"v1/peers/bob")).status, 404)

    def test_limits_of_time(self) -> None:
        """Clocks may differ by 120 s, and a record may live for 30 days."""
        now = int(self.clock.seconds())
        self.claim(self.bob, iat=now - 120, seq=1, exp=now - 120 + 30 * 86400)
        self.claim(self.bob, 200, iat=now + 120, seq=2)

    def test_heartbeats(self) -> None:
        """Heartbeats keep a peer online. Without them its presence ends, and the next one renews it."""
        granted = self.claim(self.bob)
        for beat in range(1, 5):
            self.clock.advance(45)
            self.assertEqual(self.body(self.bob.beat(granted, beat)), {"lease": PRESENCE_LEASE})
            self.assertEqual(self.presence(), "online")
        self.clock.advance(PRESENCE_LEASE + 1)
        self.assertEqual(self.presence(), "offline")
        self.assertEqual(self.ask(self.bob.beat(granted, 9)).status, 200)
        self.assertEqual(self.presence(), "online")

    def test_last_heartbeat(self) -> None:
        """A heartbeat with `online` false ends the presence and the session at once."""
        granted = self.claim(self.bob)
        self.assertEqual(self.body(get(b"list")), ["bob"])
        self.assertEqual(self.ask(self.bob.beat(granted, 1, online=False)).status, 200)
        self.assertEqual(self.presence(), "offline")
        self.assertEqual(self.body(get(b"list")), [])
        self.assert_problem(self.ask(self.bob.beat(granted, 2)), "unknown-session", 401)

    def test_wrong_heartbeats(self) -> None:
        """A used number, a wrong MAC, another name, and an ended or unknown session are rejected."""
        granted = self.claim(self.bob)
        self.ask(self.bob.beat(granted, 5))
        wrong_key = replace(granted, mac_key=bytes(32))
        other_name = Owner(1, "eve")
        for query, word, status in (
            (self.bob.beat(granted, 5), "unknown-session", 401),
            (self.bob.beat(wrong_key, 6), "wrong-signature", 401),
            (other_name.beat(granted, 6), "wrong-signature", 401),
            (self.bob.beat(replace(granted, session="x"), 6), "unknown-session", 401),
            (self.bob.beat(replace(granted, session="1." + 22 * "a"), 6), "unknown-session", 401),
            (send(b"POST", "bob/presence", b"[]"), "malformed", 400),
            (send(b"POST", "bob/presence", b'{"online": 1}'), "malformed", 400),
        ):
            problem = self.assert_problem(self.ask(query), word, status)
            self.assertTrue(problem["detail"])
        self.clock.advance(granted.session_life)
        problem = self.assert_problem(self.ask(self.bob.beat(granted, 7)), "unknown-session", 401)
        self.assertIn("expired", problem["detail"])

    def test_released(self) -> None:
        """The owner can release the name, others cannot; then it is free."""
        self.claim(self.bob)
        self.assert_problem(self.ask(self.eve.delete(self.clock)), "not-owner", 403)
        stale = self.bob.delete(self.clock, seq=1)
        self.assert_problem(self.ask(stale), "stale", 409, seq=int(self.clock.seconds()) * 1000)
        self.assertEqual(self.ask(self.bob.delete(self.clock)).status, 204)
        self.assert_problem(self.ask(self.bob.delete(self.clock)), "not-found", 404)
        self.assertEqual(self.ask(get(b"v1/peers/bob")).status, 404)
        self.claim(self.eve)

    def test_wrong_releases(self) -> None:
        """Releases are checked like records (threat 22: deregistering others)."""
        self.claim(self.bob)
        self.clock.advance(1)
        now = int(self.clock.seconds())
        forged = self.eve.delete(self.clock, key=self.bob.key.public)
        for query, word, status in (
            (send(b"DELETE", "bob", b""), "malformed", 400),
            (forged, "wrong-signature", 401),
            (self.bob.delete(self.clock, iat=now - 121), "wrong-time", 400),
            (self.bob.delete(self.clock, aud=ELSEWHERE), "wrong-audience", 400),
            (replace(self.bob.delete(self.clock), path=b"v1/peers/eve"), "wrong-name", 400),
        ):
            self.assert_problem(self.ask(query), word, status)
        self.assertEqual(self.presence(), "online")

    def test_rotation(self) -> None:
        """A rotation that the old key signed gives the name to the new key; without it the name is taken."""
        new = Owner(3)
        self.claim(self.bob)
        rotation = self.bob.rotate(self.clock, new)
        record = new.record(self.clock, seq=int(self.clock.seconds()) * 1000 + 1)
        self.assert_problem(self.ask(new.put(record)), "taken", 409)
        self.assertEqual(self.ask(new.put(record, rotation=rotation)).status, 200)
        view = self.body(get(b"v1/peers/bob"))
        self.assertEqual((view["key"], view["rotations"]), (str(new.key.public), [rotation]))
        late = self.bob.record(self.clock, seq=record.seq + 1)
        self.assert_problem(self.ask(self.bob.put(late)), "taken", 409)

    def test_wrong_rotations(self) -> None:
        """A rotation for another name, registry, key or time, or signed by another key, is rejected."""
        new, now = Owner(3), int(self.clock.seconds())
        self.claim(self.bob)
        record = new.record(self.clock, seq=now * 1000 + 1)
        for rotation, detail in (
            ("x", "the rotation is wrong: it is not two"),
            (self.bob.rotate(self.clock, self.eve), "to the record's key"),
            (new.rotate(self.clock, new), "to itself"),
        ):
            reply = self.ask(new.put(record, rotation=rotation))
            self.assertIn(detail, self.assert_problem(reply, "malformed", 400)["detail"])
        for rotation, word, status in (
            (self.bob.rotate(self.clock, new, name="eve"), "wrong-name", 400),
            (self.bob.rotate(self.clock, new, aud=ELSEWHERE), "wrong-audience", 400),
            (self.bob.rotate(self.clock, new, iat=now + 121), "wrong-time", 400),
            (self.eve.rotate(self.clock, new, key=self.bob.key.public), "wrong-signature", 401),
        ):
            self.assert_problem(self.ask(new.put(record, rotation=rotation)), word, status)
        self.assertEqual(self.body(get(b"v1/peers/bob"))["key"], str(self.bob.key.public))

    def test_old_rotations_are_ignored(self) -> None:
        """A rotation older than 30 days replaces no key; a claim with it is an ordinary renewal (threat 19)."""
        new, now = Owner(3), int(self.clock.seconds())
        self.claim(self.bob)
        old = self.bob.rotate(self.clock, new, iat=now - 30 * 86400)
        record = new.record(self.clock, seq=now * 1000 + 1)
        self.assert_problem(self.ask(new.put(record, rotation=old)), "taken", 409)
        rotation = self.bob.rotate(self.clock, new)
        self.assertEqual(self.ask(new.put(record, rotation=rotation)).status, 200)
        for days in (29, 2):
            self.clock.advance(days * 86400)
            reply = self.ask(new.put(new.record(self.clock), rotation=rotation))
            self.assertEqual(reply.status, 200)

    def test_recorded_rotations(self) -> None:
        """A rotation does not count again after the key that it replaced has returned (threat 19)."""
        new = Owner(3)
        self.claim(self.bob)
        first = self.bob.rotate(self.clock, new)
        self.clock.advance(1)
        self.assertEqual(self.ask(new.put(new.record(self.clock), rotation=first)).status, 200)
        self.clock.advance(1)
        back = new.rotate(self.clock, self.bob)
        self.assertEqual(
            self.ask(self.bob.put(self.bob.record(self.clock), rotation=back)).status, 200
        )
        self.clock.advance(1)
        replayed = self.ask(new.put(new.record(self.clock), rotation=first))
        self.assert_problem(replayed, "taken", 409)

    def test_classic_never_takes_an_owned_name(self) -> None:
        """A replayed rotation fails while the owner is online, and later."""
        self.claim(self.bob)
        body = Registration("bob", PeerAddress("10.0.0.6", 1)).to_json()
        for _ in range(2):
            self.assertEqual(self.ask(Query(b"POST", b"name", body, SOURCE)).status, 400)
            self.clock.advance(PRESENCE_LEASE + 1)


class ReplayTests(OwnersTestCase):
    """Threat 19: replayed requests change nothing, now, later or at another registry."""

    def replay(self, recorded: list[Query]) -> None:
        """Replay all requests, and assert that the name is unchanged."""
        before = self.ask(get(b"v1/peers/bob"))
        for query in recorded:
            self.assertGreaterEqual(self.ask(query).status, 400, query)
            self.assertEqual(self.ask(get(b"v1/peers/bob")), before, query)

    def record_a_life(self) -> list[Query]:
        """Return a claim, heartbeats, a rotation and a release, one second apart."""
        new = Owner(3)
        first = self.bob.put(self.bob.record(self.clock))
        granted = Granted.parse(b"".join(self.ask(first).body))
        recorded = [first, self.bob.beat(granted, 1), self.bob.beat(granted, 2)]
        self.clock.advance(1)
        rotation = self.bob.rotate(self.clock, new)
        recorded.append(new.put(new.record(self.clock), rotation=rotation))
        self.clock.advance(1)
        recorded.append(new.delete(self.clock))
        for query in recorded[1:]:
            self.assertLess(self.ask(query).status, 300)
        return recorded

    def test_at_once(self) -> None:
        """Replays fail while the owner has the name: each request after the next one, or right after itself."""
        granted = self.claim(self.bob, seq=10)
        beat = self.bob.beat(granted, 1)
        self.ask(beat)
        again = self.bob.put(self.bob.record(self.clock, seq=10))
        self.replay([again, beat])

    def test_after_the_release(self) -> None:
        """Replays do not claim a free name."""
        self.replay(self.record_a_life())

    def test_after_somebody_else_has_it(self) -> None:
        """Replays do not affect the next owner, at once or after 121 s."""
        recorded = self.record_a_life()
        self.claim(self.eve)
        self.replay(recorded)
        self.clock.advance(121)
        self.replay(recorded)

    def test_later(self) -> None:
        """After 121 s a replayed request has the wrong time, whether the name is free or not (threat 38)."""
        recorded = self.record_a_life()
        self.clock.advance(121)
        self.replay(recorded)
        for query in recorded:
            if query.method != b"POST":
                self.assert_problem(self.ask(query), "wrong-time", 400)

    def test_elsewhere(self) -> None:
        """Another registry rejects the audience of a statement, and the session of a heartbeat."""
        recorded = self.record_a_life()
        elsewhere = self.another_registry()
        for query in recorded:
            reply = self.ask(query, elsewhere)
            if query.method == b"POST":
                self.assert_problem(reply, "wrong-signature", 401)
            else:
                self.assert_problem(reply, "wrong-audience", 400)

    def test_sessions_of_another_key(self) -> None:
        """A session of another registry is rejected, even with the same store."""
        granted = self.claim(self.bob)
        other = Authority(SigningKey(bytes(32)), self.clock.seconds, lambda size: bytes(size))
        self.assertNotEqual(other.mac_key("bob", granted.session), granted.mac_key)


class AudienceTests(OwnersTestCase):
    """The audience of a statement."""

    def test_any_way_in(self) -> None:
        """The registry's key is the audience, at any address and host name."""
        for end, host in (
            (("10.0.0.1", 8000), b"nas.lan:8000"),
            (("127.0.0.1", 8000), b"127.0.0.1:8000"),
            (("::ffff:10.0.0.1", 80), b"10.0.0.1"),
            (None, b"names.example"),
        ):
            self.clock.advance(1)
            query = self.bob.put(self.bob.record(self.clock))
            headers = Headers({b"Host": [host]})
            self.assertIn(self.ask(replace(query, local=end, headers=headers)).status, (200, 201))

    def test_host_is_not_believed(self) -> None:
        """No `Host` header makes a registry accept a statement for another one (threat 27)."""
        query = self.bob.put(self.bob.record(self.clock, aud=ELSEWHERE))
        for host in (str(ELSEWHERE).encode(), b"10.0.0.2:8000"):
            reply = self.ask(replace(query, headers=Headers({b"Host": [host]})))
            self.assert_problem(reply, "wrong-audience", 400)

    def test_relayed_proof(self) -> None:
        """An impostor that forwards the real registry's proof gets statements for the real one only (threat 19)."""
        challenge = b"cNcNcNcNcNcNcNcNcNcNcw"
        about = self.body(get(b"v1/?challenge=" + challenge))
        proven = RegistryInfo.parse(json.dumps(about).encode())
        self.assertTrue(proven.proves(challenge.decode()))
        query = self.bob.put(self.bob.record(self.clock, aud=proven.key))
        self.assert_problem(self.ask(query, self.another_registry()), "wrong-audience", 400)
        self.assertEqual(self.ask(query).status, 201)


class RecoveryTests(OwnersTestCase):
    """After a loss, the store fills again with the right owners."""

    def test_receipts(self) -> None:
        """Strangers have to wait, an owner with a receipt does not; after a lease everybody can claim."""
        receipt = self.claim(self.bob).receipt
        self.store.lose()
        self.clock.advance(1)
        stranger = self.ask(self.eve.put(self.eve.record(self.clock)))
        self.assert_problem(stranger, "recovering", 503)
        self.assertIn(b"Retry-After", dict(stranger.headers))
        stolen = self.ask(self.eve.put(self.eve.record(self.clock), receipt=receipt))
        self.assert_problem(stolen, "recovering", 503)
        self.assert_problem(self.ask(self.bob.delete(self.clock)), "recovering", 503)
        back = self.ask(self.bob.put(self.bob.record(self.clock), receipt=receipt))
        self.assertEqual(back.status, 201)
        self.clock.advance(PRESENCE_LEASE)
        self.assert_problem(self.ask(self.eve.put(self.eve.record(self.clock))), "taken", 409)

    def test_receipt_of_the_key_before(self) -> None:
        """An owner that has rotated its key sends the receipt of the old key and the rotation."""
        receipt = self.claim(self.bob).receipt
        self.store.lose()
        self.clock.advance(1)
        new = Owner(3)
        record = new.record(self.clock)
        rotation = self.bob.rotate(self.clock, new)
        back = self.ask(new.put(record, receipt=receipt, rotation=rotation))
        self.assertEqual(back.status, 201)

    def test_bad_receipts_are_ignored(self) -> None:
        """Expired and forged receipts, and those of another name, are ignored."""
        receipt = self.claim(self.bob).receipt
        for wrong in ("x", "x.y", receipt[:-4], receipt):
            self.clock.advance(30 * 86400)
            reply = self.ask(self.bob.put(self.bob.record(self.clock), receipt=wrong))
            self.assertLess(reply.status, 300)
        self.store.lose()
        self.clock.advance(1)
        reply = self.ask(self.bob.put(self.bob.record(self.clock), receipt=receipt))
        self.assert_problem(reply, "recovering", 503)


class InvitationTests(OwnersTestCase):
    """A registry that accepts new names only with an invitation."""

    settings: ClassVar = {"invite_only": True}

    def setUp(self) -> None:
        super().setUp()
        self.authority = make_authority(self.clock)

    def test_needed_and_used_once(self) -> None:
        """An invitation is valid for one name and key, and its holder may repeat the claim."""
        invitation = self.authority.invite(60)
        self.assert_problem(
            self.ask(self.bob.put(self.bob.record(self.clock))), "invitation-needed", 403
        )
        for status in (201, 200):
            self.clock.advance(1)
            reply = self.ask(self.bob.put(self.bob.record(self.clock), invitation=invitation))
            self.assertEqual(reply.status, status)
        self.clock.advance(1)
        self.claim(self.bob, 200)
        eve = Owner(2, "eve")
        reply = self.ask(eve.put(eve.record(self.clock), invitation=invitation))
        self.assert_problem(reply, "invitation-refused", 403)

    def test_refused(self) -> None:
        """A malformed or expired invitation, or one of another registry, is rejected."""
        invitation = self.authority.invite(60)
        self.clock.advance(60)
        for wrong in ("x", invitation, invitation[:-4]):
            reply = self.ask(self.bob.put(self.bob.record(self.clock), invitation=wrong))
            self.assert_problem(reply, "invitation-refused", 403)
        self.assertEqual(self.ask(get(b"v1/peers/bob")).status, 404)

    def test_owners_come_back_without(self) -> None:
        """After a loss of the store, a receipt suffices; an older invitation is rejected."""
        invitation = self.authority.invite(60)
        reply = self.ask(self.bob.put(self.bob.record(self.clock), invitation=invitation))
        receipt = Granted.parse(b"".join(reply.body)).receipt
        self.store.lose()
        self.clock.advance(1)
        back = self.ask(self.bob.put(self.bob.record(self.clock), receipt=receipt))
        self.assertEqual(back.status, 201)

    def test_classic(self) -> None:
        """An original gets no new name (400 without a body), and can renew one that it has."""
        body = Registration("carol", PeerAddress("10.0.0.6", 1)).to_json()
        query = Query(b"POST", b"name", body, SOURCE)
        self.assertEqual(self.ask(query).status, 400)
        self.assertEqual(self.ask(get(b"user/carol")).status, 400)
        self.assertEqual(self.ask(query, self.make_routes(limits={})).status, 200)
        self.assertEqual(self.ask(query).status, 200)


class OutcomeTests(OwnersTestCase):
    """The outcomes of claims in the metrics."""

    def test_each_is_counted(self) -> None:
        """Every claim is counted once by its outcome, whether it was rejected early, late or by the store."""
        counted: list[str] = []
        metrics = mock.Mock(spec=RegistryMetrics)
        metrics.claim = counted.append
        routes = self.make_routes(
            metrics=metrics, invite_only=True, limits={"claims": RateLimit(0.001, 9)}
        )
        invitation = make_authority(self.clock).invite(600)

        def put(owner: Owner = self.bob, iat: int = 0, **more: Any) -> Query:
            self.clock.advance(1)
            record = owner.record(self.clock)
            return owner.put(replace(record, iat=record.iat + iat), **more)

        forged = ClaimBody(self.bob.record(self.clock).sign(self.eve.key)).to_json()
        recorded = put(invitation=invitation)
        for query, outcome in (
            (send(b"PUT", "bob", b"{}"), "malformed"),
            (put(iat=-500), "wrong-time"),
            (send(b"PUT", "bob", forged), "wrong-signature"),
            (put(), "invitation-needed"),
            (put(invitation="x"), "invitation-refused"),
            (recorded, "claimed"),
            (put(), "renewed"),
            (recorded, "stale"),
            (put(self.eve), "taken"),
        ):
            self.ask(query, routes)
            self.assertEqual(counted.pop(), outcome)
            self.assertEqual(counted, [], outcome)
        self.store.lose()
        for outcome in ("recovering", "recovering", "too-many-requests"):
            self.ask(put(), routes)
            self.assertEqual(counted.pop(), outcome)
        with mock.patch.object(self.store, "claim_owned", side_effect=StoreUnavailable(reason="x")):
            self.ask(self.bob.put(self.bob.record(self.clock)), self.make_routes(metrics=metrics))
        self.assertEqual(counted, ["unavailable"])


class CostTests(OwnersTestCase):
    """Which client, network or key pays for a request."""

    settings: ClassVar = {
        "limits": {
            "claims": RateLimit(0.1, 5),
            "names": RateLimit(0.1, 2),
            "key": RateLimit(0.1, 3),
        }
    }

    def status(self, owner: Owner, source: str = SOURCE) -> int:
        self.clock.advance(0.001)
        seq = round(self.clock.seconds() * 1000)
        return self.ask(owner.put(owner.record(self.clock, seq=seq), source)).status

    def test_claims_of_an_address(self) -> None:
        """Invalid signatures use up the limit of the address, and nobody else's."""
        forged = self.bob.record(self.clock)
        statuses = [
            self.ask(send(b"PUT", "bob", ClaimBody(forged.sign(self.eve.key)).to_json())).status
            for _ in range(7)
        ]
        self.assertEqual(statuses, [401] * 5 + [429] * 2)
        self.assertEqual(self.status(self.bob, "10.9.8.8"), 201)

    def test_new_names_of_a_network(self) -> None:
        """A /24 may claim two new names; renewals and other networks are not affected (threat 20)."""
        owners = [Owner(number, f"n{number}") for number in range(1, 5)]
        found = [self.status(owner, f"10.9.9.{owner.name[1]}") for owner in owners[:3]]
        self.assertEqual(found, [201, 201, 429])
        self.assertEqual(self.status(owners[0], "10.9.9.9"), 200)
        self.assertEqual(self.status(owners[3], "10.9.10.1"), 201)

    def test_new_names_at_once(self) -> None:
        """Concurrent claims get no more new names than the limit permits (threat 20)."""
        owners = [Owner(number, f"n{number}") for number in range(1, 4)]
        self.assertEqual(self.status(owners[0]), 201)
        claim_owned = self.store.claim_owned
        gate: Deferred[None] = Deferred()

        async def claim_later(claim: OwnerClaim) -> OwnerOutcome:
            await gate
            return await claim_owned(claim)

        self.patch(self.store, "claim_owned", claim_later)
        asked = [
            self.routes.answer(each.put(each.record(self.clock), f"10.9.9.{each.name[1]}"))
            for each in owners[1:]
        ]
        gate.callback(None)
        found = [self.successResultOf(each).status for each in asked]
        self.assertEqual(sorted(found), [201, 429])

    def test_replays_of_a_key(self) -> None:
        """Replayed claims, releases and heartbeats do not use up a key's limit (threat 20)."""
        record = self.bob.put(self.bob.record(self.clock))
        granted = Granted.parse(b"".join(self.ask(record).body))
        beat = self.bob.beat(granted, 1)
        self.assertEqual(self.ask(beat).status, 200)
        stale = self.bob.delete(self.clock, seq=1)
        for number in range(10):
            self.clock.advance(0.1)
            statuses = [self.ask(beat).status, self.ask(stale).status]
            statuses.append(self.ask(replace(record, source=f"10.1.{number}.1")).status)
            self.assertEqual(statuses[0], 401)
            self.assertIn(statuses[1], (409, 429), "the address's own limit")
            self.assertEqual(statuses[2], 409)
        self.assertEqual(self.ask(self.bob.beat(granted, 2)).status, 200)
        self.assertEqual(self.status(self.bob, "10.2.0.1"), 200)

    def test_new_classic_names(self) -> None:
        """Names of originals count, too; the 429 for an original has no body."""
        statuses = []
        for number in range(1, 4):
            body = Registration(f"n{number}", PeerAddress("10.0.0.6", 1)).to_json()
            query = Query(b"POST", b"name", body, f"10.9.9.{number}")
            statuses.append(self.ask(query).status)
        self.assertEqual(statuses, [200, 200, 429])

    def test_key(self) -> None:
        """A key that claims too often has to wait, from any address."""
        found = [self.status(self.bob, f"10.{number}.1.1") for number in range(6)]
        self.assertEqual(found[:1], [201])
        self.assertEqual(found[-1], 429)

    def test_loopback(self) -> None:
        """A client on this machine is not limited."""
        self.assertEqual([self.status(self.bob, "127.0.0.1") for _ in range(9)], [201] + [200] * 8)
