"""Access statements: who may make the requests that only owners may make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from p2pshare.errors import RemoteProtocolError
from p2pshare.registry.configuration import RateLimit
from p2pshare.web.exchange import Query
from p2pshare.web.problems import RequestError
from p2pshare.wire.reach.access import Access, Use
from tests.registry.owners import AUD, END, SOURCE, Owner, OwnersTestCase


def access_of(owner: Owner, now: float, **changes: Any) -> Access:
    """Return a good access statement, for the main inbox, after some changes."""
    access = Access(owner.name, owner.key.public, AUD, int(now), "n" * 16, Use.SIGNALS, "main")
    return replace(access, **changes)


class AccessTestCase(OwnersTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.claim(self.bob)
        self.nonces = 0

    def header(self, owner: Owner, signer: Owner | None = None, **changes: Any) -> str:
        """Return the header of a good statement with a new nonce, after some changes."""
        self.nonces += 1
        changes.setdefault("nonce", f"{self.nonces:016}")
        access = access_of(owner, self.clock.seconds(), **changes)
        return access.to_header((signer or owner).key)

    def admit(self, header: str | None, name: str | None = None) -> str:
        """Return "" if a request with this header is admitted, else the word of the problem."""
        headers = Headers({} if header is None else {"Authorization": [header]})
        query = Query(b"GET", b"x", b"", SOURCE, headers=headers, local=END)
        admitting = self.routes.access.admit(query, Use.SIGNALS, "main", name)
        admitted = Deferred.fromCoroutine(admitting)
        failure = getattr(admitted, "result", None)
        try:
            self.successResultOf(admitted)
        except self.failureException:
            admitted.addErrback(lambda _: None)
            error = getattr(failure, "value", None)
            if isinstance(error, RequestError):
                return error.word
            self.assertIsInstance(error, RemoteProtocolError)
            return "malformed"
        return ""


class AccessTests(AccessTestCase):
    """Each check, and their order."""

    def test_admitted(self) -> None:
        """The owner of a name is admitted, with clocks that differ by 120 s, online or not."""
        self.assertEqual(self.admit(self.header(self.bob)), "")
        self.assertEqual(self.admit(self.header(self.bob), "bob"), "")
        now = int(self.clock.seconds())
        for iat in (now - 120, now + 120):
            self.assertEqual(self.admit(self.header(self.bob, iat=iat)), "")
        self.clock.advance(100)
        self.assertEqual(self.admit(self.header(self.bob)), "")

    def test_refused(self) -> None:
        """Nobody else is: not with another key, for another registry, use, detail, name or time."""
        now = int(self.clock.seconds())
        signed = self.header(self.bob)
        for header, word in (
            (None, "unauthorized"),
            ("", "unauthorized"),
            ("Bearer x", "malformed"),
            ("P2pshare", "malformed"),
            ("P2pshare x.y", "malformed"),
            (signed[:-1], "malformed"),
            (f"{signed}, {signed}", "malformed"),
            (self.header(self.bob, use=Use.SIGNAL), "malformed"),
            (self.header(self.bob, detail="i" * 16), "malformed"),
            (self.header(self.bob, aud=self.eve.key.public), "wrong-audience"),
            (self.header(self.bob, iat=now - 121), "wrong-time"),
            (self.header(self.bob, iat=now + 121), "wrong-time"),
            (self.header(self.bob, self.eve), "wrong-signature"),
        ):
            self.assertEqual(self.admit(header), word, header)
        self.assertEqual(self.admit(self.header(self.bob), "eve"), "wrong-name")

    def test_not_owner(self) -> None:
        """A key without a name, and one with another name, are refused (threat 47: rendezvous by strangers)."""
        self.assertEqual(self.admit(self.header(self.eve)), "not-owner")
        self.claim(Owner(2, "eve"))
        self.assertEqual(self.admit(self.header(Owner(2, "bob"))), "not-owner")
        self.assertEqual(self.admit(self.header(Owner(2, "eve"))), "")

    def test_replayed(self) -> None:
        """A statement counts once, for as long as its time is valid (threat 47: a replayed authorization)."""
        header = self.header(self.bob, iat=int(self.clock.seconds()) + 120)
        self.assertEqual(self.admit(header), "")
        for _ in range(3):
            self.assertEqual(self.admit(header), "replayed")
            self.clock.advance(80)
        self.clock.advance(1)
        self.assertEqual(self.admit(header), "wrong-time")

    def test_refused_keeps_nonce(self) -> None:
        """A refused request does not use the nonce."""
        carol = Owner(3, "carol")
        header = self.header(carol)
        self.assertEqual(self.admit(header), "not-owner")
        self.claim(carol)
        self.assertEqual(self.admit(header), "")
        self.assertEqual(self.admit(header), "replayed")


class AccessLimitTests(AccessTestCase):
    """Limits per address and per key."""

    settings: ClassVar[dict[str, Any]] = {
        "limits": {"access": RateLimit(1, 10), "access-key": RateLimit(1, 3)}
    }

    def test_key(self) -> None:
        """A key has its own limit, which others cannot use up (threat 47: a flood of rendezvous)."""
        self.claim(Owner(2, "eve"))
        forged = [self.admit(self.header(self.bob, self.eve)) for _ in range(4)]
        self.assertEqual(forged, ["wrong-signature"] * 4)
        own = [self.admit(self.header(self.bob)) for _ in range(5)]
        self.assertEqual(own[:3], [""] * 3)
        self.assertEqual(own[-1], "too-many-requests")

    def test_address(self) -> None:
        """An address cannot cause more verifications than its limit (threat 47: a flood of rendezvous)."""
        outcomes = [self.admit(self.header(self.bob, self.eve)) for _ in range(20)]
        self.assertLessEqual(outcomes.count("wrong-signature"), 11)
        self.assertEqual(outcomes[-1], "too-many-requests")
