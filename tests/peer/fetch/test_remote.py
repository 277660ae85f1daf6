"""Tests of `p2pshare.peer.fetch.remote`, with sessions in memory, in virtual time."""

from __future__ import annotations

import itertools
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.back_off import JITTER
from p2pshare.core.session_interface import Session
from p2pshare.errors import (
    AcceptanceAwaited,
    KeyChanged,
    LinkClosed,
    LinkGivenUp,
    LocalProtocolError,
    NoSessionThere,
    OtherKeyThere,
    PeerUnreachable,
    RegistryUnreachable,
    RemoteBusy,
    RemoteIsFile,
    RemoteNotFound,
    RemoteProtocolError,
    SessionLost,
    SessionPostponed,
    SessionRefused,
)
from p2pshare.peer.fetch.link import SLOWEST_READ
from p2pshare.peer.fetch.link_change import LinkState, reason_of
from p2pshare.peer.fetch.remote import (
    _TRANSITIONS,
    ACCEPT_PATIENCE,
    FAREWELL,
    FIRST_TRIES,
    RETRY_MAX,
    LinkEvent,
    RemotePeer,
)
from p2pshare.peer.find.target import Target
from p2pshare.wire.addresses import PeerAddress
from p2pshare.wire.blocks import BLOCK_SIZE
from p2pshare.wire.session_messages import Credit
from p2pshare.wire.transfer_messages import (
    Digests,
    End,
    Entry,
    EntryKind,
    Failed,
    Fault,
    FileHeader,
    Get,
    List,
    Listing,
)
from tests import examples
from tests.core.test_receiver import DIGEST, Told
from tests.peer.memory_sharer import (
    ADDRESS,
    ALICE,
    BOB,
    MTIME,
    MemorySession,
    MemorySharer,
    give,
    header_of,
)

UNREACHABLE = PeerUnreachable(name="alice", address=ADDRESS)


class RemoteTestCase(SynchronousTestCase):
    """A sharer, and how bob sees it."""

    def setUp(self) -> None:
        self.alice = MemorySharer()
        self.alice.put("photos/cat.jpg", b"meow")

    def ask(self, remote: RemotePeer, *path: str, **options: Any) -> Deferred[Listing]:
        return Deferred.fromCoroutine(remote.list(path, **options))

    def said(self) -> list[str]:
        return [str(change) for change in self.alice.changes]


class ListTests(RemoteTestCase):
    """Folders that are listed."""

    def test_page(self) -> None:
        """A page is what the peer says."""
        asked = self.ask(self.alice.remote(), "photos")
        self.alice.pass_time(0.1)
        listing = self.successResultOf(asked)
        self.assertEqual(listing.entries, (Entry(("cat.jpg",), EntryKind.FILE, 4, MTIME, "v1"),))
        self.assertEqual(
            self.said(),
            [
                "connecting to alice",
                "the connection to alice is there (via memory, 192.0.2.1:50001)",
            ],
        )

    def test_one_session(self) -> None:
        """All questions go over one session, which is opened once."""
        remote = self.alice.remote()
        asked = [self.ask(remote, "photos"), self.ask(remote)]
        self.alice.pass_time(0.1)
        self.assertEqual([len(self.successResultOf(each).entries) for each in asked], [1, 1])
        self.assertEqual(len(self.alice.opened), 1)

    def test_failures(self) -> None:
        """Threat 34: a missing file and a file of others fail with the same error."""
        remote = self.alice.remote()
        for path, error in (("nothing",), RemoteNotFound), (("photos", "cat.jpg"), RemoteIsFile):
            asked = self.ask(remote, *path)
            self.alice.pass_time(0.1)
            failed = self.failureResultOf(asked, error)
            self.assertIn(repr("/".join(path)), str(failed.value))

    def test_busy(self) -> None:
        """A peer that has no time is asked some times more."""
        self.alice.list_answer = lambda session, question: session.say(
            Failed(question.id, Fault.BUSY)
        )
        asked = self.ask(self.alice.remote(), "photos")
        self.alice.pass_time(10)
        self.failureResultOf(asked, RemoteBusy)
        self.assertEqual(len(self.alice.heard_of(List)), 4)

    def test_asked_again(self) -> None:
        """A question whose answer was lost with the session is asked again in the next."""
        answer, self.alice.list_answer = self.alice.list_answer, lambda session, question: None
        asked = self.ask(self.alice.remote(), "photos")
        self.alice.pass_time(0.1)
        self.alice.lose()
        self.alice.list_answer = answer
        self.alice.pass_time(1)
        self.assertEqual(len(self.successResultOf(asked).entries), 1)
        first, second = self.alice.heard_of(List)
        self.assertLess(first.id, second.id)

    def test_cancelled(self) -> None:
        """A question may be given up; its answer is passed over then."""
        remote = self.alice.remote()
        asked = self.ask(remote, "photos")
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.alice.pass_time(0.1)
        self.assertTrue(remote.is_up)


class FirstTimeTests(RemoteTestCase):
    """The first session."""

    def failing(self, error: Exception) -> None:
        asked = self.ask(self.alice.remote(), "photos")
        self.assertIs(self.failureResultOf(asked).value, error)
        self.assertEqual(len(self.alice.opened), 1)

    def test_fails_at_once(self) -> None:
        """Where nobody answers, or one is refused, the first try is the last one, with the reason."""
        for error in (
            UNREACHABLE,
            SessionRefused(name="alice", reason="no"),
            OtherKeyThere(name="alice", address=ADDRESS, known="a", there="b"),
        ):
            self.alice.opened.clear()
            self.alice.refusals.append(error)
            self.failing(error)

    def test_breaks_at_first(self) -> None:
        """Threat 32: a connection that breaks before its welcome, as where many push in, is tried a few times."""
        lost = SessionLost(name="alice", reason="the connection broke")
        cut = NoSessionThere(name="alice", address=ADDRESS, reason="the connection broke")
        self.alice.refusals += [lost, cut, lost]
        asked = self.ask(self.alice.remote(), "photos")
        self.alice.pass_time(5)
        self.successResultOf(asked)
        broken = [each for each in self.alice.changes if each.state is LinkState.BROKEN]
        self.assertEqual({each.reason for each in broken}, {"the connection broke"})
        self.assertFalse(any(each.again for each in broken))

    def test_breaks_each_time(self) -> None:
        """The tries are few, and the error is that of the last one."""
        cut = NoSessionThere(name="alice", address=ADDRESS, reason="it is no TLS")
        self.alice.refusals += [cut] * 9
        asked = self.ask(self.alice.remote(), "photos")
        self.alice.pass_time(5)
        self.assertIs(self.failureResultOf(asked).value, cut)
        self.assertEqual(len(self.alice.opened), FIRST_TRIES)

    def test_defect(self) -> None:
        """An unexpected exception is logged and reported; the next request opens a session again."""
        remote = self.alice.remote()
        self.alice.refusals.append(cast("Any", ZeroDivisionError("oops")))
        asked = self.ask(remote, "photos")
        error = self.failureResultOf(asked, LocalProtocolError).value
        self.assertEqual(error.fields["reason"], "ZeroDivisionError: oops")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        again = self.ask(remote, "photos")
        self.alice.pass_time(0.1)
        self.successResultOf(again)

    def test_given_up_by_nobody(self) -> None:
        """A search for the peer that is cancelled is no defect, and no word of the peer's."""
        remote = self.alice.remote()
        finding: Deferred[Any] = Deferred()

        async def find() -> Any:
            return await finding

        remote._find = find
        asked = self.ask(remote, "photos")
        finding.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_silent_at_first(self) -> None:
        """A peer whose first session takes long to fail is not tried again."""
        slow = SessionLost(name="alice", reason="there was no greeting in time")
        remote = self.alice.remote()

        async def open(*_: object, **__: object) -> Session:
            await deferLater(cast("Any", self.alice.reactor), 10)
            raise slow

        remote._opener = cast("Any", SimpleNamespace(open=open))
        asked = self.ask(remote, "photos")
        self.alice.pass_time(10.1)
        self.assertIs(self.failureResultOf(asked).value, slow)

    def test_asked_to_wait(self) -> None:
        """A peer that has no room just now is asked again, after the time that it asks for."""
        self.alice.refusals.append(
            SessionPostponed(name="alice", reason="it has no room", retry_after=7)
        )
        asked = self.ask(self.alice.remote(), "photos")
        self.alice.pass_time(6.9)
        self.assertNoResult(asked)
        self.alice.pass_time(7 * JITTER + 0.2)
        self.successResultOf(asked)
        waits = [each.retry_in for each in self.alice.changes if each.state is LinkState.BROKEN]
        self.assertEqual(len(waits), 1)
        self.assertTrue(7 <= waits[0] <= 7 * (1 + JITTER), waits)

    def test_asked_to_wait_for_ever(self) -> None:
        """That has an end, and the error says what the peer said."""
        error = SessionPostponed(name="alice", reason="it has no room", retry_after=7)
        self.alice.refusals += [error] * 100
        asked = self.ask(self.alice.remote(patience=60.0), "photos")
        self.alice.pass_time(61)
        self.assertIs(self.failureResultOf(asked).value, error)

    def test_awaits_acceptance(self) -> None:
        """A peer whose owner has to accept the key is asked every few seconds, as it says, until that is over."""
        waits = AcceptanceAwaited(name="alice", reason="not accepted yet", retry_after=3)
        self.alice.refusals += [waits] * 60
        asked = self.ask(self.alice.remote(patience=10.0), "photos")
        self.alice.pass_time(181)
        self.successResultOf(asked)
        told = {each.retry_in for each in self.alice.changes if each.state is LinkState.BROKEN}
        self.assertEqual(told, {3.0})

    def test_awaits_acceptance_for_ever(self) -> None:
        """The wait for an acceptance has an end, and no peer can make the pauses long or short."""
        for asked_s, paused in ((86_400, RETRY_MAX), (1, 1.0)):
            self.alice.refusals.clear()
            waits = AcceptanceAwaited(name="alice", reason="no", retry_after=asked_s)
            self.alice.refusals += [waits] * 1000
            self.alice.changes.clear()
            asked = self.ask(self.alice.remote(), "photos")
            self.alice.pass_time(ACCEPT_PATIENCE + RETRY_MAX)
            self.assertIs(self.failureResultOf(asked).value, waits)
            told = {e.retry_in for e in self.alice.changes if e.state is LinkState.BROKEN}
            self.assertEqual(told, {paused})

    def test_where(self) -> None:
        """Threat 13: it connects to the address that the record has, for the key that is known, and nowhere else."""
        self.ask(self.alice.remote(), "photos")
        self.alice.pass_time(0.1)
        self.assertEqual(self.alice.opened, [(ADDRESS, ALICE.public, 0.0)])


class AgainTests(RemoteTestCase):
    """A session that is lost."""

    def setUp(self) -> None:
        super().setUp()
        self.answer = self.alice.list_answer
        self.alice.list_answer = lambda session, question: None

    def begin(self, **options: Any) -> tuple[RemotePeer, Deferred[Listing]]:
        remote = self.alice.remote(**options)
        asked = self.ask(remote, "photos")
        self.alice.pass_time(0.1)
        self.alice.changes.clear()
        return remote, asked

    def test_screen(self) -> None:
        """The user interface hears why the session broke, when the next try is, and that it is up again."""
        _, asked = self.begin()
        self.alice.refusals += [UNREACHABLE] * 3
        self.alice.lose()
        self.alice.list_answer = self.answer
        self.alice.pass_time(10)
        self.successResultOf(asked)
        first, second, third, *_, last = self.alice.changes
        self.assertEqual((first.state, first.reason), (LinkState.BROKEN, "no word for 15 s"))
        self.assertEqual((second.state, second.again), (LinkState.CONNECTING, True))
        self.assertEqual((third.state, third.reason), (LinkState.BROKEN, reason_of(UNREACHABLE)))
        self.assertEqual((last.state, last.again), (LinkState.UP, True))
        waits = [change.retry_in for change in self.alice.changes if change.retry_in]
        self.assertEqual(waits, sorted(waits))
        self.assertEqual(len(self.alice.opened), 5)

    def test_logged(self) -> None:
        """For debugging, the log tells why a session broke, each pause, and where it is tried again."""
        observer = EventLoggingObserver.createWithCleanup(cast(Any, self), globalLogPublisher)
        _, asked = self.begin()
        self.alice.refusals += [UNREACHABLE]
        self.alice.lose()
        self.alice.list_answer = self.answer
        self.alice.pass_time(5)
        self.successResultOf(asked)
        told = "\n".join(str(formatEvent(each)) for each in observer)
        for event in (
            r"session lost: peer=alice is_busy=True why=.+",
            r"link: peer=alice state=BROKEN retry_in_s=0\.\d why='.+'",
            r"link: peer=alice state=BROKEN retry_in_s=\d\.\d why=\".*did not answer at .*\"",
            "link: peer=alice state=UP",
            "listing: peer=alice path='photos' after='' s=0.0.. outcome=1 entries",
        ):
            self.assertRegex(told, event)

    def test_moved(self) -> None:
        """It is looked for again before each try."""
        _, asked = self.begin()
        moved = PeerAddress("192.0.2.9", 50001)
        self.alice.found = Target.at("alice", ALICE.public, moved)
        self.alice.lose()
        self.alice.list_answer = self.answer
        self.alice.pass_time(2)
        self.successResultOf(asked)
        self.assertEqual(self.alice.opened[-1][0], moved)

    def test_other_key(self) -> None:
        """Threat 15: a peer that comes back with another key is not the peer; nothing is sent to it."""
        _, asked = self.begin()
        self.alice.found = Target.at("alice", BOB.public, ADDRESS)
        self.alice.lose()
        self.alice.pass_time(2)
        error = self.failureResultOf(asked, KeyChanged).value
        self.assertIn(ALICE.public.grouped, str(error))
        self.assertIn(BOB.public.grouped, str(error))
        self.assertEqual(len(self.alice.opened), 1)

    def test_registry_away(self) -> None:
        """While the registry is away, it is tried where it was."""
        _, asked = self.begin()
        self.alice.find_failures += [RegistryUnreachable(registry="r", reason="x")] * 9
        self.alice.lose()
        self.alice.list_answer = self.answer
        self.alice.pass_time(2)
        self.successResultOf(asked)

    def test_given_up(self) -> None:
        """Without any progress there is an end, with an error that says what to do."""
        _, asked = self.begin(patience=30.0)
        self.alice.refusals += [UNREACHABLE] * 100
        self.alice.lose()
        self.alice.pass_time(29)
        self.assertNoResult(asked)
        self.alice.pass_time(2)
        error = self.failureResultOf(asked, LinkGivenUp).value
        self.assertEqual(cast(LinkGivenUp, error).fields["patience"], 30)

    def test_no_progress(self) -> None:
        """Sessions that come about and break without a word are no progress."""
        _, asked = self.begin(patience=30.0)
        for _ in range(200):
            if not self.alice.sessions[-1].is_over:
                self.alice.lose("it broke")
            self.alice.pass_time(1)
        self.failureResultOf(asked, LinkGivenUp)
        self.assertLess(len(self.alice.sessions), 15)

    def test_progress_that_is_lost(self) -> None:
        """Sessions that break amidst a block each time, so that nothing remains of them, are no progress."""
        remote, asked = self.begin(patience=30.0)
        path = self.alice.put("photos/large", bytes(2 * BLOCK_SIZE))

        def half_a_block(session: MemorySession, get: Get) -> None:
            session.say(header_of(session, get), Digests(get.id, 0, (DIGEST,)))
            session.data(get.id, 0, bytes(BLOCK_SIZE // 2))

        self.alice.answers[path] = half_a_block
        for _ in range(200):
            if remote.is_up:
                remote.get(Told(), path)
                self.alice.pass_time(0.1)
                self.alice.lose("it broke")
            self.alice.pass_time(1)
        self.failureResultOf(asked, LinkGivenUp)
        self.assertLess(len(self.alice.sessions), 15)

    def test_no_answer(self) -> None:
        """A peer that is there, but does not answer, is as good as lost; one that answers something is not."""
        remote, asked = self.begin(patience=30.0)
        self.alice.pass_time(25)
        session = self.alice.sessions[0]
        session.say(Failed(self.alice.heard_of(List)[0].id, Fault.BUSY))
        self.alice.pass_time(25)
        self.assertFalse(session.is_over)
        self.alice.list_answer = self.answer
        self.alice.pass_time(20)
        self.assertTrue(session.is_over)
        self.assertIn("30 s", self.alice.changes[0].reason)
        self.successResultOf(asked)
        self.alice.pass_time(100)
        self.assertTrue(remote.is_up)

    def test_own_disk_is_slow(self) -> None:
        """A peer that may send nothing, as the memory here is full, is not blamed for that, but once it may, it is."""
        remote, asked = self.begin(patience=30.0, window=BLOCK_SIZE)
        asked.addErrback(lambda _: None)
        path = self.alice.put("photos/large", bytes(2 * BLOCK_SIZE))
        self.alice.answers[path] = partial(give, until=1)
        told = Told()
        remote.get(told, path)
        self.alice.pass_time(100)
        session = self.alice.sessions[0]
        self.assertEqual((len(told.blocks), session.is_over), (1, False))
        told.blocks[0].release()
        self.alice.pass_time(22)
        self.assertFalse(session.is_over)
        self.alice.pass_time(17)
        self.assertTrue(session.is_over)

    def test_end_without_content(self) -> None:
        """Threat 7: a peer that ends a file and withholds its bytes is given up, though its credit is used up."""
        remote, asked = self.begin(patience=30.0, window=2 * BLOCK_SIZE)
        asked.addErrback(lambda _: None)
        path = self.alice.put("photos/large", bytes(2 * BLOCK_SIZE))
        self.alice.answers[path] = lambda session, get: session.say(
            header_of(session, get),
            Digests(get.id, 0, (DIGEST, DIGEST)),
            End(get.id, DIGEST, 2 * BLOCK_SIZE),
        )
        remote.get(Told(), path)
        session = self.alice.sessions[0]
        self.alice.pass_time(25)
        self.assertFalse(session.is_over)
        self.alice.pass_time(20)
        self.assertTrue(session.is_over)

    def test_no_answer_while_it_reads(self) -> None:
        """A peer that has to read what is here already, so as to end a file, is given the time which that takes."""
        remote, asked = self.begin(patience=30.0)
        asked.addErrback(lambda _: None)
        self.alice.pass_time(1)
        path = ("large",)
        self.alice.answers[path] = lambda session, get: session.say(
            FileHeader(get.id, 60 * SLOWEST_READ, MTIME, False, "v1")
        )
        told = Told()
        remote.get(told, path, "v1", ())
        session = self.alice.sessions[0]
        self.alice.pass_time(85)
        self.assertFalse(session.is_over)
        self.alice.pass_time(20)
        self.assertTrue(session.is_over)

    def test_protocol_broken(self) -> None:
        """Threat 6: a peer that breaks the rules is not asked again."""
        _, asked = self.begin()
        self.alice.sessions[-1].say(Listing(99, (), False))
        self.alice.pass_time(2)
        self.failureResultOf(asked, RemoteProtocolError)
        self.assertEqual(len(self.alice.opened), 1)

    def test_lost_while_idle(self) -> None:
        """A session that ends while nobody needs it is opened again when somebody does, without a word before."""
        remote, asked = self.begin()
        asked.cancel()
        self.failureResultOf(asked)
        self.alice.sessions[-1].lose(None)
        self.alice.pass_time(60)
        self.assertEqual((len(self.alice.opened), self.said()), (1, []))
        self.alice.list_answer = self.answer
        again = self.ask(remote, "photos")
        self.alice.pass_time(0.1)
        self.successResultOf(again)

    def test_after_giving_up(self) -> None:
        """A request after that opens a session again."""
        remote, asked = self.begin(patience=5.0)
        self.alice.refusals += [UNREACHABLE] * 100
        self.alice.lose()
        self.alice.pass_time(10)
        self.failureResultOf(asked, LinkGivenUp)
        self.alice.refusals.clear()
        self.alice.list_answer = self.answer
        again = self.ask(remote, "photos")
        self.alice.pass_time(0.1)
        self.successResultOf(again)


class CloseTests(RemoteTestCase):
    """The end."""

    def test_close(self) -> None:
        """Waiting requests fail, the session ends, and no timer is left."""
        self.alice.list_answer = lambda session, question: None
        remote = self.alice.remote(rate=1000.0)
        asked = self.ask(remote, "photos")
        self.alice.pass_time(0.1)
        self.successResultOf(Deferred.fromCoroutine(remote.close()))
        self.failureResultOf(asked, LinkClosed)
        self.assertTrue(self.alice.sessions[-1].is_over)
        self.assertEqual(self.alice.reactor.getDelayedCalls(), [])

    def test_close_is_heard(self) -> None:
        """The end is waited for until the peer has hung up, so that it hears the last words, but not for long."""
        for hears in (True, False):
            self.alice.hangs_up = False
            remote = self.alice.remote()
            self.ask(remote, "photos")
            self.alice.pass_time(0.1)
            closing = Deferred.fromCoroutine(remote.close())
            self.alice.pass_time(FAREWELL - 0.1)
            self.assertNoResult(closing)
            user = self.alice.sessions[-1].user
            assert user is not None
            if hears:
                user.session_ended(None)
            else:
                self.alice.pass_time(0.2)
            self.successResultOf(closing)
            self.assertEqual(self.alice.reactor.getDelayedCalls(), [])

    def test_close_between_tries(self) -> None:
        """It may be closed while it waits for the next try."""
        self.alice.refusals.append(SessionPostponed(name="alice", reason="full", retry_after=7))
        remote = self.alice.remote()
        asked = self.ask(remote, "photos")
        self.successResultOf(Deferred.fromCoroutine(remote.close()))
        self.failureResultOf(asked, LinkClosed)
        self.assertEqual(self.alice.reactor.getDelayedCalls(), [])
        self.failureResultOf(self.ask(remote, "photos"), LinkClosed)


class StateTests(RemoteTestCase):
    """The states of the connection."""

    def test_table(self) -> None:
        """Every event in every state does what the table says, or nothing."""
        for state, event in itertools.product(LinkState, LinkEvent):
            remote = self.alice.remote()
            remote._state = state
            self.assertIs(remote._move(event), event in _TRANSITIONS[state])
            self.assertIs(remote._state, _TRANSITIONS[state].get(event, state))

    @settings(max_examples=examples(60), deadline=None)
    @given(st.lists(st.sampled_from(["ask", "cancel", "lose", "end", "refuse", "lie", "wait"])))
    def test_any_order(self, steps: list[str]) -> None:
        """In any order of events, the state matches the session, and every request ends."""
        self.alice = MemorySharer()
        remote = self.alice.remote(patience=30.0)
        asked: list[Deferred[Listing]] = []
        for step in steps:
            session = self.alice.sessions[-1] if self.alice.sessions else None
            is_up = session is not None and session.user is not None and not session.is_over
            if step == "ask":
                asked.append(self.ask(remote))
                asked[-1].addErrback(lambda _: None)
            elif step == "cancel" and asked:
                asked[-1].cancel()
            elif step == "refuse":
                self.alice.refusals.append(UNREACHABLE)
            elif step == "wait":
                self.alice.pass_time(2, 0.1)
            elif session is not None and is_up:
                if step == "lie":
                    session.say(Listing(99, (), False))
                else:
                    session.lose(SessionLost(name="alice", reason="x") if step == "lose" else None)
            self.assertIs(remote.is_up, remote._state is LinkState.UP)
            is_trying = remote._state in (LinkState.CONNECTING, LinkState.BROKEN)
            self.assertIs(remote._connecting is not None, is_trying)
            self.assertLessEqual(bool(remote._waiting), is_trying)
        self.alice.pass_time(100, 0.5)
        self.assertTrue(all(each.called for each in asked))
        self.successResultOf(Deferred.fromCoroutine(remote.close()))
        self.failureResultOf(self.ask(remote), LinkClosed, RemoteProtocolError)
        self.assertEqual(self.alice.reactor.getDelayedCalls(), [])


class LimitTests(RemoteTestCase):
    """The receiver's limit."""

    def test_credit_over_time(self) -> None:
        """Under a rate limit, credit is granted gradually."""
        remote = self.alice.remote(rate=100_000.0)
        self.ask(remote, "photos")
        self.alice.pass_time(0.1)
        session = self.alice.sessions[0]
        first = session.credit
        self.assertLessEqual(first, 50_000)
        self.alice.pass_time(5)
        self.assertLessEqual(session.credit, 50_000)
        self.assertEqual(remote.in_flight.admit_large(), True)
        self.assertTrue(all(isinstance(each, Credit | List) for each in self.alice.heard))


class WordsTests(SynchronousTestCase):
    """The texts on a connection for a screen."""

    def test_harmless(self) -> None:
        """Threat 4: nothing that a terminal obeys gets onto the screen."""
        alice = MemorySharer()
        alice.list_answer = lambda session, question: None
        remote = alice.remote()
        Deferred.fromCoroutine(remote.list(()))
        alice.pass_time(0.1)
        alice.sessions[-1].lose(SessionLost(name="alice", reason="\x1b[2J\u202e"))
        (change,) = (each for each in alice.changes if each.state is LinkState.BROKEN)
        self.assertTrue(str(change).isprintable())
