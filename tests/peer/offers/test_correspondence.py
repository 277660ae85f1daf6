"""The exchange of messages about offers over sessions in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.offers.incoming import GateLimits
from p2pshare.core.offers.outgoing import RETRY_FIRST, RETRY_MAX
from p2pshare.core.session_interface import Session
from p2pshare.core.session_parts import NothingShared, SessionParts
from p2pshare.errors import (
    KeyChanged,
    LedgerUnusable,
    PeerUnreachable,
    RemoteProtocolError,
    SessionLost,
)
from p2pshare.peer.find.target import Target
from p2pshare.peer.offers.correspondence import (
    ANSWER_TIMEOUT,
    BURST,
    DIALS_MAX,
    LINGER,
    PER_S,
    QUEUE_MAX,
    Answer,
    Correspondence,
)
from p2pshare.storage.offers.outgoing import OUTGOING_MAX
from p2pshare.storage.shares.arguments import Viewer
from p2pshare.testing.sessions import SessionPair
from p2pshare.wire.keys import PublicKey, SigningKey
from p2pshare.wire.offers.messages import (
    InboxState,
    Offer,
    OfferItem,
    OfferNoted,
    OfferState,
    Withdraw,
    Withdrawal,
)
from p2pshare.wire.session_messages import Message, Purpose
from p2pshare.wire.transfer_messages import EntryKind

ALICE, BOB, EVE = (SigningKey(letter * 32) for letter in (b"a", b"b", b"e"))
ID = "k6xwn2q4h7yxabcd"
OFFER = Offer(ID, 1, 0, 5, (OfferItem("a.txt", EntryKind.FILE, 5, 1),), 0, "", 60)
WAITING = OfferState(ID, InboxState.WAITING)


DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol-offers.md").read_text()


class DocumentTests(SynchronousTestCase):
    def test_bounds(self) -> None:
        """The bounds in docs/protocol-offers.md are those of the code."""
        limits = GateLimits()
        for sentence in (
            f"{PER_S:g} each second, {BURST} at once, and {QUEUE_MAX} that wait",
            f"{limits.kept}, {limits.kept_per_key} of one key, and of people who are not known only while there are"
            f" less than {limits.kept_of_strangers} (beyond: `full`)",
            f"{limits.per_key_burst} at once and 1 each {1 / limits.per_key_s:g} s of one key",
            f"{limits.total_burst} at once and {limits.total_s:g} each second of all people who are not known",
            f"{ANSWER_TIMEOUT:g} s for an answer",
            f"the next one after {RETRY_FIRST:g} s to {RETRY_MAX / 60:g} minutes",
            f"| offers that a sender keeps | {OUTGOING_MAX} |",
        ):
            self.assertIn(sentence, DOCUMENT)


class Handlers:
    """Both sides of one end: answers as a test wants, or later."""

    def __init__(self) -> None:
        self.heard: list[tuple[Viewer, Message]] = []
        self.answers: dict[type[Message], Any] = {
            Offer: WAITING,
            Withdraw: OfferState(ID, InboxState.WITHDRAWN),
        }

    async def offer_received(self, viewer: Viewer, offer: Offer) -> Any:
        return await self._answer(viewer, offer)

    async def withdrawn(self, viewer: Viewer, withdraw: Withdraw) -> Any:
        return await self._answer(viewer, withdraw)

    async def noted(self, viewer: Viewer, noted: OfferNoted) -> None:
        self.heard.append((viewer, noted))

    async def state_received(self, viewer: Viewer, state: OfferState) -> Any:
        self.heard.append((viewer, state))
        return OfferNoted(state.id, state.state)

    async def _answer(self, viewer: Viewer, message: Message) -> Any:
        self.heard.append((viewer, message))
        answer = self.answers[type(message)]
        if isinstance(answer, Exception):
            raise answer
        return await answer if isinstance(answer, Deferred) else answer


class End:
    """One end: its correspondence, and what it looks up and dials."""

    def __init__(self, clock: Clock) -> None:
        self.handlers = Handlers()
        self.calls: list[str] = []
        self.keys: dict[str, PublicKey] = {"alice": ALICE.public, "bob": BOB.public}
        self.dialled: list[Deferred[Session]] = []
        self.purposes: list[Purpose | None] = []
        machine: Any = clock
        self.correspondence = Correspondence(machine, self.find, self.meet, self)
        self.correspondence.sender = self.correspondence.receiver = self.handlers

    async def find(self, name: str) -> Target:
        self.calls.append(f"find {name}")
        return Target(name, self.keys[name], ())

    async def meet(self, name: str) -> Target:
        self.calls.append(f"meet {name}")
        return Target(name, self.keys[name], ())

    async def open(self, target: Target, *, credit: int, purpose: Purpose | None = None) -> Session:
        self.purposes.append(purpose)
        dialled: Deferred[Session] = Deferred()
        self.dialled.append(dialled)
        return await dialled


class CorrespondenceTests(SynchronousTestCase):
    """Bob has opened a session with alice."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.alice, self.bob = End(self.clock), End(self.clock)
        self.pair = SessionPair(BOB, ALICE, clock=self.clock)
        self.pair.connect()

    def attach(self) -> None:
        """Begin the session at both ends, each with its part for offers."""
        for session, end in ((self.pair.opener, self.bob), (self.pair.acceptor, self.alice)):
            part = end.correspondence.attach(session)
            session.begin(SessionParts(NothingShared(session), part))
        self.pair.carry()

    def begin(self, end: End, name: str, message: Message) -> Deferred[Answer]:
        """Begin an exchange."""
        return Deferred.fromCoroutine(end.correspondence.exchange(name, None, message))

    def test_both_ways(self) -> None:
        """Over one session both ends exchange all kinds of messages, and each is answered."""
        self.attach()
        for end, name, key in ((self.bob, "alice", ALICE), (self.alice, "bob", BOB)):
            for message, expected in (
                (OFFER, WAITING),
                (Withdraw(ID, Withdrawal.CANCELLED), OfferState(ID, InboxState.WITHDRAWN)),
                (OfferState(ID, InboxState.DONE), OfferNoted(ID, InboxState.DONE)),
            ):
                exchange = self.begin(end, name, message)
                self.pair.carry()
                self.assertEqual(self.successResultOf(exchange), Answer(expected, key.public))
        heard = [(viewer.name, viewer.key) for viewer, _ in self.alice.handlers.heard]
        self.assertEqual(set(heard), {("bob", BOB.public)})
        self.assertEqual((self.alice.calls, self.bob.calls), ([], []))

    def test_no_answer(self) -> None:
        """An exchange does not wait for ever, and a handler that failed lets the other side come again."""
        self.attach()
        self.alice.handlers.answers[Offer] = LedgerUnusable(path="x", reason="the disk is full")
        exchange = self.begin(self.bob, "alice", OFFER)
        self.pair.carry()
        self.assertNoResult(exchange)
        self.pair.wait(ANSWER_TIMEOUT + 1)
        self.failureResultOf(exchange, SessionLost)
        self.alice.handlers.answers[Offer] = WAITING
        alive = self.begin(self.alice, "bob", WAITING)
        self.pair.carry()
        self.successResultOf(alive)
        exchange = self.begin(self.bob, "alice", OFFER)
        self.pair.carry()
        self.assertEqual(self.successResultOf(exchange).message, WAITING)

    def test_silent_session(self) -> None:
        """A session that has brought no answer is not used again before it brings something."""
        self.attach()
        exchange = self.begin(self.bob, "alice", OFFER)
        self.clock.advance(ANSWER_TIMEOUT)
        self.failureResultOf(exchange, SessionLost)
        self.begin(self.bob, "alice", OFFER).addErrback(lambda _: None)
        self.assertEqual(len(self.bob.dialled), 1)
        self.pair.carry()  # it was slow, and not dead
        self.begin(self.bob, "alice", OFFER).addErrback(lambda _: None)
        self.assertEqual(len(self.bob.dialled), 1)

    def test_defect(self) -> None:
        """A defect of a handler ends the session, which fails the exchange."""
        self.attach()
        self.alice.handlers.answers[Offer] = ZeroDivisionError()
        exchange = self.begin(self.bob, "alice", OFFER)
        self.pair.carry()
        self.failureResultOf(exchange, SessionLost)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_another_state(self) -> None:
        """A late answer to another state is no answer; a withdrawal is one to a state that is not final."""
        self.attach()
        for state, answer, is_answer in (
            (InboxState.ACCEPTED, OfferNoted(ID, InboxState.WAITING), False),
            (InboxState.ACCEPTED, OfferNoted(ID, InboxState.ACCEPTED), True),
            (InboxState.ACCEPTED, Withdraw(ID, Withdrawal.CANCELLED), True),
            (InboxState.DONE, Withdraw(ID, Withdrawal.CANCELLED), False),
        ):
            self.alice.correspondence.sender = None  # it stays silent
            exchange = self.begin(self.bob, "alice", OfferState(ID, state))
            self.pair.acceptor.send(answer)
            self.pair.carry()
            self.assertEqual(exchange.called, is_answer, (state, answer))
            exchange.addErrback(lambda _: None)
            exchange.cancel()

    def test_flood(self) -> None:
        """Threat 33: a session that brings too many messages about offers is ended, and no other."""
        self.attach()
        for number in range(BURST + 1):
            self.pair.opener.send(OfferNoted(ID, InboxState.DONE))
            if number % 8 == 0:
                self.pair.carry()
        self.pair.carry()
        self.assertIsInstance(self.pair.owners[1].ends[0], RemoteProtocolError)

    def test_queue(self) -> None:
        """Threat 33: few messages of a session wait to be handled, one after the other; more ends it."""
        self.attach()
        slow: Deferred[OfferState] = Deferred()
        self.alice.handlers.answers[Offer] = slow
        for _ in range(QUEUE_MAX + 1):
            self.pair.opener.send(OFFER)
        self.pair.carry()
        self.assertEqual(len(self.alice.handlers.heard), 1)
        self.assertEqual(self.pair.owners[1].ends, [])
        self.pair.opener.send(OFFER)
        self.pair.carry()
        self.assertIsInstance(self.pair.owners[1].ends[0], RemoteProtocolError)
        slow.cancel()
        self.flushLoggedErrors()

    def test_pace(self) -> None:
        """Neither end sends faster than the other one reads."""
        self.attach()
        exchanges = []
        for number in range(BURST):
            name = f"{number:016}".translate(str.maketrans("0123456789", "abcdefghij"))
            exchanges.append(self.begin(self.bob, "alice", replace(OFFER, id=name)))
        for _ in range(QUEUE_MAX):
            self.pair.carry(64)
        for each in exchanges:
            each.addErrback(lambda _: None)
        self.pair.wait(60)
        self.assertEqual(self.pair.owners[1].ends, [])

    def test_dialled(self) -> None:
        """Without an open session one is opened, used for later messages, and closed when it is idle."""
        part = self.alice.correspondence.attach(self.pair.acceptor)
        self.pair.acceptor.begin(SessionParts(NothingShared(self.pair.acceptor), part))
        exchange = self.begin(self.bob, "alice", OFFER)
        self.assertEqual((self.bob.calls, self.bob.purposes), (["meet alice"], [Purpose.OFFER]))
        self.bob.dialled[0].callback(self.pair.opener)
        self.pair.carry()
        self.assertEqual(self.successResultOf(exchange).message, WAITING)
        self.pair.wait(LINGER - 2)
        again = self.begin(self.bob, "alice", OfferState(ID, InboxState.DONE))
        self.pair.carry()
        self.successResultOf(again)
        self.assertEqual(len(self.bob.calls), 1)
        self.pair.wait(LINGER - 2)
        self.assertEqual(self.pair.owners[0].ends, [])
        self.pair.wait(4)
        self.assertEqual(self.pair.owners[0].ends, [None])

    def test_pins(self) -> None:
        """Threat 62: a key is pinned only for people to whom the user sends, and a stranger keeps the same key."""
        exchange = self.begin(self.bob, "alice", WAITING)
        self.assertEqual(self.bob.calls, ["find alice"])
        self.bob.dialled[0].errback(PeerUnreachable(name="alice", address="x"))
        self.failureResultOf(exchange, PeerUnreachable)
        self.bob.keys["alice"] = EVE.public
        exchange = Deferred.fromCoroutine(
            self.bob.correspondence.exchange("alice@lan", ALICE.public, WAITING)
        )
        self.failureResultOf(exchange, KeyChanged)
        self.assertEqual(len(self.bob.dialled), 1)

    def test_who(self) -> None:
        """An unproven name is nobody's: only the key finds the session with a stranger."""
        self.pair.opener.name = "alice@lan"
        part = self.bob.correspondence.attach(self.pair.opener)
        self.pair.opener.begin(SessionParts(NothingShared(self.pair.opener), part))
        self.begin(self.bob, "alice", OFFER)
        self.assertEqual(len(self.bob.dialled), 1)
        by_key = Deferred.fromCoroutine(
            self.bob.correspondence.exchange("alice", ALICE.public, OFFER)
        )
        self.assertEqual(len(self.bob.dialled), 1)
        by_key.addErrback(lambda _: None)
        self.pair.opener.abort()
        self.pair.carry()

    def test_command(self) -> None:
        """A session that was accepted may be a command's, and is used once its opener has said something of offers."""
        session = self.pair.acceptor
        part = self.alice.correspondence.attach(session, is_accepted=True)
        session.begin(SessionParts(NothingShared(session), part))
        self.pair.opener.begin(self.pair.opener_user)
        for is_used in (False, True):
            exchange = self.begin(self.alice, "bob", OFFER)
            self.pair.carry()
            self.assertEqual(len(self.alice.dialled), 1, "only the first one dials")
            self.assertEqual(OFFER in self.pair.opener_user.messages, is_used)
            exchange.addErrback(lambda _: None)
            exchange.cancel()
            self.pair.opener.send(OfferState(ID, InboxState.ACCEPTED))
            self.pair.carry()

    def test_dials(self) -> None:
        """Few sessions are opened at once."""
        for number in range(DIALS_MAX + 3):
            self.bob.keys[f"p{number}"] = SigningKey(bytes([number]) * 32).public
            exchange = self.begin(self.bob, f"p{number}", OFFER)
            exchange.addErrback(lambda _: None)
            self.addCleanup(exchange.cancel)
        self.assertEqual(len(self.bob.dialled), DIALS_MAX)
        self.bob.dialled[0].errback(PeerUnreachable(name="p0", address="x"))
        self.assertEqual(len(self.bob.dialled), DIALS_MAX + 1)

    def test_stopped(self) -> None:
        """After the end no message is sent, handled or kept. New sessions are silent: a refusal would be final."""
        self.attach()
        self.successResultOf(Deferred.fromCoroutine(self.alice.correspondence.stop()))
        self.failureResultOf(self.begin(self.alice, "bob", OFFER), SessionLost)
        session: Any = self.pair.acceptor
        said: list[Message] = []
        self.patch(session, "send", said.append)
        self.alice.correspondence.attach(session).message_received(OFFER)
        self.assertEqual((said, self.alice.handlers.heard), ([], []))

    def test_not_started(self) -> None:
        """Before the ledger is read nothing is answered: a refusal or a withdrawal would be final."""
        self.alice.correspondence.sender = self.alice.correspondence.receiver = None
        self.attach()
        said: list[Message] = []
        session: Any = self.pair.acceptor
        self.patch(session, "send", said.append)
        for message in (OFFER, OfferState(ID, InboxState.ACCEPTED)):
            self.pair.opener.send(message)
        self.pair.carry()
        self.assertEqual(said, [])
