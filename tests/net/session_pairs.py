"""Keys, and a pair of sessions between two of them, for the tests of sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from p2pshare.testing.sessions import SessionPair
from p2pshare.wire.keys import SigningKey
from p2pshare.wire.session_messages import VERSION, Hello, Message

ALICE, BOB, EVE = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))
HELLO = Hello(VERSION, "test/1", 2**20)


class CountingClock(Clock):
    """A clock that counts the timers that were set."""

    timers = 0

    def callLater(self, *args: Any, **keywords: Any) -> IDelayedCall:
        self.timers += 1
        return super().callLater(*args, **keywords)


def session_pair(clock: CountingClock | None = None, early: Sequence[Message] = ()) -> SessionPair:
    """Return a session that bob opens and alice accepts."""
    return SessionPair(BOB, ALICE, clock=clock, hello=HELLO, early=early)
