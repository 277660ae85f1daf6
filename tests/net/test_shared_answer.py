"""One running question, and every caller that waits for its answer."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.net.shared_answer import SharedAnswer


class SharedAnswerTests(SynchronousTestCase):
    """Each caller gets the answer, or leaves the question to the others."""

    def setUp(self) -> None:
        self.question: Deferred[str] = Deferred()
        self.shared = SharedAnswer(self.question)

    def test_answer(self) -> None:
        """Callers before and after the answer get it."""
        early = [self.shared.wait() for _ in range(3)]
        self.assertTrue(self.shared.is_open)
        self.question.callback("here")
        self.assertFalse(self.shared.is_open)
        self.assertFalse(self.shared.has_failed)
        for each in (*early, self.shared.wait()):
            self.assertEqual(self.successResultOf(each), "here")

    def test_failure(self) -> None:
        """Callers before and after a failure get it, and with no caller it is not reported."""
        early = self.shared.wait()
        self.question.errback(KeyError("x"))
        self.assertTrue(self.shared.has_failed)
        for each in (early, self.shared.wait()):
            self.failureResultOf(each, KeyError)
        SharedAnswer(Deferred[str]()).cancel()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_caller_cancels(self) -> None:
        """A caller that gives up leaves the question to the others, and to callers that come later."""
        first, second = self.shared.wait(), self.shared.wait()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertTrue(self.shared.is_open)
        third = self.shared.wait()
        self.question.callback("here")
        self.assertEqual(self.successResultOf(third), "here")

    def test_callers_cancel_one_another(self) -> None:
        """A caller may cancel another one when it gets the answer."""
        first, second = self.shared.wait(), self.shared.wait()
        first.addCallback(lambda _: second.cancel())
        self.question.callback("here")
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)

    def test_owner_cancels(self) -> None:
        """Its owner cancels the question for everybody."""
        callers = [self.shared.wait() for _ in range(2)]
        self.shared.cancel()
        for each in callers:
            self.failureResultOf(each, CancelledError)
