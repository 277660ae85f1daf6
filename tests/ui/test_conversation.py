"""Tests for `p2pshare.ui.conversation`; what it says is tested as a process."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from p2pshare.ui.conversation import _to_its_end


class EndTests(SynchronousTestCase):
    def test_signal_while_ending(self) -> None:
        """A signal that comes while the peer stops does not keep it from that."""
        stopping: Deferred[None] = Deferred(lambda _: self.fail("cancelled"))
        ending = Deferred.fromCoroutine(_to_its_end(stopping))
        ending.cancel()
        self.assertNoResult(ending)
        stopping.callback(None)
        self.failureResultOf(ending, CancelledError)

    def test_no_signal(self) -> None:
        """Else it is over when the peer has stopped."""
        stopping: Deferred[None] = Deferred()
        ending = Deferred.fromCoroutine(_to_its_end(stopping))
        self.assertNoResult(ending)
        stopping.callback(None)
        self.assertIsNone(self.successResultOf(ending))
