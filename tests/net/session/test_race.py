"""Tests of `p2pshare.net.session.race`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.core.session_interface import Session
from p2pshare.errors import (
    NoSessionThere,
    OtherKeyThere,
    P2pshareError,
    PeerUnreachable,
    SessionRefused,
)
from p2pshare.net.session.race import GRACE_MIN, GRACE_TIMES, TURN, Attempt, Race

UNREACHABLE = PeerUnreachable(name="alice", address="192.0.2.7:5")
NO_SESSION = NoSessionThere(name="alice", address="192.0.2.7:5", reason="silence")
OTHER_KEY = OtherKeyThere(name="alice", address="192.0.2.7:5", known="a", there="b")
REFUSED = SessionRefused(name="alice", reason="no")


class FakeSession:
    is_closed = False

    def close(self) -> None:
        self.is_closed = True


class RaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.answered = False
        self.tcp: Deferred[Session] = Deferred(lambda _: self.cancelled.append("tcp"))
        self.udp: Deferred[Session] = Deferred(lambda _: self.cancelled.append("udp"))
        self.cancelled: list[str] = []
        self.race = Race(self.clock)
        self.race.enter(Attempt(self.tcp))
        self.race.enter(Attempt(self.udp, lambda: self.answered))
        self.result = Deferred.fromCoroutine(self.race.winner())

    def error(self) -> P2pshareError:
        error = self.failureResultOf(self.result).value
        assert isinstance(error, P2pshareError)
        return error

    def test_first(self) -> None:
        """The first session is used, and the other attempt is ended."""
        session: Any = FakeSession()
        self.udp.callback(session)
        self.assertIs(self.successResultOf(self.result), session)
        self.assertEqual(self.cancelled, ["tcp"])
        self.assertFalse(session.is_closed)

    def test_second(self) -> None:
        """A session of an attempt that could not be ended in time is closed."""
        session: Any = FakeSession()
        late: Any = FakeSession()
        tcp: Deferred[Session] = Deferred()
        tcp.cancel = lambda: tcp.callback(late)  # type: ignore[method-assign]
        race = Race(self.clock)
        race.enter(Attempt(tcp))
        udp: Deferred[Session] = Deferred()
        race.enter(Attempt(udp))
        result = Deferred.fromCoroutine(race.winner())
        udp.callback(session)
        self.assertIs(self.successResultOf(result), session)
        self.assertTrue(late.is_closed)

    def test_begun_already(self) -> None:
        """An attempt may have ended before the race is awaited."""
        session: Any = FakeSession()
        race = Race(self.clock)
        tcp: Deferred[Session] = Deferred()
        tcp.errback(UNREACHABLE)
        udp: Deferred[Session] = Deferred()
        udp.callback(session)
        for each in (tcp, udp):
            race.enter(Attempt(each))
        self.assertIs(self.successResultOf(Deferred.fromCoroutine(race.winner())), session)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_fails(self) -> None:
        """A failure leaves the race to the others."""
        session: Any = FakeSession()
        self.tcp.errback(UNREACHABLE)
        self.answered = True
        self.clock.advance(8)
        self.assertNoResult(self.result)
        self.udp.callback(session)
        self.assertIs(self.successResultOf(self.result), session)

    def test_grace(self) -> None:
        """After a failure, an attempt without any answer is given up soon."""
        self.clock.advance(0.2)
        self.tcp.errback(UNREACHABLE)
        self.clock.advance(GRACE_MIN + GRACE_TIMES * 0.2 - 0.01)
        self.assertNoResult(self.result)
        self.clock.advance(0.02)
        self.assertIs(self.error(), UNREACHABLE)
        self.assertEqual(self.cancelled, ["udp"])

    def test_refused(self) -> None:
        """A refusal by the peer ends the race: another way would lead to the same."""
        self.udp.errback(REFUSED)
        self.assertIs(self.error(), REFUSED)
        self.assertEqual(self.cancelled, ["tcp"])

    def test_all_fail(self) -> None:
        """The error that says most is raised, whichever comes first."""
        for errors in ((OTHER_KEY, UNREACHABLE), (UNREACHABLE, OTHER_KEY)):
            self.setUp()
            self.tcp.errback(errors[0])
            self.udp.errback(errors[1])
            self.assertIs(self.error(), OTHER_KEY)
        self.setUp()
        self.tcp.errback(NO_SESSION)
        self.udp.errback(UNREACHABLE)
        self.assertIs(self.error(), NO_SESSION)

    def test_cancelled(self) -> None:
        """Whoever waits may give up, and all attempts end."""
        self.tcp.errback(UNREACHABLE)
        self.result.cancel()
        self.failureResultOf(self.result, CancelledError)
        self.assertEqual(self.cancelled, ["udp"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_turns(self) -> None:
        """The first attempt whose handshake is done greets at once; the next one if that fails."""
        turns = [self.race.turn() for _ in range(3)]
        self.successResultOf(turns[0])
        self.assertNoResult(turns[1])
        self.tcp.errback(UNREACHABLE)
        self.successResultOf(turns[1])
        self.assertNoResult(turns[2])
        self.result.cancel()
        self.failureResultOf(self.result, CancelledError)
        self.assertNoResult(turns[2])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_turn_after_silence(self) -> None:
        """A greeting without an answer keeps the others waiting for a second, and no longer."""
        first, second = self.race.turn(), self.race.turn()
        self.successResultOf(first)
        self.clock.advance(TURN - 0.01)
        self.assertNoResult(second)
        self.clock.advance(0.02)
        self.successResultOf(second)
        self.clock.advance(TURN)
        self.successResultOf(self.race.turn())

    def test_defect(self) -> None:
        """An error that is none of ours is not hidden."""
        self.tcp.errback(ZeroDivisionError())
        self.failureResultOf(self.result, ZeroDivisionError)
        self.assertEqual(self.cancelled, ["udp"])


class StaggeredTests(SynchronousTestCase):
    """Attempts at several places, which begin one after another."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.race = Race(self.clock)
        self.ended: list[str] = []

    def enter(self, place: str) -> Deferred[Session]:
        opening: Deferred[Session] = Deferred(lambda _: self.ended.append(place))
        self.race.enter(Attempt(opening, lambda: False, place))
        return opening

    def test_start(self) -> None:
        """An attempt begins at its time, or as soon as another one fails."""
        first = self.enter("192.0.2.7")
        self.enter("192.0.2.8")
        late, soon = self.race.start(0.5), self.race.start(0.25)
        result = Deferred.fromCoroutine(self.race.winner())
        self.clock.advance(0.1)
        self.assertNoResult(soon)
        first.errback(UNREACHABLE)
        self.successResultOf(soon)
        self.assertNoResult(late)
        self.clock.advance(0.4)
        self.successResultOf(late)
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_start_cancelled(self) -> None:
        """An attempt that is ended before its time leaves no timer."""
        start = self.race.start(0.5)
        start.cancel()
        self.failureResultOf(start, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_grace_of_a_place(self) -> None:
        """A failure at one place says nothing about the others."""
        first, _, other = (self.enter(place) for place in ("192.0.2.7", "192.0.2.7", "192.0.2.8"))
        result = Deferred.fromCoroutine(self.race.winner())
        first.errback(UNREACHABLE)
        self.clock.advance(GRACE_MIN + 0.1)
        self.assertEqual(self.ended, ["192.0.2.7"])
        session: Any = FakeSession()
        other.callback(session)
        self.assertIs(self.successResultOf(result), session)

    def test_entered_late(self) -> None:
        """An attempt may enter while the race runs; after its end, the attempt is ended and its session closed."""
        self.enter("192.0.2.7")
        result = Deferred.fromCoroutine(self.race.winner())
        session: Any = FakeSession()
        late: Any = FakeSession()
        self.enter("192.0.2.8").callback(session)
        self.assertIs(self.successResultOf(result), session)
        ended = self.enter("192.0.2.9")
        self.assertIsNone(self.successResultOf(ended))
        begun: Deferred[Session] = Deferred()
        begun.callback(late)
        self.race.enter(Attempt(begun))
        self.assertTrue(late.is_closed)
