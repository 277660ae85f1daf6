"""The client of a registry: proofs, claims, look-ups, and invalid answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Request

from p2pshare.errors import (
    AudienceRefused,
    ClockWrong,
    InvitationNeeded,
    InvitationRefused,
    NameTaken,
    NoSuchPeer,
    NotOwner,
    P2pshareError,
    RegistryBusy,
    RegistryChanged,
    RegistryDowngraded,
    RegistryHasNoOwners,
    RegistryNotBelieved,
    RegistryRecovering,
    RegistryRefused,
    RegistryUnavailable,
    RegistryUnreachable,
    StaleRecord,
)
from p2pshare.registry import client as client_module
from p2pshare.registry.client import (
    CHALLENGE_SIZE,
    NO_PROOF,
    NOT_A_REGISTRY,
    PAGE_BYTES_MAX,
    RETRY_AFTER_DEFAULT,
    RegistryClient,
)
from p2pshare.web.client import REPLY_MAX, RETRY_AFTER_MAX, TOO_LONG
from p2pshare.web.problems import PROBLEMS, problem
from p2pshare.wire.heartbeats import Heartbeat
from p2pshare.wire.keys import SigningKey, to_base64url
from p2pshare.wire.registry_answers import (
    CLOCK_SKEW_MAX,
    PAGE_MAX,
    RECORD_LIFE,
    ClaimBody,
    Granted,
    NameKind,
    PeerPage,
    PeerSummary,
    PeerView,
    Presence,
    RegistryInfo,
    ReleaseBody,
)
from p2pshare.wire.statements import Invitation, Proof, Record, digest_of
from tests.wire.statements import location_of

URL = "http://registry.example:8000"
NOW = 1_800_000_000
BOB, EVE = SigningKey(b"\1" * 32), SigningKey(b"\2" * 32)
HERE = ("10.0.0.5:50000",)
LOCATION = location_of(*HERE).to_text()
RECORD = Record(
    "bob", BOB.public, 7, NOW, NOW + RECORD_LIFE, EVE.public, digest_of(LOCATION), ("classic",)
)
SUMMARY = PeerSummary("bob", NameKind.OWNED, Presence.ONLINE, NOW)
VIEW = PeerView(SUMMARY, BOB.public, RECORD.sign(BOB), (), HERE, LOCATION)
GRANTED = Granted("claimed", "1.s", b"m" * 32, "re.ceipt", "10.0.0.5")
REGISTRY, IMPOSTOR = EVE, SigningKey(b"\3" * 32)
CHALLENGE = to_base64url(bytes(CHALLENGE_SIZE))


def info_of(key: SigningKey = REGISTRY, **changes: Any) -> RegistryInfo:
    """Return a registry's description with a proof for `CHALLENGE`."""
    proof = Proof(key.public, CHALLENGE, NOW).sign(key)
    return replace(RegistryInfo("1", NOW, key.public, (URL,), False, proof), **changes)


INFO = info_of()
BEAT = Heartbeat("bob", "1.s", 1, online=True)


class Scripted(Resource):
    """A server that gives its replies in turn, repeats the last one, and records the requests."""

    isLeaf = True

    def __init__(self, *replies: tuple[int, bytes], headers: dict[str, str] | None = None) -> None:
        super().__init__()
        self.replies = list(replies)
        self.headers = headers or {}
        self.asked: list[tuple[bytes, bytes, bytes]] = []

    def render(self, request: Request) -> bytes:
        assert request.content is not None
        self.asked.append((request.method, request.uri, request.content.read()))
        status, body = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        request.setResponseCode(status)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        return body


async def gathered(peers: AsyncIterator[PeerSummary]) -> list[PeerSummary]:
    return [each async for each in peers]


class OwnedClientTestCase(SynchronousTestCase):
    """A client of a scripted registry."""

    def client(self, *replies: tuple[int, bytes], **headers: str) -> RegistryClient:
        self.now = float(NOW)
        self.scripted = Scripted(*replies, headers={k.replace("_", "-"): v for k, v in headers.items()})  # fmt: skip
        self.agent = RequestTraversalAgent(self.scripted)
        return RegistryClient(self.agent, URL, Clock(), wall=lambda: self.now, random_bytes=bytes)

    def result(self, running: Coroutine[Deferred[Any], Any, Any]) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(running))

    def error(
        self, kind: type[P2pshareError], running: Coroutine[Deferred[Any], Any, Any]
    ) -> P2pshareError:
        asked: Deferred[Any] = Deferred.fromCoroutine(running)
        self.agent.flush()
        error = self.failureResultOf(asked, P2pshareError).value
        self.assertIs(type(error), kind, error)
        assert isinstance(error, P2pshareError)
        return error

    def everything(self, client: RegistryClient) -> list[Coroutine[Deferred[Any], Any, Any]]:
        return [
            client.info(),
            client.claim("bob", ClaimBody("re.cord")),
            client.release("bob", ReleaseBody("re.lease")),
            client.beat(BEAT, b"m" * 32),
            client.look_up_peer("bob"),
            client.look_up_key(BOB.public),
            gathered(client.peers()),
        ]


class ProofTests(OwnedClientTestCase):
    """A registry proves its key before the client signs anything."""

    def test_proven_once(self) -> None:
        """The proof is requested once in the life of the client."""
        client = self.client((200, INFO.to_json()))
        for _ in range(3):
            self.assertEqual(self.result(client.prove()), REGISTRY.public)
        self.assertEqual(len(self.scripted.asked), 1)

    def test_not_proven(self) -> None:
        """A missing proof, and one with another challenge, key or kind, are rejected."""
        other = to_base64url(b"x" * CHALLENGE_SIZE)
        for proof in (
            None,
            "x",
            Proof(REGISTRY.public, other, NOW).sign(REGISTRY),
            Proof(REGISTRY.public, CHALLENGE, NOW).sign(IMPOSTOR),
            Proof(IMPOSTOR.public, CHALLENGE, NOW).sign(IMPOSTOR),
            Proof(IMPOSTOR.public, CHALLENGE, NOW).sign(REGISTRY),
            Invitation(CHALLENGE, NOW, NOW).sign(REGISTRY),
        ):
            client = self.client((200, info_of(proof=proof).to_json()))
            error = self.error(RegistryUnreachable, client.prove())
            self.assertEqual(error.fields["reason"], NO_PROOF)
            self.assertIsNone(client.key)

    def test_another_key(self) -> None:
        """Once the key of a URL is known, another key or none is an error (threat 15)."""
        client = self.client((200, info_of(IMPOSTOR).to_json()), (404, b""))
        client.known = REGISTRY.public
        error = self.error(RegistryChanged, client.info())
        known, now = REGISTRY.public.grouped, IMPOSTOR.public.grouped
        self.assertEqual(error.fields, {"registry": URL, "known": known, "now": now})
        self.error(RegistryDowngraded, client.info())
        self.assertIsNone(client.key)

    def test_no_owners(self) -> None:
        """An original registry proves no key."""
        self.error(RegistryHasNoOwners, self.client((404, b"")).prove())

    def test_record_for_another_registry(self) -> None:
        """A record for another registry is rejected."""
        elsewhere = replace(RECORD, aud=IMPOSTOR.public)
        view = replace(VIEW, record=elsewhere.sign(BOB))
        client = self.client((200, INFO.to_json()), (200, view.to_json()))
        self.result(client.prove())
        error = self.error(RegistryNotBelieved, client.look_up_peer("bob"))
        self.assertIn("another registry", str(error.fields["reason"]))


class KeyForgeryTests(OwnedClientTestCase):
    """What a registry says of a key is verified as what it says of a name."""

    def test_record_of_another_key(self) -> None:
        """Threat 15: a record that the key of the answer has not signed is rejected."""
        view = replace(VIEW, record=RECORD.sign(IMPOSTOR))
        client = self.client((200, view.to_json()))
        self.error(RegistryNotBelieved, client.look_up_key(BOB.public))


class AnswerTests(OwnedClientTestCase):
    """Valid answers."""

    def test_info(self) -> None:
        """A registry describes itself; any reply of an original one is recognized."""
        client = self.client((200, INFO.to_json()))
        self.assertEqual(self.result(client.info()), INFO)
        path = f"/v1/?challenge={CHALLENGE}".encode()
        self.assertEqual(self.scripted.asked, [(b"GET", path, b"")])
        for status in (400, 404, 405, 501):
            self.assertIsNone(self.result(self.client((status, b"<h1>")).info()))

    def test_claim(self) -> None:
        """A claim is sent unchanged, and the grant is returned."""
        for status in (200, 201):
            client = self.client((status, GRANTED.to_json()))
            body = ClaimBody("re.cord", receipt="re.ceipt")
            self.assertEqual(self.result(client.claim("bob", body)), GRANTED)
            self.assertEqual(self.scripted.asked, [(b"PUT", b"/v1/peers/bob", body.to_json())])

    def test_release(self) -> None:
        """A release is sent unchanged."""
        client = self.client((204, b""))
        body = ReleaseBody("re.lease")
        self.assertIsNone(self.result(client.release("bob", body)))
        self.assertEqual(self.scripted.asked, [(b"DELETE", b"/v1/peers/bob", body.to_json())])

    def test_beat(self) -> None:
        """A heartbeat counts, or the session has ended."""
        client = self.client((200, b'{"lease": 90}'), (401, b""))
        self.assertTrue(self.result(client.beat(BEAT, b"m" * 32)))
        self.assertFalse(self.result(client.beat(BEAT, b"m" * 32)))
        method, path, body = self.scripted.asked[0]
        self.assertEqual((method, path), (b"POST", b"/v1/peers/bob/presence"))
        self.assertTrue(Heartbeat.parse("bob", body).is_authentic(b"m" * 32))

    def test_look_up_key(self) -> None:
        """A key owns a name, whose record is verified, or none."""
        client = self.client((200, VIEW.to_json()), (404, b""))
        self.assertEqual(self.result(client.look_up_key(BOB.public)), VIEW)
        self.assertIsNone(self.result(client.look_up_key(BOB.public)))
        self.assertEqual(self.scripted.asked[0][1], f"/v1/keys/{BOB.public}".encode())

    def test_peers(self) -> None:
        """All pages are read, each from the end of the one before."""
        names = [f"p{number}" for number in range(5)]
        all_ = [PeerSummary(name, NameKind.OWNED, Presence.ONLINE, NOW) for name in names]
        pages = [
            PeerPage((all_[0], all_[1]), "p1"),
            PeerPage((), "p3"),
            PeerPage(tuple(all_[2:]), None),
        ]
        client = self.client(*((200, page.to_json()) for page in pages))
        self.assertEqual(self.result(gathered(client.peers("p", online=True))), all_)
        asked = [path.decode() for _, path, _ in self.scripted.asked]
        first = f"/v1/peers?prefix=p&limit={PAGE_MAX}&online=true"
        self.assertEqual(asked[0], first)
        self.assertEqual([each.partition("after=")[2][:2] for each in asked], ["", "p1", "p3"])

    def test_full_page(self) -> None:
        """The largest page is within the bound."""
        peer = PeerSummary("x" * 32, NameKind.CLASSIC, Presence.UNKNOWN, 2**53 - 1)
        page = PeerPage((peer,) * PAGE_MAX, None)
        self.assertLess(len(page.to_json()), PAGE_BYTES_MAX)
        found = self.result(gathered(self.client((200, page.to_json())).peers()))
        self.assertEqual(len(found), PAGE_MAX)

    def test_pages_without_end(self) -> None:
        """Pages that go back are an error."""
        page = PeerPage((SUMMARY,), "bob")
        error = self.error(
            RegistryUnreachable, gathered(self.client((200, page.to_json())).peers())
        )
        self.assertEqual(error.fields["reason"], NOT_A_REGISTRY)

    def test_names_without_end(self) -> None:
        """An endless list is an error after `NAMES_MAX` names or `PAGES_MAX` pages."""
        self.patch(client_module, "NAMES_MAX", 7)
        self.patch(client_module, "PAGES_MAX", 5)
        for peers, asked in (((SUMMARY,) * 2, 4), ((), 5)):
            pages = [PeerPage(peers, f"p{number}") for number in range(10)]
            client = self.client(*((200, page.to_json()) for page in pages))
            error = self.error(RegistryUnreachable, gathered(client.peers()))
            self.assertIn(f" {asked * len(peers)} names", str(error.fields["reason"]))
            self.assertEqual(len(self.scripted.asked), asked)


class ViewTests(OwnedClientTestCase):
    """Answers about a peer are verified by its signature."""

    def look_up(self, view: PeerView, name: str = "bob") -> Coroutine[Deferred[Any], Any, Any]:
        return self.client((200, view.to_json())).look_up_peer(name)

    def test_owned(self) -> None:
        """A record that its owner has signed is accepted."""
        self.assertEqual(self.result(self.look_up(VIEW)), VIEW)
        self.assertEqual(self.scripted.asked, [(b"GET", b"/v1/peers/bob", b"")])

    def test_classic(self) -> None:
        """A classic name needs no record."""
        classic = replace(SUMMARY, kind=NameKind.CLASSIC, presence=Presence.UNKNOWN)
        view = PeerView(classic, None, None, (), HERE)
        self.assertEqual(self.result(self.look_up(view)), view)

    def test_nobody(self) -> None:
        """404 is `NoSuchPeer`."""
        self.error(NoSuchPeer, self.client((404, _problem("not-found"))).look_up_peer("bob"))

    def test_not_believed(self) -> None:
        """Every invalid answer is rejected with its reason (threat 15)."""
        other = replace(RECORD, name="alice").sign(BOB)
        for view, fault in (
            (replace(VIEW, key=EVE.public), "signature"),
            (replace(VIEW, record=replace(RECORD, key=EVE.public).sign(EVE)), "signature"),
            (replace(VIEW, record=replace(RECORD, key=EVE.public).sign(BOB)), "another name or key"),
            (replace(VIEW, record=other), "another name or key"),
            (replace(VIEW, addresses=("10.6.6.6:50000",)), "not those of the location"),
            (replace(VIEW, addresses=()), "not those of the location"),
            (replace(VIEW, location=None), "not those of the location"),
            (replace(VIEW, location="x"), "base64url"),
            (replace(VIEW, location=location_of(*HERE, salt="t" * 22).to_text()), "does not match the record"),
            (
                replace(
                    VIEW,
                    location=location_of("10.6.6.6:50000").to_text(),
                    addresses=("10.6.6.6:50000",),
                ),
                "does not match the record",
            ),
            (replace(VIEW, record=replace(RECORD, location="").sign(BOB)), "does not match the record"),
            (replace(VIEW, record=None), "no record"),
            (replace(VIEW, key=None), "no record"),
            (replace(VIEW, record="non.sense"), "base64url"),
            (replace(VIEW, summary=replace(SUMMARY, name="alice")), "another name"),
        ):  # fmt: skip
            error = self.error(RegistryNotBelieved, self.look_up(view))
            self.assertIn(fault, str(error.fields["reason"]))

    def test_expired(self) -> None:
        """An expired record is rejected if the clocks agree; otherwise the error is about the clock here."""
        for passed, ahead, kind, text in (
            (0, 0, RegistryNotBelieved, "the record has expired"),
            (0, CLOCK_SKEW_MAX, RegistryNotBelieved, "the record has expired"),
            (0, CLOCK_SKEW_MAX + 1, ClockWrong, "2 min 01 s ahead of"),
            (0, 400 * 86400, ClockWrong, "400 days ahead of"),
            (400 * 86400, 400 * 86400, ClockWrong, "400 days ahead of"),
            (0, -400 * 86400, ClockWrong, "400 days behind"),
        ):
            end = NOW + min(0, ahead)
            view = replace(VIEW, record=replace(RECORD, iat=end - 100, exp=end).sign(BOB))
            info = (200, INFO.to_json())
            client = self.client(info, (200, view.to_json()), info)
            self.now = NOW + ahead - passed
            self.result(client.info())
            self.now += passed
            error = self.error(kind, client.look_up_peer("bob"))
            self.assertEqual(error.fields.get("difference", error.fields.get("reason")), text)
            self.assertEqual(error.exit_code, 3 if kind is ClockWrong else 5)

    def test_expired_by_registry_clock(self) -> None:
        """By the registry's clock, a record is valid even if the clock here is wrong, but not if it has expired."""
        for ahead, end, is_valid in (
            (400 * 86400, NOW + 1, True),
            (400 * 86400, NOW, False),
            (CLOCK_SKEW_MAX, NOW + 1, False),
            (0, NOW, False),
            (-400 * 86400, NOW - 1, True),
        ):
            view = replace(VIEW, record=replace(RECORD, iat=end - 100, exp=end).sign(BOB))
            client = self.client((200, view.to_json()), (200, INFO.to_json()))
            self.now = NOW + ahead
            asked = client.look_up_peer("bob", by_registry_clock=True)
            if is_valid:
                self.assertEqual(self.result(asked), view)
            else:
                self.error(RegistryNotBelieved, asked)

    def test_not_yet(self) -> None:
        """A record from the future by the clock here is accepted: it has not expired."""
        client = self.client((200, VIEW.to_json()))
        self.now = NOW - 400 * 86400
        self.assertEqual(self.result(client.look_up_peer("bob")), VIEW)


def _problem(word: str, **extra: int) -> bytes:
    return b"".join(problem(word, "a detail", retry_after=0, **extra).body)


class RefusalTests(OwnedClientTestCase):
    """Every problem becomes an error."""

    def refused(
        self, kind: type[P2pshareError], word: str, headers: dict[str, str] | None = None, **extra: int
    ) -> P2pshareError:  # fmt: skip
        status = PROBLEMS[word][0]
        client = self.client((status, _problem(word, **extra)), **(headers or {}))
        return self.error(kind, client.claim("bob", ClaimBody("re.cord")))

    def test_kinds(self) -> None:
        """Each problem has its class of error."""
        for word, kind in {
            "taken": NameTaken,
            "invitation-needed": InvitationNeeded,
            "invitation-refused": InvitationRefused,
            "wrong-signature": RegistryRefused,
            "wrong-audience": AudienceRefused,
            "wrong-name": RegistryRefused,
            "malformed": RegistryRefused,
            "too-large": RegistryRefused,
            "unavailable": RegistryUnavailable,
            "internal": RegistryUnreachable,
        }.items():
            self.refused(kind, word)
        for word, kind in {"not-owner": NotOwner, "not-found": NoSuchPeer}.items():
            client = self.client((PROBLEMS[word][0], _problem(word)))
            self.error(kind, client.release("bob", ReleaseBody("re.lease")))

    def test_out_of_place(self) -> None:
        """A problem that the route cannot have shows that the server is not a registry."""
        senseless = {
            "taken": {"claim"},
            "not-owner": {"release"},
            "stale": {"claim", "release"},
            "wrong-time": {"claim", "release"},
            "invitation-needed": {"claim"},
            "invitation-refused": {"claim"},
            "wrong-signature": {"claim", "release"},
            "unknown-session": {"beat"},
        }
        for word, places in senseless.items():
            for asked in self.everything(self.client((409, _problem(word)))):
                if getattr(asked, "__name__", "") in places:
                    asked.close()
                    continue
                error = self.error(RegistryUnreachable, asked)
                self.assertEqual(error.fields["reason"], NOT_A_REGISTRY, word)

    def test_every_problem(self) -> None:
        """Every problem becomes an error on every route."""
        for word, (status, _) in PROBLEMS.items():
            for asked in self.everything(self.client((status, _problem(word)))):
                done: list[object] = []
                running: Deferred[Any] = Deferred.fromCoroutine(asked)
                running.addErrback(lambda failure: failure.trap(P2pshareError))
                running.addBoth(done.append)
                self.assertFalse(isinstance(done[0], Failure), (word, done))

    def test_numbers(self) -> None:
        """The numbers of a problem are in the error."""
        self.assertEqual(self.refused(StaleRecord, "stale", seq=99).fields["seq"], 99)
        for time, text in ((NOW - 7000, "1 h 56 min ahead of"), (NOW + 172800, "2 days behind")):
            error = self.refused(ClockWrong, "wrong-time", time=time)
            self.assertEqual(error.fields["time"], time)
            self.assertEqual(error.fields["difference"], text)
        for error in (
            self.refused(ClockWrong, "wrong-time"),
            self.refused(ClockWrong, "wrong-time", time=NOW),
        ):
            self.assertEqual(error.fields["difference"], "too far from")

    def test_retry_after(self) -> None:
        """`Retry-After` is in the error, within bounds; a default replaces a missing or malformed one."""
        for said, wait in (("7", 7), ("999999999", RETRY_AFTER_MAX)):
            headers = {"Retry_After": said}
            for kind, word in (
                (RegistryBusy, "too-many-requests"),
                (RegistryRecovering, "recovering"),
                (RegistryUnavailable, "unavailable"),
            ):
                error = self.refused(kind, word, headers)
                self.assertEqual(error.fields["retry_after"], wait)
        for said in ("-1", "Sun, 06 Nov 1994 08:49:37 GMT", ""):
            error = self.refused(RegistryBusy, "too-many-requests", {"Retry_After": said})
            self.assertEqual(error.fields["retry_after"], RETRY_AFTER_DEFAULT)

    def test_remote_text(self) -> None:
        """Text of a registry is escaped."""
        body = json.dumps({"type": "urn:p2pshare:problem:x", "title": "\x1b[2J\n"}).encode()
        error = self.error(RegistryRefused, self.client((400, body)).look_up_peer("bob"))
        self.assertIn(r"\x1b[2J\n", str(error))

    def test_no_registry(self) -> None:
        """The error for another server has its status."""
        for status in (301, 400, 403, 404, 418, 500):
            client = self.client((status, b"<html>"))
            for asked in (
                client.claim("bob", ClaimBody("re.cord")),
                client.release("bob", ReleaseBody("re.lease")),
            ):
                error = self.error(RegistryUnreachable, asked)
                self.assertIn(f"HTTP {status}", str(error.fields["reason"]))

    def test_too_long(self) -> None:
        """No reply is read beyond its bound."""
        for asked in self.everything(self.client((200, b" " * (PAGE_BYTES_MAX + 1)))):
            running: Deferred[Any] = Deferred.fromCoroutine(asked)
            self.agent.flush()
            error: Failure = self.failureResultOf(running, RegistryUnreachable)
            self.assertEqual(cast(P2pshareError, error.value).fields["reason"], TOO_LONG)
        self.assertLess(REPLY_MAX, PAGE_BYTES_MAX)

    @given(
        st.binary() | st.dictionaries(st.text(), st.integers() | st.text()).map(
            lambda value: json.dumps(value).encode()
        ),
        st.sampled_from([200, 201, 204, 400, 401, 404, 409, 429, 503]),
    )  # fmt: skip
    def test_any_body(self, body: bytes, status: int) -> None:
        """Any answer is a value or an error of ours."""
        for asked in self.everything(self.client((status, body))):
            done: list[object] = []
            running: Deferred[Any] = Deferred.fromCoroutine(asked)
            running.addErrback(lambda failure: failure.trap(P2pshareError))
            running.addBoth(done.append)
            self.assertFalse(isinstance(done[0], Failure), done)
